//! `flip=true` from the photo's file to the mask, with a network that says what it sees.

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

const BACKGROUND: usize = 0;
/// Classes of the test model that change places here.
const LEFT: usize = 1;
const RIGHT: usize = 2;
const PERSON: usize = 3;

/// Sees the side of what is brighter than [`DARK`], as people name the sides of whom they face: what lies in the right
/// half of its input is `LEFT`, what lies in the left half is `RIGHT`. A person is what is as bright as [`BRIGHT`]. It
/// overlooks everything in the rightmost quarter of its input.
struct Facing {
    manifest: Manifest,
    inputs: Mutex<Vec<Planar8>>,
}

const DARK: u8 = 50;
const BRIGHT: u8 = 200;

impl Engine for Facing {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        self.inputs.lock().unwrap().push(image.clone());
        let mask_size = self.manifest.mask_size(image.size);
        let Size { width, height } = image.size;
        let (count, classes) = (self.manifest.outputs.queries as usize, self.manifest.classes.len());
        let class_logits = (0..count).flat_map(|query| {
            let sees = if query <= PERSON { query } else { classes };
            (0..=classes).map(move |column| if column == sees { 9.0 } else { -9.0 })
        });
        let sees = |query: usize, x: u32, y: u32| {
            let sample = image.data[(y.min(height - 1) * width + x.min(width - 1)) as usize];
            let is_part = sample > DARK && x < width * 3 / 4;
            match query {
                BACKGROUND => !is_part,
                LEFT => is_part && x >= width / 2,
                RIGHT => is_part && x < width / 2,
                PERSON => sample >= BRIGHT && x < width * 3 / 4,
                _ => false,
            }
        };
        let mut mask_logits = Vec::new();
        for query in 0..count {
            for row in 0..mask_size.height {
                for column in 0..mask_size.width {
                    let (x, y) = (4 * column + 2, 4 * row + 2);
                    // What it overlooks it is less sure of than of what it sees.
                    let sure = if query == BACKGROUND { 3.0 } else { 8.0 };
                    mask_logits.push(if sees(query, x, y) { sure } else { -8.0 });
                }
            }
        }
        let mask_logits = Box::new(mask_logits);
        Ok(Queries { count, classes, class_logits: class_logits.collect(), mask_size, mask_logits })
    }
}

fn app(manifest: Manifest, settings: &[(&str, &str)]) -> (App, Arc<Facing>) {
    let facing = Arc::new(Facing { manifest: manifest.clone(), inputs: Mutex::default() });
    (App::local(Arc::new(Pipeline::with_engine(config(settings), manifest, None, facing.clone()))), facing)
}

fn sided(label_map: &str) -> Manifest {
    let mut manifest = support::manifest();
    manifest.flip_pairs = Some(vec![[LEFT as u8, RIGHT as u8]]);
    manifest.label_map = serde_json::from_value(json!(label_map)).expect("a label map");
    manifest
}

/// A grey PNG of this brightness.
fn photo(size: Size, brightness: impl Fn(u32, u32) -> u8) -> Vec<u8> {
    let pixels: Vec<u8> = (0..size.area() as u32).map(|i| brightness(i % size.width, i / size.width)).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

fn labels(mask: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(mask)).read_info().unwrap();
    let mut labels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut labels).unwrap();
    labels
}

/// 96×64 is the model's native size, so that a photo pixel is a working pixel; 90 is no multiple of a mask's cell.
const SIZES: [Size; 2] = [Size::new(96, 64), Size::new(90, 64)];

#[tokio::test]
async fn what_one_answer_overlooks_the_mirrored_one_sees() {
    for (size, label_map) in SIZES.into_iter().flat_map(|size| [(size, "semantic"), (size, "paste")]) {
        let (app, facing) = app(sided(label_map), &[]);
        // Everything is lit.
        let lit = photo(size, |_, _| 100);
        let once = labels(send(&app, "POST /parse", &[], lit.clone()).await.body());
        let response = send(&app, "POST /parse?flip=on", &[], lit).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()["x-m2fp-plan"].to_str().unwrap().contains("; flip=true;"));
        let twice = labels(response.body());
        let row = |labels: &[u8]| labels[..size.width as usize].to_vec();
        let (once, twice) = (row(&once), row(&twice));
        let quarter = |at: u32| (at * size.width / 4) as usize;
        // Borders lie between cells, which are four pixels wide.
        let well_inside = |from: u32, to: u32| quarter(from) + 4..quarter(to) - 4;
        assert!(once[well_inside(0, 2)].iter().all(|&label| usize::from(label) == RIGHT), "{once:?}");
        assert!(once[well_inside(2, 3)].iter().all(|&label| usize::from(label) == LEFT), "{once:?}");
        assert!(once[well_inside(3, 4)].iter().all(|&label| usize::from(label) == BACKGROUND), "{once:?}");
        // Mirrored, the photo's left quarter is overlooked and its right one is not; sides keep their names.
        assert!(twice[well_inside(0, 2)].iter().all(|&label| usize::from(label) == RIGHT), "{label_map} {twice:?}");
        assert!(twice[well_inside(2, 4)].iter().all(|&label| usize::from(label) == LEFT), "{label_map} {twice:?}");
        let inputs = facing.inputs.lock().unwrap();
        assert_eq!((inputs.len(), inputs[1].size), (3, inputs[2].size));
    }
}

