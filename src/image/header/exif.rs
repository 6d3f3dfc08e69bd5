//! The orientation in EXIF metadata: tag 0x0112 of the first directory of a TIFF structure.

use super::bytes::Endian;
use crate::geometry::Orientation;

const ORIENTATION: u16 = 0x0112;
const BYTE: u16 = 1;
const SHORT: u16 = 3;
const LONG: u16 = 4;

/// The value used for a tag that is present and holds no orientation.
const UPRIGHT: u16 = 1;

/// The orientation in an EXIF block, with or without its `Exif\0\0` prefix. It is the tag's value, whether or not that
/// means an orientation. `None` if the tag is missing or empty, or the block malformed; then XMP may decide.
pub fn orientation(block: &[u8]) -> Option<u16> {
    let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    let endian = match tiff.get(..4)? {
        b"II*\0" => Endian::Little,
        b"MM\0*" => Endian::Big,
        _ => return None,
    };
    let directory = endian.u32(tiff, 4)? as usize;
    let count = endian.u16(tiff, directory)?;
    for index in 0..usize::from(count) {
        let entry = directory.checked_add(2 + index * 12)?;
        if endian.u16(tiff, entry)? == ORIENTATION {
            let kind = endian.u16(tiff, entry + 2)?;
            return match (kind, endian.u32(tiff, entry + 4)?) {
                (_, 0) => None,
                (BYTE, 1) => tiff.get(entry + 8).copied().map(u16::from),
                (SHORT, 1) => endian.u16(tiff, entry + 8),
                (LONG, 1) => endian.u32(tiff, entry + 8).map(|value| u16::try_from(value).unwrap_or(UPRIGHT)),
                _ => Some(UPRIGHT),
            };
        }
    }
    None
}

/// The orientation that a photo's metadata gives together. EXIF takes precedence over XMP, as in Pillow's
/// `exif_transpose`.
pub fn upright(exif: Option<u16>, xmp: Option<u16>) -> Orientation {
    Orientation::from_exif(exif.or(xmp).unwrap_or(UPRIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(value: u8) -> Vec<u8> {
        let mut block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        block.extend([value, 0, 0, 0, 0, 0, 0]);
        block
    }

    #[test]
    fn orientation_is_found() {
        for value in 1..=8 {
            assert_eq!(orientation(&block(value)), Some(u16::from(value)));
        }
        assert_eq!(orientation(&block(6)[6..]), Some(6));
    }

    #[test]
    fn an_empty_tag_says_nothing() {
        let mut empty = block(6);
        empty[23] = 0;
        assert_eq!(orientation(&empty), None);
    }

    #[test]
    fn malformed_says_nothing() {
        let whole = block(6);
        for length in 0..whole.len() - 6 {
            assert_eq!(orientation(&whole[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn exif_is_heard_before_xmp() {
        assert_eq!(upright(Some(3), Some(6)), Orientation::Rotate180);
        assert_eq!(upright(None, Some(6)), Orientation::Rotate90);
        assert_eq!(upright(Some(9), Some(6)), Orientation::Upright);
        assert_eq!(upright(None, None), Orientation::Upright);
    }
}
