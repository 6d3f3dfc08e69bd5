//! Runs `tests/python/pillow_reference.py`.

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

/// Lets Pillow write its images into `out`.
///
/// # Panics
/// With a sentence that says what is missing.
pub fn write(out: &Path, more: &[&str]) {
    let photo = root().join(".runtime/photos/astronaut.png");
    assert!(photo.exists(), "{} is missing: `make test` fetches it", photo.display());
    let script = root().join("tests/python/pillow_reference.py");
    let run = Command::new(python()).arg(script).arg(photo).arg(out).args(more).output().expect("Python starts");
    assert!(run.status.success(), "the reference failed: {}", String::from_utf8_lossy(&run.stderr));
}
