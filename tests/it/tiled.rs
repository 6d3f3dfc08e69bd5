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
use serde_json::json;

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
