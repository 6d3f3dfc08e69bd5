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

/// 8-bit RGB pixels by plane, `[3, height, width]`: what networks read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planar8 {
    pub size: Size,
    pub data: Vec<u8>,
}

impl From<Rgb8> for Planar8 {
    fn from(image: Rgb8) -> Self {
        let mut data = Vec::with_capacity(image.data.len());
        for channel in 0..3 {
            data.extend(image.data.iter().skip(channel).step_by(3));
        }
        Self { size: image.size, data }
    }
}