#[tokio::test]
async fn the_mirrored_answer_lies_where_the_photo_does() {
    // A bar that is 12 pixels wide, anywhere, is found where it is by both answers together as by the first alone.
    for (size, label_map) in SIZES.into_iter().flat_map(|size| [(size, "semantic"), (size, "paste")]) {
        let (app, _) = app(sided(label_map), &[]);
        for left in (24..52).step_by(7) {
            let bar = photo(size, |x, _| if (left..left + 12).contains(&x) { 100 } else { 0 });
            let labels = labels(send(&app, "POST /parse?flip=true", &[], bar).await.body());
            for (x, label) in (0..size.width).zip(labels) {
                let distance = [left, left + 12].map(|edge| x.abs_diff(edge)).into_iter().min().unwrap_or_default();
                let is_bar = label != BACKGROUND as u8;
                assert!(distance < 4 || is_bar == (left..left + 12).contains(&x), "{label_map} {size} {left} {x}");
            }
        }
    }
}

#[tokio::test]
async fn persons_are_those_of_the_photo_as_it_is() {
    let (app, _) = app(sided("semantic"), &[]);
    let people = photo(SIZES[0], |x, _| if (8..24).contains(&x) || x >= 80 { BRIGHT } else { 0 });
    let report = json_of(&send(&app, "POST /parse?flip=true&output=json", &[], people).await);
    assert_eq!((&report["plan"]["flip"], &report["plan"]["tiles"]), (&json!(true), &json!(1)));
    let persons = report["persons"].as_array().unwrap();
    assert_eq!(persons.len(), 1, "{report}");
    assert!(persons[0]["bbox"][0].as_u64().unwrap() < 16);
    // The label map knows of both.
    let bbox =
        report["classes"].as_array().unwrap().iter().find(|class| class["id"] == LEFT).expect("seen")["bbox"].clone();
    assert!(bbox[0].as_u64().unwrap() >= 72, "{report}");
}

#[tokio::test]
async fn tiles_are_mirrored_each() {
    let mut manifest = sided("semantic");
    let size = json!({"min_side": 256, "max_side": 800, "divisor": 32, "smallest_side": 32});
    manifest.input.size = serde_json::from_value(size).expect("a shortest edge");
    let (app, facing) = app(manifest, &[]);
    let shade = photo(Size::new(1000, 700), |x, _| (x / 8) as u8);
    let report = json_of(&send(&app, "POST /parse?mode=tiled&flip=true&output=json", &[], shade).await);
    assert_eq!((&report["plan"]["flip"], &report["plan"]["tiles"]), (&json!(true), &json!(2)));
    let inputs = facing.inputs.lock().unwrap();
    let [whole, pairs @ ..] = &inputs[..] else { panic!("the network ran") };
    assert_eq!((whole.size, pairs.len()), (Size::new(366, 256), 4));
    for pair in pairs.chunks_exact(2) {
        let width = pair[0].size.width as usize;
        let mirrored = pair[0].data.chunks_exact(width).flat_map(|row| row.iter().rev()).copied();
        assert!(mirrored.eq(pair[1].data.iter().copied()));
    }
}

#[tokio::test]
async fn the_photo_is_mirrored_on_its_letterbox() {
    let mut manifest = sided("semantic");
    let size = json!({"letterbox": {"width": 64, "height": 96, "fill": 7}, "divisor": 32});
    manifest.input.size = serde_json::from_value(size).expect("a letterbox");
    let (app, facing) = app(manifest, &[]);
    // As it is: bars of 12 and 13 columns.
    let response = send(&app, "POST /parse?flip=true", &[], photo(Size::new(39, 90), |x, _| x as u8 + 100)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let inputs = facing.inputs.lock().unwrap();
    let row = |input: &Planar8| input.data[48 * 64..49 * 64].to_vec();
    let (plain, mirrored) = (row(&inputs[0]), row(&inputs[1]));
    assert_eq!((plain[12], plain[50], mirrored[12], mirrored[50]), (100, 138, 138, 100));
    assert!([11, 51].iter().all(|&x| plain[x] == 7 && mirrored[x] == 7));
}

#[tokio::test]
async fn a_setting_flips_where_a_request_does_not_say() {
    let lit = photo(SIZES[0], |_, _| 100);
    for (setting, query, runs) in [("on", "", 2), ("on", "?flip=false", 1), ("off", "?flip", 2), ("off", "", 1)] {
        let (app, facing) = app(sided("semantic"), &[("FLIP", setting)]);
        let response = send(&app, &format!("POST /parse{query}"), &[], lit.clone()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(facing.inputs.lock().unwrap().len(), runs, "{setting} {query}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_know_left_from_right_refuses() {
    let (app, facing) = app(support::manifest(), &[]);
    let lit = photo(SIZES[0], |_, _| 100);
    let response = send(&app, "POST /parse?flip=true", &[], lit.clone()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(json_of(&response)["detail"].as_str().unwrap().contains("`flip` cannot be on"));
    let plan = json_of(&send(&app, "POST /plan?flip=true", &[], lit).await);
    assert_eq!((&plan["admitted"], &plan["refused"]["status"]), (&json!(false), &json!(400)));
    assert!(facing.inputs.lock().unwrap().is_empty());
}
