//! `m2fp info`: the model and the limits.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::request::context;
use super::say;
use crate::geometry::Size;
use crate::manifest::ProcessorKind;
use crate::pipeline::Pipeline;
use crate::units::whole_mb;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Load the model and run it three times at its native size for a 1920×1080 photo.
    #[arg(long)]
    timing: bool,
}

/// The photo that timings speak of.
const TIMED_PHOTO: Size = Size::new(1920, 1080);

pub async fn run(pipeline: &Pipeline, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let manifest = &pipeline.manifest;
    say::line(format_args!("model      {} {} ({})", manifest.name, manifest.version, manifest.licence))?;
    say::line(format_args!("           {}", manifest.description))?;
    say::line(format_args!("folder     {}", pipeline.config.model_dir.display()))?;
    say::line(format_args!("sha256     {}", manifest.digest()))?;
    let (here, measured) = (ProcessorKind::here(), manifest.time_here().processor);
    let known = if measured == Some(here) { "measured" } else { "not measured: run `m2fp calibrate`" };
    say::line(format_args!("processor  {here} ({known})"))?;
    say::line(format_args!("threads    {}", pipeline.config.threads))?;
    say::line(format_args!(
        "memory     {} MB limit, {} MB for one request",
        whole_mb(pipeline.budget.limit_bytes()),
        whole_mb(pipeline.budget.total_bytes())
    ))?;
    say::line(format_args!("classes"))?;
    for class in &manifest.classes {
        let [r, g, b] = class.color;
        say::line(format_args!("  {:>3}  #{r:02x}{g:02x}{b:02x}  {}", class.id, class.name))?;
    }
    if arguments.timing {
        timing(pipeline).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn timing(pipeline: &Pipeline) -> anyhow::Result<()> {
    let start = Instant::now();
    let engine = pipeline.engine(&context("info")).await.map_err(|error| anyhow::anyhow!(error.chain()))?;
    say::line(format_args!("load       {:.1} ms", start.elapsed().as_secs_f64() * 1e3))?;
    let manifest = &pipeline.manifest;
    let size = manifest.geometry(manifest.input.size.native(TIMED_PHOTO)).input;
    let image = crate::image::Planar8 { size, data: vec![127; size.area() as usize * 3] };
    for run in 1..=3 {
        let start = Instant::now();
        engine.infer(&image).map_err(|error| anyhow::anyhow!(error.chain()))?;
        say::line(format_args!("inference  {:.1} ms (run {run}, {size})", start.elapsed().as_secs_f64() * 1e3))?;
    }
    say::line(format_args!("peak       {} MB", whole_mb(crate::sys::peak_rss_bytes())))
}
