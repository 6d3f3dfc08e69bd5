//! Upper bounds of what post-processing holds, for the plan.

use super::tiles::{self, Grid};
use super::upsample::{TileLogits, Upsampler};
use super::view::{BAND_ROWS, Sizes};
use super::{bands, pairs, scores, semantic};
use crate::geometry::Size;
use crate::manifest::{Geometry, LabelMap, Manifest};

/// An upper bound of the bytes that the two passes hold besides the logits. [`Found`](super::Found) and the running
/// band are included. `flip` says whether the mirrored photo has an answer, too.
#[must_use]
pub fn bytes(geometry: &Geometry, photo: Size, manifest: &Manifest, flip: bool, band_rows: u32, threads: usize) -> u64 {
    let sizes = Sizes::new(geometry, photo, manifest, flip, band_rows, threads);
    let labels = match manifest.label_map {
        LabelMap::Paste => 0,
        LabelMap::Semantic => {
            let working = geometry.photo.size;
            semantic::painter_bytes(&sizes, working) + sizes.answers * semantic::answer_bytes(&sizes, working)
        }
    };
    shared(&sizes) + scores::bytes(&sizes).max(bands::bytes(&sizes) + labels)
}

/// Like [`bytes()`], but with labels from the tiles of `grid`. What [`Tiles`](super::Tiles) holds is included, the
/// tiles' logits too. `flip` says whether each tile has an answer to its mirrored image, too; the whole photo has none.
#[must_use]
pub fn tiled_bytes(
    geometry: &Geometry,
    grid: &Grid,
    photo: Size,
    manifest: &Manifest,
    flip: bool,
    band_rows: u32,
    threads: usize,
) -> u64 {
    let sizes = Sizes::new(geometry, photo, manifest, flip, band_rows, threads);
    // Each tile's persons, and its pairs where labels are pasted, are found by passes of their own, at the tile's size.
    let tile = manifest.geometry(grid.tile());
    let tile_sizes = Sizes::new(&tile, grid.tile(), manifest, false, BAND_ROWS, threads);
    let finding = shared(&tile_sizes) + scores::bytes(&tile_sizes);
    let labels = semantic::painter_bytes(&sizes, grid.working()) + tiles::bytes(&sizes, grid, manifest, finding);
    // Persons are painted from tiles as well, whose logits rows are the more under a band.
    let rows = Upsampler::most_rows(tile.mask.height, grid.working(), photo, band_rows.clamp(1, photo.height));
    let tile_logits = sizes.tile.max(TileLogits::bytes(rows));
    let painted = Sizes { persons: manifest.most_persons(true), tile: tile_logits, ..sizes };
    shared(&sizes) + scores::bytes(&sizes).max(bands::bytes(&painted) + labels)
}

/// Bytes that both passes hold.
fn shared(sizes: &Sizes) -> u64 {
    sizes.answers * (Upsampler::bytes(sizes.photo) + pairs::bytes(sizes))
}
