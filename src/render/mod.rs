//! What is made of the labels: images and the report.

pub mod report;

use crate::geometry::Size;
use crate::image::header::Header;
use crate::manifest::Manifest;
use crate::options::Options;

/// Placeholder until the renderer lands.
pub fn collector_bytes(_photo: Size, _manifest: &Manifest, _options: &Options) -> u64 {
    0
}

/// Placeholder until the renderer lands.
pub fn second_decode_bytes(_header: &Header, _options: &Options) -> u64 {
    0
}

/// Placeholder until the renderer lands.
pub fn answer_bytes(_photo: Size, _options: &Options) -> u64 {
    0
}
