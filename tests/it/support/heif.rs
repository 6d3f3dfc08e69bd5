//! Writes HEIF files out of coded pictures that were taken out of others, and decodes them.

use std::path::Path;

use m2fp::error::Result;
use m2fp::image::decode;
use m2fp::image::header::{self, Header};
use m2fp::memory::blob::Blob;

type Kind = [u8; 4];

/// An item of a file. Items are numbered from 1 on, in their order.
#[derive(Debug, Clone)]
pub struct Item {
    pub kind: Kind,
    pub data: Vec<u8>,
    /// Type, body, and whether it is essential.
    pub properties: Vec<(Kind, Vec<u8>, bool)>,
    pub references: Vec<(Kind, Vec<u16>)>,
}

/// A decoded file: 3 bytes a pixel, and one of alpha where it has some.
#[derive(Debug)]
pub struct Photo {
    pub header: Header,
    pub rgb: Vec<u8>,
    pub alpha: Vec<u8>,
}

/// Every row of a file.
pub fn decoded(bytes: &[u8]) -> Result<Photo> {
    let header = header::read(bytes, u64::MAX)?;
    let (mut rgb, mut alpha) = (Vec::new(), Vec::new());
    decode::rows(&Blob::from(bytes), &header, &mut |_, row| {
        rgb.extend(row.rgb);
        alpha.extend(row.alpha.into_iter().flatten());
        Ok(())
    })?;
    Ok(Photo { header, rgb, alpha })
}

/// A file of `tests/data/heic` or `tests/data/avif`.
pub fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(ending(name));
    std::fs::read(folder.join(name)).expect("the file")
}

/// The PNG beside such a file: what its judge reads.
pub fn as_read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(ending(name)).join(name);
    std::fs::read(path.with_extension("png")).expect("a PNG")
}

fn ending(name: &str) -> &str {
    name.rsplit_once('.').expect("an ending").1
}

/// The first picture in a file of libheif's or libavif's, with its properties.
pub fn picture(name: &str) -> Item {
    let file = file(name);
    let inside = |path: &[(Kind, usize)]| {
        path.iter().fold(&file[..], |bytes, (kind, header)| &find(bytes, *kind).expect("the box")[*header..])
    };
    let properties = inside(&[(*b"meta", 4), (*b"iprp", 0), (*b"ipco", 0)]);
    let property = |kind: Kind| find(properties, kind).map(|body| (kind, body.to_vec(), false));
    let mut locations = inside(&[(*b"meta", 4), (*b"iloc", 0)]);
    // Version 0, numbers of 4 bytes; the first item's base, which libavif leaves out, and its only piece.
    assert_eq!(locations[..5], [0, 0, 0, 0, 0x44], "as both write it");
    let base_bytes = usize::from(locations[5] >> 4);
    let base = locations[12..][..base_bytes].iter().fold(0, |base, &byte| base << 8 | usize::from(byte));
    locations = &locations[14 + base_bytes..];
    let mut number = || {
        let (number, rest) = locations.split_first_chunk().expect("a location");
        locations = rest;
        u32::from_be_bytes(*number) as usize
    };
    let (first, length) = (base + number(), number());
    Item {
        kind: if ending(name) == "avif" { *b"av01" } else { *b"hvc1" },
        data: file[first..first + length].to_vec(),
        properties: [*b"hvcC", *b"av1C", *b"colr", *b"ispe", *b"clap"].into_iter().filter_map(property).collect(),
        references: Vec::new(),
    }
}

/// As [`picture`], all of the coded picture, which is cropped in the file.
pub fn tile(name: &str) -> Item {
    let mut tile = picture(name);
    tile.properties.retain(|property| property.0 != *b"clap");
    tile
}

/// A grid of the items with these numbers.
pub fn grid(across: u8, down: u8, width: u16, height: u16, tiles: Vec<u16>) -> Item {
    let mut data = vec![0, 0, down - 1, across - 1];
    data.extend(width.to_be_bytes());
    data.extend(height.to_be_bytes());
    let references = vec![(*b"dimg", tiles)];
    Item { kind: *b"grid", data, properties: vec![size(width, height)], references }
}

/// The property of an item's size.
pub fn size(width: u16, height: u16) -> (Kind, Vec<u8>, bool) {
    let mut body = vec![0; 4];
    body.extend(u32::from(width).to_be_bytes());
    body.extend(u32::from(height).to_be_bytes());
    (*b"ispe", body, false)
}

