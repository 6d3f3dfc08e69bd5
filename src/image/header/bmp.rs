//! BMP: the file header and the bitmap header.

use super::bytes::Endian;
use super::format::{Format, Header, cut_short};
use crate::error::Result;
use crate::geometry::Size;

const CORE_HEADER: u32 = 12;

pub fn read(bytes: &[u8]) -> Result<Header> {
    let fields = || {
        let le = Endian::Little;
        let header = le.u32(bytes, 14)?;
        if header == CORE_HEADER {
            let size = Size::new(u32::from(le.u16(bytes, 18)?), u32::from(le.u16(bytes, 20)?));
            return Some((size, le.u16(bytes, 24)?));
        }
        // A negative height means that the picture is stored from top to bottom.
        let signed = |at| le.u32(bytes, at).map(|value| value.cast_signed().unsigned_abs());
        Some((Size::new(signed(18)?, signed(22)?), le.u16(bytes, 28)?))
    };
    let (size, bits) = fields().ok_or_else(cut_short)?;
    // The decoder gives RGB, or RGBA where the bit fields have alpha, which is possible with 16 and 32 bits only.
    let channels = if matches!(bits, 16 | 32) { 4 } else { 3 };
    Ok(Header { alpha: channels == 4, ..Header::plain(Format::Bmp, size, size.area() * channels) })
}
