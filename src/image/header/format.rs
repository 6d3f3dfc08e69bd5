//! The formats that are served, what a header says, and the errors that every format's reader shares.

use crate::error::Error;
use crate::geometry::{Orientation, Size};

/// An image format that is served. It is found by the file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Gif,
    Tiff,
    /// Served only by builds with the cargo feature `avif`, which is a default.
    #[cfg(feature = "avif")]
    Avif,
    /// Served only by builds with the cargo feature `heic`.
    #[cfg(feature = "heic")]
    Heic,
}

impl Format {
    /// Every format that is served.
    pub const ALL: [Self; 6 + cfg!(feature = "avif") as usize + cfg!(feature = "heic") as usize] = [
        Self::Jpeg,
        Self::Png,
        Self::WebP,
        Self::Bmp,
        Self::Gif,
        Self::Tiff,
        #[cfg(feature = "avif")]
        Self::Avif,
        #[cfg(feature = "heic")]
        Self::Heic,
    ];

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
            #[cfg(feature = "avif")]
            Self::Avif => "AVIF",
            #[cfg(feature = "heic")]
            Self::Heic => "HEIC",
        }
    }

    /// The format's media type.
    #[must_use]
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Bmp => "image/bmp",
            Self::Gif => "image/gif",
            Self::Tiff => "image/tiff",
            #[cfg(feature = "avif")]
            Self::Avif => "image/avif",
            #[cfg(feature = "heic")]
            Self::Heic => "image/heic",
        }
    }
}

/// The checked header of an image: its sides are at least 1, and its pixels are within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    /// The size as stored.
    pub stored: Size,
    pub orientation: Orientation,
    /// Whether pixels may be transparent.
    pub alpha: bool,
    /// Bytes of the colour profile that is used; 0 if there is none, or only one that is damaged, incomplete or too
    /// long.
    pub profile_bytes: u64,
    /// Bytes that the decoder holds at once besides single rows: none for a JPEG that is decoded in one pass, and for a
    /// non-interlaced PNG or GIF; the coefficients of any other JPEG; the whole decoded frame, with the decoder's own
    /// copies, of an interlaced PNG or GIF, a WebP or a BMP; one row of tiles of a TIFF, a HEIC or an AVIF, with what
    /// their decoders keep.
    pub held_bytes: u64,
}

/// The longest colour profile that is used. The longest in practice, those of printing presses, have up to a few
/// megabytes.
pub const MAX_PROFILE_BYTES: u64 = 4 << 20;

impl Header {
    /// The header of an upright picture of opaque pixels in sRGB.
    #[must_use]
    pub fn plain(format: Format, stored: Size, held_bytes: u64) -> Self {
        Self { format, stored, orientation: Orientation::Upright, alpha: false, profile_bytes: 0, held_bytes }
    }

    /// The size after turning upright, which is that of masks and of everything reported.
    #[must_use]
    pub fn upright(&self) -> Size {
        self.orientation.upright(self.stored)
    }
}

pub(super) fn undecodable(detail: &str) -> Error {
    Error::Undecodable { detail: detail.into() }
}

pub(in crate::image) fn unsupported(detail: &str) -> Error {
    Error::Unsupported { detail: detail.into() }
}

/// What to send instead, which is the end of a refusal's sentence.
pub(super) const SERVED: &str = match (cfg!(feature = "avif"), cfg!(feature = "heic")) {
    (true, true) => "send a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC image",
    (true, false) => "send a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image",
    (false, true) => "send a JPEG, PNG, WebP, BMP, GIF, TIFF or HEIC image",
    (false, false) => "send a JPEG, PNG, WebP, BMP, GIF or TIFF image",
};

/// The error for a format whose cargo feature this build lacks.
pub(super) fn not_built(name: &str) -> Error {
    let feature = name.to_lowercase();
    let detail =
        format!("{name} is served by builds with the cargo feature `{feature}` only, and this is none; {SERVED}");
    Error::Unsupported { detail }
}

/// The error for a file that ends, or points outside itself, before its header is complete.
pub(super) fn cut_short() -> Error {
    undecodable("the file ends before its header is complete")
}
