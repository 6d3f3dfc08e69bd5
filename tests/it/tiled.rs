//! `mode=tiled` from the photo's file to the mask, with a network that says what it sees.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use m2fp::engine::{Engine, Queries};
use m2fp::error::Result;
use m2fp::geometry::Size;
use m2fp::http::App;
use m2fp::image::Planar8;
use m2fp::manifest::Manifest;
use m2fp::pipeline::Pipeline;
use serde_json::{Value, json};

use crate::support::http as support;
use crate::support::http::{config, json_of, send};

const PHOTO: Size = Size::new(1000, 700);
/// Too fine for one run at the native size, plain at the photo's own.
const STRIPE: u32 = 9;
/// Background and the two parts.
const CLASSES: u32 = 3;

/// Tells classes by their brightness: where cells of 4 pixels are, as a network of that stride would.
struct Reader {
    manifest: Manifest,
    inputs: Mutex<Vec<Size>>,
}

impl Engine for Reader {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        self.inputs.lock().unwrap().push(image.size);
        let mask_size = self.manifest.mask_size(image.size);
        let (count, classes) = (self.manifest.outputs.queries as usize, self.manifest.classes.len());
        let class_logits = (0..count).flat_map(|query| {
            let sees = if query < CLASSES as usize { query } else { classes };
            (0..=classes).map(move |column| if column == sees { 9.0 } else { -9.0 })
        });
        let brightness = |column: u32, row: u32| {
            let (x, y) = ((4 * column + 2).min(image.size.width - 1), (4 * row + 2).min(image.size.height - 1));
            f32::from(image.data[(y * image.size.width + x) as usize]) / 100.0
        };
        let mut mask_logits = Vec::new();
        for query in 0..count {
            for row in 0..mask_size.height {
                for column in 0..mask_size.width {
                    mask_logits.push(4.0 - 16.0 * (brightness(column, row) - query as f32).abs());
                }
            }
        }
        Ok(Queries {
            count,
            classes,
            class_logits: class_logits.collect(),
            mask_size,
            mask_logits: Box::new(mask_logits),
        })
    }
}

fn app(settings: &[(&str, &str)]) -> (App, Arc<Reader>) {
    let mut manifest = support::manifest();
    let size = json!({"min_side": 256, "max_side": 800, "divisor": 32, "smallest_side": 32});
    manifest.input.size = serde_json::from_value(size).expect("a shortest edge");
    let reader = Arc::new(Reader { manifest: manifest.clone(), inputs: Mutex::default() });
    (App::local(Arc::new(Pipeline::with_engine(config(settings), manifest, None, reader.clone()))), reader)
}

/// Upright stripes in the left half, flat ones in the right: classes in turn.
fn truth(x: u32, y: u32) -> u8 {
    let along = if x < PHOTO.width / 2 { x } else { y };
    (along / STRIPE % CLASSES) as u8
}

