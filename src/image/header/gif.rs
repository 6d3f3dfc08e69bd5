//! GIF: the screen, and the first frame's place in it.

use super::bytes::Endian;
use super::format::{Format, Header, cut_short, undecodable};
use crate::error::Result;
use crate::geometry::Size;

const EXTENSION: u8 = 0x21;
const CONTROL: u8 = 0xf9;
const IMAGE: u8 = 0x2c;
const TRAILER: u8 = 0x3b;

pub fn read(bytes: &[u8]) -> Result<Header> {
    let side = |at| Endian::Little.u16(bytes, at).map(u32::from).ok_or_else(cut_short);
    let screen = Size::new(side(6)?, side(8)?);
    let flags = *bytes.get(10).ok_or_else(cut_short)?;
    let (image, control) = first_image(bytes, 13 + color_table_bytes(flags))?;
    let (left, top) = (side(image)?, side(image + 2)?);
    let frame = Size::new(side(image + 4)?, side(image + 6)?);
    if frame.width == 0 || frame.height == 0 {
        return Err(undecodable("its first frame is empty"));
    }
    let interlaced = bytes.get(image + 8).ok_or_else(cut_short)? & 0x40 != 0;
    // As in Pillow, a first frame that reaches outside its screen makes the picture larger.
    let size = Size::new(screen.width.max(left + frame.width), screen.height.max(top + frame.height));
    // The rows of an interlaced frame are put in their places as palette indices.
    let held_bytes = if interlaced { frame.area() } else { 0 };
    let alpha = control.is_some_and(Control::is_transparent);
    Ok(Header { alpha, ..Header::plain(Format::Gif, size, held_bytes) })
}

/// The size in bytes of the colour table that these flags announce.
fn color_table_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// The parts of a file that its first frame needs: the screen with its palette, the frame's graphic control extension,
/// and everything from its image descriptor on. Comments, XMP and the like before it are left out, however long they
/// are.
pub(in crate::image) fn parts_of_first_frame(bytes: &[u8]) -> Result<[&[u8]; 3]> {
    let flags = *bytes.get(10).ok_or_else(cut_short)?;
    let screen = 13 + color_table_bytes(flags);
    let (image, control) = first_image(bytes, screen)?;
    Ok([&bytes[..screen], control.map_or(&[], |control| control.extension), &bytes[image - 1..]])
}

/// A graphic control extension.
#[derive(Debug, Clone, Copy)]
struct Control<'a> {
    /// All of the extension's bytes.
    extension: &'a [u8],
}

impl Control<'_> {
    fn is_transparent(self) -> bool {
        self.extension.get(3).is_some_and(|flags| flags & 1 == 1)
    }
}

/// The index at which the first image descriptor's fields begin, and the graphic control extension that applies to it.
fn first_image(bytes: &[u8], mut at: usize) -> Result<(usize, Option<Control<'_>>)> {
    let mut control = None;
    loop {
        match bytes.get(at) {
            Some(&IMAGE) => return Ok((at + 1, control)),
            Some(&EXTENSION) => {
                let next = after_blocks(bytes, at + 2).ok_or_else(cut_short)?;
                if bytes.get(at + 1) == Some(&CONTROL) {
                    control = Some(Control { extension: &bytes[at..next] });
                }
                at = next;
            }
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
