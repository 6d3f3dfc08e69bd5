//! A COCO instances file (cocodataset.org, "Data format"): the persons and their parts as annotations with masks.
//!
//! A person is an annotation of the person class, a part one of its own class. Both carry the number of their person in
//! `attributes`; a part that lies in no person's mask has none.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::rle::{self, LabelRows, PersonRows, Rle};
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::manifest::Manifest;
use crate::parsing::{Band, Found};

/// A file, or what one photo adds to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    pub info: Info,
    pub licenses: [(); 0],
    pub categories: Vec<Category>,
    pub images: Vec<Image>,
    pub annotations: Vec<Annotation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    pub description: String,
    pub version: String,
}

/// A class that annotations are of; its id is the class's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    pub id: u8,
    pub name: String,
    /// The person class's name, of its parts and of itself; empty where the model has no such class.
    pub supercategory: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub id: u64,
    pub file_name: String,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    pub id: u64,
    pub image_id: u64,
    pub category_id: u8,
    pub segmentation: Rle,
    /// Pixels of the mask.
    pub area: u64,
    /// x, y, width, height.
    pub bbox: [u32; 4],
    pub iscrowd: u8,
    /// The person's score, or the best one among the parts of the class; none where no such part was reported.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<Attributes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// The person's number in the photo, counted from 1.
    pub person: u32,
}

/// How often most annotations' text without its mask is longer: numbers, names of fields.
const ANNOTATION_BYTES: u64 = 256;

/// Collects the masks of persons and parts from the bands.
pub(crate) struct Coco {
    photo: Size,
    classes: u16,
    /// Person and class in one number: `person × classes + class`, with 0 for nobody.
    parts: LabelRows<u16>,
    row: Vec<u16>,
    persons: PersonRows,
}

impl Coco {
    #[must_use]
    pub(crate) fn new(photo: Size, manifest: &Manifest) -> Self {
        Self {
            photo,
            classes: manifest.classes.len() as u16,
            parts: LabelRows::default(),
            row: Vec::with_capacity(photo.width as usize),
            persons: PersonRows::default(),
        }
    }

    /// Takes the next band.
    ///
    /// # Errors
    /// `TooLarge` with `Limit::Memory` where the masks have more edges than were planned for.
    pub(crate) fn push(&mut self, band: &Band<'_>) -> Result<()> {
        let most = rle::most_transitions(self.photo);
        for row in 0..band.rows as usize {
            self.row.clear();
            let pixels = band.label_row(row).iter().zip(band.instance_row(row));
            self.row.extend(pixels.map(|(label, person)| u16::from(*person) * self.classes + u16::from(*label)));
            self.parts.push(&self.row);
            self.persons.push(band, row);
            if self.parts.transitions().len() as u64 > 2 * most || self.persons.transitions() as u64 > most {
                return Err(rle::too_many_edges());
            }
        }
        Ok(())
    }

    /// The file, after the last band. `file_name` is the photo's.
    ///
    /// # Errors
    /// `Internal`.
    pub(crate) fn finish(self, manifest: &Manifest, found: &Found, file_name: &str) -> Result<Vec<u8>> {
        let mut annotations = Vec::new();
        let mut annotate = |category_id: u8, score, person: u32, segmentation: Rle| {
            let (area, bbox) = segmentation.extent().map_err(Error::internal)?;
            let Some(bbox) = bbox else { return Ok::<_, Error>(()) };
            annotations.push(Annotation {
                id: annotations.len() as u64 + 1,
                image_id: 1,
                category_id,
                segmentation,
                area,
                bbox: [bbox.x, bbox.y, bbox.width, bbox.height],
                iscrowd: 0,
                score,
                attributes: (person > 0).then_some(Attributes { person }),
            });
            Ok(())
        };
        let parts = self.parts.finish().into_columns();
        let codes: BTreeSet<u16> = parts.values().collect();
        let part = |code: u16, annotate: &mut dyn FnMut(u8, Option<f32>, u32, Rle) -> Result<()>| {
            let (person, class) = (code / self.classes, (code % self.classes) as u8);
            if !manifest.is_part(class) {
                return Ok(());
            }
            annotate(class, found.best_score(class), person.into(), parts.encode(code))
        };
        for (index, mask) in self.persons.finish().enumerate() {
            let number = index as u16 + 1;
            if let Some(category) = manifest.person_id {
                annotate(category, Some(found.persons[index].score), number.into(), mask)?;
            }
            for &code in codes.range(number * self.classes..=number * self.classes + (self.classes - 1)) {
                part(code, &mut annotate)?;
            }
        }
        for &code in codes.range(..self.classes) {
            part(code, &mut annotate)?;
        }
        let image =
            Image { id: 1, file_name: file_name.to_owned(), width: self.photo.width, height: self.photo.height };
        let dataset = Dataset { images: vec![image], annotations, ..Dataset::empty(manifest) };
        serde_json::to_vec(&dataset).map_err(Error::internal)
    }
}

impl Dataset {
    /// A file without photos.
    #[must_use]
    pub fn empty(manifest: &Manifest) -> Self {
        let person = |id| manifest.classes.iter().find(|class| class.id == id);
        let supercategory = manifest.person_id.and_then(person).map_or_else(String::new, |class| class.name.clone());
        let classes = manifest.classes.iter().filter(|class| class.id != manifest.background_id);
        let category = |class: &crate::manifest::Class| Category {
            id: class.id,
            name: class.name.clone(),
            supercategory: supercategory.clone(),
        };
        Self {
            info: Info {
                description: format!(
                    "People and their parts as m2fp-lambda found them with the model {} {}",
                    manifest.name, manifest.version
                ),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            licenses: [],
            categories: classes.map(category).collect(),
            images: Vec::new(),
            annotations: Vec::new(),
        }
    }
}

/// The most bytes that a [`Coco`] holds, its file included. `tiled` says whether tiles may add persons.
#[must_use]
pub(crate) fn coco_bytes(photo: Size, manifest: &Manifest, tiled: bool) -> u64 {
    let (most, persons, parts) = counts(photo, manifest, tiled);
    rle::label_rle_bytes::<u16>(photo, 2 * most, parts)
        + rle::bit_rle_bytes(photo, most, persons)
        + u64::from(photo.width) * 2
        + (persons + parts) * ANNOTATION_BYTES
        // A vector that grows may have twice what it needs.
        + 2 * file_bytes(photo, manifest, tiled)
}

/// The most bytes that a file may take. `tiled` is as in [`coco_bytes`].
#[must_use]
pub(crate) fn file_bytes(photo: Size, manifest: &Manifest, tiled: bool) -> u64 {
    let (most, persons, parts) = counts(photo, manifest, tiled);
    let head = 1024 + manifest.classes.iter().map(|class| 2 * class.name.len() as u64 + 128).sum::<u64>();
    let masks = rle::label_text_bytes(photo, 2 * most, parts) + rle::bit_text_bytes(photo, most, persons);
    head + masks + (persons + parts) * ANNOTATION_BYTES
}

/// The most transitions of either kind, persons, and parts of all persons and of nobody.
fn counts(photo: Size, manifest: &Manifest, tiled: bool) -> (u64, u64, u64) {
    let (classes, persons) = (manifest.classes.len() as u64, manifest.most_persons(tiled));
    (rle::most_transitions(photo), persons, (persons + 1) * classes)
}
