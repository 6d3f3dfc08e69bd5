//! What Hugging Face's inference API answers to `image-segmentation`: a list of segments, each a label, a score and a
//! mask, which is a grey PNG of 0 and 255 in base64. There is one for each class that the label map shows.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::label_png::{self, LabelPng};
use super::rle::{self, LabelRows};
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::manifest::Manifest;
use crate::parsing::{Band, Found};

#[derive(Serialize)]
struct Segment<'a> {
    label: &'a str,
    /// Null where no part of the class was reported, as for the background.
    score: Option<f32>,
    mask: String,
}

/// Collects the label map from the bands.
pub(crate) struct Segments {
    photo: Size,
    labels: LabelRows,
}

impl Segments {
    #[must_use]
    pub(crate) fn new(photo: Size) -> Self {
        Self { photo, labels: LabelRows::default() }
    }

    /// Takes the next band.
    ///
    /// # Errors
    /// `TooLarge` with `Limit::Memory` where the label map has more edges than were planned for.
    pub(crate) fn push(&mut self, band: &Band<'_>) -> Result<()> {
        for row in 0..band.rows as usize {
            self.labels.push(band.label_row(row));
            if self.labels.transitions().len() as u64 > rle::most_transitions(self.photo) {
                return Err(rle::too_many_edges());
            }
        }
        Ok(())
    }

    /// The list as JSON, after the last band.
    ///
    /// # Errors
    /// `TooLarge` with `Limit::Memory` when the masks would pass the size that was planned for them, `Internal`.
    pub(crate) fn finish(self, manifest: &Manifest, found: &Found) -> Result<Vec<u8>> {
        let labels = self.labels.finish();
        let shown: BTreeSet<u8> = labels.values().collect();
        let mut room = label_png::file_bytes(self.photo);
        let mut text = Vec::new();
        for class in manifest.classes.iter().filter(|class| shown.contains(&class.id)) {
            let mut png = LabelPng::grey_within(self.photo, room)?;
            let mut row = Vec::with_capacity(self.photo.width as usize);
            labels.replay(|labels, is_new| {
                if is_new {
                    row.clear();
                    row.extend(labels.iter().map(|label| if *label == class.id { u8::MAX } else { 0 }));
                }
                png.push(&row)
            })?;
            let png = png.finish()?;
            room -= png.len() as u64;
            let (score, mask) = (found.best_score(class.id), STANDARD.encode(&png));
            drop(png);
            text.push(if text.is_empty() { b'[' } else { b',' });
            serde_json::to_writer(&mut text, &Segment { label: &class.name, score, mask }).map_err(Error::internal)?;
        }
        text.push(b']');
        Ok(text)
    }
}

/// The most bytes that a [`Segments`] holds, its answer included.
#[must_use]
pub(crate) fn segments_bytes(photo: Size, manifest: &Manifest) -> u64 {
    let png = label_png::label_png_bytes(photo) + 2 * u64::from(photo.width);
    // The text's vector may have twice what it needs, while the last mask is there as text of its own.
    rle::label_rle_bytes::<u8>(photo, rle::most_transitions(photo), 0) + png + 3 * answer_bytes(photo, manifest)
}

/// The most bytes that an answer may take: all masks together take no more than a label map's file is planned for, and
/// base64 makes four bytes of three.
#[must_use]
pub(crate) fn answer_bytes(photo: Size, manifest: &Manifest) -> u64 {
    let around = manifest.classes.iter().map(|class| 6 * class.name.len() as u64 + 128).sum::<u64>();
    label_png::file_bytes(photo) * 4 / 3 + around
}
