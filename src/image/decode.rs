//! Pixels of a photograph, upright, streamed where the format can.

use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::Rgb8;
use crate::image::header::Header;

/// Bytes that [`resized`] holds at its peak, its result included, the source's bytes not.
#[must_use]
pub fn resized_bytes(header: &Header, target: Size) -> u64 {
    header.held_bytes + target.area() * 3
}

/// Decodes `bytes`, turns them upright and resizes to `target` with Pillow's antialiased bilinear filter.
///
/// # Errors
/// `Undecodable`; a decoder's panic is caught and is this too.
pub fn resized(bytes: &[u8], header: &Header, target: Size) -> Result<Rgb8> {
    let _ = (bytes, header, target);
    Err(Error::Undecodable { detail: "not built yet".into() })
}

/// Bytes that [`rows`] holds at its peak, the source's bytes not.
#[must_use]
pub fn rows_bytes(header: &Header) -> u64 {
    header.held_bytes
}

/// Gives every upright row, top to bottom, at the photo's own size: `sink(y, rgb)`.
///
/// # Errors
/// `Undecodable`, or what `sink` returns.
pub fn rows(bytes: &[u8], header: &Header, sink: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
    let _ = (bytes, header, sink);
    Err(Error::Undecodable { detail: "not built yet".into() })
}
