//! Post-processing of a 1080p photo: both passes, the figures of the report and the palette PNG, as one answer needs
//! them, and the renderers alone.
//!
//! The logits are drawn, not a network's: people are ellipses, parts are shares of them, the rest is far below zero, as
//! trained networks leave it.

use divan::{Bencher, black_box};
use m2fp::engine::Queries;
use m2fp::geometry::Size;
use m2fp::image::Rgb8;
use m2fp::manifest::{LabelMap, Manifest};
use m2fp::parsing::{self, BAND_ROWS, Found, View};
use m2fp::render::cutout::{Cutout, Foreground};
use m2fp::render::overlay::{OverlayLabels, overlay_size};
use m2fp::render::palette_png::PalettePng;
use m2fp::render::report::Stats;

const PHOTO: Size = Size::new(1920, 1080);
const PARTS: u8 = 20;
const PERSON: u8 = PARTS;
const CLASSES: usize = PARTS as usize + 1;

fn main() {
    divan::main();
}

/// A network's answer and its sizes.
struct Case {
    manifest: Manifest,
    queries: Queries,
    padded: Size,
    working: Size,
}

impl Case {
    fn view(&self) -> View<'_> {
        View::new(&self.queries, self.padded, self.working, PHOTO).expect("a sound geometry")
    }
}

/// The packaged model's shape: one query a class, 21 queries, three people.
fn nano(label_map: LabelMap) -> Case {
    let mask_size = Size::new(176, 96);
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
        padded: Size::new(704, 384),
        working: Size::new(683, 384),
    }
}

/// M2FP's shape: 100 queries, of which some 25 are sure of a class, four people, each found twice.
fn m2fp() -> Case {
    let mask_size = Size::new(288, 160);
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
        masks.extend(plane(mask_size, |x, y| match class {
            PERSON => person.inside(x, y),
            0 => -people.iter().map(|p| p.inside(x, y)).fold(f32::NEG_INFINITY, f32::max),
            part => person.part(part % PARTS, x, y),
        }));
    }
    Case {
        manifest: manifest(LabelMap::Paste, 100),
        queries: queries(class_logits, mask_size, masks),
        padded: Size::new(1152, 640),
        working: Size::new(1138, 640),
    }
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

/// Both passes with the report's figures and the label map's PNG.
fn answer(case: &Case, rle: bool) -> (Found, Vec<u8>) {
    let view = case.view();
    let found = parsing::find(&view, &case.manifest, None, BAND_ROWS);
    let mut stats = Stats::new(PHOTO, &case.manifest, &found, rle);
    let mut png = PalettePng::new(PHOTO, &case.manifest.palette()).expect("a palette");
    parsing::bands(&view, &case.manifest, &found, BAND_ROWS, &mut |band| {
        stats.push(band);
        png.push(band.labels)
    })
    .expect("a sink that succeeds");
    black_box(stats.finish(&case.manifest, &found));
    (found, png.finish().expect("every row"))
}

const LABEL_MAPS: [LabelMap; 2] = [LabelMap::Semantic, LabelMap::Paste];

#[divan::bench(args = LABEL_MAPS)]
fn nano_find(bencher: Bencher<'_, '_>, label_map: LabelMap) {
    let case = nano(label_map);
    bencher.bench(|| parsing::find(&case.view(), &case.manifest, None, BAND_ROWS));
}

#[divan::bench(args = LABEL_MAPS)]
fn nano_bands(bencher: Bencher<'_, '_>, label_map: LabelMap) {
    let case = nano(label_map);
    let found = parsing::find(&case.view(), &case.manifest, None, BAND_ROWS);
    bencher.bench(|| parsing::bands(&case.view(), &case.manifest, &found, BAND_ROWS, &mut |_| Ok(())));
}

#[divan::bench(args = LABEL_MAPS)]
fn nano_answer(bencher: Bencher<'_, '_>, label_map: LabelMap) {
    let case = nano(label_map);
    bencher.bench(|| answer(&case, false));
}

#[divan::bench(args = [false, true])]
fn m2fp_answer(bencher: Bencher<'_, '_>, rle: bool) {
    let case = m2fp();
    bencher.bench(|| answer(&case, rle));
}

#[divan::bench]
fn m2fp_find(bencher: Bencher<'_, '_>) {
    let case = m2fp();
    bencher.bench(|| parsing::find(&case.view(), &case.manifest, None, BAND_ROWS));
}

#[divan::bench]
fn m2fp_bands(bencher: Bencher<'_, '_>) {
    let case = m2fp();
    let found = parsing::find(&case.view(), &case.manifest, None, BAND_ROWS);
    bencher.bench(|| parsing::bands(&case.view(), &case.manifest, &found, BAND_ROWS, &mut |_| Ok(())));
}

/// The label map of the packaged model's shape, whole.
fn labels() -> (Case, Vec<u8>) {
    let case = nano(LabelMap::Semantic);
    let mut labels = Vec::new();
    parsing::bands(&case.view(), &case.manifest, &Found::default(), BAND_ROWS, &mut |band| {
        labels.extend_from_slice(band.labels);
        Ok(())
    })
    .expect("a sink that succeeds");
    (case, labels)
}

#[divan::bench]
fn palette_png(bencher: Bencher<'_, '_>) {
    let (case, labels) = labels();
    bencher.bench(|| {
        let mut png = PalettePng::new(PHOTO, &case.manifest.palette())?;
        labels.chunks(1920 * BAND_ROWS as usize).try_for_each(|rows| png.push(rows))?;
        png.finish()
    });
}

/// A photograph's texture: smooth colours and some noise.
fn photo(size: Size) -> Rgb8 {
    let mut state = 1_u32;
    let mut data = Vec::with_capacity(size.area() as usize * 3);
    for i in 0..size.area() as u32 {
        let (x, y) = (i % size.width, i / size.width);
        for channel in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.push(((x * (channel + 1) + y * 2) / 16 % 240 + (state >> 28)) as u8);
        }
    }
    Rgb8 { size, data }
}

fn collect(case: &Case, mut sink: impl FnMut(&parsing::Band<'_>)) {
    parsing::bands(&case.view(), &case.manifest, &Found::default(), BAND_ROWS, &mut |band| {
        sink(band);
        Ok(())
    })
    .expect("a sink that succeeds");
}

#[divan::bench]
fn overlay_jpeg(bencher: Bencher<'_, '_>) {
    let case = nano(LabelMap::Semantic);
    let photo = photo(overlay_size(PHOTO));
    let mut labels = OverlayLabels::new(PHOTO);
    collect(&case, |band| labels.push(band));
    bencher.bench(|| labels.encode(&photo, &case.manifest.palette(), 0, 0.6));
}

#[divan::bench]
fn cutout_png(bencher: Bencher<'_, '_>) {
    let case = nano(LabelMap::Semantic);
    let photo = photo(PHOTO);
    let foreground = || {
        let mut foreground = Foreground::new(PHOTO, 0);
        collect(&case, |band| foreground.push(band));
        foreground
    };
    bencher.with_inputs(foreground).bench_values(|foreground| {
        let mut cutout = Cutout::new(foreground)?;
        for (y, row) in photo.data.chunks(1920 * 3).enumerate() {
            cutout.push(y as u32, row)?;
        }
        cutout.finish()
    });
}
