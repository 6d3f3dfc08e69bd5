//! Turns bands of the painted photo into outputs. Collectors take the bands as they come. Beside each collector, a
//! `*_bytes` function tells the plan how much memory it holds.

pub mod coco;
pub mod collect;
pub mod cutout;
mod hf;
pub mod label_png;
pub mod overlay;
mod png_rows;
pub mod report;
pub mod rle;
