//! The JSON report, and those of its figures that are counted from the bands.

use std::io;

use serde::Serialize;

use super::rle::{LabelRows, PersonRows, Rle, bit_rle_bytes, label_rle_bytes, most_transitions};
use crate::geometry::{BBox, Size};
use crate::manifest::Manifest;
use crate::options::OutputKind;
use crate::parsing::{Band, Found};

/// Parts of a person below this share of the person's own mask are minor: specks more often than garments.
pub const MINOR_FRACTION: f64 = 0.01;

/// The report on one photo. Its fields are written in this order.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub model: ModelSection,
    pub image: ImageSection,
    pub plan: PlanSection,
    /// The classes that the label map shows, ordered by id, the background among them.
    pub classes: Vec<ClassSection>,
    /// The persons, best first. A person's place in the list, counted from 0, is its id − 1.
    pub persons: Vec<PersonSection>,
    pub outputs: Vec<OutputSection>,
    /// Left out of stored reports, so that the same work gives the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings_ms: Option<TimingsSection>,
    /// Left out of stored reports, like the timings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySection>,
    pub warnings: Vec<String>,
    /// What was read. It is only in stored reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceSection>,
    /// The options in their canonical form. They are only in stored reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
}

impl Report {
    /// The length of the report as JSON text, in bytes.
    #[must_use]
    pub(crate) fn json_bytes(&self) -> u64 {
        struct Counter(u64);
        impl io::Write for Counter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += bytes.len() as u64;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut counter = Counter(0);
        // Every value of a report can be serialised, and the counter accepts every byte, so this cannot fail.
        let _complete = serde_json::to_writer(&mut counter, self);
        counter.0
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ModelSection {
    pub name: String,
    pub version: String,
    /// The sha256 of the graph's file.
    pub sha256: String,
}

impl ModelSection {
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        Self { name: manifest.name.clone(), version: manifest.version.clone(), sha256: manifest.digest().to_owned() }
    }
}

/// The photo, with the size that it has upright.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ImageSection {
    pub width: u32,
    pub height: u32,
    /// The EXIF orientation that the photo was stored with, 1–8.
    pub orientation: u8,
}

