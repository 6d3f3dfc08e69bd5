//! `m2fp optimize`: a model folder's graph as the runtime would make it at every start, made once.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::engine::ort;
use crate::manifest::{FILE_NAME, Manifest};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Model folder; its graph and manifest are replaced.
    #[arg(value_name = "MODEL_DIR")]
    folder: PathBuf,
}

/// The manifest is removed first and written last, so that a folder with a manifest is always complete.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let mut manifest = Manifest::read(folder)?;
    ensure!(
        manifest.files.len() > 1,
        "{}: its weights lie in the graph's file; only a graph with weights in a file of their own is rewritten",
        folder.display()
    );
    let graph = folder.join(&manifest.files[0].path);
    let made = graph.with_extension("optimized");
    let optimized = ort::optimize(folder, &manifest, &made).and_then(|()| ort::describe_file(&made));
    let file = optimized.inspect_err(|_| drop(std::fs::remove_file(&made)))?;
    let before = manifest.files[0].bytes;
    (manifest.files[0].bytes, manifest.files[0].sha256) = file;
    let description = folder.join(FILE_NAME);
    let text = serde_json::to_string_pretty(&manifest)?;
    let written = || -> std::io::Result<()> {
        std::fs::remove_file(&description)?;
        std::fs::rename(&made, &graph)?;
        std::fs::write(&description, text + "\n")
    };
    written().with_context(|| folder.display().to_string())?;
    println!("{}: {} bytes, {before} before", graph.display(), manifest.files[0].bytes);
    Ok(ExitCode::SUCCESS)
}
