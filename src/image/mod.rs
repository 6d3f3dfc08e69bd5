//! Photographs: what they are (`header`), their pixels (`decode`), and Pillow's resize (`resample`).

pub mod decode;
pub mod header;
pub mod resample;

use crate::geometry::Size;

/// 8-bit RGB pixels, interleaved, row-major, no padding: `data.len() == width × height × 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb8 {
    pub size: Size,
    pub data: Vec<u8>,
}
