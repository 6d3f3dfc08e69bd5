//! `m2fp invoke EVENT.json`: one event through the dispatcher of the Lambda function, without Lambda.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::value::RawValue;

use super::say;
use crate::lambda::{self, dispatch};
use crate::pipeline::{Context, Pipeline};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// JSON of the event, such as those in events/.
    #[arg(value_name = "EVENT.json")]
    event: PathBuf,
}

pub(super) async fn run(pipeline: Arc<Pipeline>, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    invoke(pipeline, &arguments.event).await?;
    Ok(ExitCode::SUCCESS)
}

/// Dispatches the event in the file and prints the function's answer, one line of JSON.
///
/// # Errors
/// When the file is not JSON, or the function fails: its error type and message. When standard output does not take the
/// answer.
pub async fn invoke(pipeline: Arc<Pipeline>, event_path: &Path) -> anyhow::Result<()> {
    let name = event_path.display();
    let text = std::fs::read_to_string(event_path).with_context(|| format!("{name}"))?;
    let event: Box<RawValue> = serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
    let context = Context { request_id: "invoke".to_owned(), deadline: None };
    let answer = dispatch::dispatch(&lambda::app(pipeline), event, context).await?;
    say::line(format_args!("{answer}"))
}
