//! `m2fp optimize`: a model folder's graph as the runtime would make it at every start, made once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;

use super::say;
use crate::engine::ort;
use crate::manifest::{FILE_NAME, Manifest, ModelFile, Optimized, ProcessorKind};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Model folder. A graph with float weights in a file of their own is replaced by one for any processor. Beside any
    /// other, a second is put, for processors of this machine's kind.
    #[arg(value_name = "MODEL_DIR")]
    folder: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let mut manifest = Manifest::read(folder)?;
    let before = manifest.files[0].clone();
    let graph = folder.join(&before.path);
    let (here, second) = (ProcessorKind::here(), manifest.is_made_for_processors());
    ensure!(
        !(second && here == ProcessorKind::Other),
        "{}: its graph is not made ready for processors of a kind that is not known here",
        folder.display()
    );
    let made = graph.with_extension("optimized");
    let optimized =
        ort::optimize(folder, &manifest, &made).and_then(|runtime| Ok((runtime, ort::describe_file(&made)?)));
    let (runtime, (bytes, sha256)) = optimized.inspect_err(|_| drop(std::fs::remove_file(&made)))?;
    let path = if second { format!("{}.ort", before.path) } else { before.path };
    let place = folder.join(&path);
    let file = ModelFile { path, sha256, bytes };
    if second {
        manifest.optimized = Some(Optimized { file, processor: here, runtime: runtime.to_owned() });
    } else {
        manifest.files[0] = file;
    }
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    replace(&made, &place, &folder.join(FILE_NAME), &text).with_context(|| folder.display().to_string())?;
    say::line(format_args!("{}: {bytes} bytes, {} before", place.display(), before.bytes))?;
    Ok(ExitCode::SUCCESS)
}

/// Puts the graph `made` in the place of `graph`, and a manifest with this text in the place of `description`.
///
/// Both are whole files beside the old ones before either takes its name, so that a full disk leaves the folder as it
/// was. A crash between the two names leaves a graph that the manifest does not describe; loading it says so.
fn replace(made: &Path, graph: &Path, description: &Path, text: &str) -> std::io::Result<()> {
    let new = description.with_extension("rewritten");
    let renamed = std::fs::write(&new, text).and_then(|()| std::fs::rename(made, graph));
    if renamed.is_err() {
        for left in [made, new.as_path()] {
            drop(std::fs::remove_file(left));
        }
    }
    // Where this fails, the new manifest stays: it is the one that describes the graph.
    renamed.and_then(|()| std::fs::rename(&new, description))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model folder with a new graph beside the old one, and the names of the files in it.
    fn folder() -> (tempfile::TempDir, [PathBuf; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let files = ["model.optimized", "model.onnx", FILE_NAME].map(|name| folder.path().join(name));
        for (path, text) in files.iter().zip(["new graph", "old graph", "old manifest"]) {
            std::fs::write(path, text).unwrap();
        }
        (folder, files)
    }

    /// What is in the folder, by name.
    fn files_in(folder: &Path) -> Vec<(String, String)> {
        let file = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap_or_default())
        };
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(file).collect();
        files.sort_unstable();
        files
    }

    /// The files of `files_in`, with these texts.
    fn files(manifest: &str, graph: &str) -> Vec<(String, String)> {
        vec![(FILE_NAME.to_owned(), manifest.to_owned()), ("model.onnx".to_owned(), graph.to_owned())]
    }

    #[test]
    fn graph_and_manifest_are_replaced_and_nothing_is_left() {
        let (folder, [made, graph, description]) = folder();
        replace(&made, &graph, &description, "new manifest").unwrap();
        assert_eq!(files_in(folder.path()), files("new manifest", "new graph"));
    }

    #[test]
    fn a_failure_leaves_the_folder_as_it_was() {
        // The new manifest cannot be written.
        let (full, [made, graph, description]) = folder();
        let in_its_place = full.path().join("model.rewritten");
        std::fs::create_dir(&in_its_place).unwrap();
        replace(&made, &graph, &description, "new manifest").unwrap_err();
        std::fs::remove_dir(in_its_place).unwrap();
        assert_eq!(files_in(full.path()), files("old manifest", "old graph"));
        // The new graph cannot take its name.
        let (gone, [made, graph, description]) = folder();
        std::fs::remove_file(&made).unwrap();
        replace(&made, &graph, &description, "new manifest").unwrap_err();
        assert_eq!(files_in(gone.path()), files("old manifest", "old graph"));
    }
}
