//! What an image file says of itself before anything is decoded.
//!
//! The format is found by content, never by name. Reading a header allocates nothing, whatever the file claims.

mod bmp;
mod bytes;
mod exif;
mod gif;
mod jpeg;
mod png;
mod sniff;
mod tiff;
mod webp;

use crate::error::{Error, Limit, Result};
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

impl Format {
    /// The format's name as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
        }
    }

    /// The format's media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Bmp => "image/bmp",
            Self::Gif => "image/gif",
            Self::Tiff => "image/tiff",
        }
    }
}

/// Checked header of an image: sides are at least 1, pixels within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    /// Size as stored.
    pub stored: Size,
    pub orientation: Orientation,
    /// Bytes the decoder holds at once besides single rows: 0 for baseline JPEG and non-interlaced PNG and GIF;
    /// coefficients of a progressive JPEG; the whole decoded frame, with the decoder's own copies, of an interlaced
    /// PNG or GIF, a WebP or a BMP; the strips or tiles of one band of a TIFF.
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
    let header = match sniff::format(bytes)? {
        Format::Jpeg => jpeg::read(bytes),
        Format::Png => png::read(bytes),
        Format::WebP => webp::read(bytes),
        Format::Bmp => bmp::read(bytes),
        Format::Gif => gif::read(bytes),
        Format::Tiff => tiff::read(bytes),
    }?;
    if header.stored.width == 0 || header.stored.height == 0 {
        return Err(undecodable("it says that a side is 0 pixels long"));
    }
    let pixels = header.stored.area();
    if pixels > max_pixels {
        let size = header.upright();
        let detail = format!("the image has {size} = {pixels} pixels; the limit is {max_pixels} pixels");
        return Err(Error::TooLarge { limit: Limit::Pixels, detail });
    }
    Ok(header)
}

fn undecodable(detail: &str) -> Error {
    Error::Undecodable { detail: detail.into() }
}

fn unsupported(detail: &str) -> Error {
    Error::Unsupported { detail: detail.into() }
}

/// The file ends, or points outside itself, before its header is complete.
fn cut_short() -> Error {
    undecodable("the file ends before its header is complete")
}
