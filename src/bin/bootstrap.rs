//! The Lambda function. Only wires: settings, logs, store, pipeline, runtime.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use m2fp::config::{Config, LogFormat};
use m2fp::lambda;
use m2fp::pipeline::{Context, Pipeline};
use m2fp::store::s3::S3Store;
use m2fp::{sys, telemetry};

/// Exit code of settings that do not fit.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    sys::prepare_process();
    let mut config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            telemetry::init("info", LogFormat::Json);
            for fault in error.faults {
                tracing::error!(fault, "settings");
            }
            return ExitCode::from(USAGE);
        }
    };
    telemetry::init(config.log_level("info"), config.log_format.unwrap_or(LogFormat::Json));
    telemetry::log_panics();
    config.metrics.get_or_insert(true);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "start");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let store = Arc::new(S3Store::from_environment(config.s3_endpoint.clone()));
    let preload = config.preload;
    let pipeline = Arc::new(Pipeline::new(config, Some(store)).context("the model folder cannot be used")?);
    if preload {
        let init = Context { request_id: "init".to_owned(), deadline: None };
        pipeline.preload(&init).await.context("the model cannot be loaded")?;
    }
    lambda::serve(lambda::app(pipeline)).await.map_err(anyhow::Error::from_boxed)
}
