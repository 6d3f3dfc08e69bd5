//! The orientation in XMP metadata. It is found as Pillow's `getexif` finds it: the first `tiff:Orientation="6"` or
//! `<tiff:Orientation>6`.

use std::io::Read;

const NAME: &[u8] = b"tiff:Orientation";
/// The length of the longest match: the name, `="` and a digit.
const MATCH: usize = NAME.len() + 3;
/// The most bytes that are read of metadata that is stored compressed.
const MAX_BYTES: u64 = 16 << 20;

/// The orientation's number, whether or not it means an orientation.
pub fn orientation(xmp: &[u8]) -> Option<u16> {
    let mut rest = xmp;
    loop {
        let at = rest.windows(NAME.len()).position(|name| name == NAME)?;
        rest = &rest[at + NAME.len()..];
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"));
        if let Some(digit) = value.and_then(<[u8]>::first).filter(|digit| digit.is_ascii_digit()) {
            return Some(u16::from(digit - b'0'));
        }
    }
}

/// As [`orientation`], for metadata that is unpacked while it is read, so that only a small part of it is held at a
/// time.
pub fn packed_orientation(xmp: impl Read) -> Option<u16> {
    let mut xmp = xmp.take(MAX_BYTES);
    let mut window = Vec::new();
    let mut part = [0; 4096];
    loop {
        // Where the data is damaged, it counts as ended.
        let length = xmp.read(&mut part).unwrap_or(0);
        if length == 0 {
            return None;
        }
        window.extend(&part[..length]);
        if let Some(found) = orientation(&window) {
            return Some(found);
        }
        window.drain(..window.len().saturating_sub(MATCH - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_and_element_are_found() {
        assert_eq!(orientation(br#"<x tiff:Orientation="6"/>"#), Some(6));
        assert_eq!(orientation(b"<tiff:Orientation>8</tiff:Orientation>"), Some(8));
        assert_eq!(orientation(br#"tiff:Orientation tiff:Orientation="x" tiff:Orientation="3""#), Some(3));
        for none in [&b""[..], b"tiff:Orientation", b"tiff:Orientation=\"", b"exif:Orientation=\"6\""] {
            assert_eq!(orientation(none), None);
        }
    }

    #[test]
    fn a_match_across_two_parts_is_found() {
        for before in 4070..4100 {
            let xmp = [vec![b' '; before], b"tiff:Orientation=\"6\"".to_vec()].concat();
            assert_eq!(packed_orientation(&xmp[..]), Some(6), "{before} bytes before it");
        }
    }
}
