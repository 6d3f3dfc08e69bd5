//! `m2fp calibrate MODEL_DIR`: measures what a model takes, and writes it into its manifest.
//!
//! Each size runs in a process of its own, which holds the model and one image and nothing else, so what the process
//! grows by is what the network takes. Constants are fitted to a grid of sizes and then held against sizes beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::say;
use crate::engine::ort::OrtEngine;
use crate::engine::{Engine, Queries};
use crate::geometry::Size;
use crate::image::Planar8;
use crate::manifest::{FILE_NAME, Manifest, Memory, ProcessorKind, SizeRule, Time};
use crate::memory::budget::MARGIN_BYTES;
use crate::parsing::{self, BAND_ROWS, View};
use crate::sys;
use crate::units::{MIB, whole_mb};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Model folder; its manifest takes over the memory and, for this kind of processor, the times.
    #[arg(value_name = "MODEL_DIR")]
    folder: PathBuf,
    /// What the processes that measure are called with.
    #[arg(long, hide = true, value_names = ["WIDTH", "HEIGHT"], num_args = 2)]
    measure: Option<Vec<u32>>,
}

/// Runs at each size after the first, which brings the weights into memory.
const RUNS: usize = 3;

/// Shapes of the grid's photos, width over height, and the parts of the way from the smallest working size to the native
/// one that they are run at.
const GRID: ([(u32, u32); 3], [f64; 4]) = ([(1, 1), (16, 9), (9, 16)], [0.0, 0.35, 0.7, 1.0]);

/// The same for the photos with which the fitted constants are checked.
const CHECKS: ([(u32, u32); 2], [f64; 3]) = ([(4, 3), (2, 1)], [0.2, 0.55, 0.9]);

/// The greatest error of a prediction, in percent of what the process holds at that time.
const TOLERANCE_PERCENT: f64 = 10.0;

/// The figures that one process measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sample {
    /// Of the padded input.
    pixels: u64,
    /// What the process held beside the image when the model had run once and was idle, less its own memory at start.
    load_bytes: u64,
    /// What loading held at its peak, likewise.
    load_peak_bytes: u64,
    load_ms: f64,
    /// What a run added at its peak.
    run_bytes: u64,
    /// Median of the runs.
    run_ms: f64,
    /// Post-processing, per pixel of a large photo and thread.
    post_ns: f64,
}

