//! PNG: IHDR, then a walk over all chunks for metadata, which may come after the pixels.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::bytes::Endian;
use super::format::{Format, Header, MAX_PROFILE_BYTES, cut_short, undecodable};
use super::{exif, xmp};
use crate::error::Result;
use crate::geometry::Size;

pub(in crate::image) const SIGNATURE: usize = 8;

/// Keywords of the text chunks that say how the photo is turned.
const XMP: &[u8] = b"XML:com.adobe.xmp";
const RAW_EXIF: &[u8] = b"Raw profile type exif";
/// The most bytes of a raw profile that are looked at. A photo's first EXIF directory takes a few hundred.
const MAX_RAW_EXIF_BYTES: usize = 1 << 16;

/// What the chunks other than those of pixels say.
#[derive(Debug, Default)]
struct Metadata {
    /// Whether there is a chunk for EXIF, whatever it says.
    has_exif: bool,
    exif: Option<u16>,
    raw_exif: Option<u16>,
    xmp: Option<u16>,
    profile: u64,
    transparent: bool,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let (kind, ihdr, at) = chunk(bytes, SIGNATURE).ok_or_else(cut_short)?;
    let &[w3, w2, w1, w0, h3, h2, h1, h0, depth, color, compression, filter, interlace] = ihdr else {
        return Err(undecodable("its first chunk is not a PNG header"));
    };
    let color_fits = match color {
        0 => matches!(depth, 1 | 2 | 4 | 8 | 16),
        3 => matches!(depth, 1 | 2 | 4 | 8),
        2 | 4 | 6 => matches!(depth, 8 | 16),
        _ => false,
    };
    if kind != *b"IHDR" || !color_fits || compression != 0 || filter != 0 || interlace > 1 {
        return Err(undecodable("its PNG header is inconsistent"));
    }
    let size = Size::new(u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
    if size.long_side() > i32::MAX as u32 {
        return Err(undecodable("its PNG header is inconsistent"));
    }
    let metadata = Metadata::read(bytes, at);
    let alpha = matches!(color, 4 | 6) || metadata.transparent;
    // The rows of all seven passes are put in their places in one frame.
    let held_bytes = if interlace == 1 { size.area() * if alpha { 4 } else { 3 } } else { 0 };
    Ok(Header {
        // As in Pillow, a raw profile is ignored if there is a chunk for EXIF.
        orientation: exif::upright(if metadata.has_exif { metadata.exif } else { metadata.raw_exif }, metadata.xmp),
        alpha,
        profile_bytes: metadata.profile,
        ..Header::plain(Format::Png, size, held_bytes)
    })
}

impl Metadata {
    fn read(bytes: &[u8], mut at: usize) -> Self {
        let mut metadata = Self::default();
        while let Some((kind, data, next)) = chunk(bytes, at) {
            match &kind {
                b"eXIf" => (metadata.has_exif, metadata.exif) = (true, exif::orientation(data)),
                b"tRNS" => metadata.transparent = true,
                b"iCCP" if metadata.profile == 0 => metadata.profile = profile_bytes(data).unwrap_or(0),
                b"tEXt" | b"zTXt" | b"iTXt" => metadata.take_text(kind, data),
                _ => {}
            }
            at = next;
        }
        metadata
    }

    fn take_text(&mut self, kind: [u8; 4], data: &[u8]) {
        if data.starts_with(XMP) && kind == *b"iTXt" {
            self.xmp = self.xmp.or_else(|| xmp::packed_orientation(text(kind, data, XMP)?));
        } else if data.starts_with(RAW_EXIF) {
            let exif = || exif::orientation(&unhex(text(kind, data, RAW_EXIF)?));
            self.raw_exif = self.raw_exif.or_else(exif);
        }
    }
}

/// The text of a chunk that begins with `keyword`, which is unpacked while it is read (PNG, section 11.3.3).
fn text<'a>(kind: [u8; 4], data: &'a [u8], keyword: &[u8]) -> Option<Box<dyn Read + 'a>> {
    let rest = data[keyword.len()..].strip_prefix(b"\0")?;
    let (packed, text) = match (&kind, rest) {
        (b"tEXt", text) => (false, text),
        (b"zTXt", [0, text @ ..]) => (true, text),
        (b"iTXt", [flag, _, rest @ ..]) => {
            // The language and the translated keyword come first, each followed by a zero.
            let mut fields = rest.splitn(3, |&byte| byte == 0).skip(2);
            (*flag == 1, fields.next()?)
        }
        _ => return None,
    };
    Some(if packed { Box::new(ZlibDecoder::new(text)) } else { Box::new(text) })
}

/// The bytes of a raw profile. They are hexadecimal digits behind three line breaks, between which a name and a length
/// stand. Where the text is damaged, the bytes end.
fn unhex(text: impl Read) -> Vec<u8> {
    let mut lines = 0;
    let mut high = None;
    let mut bytes = Vec::new();
    for byte in std::io::BufReader::with_capacity(4096, text).bytes().map_while(std::io::Result::ok) {
        if byte == b'\n' {
            lines += 1;
        } else if let (3.., Some(digit)) = (lines, char::from(byte).to_digit(16)) {
            match high.take() {
                None => high = Some(digit),
                Some(high) => bytes.push((high << 4 | digit) as u8),
            }
        }
        if bytes.len() == MAX_RAW_EXIF_BYTES {
            break;
        }
    }
    bytes
}

/// A reader of the compressed colour profile in an iCCP chunk.
fn packed_profile(data: &[u8]) -> Option<ZlibDecoder<&[u8]>> {
    let end = data.iter().take(80).position(|&byte| byte == 0)?;
    let packed = data.get(end + 1..)?.strip_prefix(b"\0")?;
    Some(ZlibDecoder::new(packed))
}

/// The length of the profile in an iCCP chunk; `None` if it is damaged or too long to be used.
fn profile_bytes(data: &[u8]) -> Option<u64> {
    let length = std::io::copy(&mut packed_profile(data)?.take(MAX_PROFILE_BYTES + 1), &mut std::io::sink()).ok()?;
    (length <= MAX_PROFILE_BYTES).then_some(length)
}

/// The colour profile of a PNG.
pub fn profile(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut at = SIGNATURE;
    while let Some((kind, data, next)) = chunk(bytes, at) {
        if kind == *b"iCCP" {
            let mut profile = Vec::with_capacity(usize::try_from(profile_bytes(data)?).ok()?);
            packed_profile(data)?.take(MAX_PROFILE_BYTES).read_to_end(&mut profile).ok()?;
            return Some(profile.into());
        }
        at = next;
    }
    None
}

/// The chunk at `at`: its type, its data and where the next one starts.
pub(in crate::image) fn chunk(bytes: &[u8], at: usize) -> Option<([u8; 4], &[u8], usize)> {
    let length = Endian::Big.u32(bytes, at)? as usize;
    let kind = bytes.get(at + 4..at + 8)?.try_into().ok()?;
    let end = (at + 8).checked_add(length)?;
    Some((kind, bytes.get(at + 8..end)?, end + 4))
}
