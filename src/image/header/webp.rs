//! WebP: the RIFF chunks.

use super::bytes::{Endian, u24_le};
use super::{Format, Header, cut_short, exif, undecodable};
use crate::error::Result;
use crate::geometry::{Orientation, Size};

/// How the pixels are coded, which decides what the decoder holds.
#[derive(Debug, Default)]
struct Coding {
    animated: bool,
    alpha: bool,
    lossless: bool,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let (kind, data, mut at) = chunk(bytes, 12).ok_or_else(cut_short)?;
    let mut orientation = Orientation::Upright;
    let (size, coding) = match &kind {
        b"VP8 " => (lossy_size(data)?, Coding::default()),
        b"VP8L" => {
            let (size, alpha) = lossless_size(data)?;
            (size, Coding { alpha, lossless: true, ..Coding::default() })
        }
        b"VP8X" => {
            let flags = *data.first().ok_or_else(cut_short)?;
            let side = |at| u24_le(data, at).map(|side| side + 1).ok_or_else(cut_short);
            let size = Size::new(side(4)?, side(7)?);
            let mut coding = Coding { animated: flags & 2 != 0, alpha: flags & 16 != 0, lossless: false };
            while let Some((kind, data, next)) = chunk(bytes, at) {
                match &kind {
                    b"EXIF" => orientation = exif::orientation(data),
                    b"VP8L" => coding.lossless = true,
                    _ => {}
                }
                at = next;
            }
            (size, coding)
        }
        _ => return Err(undecodable("its first chunk is not a WebP picture")),
    };
    let held_bytes = held_bytes(size, &coding, bytes.len() as u64);
    Ok(Header { format: Format::WebP, stored: size, orientation, held_bytes })
}

/// What `image-webp` 0.2 holds at its peak, read from its source (`decoder.rs`, `vp8.rs`, `lossless.rs`, `extended.rs`).
fn held_bytes(size: Size, coding: &Coding, file: u64) -> u64 {
    let area = size.area();
    let padded = size.padded_to(16).area();
    // Sub-images of the lossless coding: predictors, colour transform and entropy image of one entry per 4×4 pixels.
    let blocks = u64::from(size.width.div_ceil(4)) * u64::from(size.height.div_ceil(4));
    let sub_images = blocks * (4 + 4 + 4 + 2);
    // Luma and subsampled chroma, and the partitions of the file, which are copied.
    let lossy = padded * 3 / 2 + file;
    // The alpha plane is decoded as RGBA, from which the green samples are copied.
    let alpha_plane = area * 5 + sub_images;
    let canvas = if coding.animated { area * 4 } else { 0 };
    let output = area * if coding.alpha { 4 } else { 3 };
    let frame = match (coding.lossless, coding.alpha || coding.animated) {
        (true, false) => area * 4 + sub_images,
        (true, true) => sub_images,
        (false, false) => lossy,
        (false, true) => lossy + alpha_plane,
    };
    // An animation's frame is decoded apart from its canvas.
    let apart = if coding.animated { area * 4 } else { 0 };
    output + canvas + apart + frame
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
