//! What the function knows of a photo before it answers, for judges in other languages.
//!
//! `raw_queries MODEL_DIR PHOTO OUT_DIR` runs the photo through the pipeline as every door does, and writes
//! | file | holds |
//! |---|---|
//! | `index.json` | sizes, the arrays' shapes, and the pairs: parts, then persons, nothing suppressed |
//! | `class_logits.f32`, `mask_logits.f32` | `[Q, C+1]` and `[Q, h, w]`, the network's answer |
//! | `labels.u8` | `[H, W]`, the palette PNG's indices |
//! | `masks.u64` | `[pairs, H, words]`: pixel x of a row is bit x % 64 of word x / 64 |
//!
//! Arrays are row-major and little-endian.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use m2fp::config::Config;
use m2fp::engine::ort::OrtEngine;
use m2fp::engine::{Engine, Queries};
use m2fp::error::Result;
use m2fp::geometry::Size;
use m2fp::image::Planar8;
use m2fp::manifest::Manifest;
use m2fp::options::{Options, OutputKind, RawOptions};
use m2fp::parsing::{self, BAND_ROWS, Pair, View};
use m2fp::pipeline::{Context, Outcome, Pipeline, Source};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, photo, out] = &arguments[..] else { anyhow::bail!("usage: raw_queries MODEL_DIR PHOTO OUT_DIR") };
    let (manifest, outcome, queries) = run(model, photo).await?;
    let plan = &outcome.plan;
    ensure!(plan.warnings.is_empty(), "{}: {}", photo.display(), plan.warnings.join("; "));
    let view = View::new(&queries, plan.geometry.padded, plan.geometry.photo, plan.photo)?;
    let raw = Raw::of(&view, &manifest)?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let write = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    write("class_logits.f32", &bytes_of(queries.class_logits.iter().map(|x| x.to_le_bytes())))?;
    write("mask_logits.f32", &bytes_of((*queries.mask_logits).as_ref().iter().map(|x| x.to_le_bytes())))?;
    write("labels.u8", &palette_indices(&outcome, plan.photo)?)?;
    write("masks.u64", &bytes_of(raw.masks.iter().map(|x| x.to_le_bytes())))?;
    let sides = |size: Size| [size.width, size.height];
    let index = json!({
        "photo": sides(plan.photo), "working": sides(plan.working), "padded": sides(plan.geometry.padded),
        "mask": sides(queries.mask_size), "queries": queries.count, "columns": queries.classes + 1,
        "words": plan.photo.width.div_ceil(64), "pairs": raw.pairs,
    });
    write("index.json", &serde_json::to_vec_pretty(&index)?)
}

/// The pipeline's answer, and what the network gave it.
async fn run(model: &Path, photo: &Path) -> anyhow::Result<(Manifest, Outcome, Queries)> {
    let mut config = Config::from_env()?;
    model.clone_into(&mut config.model_dir);
    let manifest = Manifest::read(model)?;
    let engine =
        Arc::new(Recorder { engine: OrtEngine::load(model, &manifest, config.threads)?, last: Mutex::new(None) });
    let pipeline = Pipeline::with_engine(config, manifest.clone(), None, Arc::clone(&engine) as Arc<dyn Engine>);
    let options = Options::check(&RawOptions::default(), &[OutputKind::Mask])?;
    let context = Context { request_id: "raw".to_owned(), deadline: None };
    let bytes = std::fs::read(photo).with_context(|| photo.display().to_string())?;
    let prepared = pipeline.begin(&context).prepare(Source::Bytes(bytes.into()), options).await?;
    let outcome = pipeline.begin(&context).run(prepared).await?;
    let queries = engine.last.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok((manifest, outcome, queries.context("the pipeline did not run the network")?))
}

/// An engine that keeps a copy of its last answer.
struct Recorder {
    engine: OrtEngine,
    last: Mutex<Option<Queries>>,
}

impl Engine for Recorder {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        let queries = self.engine.infer(image)?;
        let copy = Queries {
            class_logits: queries.class_logits.clone(),
            mask_logits: Box::new((*queries.mask_logits).as_ref().to_vec()),
            ..queries
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        Ok(queries)
    }
}

/// The raw list and its masks.
struct Raw {
    pairs: Vec<Value>,
    /// `[pairs, H, words]`.
    masks: Vec<u64>,
}

impl Raw {
    fn of(view: &View<'_>, manifest: &Manifest) -> anyhow::Result<Self> {
        let mut found = parsing::find(view, manifest, None, BAND_ROWS);
        let parts = found.parts.iter().map(|pair| describe("part", pair));
        let persons = found.raw_persons.iter().map(|pair| describe("person", pair));
        let pairs: Vec<Value> = parts.chain(persons).collect();
        // Bands carry the masks of `persons`: every pair is one for once.
        found.persons = found.parts.iter().chain(&found.raw_persons).copied().collect();
        let photo = view.photo();
        let words = photo.width.div_ceil(64) as usize;
        let plane = words * photo.height as usize;
        let mut masks = vec![0; pairs.len() * plane];
        parsing::bands(view, manifest, &found, BAND_ROWS, &mut |band| {
            for (pair, mask) in masks.chunks_exact_mut(plane).enumerate() {
                for row in 0..band.rows as usize {
                    mask[(band.y as usize + row) * words..][..words].copy_from_slice(band.mask_row(pair, row));
                }
            }
            Ok(())
        })?;
        Ok(Self { pairs, masks })
    }
}

fn describe(kind: &str, pair: &Pair) -> Value {
    json!({
        "kind": kind, "query": pair.query, "class": pair.class, "probability": pair.probability,
        "score": pair.score, "pixels": pair.pixels,
    })
}

/// The class ids that the answer's mask shows.
fn palette_indices(outcome: &Outcome, photo: Size) -> anyhow::Result<Vec<u8>> {
    let mask = outcome.outputs.iter().find(|output| output.kind == OutputKind::Mask).context("no mask was made")?;
    let mut reader = png::Decoder::new(std::io::Cursor::new(&mask.bytes)).read_info()?;
    let mut indices = vec![0; reader.output_buffer_size().context("the mask is too large")?];
    let frame = reader.next_frame(&mut indices)?;
    ensure!((frame.width, frame.height) == (photo.width, photo.height), "the mask is not of the photo's size");
    ensure!((frame.color_type, frame.bit_depth) == (png::ColorType::Indexed, png::BitDepth::Eight));
    Ok(indices)
}

fn bytes_of<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    values.flatten().collect()
}
