//! `m2fp parse`: photos to files.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use super::dataset::{self, DatasetFile};
use super::files::{self, Found, Photo};
use super::request::{EXIT_FAILED, RequestFlags, UsageError, context};
use super::say;
use crate::options::{Options, OutputKind};
use crate::pipeline::{AT_ONCE, Outcome, Pipeline, Source};
use crate::render::report::OutputSection;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Photos, folders of photos, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Folder to write into (default: beside each photo), or - to write the one output of one photo to standard output.
    #[arg(short = 'o', long = "out", value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    request: RequestFlags,
    /// Print each photo's report on standard output, one line with `file` first; for a photo that failed, its `error`.
    #[arg(long)]
    json: bool,
    /// Photos worked on at once, as far as the memory goes: one is decoded or written while the network sees another.
    #[arg(short, long, value_name = "N", default_value_t = AT_ONCE)]
    jobs: NonZeroUsize,
}

/// Written when `--output` names nothing.
const DEFAULT_OUTPUTS: [OutputKind; 3] = [OutputKind::Mask, OutputKind::Overlay, OutputKind::Json];

pub async fn run(pipeline: &Pipeline, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let usage = |error: &dyn std::fmt::Display| UsageError(error.to_string());
    let options = arguments.request.check(&pipeline.config, &DEFAULT_OUTPUTS).map_err(|error| usage(&error))?;
    let found = files::find(&arguments.paths)?;
    let photos = &found.photos;
    if arguments.folder.as_deref() == Some(Path::new(files::STDIN)) {
        let [photo] = photos.as_slice() else { return Err(usage(&TO_STDOUT).into()) };
        if options.outputs.len() != 1 || arguments.json || arguments.paths.iter().any(|path| path.is_dir()) {
            return Err(usage(&TO_STDOUT).into());
        }
        return to_stdout(pipeline, photo, &options).await;
    }
    let folder = arguments.folder.as_deref();
    let mut dataset = dataset(&options, &found, arguments)?;
    let own: Vec<_> = options.outputs.iter().copied().filter(|kind| *kind != OutputKind::Coco).collect();
    files::check_outputs(photos, folder, &own).map_err(|error| usage(&error))?;
    found.faults.iter().for_each(|fault| say::note(format_args!("{fault}")));
    let progress = progress_bar(photos.len());
    let parse = |photo| {
        progress.set_message(Photo::label(photo));
        // Told before the work is done, not after it.
        let refused = Photo::name(photo).err().filter(|_| options.wants(OutputKind::Coco));
        let parsed = parse_photo(pipeline, photo, &options);
        async move { (photo, if let Some(error) = refused { Err(error) } else { parsed.await }) }
    };
    let mut parsed = pin!(stream::iter(photos).map(parse).buffered(arguments.jobs.get()));
    let (mut failed, mut is_heard) = (0, true);
    while let Some((photo, outcome)) = parsed.next().await {
        let written = outcome.and_then(|outcome| write(photo, outcome, &options, folder, dataset.as_mut()));
        failed += usize::from(written.is_err());
        progress.suspend(|| {
            note(photo, &written);
            // The lines are not all that the photos are parsed for.
            if is_heard && let Err(error) = print(photo, &written, arguments.json) {
                is_heard = false;
                say::note(format_args!("{error:#}; no further line goes there"));
            }
        });
        progress.inc(1);
    }
    progress.finish_and_clear();
    if failed > 0 && photos.len() > 1 {
        say::note(format_args!("{failed} of {} photos failed", photos.len()));
    }
    if let Some(passed_over) = found.passed_over() {
        say::note(format_args!("{passed_over}"));
    }
    let written = dataset.map(|dataset| dataset.finish(&pipeline.manifest)).transpose()?.flatten();
    if let Some(path) = written.filter(|_| photos.len() > 1) {
        say::note(format_args!("{}: {} of {} photos", path.display(), photos.len() - failed, photos.len()));
    }
    let is_all_done = failed == 0 && is_heard && found.faults.is_empty();
    Ok(if is_all_done { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Why nothing goes to standard output.
const TO_STDOUT: &str = "`-o -` writes one output of one photo: name one photo and one `--output`, without `--json`";

/// The COCO file: one for a folder or several photos, named for the photo where one is named alone.
fn dataset(options: &Options, found: &Found, arguments: &Arguments) -> anyhow::Result<Option<DatasetFile>> {
    if !options.wants(OutputKind::Coco) {
        return Ok(None);
    }
    let folder = arguments.folder.as_deref();
    let path = match found.photos.as_slice() {
        [photo] if !arguments.paths.iter().any(|path| path.is_dir()) => photo.output(folder, OutputKind::Coco),
        _ => folder.or(found.common.as_deref()).unwrap_or(Path::new("")).join(dataset::NAME),
    };
    DatasetFile::new(path).map(Some)
}

/// Parses one photo and writes its one output to standard output, and nothing else.
async fn to_stdout(pipeline: &Pipeline, photo: &Photo, options: &Options) -> anyhow::Result<ExitCode> {
    let outcome = parse_photo(pipeline, photo, options).await.with_context(|| photo.label())?;
    let mut out = std::io::stdout().lock();
    let written = if let Some(output) = outcome.outputs.first() {
        out.write_all(&output.bytes)
    } else {
        let report = serde_json::to_writer_pretty(&mut out, &outcome.report).map_err(std::io::Error::from);
        report.and_then(|()| writeln!(out))
    };
    written.and_then(|()| out.flush()).context(say::STDOUT)?;
    warn(photo, &outcome);
    Ok(ExitCode::SUCCESS)
}

/// Until a photo has its share of the memory, the next one is not read. So none waits for memory that a later one holds,
/// whose outcome is taken after its own.
async fn parse_photo(pipeline: &Pipeline, photo: &Photo, options: &Options) -> anyhow::Result<Outcome> {
    let context = context(&photo.label());
    let describe = |error: crate::error::Error| anyhow::anyhow!(error.chain());
    let attempt = pipeline.begin(&context);
    let turn = pipeline.turn().await;
    let source = Source::Bytes(photo.read(pipeline.config.max_object_bytes)?);
    let prepared = attempt.prepare(source, options.clone()).await.map_err(describe)?;
    let admitted = attempt.admit(prepared).await.map_err(describe)?;
    drop(turn);
    attempt.run_admitted(admitted).await.map_err(describe)
}

/// Writes the outputs where they belong. The COCO file is the last: it has no photo of which another one failed.
fn write(
    photo: &Photo,
    mut outcome: Outcome,
    options: &Options,
    folder: Option<&Path>,
    dataset: Option<&mut DatasetFile>,
) -> anyhow::Result<Outcome> {
    for output in outcome.outputs.iter().filter(|output| output.kind != OutputKind::Coco) {
        write_file(&photo.output(folder, output.kind), &output.bytes)?;
        let bytes = output.bytes.len() as u64;
        outcome.report.outputs.push(OutputSection::inline(output.kind, output.content_type, bytes));
    }
    if options.wants(OutputKind::Json) {
        write_file(&photo.output(folder, OutputKind::Json), &serde_json::to_vec_pretty(&outcome.report)?)?;
    }
    let coco = outcome.outputs.iter().find(|output| output.kind == OutputKind::Coco);
    if let (Some(dataset), Some(coco)) = (dataset, coco) {
        dataset.add(photo.name()?, &coco.bytes)?;
    }
    Ok(outcome)
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// The line on standard output.
fn print(photo: &Photo, written: &anyhow::Result<Outcome>, json: bool) -> anyhow::Result<()> {
    if json {
        return say::photo(&photo.label(), written.as_ref().map(|outcome| &outcome.report));
    }
    let Ok(outcome) = written else { return Ok(()) };
    let report = &outcome.report;
    let total_ms = report.timings_ms.as_ref().map_or(0.0, |timings| timings.total);
    say::line(format_args!(
        "{}: {} at {}, {} person(s), {total_ms:.0} ms",
        photo.label(),
        outcome.plan.photo,
        outcome.plan.working,
        report.persons.len()
    ))
}

/// The lines on standard error.
fn note(photo: &Photo, written: &anyhow::Result<Outcome>) {
    match written {
        Ok(outcome) => warn(photo, outcome),
        Err(error) => say::note(format_args!("{}: {error:#}", photo.label())),
    }
}

fn warn(photo: &Photo, outcome: &Outcome) {
    for warning in &outcome.report.warnings {
        say::note(format_args!("{}: warning: {warning}", photo.label()));
    }
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
