//! Networks' answers that are drawn instead of computed, for tests and benches.
//!
//! People are ellipses, parts are shares of them, the rest is far below zero, as trained networks leave it.

#![allow(dead_code, reason = "each test and bench uses its part")]

use m2fp::engine::Queries;
use m2fp::geometry::{Region, Size};
use m2fp::manifest::{LabelMap, Manifest};
use m2fp::parsing::View;

const PARTS: u8 = 20;
/// The class of whole persons.
pub const PERSON: u8 = PARTS;
const CLASSES: usize = PARTS as usize + 1;

/// A network's answer and its sizes.
pub struct Case {
    pub manifest: Manifest,
    pub queries: Queries,
    pub padded: Size,
    pub working: Region,
    pub photo: Size,
}

impl Case {
    pub fn view(&self) -> View<'_> {
        View::new(&self.queries, self.padded, self.working, self.photo).expect("a sound geometry")
    }

    /// What the network answers to a tile: as much as to the whole, of another size.
    pub fn tile(&self, size: Size) -> Queries {
        let mask_size = self.manifest.mask_size(size);
        let (from, to) = (self.queries.mask_size, mask_size);
        let mut masks = Vec::with_capacity(self.queries.count * to.area() as usize);
        for query in 0..self.queries.count {
            let mask = self.queries.mask(query);
            for i in 0..to.area() as u32 {
                let (x, y) = (i % to.width * from.width / to.width, i / to.width * from.height / to.height);
                masks.push(mask[(y * from.width + x) as usize]);
            }
        }
        queries(self.queries.class_logits.clone(), mask_size, masks)
    }
}

/// The packaged model's shape: one query a class, 21 queries, three people.
pub fn nano(label_map: LabelMap, working: Size, photo: Size) -> Case {
    let padded = working.padded_to(32);
    let mask_size = Size::new(padded.width / 4, padded.height / 4);
    let people = people(3);
    let mut masks = Vec::new();
    let mut class_logits = Vec::new();
    for class in 0..CLASSES as u8 {
        class_logits.extend(one_hot(class, 8.0, -8.0));
        masks.extend(plane(mask_size, |x, y| match class {
            0 => -people.iter().map(|p| p.inside(x, y)).fold(f32::NEG_INFINITY, f32::max),
            PERSON => people.iter().map(|p| p.inside(x, y)).fold(f32::NEG_INFINITY, f32::max),
            part => people.iter().map(|p| p.part(part, x, y)).fold(f32::NEG_INFINITY, f32::max),
        }));
    }
    Case {
        manifest: manifest(label_map, CLASSES as u32),
        queries: queries(class_logits, mask_size, masks),
        padded,
        working: working.into(),
        photo,
    }
}

/// LIP's shape: [`nano`]'s answer without persons, on the letterbox of 384×512.
pub fn lip(photo: Size) -> Case {
    let size = serde_json::json!({"letterbox": {"width": 384, "height": 512, "fill": 128}, "divisor": 32});
    let canvas = Size::new(384, 512);
    let mut case = nano(LabelMap::Semantic, canvas, photo);
    case.manifest.input.size = serde_json::from_value(size).expect("a letterbox");
    case.manifest.person_id = None;
    case.working = case.manifest.geometry(case.manifest.input.size.native(photo)).photo;
    let persons = usize::from(PERSON) * (CLASSES + 1)..;
    case.queries.class_logits[persons].copy_from_slice(&one_hot(CLASSES as u8, 8.0, -8.0));
    // No two parts alike where both follow the person's outline.
    let sureness = |query: usize| 1.0 - 0.02 * query as f32;
    let masks = (0..case.queries.count).flat_map(|q| case.queries.mask(q).iter().map(move |x| x * sureness(q)));
    case.queries.mask_logits = Box::new(masks.collect::<Vec<_>>());
    case
}

/// M2FP's shape: 100 queries, of which some 25 are sure of a class, four people, each found twice.
pub fn m2fp(working: Size, photo: Size) -> Case {
    let padded = working.padded_to(32);
    let mask_size = Size::new(padded.width / 4, padded.height / 4);
    let people = people(4);
    let mut masks = Vec::new();
    let mut class_logits = Vec::new();
    for query in 0..100_usize {
        let person = people[query % 4];
        let class = match query {
            0..8 => PERSON,
            8 => 0,
            9..25 => 1 + (query as u8 - 9) / 4 * 3,
            _ => CLASSES as u8,
        };
        class_logits.extend(one_hot(class, 4.0, -4.0));
        // No two scores alike: their order is part of what is compared.
        let sureness = 1.0 - 0.003 * query as f32;
        masks.extend(plane(mask_size, |x, y| match class {
            PERSON => sureness * person.inside(x, y),
            0 => -people.iter().map(|p| p.inside(x, y)).fold(f32::NEG_INFINITY, f32::max),
            part => sureness * person.part(part % PARTS, x, y),
        }));
    }
    Case {
        manifest: manifest(LabelMap::Paste, 100),
        queries: queries(class_logits, mask_size, masks),
        padded,
        working: working.into(),
        photo,
    }
}

