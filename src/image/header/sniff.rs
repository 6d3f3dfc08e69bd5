//! Finds the format of a file by its first bytes, and names the formats that are not served.

use super::format::{Format, SERVED, not_built, undecodable};
#[cfg(any(feature = "avif", feature = "heic"))]
use super::heif;
use crate::error::{Error, Result};

/// Finds the format of a file by its content.
///
/// # Errors
/// `Undecodable` for an empty file, `Unsupported` for every format that is not served.
pub fn format(bytes: &[u8]) -> Result<Format> {
    if bytes.is_empty() {
        return Err(undecodable("the file is empty"));
    }
    served(bytes).ok_or_else(|| match known(bytes) {
        Some(AVIF) if !cfg!(feature = "avif") => not_built(AVIF),
        Some(HEIC) if !cfg!(feature = "heic") => not_built(HEIC),
        Some(name) => Error::Unsupported { detail: format!("{name} is not served; {SERVED}") },
        None => Error::Unsupported { detail: format!("this is not an image of a known type; {SERVED}") },
    })
}

fn served(bytes: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\xff\xd8\xff") {
        Some(Format::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(Format::WebP)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some(Format::Gif)
    } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
        Some(Format::Tiff)
    } else if starts(b"BM") && is_bitmap(bytes) {
        Some(Format::Bmp)
    } else {
        #[cfg(any(feature = "avif", feature = "heic"))]
        return heif::format(bytes);
        #[cfg(not(any(feature = "avif", feature = "heic")))]
        None
    }
}

/// Much plain text begins with "BM", so the length of a bitmap's second header, which has few possible values, is
/// checked too.
fn is_bitmap(bytes: &[u8]) -> bool {
    matches!(bytes.get(14..18), None | Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

const AVIF: &str = "AVIF";
const HEIC: &str = "HEIC";

/// A name for the formats that people send by mistake.
fn known(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some(match bytes.get(8..12) {
            Some(b"avif" | b"avis") => AVIF,
            Some(b"mif1" | b"msf1") if bytes[..bytes.len().min(64)].windows(4).any(|brand| brand == b"avif") => AVIF,
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => HEIC,
            Some(b"mif3") => "HEIF in its short form",
            Some(b"crx ") => "a camera's raw file (CR3)",
            _ => "video (MP4)",
        });
    }
    if starts(b"\xff\x0a") || starts(b"\0\0\0\x0cJXL ") {
        Some("JPEG XL")
    } else if starts(b"\0\0\0\x0cjP  ") || starts(b"\xff\x4f\xff\x51") {
        Some("JPEG 2000")
    } else if starts(b"%PDF") {
        Some("PDF")
    } else if starts(b"8BPS") {
        Some("Photoshop's PSD")
    } else if starts(b"\0\0\x01\0") {
        Some("ICO")
    } else if starts(b"PK\x03\x04") {
        Some("a ZIP archive")
    } else if starts(b"RIFF") {
        Some("a RIFF file that is not WebP")
    } else {
        markup(bytes)
    }
}

fn markup(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let head = &text[..text.len().min(512)];
    if head.windows(4).any(|tag| tag.eq_ignore_ascii_case(b"<svg")) {
        Some("SVG")
    } else if head.first() == Some(&b'<') {
        Some("HTML or XML")
    } else if matches!(head.first(), Some(b'{' | b'[')) {
        Some("JSON with this content type")
    } else {
        None
    }
}
