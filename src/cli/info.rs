//! `m2fp info`: the model and the limits.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::request::context;
use crate::geometry::Size;
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
    println!("model      {} {} ({})", manifest.name, manifest.version, manifest.licence);
    println!("           {}", manifest.description);
    println!("folder     {}", pipeline.config.model_dir.display());
    println!("sha256     {}", manifest.digest());
    println!("threads    {}", pipeline.config.threads);
    println!(
        "memory     {} MB limit, {} MB for one request",
        whole_mb(pipeline.budget.limit_bytes()),
        whole_mb(pipeline.budget.total_bytes())
    );
    println!("classes");
    for class in &manifest.classes {
        let [r, g, b] = class.color;
        println!("  {:>3}  #{r:02x}{g:02x}{b:02x}  {}", class.id, class.name);
    }
    if arguments.timing {
        timing(pipeline).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn timing(pipeline: &Pipeline) -> anyhow::Result<()> {
    let start = Instant::now();
    let engine = pipeline.engine(&context("info")).await.map_err(|error| anyhow::anyhow!(error.chain()))?;
    println!("load       {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let manifest = &pipeline.manifest;
    let size = manifest.geometry(manifest.input.size.native(TIMED_PHOTO)).input;
    let image = crate::image::Planar8 { size, data: vec![127; size.area() as usize * 3] };
    for run in 1..=3 {
        let start = Instant::now();
        engine.infer(&image).map_err(|error| anyhow::anyhow!(error.chain()))?;
        println!("inference  {:.1} ms (run {run}, {size})", start.elapsed().as_secs_f64() * 1e3);
    }
    println!("peak       {} MB", whole_mb(crate::sys::peak_rss_bytes()));
    Ok(())
}
