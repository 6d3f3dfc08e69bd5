//! Bands of the painted photo to what is answered. Collectors take bands as they come; what each one holds is told by a
//! `*_bytes` function beside it, for the plan.

pub mod collect;
pub mod cutout;
pub mod overlay;
pub mod palette_png;
mod png_rows;
pub mod report;
pub mod rle;
