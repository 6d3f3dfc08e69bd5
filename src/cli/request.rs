//! What the subcommands share: the options of a request as flags, exit codes, and the fault of wrong usage.

use clap::Args;

use crate::config::Config;
use crate::options::{Names, Options, OutputKind, RawOptions};
use crate::pipeline::Context;

/// Some inputs failed.
pub(super) const EXIT_FAILED: u8 = 1;
/// Wrong usage or settings.
pub(super) const EXIT_USAGE: u8 = 2;

/// Options of a request, as flags.
#[derive(Debug, Args)]
pub(super) struct RequestFlags {
    /// What to write: mask or index, overlay, instances, cutout, json, coco, hf; separated by commas.
    #[arg(long, value_name = "KINDS")]
    output: Option<String>,
    /// How to run: auto, or tiled (slower; finds small people in large photos).
    #[arg(long)]
    mode: Option<String>,
    /// Parse the mirrored photo as well: better parts, in twice the time.
    #[arg(long)]
    flip: bool,
    /// Greatest long side of the working size, pixels.
    #[arg(long, value_name = "PX")]
    max_side: Option<u32>,
    /// Least score of a reported person or part, 0 to 1.
    #[arg(long)]
    score: Option<f32>,
    /// Opacity of the overlay's colours, 0 to 1.
    #[arg(long)]
    alpha: Option<f32>,
    /// Put COCO RLE masks into the report.
    #[arg(long)]
    rle: bool,
}

impl RequestFlags {
    pub(super) fn check(&self, config: &Config, default_outputs: &[OutputKind]) -> crate::error::Result<Options> {
        let raw = RawOptions {
            output: self.output.clone().map(Names::One),
            mode: self.mode.clone(),
            flip: self.flip.then_some(true),
            max_side: self.max_side,
            score: self.score,
            alpha: self.alpha,
            rle: Some(self.rle),
        };
        Options::check(&raw.or(config.default_options()), default_outputs)
    }
}

/// Wrong usage, found after the arguments were read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// The context of work without a deadline.
pub(super) fn context(name: &str) -> Context {
    Context { request_id: name.to_owned(), deadline: None }
}
