//! `m2fp parse`: photos to files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::files::{self, Photo};
use super::request::{EXIT_FAILED, RequestFlags, UsageError, context};
use crate::options::{Options, OutputKind};
use crate::pipeline::{Outcome, Pipeline, Source};
use crate::render::report::OutputSection;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Photos, folders of photos, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Folder to write into (default: beside each photo).
    #[arg(short = 'o', long = "out", value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    request: RequestFlags,
    /// Print each report on standard output, one line an image.
    #[arg(long)]
    json: bool,
}

/// Written when `--output` names nothing.
const DEFAULT_OUTPUTS: [OutputKind; 3] = [OutputKind::Mask, OutputKind::Overlay, OutputKind::Json];

pub async fn run(pipeline: &Pipeline, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = arguments.request.check(&DEFAULT_OUTPUTS).map_err(|error| UsageError(error.to_string()))?;
    let found = files::find(&arguments.paths)?;
    let photos = &found.photos;
    files::check_outputs(photos, arguments.folder.as_deref(), &options.outputs)
        .map_err(|error| UsageError(error.to_string()))?;
    found.faults.iter().for_each(|fault| eprintln!("{fault}"));
    let progress = progress_bar(photos.len());
    let mut failed = 0;
    for photo in photos {
        progress.set_message(photo.label());
        match parse_one(pipeline, photo, &options, arguments.folder.as_deref()).await {
            Ok(outcome) => progress.suspend(|| say(photo, &outcome, arguments.json))?,
            Err(error) => {
                failed += 1;
                progress.suspend(|| eprintln!("{}: {error:#}", photo.label()));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if failed > 0 && photos.len() > 1 {
        eprintln!("{failed} of {} photos failed", photos.len());
    }
    if let Some(passed_over) = found.passed_over() {
        eprintln!("{passed_over}");
    }
    Ok(if failed == 0 && found.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

async fn parse_one(
    pipeline: &Pipeline,
    photo: &Photo,
    options: &Options,
    folder: Option<&Path>,
) -> anyhow::Result<Outcome> {
    let context = context(&photo.label());
    let describe = |error: crate::error::Error| anyhow::anyhow!(error.chain());
    let source = Source::Bytes(photo.read(pipeline.config.max_object_bytes)?);
    let attempt = pipeline.begin(&context);
    let prepared = attempt.prepare(source, options.clone()).await.map_err(describe)?;
    let mut outcome = attempt.run(prepared).await.map_err(describe)?;
    for output in &outcome.outputs {
        let path = photo.output(folder, output.kind);
        write_file(&path, &output.bytes)?;
        let bytes = output.bytes.len() as u64;
        outcome.report.outputs.push(OutputSection::inline(output.kind, output.content_type, bytes));
    }
    if options.wants(OutputKind::Json) {
        write_file(&photo.output(folder, OutputKind::Json), &serde_json::to_vec_pretty(&outcome.report)?)?;
    }
    Ok(outcome)
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

fn say(photo: &Photo, outcome: &Outcome, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &outcome.report)?;
        writeln!(out)?;
    } else {
        let report = &outcome.report;
        let total_ms = report.timings_ms.as_ref().map_or(0.0, |timings| timings.total);
        writeln!(
            out,
            "{}: {} at {}, {} person(s), {total_ms:.0} ms",
            photo.label(),
            outcome.plan.photo,
            outcome.plan.working,
            report.persons.len()
        )?;
    }
    for warning in &outcome.report.warnings {
        eprintln!("{}: warning: {warning}", photo.label());
    }
    Ok(())
}

/// Shown for more than one photo, on a terminal.
fn progress_bar(photos: usize) -> ProgressBar {
    if photos < 2 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(photos as u64).with_style(style)
}