pub fn run(arguments: &Arguments, threads: usize) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let mut manifest = Manifest::read(folder)?;
    if let Some(side) = &arguments.measure {
        let sample = measure(folder, &manifest, Size::new(side[0], side[1]), threads)?;
        say::json(&sample)?;
        return Ok(ExitCode::SUCCESS);
    }
    let samples = measure_all(folder, &working_sizes(&manifest, &GRID))?;
    let (memory, time) = fit(&samples, threads);
    // The model's own size alone has nothing beside it.
    let checks = match manifest.input.size {
        SizeRule::ShortestEdge(_) => measure_all(folder, &working_sizes(&manifest, &CHECKS))?,
        SizeRule::Letterbox(_) => samples,
    };
    let off = checks.iter().map(|sample| print(sample, &memory, &time)).collect::<anyhow::Result<Vec<_>>>()?;
    let worst = off.into_iter().fold(0.0, f64::max);
    say::line(format_args!(
        "load {:.0} MB, {:.0} at its peak, and {:.0} ms; a run {:.1} MB and {:.0} bytes a pixel, {:.1} ms and {:.0} ns a pixel on {threads} threads; post-processing {:.0} ns a pixel",
        memory.load_mb,
        memory.load_peak_mb,
        time.load_ms,
        memory.base_mb,
        memory.bytes_per_pixel,
        time.base_ms,
        time.ns_per_pixel,
        time.post_ns_per_pixel
    ))?;
    for sample in &checks {
        let over = sample.run_bytes.saturating_sub(memory.run_bytes(sample.pixels));
        ensure!(over <= MARGIN_BYTES, "a run took {} MB more than predicted; nothing is written", whole_mb(over));
    }
    manifest.take(&memory, &time);
    write(folder, &manifest)?;
    if worst > TOLERANCE_PERCENT {
        say::note(format_args!("the constants are written, but one prediction is {worst:.0} % off"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The padded inputs' sizes, smallest first, each once.
fn working_sizes(manifest: &Manifest, (shapes, parts): &(impl AsRef<[(u32, u32)]>, impl AsRef<[f64]>)) -> Vec<Size> {
    let mut sizes = Vec::new();
    for (width, height) in shapes.as_ref() {
        // Large enough to be shrunk by every rule.
        let photo = Size::new(width * 4000, height * 4000);
        for part in parts.as_ref() {
            let at_most = match manifest.input.size {
                SizeRule::ShortestEdge(rule) => {
                    let native = manifest.input.size.native(photo);
                    let short = f64::from(rule.smallest_side)
                        + part * (f64::from(native.short_side()) - f64::from(rule.smallest_side));
                    f64::from(native.long_side()) * short.max(1.0) / f64::from(native.short_side())
                }
                SizeRule::Letterbox(_) => f64::INFINITY,
            };
            sizes.push(manifest.geometry(manifest.input.size.at_most(photo, at_most as u32)).input);
        }
    }
    sizes.sort_unstable_by_key(|size| (size.area(), size.width));
    sizes.dedup();
    sizes
}

fn measure_all(folder: &Path, sizes: &[Size]) -> anyhow::Result<Vec<Sample>> {
    sizes.iter().map(|size| measure_apart(folder, *size)).collect()
}

/// Measures one size in a process of its own.
fn measure_apart(folder: &Path, size: Size) -> anyhow::Result<Sample> {
    let executable = std::env::current_exe()?;
    let sides = [size.width.to_string(), size.height.to_string()];
    let run = Command::new(executable).arg("calibrate").arg(folder).arg("--measure").args(sides).output()?;
    if !run.status.success() {
        bail!("measuring {size}: {}", String::from_utf8_lossy(&run.stderr).trim());
    }
    serde_json::from_slice(&run.stdout).with_context(|| format!("measuring {size}"))
}

fn measure(folder: &Path, manifest: &Manifest, input: Size, threads: usize) -> anyhow::Result<Sample> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let at_start = sys::anonymous_bytes();
    sys::reset_peak();
    let start = Instant::now();
    let engine = OrtEngine::load(folder, manifest, threads)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let load_peak = sys::peak_rss_bytes();
    // The photo is grey noise. Networks are not faster on an empty image, but a quantised one would see fewer of its
    // values.
    let noise = |index: usize| (index as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    let image = Planar8 { size: input, data: (0..input.area() as usize * 3).map(noise).collect() };
    let infer = || engine.infer(&image).map_err(|error| anyhow::anyhow!(error.chain()));
    drop(infer()?);
    sys::release_memory();
    let idle = sys::resident_bytes();
    let (mut run_bytes, mut times) = (0, Vec::new());
    for _ in 0..RUNS {
        sys::reset_peak();
        let start = Instant::now();
        let queries = infer()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        run_bytes = run_bytes.max(sys::peak_rss_bytes().saturating_sub(idle));
        drop(queries);
        sys::release_memory();
    }
    times.sort_unstable_by(f64::total_cmp);
    let crowd = crowd(&infer()?, manifest);
    Ok(Sample {
        pixels: input.padded_to(manifest.input.size.divisor()).area(),
        load_bytes: idle.saturating_sub(at_start + image.data.len() as u64),
        load_peak_bytes: load_peak.saturating_sub(at_start),
        load_ms,
        run_bytes,
        run_ms: times[RUNS / 2],
        post_ns: post_ns(&crowd, manifest, input, threads)?,
    })
}

/// An answer of the network's shape, as for a photo full of people: every query is sure of a class, and its mask is a
/// disc of a tenth of the photo.
fn crowd(answer: &Queries, manifest: &Manifest) -> Queries {
    let (Size { width, height }, columns) = (answer.mask_size, answer.classes + 1);
    let class_logits = (0..answer.count * columns).map(|at| {
        let (query, class) = (at / columns, at % columns);
        if class == query % answer.classes { 10.0 } else { 0.0 }
    });
    let mask = |query: usize| {
        let turn = query as f32 * 2.4;
        let (x0, y0) = (0.5 + 0.3 * turn.cos(), 0.5 + 0.3 * turn.sin());
        (0..height).flat_map(move |y| {
            (0..width).map(move |x| {
                let (x, y) = (x as f32 / width as f32 - x0, y as f32 / height as f32 - y0);
                40.0 * (0.18 - x.hypot(y))
            })
        })
    };
    Queries {
        count: answer.count,
        classes: manifest.classes.len(),
        class_logits: class_logits.collect(),
        mask_size: answer.mask_size,
        mask_logits: Box::new((0..answer.count).flat_map(mask).collect::<Vec<f32>>()),
    }
}

/// For a photo with four times the sides.
fn post_ns(queries: &Queries, manifest: &Manifest, input: Size, threads: usize) -> anyhow::Result<f64> {
    let describe = |error: crate::error::Error| anyhow::anyhow!(error.chain());
    let photo = Size::new(4 * input.width, 4 * input.height);
    let padded = input.padded_to(manifest.input.size.divisor());
    let view = View::new(queries, padded, input, photo).map_err(describe)?;
    let start = Instant::now();
    let found = parsing::find(&view, manifest, None, BAND_ROWS);
    parsing::bands(&view, manifest, &found, BAND_ROWS, &mut |_| Ok(())).map_err(describe)?;
    Ok(start.elapsed().as_secs_f64() * 1e9 * threads as f64 / photo.area() as f64)
}

/// The smallest constants that predict no less than was measured.
fn fit(samples: &[Sample], threads: usize) -> (Memory, Time) {
    let points = |y: fn(&Sample) -> f64| samples.iter().map(|s| (s.pixels as f64, y(s))).collect::<Vec<_>>();
    let bytes = points(|s| s.run_bytes as f64);
    let (base, slope) = line(&bytes);
    let short = bytes.iter().map(|(x, y)| y - (base + slope * x)).fold(0.0, f64::max);
    let (base_ms, ns) = line(&points(|s| s.run_ms * 1e6));
    let mut load_ms: Vec<_> = samples.iter().map(|s| s.load_ms).collect();
    load_ms.sort_unstable_by(f64::total_cmp);
    let largest = samples.iter().max_by_key(|s| s.pixels);
    let most = |y: fn(&Sample) -> u64| whole_mb(samples.iter().map(y).max().unwrap_or(0)) as f64;
    let tenth = |x: f64| (x * 10.0).ceil() / 10.0;
    let memory = Memory {
        load_mb: most(|s| s.load_bytes),
        load_peak_mb: most(|s| s.load_peak_bytes),
        base_mb: tenth((base + short) / MIB as f64),
        bytes_per_pixel: tenth(slope),
    };
    let time = Time {
        load_ms: load_ms[samples.len() / 2].ceil(),
        base_ms: tenth(base_ms / 1e6),
        ns_per_pixel: tenth(ns),
        post_ns_per_pixel: largest.map_or(0.0, |s| tenth(s.post_ns)),
        threads: threads as u32,
        processor: Some(ProcessorKind::here()),
    };
    (memory, time)
}

/// Base and slope by least squares; neither is negative. A single point, or several at one place, gives a slope only.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (xx, xy) = (mean(|p| p.0 * p.0) - x * x, mean(|p| p.0 * p.1) - x * y);
    let slope = xy / xx;
    let base = y - slope * x;
    if slope.is_finite() && slope >= 0.0 && base >= 0.0 { (base, slope) } else { (0.0, y / x) }
}

/// A row of the table; gives how far the memory is off, percent of all that the process holds.
fn print(sample: &Sample, memory: &Memory, time: &Time) -> anyhow::Result<f64> {
    let load = memory.load_mb * MIB as f64;
    let predicted = memory.run_bytes(sample.pixels);
    let off = (predicted as f64 - sample.run_bytes as f64) / (load + sample.run_bytes as f64) * 100.0;
    say::line(format_args!(
        "{:>8} pixels  {:>4} MB, predicted {:>4} ({off:+.1} % of all)  {:>6.0} ms, predicted {:>6.0}",
        sample.pixels,
        whole_mb(sample.run_bytes),
        whole_mb(predicted),
        sample.run_ms,
        time.run_ms(sample.pixels),
    ))?;
    Ok(off.abs())
}

/// The manifest is replaced as a whole, so that there is never half a manifest.
fn write(folder: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let path = folder.join(FILE_NAME);
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(&path).with_context(name)?;
    let text = manifest.with_constants(&text).with_context(name)?;
    let made = path.with_extension("calibrated");
    let written = std::fs::write(&made, text).and_then(|()| std::fs::rename(&made, &path));
    written.inspect_err(|_| drop(std::fs::remove_file(&made))).with_context(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pixels: u64, run_mb: u64, run_ms: f64) -> Sample {
        let load_bytes = 30 * MIB;
        Sample {
            pixels,
            load_bytes,
            load_peak_bytes: 44 * MIB,
            load_ms: 50.0,
            run_bytes: run_mb * MIB,
            run_ms,
            post_ns: 9.0,
        }
    }

    #[test]
    fn a_fit_is_never_short_of_what_it_was_made_from() {
        let samples = [
            sample(100_000, 14, 11.0),
            sample(200_000, 22, 20.0),
            sample(300_000, 35, 31.0),
            sample(400_000, 44, 40.0),
        ];
        let (memory, time) = fit(&samples, 2);
        for sample in &samples {
            let predicted = memory.run_bytes(sample.pixels);
            assert!(predicted >= sample.run_bytes && predicted < sample.run_bytes + 6 * MIB, "{predicted} {sample:?}");
            assert!((time.run_ms(sample.pixels) - sample.run_ms).abs() < 2.0);
        }
        assert!((memory.load_mb, memory.load_peak_mb) == (30.0, 44.0));
        assert!((time.load_ms, time.threads) == (50.0, 2));
    }

    #[test]
    fn one_size_makes_a_slope() {
        let (memory, time) = fit(&[sample(200_000, 20, 10.0)], 1);
        assert!(memory.base_mb == 0.0 && time.base_ms == 0.0);
        assert!(memory.run_bytes(200_000) >= 20 * MIB);
    }

    #[test]
    fn sizes_go_from_the_smallest_to_the_native_and_checks_lie_between() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano");
        let manifest = Manifest::read(&folder).unwrap();
        let (grid, checks) = (working_sizes(&manifest, &GRID), working_sizes(&manifest, &CHECKS));
        assert!(grid.contains(&Size::new(128, 128)) && grid.contains(&Size::new(626, 352)), "{grid:?}");
        assert_eq!(checks.len(), 6);
        assert!(checks.iter().all(|size| !grid.contains(size)));
    }
}
