//! What an image file says about itself, read before anything is decoded.
//!
//! The format is found by content, never by name. Nothing is allocated here according to what a file claims.

mod bmp;
pub(super) mod bytes;
mod exif;
pub(super) mod format;
pub(super) mod gif;
#[cfg(any(feature = "avif", feature = "heic"))]
pub(super) mod heif;
pub(super) mod jpeg;
pub(super) mod png;
mod sniff;
pub(super) mod tiff;
mod vp8l;
mod webp;
mod xmp;

use std::borrow::Cow;

use self::format::undecodable;
pub use self::format::{Format, Header, MAX_PROFILE_BYTES};
use crate::error::{Error, Limit, Result};

/// Reads the header of `bytes`.
///
/// # Errors
/// `Unsupported` (a type or a variant of a type that is not served), `Undecodable` (empty, cut short or inconsistent),
/// `TooLarge` with `Limit::Pixels` above `max_pixels`.
pub fn read(bytes: &[u8], max_pixels: u64) -> Result<Header> {
    let header = match sniff::format(bytes)? {
        Format::Jpeg => jpeg::read(bytes),
        Format::Png => png::read(bytes),
        Format::WebP => webp::read(bytes),
        Format::Bmp => bmp::read(bytes),
        Format::Gif => gif::read(bytes),
        Format::Tiff => tiff::read(bytes),
        #[cfg(feature = "avif")]
        Format::Avif => heif::read(bytes),
        #[cfg(feature = "heic")]
        Format::Heic => heif::read(bytes),
    }?;
    if header.stored.width == 0 || header.stored.height == 0 {
        return Err(undecodable("it says that a side is 0 pixels long"));
    }
    let pixels = header.stored.area();
    if pixels > max_pixels {
        let size = header.upright();
        let detail = format!("the image has {size} = {pixels} pixels; the limit is {max_pixels} pixels");
        return Err(Error::TooLarge { limit: Limit::Pixels, detail });
    }
    Ok(header)
}

