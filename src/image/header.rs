//! What an image file says of itself before anything is decoded.

use crate::error::{Error, Result};
use crate::geometry::{Orientation, Size};

/// Image formats served, found by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Gif,
    Tiff,
}

/// Checked header of an image: sides are at least 1, pixels within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    /// Size as stored.
    pub stored: Size,
    pub orientation: Orientation,
    /// Bytes the decoder holds at once besides single rows: 0 for baseline JPEG and non-interlaced PNG; coefficients
    /// of a progressive JPEG; the whole decoded frame of an interlaced PNG, WebP, BMP, GIF or TIFF.
    pub held_bytes: u64,
}

impl Header {
    /// Size after turning upright: the size of masks and of everything reported.
    #[must_use]
    pub fn upright(&self) -> Size {
        self.orientation.upright(self.stored)
    }
}

/// Reads the header of `bytes`.
///
/// # Errors
/// `Unsupported` (not an image type served, or a variant that is not), `Undecodable` (empty, cut short, inconsistent),
/// `TooLarge` with `Limit::Pixels` above `max_pixels`.
pub fn read(bytes: &[u8], max_pixels: u64) -> Result<Header> {
    let _ = (bytes, max_pixels);
    Err(Error::Unsupported { detail: "not built yet".into() })
}
