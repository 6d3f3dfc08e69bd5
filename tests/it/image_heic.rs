//! HEIC, in builds that serve it: libheif is the judge of pixels, and of what phones write there is a writer in
//! `support/heif.rs`. `tests/python/make_heics.py` says how the files came about.

use m2fp::geometry::Size;
use m2fp::image::header::{self, Format};

use crate::support::heif::{self, Item, Photo, decoded, grid, picture};

/// Of the small files.
const SIZE: Size = Size::new(68, 50);
/// As they are coded.
const CODED: Size = Size::new(68, 64);

fn decoded_file(name: &str) -> Photo {
    decoded(&heif::file(&format!("{name}.heic"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn libheif_is_the_judge() {
    for (name, tolerance) in [
        ("420", 1),
        ("422", 1),
        ("444", 1),
        ("grey", 0),
        ("alpha", 1),
        ("limited", 1),
        ("turned", 1),
        // littleCMS and moxcms.
        ("profile", 2),
        // libheif cuts samples to 8 bits before it converts them.
        ("bits-10", 3),
        ("bits-12", 3),
    ] {
        let photo = decoded_file(name);
        assert_eq!(photo.header.format, Format::Heic);
        assert_eq!(photo.header.upright(), SIZE, "{name}");
        let file = heif::as_read(&format!("{name}.heic"));
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().expect("a PNG");
        let mut expected = vec![0; reader.output_buffer_size().expect("a size")];
        reader.next_frame(&mut expected).expect("pixels");
        let samples = expected.len() / SIZE.area() as usize;
        let differences = expected.chunks(samples).flat_map(|pixel| &pixel[..3]).zip(&photo.rgb);
        let most = differences.map(|(one, other)| one.abs_diff(*other)).max();
        assert!(most.is_some_and(|most| most <= tolerance), "{name} differs by {most:?}");
        let alpha: Vec<u8> = expected.chunks(samples).filter_map(|pixel| pixel.get(3)).copied().collect();
        assert_eq!(photo.alpha, alpha, "{name}");
        assert_eq!(photo.header.alpha, name == "alpha");
    }
}

/// By what `irot` and `imir` are in the standard, and EXIF's numbers for the same.
#[test]
fn turned_and_mirrored() {
    let (rotated, mirrored) = (|turns: u8| (*b"irot", vec![turns], true), |axis: u8| (*b"imir", vec![axis], true));
    for (transforms, exif) in [
        (vec![], 1),
        (vec![rotated(1)], 8),
        (vec![rotated(2)], 3),
        (vec![rotated(3)], 6),
        (vec![mirrored(0)], 4),
        (vec![mirrored(1)], 2),
        (vec![rotated(3), mirrored(1)], 5),
        (vec![rotated(1), mirrored(1)], 7),
        (vec![mirrored(1), rotated(1)], 5),
        (vec![rotated(1), mirrored(0)], 5),
        (vec![mirrored(0), mirrored(1)], 3),
    ] {
        let mut item = picture("444.heic");
        item.properties.extend(transforms.clone());
        let photo = decoded(&heif::write(*b"heic", &[item], 1)).unwrap();
        assert_eq!((photo.header.stored, photo.header.orientation.exif()), (SIZE, exif), "{transforms:?}");
    }
}

/// The rows of pictures that lie side by side.
fn beside(pictures: &[&Photo]) -> Vec<u8> {
    let rows = |photo: &Photo, y: u32| {
        let row = photo.header.stored.width as usize * 3;
        photo.rgb[y as usize * row..][..row].to_vec()
    };
    (0..CODED.height).flat_map(|y| pictures.iter().flat_map(move |photo| rows(photo, y)).collect::<Vec<_>>()).collect()
}

#[test]
fn tiles_lie_in_their_places() {
    let names = ["420.heic", "422.heic", "444.heic", "grey.heic", "limited.heic", "profile.heic"];
    let mut items: Vec<_> = names.map(heif::tile).to_vec();
    // Colours are described once, as on phones.
    for item in &mut items {
        item.properties.retain(|property| property.0 != *b"colr");
    }
    let alone: Vec<_> =
        items.iter().map(|item| decoded(&heif::write(*b"heic", std::slice::from_ref(item), 1)).unwrap()).collect();
    assert!(alone.iter().all(|photo| photo.header.stored == CODED));
    let [a, b, c, d, e, f] = &alone[..] else { panic!("six") };
    let (width, height) = (CODED.width as u16, CODED.height as u16);
    items.push(grid(3, 2, width * 3, height * 2, vec![1, 2, 3, 4, 5, 6]));
    items.push(grid(3, 2, width * 3 - 30, height * 2 - 14, vec![6, 5, 4, 3, 2, 1]));
    let whole = decoded(&heif::write(*b"heic", &items, 7)).unwrap();
    assert_eq!(whole.header.stored, Size::new(CODED.width * 3, CODED.height * 2));
    assert!(whole.rgb == [beside(&[a, b, c]), beside(&[d, e, f])].concat());
    // What sticks out is cut off.
    let cut = decoded(&heif::write(*b"mif1", &items, 8)).unwrap();
    assert_eq!(cut.header.stored, Size::new(CODED.width * 3 - 30, CODED.height * 2 - 14));
    let expected = [beside(&[f, e, d]), beside(&[c, b, a])].concat();
    let kept = (CODED.width as usize * 3 - 30) * 3;
    let expected = expected.chunks_exact(CODED.width as usize * 9).take(CODED.height as usize * 2 - 14);
    assert!(cut.rgb == expected.flat_map(|row| &row[..kept]).copied().collect::<Vec<_>>());
}

#[test]
fn only_a_row_of_tiles_is_charged() {
    let held = |across, down| header::read(&heif::photo(*b"heic", across, down), u64::MAX).unwrap().held_bytes;
    // Samples of 4:2:0 of two bytes each.
    let row = 8 * 512 * 512 * 3;
    assert!((row..row + (3 << 19)).contains(&held(8, 6)), "{}", held(8, 6));
    assert!(held(8, 12) - held(8, 6) < 1 << 18);
}

#[test]
fn premultiplied_colours_are_divided_by_alpha() {
    let opacity = || {
        let mut alpha = heif::tile("grey.heic");
        alpha.properties.push((*b"auxC", b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0".to_vec(), true));
        alpha.references.push((*b"auxl", vec![1]));
        alpha
    };
    let color = heif::tile("420.heic");
    let straight = decoded(&heif::write(*b"heic", &[color.clone(), opacity()], 1)).unwrap();
    let premultiplied = Item { references: vec![(*b"prem", vec![2])], ..color };
    let divided = decoded(&heif::write(*b"heic", &[premultiplied, opacity()], 1)).unwrap();
    let grey = decoded(&heif::write(*b"heic", &[heif::tile("grey.heic")], 1)).unwrap();
    assert!(straight.header.alpha && divided.header.alpha);
    assert_eq!(straight.alpha, divided.alpha);
    assert_eq!(straight.alpha, grey.rgb.iter().step_by(3).copied().collect::<Vec<_>>());
    for ((straight, divided), &alpha) in straight.rgb.chunks(3).zip(divided.rgb.chunks(3)).zip(&straight.alpha) {
        for (straight, divided) in straight.iter().zip(divided) {
            let expected = u32::from(*straight) * 255 / u32::from(alpha.max(1));
            assert_eq!(u32::from(*divided), if alpha == 0 { 0 } else { expected.min(255) });
        }
    }
}

/// Primaries that have a number instead of a profile: the same as with Display P3's profile.
#[test]
fn wide_colours_by_number_are_converted() {
    let colored = |described: Vec<Vec<u8>>| {
        let mut item = picture("420.heic");
        item.properties.retain(|property| property.0 != *b"colr");
        item.properties.extend(described.into_iter().map(|body| (*b"colr", body, false)));
        decoded(&heif::write(*b"heic", &[item], 1)).unwrap()
    };
    // Transfer of sRGB, matrix of BT.601, full range.
    let number = |primaries: u8| [&b"nclx"[..], &[0, primaries, 0, 13, 0, 6, 0x80]].concat();
    let p3 = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let profile = colored(vec![number(1), [&b"prof"[..], &p3].concat()]);
    let (srgb, p3) = (colored(vec![number(1)]), colored(vec![number(12)]));
    assert_eq!(srgb.header.profile_bytes, 0);
    assert!(srgb.rgb == decoded_file("420").rgb);
    let most =
        |one: &Photo, other: &Photo| one.rgb.iter().zip(&other.rgb).map(|(one, other)| one.abs_diff(*other)).max();
    assert!(most(&p3, &srgb) > Some(10));
    assert!(p3.rgb == profile.rgb);
}

fn refusal(bytes: &[u8]) -> (&'static str, String) {
    let error = decoded(bytes).expect_err("a refusal");
    (error.code(), error.to_string())
}

#[test]
fn what_is_damaged_or_not_served_is_named() {
    let (width, height) = (CODED.width as u16, CODED.height as u16);
    let tiles = || vec![heif::tile("420.heic"), heif::tile("420.heic")];
    let with = |item: Item| heif::write(*b"heic", &[tiles(), vec![item]].concat(), 3);
    let whole = grid(2, 1, width * 2, height, vec![1, 2]);
    assert!(decoded(&with(whole.clone())).is_ok());

    let other = |kind: &[u8; 4]| Item { kind: *kind, ..whole.clone() };
    let mut unknown = whole.clone();
    unknown.properties.push((*b"zzzz", vec![], true));
    let mut late_crop = picture("420.heic");
    late_crop.properties.insert(0, (*b"irot", vec![1], true));
    let mut unlike = tiles();
    unlike[1] = heif::tile("tile.heic");
    unlike.push(whole.clone());
    let mut odd_alpha = vec![heif::tile("420.heic"), heif::tile("tile.heic")];
    odd_alpha[1].properties.push((*b"auxC", b"\0\0\0\0urn:mpeg:hevc:2015:auxid:1\0".to_vec(), true));
    odd_alpha[1].references.push((*b"auxl", vec![1]));
    let mut liar = heif::tile("420.heic");
    liar.properties.iter_mut().filter(|property| property.0 == *b"ispe").for_each(|size| *size = heif::size(68, 48));
    let mut chroma = heif::tile("444.heic");
    chroma.properties[0].1[16] = 0xfd;
    let mut vast = heif::tile("420.heic");
    vast.properties.iter_mut().filter(|property| property.0 == *b"ispe").for_each(|size| {
        size.1[4..12].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    });
    let many = vec![heif::tile("420.heic"); 9000];
    let sequence = [&b"\0\0\0\x14ftyphevc\0\0\0\0msf1\0\0\0\x10moov\0\0\0\x08trak"[..]].concat();
    let cut = heif::write(*b"heic", &tiles(), 1);
    let not_av1 = if cfg!(feature = "avif") { ("undecodable", "sequence header") } else { ("unsupported", "`avif`") };
    for (name, bytes, code, said) in [
        ("a tile less", with(grid(2, 1, width * 2, height, vec![1])), "undecodable", "missing"),
        ("a tile that is none", with(grid(2, 1, width * 2, height, vec![1, 77])), "undecodable", "missing"),
        ("too few tiles", with(grid(2, 1, width * 3, height, vec![1, 2])), "undecodable", "do not cover"),
        ("too many tiles", with(grid(2, 1, width, height, vec![1, 2])), "undecodable", "do not cover"),
        ("unlike tiles", heif::write(*b"heic", &unlike, 3), "undecodable", "different sizes"),
        ("a grid of itself", with(grid(1, 1, width, height, vec![3])), "unsupported", "of the kind grid"),
        ("what is no AV1", with(other(b"av01")), not_av1.0, not_av1.1),
        ("an overlay", with(other(b"iovl")), "unsupported", "iovl"),
        ("a property", with(unknown), "unsupported", "zzzz"),
        ("cropped last", heif::write(*b"heic", &[late_crop], 1), "unsupported", "cropped after"),
        ("alpha of another size", heif::write(*b"heic", &odd_alpha, 1), "unsupported", "another size"),
        ("another size", heif::write(*b"heic", &[liar], 1), "undecodable", "contradict"),
        ("another chroma", heif::write(*b"heic", &[chroma], 1), "undecodable", "contradict"),
        ("more items than photos have", heif::write(*b"heic", &many, 1), "undecodable", "more parts"),
        ("a sequence", sequence, "unsupported", "sequence"),
        ("no picture", heif::write(*b"heic", &tiles(), 9), "undecodable", "missing"),
        ("too large", heif::write(*b"heic", &[vast], 1), "unsupported", "134 megapixels"),
        ("cut short", cut[..cut.len() / 3].to_vec(), "undecodable", "ends before"),
    ] {
        let (is, sentence) = refusal(&bytes);
        assert_eq!(is, code, "{name}: {sentence}");
        assert!(sentence.contains(said), "{name}: {sentence}");
    }
}

/// Slices that come twice would cost time without end.
#[test]
fn no_block_is_decoded_twice() {
    let mut item = heif::tile("420.heic");
    item.data = item.data.repeat(3);
    // The same picture again is another one, and the first counts.
    let again = decoded(&heif::write(*b"heic", std::slice::from_ref(&item), 1)).unwrap();
    assert!(again.rgb == decoded(&heif::write(*b"heic", &[heif::tile("420.heic")], 1)).unwrap().rgb);
    // Many tiles of the same bytes.
    let mut items = vec![item; 1];
    let (width, height) = (CODED.width as u16 * 40, CODED.height as u16 * 40);
    items.push(grid(40, 40, width, height, vec![1; 1600]));
    let (code, sentence) = refusal(&heif::write(*b"heic", &items, 2));
    assert!(code == "undecodable" && sentence.contains("overlap"), "{sentence}");
}
