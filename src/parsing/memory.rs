//! Upper bounds of what post-processing holds, for the plan.

use super::tiles::{self, Grid};
use super::upsample::Upsampler;
use super::view::{BAND_ROWS, Sizes};
use super::{bands, pairs, scores, semantic};
use crate::geometry::Size;
use crate::manifest::{Geometry, LabelMap, Manifest};

/// An upper bound of the bytes that the two passes hold besides the logits. [`Found`](super::Found) and the running
/// band are included.
#[must_use]
pub fn bytes(geometry: &Geometry, photo: Size, manifest: &Manifest, band_rows: u32, threads: usize) -> u64 {
    let sizes = Sizes::new(geometry, photo, manifest, band_rows, threads);
    let labels = match manifest.label_map {
        LabelMap::Paste => 0,
        LabelMap::Semantic => {
            let working = geometry.photo.size;
            semantic::painter_bytes(&sizes, working) + semantic::answer_bytes(&sizes, working)
        }
    };
    shared(&sizes) + scores::bytes(&sizes).max(bands::bytes(&sizes) + labels)
}

/// Like [`bytes()`], but with labels from the tiles of `grid`. What [`Tiles`](super::Tiles) holds is included, the
/// tiles' logits too.
#[must_use]
pub fn tiled_bytes(
    geometry: &Geometry,
    grid: &Grid,
    photo: Size,
    manifest: &Manifest,
    band_rows: u32,
    threads: usize,
) -> u64 {
    let sizes = Sizes::new(geometry, photo, manifest, band_rows, threads);
    // Where labels are pasted, each tile's pairs are found by a pass of their own, at the tile's size.
    let finding = match manifest.label_map {
        LabelMap::Semantic => 0,
        LabelMap::Paste => bytes(&manifest.geometry(grid.tile()), grid.tile(), manifest, BAND_ROWS, threads),
    };
    let labels = semantic::painter_bytes(&sizes, grid.working()) + tiles::bytes(&sizes, grid, manifest, finding);
    shared(&sizes) + scores::bytes(&sizes).max(bands::bytes(&sizes) + labels)
}

/// Bytes that both passes hold.
fn shared(sizes: &Sizes) -> u64 {
    Upsampler::bytes(sizes.photo) + pairs::bytes(sizes)
}
