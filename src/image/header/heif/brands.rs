//! Which format a HEIF file says that it is, by its brands (ISO/IEC 23008-12, 10; AV1 Image File Format, 6).

use super::boxes::Boxes;
use crate::image::header::format::Format;

/// The format of a HEIF file, if this build serves it. A file of a general brand that does not name AVIF is taken for
/// HEIC, which was the first.
pub fn format(bytes: &[u8]) -> Option<Format> {
    let (_, body) = Boxes(bytes).next().filter(|(kind, _)| kind == b"ftyp")?;
    let is_general = |brand: &[u8]| matches!(brand, b"mif1" | b"mif2" | b"msf1" | b"miaf");
    let is_heic =
        |brand: &[u8]| matches!(brand, b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs");
    let is_avif = |brand: &[u8]| matches!(brand, b"avif" | b"avis");
    // The second word is the brand's version.
    let mut brands = body.chunks_exact(4).enumerate().filter(|(index, _)| *index != 1).map(|(_, brand)| brand);
    let major = body.get(..4)?;
    if is_avif(major) || is_general(major) && brands.any(is_avif) {
        #[cfg(feature = "avif")]
        return Some(Format::Avif);
    } else if is_heic(major) || is_general(major) {
        #[cfg(feature = "heic")]
        return Some(Format::Heic);
    }
    None
}