/// How the photo is run, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanSection {
    pub mode: String,
    pub working_width: u32,
    pub working_height: u32,
    pub tiles: u32,
    /// Whether the mirrored photo, or each mirrored tile, was parsed as well.
    pub flip: bool,
    pub reason: String,
    pub limit_mb: u64,
    pub predicted_peak_mb: u64,
    pub predicted_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassSection {
    pub id: u8,
    pub name: String,
    /// The class's colour in sRGB.
    pub color: [u8; 3],
    pub pixels: u64,
    /// The share of the photo's pixels, 0–1.
    pub fraction: f64,
    /// The best score among the reported parts of the class, or null where none was reported, as for the background.
    pub score: Option<f32>,
    pub bbox: BBox,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rle: Option<Rle>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PersonSection {
    /// The person's number in the `instances` picture.
    pub id: u32,
    pub score: f32,
    /// This box, `pixels` and `rle` are those of the person's own mask. Masks of persons may overlap.
    pub bbox: Option<BBox>,
    pub pixels: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rle: Option<Rle>,
    /// The label map inside the person's mask. A pixel that several persons hold is counted for one of them.
    pub parts: Vec<PartSection>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartSection {
    pub class_id: u8,
    pub pixels: u64,
    pub bbox: BBox,
    /// Whether the part is below [`MINOR_FRACTION`] of its person. Counts in words leave such parts out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub minor: bool,
}

/// A picture that was made, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputSection {
    pub kind: &'static str,
    pub content_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Given only for stored outputs, in lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Location>,
}

impl OutputSection {
    /// An output that the answer carries itself.
    #[must_use]
    pub(crate) fn inline(kind: OutputKind, content_type: &'static str, bytes: u64) -> Self {
        Self { kind: kind.name(), content_type, bytes: Some(bytes), sha256: None, s3: None }
    }

    /// An output that was stored.
    #[must_use]
    pub fn stored(kind: OutputKind, content_type: &'static str, bytes: u64, sha256: String, s3: S3Location) -> Self {
        Self { kind: kind.name(), content_type, bytes: Some(bytes), sha256: Some(sha256), s3: Some(s3) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct S3Location {
    pub bucket: String,
    pub key: String,
    /// A presigned link, given where the answer was too large to carry the output itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Where the photo was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SourceSection {
    /// An object of a bucket. The more of `etag`, `version_id` and `sha256` is known, the surer the photo's identity.
    Object {
        bucket: String,
        key: String,
        /// The `ETag` with its quotes, as S3 gives it.
        #[serde(skip_serializing_if = "Option::is_none")]
        etag: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version_id: Option<String>,
        /// The sha256 of the photo's bytes, in lower-case hexadecimal.
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// Bytes that were sent with the request.
    Bytes { bytes: u64, sha256: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct TimingsSection {
    pub decode: f64,
    pub preprocess: f64,
    pub inference: f64,
    pub postprocess: f64,
    pub encode: f64,
    pub total: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MemorySection {
    pub peak_rss_mb: u64,
    pub limit_mb: u64,
}

/// How many pixels were counted, and their extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    pixels: u64,
    left: u32,
    top: u32,
    /// One past the last column, as `bottom` is one past the last row.
    right: u32,
    bottom: u32,
}

impl Extent {
    const EMPTY: Self = Self { pixels: 0, left: u32::MAX, top: u32::MAX, right: 0, bottom: 0 };

    /// Adds `pixels` pixels of row `y`, the first of them at `left` and the last just before `right`.
    fn add(&mut self, y: u32, left: u32, right: u32, pixels: u64) {
        self.pixels += pixels;
        self.left = self.left.min(left);
        self.right = self.right.max(right);
        self.top = self.top.min(y);
        self.bottom = self.bottom.max(y + 1);
    }

    fn bbox(&self) -> Option<BBox> {
        (self.pixels > 0).then(|| BBox {
            x: self.left,
            y: self.top,
            width: self.right - self.left,
            height: self.bottom - self.top,
        })
    }
}

/// Counts classes, persons and their parts from the bands.
pub struct Stats {
    photo: Size,
    /// One extent for each class id.
    classes: Vec<Extent>,
    persons: Vec<Extent>,
    /// `[persons, classes]`.
    parts: Vec<Extent>,
    rle: Option<RleRows>,
}

/// The transitions of the label map and of the persons. Each becomes `None` once it has too many: the masks are left out
/// then, and the report says so.
struct RleRows {
    labels: Option<LabelRows>,
    persons: Option<PersonRows>,
    most_transitions: usize,
}

/// What [`Stats`] counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    pub classes: Vec<ClassSection>,
    pub persons: Vec<PersonSection>,
    pub warnings: Vec<String>,
}

impl Stats {
    /// Starts with nothing counted. `rle` says whether masks are kept too.
    #[must_use]
    pub fn new(photo: Size, manifest: &Manifest, rle: bool) -> Self {
        Self {
            photo,
            classes: vec![Extent::EMPTY; manifest.classes.len()],
            persons: Vec::new(),
            parts: Vec::new(),
            rle: rle.then(|| RleRows {
                labels: Some(LabelRows::default()),
                persons: Some(PersonRows::default()),
                most_transitions: most_transitions(photo) as usize,
            }),
        }
    }

    /// Takes the next band.
    pub fn push(&mut self, band: &Band<'_>) {
        // Persons who come only now have no pixel in the bands before.
        self.persons.resize(band.persons, Extent::EMPTY);
        self.parts.resize(band.persons * self.classes.len(), Extent::EMPTY);
        for row in 0..band.rows as usize {
            let y = band.y + row as u32;
            self.push_labels(y, band.label_row(row), band.instance_row(row));
            for (index, person) in self.persons.iter_mut().enumerate() {
                add_bits(person, y, band.mask_row(index, row));
            }
            if let Some(rle) = &mut self.rle {
                rle.push(band, row);
            }
        }
    }

    /// Counts one row of labels. Each run of one class and one person is counted at once.
    fn push_labels(&mut self, y: u32, labels: &[u8], instances: &[u8]) {
        let mut left = 0;
        while left < labels.len() {
            let (label, instance) = (labels[left], instances[left]);
            let rest = labels[left..].iter().zip(&instances[left..]);
            let length = rest.take_while(|(l, i)| **l == label && **i == instance).count();
            let (from, to) = (left as u32, (left + length) as u32);
            self.classes[usize::from(label)].add(y, from, to, length as u64);
            if instance > 0 {
                let part = usize::from(instance - 1) * self.classes.len() + usize::from(label);
                self.parts[part].add(y, from, to, length as u64);
            }
            left += length;
        }
    }

    /// Makes the sections of the report, after the last band.
    #[must_use]
    pub fn finish(self, manifest: &Manifest, found: &Found) -> Counted {
        let mut warnings = Vec::new();
        let (mut class_rle, mut person_rle) = (None, Vec::new());
        if let Some(rle) = self.rle {
            if rle.labels.is_none() || rle.persons.is_none() {
                warnings.push("the masks have more edges than the memory planned for RLE: some are left out".into());
            }
            class_rle = rle.labels.map(|rows| rows.finish().into_columns());
            person_rle = rle.persons.unwrap_or_default().finish().collect();
        }
        let area = self.photo.area() as f64;
        let class = |(id, region): (usize, &Extent)| {
            let class = &manifest.classes[id];
            Some(ClassSection {
                id: class.id,
                name: class.name.clone(),
                color: class.color,
                pixels: region.pixels,
                fraction: region.pixels as f64 / area,
                score: found.best_score(class.id),
                bbox: region.bbox()?,
                rle: class_rle.as_ref().map(|columns| columns.encode(class.id)),
            })
        };
        let classes = self.classes.iter().enumerate().filter_map(class).collect();
        let mut person_rle = person_rle.into_iter();
        let person = |(index, region): (usize, &Extent)| PersonSection {
            id: index as u32 + 1,
            score: found.persons[index].score,
            bbox: region.bbox(),
            pixels: region.pixels,
            rle: person_rle.next(),
            parts: part_sections(
                &self.parts[index * self.classes.len()..][..self.classes.len()],
                region.pixels,
                manifest,
            ),
        };
        let persons = self.persons.iter().enumerate().map(person).collect();
        Counted { classes, persons, warnings }
    }
}

/// The parts of a person whose own mask has `person_pixels`.
fn part_sections(regions: &[Extent], person_pixels: u64, manifest: &Manifest) -> Vec<PartSection> {
    let part = |(id, region): (usize, &Extent)| {
        let class_id = id as u8;
        let bbox = region.bbox().filter(|_| manifest.is_part(class_id))?;
        let minor = (region.pixels as f64) < MINOR_FRACTION * person_pixels as f64;
        Some(PartSection { class_id, pixels: region.pixels, bbox, minor })
    };
    regions.iter().enumerate().filter_map(part).collect()
}

/// Adds a row of bits to an extent.
fn add_bits(region: &mut Extent, y: u32, words: &[u64]) {
    let set = |(_, word): &(usize, &u64)| **word != 0;
    let Some((first, low)) = words.iter().enumerate().find(set) else { return };
    let (last, high) = words.iter().enumerate().rfind(set).unwrap_or((first, low));
    let left = first as u32 * 64 + low.trailing_zeros();
    let right = (last as u32 + 1) * 64 - high.leading_zeros();
    let pixels = words.iter().map(|word| u64::from(word.count_ones())).sum();
    region.add(y, left, right, pixels);
}

impl RleRows {
    fn push(&mut self, band: &Band<'_>, row: usize) {
        if let Some(labels) = &mut self.labels {
            labels.push(band.label_row(row));
            if labels.transitions().len() > self.most_transitions {
                self.labels = None;
            }
        }
        if let Some(persons) = &mut self.persons {
            persons.push(band, row);
            if persons.transitions() > self.most_transitions {
                self.persons = None;
            }
        }
    }
}

/// Bytes that a [`Stats`] holds, together with what it is made into. `rle` is as in [`Stats::new`]; `tiled` says whether
/// tiles may add persons.
#[must_use]
pub fn stats_bytes(photo: Size, manifest: &Manifest, tiled: bool, rle: bool) -> u64 {
    let classes = manifest.classes.len() as u64;
    let persons = manifest.most_persons(tiled);
    // Each class, person and part takes an extent and what the report says of it, names included.
    let regions = (classes + persons + classes * persons) * 128;
    let masks = || {
        let most = most_transitions(photo);
        label_rle_bytes::<u8>(photo, most, classes) + bit_rle_bytes(photo, most, persons)
    };
    regions + if rle { masks() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let class = |id: u8, name: &str| serde_json::json!({"id": id, "name": name, "color": [id, 0, 255]});
        serde_json::from_value(serde_json::json!({
            "schema": 1, "name": "nano", "version": "1.0", "description": "", "licence": "MIT",
            "files": [{"path": "model.onnx", "sha256": "ab", "bytes": 0}],
            "input": {"name": "image", "dtype": "uint8",
                "size": {"min_side": 64, "max_side": 128, "divisor": 4, "smallest_side": 4}},
            "outputs": {"class_logits": "c", "mask_logits": "m", "queries": 6, "stride": 4},
            "classes": [class(0, "Background"), class(1, "Hat"), class(2, "Hair"), class(3, "Human")],
            "background_id": 0, "person_id": 3, "label_map": "paste",
            "thresholds":
                {"top_k": 100, "part_score": 0.1, "person_score": 0.1, "paste_score": 0.5, "nms_iou": 0.7},
            "memory": {"load_mb": 0.0, "base_mb": 0.0, "bytes_per_pixel": 0.0},
            "time": {"base_ms": 0.0, "ns_per_pixel": 0.0, "threads": 1},
            "provenance": null, "accuracy": null
        }))
        .unwrap()
    }

    fn found() -> Found {
        let pair = |class, score| crate::parsing::Pair { query: 0, class, probability: 1.0, score, pixels: 0 };
        let mut found = Found::default();
        found.parts = vec![pair(1, 0.75), pair(1, 0.5)];
        found.persons = vec![pair(3, 0.875), pair(3, 0.25)];
        found
    }

    /// A 4 × 3 photo in two bands. It has a hat, hair below it, and two persons whose masks share the hat's last pixel.
    fn counted(rle: bool) -> Counted {
        let labels = [0, 1, 1, 0, 0, 2, 2, 0, 0, 0, 0, 0];
        let instances = [0, 1, 2, 0, 0, 1, 2, 2, 0, 0, 0, 0];
        let masks = [[0b0110, 0b0010, 0b0000], [0b0100, 0b1100, 0b0000]];
        let (manifest, found) = (manifest(), found());
        let mut stats = Stats::new(Size::new(4, 3), &manifest, rle);
        for (y, rows) in [(0, 2), (2, 1)] {
            let range = y as usize * 4..(y + rows) as usize * 4;
            let masks: Vec<u64> = masks.iter().flat_map(|m| m[y as usize..(y + rows) as usize].to_vec()).collect();
            stats.push(&Band {
                y,
                rows,
                width: 4,
                labels: &labels[range.clone()],
                instances: &instances[range],
                persons: 2,
                masks: &masks,
            });
        }
        stats.finish(&manifest, &found)
    }

    #[test]
    fn counts_are_the_pixels() {
        let counted = counted(false);
        let bbox = |x, y, width, height| BBox { x, y, width, height };
        let classes: Vec<_> = counted.classes.iter().map(|c| (c.id, c.pixels, c.score, c.bbox)).collect();
        let expected =
            [(0, 8, None, bbox(0, 0, 4, 3)), (1, 2, Some(0.75), bbox(1, 0, 2, 1)), (2, 2, None, bbox(1, 1, 2, 1))];
        assert_eq!(classes, expected);
        let persons: Vec<_> = counted.persons.iter().map(|p| (p.id, p.pixels, p.bbox)).collect();
        assert_eq!(persons, [(1, 3, Some(bbox(1, 0, 2, 2))), (2, 3, Some(bbox(2, 0, 2, 2)))]);
        let part = |class_id, x, y| PartSection { class_id, pixels: 1, bbox: bbox(x, y, 1, 1), minor: false };
        // Person 2 has a pixel outside every part, which is counted for none of its parts.
        assert_eq!(counted.persons[1].parts, [part(1, 2, 0), part(2, 2, 1)]);
        assert!(counted.warnings.is_empty());
    }

    #[test]
    fn specks_of_a_person_are_minor() {
        let part = |pixels| Extent { pixels, left: 0, top: 0, right: 9, bottom: 9 };
        let minor = |person_pixels| {
            let parts = part_sections(&[Extent::EMPTY, part(9), part(10)], person_pixels, &manifest());
            parts.iter().map(|part| serde_json::to_value(part).unwrap().get("minor").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(minor(899), [false, false]);
        assert_eq!(minor(1000), [true, false]);
        assert_eq!(minor(1001), [true, true]);
    }

    #[test]
    fn rle_masks_are_the_pixels() {
        use crate::render::rle::decode;
        let counted = counted(true);
        let pixels = |rle: &Option<Rle>| decode(rle.as_ref().unwrap()).unwrap();
        let column_major = |rows: [u8; 12]| (0..12).map(|i| rows[i % 3 * 4 + i / 3] == 1).collect::<Vec<_>>();
        assert_eq!(pixels(&counted.classes[1].rle), column_major([0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(pixels(&counted.persons[0].rle), column_major([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(pixels(&counted.persons[1].rle), column_major([0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0]));
    }

    /// What is counted of a checkerboard that is 1,024 rows high.
    fn checkerboard(width: u32) -> Counted {
        let (manifest, found) = (manifest(), Found::default());
        let mut stats = Stats::new(Size::new(width, 1024), &manifest, true);
        let instances = vec![0; width as usize];
        for y in 0..1024 {
            let labels: Vec<u8> = (0..width).map(|x| ((x + y) % 2) as u8).collect();
            stats.push(&Band { y, rows: 1, width, labels: &labels, instances: &instances, persons: 0, masks: &[] });
        }
        stats.finish(&manifest, &found)
    }

    #[test]
    fn too_many_edges_leave_the_masks_out() {
        let few = checkerboard(16);
        assert!(few.warnings.is_empty() && few.classes.iter().all(|class| class.rle.is_some()));
        let many = checkerboard(64);
        assert_eq!(many.warnings.len(), 1);
        assert!(many.classes.iter().all(|class| class.rle.is_none() && class.pixels == 32 * 1024));
    }

    #[test]
    fn a_stored_report_has_no_times_and_keeps_its_order() {
        let counted = counted(false);
        let mut report = Report {
            model: ModelSection::new(&manifest()),
            image: ImageSection { width: 4, height: 3, orientation: 6 },
            plan: PlanSection {
                mode: "auto".into(),
                working_width: 4,
                working_height: 3,
                tiles: 1,
                flip: false,
                reason: "native size".into(),
                limit_mb: 512,
                predicted_peak_mb: 100,
                predicted_ms: 50,
            },
            classes: counted.classes,
            persons: counted.persons,
            outputs: vec![OutputSection::inline(OutputKind::Mask, "image/png", 99)],
            timings_ms: Some(TimingsSection::default()),
            memory: Some(MemorySection { peak_rss_mb: 90, limit_mb: 512 }),
            warnings: counted.warnings,
            source: None,
            options: None,
        };
        let keys = |report: &Report| {
            let text = serde_json::to_string(report).unwrap();
            let names = [
                "model",
                "image",
                "plan",
                "classes",
                "persons",
                "outputs",
                "timings_ms",
                "memory",
                "warnings",
                "source",
            ];
            let places: Vec<_> = names.iter().filter_map(|n| text.find(&format!("\"{n}\":"))).collect();
            assert!(places.is_sorted(), "{text}");
            (places.len(), text)
        };
        let (count, text) = keys(&report);
        assert_eq!(count, 9);
        assert!(text.contains(r#""bbox":[1,0,2,1]"#) && text.contains(r#""score":null"#), "{text}");
        assert!(text.contains(r#"{"kind":"mask","content_type":"image/png","bytes":99}"#), "{text}");
        report.timings_ms = None;
        report.memory = None;
        let (count, text) = keys(&report);
        assert_eq!(count, 7);
        assert!(!text.contains("timings_ms") && !text.contains("peak_rss_mb"));
    }
}
