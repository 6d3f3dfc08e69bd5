//! AVIF, in builds that serve it: Pillow, which decodes with dav1d, is the judge of pixels; what cameras write there is
//! a writer in `support/heif.rs`. `tests/python/make_avifs.py` says how the files came about.

use m2fp::geometry::Size;
use m2fp::image::header::{self, Format};

use crate::support::heif::{self, Item, Photo, decoded, grid, picture};

/// Of the small files.
const SIZE: Size = Size::new(67, 49);
/// The first byte of a frame's unit, without and with the length after it.
const FRAME: [u8; 2] = [0x30, 0x32];

fn decoded_file(name: &str) -> Photo {
    decoded(&heif::file(&format!("{name}.avif"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn pillow_is_the_judge() {
    let mut faults = Vec::new();
    for (name, tolerance) in [
        // libyuv, which libavif uses, computes with 6 to 8 bits after the point.
        ("420", 2),
        ("422", 2),
        ("444", 2),
        ("grey", 1),
        ("alpha", 2),
        ("limited", 2),
        ("turned", 2),
        // Noise brings all values.
        ("grain", 3),
        ("sequence", 2),
        ("lossless", 0),
        ("ycgco", 1),
        // libavif cuts samples to 8 bits before it converts them.
        ("bits-10", 3),
        ("bits-10-422", 3),
        ("bits-12", 3),
        // Of the colours before they were divided by alpha.
        ("premultiplied", 2),
        // The profile's primaries are wider than sRGB's, so that a difference of 2 becomes a greater one.
        ("profile", 5),
    ] {
        let photo = decoded_file(name);
        assert_eq!(photo.header.format, Format::Avif);
        assert_eq!(photo.header.stored, SIZE, "{name}");
        let png = heif::as_read(&format!("{name}.avif"));
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().expect("a PNG");
        let mut expected = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut expected).expect("pixels");
        assert_eq!(photo.header.upright(), Size::new(info.width, info.height), "{name}");
        let samples = expected.len() / SIZE.area() as usize;
        let rgb: Vec<u8> = expected.chunks(samples).flat_map(|pixel| &pixel[..3]).copied().collect();
        let alpha: Vec<u8> = expected.chunks(samples).filter_map(|pixel| pixel.get(3)).copied().collect();
        assert_eq!(photo.header.alpha, samples == 4);
        assert_eq!(photo.alpha, alpha, "{name}");
        assert_eq!(photo.rgb.len(), rgb.len());
        let differences = photo.rgb.iter().zip(&rgb).map(|(one, other)| u32::from(one.abs_diff(*other)));
        let most = if name == "premultiplied" {
            let opacity = alpha.iter().flat_map(|&alpha| [u32::from(alpha); 3]);
            differences.zip(opacity).map(|(difference, alpha)| difference * alpha / 255).max()
        } else {
            differences.max()
        };
        if most > Some(tolerance) {
            faults.push(format!("{name} differs by {most:?}"));
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
}

/// The part of a photo's pixels that begins at its first row and column.
fn corner(photo: &Photo, size: Size) -> Vec<u8> {
    let rows = photo.rgb.chunks_exact(photo.header.stored.width as usize * 3).take(size.height as usize);
    rows.flat_map(|row| &row[..size.width as usize * 3]).copied().collect()
}

#[test]
fn tiles_lie_in_their_places() {
    let names = ["420.avif", "422.avif", "444.avif", "limited.avif"];
    let mut items = names.map(heif::tile).to_vec();
    let alone = names.map(|name| decoded(&heif::file(name)).unwrap());
    // Colours are described once, as by cameras, and the coded pictures say the rest.
    for item in &mut items {
        item.properties.retain(|property| property.0 != *b"colr");
    }
    let (width, height) = (SIZE.width as u16, SIZE.height as u16);
    items.push(grid(2, 2, width * 2 - 20, height * 2 - 7, vec![1, 2, 3, 4]));
    let whole = decoded(&heif::write(*b"avif", &items, 5)).unwrap();
    assert_eq!(whole.header.stored, Size::new(SIZE.width * 2 - 20, SIZE.height * 2 - 7));
    let right = SIZE.width - 20;
    let expected: Vec<u8> = [(0, SIZE.height), (2, SIZE.height - 7)]
        .into_iter()
        .flat_map(|(first, rows)| {
            let left = corner(&alone[first], Size::new(SIZE.width, rows));
            let right_half = corner(&alone[first + 1], Size::new(right, rows));
            let left = left.chunks_exact(SIZE.width as usize * 3).map(<[u8]>::to_vec).collect::<Vec<_>>();
            let right_half = right_half.chunks_exact(right as usize * 3).map(<[u8]>::to_vec).collect::<Vec<_>>();
            left.into_iter().zip(right_half).flat_map(|(left, right)| [left, right].concat()).collect::<Vec<_>>()
        })
        .collect();
    assert!(whole.rgb == expected);
}

#[test]
fn only_a_row_of_tiles_is_charged() {
    let held = |across, down| header::read(&heif::photo(*b"avif", across, down), u64::MAX).unwrap().held_bytes;
    // Samples of 4:2:0 of two bytes each, and what the decoder needs for one tile.
    let row = 512 * 512 * (8 * 3 + 9);
    assert!((row..row + (1 << 18)).contains(&held(8, 6)), "{}", held(8, 6));
    assert!(held(8, 12) - held(8, 6) < 1 << 18);
    // Film grain needs more, and four times the samples.
    let charged = |name: &str| header::read(&heif::file(name), u64::MAX).unwrap().held_bytes;
    assert!(charged("large-grain.avif") > 2 * charged("large-444.avif"));
}

/// The length of the last unit may be left out (AV1 Codec ISO Media File Format Binding, 2.4).
#[test]
fn a_last_unit_without_its_length() {
    let mut item = picture("420.avif");
    let frame = item.data.iter().position(|&byte| byte == FRAME[1]).expect("a frame");
    let length = item.data[frame + 1..].iter().position(|&byte| byte < 0x80).expect("a length") + 1;
    item.data.drain(frame + 1..=frame + length);
    item.data[frame] = FRAME[0];
    let photo = decoded(&heif::write(*b"avif", &[item], 1)).unwrap();
    assert!(photo.rgb == decoded_file("420").rgb);
}

#[test]
fn what_is_damaged_or_not_served_is_named() {
    let changed = |change: &dyn Fn(&mut Item)| {
        let mut item = picture("420.avif");
        change(&mut item);
        heif::write(*b"avif", &[item], 1)
    };
    assert!(decoded(&changed(&|_| {})).is_ok());
    // The units of a picture: a delimiter, the sequence header and a frame.
    let units = |name: &str| {
        let data = picture(name).data;
        let frame = data.iter().position(|&byte| byte == FRAME[1]).expect("a frame");
        (data[2..frame].to_vec(), data[frame..].to_vec())
    };
    let ((sequence, frame), (other, _)) = (units("420.avif"), units("444.avif"));
    let with = |units: &[&[u8]]| changed(&|item| item.data = units.concat());
    let mut odd_alpha = vec![picture("420.avif"), heif::tile("tile.avif")];
    odd_alpha[1].properties.push((*b"auxC", b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0".to_vec(), true));
    odd_alpha[1].references.push((*b"auxl", vec![1]));
    let liar = changed(&|item| {
        item.properties
            .iter_mut()
            .filter(|property| property.0 == *b"ispe")
            .for_each(|size| *size = heif::size(67, 48));
    });
    let mut many = vec![picture("420.avif")];
    let (width, height) = (SIZE.width as u16 * 40, SIZE.height as u16 * 40);
    many.push(grid(40, 40, width, height, vec![1; 1600]));
    let hevc = changed(&|item| item.kind = *b"hvc1");
    let moving = b"\0\0\0\x14ftypavis\0\0\0\0msf1\0\0\0\x10moov\0\0\0\x08trak".to_vec();
    let cut = heif::file("420.avif");
    for (name, bytes, code, said) in [
        ("two frames", with(&[&sequence, &frame, &frame]), "unsupported", "several layers or frames"),
        ("no frame", with(&[&sequence]), "undecodable", "empty"),
        ("no sequence header", with(&[&frame]), "undecodable", "sequence header"),
        ("two sequence headers", with(&[&sequence, &other, &frame]), "undecodable", "contradict"),
        ("another size", liar, "undecodable", "contradict"),
        ("alpha of another size", heif::write(*b"avif", &odd_alpha, 1), "unsupported", "another size"),
        ("many tiles of the same bytes", heif::write(*b"avif", &many, 2), "undecodable", "overlap"),
        ("layers", changed(&|item| item.properties.push((*b"lsel", vec![0, 1], true))), "unsupported", "lsel"),
        ("what is no HEVC", hevc, if cfg!(feature = "heic") { "undecodable" } else { "unsupported" }, ""),
        ("a sequence", moving, "unsupported", "sequence"),
        ("cut short", cut[..cut.len() - 100].to_vec(), "undecodable", "ends before its last row"),
    ] {
        let error = decoded(&bytes).expect_err("a refusal");
        let sentence = error.to_string();
        assert_eq!(error.code(), code, "{name}: {sentence}");
        assert!(sentence.contains(said), "{name}: {sentence}");
    }
}