fn striped() -> Vec<u8> {
    let mut pixels = Vec::new();
    for y in 0..PHOTO.height {
        pixels.extend((0..PHOTO.width).map(|x| truth(x, y) * 100));
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, PHOTO.width, PHOTO.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

/// The share of pixels whose label is true.
fn accuracy(mask: &[u8]) -> f64 {
    let mut reader = png::Decoder::new(std::io::Cursor::new(mask)).read_info().unwrap();
    let mut labels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut labels).unwrap();
    let places = (0..PHOTO.height).flat_map(|y| (0..PHOTO.width).map(move |x| (x, y)));
    let right = places.zip(&labels).filter(|&((x, y), &label)| truth(x, y) == label).count();
    right as f64 / PHOTO.area() as f64
}

#[tokio::test]
async fn tiles_see_what_one_run_cannot() {
    let (app, reader) = app(&[]);
    let whole = send(&app, "POST /parse", &[], striped()).await;
    assert_eq!(*reader.inputs.lock().unwrap(), [Size::new(366, 256)]);
    reader.inputs.lock().unwrap().clear();
    let tiled = send(&app, "POST /parse?mode=tiled", &[], striped()).await;
    assert_eq!((whole.status(), tiled.status()), (StatusCode::OK, StatusCode::OK));
    let plan = tiled.headers()["x-m2fp-plan"].to_str().unwrap();
    assert!(plan.starts_with("mode=tiled; photo=1000x700; working=732x512; tiles=2;"), "{plan}");
    assert_ne!(whole.headers()["etag"], tiled.headers()["etag"]);
    // Tiles begin at multiples of 32.
    let tiles = [Size::new(366, 256), Size::new(512, 512), Size::new(508, 512)];
    assert_eq!(*reader.inputs.lock().unwrap(), tiles);
    let (whole, tiled) = (accuracy(whole.body()), accuracy(tiled.body()));
    assert!(tiled > 0.8 && whole < tiled - 0.2, "{tiled} right in tiles, {whole} in one run");
}

#[tokio::test]
async fn every_output_is_made_of_tiles_too() {
    let (app, _) = app(&[]);
    for output in ["overlay", "instances", "cutout"] {
        let response = send(&app, &format!("POST /parse?mode=tiled&output={output}"), &[], striped()).await;
        assert_eq!(response.status(), StatusCode::OK, "{output}");
    }
    let report = json_of(&send(&app, "POST /parse?mode=tiled&output=json", &[], striped()).await);
    assert_eq!((&report["plan"]["mode"], &report["plan"]["tiles"]), (&json!("tiled"), &json!(2)));
    let timings = &report["timings_ms"];
    let stages = ["decode", "preprocess", "inference", "postprocess", "encode"];
    let sum: f64 = stages.iter().map(|stage| timings[stage].as_f64().unwrap()).sum();
    assert!(sum <= timings["total"].as_f64().unwrap(), "{timings}");
}

#[tokio::test]
async fn large_photos_are_tiled_unasked_where_that_is_set() {
    for (above, mode) in [("699999", "tiled"), ("700000", "auto"), ("off", "auto")] {
        let (app, _) = app(&[("TILE_ABOVE_PX", above)]);
        let plan = json_of(&send(&app, "POST /plan", &[], striped()).await);
        assert_eq!(plan["plan"]["mode"], mode, "{above}");
    }
}

#[tokio::test]
async fn a_model_with_a_letterbox_refuses_tiles() {
    let mut manifest = support::manifest();
    let size = json!({"letterbox": {"width": 64, "height": 96, "fill": 0}, "divisor": 32});
    manifest.input.size = serde_json::from_value(size).expect("a letterbox");
    let app = App::local(support::pipeline_of(manifest, &[], None));
    let response = send(&app, "POST /parse?mode=tiled", &[], striped()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(json_of(&response)["detail"].as_str().unwrap().contains("`mode` cannot be `tiled`"));
}

/// Sees as a person what is bright and hangs together, as far as it lies in its input, if that is at least as high as
/// [`LEAST_ROWS`] of its cells. All persons are `Coat`.
struct Spotter {
    manifest: Manifest,
}

const LEAST_ROWS: usize = 7;
const PERSON: usize = 3;

/// The cells of each bright thing, in reading order of their first cells.
fn things(bright: &[bool], width: usize) -> Vec<Vec<usize>> {
    let mut left = bright.to_vec();
    let mut things = Vec::new();
    for start in 0..left.len() {
        let mut thing = Vec::new();
        let mut next = vec![start];
        while let Some(cell) = next.pop() {
            if !std::mem::take(&mut left[cell]) {
                continue;
            }
            thing.push(cell);
            let (column, row) = (cell % width, cell / width);
            next.extend((column > 0).then(|| cell - 1));
            next.extend((column + 1 < width).then_some(cell + 1));
            next.extend((row > 0).then(|| cell - width));
            next.extend((cell + width < left.len()).then_some(cell + width));
        }
        if !thing.is_empty() {
            things.push(thing);
        }
    }
    things
}

impl Engine for Spotter {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        let mask_size = self.manifest.mask_size(image.size);
        let (columns, area) = (mask_size.width as usize, mask_size.area() as usize);
        let bright: Vec<bool> = (0..area as u32)
            .map(|cell| {
                let (x, y) = (4 * (cell % mask_size.width) + 2, 4 * (cell / mask_size.width) + 2);
                let is_inside = x < image.size.width && y < image.size.height;
                is_inside && image.data[(y * image.size.width + x) as usize] > 127
            })
            .collect();
        let rows = |thing: &[usize]| {
            let rows = thing.iter().map(|cell| cell / columns);
            rows.clone().max().unwrap_or_default() + 1 - rows.min().unwrap_or_default()
        };
        let persons: Vec<_> = things(&bright, columns).into_iter().filter(|one| rows(one) >= LEAST_ROWS).collect();
        let (count, classes) = (self.manifest.outputs.queries as usize, self.manifest.classes.len());
        assert!(persons.len() + 2 <= count, "a query for each of {} persons", persons.len());
        let (mut class_logits, mut mask_logits) = (Vec::new(), vec![-8.0; count * area]);
        for query in 0..count {
            let class = match query {
                0 => 0,
                1 => 2,
                _ if query < persons.len() + 2 => PERSON,
                _ => classes,
            };
            class_logits.extend((0..=classes).map(|column| if column == class { 9.0 } else { -9.0 }));
        }
        mask_logits[..area].fill(8.0);
        for (person, cells) in persons.iter().enumerate() {
            for &cell in cells {
                mask_logits[cell] = -8.0;
                mask_logits[area + cell] = 8.0;
                mask_logits[(person + 2) * area + cell] = 8.0;
            }
        }
        Ok(Queries { count, classes, class_logits, mask_size, mask_logits: Box::new(mask_logits) })
    }
}

/// A square photo. The network sees it at 400 pixels, in tiles at 800: rows and columns 0 to 512 and 288 to 800.
const STREET: Size = Size::new(1000, 1000);

/// [x, y, width, height]: whom the whole run sees as well, in one tile and cut by two others; whom one tile sees; whom
/// two tiles see whole; whom the edge of one column of tiles cuts, and whom that of one row cuts; whom the photo's edge
/// cuts.
const PEOPLE: [[u32; 4]; 6] = [
    [600, 700, 80, 180],
    [100, 100, 30, 50],
    [430, 130, 30, 50],
    [625, 60, 30, 50],
    [850, 615, 30, 50],
    [0, 300, 30, 50],
];

fn street() -> Vec<u8> {
    let is_bright = |x: u32, y: u32| {
        PEOPLE
            .iter()
            .any(|&[left, top, width, height]| (left..left + width).contains(&x) && (top..top + height).contains(&y))
    };
    let pixels: Vec<u8> = (0..STREET.area() as u32)
        .map(|i| if is_bright(i % STREET.width, i / STREET.width) { 255 } else { 0 })
        .collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, STREET.width, STREET.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

fn spotter(label_map: &str) -> App {
    let mut manifest = support::manifest();
    let size = json!({"min_side": 400, "max_side": 800, "divisor": 32, "smallest_side": 32});
    manifest.input.size = serde_json::from_value(size).expect("a shortest edge");
    manifest.label_map = serde_json::from_value(json!(label_map)).expect("a label map");
    manifest.flip_pairs = Some(Vec::new());
    manifest.outputs.queries = 12;
    let spotter = Arc::new(Spotter { manifest: manifest.clone() });
    App::local(Arc::new(Pipeline::with_engine(config(&[]), manifest, None, spotter)))
}

/// Whether a box is that of one of [`PEOPLE`], within a cell of the network's masks, which is 5 pixels of the photo in
/// tiles and 10 in one run.
fn is_box_of(found: &Value, person: [u32; 4], within: u32) -> bool {
    let found: Vec<u32> = found.as_array().unwrap().iter().map(|side| side.as_u64().unwrap() as u32).collect();
    let ends = |[left, top, width, height]: [u32; 4]| [left, top, left + width, top + height];
    let found = ends([found[0], found[1], found[2], found[3]]);
    found.iter().zip(ends(person)).all(|(a, b)| a.abs_diff(b) <= within)
}

#[tokio::test]
async fn persons_whom_tiles_see_are_added_once() {
    for (label_map, flip) in [("semantic", ""), ("paste", ""), ("semantic", "&flip=true")] {
        let app = spotter(label_map);
        let once = json_of(&send(&app, "POST /parse?output=json", &[], street()).await);
        assert_eq!(once["persons"].as_array().unwrap().len(), 1, "{once}");
        let path = format!("POST /parse?mode=tiled&output=json&rle=true{flip}");
        let report = json_of(&send(&app, &path, &[], street()).await);
        assert_eq!(report["plan"]["tiles"], 4);
        let persons = report["persons"].as_array().unwrap();
        assert_eq!(persons.len(), PEOPLE.len(), "{persons:?}");
        // The whole run's person comes first, as it was without tiles.
        assert_eq!(
            (&persons[0]["bbox"], &persons[0]["score"]),
            (&once["persons"][0]["bbox"], &once["persons"][0]["score"])
        );
        for (index, person) in PEOPLE.into_iter().enumerate() {
            let within = if index == 0 { 10 } else { 5 };
            let found: Vec<_> = persons.iter().filter(|found| is_box_of(&found["bbox"], person, within)).collect();
            assert_eq!(found.len(), 1, "{person:?} in {persons:?}");
            assert!(found[0]["score"].as_f64().unwrap() > 0.9);
            let rle = serde_json::from_value(found[0]["rle"].clone()).unwrap();
            let mask = m2fp::render::rle::decode(&rle).unwrap();
            let [left, top, width, height] = person;
            let inside = |at: &usize| {
                let (x, y) = ((at / STREET.height as usize) as u32, (at % STREET.height as usize) as u32);
                (left..left + width).contains(&x) && (top..top + height).contains(&y)
            };
            let pixels: Vec<usize> = (0..mask.len()).filter(|at| mask[*at]).collect();
            assert_eq!(pixels.len() as u64, found[0]["pixels"].as_u64().unwrap());
            let common = pixels.iter().filter(|at| inside(at)).count();
            let union = pixels.len() + (width * height) as usize - common;
            assert!(common * 10 > union * 7, "{person:?}: {common} of {union}");
            // The label map shows the part, and it is this person's.
            assert_eq!(found[0]["parts"][0]["class_id"], 2, "{found:?}");
        }
    }
}

#[tokio::test]
async fn every_output_has_the_persons_of_tiles() {
    let app = spotter("semantic");
    let report = json_of(&send(&app, "POST /parse?mode=tiled&output=json", &[], street()).await);
    let persons = report["persons"].as_array().unwrap();
    let instances = send(&app, "POST /parse?mode=tiled&output=instances", &[], street()).await;
    let mut reader = png::Decoder::new(std::io::Cursor::new(instances.body())).read_info().unwrap();
    let mut numbers = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut numbers).unwrap();
    for [left, top, width, height] in PEOPLE {
        let number = numbers[((top + height / 2) * STREET.width + left + width / 2) as usize];
        let person = &persons[usize::from(number) - 1];
        assert!(is_box_of(&person["bbox"], [left, top, width, height], 10), "{number}: {person}");
    }
    let coco = json_of(&send(&app, "POST /parse?mode=tiled&output=coco", &[], street()).await);
    let of_persons = coco["annotations"].as_array().unwrap().iter().filter(|one| one["category_id"] == PERSON);
    let told: Vec<_> = of_persons.map(|one| (&one["attributes"]["person"], &one["bbox"], &one["score"])).collect();
    assert_eq!(told, persons.iter().map(|one| (&one["id"], &one["bbox"], &one["score"])).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_score_that_is_asked_for_is_that_of_tiles_too() {
    let app = spotter("semantic");
    let report = json_of(&send(&app, "POST /parse?mode=tiled&output=json&score=1", &[], street()).await);
    assert_eq!(report["persons"], json!([]));
}