/// The file of these items; `primary` is the number of the one to show.
pub fn write(brand: Kind, items: &[Item], primary: u16) -> Vec<u8> {
    let mut file = boxed(*b"ftyp", &[&brand[..], &[0; 4], b"mif1", &brand].concat());
    let (mut places, mut properties, mut media) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kinds, mut associations, mut references) = (Vec::new(), Vec::new(), Vec::new());
    let media_begins = file.len() + 8;
    let mut property_count = 0u16;
    for (id, item) in (1u16..).zip(items) {
        places.extend([&id.to_be_bytes()[..], &[0, 0, 0, 1]].concat());
        places.extend(((media_begins + media.len()) as u32).to_be_bytes());
        places.extend((item.data.len() as u32).to_be_bytes());
        media.extend(&item.data);
        kinds.extend(boxed(*b"infe", &[&[2, 0, 0, 0][..], &id.to_be_bytes(), &[0, 0], &item.kind, &[0]].concat()));
        associations.extend(id.to_be_bytes());
        associations.push(item.properties.len() as u8);
        for (kind, body, essential) in &item.properties {
            property_count += 1;
            properties.extend(boxed(*kind, body));
            associations.extend((property_count | u16::from(*essential) << 15).to_be_bytes());
        }
        for (kind, to) in &item.references {
            let to: Vec<u8> = to.iter().flat_map(|id| id.to_be_bytes()).collect();
            let count = (to.len() as u16 / 2).to_be_bytes();
            references.extend(boxed(*kind, &[&id.to_be_bytes()[..], &count, &to].concat()));
        }
    }
    let count = (items.len() as u16).to_be_bytes();
    let meta = [
        vec![0; 4],
        boxed(*b"hdlr", &[&[0; 8][..], b"pict", &[0; 13]].concat()),
        boxed(*b"pitm", &[&[0; 4][..], &primary.to_be_bytes()].concat()),
        boxed(*b"iloc", &[&[0, 0, 0, 0, 0x44, 0][..], &count, &places].concat()),
        boxed(*b"iinf", &[&[0; 4][..], &count, &kinds].concat()),
        boxed(*b"iref", &[&[0; 4][..], &references].concat()),
        boxed(
            *b"iprp",
            &[
                boxed(*b"ipco", &properties),
                boxed(*b"ipma", &[&[0, 0, 0, 1, 0, 0][..], &count, &associations].concat()),
            ]
            .concat(),
        ),
    ];
    file.extend(boxed(*b"mdat", &media));
    file.extend(boxed(*b"meta", &meta.concat()));
    file
}

/// A photo of `across` × `down` tiles of 512 pixels, as a phone writes it. `brand` says what it is coded with.
pub fn photo(brand: Kind, across: u8, down: u8) -> Vec<u8> {
    let count = u16::from(across) * u16::from(down);
    let mut items = vec![large_tile(brand); usize::from(count)];
    items.push(grid(across, down, u16::from(across) * 512, u16::from(down) * 512, (1..=count).collect()));
    write(brand, &items, count + 1)
}

/// As [`photo`], with alpha.
pub fn photo_with_alpha(brand: Kind, across: u8, down: u8) -> Vec<u8> {
    let count = u16::from(across) * u16::from(down);
    let mut items = vec![large_tile(brand); usize::from(count) * 2];
    let size = (u16::from(across) * 512, u16::from(down) * 512);
    items.push(grid(across, down, size.0, size.1, (1..=count).collect()));
    let mut alpha = grid(across, down, size.0, size.1, (count + 1..=count * 2).collect());
    alpha.properties.push((*b"auxC", b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0".to_vec(), false));
    alpha.references.push((*b"auxl", vec![count * 2 + 1]));
    items.push(alpha);
    write(brand, &items, count * 2 + 1)
}

fn large_tile(brand: Kind) -> Item {
    tile(if brand == *b"avif" { "tile.avif" } else { "tile.heic" })
}

fn boxed(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], &kind, body].concat()
}

/// What is in the first box of this type.
fn find(mut bytes: &[u8], wanted: Kind) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        if rest[..4] == wanted[..] {
            return Some(&bytes[8..length]);
        }
        bytes = &bytes[length..];
    }
}
