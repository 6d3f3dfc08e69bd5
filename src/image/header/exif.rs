//! The orientation in EXIF metadata: tag 0x0112 of the first directory of a TIFF structure.

use super::bytes::Endian;
use crate::geometry::Orientation;

const ORIENTATION: u16 = 0x0112;
const BYTE: u16 = 1;
const SHORT: u16 = 3;
const LONG: u16 = 4;

/// The orientation of an EXIF block (with or without its `Exif\0\0` prefix). A malformed block counts as upright.
pub fn orientation(block: &[u8]) -> Orientation {
    let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    Orientation::from_exif(value(tiff).unwrap_or(1))
}

fn value(tiff: &[u8]) -> Option<u16> {
    let endian = match tiff.get(..4)? {
        b"II*\0" => Endian::Little,
        b"MM\0*" => Endian::Big,
        _ => return None,
    };
    let directory = endian.u32(tiff, 4)? as usize;
    let count = endian.u16(tiff, directory)?;
    for index in 0..usize::from(count) {
        let entry = directory + 2 + index * 12;
        if endian.u16(tiff, entry)? == ORIENTATION {
            return match endian.u16(tiff, entry + 2)? {
                BYTE => tiff.get(entry + 8).copied().map(u16::from),
                SHORT => endian.u16(tiff, entry + 8),
                LONG => u16::try_from(endian.u32(tiff, entry + 8)?).ok(),
                _ => None,
            };
        }
    }
    None
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
            assert_eq!(orientation(&block(value)).exif(), value);
        }
        assert_eq!(orientation(&block(6)[6..]), Orientation::Rotate90);
    }

    #[test]
    fn malformed_is_upright() {
        assert_eq!(orientation(&block(9)), Orientation::Upright);
        let whole = block(6);
        for length in 0..whole.len() - 6 {
            assert_eq!(orientation(&whole[..length]), Orientation::Upright, "{length} bytes");
        }
    }
}
