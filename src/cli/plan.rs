//! `m2fp plan`: how photos would be run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files;
use super::request::{EXIT_FAILED, RequestFlags, UsageError, context};
use super::say;
use crate::options::OutputKind;
use crate::pipeline::{Pipeline, Source};
use crate::plan::Decision;
use crate::units::whole_mb;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Photos, folders of photos, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    request: RequestFlags,
    /// Print each photo's plan as JSON, one line with `file` first; for a photo that has none, its `error`.
    #[arg(long)]
    json: bool,
}

pub async fn run(pipeline: &Pipeline, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = arguments
        .request
        .check(&pipeline.config, &[OutputKind::Mask])
        .map_err(|error| UsageError(error.to_string()))?;
    let found = files::find(&arguments.paths)?;
    found.faults.iter().for_each(|fault| say::note(format_args!("{fault}")));
    let mut failed = !found.faults.is_empty();
    for photo in &found.photos {
        let label = photo.label();
        let prepared = match photo.read(pipeline.config.max_object_bytes) {
            Ok(bytes) => {
                let source = Source::Bytes(bytes);
                let context = context(&label);
                pipeline.begin(&context).prepare(source, options.clone()).await.map_err(|e| anyhow::anyhow!(e.chain()))
            }
            Err(error) => Err(error),
        };
        match &prepared {
            Ok(prepared) => failed |= prepared.decision.refusal.is_some(),
            Err(error) => {
                failed = true;
                say::note(format_args!("{label}: {error:#}"));
            }
        }
        if arguments.json {
            let answer = prepared.as_ref().map(|prepared| prepared.decision.answer(prepared.header.orientation));
            say::photo(&label, answer)?;
        } else if let Ok(prepared) = &prepared {
            print(&label, &prepared.decision)?;
        }
    }
    if let Some(passed_over) = found.passed_over() {
        say::note(format_args!("{passed_over}"));
    }
    Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

fn print(label: &str, decision: &Decision) -> anyhow::Result<()> {
    let plan = &decision.plan;
    if let Some(refusal) = &decision.refusal {
        return say::line(format_args!("{label}: refused: {refusal}"));
    }
    say::line(format_args!(
        "{label}: {} run at {} ({}), about {} of {} MB and {} ms",
        plan.photo,
        plan.working,
        plan.reason,
        whole_mb(plan.predicted_peak_bytes),
        whole_mb(plan.limit_bytes),
        plan.predicted_ms
    ))?;
    for warning in &plan.warnings {
        say::line(format_args!("{label}: warning: {warning}"))?;
    }
    Ok(())
}
