//! The command line, one file per subcommand.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic on a full disk; `say` does not")]

mod calibrate;
mod config;
mod dataset;
mod files;
mod info;
pub mod invoke;
mod optimize;
mod parse;
mod plan;
mod request;
mod say;
pub mod serve;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::request::{EXIT_FAILED, EXIT_USAGE, UsageError};
use crate::config::{Config, LogFormat};
use crate::pipeline::Pipeline;
use crate::store::s3::S3Store;

/// Multi-person human parsing on a CPU: a photo in, coloured body-part and clothing masks out.
#[derive(Debug, Parser)]
#[command(name = "m2fp", version, about)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Model folder (default: `M2FP_MODEL_DIR`, else the packaged model).
    #[arg(long, global = true, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Memory limit in MB; lowers what the machine, a cgroup or `M2FP_MEMORY_MB` give.
    #[arg(long, global = true, value_name = "MB")]
    memory: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Parse photos: files, folders, or - for standard input.
    Parse(parse::Arguments),
    /// Show how a photo would be run, without running it.
    Plan(plan::Arguments),
    /// Serve the HTTP routes and the web page on this machine.
    Serve(serve::Arguments),
    /// Answer one Lambda event from a file, without Lambda.
    Invoke(invoke::Arguments),
    /// Show the model, its classes and the limits in force.
    Info(info::Arguments),
    /// Make a model folder's graph ready once, instead of at every start.
    Optimize(optimize::Arguments),
    /// Measure what a model takes in memory and time, and write it into its manifest.
    Calibrate(calibrate::Arguments),
    /// Show the settings in force.
    #[command(after_long_help = config::settings_help())]
    Config,
}

/// Reads the process's arguments, runs the command, and says how the process should end.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            say::note(format_args!("m2fp: {error:#}"));
            ExitCode::from(if error.is::<UsageError>() { EXIT_USAGE } else { EXIT_FAILED })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut config = Config::from_env().map_err(|error| UsageError(error.to_string()))?;
    if let Some(folder) = cli.global.model {
        config.model_dir = folder;
    }
    if let Some(mb) = cli.global.memory {
        config.memory_mb = Some(config.memory_mb.map_or(mb, |set| set.min(mb)));
    }
    if let Command::Parse(_) = cli.command {
        // A photo waits for those before it as long as they take.
        config.max_wait = Duration::MAX;
    }
    crate::telemetry::init(config.log_level("warn"), config.log_format.unwrap_or(LogFormat::Text));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        if let Command::Config = cli.command {
            config::print(&config)?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Command::Optimize(arguments) = &cli.command {
            return optimize::run(arguments);
        }
        if let Command::Calibrate(arguments) = &cli.command {
            return calibrate::run(arguments, config.threads);
        }
        let pipeline = pipeline(config)?;
        match cli.command {
            Command::Config | Command::Optimize(_) | Command::Calibrate(_) => Ok(ExitCode::SUCCESS),
            Command::Parse(arguments) => parse::run(&pipeline, &arguments).await,
            Command::Plan(arguments) => plan::run(&pipeline, &arguments).await,
            Command::Serve(arguments) => serve::run(pipeline, &arguments).await,
            Command::Invoke(arguments) => invoke::run(pipeline, &arguments).await,
            Command::Info(arguments) => info::run(&pipeline, &arguments).await,
        }
    })
}

fn pipeline(config: Config) -> anyhow::Result<Arc<Pipeline>> {
    // The S3 client is made by the first request for an object, so that a command which reads no object does not pay
    // for it.
    let store = Arc::new(S3Store::from_environment(config.s3_endpoint.clone()));
    Ok(Arc::new(Pipeline::new(config, Some(store)).map_err(|error| anyhow::anyhow!(error.chain()))?))
}