/// M2FP's shape: a hundred people apart from each other, in a query each, as many as an answer may have.
pub fn crowd(working: Size, photo: Size) -> Case {
    let case = m2fp(working, photo);
    let mask_size = case.queries.mask_size;
    let height = mask_size.height as f32 / mask_size.width as f32;
    let (mut masks, mut class_logits) = (Vec::new(), Vec::new());
    for query in 0..100_usize {
        let place = |at: usize| (at as f32 + 0.5) / 10.0;
        let person = Ellipse {
            x: place(query % 10),
            y: place(query / 10) * height,
            half_width: 0.035,
            half_height: 0.035 * height,
        };
        class_logits.extend(one_hot(PERSON, 4.0, -4.0));
        masks.extend(plane(mask_size, |x, y| person.inside(x, y)));
    }
    Case { queries: queries(class_logits, mask_size, masks), ..case }
}

/// An upright ellipse in units of the photo's width.
#[derive(Clone, Copy)]
struct Ellipse {
    x: f32,
    y: f32,
    half_width: f32,
    half_height: f32,
}

impl Ellipse {
    /// A logit: positive inside.
    fn inside(&self, x: f32, y: f32) -> f32 {
        let (u, v) = ((x - self.x) / self.half_width, (y - self.y) / self.half_height);
        10.0 * (1.0 - (u * u + v * v).sqrt()).max(-1.2)
    }

    /// Parts are bands of the ellipse with wavy edges.
    fn part(&self, part: u8, x: f32, y: f32) -> f32 {
        let along = (y - self.y) / self.half_height + 0.04 * (x * 90.0).sin();
        let centre = -1.0 + (f32::from(part) - 0.5) * 2.0 / f32::from(PARTS - 1);
        let band = 10.0 * (1.0 - (along - centre).abs() * f32::from(PARTS - 1)).max(-1.2);
        self.inside(x, y).min(band)
    }
}

fn people(count: usize) -> Vec<Ellipse> {
    let person = |i: usize| Ellipse {
        x: (i as f32 + 0.5) / count as f32,
        y: 0.28 + 0.02 * i as f32,
        half_width: 0.45 / count as f32,
        half_height: 0.26,
    };
    (0..count).map(person).collect()
}

fn plane(size: Size, logit: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let scale = 1.0 / size.width as f32;
    let at = |i: u32| logit((i % size.width) as f32 * scale, (i / size.width) as f32 * scale);
    (0..size.area() as u32).map(at).collect()
}

/// Logits of one query, "no object" last.
fn one_hot(class: u8, high: f32, low: f32) -> Vec<f32> {
    (0..=CLASSES as u8).map(|other| if other == class { high } else { low }).collect()
}

fn queries(class_logits: Vec<f32>, mask_size: Size, masks: Vec<f32>) -> Queries {
    let count = class_logits.len() / (CLASSES + 1);
    Queries { count, classes: CLASSES, class_logits, mask_size, mask_logits: Box::new(masks) }
}

fn manifest(label_map: LabelMap, queries: u32) -> Manifest {
    let class = |id: u8| serde_json::json!({"id": id, "name": id.to_string(), "color": [id * 12, 255 - id * 12, 64]});
    serde_json::from_value(serde_json::json!({
        "schema": 1, "name": "drawn", "version": "1", "description": "", "licence": "Apache-2.0",
        "files": [{"path": "model.onnx", "sha256": "", "bytes": 0}],
        "input": {"name": "image", "dtype": "uint8",
            "size": {"min_side": 640, "max_side": 1333, "divisor": 32, "smallest_side": 160}},
        "outputs": {"class_logits": "c", "mask_logits": "m", "queries": queries, "stride": 4},
        "classes": (0..=PERSON).map(class).collect::<Vec<_>>(),
        "background_id": 0, "person_id": PERSON, "label_map": label_map,
        "thresholds": {"top_k": 100, "part_score": 0.1, "person_score": 0.1, "paste_score": 0.5, "nms_iou": 0.7},
        "memory": {"load_mb": 0.0, "base_mb": 0.0, "bytes_per_pixel": 0.0},
        "time": {"base_ms": 0.0, "ns_per_pixel": 0.0, "threads": 1},
        "provenance": null, "accuracy": null
    }))
    .expect("a manifest")
}
