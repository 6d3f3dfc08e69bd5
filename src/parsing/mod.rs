//! From queries to label map, persons and scores, at the photo's size, one band of rows at a time.
//!
//! Two passes over the logits. [`find`] scores the queries and says which parts and persons there are; [`bands()`] paints
//! the photo with them. Each pass holds O(width × band), never `Q × H × W` of the photo nor `C × H × W`.
//! The arithmetic is that of ModelScope's pipeline `image-human-parsing` (`models/cv/image_human_parsing/m2fp_net.py`).

mod bands;
mod label_map;
mod pairs;
mod persons;
#[cfg(test)]
mod reference;
mod scores;
mod semantic;
mod sigmoid;
mod tiles;
mod upsample;

use crate::engine::Queries;
use crate::error::{Error, Result};
use crate::geometry::{Region, Size};
use crate::manifest::{Geometry, LabelMap, Manifest};

pub use bands::{Band, bands, tiled_bands};
pub use scores::find;
pub use tiles::{Grid, Tiles};

/// Rows of a band: enough that a band's own costs do not show, few enough that a band of a large photo is small.
pub const BAND_ROWS: u32 = 32;

/// The network's answer and the sizes it is read at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    queries: &'a Queries,
    padded: Size,
    working: Region,
    photo: Size,
}

impl<'a> View<'a> {
    /// Checks that the sizes fit each other.
    ///
    /// `padded` is the network's padded input, a multiple of the masks' size; `working` is where on it the resized photo
    /// lies (a plain size: its upper left part); `photo` is the upright photo, any size.
    ///
    /// # Errors
    /// `Internal`: a geometry or a tensor that no sound model and plan make.
    pub fn new(queries: &'a Queries, padded: Size, working: impl Into<Region>, photo: Size) -> Result<Self> {
        let (mask, working) = (queries.mask_size, working.into());
        let fault = if [mask, padded, working.size, photo].iter().any(|size| size.area() == 0) {
            Some("an empty size")
        } else if !padded.width.is_multiple_of(mask.width) || !padded.height.is_multiple_of(mask.height) {
            Some("a padded size that is no multiple of the masks' size")
        } else if !working.is_inside(padded) {
            Some("a working size beyond the padded size")
        } else if queries.class_logits.len() != queries.count * (queries.classes + 1) {
            Some("class logits of another shape")
        } else if (*queries.mask_logits).as_ref().len() as u64 != queries.count as u64 * mask.area() {
            Some("mask logits of another shape")
        } else {
            None
        };
        match fault {
            None => Ok(Self { queries, padded, working, photo }),
            Some(fault) => Err(Error::internal(format!(
                "post-processing was given {fault} (masks {mask}, padded {padded}, working {} at {}, {}, photo {photo})",
                working.size, working.left, working.top
            ))),
        }
    }

    /// Size of everything painted: the upright photo's.
    #[must_use]
    pub fn photo(&self) -> Size {
        self.photo
    }

    fn upsampler(&self) -> upsample::Upsampler {
        upsample::Upsampler::new(self.queries.mask_size, self.padded, self.working, self.photo)
    }
}

/// A query taken as a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    pub query: u32,
    pub class: u8,
    /// Softmax over the classes and "no object".
    pub probability: f32,
    /// `probability` × the mean sigmoid over the mask's pixels.
    pub score: f32,
    /// Photo pixels of the mask (logit > 0).
    pub pixels: u64,
}

/// What pass 1 found. Lists are ordered best score first; equal scores by query, then class.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Parts as the reference reports them: nothing suppressed.
    pub parts: Vec<Pair>,
    /// Persons as the reference reports them: one person may come twice.
    pub raw_persons: Vec<Pair>,
    /// Persons after mask-NMS; a person's number in [`Band::instances`] is its index + 1.
    pub persons: Vec<Pair>,
    /// Pairs that the `paste` label map consists of, the background's among them.
    pasted: Vec<Pair>,
}

impl Found {
    /// The best score among the reported parts and persons of a class; `None` where none was reported (always so for
    /// the background).
    #[must_use]
    pub fn best_score(&self, class: u8) -> Option<f32> {
        let reported = self.parts.iter().chain(&self.persons);
        reported.filter(|pair| pair.class == class).map(|pair| pair.score).reduce(f32::max)
    }
}

/// An upper bound of the bytes that the two passes hold besides the logits, [`Found`] and the running band included.
#[must_use]
pub fn bytes(geometry: &Geometry, photo: Size, manifest: &Manifest, band_rows: u32) -> u64 {
    let sizes = Sizes::new(geometry, photo, manifest, band_rows);
    let labels = match manifest.label_map {
        LabelMap::Paste => 0,
        LabelMap::Semantic => {
            let working = geometry.photo.size;
            semantic::painter_bytes(&sizes, working) + semantic::answer_bytes(&sizes, working)
        }
    };
    sizes.shared() + scores::bytes(&sizes).max(bands::bytes(&sizes) + labels)
}

/// As [`bytes()`] with labels from the tiles of `grid`: what [`Tiles`] holds is included, their logits too.
#[must_use]
pub fn tiled_bytes(geometry: &Geometry, grid: &Grid, photo: Size, manifest: &Manifest, band_rows: u32) -> u64 {
    let sizes = Sizes::new(geometry, photo, manifest, band_rows);
    let labels = semantic::painter_bytes(&sizes, grid.working()) + tiles::bytes(&sizes, grid, manifest);
    sizes.shared() + scores::bytes(&sizes).max(bands::bytes(&sizes) + labels)
}

/// What the passes' byte counts depend on.
struct Sizes {
    photo: Size,
    queries: u64,
    classes: u64,
    /// The most persons there can be.
    persons: u64,
    /// Bytes of one tile's logits.
    tile: u64,
    band_rows: u64,
    threads: u64,
}

impl Sizes {
    fn new(geometry: &Geometry, photo: Size, manifest: &Manifest, band_rows: u32) -> Self {
        let (working, band_rows) = (geometry.photo.size, band_rows.clamp(1, photo.height));
        let rows = upsample::Upsampler::most_rows(geometry.mask.height, working, photo, band_rows);
        Self {
            photo,
            queries: u64::from(manifest.outputs.queries),
            classes: manifest.classes.len() as u64,
            persons: manifest.person_id.map_or(0, |_| manifest.thresholds.top_k.min(manifest.outputs.queries).into()),
            tile: upsample::TileLogits::bytes(rows),
            band_rows: u64::from(band_rows),
            threads: rayon::current_num_threads() as u64,
        }
    }

    /// What both passes hold.
    fn shared(&self) -> u64 {
        upsample::Upsampler::bytes(self.photo) + pairs::bytes(self)
    }
}