/// The colour profile of a file whose header was read, if it has one.
pub(super) fn profile<'a>(bytes: &'a [u8], header: &Header) -> Option<Cow<'a, [u8]>> {
    if header.profile_bytes == 0 {
        return None;
    }
    match header.format {
        Format::Jpeg => jpeg::profile(bytes),
        Format::Png => png::profile(bytes),
        Format::WebP => webp::profile(bytes),
        Format::Tiff => tiff::profile(bytes),
        #[cfg(feature = "avif")]
        Format::Avif => heif::profile(bytes),
        #[cfg(feature = "heic")]
        Format::Heic => heif::profile(bytes),
        Format::Bmp | Format::Gif => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    fn refusal(bytes: &[u8]) -> String {
        match read(bytes, u64::MAX) {
            Err(Error::Unsupported { detail }) => detail,
            other => panic!("{other:?}"),
        }
    }

    /// A JPEG's frame header and the header of its first scan, which is enough for `read`.
    fn jpeg(frame: u8, precision: u8, size: Size, factors: &[u8], in_scan: u8) -> Vec<u8> {
        let count = factors.len() as u8;
        let mut bytes = vec![0xff, 0xd8, 0xff, frame, 0, 8 + 3 * count, precision];
        bytes.extend((size.height as u16).to_be_bytes());
        bytes.extend((size.width as u16).to_be_bytes());
        bytes.push(count);
        for (id, factor) in factors.iter().enumerate() {
            bytes.extend([id as u8 + 1, *factor, 0]);
        }
        bytes.extend([0xff, 0xda, 0, 6 + 2 * in_scan, in_scan]);
        bytes.extend(vec![0; 3 + 2 * usize::from(in_scan)]);
        bytes
    }

    #[test]
    fn what_is_not_served_has_a_name() {
        #[cfg(not(feature = "heic"))]
        for brand in [b"heic", b"heix", b"mif1", b"msf1"] {
            let file = [&b"\0\0\0\x14ftyp"[..], brand, b"\0\0\0\0miaf"].concat();
            assert!(refusal(&file).starts_with("HEIC is served by builds with the cargo feature `heic` only"));
        }
        #[cfg(not(feature = "avif"))]
        for file in [&b"\0\0\0\x18ftypmif1\0\0\0\0avifmiaf"[..], b"\0\0\0\x18ftypavif\0\0"] {
            assert!(refusal(file).starts_with("AVIF is served by builds with the cargo feature `avif` only"));
        }
        assert!(refusal(b"%PDF-1.7").starts_with("PDF"));
        assert!(refusal(b"<?xml version='1.0'?>\n<svg xmlns=''/>").starts_with("SVG"));
        assert!(refusal(b"  <html>").starts_with("HTML"));
        assert!(refusal(b"BMW is a make of car").starts_with("this is not an image of a known type"));
        let served = match (cfg!(feature = "avif"), cfg!(feature = "heic")) {
            (true, true) => "TIFF, AVIF or HEIC image",
            (true, false) => "TIFF or AVIF image",
            (false, true) => "TIFF or HEIC image",
            (false, false) => "GIF or TIFF image",
        };
        assert!(refusal(&[7; 100]).ends_with(served));
    }

    #[test]
    fn an_empty_file_is_undecodable() {
        assert!(matches!(read(b"", u64::MAX), Err(Error::Undecodable { .. })));
    }

    #[test]
    fn jpeg_variants() {
        let size = Size::new(640, 480);
        let baseline = jpeg(0xc0, 8, size, &[0x22, 0x11, 0x11], 3);
        let header = read(&baseline, u64::MAX).unwrap();
        assert_eq!((header.stored, header.held_bytes), (size, 0));
        for (frame, precision, said) in [(0xc1, 12, "8 bits"), (0xc3, 8, "lossless"), (0xc9, 8, "arithmetic")] {
            assert!(refusal(&jpeg(frame, precision, size, &[0x11], 1)).contains(said));
        }
        assert!(refusal(&jpeg(0xc0, 8, size, &[0x11, 0x11], 2)).contains("components"));
    }

    #[test]
    fn jpeg_coefficients_are_charged() {
        let blocks = |header: &[u8]| read(header, u64::MAX).unwrap().held_bytes;
        let size = Size::new(641, 481);
        // With 4:2:0 there are 82 × 62 blocks of luma (padded to whole MCUs) and 41 × 31 of each chroma, with a pointer
        // for each row of blocks.
        let subsampled = (82 * 62 + 2 * 41 * 31) * 128 + (62 + 2 * 31) * 8;
        assert_eq!(blocks(&jpeg(0xc2, 8, size, &[0x22, 0x11, 0x11], 3)), subsampled);
        // A baseline file with its components in separate scans needs them, too.
        assert_eq!(blocks(&jpeg(0xc0, 8, size, &[0x22, 0x11, 0x11], 1)), subsampled);
        assert_eq!(blocks(&jpeg(0xc2, 8, size, &[0x11], 1)), 81 * 61 * 128 + 61 * 8);
    }

    #[test]
    fn sides_of_zero_are_undecodable() {
        for size in [Size::new(0, 5), Size::new(5, 0)] {
            assert!(matches!(read(&jpeg(0xc0, 8, size, &[0x11], 1), u64::MAX), Err(Error::Undecodable { .. })));
        }
    }

    #[test]
    fn pixels_are_limited() {
        let bytes = jpeg(0xc0, 8, Size::new(400, 300), &[0x11], 1);
        assert!(read(&bytes, 120_000).is_ok());
        match read(&bytes, 119_999) {
            Err(Error::TooLarge { limit: Limit::Pixels, detail }) => {
                assert_eq!(detail, "the image has 400×300 = 120000 pixels; the limit is 119999 pixels");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn endless_scans_are_refused() {
        let mut bytes = jpeg(0xc2, 8, Size::new(400, 300), &[0x11], 1);
        for _ in 0..100 {
            bytes.extend([0xff, 0xda, 0, 8, 1, 0, 0, 0, 0, 0]);
        }
        assert!(matches!(read(&bytes, u64::MAX), Err(Error::Undecodable { .. })));
    }
}
