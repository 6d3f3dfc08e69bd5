//! Runs the Python programs that judge what this crate computes and writes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn python() -> PathBuf {
    let path = std::env::var_os("M2FP_PYTHON").map_or_else(|| ".venv/bin/python".into(), PathBuf::from);
    let path = root().join(path);
    assert!(path.exists(), "{} is missing: `make test` makes it, or set M2FP_PYTHON", path.display());
    path
}

/// Runs `tests/python/SCRIPT ARGUMENT…`.
///
/// # Panics
/// With what the script says, when it fails.
pub fn run(script: &str, arguments: &[&OsStr]) {
    let script_path = root().join("tests/python").join(script);
    let run = Command::new(python()).arg(script_path).args(arguments).output().expect("Python starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{script}:\n{}{}", text(&run.stdout), text(&run.stderr));
}
