//! What post-processing reads and what it finds: the queries with the sizes at which they are read, the pairs, and the
//! sizes that byte counts depend on.

use super::upsample::{TileLogits, Upsampler};
use crate::engine::Queries;
use crate::error::{Error, Result};
use crate::geometry::{Region, Size};
use crate::manifest::{Geometry, Manifest};

/// Rows of a band: enough that a band's own costs do not show, few enough that a band of a large photo is small.
pub const BAND_ROWS: u32 = 32;

/// What the network says of an image.
pub struct Answers {
    pub plain: Queries,
    /// What it says of the mirrored image, where that was asked for. The classes have changed places already
    /// ([`Queries::exchange`]).
    pub mirrored: Option<Queries>,
}

impl From<Queries> for Answers {
    fn from(plain: Queries) -> Self {
        Self { plain, mirrored: None }
    }
}

/// The network's answers and the sizes at which they are read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) queries: &'a Queries,
    /// The answer to the mirrored photo, which the label map is made of as much as of the other.
    pub(super) mirrored: Option<&'a Queries>,
    pub(super) padded: Size,
    pub(super) working: Region,
    pub(super) photo: Size,
}

impl<'a> View<'a> {
    /// Checks that the sizes fit each other.
    ///
    /// `padded` is the size of the network's padded input, a multiple of the masks' size. `working` is the region of it
    /// where the resized photo lies; a plain size means its upper left part. `photo` is the size of the upright photo,
    /// which may be any.
    ///
    /// # Errors
    /// `Internal` for a geometry or a tensor that no sound model and plan make.
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
            None => Ok(Self { queries, mirrored: None, padded, working, photo }),
            Some(fault) => Err(Error::internal(format!(
                "post-processing was given {fault} (masks {mask}, padded {padded}, working {} at {}, {}, photo {photo})",
                working.size, working.left, working.top
            ))),
        }
    }

    /// Like [`Self::new`], with the answer to the mirrored photo where there is one.
    ///
    /// # Errors
    /// As [`Self::new`], for either answer.
    pub fn of(answers: &'a Answers, padded: Size, working: impl Into<Region>, photo: Size) -> Result<Self> {
        let view = Self::new(&answers.plain, padded, working, photo)?;
        let mirrored = answers.mirrored.as_ref();
        let mirrored = mirrored.map(|queries| Self::new(queries, padded, view.working, photo)).transpose()?;
        Ok(Self { mirrored: mirrored.map(|view| view.queries), ..view })
    }

    /// The answer to the mirrored photo alone, as that photo is seen.
    pub(super) fn mirror(&self) -> Option<Self> {
        self.mirrored.map(|queries| Self { queries, mirrored: None, ..*self })
    }

    /// The size of everything that is painted, which is the upright photo's.
    #[must_use]
    pub fn photo(&self) -> Size {
        self.photo
    }

    pub(super) fn upsampler(&self) -> Upsampler {
        Upsampler::new(self.queries.mask_size, self.padded, self.working, self.photo)
    }
}

/// A query taken as a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    pub query: u32,
    pub class: u8,
    /// The softmax over the classes and "no object".
    pub probability: f32,
    /// `probability` × the mean sigmoid over the mask's pixels.
    pub score: f32,
    /// How many photo pixels the mask has (logit > 0).
    pub pixels: u64,
}

/// What pass 1 found. The best score comes first in each list; equal scores are ordered by query, then by class.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Parts as the reference reports them, which suppresses none.
    pub parts: Vec<Pair>,
    /// Persons as the reference reports them, so one person may come twice.
    pub raw_persons: Vec<Pair>,
    /// Persons after non-maximum suppression of their masks. A person's number in
    /// [`Band::instances`](super::Band::instances) is its index + 1. Those whom only tiles found follow, once
    /// [`tiled_bands`](super::tiled_bands) has found them; their queries and pixels are those of their tile.
    pub persons: Vec<Pair>,
    /// Pairs that the `paste` label map consists of, the background's among them.
    pub(super) pasted: Vec<Pair>,
    /// The same of the mirrored photo.
    pub(super) mirrored: Vec<Pair>,
}

impl Found {
    /// The best score among the reported parts and persons of a class, or `None` where none was reported, as is always
    /// so for the background.
    #[must_use]
    pub(crate) fn best_score(&self, class: u8) -> Option<f32> {
        let reported = self.parts.iter().chain(&self.persons);
        reported.filter(|pair| pair.class == class).map(|pair| pair.score).reduce(f32::max)
    }
}

/// What the passes' byte counts depend on.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) photo: Size,
    /// How many answers the label map is made of: 2 with the mirrored photo's.
    pub(super) answers: u64,
    pub(super) queries: u64,
    pub(super) classes: u64,
    /// The most persons there can be.
    pub(super) persons: u64,
    /// Bytes of one tile's logits.
    pub(super) tile: u64,
    pub(super) band_rows: u64,
    pub(super) threads: u64,
}

impl Sizes {
    pub(super) fn new(
        geometry: &Geometry,
        photo: Size,
        manifest: &Manifest,
        flip: bool,
        band_rows: u32,
        threads: usize,
    ) -> Self {
        let (working, band_rows) = (geometry.photo.size, band_rows.clamp(1, photo.height));
        let rows = Upsampler::most_rows(geometry.mask.height, working, photo, band_rows);
        Self {
            photo,
            answers: if flip { 2 } else { 1 },
            queries: u64::from(manifest.outputs.queries),
            classes: manifest.classes.len() as u64,
            persons: manifest.most_persons(false),
            tile: TileLogits::bytes(rows),
            band_rows: u64::from(band_rows),
            threads: threads as u64,
        }
    }
}
