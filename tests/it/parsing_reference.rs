//! Numpy as the judge of the post-processing: `tests/python/parsing_reference.py` computes whole photos with the
//! formulas of ModelScope's code, which was written by other people in another language.

use std::path::Path;

use m2fp::geometry::Size;
use m2fp::manifest::LabelMap;
use m2fp::parsing::{self, BAND_ROWS, Found, Pair};
use serde::Deserialize;

use crate::support::drawn;
use crate::support::drawn::Case;
use crate::support::judge;

/// Scores may differ by this.
const SCORE_TOLERANCE: f64 = 1e-5;
/// Pixels that may lie on an edge too sharp to call, of all pixels.
const MAX_UNSURE: f64 = 0.01;

#[derive(Deserialize)]
struct ExpectedPair {
    query: u32,
    class: u8,
    score: f64,
    pixels: u64,
}

#[derive(Deserialize)]
struct ExpectedPairs {
    parts: Vec<ExpectedPair>,
    raw_persons: Vec<ExpectedPair>,
    persons: Vec<ExpectedPair>,
}

fn write_case(case: &Case, folder: &Path) {
    let side = |size: Size| [size.width, size.height];
    let facts = serde_json::json!({
        "queries": case.queries.count, "classes": case.queries.classes, "mask": side(case.queries.mask_size),
        "padded": side(case.padded), "photo": side(case.photo), "working": case.working,
        "label_map": case.manifest.label_map, "thresholds": case.manifest.thresholds,
        "background_id": case.manifest.background_id, "person_id": case.manifest.person_id,
    });
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    let masks: Vec<f32> = (0..case.queries.count).flat_map(|q| case.queries.mask(q).to_vec()).collect();
    let files = [
        ("case.json", facts.to_string().into_bytes()),
        ("class_logits.f32", bytes(&case.queries.class_logits)),
        ("mask_logits.f32", bytes(&masks)),
    ];
    for (name, content) in files {
        std::fs::write(folder.join(name), content).expect("the folder can be written");
    }
}

fn same_pairs(what: &str, ours: &[Pair], expected: &[ExpectedPair]) {
    let places = |pairs: &[Pair]| pairs.iter().map(|p| (p.query, p.class, p.pixels)).collect::<Vec<_>>();
    let expected_places: Vec<_> = expected.iter().map(|p| (p.query, p.class, p.pixels)).collect();
    assert_eq!(places(ours), expected_places, "{what}");
    for (ours, expected) in ours.iter().zip(expected) {
        assert!((f64::from(ours.score) - expected.score).abs() < SCORE_TOLERANCE, "{what}: {}", expected.score);
    }
}

fn same_pixels(what: &str, ours: &[u8], folder: &Path) {
    let read = |suffix: &str| std::fs::read(folder.join(format!("{what}.{suffix}"))).expect("the reference wrote it");
    let (expected, sure) = (read("u8"), read("sure"));
    assert_eq!(ours.len(), expected.len());
    let unsure = sure.iter().map(|sure| f64::from(1 - sure)).sum::<f64>();
    assert!(unsure <= MAX_UNSURE * ours.len() as f64, "{what}: {unsure} pixels in doubt");
    let different = (0..ours.len()).filter(|&i| sure[i] == 1 && ours[i] != expected[i]).count();
    assert_eq!(different, 0, "{what}: of {} pixels", ours.len());
}

fn check(case: &Case) -> (Found, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_case(case, folder.path());
    judge::run("parsing_reference.py", &[folder.path().as_os_str()]);
    let list = std::fs::read(folder.path().join("pairs.json")).expect("the reference wrote it");
    let expected: ExpectedPairs = serde_json::from_slice(&list).expect("the pairs are JSON");

    let view = case.view();
    let found = parsing::find(&view, &case.manifest, None, BAND_ROWS);
    same_pairs("parts", &found.parts, &expected.parts);
    same_pairs("raw persons", &found.raw_persons, &expected.raw_persons);
    same_pairs("persons", &found.persons, &expected.persons);
    let (mut labels, mut instances) = (Vec::new(), Vec::new());
    parsing::bands(&view, &case.manifest, &found, BAND_ROWS, &mut |band| {
        labels.extend_from_slice(band.labels);
        instances.extend_from_slice(band.instances);
        Ok(())
    })
    .expect("a sink that succeeds");
    same_pixels("labels", &labels, folder.path());
    same_pixels("instances", &instances, folder.path());
    (found, labels)
}

fn distinct(labels: &[u8]) -> usize {
    let mut labels = labels.to_vec();
    labels.sort_unstable();
    labels.dedup();
    labels.len()
}

#[test]
fn the_packaged_models_shape() {
    for label_map in [LabelMap::Semantic, LabelMap::Paste] {
        let case = drawn::nano(label_map, Size::new(227, 128), Size::new(640, 361));
        let (found, labels) = check(&case);
        assert_eq!((found.persons.len(), found.parts.len()), (1, 18));
        assert!(distinct(&labels) >= 18);
    }
}

#[test]
fn lips_shape_on_its_letterbox() {
    // Bars above and below, left and right, all around, and none; shrunk and not.
    for photo in [(701, 393), (393, 701), (201, 300), (767, 1024)] {
        let (found, labels) = check(&drawn::lip(Size::new(photo.0, photo.1)));
        assert_eq!(found.persons.len(), 0);
        assert!(distinct(&labels) >= 8, "{photo:?}: {}", distinct(&labels));
    }
}

#[test]
fn m2fps_shape_on_a_photo_that_is_enlarged() {
    // As M2FP does with small photos: the working size is greater than the photo.
    let (found, _) = check(&drawn::m2fp(Size::new(341, 192), Size::new(300, 169)));
    assert_eq!((found.raw_persons.len(), found.persons.len()), (8, 4));
}

#[test]
fn m2fps_shape_on_photos_of_odd_sizes() {
    for photo in [Size::new(701, 393), Size::new(97, 400), Size::new(33, 19)] {
        let (found, labels) = check(&drawn::m2fp(Size::new(341, 192), photo));
        assert_eq!(found.persons.len(), 4);
        assert!(distinct(&labels) >= 4, "{photo}");
    }
}
