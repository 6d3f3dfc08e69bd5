//! GIF: the screen, and the first frame's place in it.

use super::bytes::Endian;
use super::format::{Format, Header, cut_short, undecodable};
use crate::error::Result;
use crate::geometry::{Orientation, Size};

const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2c;
const TRAILER: u8 = 0x3b;

pub fn read(bytes: &[u8]) -> Result<Header> {
    let side = |at| Endian::Little.u16(bytes, at).map(u32::from).ok_or_else(cut_short);
    let screen = Size::new(side(6)?, side(8)?);
    let flags = *bytes.get(10).ok_or_else(cut_short)?;
    let image = first_image(bytes, 13 + color_table_bytes(flags))?;
    let (left, top) = (side(image)?, side(image + 2)?);
    let frame = Size::new(side(image + 4)?, side(image + 6)?);
    if frame.width == 0 || frame.height == 0 {
        return Err(undecodable("its first frame is empty"));
    }
    let interlaced = bytes.get(image + 8).ok_or_else(cut_short)? & 0x40 != 0;
    // As in Pillow, a first frame that reaches outside its screen makes the picture larger.
    let size = Size::new(screen.width.max(left + frame.width), screen.height.max(top + frame.height));
    // Interlaced rows are put in their places as palette indices.
    let held_bytes = if interlaced { frame.area() } else { 0 };
    Ok(Header { format: Format::Gif, stored: size, orientation: Orientation::Upright, held_bytes })
}

/// Bytes of the colour table that these flags announce.
fn color_table_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Where the first image descriptor's fields begin.
fn first_image(bytes: &[u8], mut at: usize) -> Result<usize> {
    loop {
        match bytes.get(at) {
            Some(&IMAGE) => return Ok(at + 1),
            Some(&EXTENSION) => at = after_blocks(bytes, at + 2).ok_or_else(cut_short)?,
            Some(&TRAILER) => return Err(undecodable("it holds no image")),
            Some(_) => return Err(undecodable("its blocks are inconsistent")),
            None => return Err(cut_short()),
        }
    }
}

/// The index behind a chain of sub-blocks.
fn after_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}
