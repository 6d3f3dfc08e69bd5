//! The post-processing written plainly: it takes the whole photo at once, in two explicit resize steps, with f64
//! values. The streamed implementation must equal it at every band height.

use proptest::prelude::*;

use super::{Answers, Found, Pair, View, bands, find};
use crate::engine::Queries;
use crate::geometry::{Region, Size};
use crate::manifest::{LabelMap, Manifest};

/// Where the plain post-processing is this close to deciding otherwise, its decision is not compared.
const CLOSE: f64 = 1e-5;

/// A manifest of `classes` classes, with class 0 as the background.
pub(super) fn manifest(label_map: LabelMap, classes: u8, person_id: Option<u8>) -> Manifest {
    let classes: Vec<_> =
        (0..classes).map(|id| serde_json::json!({"id": id, "name": format!("c{id}"), "color": [id, 0, 0]})).collect();
    serde_json::from_value(serde_json::json!({
        "schema": 1, "name": "m", "version": "1", "description": "", "licence": "MIT",
        "files": [{"path": "model.onnx", "sha256": "", "bytes": 0}],
        "input": {"name": "image", "dtype": "uint8",
            "size": {"min_side": 64, "max_side": 128, "divisor": 4, "smallest_side": 4}},
        "outputs": {"class_logits": "c", "mask_logits": "m", "queries": 6, "stride": 4},
        "classes": classes, "background_id": 0, "person_id": person_id, "label_map": label_map,
        "thresholds": {"top_k": 100, "part_score": 0.1, "person_score": 0.1, "paste_score": 0.5, "nms_iou": 0.7},
        "memory": {"load_mb": 0.0, "base_mb": 0.0, "bytes_per_pixel": 0.0},
        "time": {"base_ms": 0.0, "ns_per_pixel": 0.0, "threads": 1},
        "provenance": null, "accuracy": null
    }))
    .expect("a manifest")
}

pub(super) fn queries(classes: usize, class_logits: Vec<f32>, mask_size: Size, mask_logits: Vec<f32>) -> Queries {
    let count = class_logits.len() / (classes + 1);
    Queries { count, classes, class_logits, mask_size, mask_logits: Box::new(mask_logits) }
}

/// `F.interpolate(mode="bilinear", align_corners=False)` of one plane.
fn resize(plane: &[f64], from: Size, to: Size) -> Vec<f64> {
    let position = |input: u32, output: u32, i: u32| {
        let x = (input as f32 / output as f32 * (i as f32 + 0.5) - 0.5).max(0.0);
        let low = (x.floor() as u32).min(input - 1);
        (low, (low + 1).min(input - 1), f64::from(x - low as f32).clamp(0.0, 1.0))
    };
    let at = |x: u32, y: u32| plane[y as usize * from.width as usize + x as usize];
    let mut out = Vec::new();
    for y in 0..to.height {
        let (y0, y1, v) = position(from.height, to.height, y);
        for x in 0..to.width {
            let (x0, x1, u) = position(from.width, to.width, x);
            let above = at(x0, y0) * (1.0 - u) + at(x1, y0) * u;
            let below = at(x0, y1) * (1.0 - u) + at(x1, y1) * u;
            out.push(above * (1.0 - v) + below * v);
        }
    }
    out
}

