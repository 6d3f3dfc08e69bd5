//! `m2fp plan`: how photos would be run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files;
use super::request::{EXIT_FAILED, RequestFlags, UsageError, context};
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
    /// Print each plan as JSON, one line an image.
    #[arg(long)]
    json: bool,
}

pub async fn run(pipeline: &Pipeline, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = arguments
        .request
        .check(&pipeline.config, &[OutputKind::Mask])
        .map_err(|error| UsageError(error.to_string()))?;
    let found = files::find(&arguments.paths)?;
    found.faults.iter().for_each(|fault| eprintln!("{fault}"));
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
        match prepared {
            Ok(prepared) => {
                failed |= prepared.decision.refusal.is_some();
                if arguments.json {
                    println!("{}", serde_json::to_string(&prepared.decision.answer(prepared.header.orientation))?);
                } else {
                    print(&label, &prepared.decision);
                }
            }
            Err(error) => {
                failed = true;
                eprintln!("{label}: {error:#}");
            }
        }
    }
    if let Some(passed_over) = found.passed_over() {
        eprintln!("{passed_over}");
    }
    Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

fn print(label: &str, decision: &Decision) {
    let plan = &decision.plan;
    if let Some(refusal) = &decision.refusal {
        println!("{label}: refused: {refusal}");
        return;
    }
    println!(
        "{label}: {} run at {} ({}), about {} of {} MB and {} ms",
        plan.photo,
        plan.working,
        plan.reason,
        whole_mb(plan.predicted_peak_bytes),
        whole_mb(plan.limit_bytes),
        plan.predicted_ms
    );
    for warning in &plan.warnings {
        println!("{label}: warning: {warning}");
    }
}
