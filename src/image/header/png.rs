//! PNG: IHDR, then a walk over the chunks for eXIf (which may come after the pixels).

use super::bytes::Endian;
use super::exif;
use super::format::{Format, Header, cut_short, undecodable};
use crate::error::Result;
use crate::geometry::{Orientation, Size};

const SIGNATURE: usize = 8;

pub fn read(bytes: &[u8]) -> Result<Header> {
    let (kind, ihdr, mut at) = chunk(bytes, SIGNATURE).ok_or_else(cut_short)?;
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
    let mut orientation = Orientation::Upright;
    while let Some((kind, data, next)) = chunk(bytes, at) {
        if kind == *b"eXIf" {
            orientation = exif::orientation(data);
            break;
        }
        at = next;
    }
    // Rows of all seven passes are put in their places in one RGB frame.
    let held_bytes = if interlace == 1 { size.area() * 3 } else { 0 };
    Ok(Header { format: Format::Png, stored: size, orientation, held_bytes })
}

/// The chunk at `at`: its type, its data and where the next one starts.
fn chunk(bytes: &[u8], at: usize) -> Option<([u8; 4], &[u8], usize)> {
    let length = Endian::Big.u32(bytes, at)? as usize;
    let kind = bytes.get(at + 4..at + 8)?.try_into().ok()?;
    let end = (at + 8).checked_add(length)?;
    Some((kind, bytes.get(at + 8..end)?, end + 4))
}
