//! A model whose photos lie on a letterbox, from the photo's file to the mask.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use m2fp::engine::{Engine, Queries};
use m2fp::error::Result;
use m2fp::geometry::Size;
use m2fp::http::App;
use m2fp::image::{Planar8, decode, header};
use m2fp::manifest::Manifest;
use m2fp::pipeline::Pipeline;
use serde_json::json;

use crate::support::fake_engine::FakeEngine;
use crate::support::http as support;
use crate::support::http::{config, json_of, photo, send};

const FILL: u8 = 77;

fn letterboxed() -> Manifest {
    let mut manifest = support::manifest();
    let size = json!({"letterbox": {"width": 64, "height": 96, "fill": FILL}, "divisor": 32});
    manifest.input.size = serde_json::from_value(size).expect("a letterbox");
    manifest
}

/// The fake network, and what it was given.
struct Seen {
    fake: FakeEngine,
    inputs: Mutex<Vec<Planar8>>,
}

impl Engine for Seen {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        self.inputs.lock().unwrap().push(image.clone());
        self.fake.infer(image)
    }
}

fn app(manifest: Manifest) -> (App, Arc<Seen>) {
    let seen = Arc::new(Seen { fake: FakeEngine::new(manifest.clone()), inputs: Mutex::default() });
    let pipeline = Pipeline::with_engine(config(&[]), manifest, None, seen.clone());
    (App::local(Arc::new(pipeline)), seen)
}

#[tokio::test]
async fn the_network_sees_the_photo_in_the_middle_of_its_letterbox() {
    let (app, seen) = app(letterboxed());
    // Shrunk to 64×32 with bars of 32 rows; as it is, with bars of 12 and 13 columns and of 28 rows.
    for (size, left, top, working) in [((200, 100), 0, 32, (64, 32)), ((39, 40), 12, 28, (39, 40))] {
        let file = photo(size.0, size.1);
        let working = Size::new(working.0, working.1);
        let response = send(&app, "POST /parse", &[], file.clone()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let input = seen.inputs.lock().unwrap().pop().expect("the network ran");
        assert_eq!(input.size, Size::new(64, 96));

        let header = header::read(&file, 1 << 20).expect("a photo");
        let resized = decode::resized(&file.clone().into(), &header, working).expect("a photo");
        for y in 0..96_usize {
            for x in 0..64_usize {
                let inside = x.checked_sub(left).zip(y.checked_sub(top));
                let inside = inside.filter(|&(x, y)| x < working.width as usize && y < working.height as usize);
                for channel in 0..3 {
                    let expected =
                        inside.map_or(FILL, |(x, y)| resized.data[(y * working.width as usize + x) * 3 + channel]);
                    assert_eq!(input.data[(channel * 96 + y) * 64 + x], expected, "{x}, {y}, {channel}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_answer_is_the_part_of_the_letterbox_where_the_photo_lies() {
    let (app, _) = app(letterboxed());
    // The fake network's people take the middle of the letterbox's halves, 0.1 to 0.9 of its height; the upper quarter is
    // hair, which lies on the bar above this photo.
    let response = send(&app, "POST /parse?output=json", &[], photo(200, 100)).await;
    let report = json_of(&response);
    let names: Vec<_> = report["classes"].as_array().unwrap().iter().map(|class| class["name"].clone()).collect();
    assert_eq!(names, ["Background", "Coat"], "{report}");
    assert_eq!((&report["plan"]["working_width"], &report["plan"]["working_height"]), (&json!(64), &json!(32)));
    let boxes: Vec<_> = report["persons"].as_array().unwrap().iter().map(|person| person["bbox"].clone()).collect();
    for [x, y, width, height] in boxes.iter().map(|bbox| [0, 1, 2, 3].map(|i| bbox[i].as_f64().unwrap())) {
        // From top to bottom, 0.3 of the width each.
        assert_eq!((y, height), (0.0, 100.0));
        assert!((width - 60.0).abs() < 14.0 && [20.0, 120.0].iter().any(|left| (x - left).abs() < 8.0), "{boxes:?}");
    }
    assert_eq!(boxes.len(), 2);
}

#[tokio::test]
async fn too_little_memory_refuses_and_says_what_is_enough() {
    let mut manifest = letterboxed();
    manifest.memory.bytes_per_pixel = f64::from(1 << 20);
    let (app, seen) = app(manifest);
    let response = send(&app, "POST /parse", &[], photo(200, 100)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let detail = json_of(&response)["detail"].to_string();
    assert!(detail.contains("at 64×96, the only size of this model"), "{detail}");
    assert!(seen.inputs.lock().unwrap().is_empty());
}
