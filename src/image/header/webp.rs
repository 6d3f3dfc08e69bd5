//! WebP: its RIFF chunks.

use std::borrow::Cow;

use super::bytes::{Endian, u24_le};
use super::format::{Format, Header, MAX_PROFILE_BYTES, cut_short, undecodable};
use super::{exif, vp8l, xmp};
use crate::error::Result;
use crate::geometry::Size;

/// The longest side of a coded picture. The canvas of an animation may be larger.
const MAX_SIDE: u32 = 1 << 14;

/// How the pixels are coded, which decides what the decoder holds.
#[derive(Debug, Default)]
struct Coding {
    animated: bool,
    alpha: bool,
    lossless: bool,
    /// Bytes of the prefix codes of a lossless picture or alpha plane.
    codes: u64,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let (kind, data, at) = chunk(bytes, 12).ok_or_else(cut_short)?;
    let mut metadata = Metadata::default();
    let mut coding = Coding::default();
    let size = match &kind {
        b"VP8 " => lossy_size(data)?,
        b"VP8L" => {
            let (size, alpha) = lossless_size(data)?;
            coding.alpha = alpha;
            coding.picture(kind, data, size)?;
            size
        }
        b"VP8X" => {
            let flags = *data.first().ok_or_else(cut_short)?;
            coding.animated = flags & 2 != 0;
            coding.alpha = flags & 16 != 0;
            let side = |at| u24_le(data, at).map(|side| side + 1).ok_or_else(cut_short);
            let size = Size::new(side(4)?, side(7)?);
            metadata = extended(bytes, at, size, &mut coding)?;
            size
        }
        _ => return Err(undecodable("its first chunk is not a WebP picture")),
    };
    let held_bytes = held_bytes(size, &coding, bytes.len() as u64);
    Ok(Header {
        orientation: exif::upright(metadata.exif, metadata.xmp),
        alpha: coding.alpha,
        profile_bytes: metadata.profile,
        ..Header::plain(Format::WebP, size, held_bytes)
    })
}

/// Walks over the chunks that follow VP8X.
fn extended(bytes: &[u8], mut at: usize, size: Size, coding: &mut Coding) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    let mut first_frame = true;
    while let Some((kind, data, next)) = chunk(bytes, at) {
        match &kind {
            b"EXIF" => metadata.exif = exif::orientation(data),
            b"XMP " => metadata.xmp = xmp::orientation(data),
            b"ICCP" if metadata.profile == 0 => metadata.profile = profile_bytes(data),
            b"ANMF" if first_frame => {
                first_frame = false;
                let side = |at| u24_le(data, at).map(|side| side + 1).ok_or_else(cut_short);
                let frame = Size::new(side(6)?, side(9)?);
                let mut inner = 16;
                while let Some((kind, data, next)) = chunk(data, inner) {
                    coding.picture(kind, data, frame)?;
                    inner = next;
                }
            }
            _ => coding.picture(kind, data, size)?,
        }
        at = next;
    }
    Ok(metadata)
}

/// What the chunks other than those of pixels say.
#[derive(Debug, Default)]
struct Metadata {
    exif: Option<u16>,
    xmp: Option<u16>,
    profile: u64,
}

fn profile_bytes(data: &[u8]) -> u64 {
    Some(data.len() as u64).filter(|&length| length <= MAX_PROFILE_BYTES).unwrap_or(0)
}

/// The colour profile of a WebP.
pub fn profile(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut at = 12;
    while let Some((kind, data, next)) = chunk(bytes, at) {
        if kind == *b"ICCP" {
            return Some(data.into());
        }
        at = next;
    }
    None
}

impl Coding {
    /// Takes note of a chunk that holds a lossless picture or an alpha plane.
    fn picture(&mut self, kind: [u8; 4], data: &[u8], size: Size) -> Result<()> {
        let stream = match (&kind, data) {
            (b"VP8L", [_, _, _, _, _, stream @ ..]) => {
                self.lossless = true;
                stream
            }
            // The lowest two bits say how the plane is compressed; 1 is lossless coding.
            (b"ALPH", [flags, stream @ ..]) if flags & 3 == 1 => stream,
            _ => return Ok(()),
        };
        if size.long_side() > MAX_SIDE {
            return Err(undecodable("its sides are out of range"));
        }
        let damaged = || undecodable("its prefix codes are damaged or cut short");
        let codes = vp8l::code_bytes(stream, size.width, size.height).ok_or_else(damaged)?;
        self.codes = self.codes.max(codes);
        Ok(())
    }
}

/// Bytes that `image-webp` 0.2 holds at its peak, read from its source (`decoder.rs`, `vp8.rs`, `lossless.rs`,
/// `extended.rs`).
fn held_bytes(size: Size, coding: &Coding, file: u64) -> u64 {
    let area = size.area();
    let padded = u64::from(size.width.div_ceil(16)) * u64::from(size.height.div_ceil(16)) * 256;
    // The sub-images of the lossless coding are predictors, the colour transform and the entropy image, with one entry
    // per 4×4 pixels.
    let blocks = u64::from(size.width.div_ceil(4)) * u64::from(size.height.div_ceil(4));
    let sub_images = blocks * (4 + 4 + 4 + 2) + coding.codes;
    // The lossy coding holds luma and subsampled chroma, and a copy of the file's partitions.
    let lossy = padded * 3 / 2 + file;
    // The alpha plane is decoded as RGBA, from which the green samples are copied.
    let alpha_plane = area * 5 + sub_images;
    let output = area * if coding.alpha { 4 } else { 3 };
    // An animation's frame is decoded apart from its canvas.
    let canvas = if coding.animated { area * 8 } else { 0 };
    let frame = match (coding.lossless, coding.alpha || coding.animated) {
        (true, false) => area * 4 + sub_images,
        (true, true) => sub_images,
        (false, false) => lossy,
        (false, true) => lossy + alpha_plane,
    };
    output + canvas + frame
}

/// The chunk at `at`: its type, its data and where the next one starts. The last chunk may be cut short.
fn chunk(bytes: &[u8], at: usize) -> Option<([u8; 4], &[u8], usize)> {
    let kind = bytes.get(at..at + 4)?.try_into().ok()?;
    let length = Endian::Little.u32(bytes, at + 4)? as usize;
    let start = at + 8;
    let end = start.checked_add(length)?;
    Some((kind, &bytes[start..end.min(bytes.len())], end.checked_add(length & 1)?))
}

fn lossy_size(data: &[u8]) -> Result<Size> {
    if data.get(3..6).ok_or_else(cut_short)? != [0x9d, 0x01, 0x2a] {
        return Err(undecodable("its key frame is damaged"));
    }
    let side = |at| Endian::Little.u16(data, at).map(|side| u32::from(side & 0x3fff)).ok_or_else(cut_short);
    Ok(Size::new(side(6)?, side(8)?))
}

fn lossless_size(data: &[u8]) -> Result<(Size, bool)> {
    if data.first() != Some(&0x2f) {
        return Err(undecodable("its lossless header is damaged"));
    }
    let fields = Endian::Little.u32(data, 1).ok_or_else(cut_short)?;
    let size = Size::new((fields & 0x3fff) + 1, (fields >> 14 & 0x3fff) + 1);
    Ok((size, fields >> 28 & 1 == 1))
}
