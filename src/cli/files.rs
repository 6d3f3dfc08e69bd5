//! Which photos the arguments name, and where their outputs go.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use walkdir::WalkDir;

use crate::memory::blob::{self, Blob};
use crate::options::OutputKind;

/// The argument that means standard input.
const STDIN: &str = "-";

/// Endings of file names for which a folder is searched. The format of a file is found by its content.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "jfif"];

/// A photo to parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Photo {
    Stdin,
    /// `name` is what is kept of the path below an output folder.
    File {
        path: PathBuf,
        name: PathBuf,
    },
}

impl Photo {
    /// How messages name it.
    pub fn label(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// At most `most` bytes.
    pub fn read(&self, most: u64) -> anyhow::Result<Blob> {
        match self {
            Self::Stdin => read(std::io::stdin().lock(), most),
            Self::File { path, .. } => File::open(path).map_err(Into::into).and_then(|file| read(file, most)),
        }
        .with_context(|| self.label())
    }

    /// Path of an output: beside the photo, or under `folder`; its name appends to the photo's.
    pub fn output(&self, folder: Option<&Path>, kind: OutputKind) -> PathBuf {
        let base = match (self, folder) {
            (Self::Stdin, None) => PathBuf::from("stdin"),
            (Self::Stdin, Some(folder)) => folder.join("stdin"),
            (Self::File { path, .. }, None) => path.clone(),
            (Self::File { name, .. }, Some(folder)) => folder.join(name),
        };
        let mut name = base.into_os_string();
        name.push(kind.suffix());
        name.into()
    }
}

/// Copies the file before it is read, because somebody else may change it while it is parsed.
fn read(from: impl Read, most: u64) -> anyhow::Result<Blob> {
    let blob = blob::read(from.take(most.saturating_add(1)), anyhow::Error::from)?;
    ensure!(blob.len() as u64 <= most, "it has more than {most} bytes, the limit of M2FP_MAX_OBJECT_BYTES");
    Ok(blob)
}

/// The photos that `paths` name: files as they are, folders searched for images, in name order.
///
/// # Errors
/// A path that does not exist or cannot be read, or a folder without images.
pub fn find(paths: &[PathBuf]) -> anyhow::Result<Vec<Photo>> {
    let mut photos = Vec::new();
    for path in paths {
        if path == Path::new(STDIN) {
            photos.push(Photo::Stdin);
        } else if path.is_dir() {
            let before = photos.len();
            for entry in WalkDir::new(path).sort_by_file_name() {
                let entry = entry?;
                if entry.file_type().is_file() && is_photo(entry.path()) {
                    let name = entry.path().strip_prefix(path).unwrap_or(entry.path()).to_path_buf();
                    photos.push(Photo::File { path: entry.into_path(), name });
                }
            }
            anyhow::ensure!(photos.len() > before, "{}: no images in this folder", path.display());
        } else {
            let name = path.file_name().with_context(|| format!("{}: not a file", path.display()))?;
            photos.push(Photo::File { path: path.clone(), name: name.into() });
        }
    }
    Ok(photos)
}

/// Whether the file is an image by its ending, and not one that this program wrote.
fn is_photo(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let written_here = OutputKind::ALL.iter().any(|kind| name.ends_with(kind.suffix()));
    !written_here && path.extension().is_some_and(|e| EXTENSIONS.contains(&e.to_string_lossy().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_photos_but_not_our_own_outputs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        for name in ["b.JPG", "in/a.png", "b.JPG.mask.png", "b.JPG.overlay.jpg", "notes.txt"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        let photos = find(&[folder.path().to_path_buf()]).unwrap();
        let names: Vec<_> = photos.iter().map(|p| p.output(Some(Path::new("out")), OutputKind::Mask)).collect();
        assert_eq!(names, [Path::new("out/b.JPG.mask.png"), Path::new("out/in/a.png.mask.png")]);
        assert_eq!(photos[0].output(None, OutputKind::Json), folder.path().join("b.JPG.json"));
    }

    #[test]
    fn an_empty_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(&[folder.path().to_path_buf()]).unwrap_err().to_string().contains("no images"));
    }
}