fn crop(plane: &[f64], from: Size, to: Region) -> Vec<f64> {
    let rows = plane.chunks_exact(from.width as usize).skip(to.top as usize).take(to.size.height as usize);
    rows.flat_map(|row| row[to.left as usize..][..to.size.width as usize].to_vec()).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One label, and whether it is far enough from being another.
#[derive(Clone, Copy)]
struct Label {
    id: u8,
    sure: bool,
}

/// The id of the greatest of `values`, the first of equal ones. It is `sure` unless the best two are close or `close`
/// is set.
fn greatest(values: &[(u8, f64)], close: bool) -> Label {
    let mut best = values[0];
    for &value in &values[1..] {
        if value.1 > best.1 {
            best = value;
        }
    }
    let rival = values.iter().filter(|v| v.0 != best.0).any(|v| best.1 - v.1 < CLOSE && v.1 > 0.0);
    Label { id: best.0, sure: !rival && !close }
}

struct Whole {
    parts: Vec<Pair>,
    raw_persons: Vec<Pair>,
    persons: Vec<Pair>,
    maps: Maps,
    labels: Vec<Label>,
    instances: Vec<Label>,
    /// The logits of each query at the photo's size.
    logits: Vec<Vec<f64>>,
    /// Whether a score or a mask is too close to a threshold, or a score to the next, to be compared.
    doubtful: bool,
}

/// The reference's post-processing, on the whole photo.
fn whole(view: &View<'_>, manifest: &Manifest, min_score: Option<f32>) -> Whole {
    let logits = logits(view);
    let softmax = softmax(view.queries);

    let mut flat: Vec<(usize, u8, f64)> = Vec::new();
    for (q, row) in softmax.iter().enumerate() {
        flat.extend(row.iter().enumerate().map(|(c, &p)| (q, c as u8, p)));
    }
    flat.sort_by(|a, b| b.2.total_cmp(&a.2));
    flat.truncate(manifest.thresholds.top_k as usize);

    let t = &manifest.thresholds;
    let part_score = f64::from(min_score.unwrap_or(t.part_score));
    let person_score = f64::from(min_score.unwrap_or(t.person_score));
    let mut doubtful = logits.iter().flatten().any(|x| x.abs() < CLOSE);
    let (mut parts, mut raw_persons, mut pasted) = (Vec::new(), Vec::new(), Vec::new());
    for (q, class, p) in flat {
        let inside: Vec<f64> = logits[q].iter().copied().filter(|&x| x > 0.0).collect();
        let score = p * inside.iter().map(|&x| sigmoid(x)).sum::<f64>() / (inside.len() as f64 + 1e-6);
        let pair =
            Pair { query: q as u32, class, probability: p as f32, score: score as f32, pixels: inside.len() as u64 };
        let thresholds = [part_score, person_score, f64::from(t.paste_score)];
        doubtful |= thresholds.iter().any(|&least| least > 0.0 && (score - least).abs() < CLOSE);
        if Some(class) == manifest.person_id {
            if score > person_score {
                raw_persons.push(pair);
            }
            continue;
        }
        if class != manifest.background_id && score >= part_score {
            parts.push(pair);
        }
        if score >= f64::from(t.paste_score) {
            pasted.push((q, class, score));
        }
    }
    for list in [&mut parts, &mut raw_persons] {
        list.sort_by(|a: &Pair, b: &Pair| b.score.total_cmp(&a.score));
        doubtful |= list.windows(2).any(|pair| f64::from(pair[0].score - pair[1].score) < CLOSE);
    }

    let mut persons: Vec<Pair> = Vec::new();
    for person in &raw_persons {
        let same = persons.iter().any(|kept| {
            let both = logits[person.query as usize].iter().zip(&logits[kept.query as usize]);
            let (mut common, mut union) = (0.0, 0.0);
            for (&a, &b) in both {
                common += f64::from(u8::from(a > 0.0 && b > 0.0));
                union += f64::from(u8::from(a > 0.0 || b > 0.0));
            }
            common / union > f64::from(t.nms_iou)
        });
        if !same {
            persons.push(*person);
        }
    }

    let mut maps = match manifest.label_map {
        LabelMap::Paste => pasted_maps(view, manifest, &logits, &pasted),
        LabelMap::Semantic => semantic_maps(view, manifest, &softmax),
    };
    if let Some(view) = view.mirror() {
        let mirrored = whole(&view, manifest, min_score);
        doubtful |= mirrored.doubtful;
        maps.add_mirrored(&mirrored.maps, view.photo);
    }
    let competing = competing(manifest);
    let values = |i: usize| competing.iter().zip(&maps.values).map(|(&id, map)| (id, map[i])).collect::<Vec<_>>();
    let labels = (0..view.photo.area() as usize).map(|i| greatest(&values(i), maps.close[i])).collect();
    let instances = whose(view, &logits, &persons);
    Whole { parts, raw_persons, persons, maps, labels, instances, logits, doubtful }
}

/// The logits of each query at the photo's size.
fn logits(view: &View<'_>) -> Vec<Vec<f64>> {
    let logits = |q| resize(&crop(&padded(view, q), view.padded, view.working), view.working.size, view.photo);
    (0..view.queries.count).map(logits).collect()
}

/// The values of the competing classes at the photo's size.
struct Maps {
    /// `[classes][pixels]`.
    values: Vec<Vec<f64>>,
    /// Where a paste is close to its threshold, `[pixels]`.
    close: Vec<bool>,
}

impl Maps {
    /// Adds those of the mirrored photo.
    fn add_mirrored(&mut self, mirrored: &Self, photo: Size) {
        let width = photo.width as usize;
        for i in 0..photo.area() as usize {
            let from = i / width * width + width - 1 - i % width;
            self.close[i] |= mirrored.close[from];
            for (map, mirrored) in self.values.iter_mut().zip(&mirrored.values) {
                map[i] += mirrored[from];
            }
        }
    }
}

/// The logits of one query at the padded size.
fn padded(view: &View<'_>, query: usize) -> Vec<f64> {
    let plane: Vec<f64> = view.queries.mask(query).iter().map(|&x| f64::from(x)).collect();
    resize(&plane, view.queries.mask_size, view.padded)
}

/// The class probabilities, `[Q][C]`, without "no object".
fn softmax(queries: &Queries) -> Vec<Vec<f64>> {
    let row = |row: &[f32]| {
        let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row[..queries.classes].iter().map(|&x| f64::from(x).exp() / total).collect()
    };
    queries.class_logits.chunks(queries.classes + 1).map(row).collect()
}

/// The classes that the label map may show.
fn competing(manifest: &Manifest) -> Vec<u8> {
    manifest.classes.iter().map(|c| c.id).filter(|&id| Some(id) != manifest.person_id).collect()
}

/// The mean over each class's pastes. `pasted` holds (query, class, score).
fn pasted_maps(view: &View<'_>, manifest: &Manifest, logits: &[Vec<f64>], pasted: &[(usize, u8, f64)]) -> Maps {
    let mut close = vec![false; view.photo.area() as usize];
    let mut map = |&id: &u8| {
        let mut mean = |(i, close): (usize, &mut bool)| {
            let (mut sum, mut times) = (0.0, 0.0_f64);
            for (q, _, score) in pasted.iter().filter(|pair| pair.1 == id) {
                let value = sigmoid(logits[*q][i]) * score;
                *close |= (value - 0.5).abs() < CLOSE;
                if value > 0.5 {
                    sum += value;
                    times += 1.0;
                }
            }
            sum / times.max(1.0)
        };
        close.iter_mut().enumerate().map(&mut mean).collect()
    };
    let values = competing(manifest).iter().map(&mut map).collect();
    Maps { values, close }
}

/// Each class's Σ softmax · sigmoid, taken at the padded size, cropped and resampled.
fn semantic_maps(view: &View<'_>, manifest: &Manifest, softmax: &[Vec<f64>]) -> Maps {
    let map = |&id: &u8| {
        let mut sum = vec![0.0; view.padded.area() as usize];
        for (q, shares) in softmax.iter().enumerate() {
            for (sum, x) in sum.iter_mut().zip(padded(view, q)) {
                *sum += shares[usize::from(id)] * sigmoid(x);
            }
        }
        resize(&crop(&sum, view.padded, view.working), view.working.size, view.photo)
    };
    let values = competing(manifest).iter().map(map).collect();
    Maps { values, close: vec![false; view.photo.area() as usize] }
}

/// The person with the greatest p·score at each pixel.
fn whose(view: &View<'_>, logits: &[Vec<f64>], persons: &[Pair]) -> Vec<Label> {
    let label = |i: usize| {
        let claim = |p: &Pair| {
            let x = logits[p.query as usize][i];
            if x > 0.0 { sigmoid(x) * f64::from(p.score) } else { 0.0 }
        };
        let claims = persons.iter().enumerate().map(|(n, p)| (n as u8 + 1, claim(p)));
        greatest(&std::iter::once((0, 0.0)).chain(claims).collect::<Vec<_>>(), false)
    };
    (0..view.photo.area() as usize).map(label).collect()
}

/// What the two streamed passes say.
#[derive(Debug, PartialEq)]
struct Streamed {
    parts: Vec<Pair>,
    raw_persons: Vec<Pair>,
    persons: Vec<Pair>,
    labels: Vec<u8>,
    instances: Vec<u8>,
    /// The persons' own masks.
    masks: Vec<Vec<bool>>,
}

fn streamed(view: &View<'_>, manifest: &Manifest, min_score: Option<f32>, band_rows: u32) -> Streamed {
    let found = find(view, manifest, min_score, band_rows);
    let (mut labels, mut instances) = (Vec::new(), Vec::new());
    let mut masks = vec![Vec::new(); found.persons.len()];
    let mut next = 0;
    bands(view, manifest, &found, band_rows, &mut |band| {
        assert_eq!((band.y, band.width), (next, view.photo.width));
        next += band.rows;
        labels.extend_from_slice(band.labels);
        instances.extend_from_slice(band.instances);
        for (person, mask) in masks.iter_mut().enumerate() {
            for row in 0..band.rows as usize {
                let bits = band.mask_row(person, row);
                mask.extend((0..band.width as usize).map(|x| bits[x / 64] >> (x % 64) & 1 == 1));
                let past = bits.len() * 64 - band.width as usize;
                assert!(past == 0 || bits[bits.len() - 1] >> (64 - past) == 0);
            }
        }
        Ok(())
    })
    .expect("the sink succeeds");
    assert_eq!(next, view.photo.height);
    let Found { parts, raw_persons, persons, .. } = found;
    Streamed { parts, raw_persons, persons, labels, instances, masks }
}

fn same_pairs(streamed: &[Pair], whole: &[Pair]) -> Result<(), TestCaseError> {
    let key = |pair: &Pair| (pair.query, pair.class, pair.pixels);
    prop_assert_eq!(streamed.iter().map(key).collect::<Vec<_>>(), whole.iter().map(key).collect::<Vec<_>>());
    for (a, b) in streamed.iter().zip(whole) {
        prop_assert!((a.score - b.score).abs() < 1e-5, "{a:?} {b:?}");
        prop_assert!((a.probability - b.probability).abs() < 1e-5, "{a:?} {b:?}");
    }
    Ok(())
}

fn same_labels(streamed: &[u8], whole: &[Label]) -> Result<(), TestCaseError> {
    prop_assert_eq!(streamed.len(), whole.len());
    for (i, (a, b)) in streamed.iter().zip(whole).enumerate() {
        prop_assert!(!b.sure || *a == b.id, "pixel {i}: {a}, not {}", b.id);
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Case {
    manifest: Manifest,
    classes: u8,
    mask: Size,
    /// Class logits and mask logits of the photo, and of the mirrored photo where there is such an answer.
    plain: (Vec<f32>, Vec<f32>),
    mirrored: Option<(Vec<f32>, Vec<f32>)>,
    stride: u32,
    /// The padding to the left and above, then to the right and below.
    before: (u32, u32),
    after: (u32, u32),
    photo: Size,
    min_score: Option<f32>,
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (
        1usize..7,
        2u8..6,
        (1u32..9, 1u32..9),
        prop_oneof![Just(1u32), Just(2), Just(4)],
        (prop_oneof![Just((0, 0)), (0u32..7, 0u32..7)], (0u32..5, 0u32..5)),
        prop_oneof![(1u32..24, 1u32..24), (100u32..300, 1u32..12)],
    );
    let choices = (any::<bool>(), any::<bool>(), prop_oneof![Just(None), Just(Some(0.0)), Just(Some(0.4))], 1u32..30);
    (shape, choices).prop_flat_map(|((count, classes, mask, stride, (before, after), photo), choices)| {
        let (semantic, has_person, min_score, top_k) = choices;
        let label_map = if semantic { LabelMap::Semantic } else { LabelMap::Paste };
        let person = has_person.then_some(classes - 1);
        let mask = Size::new(mask.0, mask.1);
        let class_logits = prop::collection::vec(-3.0f32..6.0, count * (usize::from(classes) + 1));
        // Masks have mixed signs, or are all negative and so empty, or all positive, so that persons share them.
        let plane = mask.area() as usize;
        let one = prop_oneof![
            prop::collection::vec(-6.0f32..6.0, plane),
            prop::collection::vec(-6.0f32..-0.1, plane),
            prop::collection::vec(0.5f32..8.0, plane),
        ];
        let masks = prop::collection::vec(one, count).prop_map(|masks| masks.concat());
        let answer = (class_logits, masks);
        (answer.clone(), prop::option::of(answer)).prop_map(move |(plain, mirrored)| {
            let mut manifest = manifest(label_map, classes, person);
            manifest.thresholds.top_k = top_k;
            Case {
                manifest,
                classes,
                mask,
                plain,
                mirrored,
                stride,
                before,
                after,
                photo: Size::new(photo.0, photo.1),
                min_score,
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_global_rejects: 4096, ..ProptestConfig::default() })]

    #[test]
    fn streaming_equals_whole_at_every_band_height(case in case()) {
        let answer = |(class_logits, masks)| queries(case.classes.into(), class_logits, case.mask, masks);
        let answers = Answers { plain: answer(case.plain), mirrored: case.mirrored.map(answer) };
        let padded = Size::new(case.mask.width * case.stride, case.mask.height * case.stride);
        let side = |padded: u32, before: u32, after: u32| {
            let first = before.min(padded - 1);
            (first, (padded - first).saturating_sub(after).max(1))
        };
        let (left, width) = side(padded.width, case.before.0, case.after.0);
        let (top, height) = side(padded.height, case.before.1, case.after.1);
        let working = Region { left, top, size: Size::new(width, height) };
        let view = View::of(&answers, padded, working, case.photo).expect("a sound geometry");

        let whole = whole(&view, &case.manifest, case.min_score);
        prop_assume!(!whole.doubtful);
        let first = streamed(&view, &case.manifest, case.min_score, 1);
        same_pairs(&first.parts, &whole.parts)?;
        same_pairs(&first.raw_persons, &whole.raw_persons)?;
        same_pairs(&first.persons, &whole.persons)?;
        same_labels(&first.labels, &whole.labels)?;
        same_labels(&first.instances, &whole.instances)?;
        for (mask, person) in first.masks.iter().zip(&whole.persons) {
            let expected: Vec<bool> = whole.logits[person.query as usize].iter().map(|&x| x > 0.0).collect();
            prop_assert_eq!(mask, &expected);
        }
        for band_rows in 2..=case.photo.height + 1 {
            prop_assert_eq!(&streamed(&view, &case.manifest, case.min_score, band_rows), &first, "{} rows", band_rows);
        }
    }
}

#[test]
fn an_unsound_geometry_is_refused() {
    let size = Size::new(2, 2);
    let queries = queries(2, vec![0.0; 3], size, vec![0.0; 4]);
    let padded = Size::new(8, 8);
    assert!(View::new(&queries, padded, padded, size).is_ok());
    assert!(View::new(&queries, Size::new(9, 8), padded, size).is_err());
    assert!(View::new(&queries, padded, Size::new(9, 8), size).is_err());
    let inside = Region { left: 5, top: 0, size: Size::new(3, 8) };
    assert!(View::new(&queries, padded, inside, size).is_ok());
    assert!(View::new(&queries, padded, Region { left: 6, ..inside }, size).is_err());
    assert!(View::new(&queries, padded, Region { top: 1, ..inside }, size).is_err());
    assert!(View::new(&queries, padded, padded, Size::new(0, 1)).is_err());
}

#[test]
fn a_failing_sink_ends_the_pass() {
    let size = Size::new(2, 2);
    let queries = queries(2, vec![0.0; 3], size, vec![0.0; 4]);
    let view = View::new(&queries, size, size, Size::new(4, 40)).expect("a sound geometry");
    let manifest = manifest(LabelMap::Paste, 2, None);
    let mut calls = 0;
    let result = bands(&view, &manifest, &Found::default(), 8, &mut |_| {
        calls += 1;
        Err(crate::error::Error::bad_request("no"))
    });
    assert!(result.is_err());
    assert_eq!(calls, 1);
}
