//! One COCO file for a folder of photos.
//!
//! What photos add is kept in temporary files until the last one is parsed; then the file takes its name at once, so
//! that nobody reads half of it. A photo is in it whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::manifest::Manifest;
use crate::render::coco::{Annotation, Dataset, Image};

/// The file's name.
pub(super) const NAME: &str = "annotations.coco.json";

/// Where the lists are until the file is made.
const KEPT_IN: &str = "the temporary folder";

/// Why a spoilt file takes no photo and no name.
const SPOILT: &str = "no COCO file is written: what a photo that failed left of itself could not be taken back";

/// A file that is being made.
pub(super) struct DatasetFile {
    path: PathBuf,
    images: Items,
    annotations: Items,
    /// Whether the lists hold a part of a photo that failed.
    is_spoilt: bool,
}

impl DatasetFile {
    pub(super) fn new(path: PathBuf) -> anyhow::Result<Self> {
        Ok(Self { path, images: Items::new()?, annotations: Items::new()?, is_spoilt: false })
    }

    /// Adds what one photo's own file says, under the photo's name. Where that fails, the photo adds nothing.
    pub(super) fn add(&mut self, file_name: &str, coco: &[u8]) -> anyhow::Result<()> {
        ensure!(!self.is_spoilt, "{SPOILT}");
        let (images, annotations) = (self.images.end, self.annotations.end);
        let added = self.add_all(file_name, coco);
        if added.is_err() {
            self.is_spoilt = self.images.cut(images).and_then(|()| self.annotations.cut(annotations)).is_err();
        }
        added
    }

    fn add_all(&mut self, file_name: &str, coco: &[u8]) -> anyhow::Result<()> {
        let Dataset { images, annotations, .. } = serde_json::from_slice(coco)?;
        for image in images {
            self.images.add(|id| Image { id, file_name: file_name.to_owned(), ..image })?;
        }
        let image_id = self.images.end.count;
        for annotation in annotations {
            self.annotations.add(|id| Annotation { id, image_id, ..annotation })?;
        }
        Ok(())
    }

    /// Writes the file, if any photo was added. One that is there already stays where that fails.
    pub(super) fn finish(self, manifest: &Manifest) -> anyhow::Result<Option<PathBuf>> {
        let Self { path, images, annotations, is_spoilt } = self;
        let name = || path.display().to_string();
        ensure!(!is_spoilt, "{}: {SPOILT}", name());
        if images.end.count == 0 {
            return Ok(None);
        }
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
    file: File,
    end: End,
}

/// How far a list goes.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    count: u64,
    bytes: u64,
}

impl Items {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { file: tempfile::tempfile().context(KEPT_IN)?, end: End::default() })
    }

    /// Adds the element that `item` makes of its number, counted from 1. Where that fails, a part of it may be in the
    /// file, which [`Self::cut`] takes back.
    fn add<T: Serialize>(&mut self, item: impl FnOnce(u64) -> T) -> anyhow::Result<()> {
        let count = self.end.count + 1;
        let mut text = if count > 1 { b",\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut text, &item(count))?;
        self.file.write_all(&text).context(KEPT_IN)?;
        self.end = End { count, bytes: self.end.bytes + text.len() as u64 };
        Ok(())
    }

    /// Takes back everything behind an earlier end.
    fn cut(&mut self, end: End) -> std::io::Result<()> {
        self.file.set_len(end.bytes)?;
        self.file.seek(SeekFrom::Start(end.bytes))?;
        self.end = end;
        Ok(())
    }

    fn copy_to(mut self, out: &mut impl Write) -> anyhow::Result<()> {
        self.file.rewind()?;
        std::io::copy(&mut self.file, out)?;
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

    #[test]
    fn what_was_added_by_half_is_taken_back() {
        let mut items = Items::new().unwrap();
        items.add(|id| id).unwrap();
        let end = items.end;
        items.add(|id| id * 1000).unwrap();
        items.file.write_all(b",\n{\"id\":").unwrap();
        items.cut(end).unwrap();
        items.add(|id| id).unwrap();
        let mut text = Vec::new();
        items.copy_to(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "1,\n2");
    }

    #[test]
    fn a_spoilt_file_replaces_no_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, "earlier").unwrap();
        let mut file = DatasetFile::new(path.clone()).unwrap();
        file.add("a.jpg", &of_a_photo(10, 2)).unwrap();
        // Takes no byte, and cannot be cut either.
        file.annotations.file = File::options().write(true).open("/dev/full").unwrap();
        let full = format!("{:#}", file.add("b.jpg", &of_a_photo(20, 2)).unwrap_err());
        assert!(full.starts_with(KEPT_IN), "{full}");
        assert_eq!(file.add("c.jpg", &of_a_photo(30, 0)).unwrap_err().to_string(), SPOILT);
        let error = file.finish(&manifest()).unwrap_err().to_string();
        assert!(error.contains(NAME) && error.ends_with(SPOILT), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "earlier");
    }
}
