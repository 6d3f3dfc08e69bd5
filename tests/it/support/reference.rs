//! Runs `tests/python/pillow_reference.py`.

use std::ffi::OsStr;
use std::path::Path;

/// Lets Pillow write its images into `out`.
///
/// # Panics
/// With a sentence that says what is missing.
pub fn write(out: &Path, more: &[&str]) {
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/photos/astronaut.png");
    assert!(photo.exists(), "{} is missing: `make test` fetches it", photo.display());
    let arguments: Vec<&OsStr> =
        [photo.as_os_str(), out.as_os_str()].into_iter().chain(more.iter().map(OsStr::new)).collect();
    super::judge::run("pillow_reference.py", &arguments);
}
