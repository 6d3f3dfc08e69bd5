//! One COCO file for a folder of photos.
//!
//! What photos add is kept in temporary files until the last one is parsed; then the file takes its name at once, so
//! that nobody reads half of it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::manifest::Manifest;
use crate::render::coco::{Annotation, Dataset, Image};

/// The file's name.
pub(super) const NAME: &str = "annotations.coco.json";

/// A file that is being made.
pub(super) struct DatasetFile {
    path: PathBuf,
    images: Items,
    annotations: Items,
}

impl DatasetFile {
    pub(super) fn new(path: PathBuf) -> anyhow::Result<Self> {
        Ok(Self { path, images: Items::new()?, annotations: Items::new()? })
    }

    /// Adds what one photo's own file says, under the photo's name.
    pub(super) fn add(&mut self, file_name: &str, coco: &[u8]) -> anyhow::Result<()> {
        let Dataset { images, annotations, .. } = serde_json::from_slice(coco)?;
        for image in images {
            self.images.add(|id| Image { id, file_name: file_name.to_owned(), ..image })?;
        }
        let image_id = self.images.count;
        for annotation in annotations {
            self.annotations.add(|id| Annotation { id, image_id, ..annotation })?;
        }
        Ok(())
    }

    /// Writes the file, if any photo was added.
    pub(super) fn finish(self, manifest: &Manifest) -> anyhow::Result<Option<PathBuf>> {
        if self.images.count == 0 {
            return Ok(None);
        }
        let Self { path, images, annotations } = self;
        let name = || path.display().to_string();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(name)?;
        let file =
            tempfile::Builder::new().prefix(".").permissions(rw_for_all()).tempfile_in(folder).with_context(name)?;
        let mut out = BufWriter::new(file);
        let Dataset { info, licenses, categories, .. } = Dataset::empty(manifest);
        out.write_all(b"{\"info\":")?;
        serde_json::to_writer(&mut out, &info)?;
        out.write_all(b",\"licenses\":")?;
        serde_json::to_writer(&mut out, &licenses)?;
        out.write_all(b",\"categories\":")?;
        serde_json::to_writer(&mut out, &categories)?;
        for (field, items) in [("images", images), ("annotations", annotations)] {
            write!(out, ",\"{field}\":[")?;
            items.copy_to(&mut out).with_context(name)?;
            out.write_all(b"]")?;
        }
        out.write_all(b"}\n")?;
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(name)?;
        file.persist(&path).with_context(name)?;
        Ok(Some(path))
    }
}

/// What a new file of a program may be read and written by, before the user's mask takes some of it away.
fn rw_for_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// A list in a temporary file, its elements' text with commas between.
struct Items {
    file: BufWriter<File>,
    count: u64,
}

impl Items {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile().context("the temporary folder")?), count: 0 })
    }

    /// Adds the element that `item` makes of its number, counted from 1.
    fn add<T: Serialize>(&mut self, item: impl FnOnce(u64) -> T) -> anyhow::Result<()> {
        if self.count > 0 {
            self.file.write_all(b",\n").context("the temporary folder")?;
        }
        self.count += 1;
        serde_json::to_writer(&mut self.file, &item(self.count)).context("the temporary folder")
    }

    fn copy_to(self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.rewind()?;
        std::io::copy(&mut BufReader::new(file), out)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::coco::Attributes;
    use crate::render::rle::Rle;

    fn manifest() -> Manifest {
        Manifest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano")).unwrap()
    }

    /// A photo's own file with so many annotations.
    fn of_a_photo(width: u32, annotations: u64) -> Vec<u8> {
        let annotation = |id| Annotation {
            id,
            image_id: 1,
            category_id: 20,
            segmentation: Rle { size: [2, 2], counts: "13".to_owned() },
            area: 3,
            bbox: [0, 0, 2, 2],
            iscrowd: 0,
            score: Some(0.5),
            attributes: Some(Attributes { person: id as u32 }),
        };
        let image = Image { id: 1, file_name: "photo.jpeg".to_owned(), width, height: 2 };
        let annotations = (1..=annotations).map(annotation).collect();
        let dataset = Dataset { images: vec![image], annotations, ..Dataset::empty(&manifest()) };
        serde_json::to_vec(&dataset).unwrap()
    }

    #[test]
    fn numbers_go_on_from_photo_to_photo() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join(NAME);
        let mut file = DatasetFile::new(path.clone()).unwrap();
        for (name, width, annotations) in [("a.jpg", 10, 2), ("in/b.jpg", 20, 0), ("c.jpg", 30, 1)] {
            file.add(name, &of_a_photo(width, annotations)).unwrap();
        }
        assert!(!path.exists());
        assert_eq!(file.finish(&manifest()).unwrap(), Some(path.clone()));
        let read: Dataset = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let images: Vec<_> = read.images.iter().map(|i| (i.id, i.file_name.as_str(), i.width)).collect();
        assert_eq!(images, [(1, "a.jpg", 10), (2, "in/b.jpg", 20), (3, "c.jpg", 30)]);
        let annotations: Vec<_> = read.annotations.iter().map(|a| (a.id, a.image_id)).collect();
        assert_eq!(annotations, [(1, 1), (2, 1), (3, 3)]);
        assert_eq!(read.categories, Dataset::empty(&manifest()).categories);
        // Nothing beside it is left, and nothing is written where no photo was parsed.
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let none = folder.path().join("none").join(NAME);
        assert_eq!(DatasetFile::new(none.clone()).unwrap().finish(&manifest()).unwrap(), None);
        assert!(!none.exists());
    }
}
