//! Files that are cut short, damaged or lie: an error of the client, never a panic, never another kind of error.

use std::io::Cursor;

use m2fp::error::{Error, Limit, Result};
use m2fp::geometry::Size;
use m2fp::image::{Rgb8, decode, header};
use m2fp::memory::blob::Blob;
use proptest::prelude::*;

const SIZE: Size = Size::new(61, 47);
/// Far more than the samples have, so that damaged sizes cannot make a test slow.
const MAX_PIXELS: u64 = 1 << 20;

fn pixels() -> Vec<u8> {
    let value = |i: u32| (i * i / 7 % 251) as u8 ^ (i / 180) as u8;
    (0..SIZE.width * SIZE.height * 3).map(value).collect()
}

fn jpeg(progressive: bool) -> Vec<u8> {
    let mut encoder = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    encoder.set_size(SIZE.width as usize, SIZE.height as usize);
    encoder.set_fastest_defaults();
    if progressive {
        encoder.set_progressive_mode();
    }
    let mut started = encoder.start_compress(Vec::new()).expect("it starts");
    started.write_scanlines(&pixels()).expect("rows");
    started.finish().expect("a JPEG")
}

fn png() -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, SIZE.width, SIZE.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels())).expect("a PNG");
    out
}

fn by_image(format: image::ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image::write_buffer_with_format(
        &mut out,
        &pixels(),
        SIZE.width,
        SIZE.height,
        image::ExtendedColorType::Rgb8,
        format,
    )
    .expect("an image");
    out.into_inner()
}

fn gif(interlaced: bool) -> Vec<u8> {
    let (width, height) = (SIZE.width as u16, SIZE.height as u16);
    let palette: Vec<u8> = (0..=255u8).flat_map(|i| [i, 255 - i, i / 2]).collect();
    let indices: Vec<u8> = pixels().chunks_exact(3).map(|pixel| pixel[0]).collect();
    let mut out = Vec::new();
    let mut encoder = gif::Encoder::new(&mut out, width, height, &palette).expect("a GIF");
    let frame = gif::Frame { width, height, interlaced, buffer: indices.into(), ..gif::Frame::default() };
    encoder.write_frame(&frame).expect("a frame");
    drop(encoder);
    out
}

fn tiff() -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let mut encoder =
        tiff::encoder::TiffEncoder::new(&mut out).expect("a TIFF").with_compression(tiff::encoder::Compression::Lzw);
    encoder.write_image::<tiff::encoder::colortype::RGB8>(SIZE.width, SIZE.height, &pixels()).expect("pixels");
    out.into_inner()
}

/// A file of each kind.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("JPEG", jpeg(false)),
        ("progressive JPEG", jpeg(true)),
        ("PNG", png()),
        ("WebP", by_image(image::ImageFormat::WebP)),
        ("BMP", by_image(image::ImageFormat::Bmp)),
        ("GIF", gif(false)),
        ("interlaced GIF", gif(true)),
        ("TIFF", tiff()),
        #[cfg(feature = "avif")]
        ("AVIF", crate::support::heif::file("bits-10.avif")),
        #[cfg(feature = "avif")]
        ("AVIF with alpha", crate::support::heif::file("alpha.avif")),
        #[cfg(feature = "avif")]
        ("AVIF with film grain", crate::support::heif::file("grain.avif")),
        #[cfg(feature = "heic")]
        ("HEIC", crate::support::heif::file("420.heic")),
        #[cfg(feature = "heic")]
        ("HEIC with alpha", crate::support::heif::file("alpha.heic")),
    ]
}

/// Everything that is done with a file: both ways of decoding have to agree on whether it can be.
fn decoded(bytes: &[u8]) -> Result<Rgb8> {
    let header = header::read(bytes, MAX_PIXELS)?;
    assert!(header.stored.area() <= MAX_PIXELS && header.stored.area() > 0);
    let source = Blob::from(bytes);
    let resized = decode::resized(&source, &header, Size::new(20, 15));
    let rows = decode::rows(&source, &header, &mut |_, row| {
        assert_eq!(row.rgb.len(), header.upright().width as usize * 3);
        Ok(())
    });
    assert_eq!(rows.is_ok(), resized.is_ok());
    resized
}

fn is_the_clients(error: &Error) -> bool {
    matches!(
        error,
        Error::Unsupported { .. } | Error::Undecodable { .. } | Error::TooLarge { limit: Limit::Pixels, .. }
    )
}

#[test]
fn whole_files_decode() {
    for (name, bytes) in samples() {
        assert_eq!(decoded(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")).size, Size::new(20, 15));
    }
}

#[test]
fn cut_files_do_not() {
    for (name, bytes) in samples() {
        let cuts = (0..bytes.len()).step_by(bytes.len() / 150 + 1).chain(bytes.len().saturating_sub(40)..bytes.len());
        for cut in cuts {
            match decoded(&bytes[..cut]) {
                Err(error) => assert!(is_the_clients(&error), "{name} of {cut} bytes: {error:?}"),
                // The last bytes are checksums and trailers, which some formats can do without.
                Ok(_) => assert!(bytes.len() - cut < 24, "{name}, {} bytes missing, was decoded", bytes.len() - cut),
            }
        }
    }
}

#[test]
fn a_cut_jpeg_is_not_filled_with_grey() {
    let whole = jpeg(false);
    let trailer = [&whole[..whole.len() * 9 / 10], b"SEFT and what else a phone writes"].concat();
    for cut in [&whole[..whole.len() / 2], &whole[..whole.len() * 9 / 10], &whole[..whole.len() - 3], &trailer] {
        assert!(matches!(decoded(cut), Err(Error::Undecodable { .. })), "{} bytes", cut.len());
    }
}

#[test]
fn a_png_that_claims_more_than_it_has() {
    for (width, height) in [(1u32 << 20, 1), (1, 1u32 << 20), (1000, 1000), (61, 48)] {
        let mut bytes = png();
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let checksum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        assert!(matches!(decoded(&bytes), Err(Error::Undecodable { .. })), "{width}×{height}");
    }
}

/// PNG's CRC-32, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ crc >> 1 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_fail_cleanly(
        sample: prop::sample::Index,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        in_header: bool,
    ) {
        let mut samples = samples();
        let sample = sample.index(samples.len());
        let (name, mut bytes) = samples.swap_remove(sample);
        let reach = if in_header { bytes.len().min(200) } else { bytes.len() };
        for (place, value) in damage {
            bytes[place.index(reach)] = value;
        }
        if let Err(error) = decoded(&bytes) {
            prop_assert!(is_the_clients(&error), "{name}: {error:?}");
        }
    }

    #[test]
    fn noise_fails_cleanly(
        magic in prop::sample::select(vec![
            &b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8L", b"RIFF\x40\0\0\0WEBPVP8X", b"BM",
            b"GIF89a", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"",
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Err(error) = decoded(&[magic, &noise].concat()) {
            prop_assert!(is_the_clients(&error), "{error:?}");
        }
    }
}
