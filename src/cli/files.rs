//! Which photos the arguments name, and where their outputs go.
//!
//! A folder is searched whatever is in it: what cannot be read is told in a line of its own and the rest is found.
//! Links are followed, each folder once, so that no loop of links hangs the search.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};
use walkdir::{DirEntry, WalkDir};

use crate::memory::blob::{self, Blob};
use crate::options::OutputKind;

/// The argument that means standard input.
pub(super) const STDIN: &str = "-";

/// Endings of file names for which a folder is searched. The format of a file is found by its content.
const EXTENSIONS: &[&str] = &[
    "jpg",
    "jpeg",
    "png",
    "webp",
    "bmp",
    "gif",
    "tif",
    "tiff",
    "jfif",
    #[cfg(feature = "avif")]
    "avif",
    #[cfg(feature = "heic")]
    "heic",
    #[cfg(feature = "heic")]
    "heif",
    #[cfg(feature = "heic")]
    "hif",
];

/// What other builds serve, and how to have it served.
const AVIF: &str = "AVIF (served by builds with the cargo feature `avif`)";
const HEIC: &str = "HEIC (served by builds with the cargo feature `heic`)";

/// Endings of images that are not served, and how they are called in the count of what was passed over. An ending that
/// is among [`EXTENSIONS`] as well is served.
const NOT_SERVED: [(&str, &str); 23] = [
    ("heic", HEIC),
    ("heif", HEIC),
    ("hif", HEIC),
    ("avif", AVIF),
    ("jxl", "JPEG XL"),
    ("jp2", "JPEG 2000"),
    ("j2k", "JPEG 2000"),
    ("psd", "PSD"),
    ("svg", "SVG"),
    ("ico", "ICO"),
    ("tga", "TGA"),
    ("exr", "OpenEXR"),
    ("dng", "camera raw"),
    ("cr2", "camera raw"),
    ("cr3", "camera raw"),
    ("nef", "camera raw"),
    ("arw", "camera raw"),
    ("raf", "camera raw"),
    ("orf", "camera raw"),
    ("rw2", "camera raw"),
    ("pef", "camera raw"),
    ("srw", "camera raw"),
    ("raw", "camera raw"),
];

/// Folders that programs make for themselves beside photos: thumbnails, resource forks, what was thrown away.
const SIDE_FOLDERS: [&str; 5] = ["@eaDir", "__MACOSX", "#recycle", "@Recycle", "$RECYCLE.BIN"];

/// A photo to parse.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Photo {
    Stdin,
    /// `name` is what is kept of the path below an output folder.
    File {
        path: PathBuf,
        name: PathBuf,
    },
}

/// What the arguments name.
#[derive(Debug, Default)]
pub struct Found {
    pub photos: Vec<Photo>,
    /// The folder that holds all that is named; `None` where that is standard input alone.
    pub common: Option<PathBuf>,
    /// What could not be searched, a sentence each.
    pub faults: Vec<String>,
    /// Images by their names that are not served: how many of which format.
    passed_over: BTreeMap<&'static str, usize>,
}

impl Found {
    /// One line about the images that are not served, if there were any.
    pub fn passed_over(&self) -> Option<String> {
        let count: usize = self.passed_over.values().sum();
        let formats: Vec<_> = self.passed_over.keys().copied().collect();
        (count > 0).then(|| format!("{count} passed over: {}", formats.join(", ")))
    }
}

impl Photo {
    /// How messages name it.
    pub fn label(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// What a file of several photos calls it: its path below the folder that holds them all.
    ///
    /// # Errors
    /// A name that is not UTF-8. What is shown of such names is not enough to tell them apart, or to find the file.
    pub(super) fn name(&self) -> anyhow::Result<&str> {
        match self {
            Self::Stdin => Ok("stdin"),
            Self::File { name, .. } => name.to_str().context("its name is not UTF-8, so no COCO file can hold it"),
        }
    }

    /// At most `most` bytes. The fault does not name the photo.
    pub fn read(&self, most: u64) -> anyhow::Result<Blob> {
        match self {
            Self::Stdin => read(std::io::stdin().lock(), most),
            Self::File { path, .. } => File::open(path).map_err(Into::into).and_then(|file| read(file, most)),
        }
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

/// The photos that `paths` name: files as they are, folders searched for images, in name order. The same file named
/// twice is one photo, also where one of the paths goes through a link to its folder.
///
/// Below an output folder the one folder or file that is named keeps its structure; of several, each keeps its path
/// below the folder that holds them all, so that `day1/a.jpg` and `day2/a.jpg` stay two.
///
/// # Errors
/// A path that names no file.
pub fn find(paths: &[PathBuf]) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut bases = Vec::new();
    for path in paths.iter().filter(|path| *path != Path::new(STDIN)) {
        bases.push(base(path)?);
    }
    found.common = bases.into_iter().reduce(|one, other| common(&one, &other));
    let common = found.common.clone().unwrap_or_default();
    let named = |path: PathBuf| -> anyhow::Result<Photo> {
        let whole = absolute(&path)?;
        let name = whole.strip_prefix(&common).unwrap_or(&whole).to_path_buf();
        Ok(Photo::File { path, name })
    };
    for path in paths {
        if path == Path::new(STDIN) {
            found.photos.push(Photo::Stdin);
        } else if path.is_dir() {
            for photo in search(path, &mut found) {
                found.photos.push(named(photo)?);
            }
        } else {
            found.photos.push(named(path.clone())?);
        }
    }
    let mut seen = HashSet::new();
    found.photos.retain(|photo| match photo {
        Photo::Stdin => true,
        Photo::File { path, .. } => place(path).is_ok_and(|place| seen.insert(place)),
    });
    Ok(found)
}

/// Refuses photos whose outputs would meet each other, or the photos themselves.
///
/// # Errors
/// A sentence that names both.
pub fn check_outputs(photos: &[Photo], folder: Option<&Path>, kinds: &[OutputKind]) -> anyhow::Result<()> {
    let mut written: HashMap<PathBuf, &Photo> = HashMap::new();
    for photo in photos {
        for kind in kinds {
            let output = photo.output(folder, *kind);
            if let Some(other) = written.insert(place(&output)?, photo) {
                anyhow::bail!(
                    "{} and {} would both be written to {}; parse them one after the other into folders of their own",
                    other.label(),
                    photo.label(),
                    output.display()
                );
            }
        }
    }
    for photo in photos {
        let Photo::File { path, .. } = photo else { continue };
        if let Some(other) = written.get(&place(path)?) {
            anyhow::bail!(
                "an output of {} would be written over {}; name a folder for outputs with -o",
                other.label(),
                photo.label()
            );
        }
    }
    Ok(())
}

/// The photos in a folder and below it. What could not be read, and what is passed over, is noted in `found`.
fn search(root: &Path, found: &mut Found) -> Vec<PathBuf> {
    let (mut photos, mut visited, before) = (Vec::new(), HashSet::new(), found.faults.len());
    let is_searched = |entry: &DirEntry| entry.depth() == 0 || !is_aside(entry.path());
    let mut is_first_visit = |entry: &DirEntry| {
        !entry.file_type().is_dir() || entry.metadata().map_or(true, |at| visited.insert((at.dev(), at.ino())))
    };
    let walk = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| is_searched(entry) && is_first_visit(entry)) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_photo(entry.path()) => photos.push(entry.into_path()),
            Ok(entry) if entry.file_type().is_file() => {
                if let Some(format) = format_not_served(entry.path()) {
                    *found.passed_over.entry(format).or_default() += 1;
                }
            }
            Ok(_) => {}
            Err(error) => found.faults.extend(fault(&error)),
        }
    }
    if photos.is_empty() && found.faults.len() == before {
        found.faults.push(format!("{}: no images in this folder", root.display()));
    }
    photos
}

/// What an entry that could not be read is told as; `None` where nobody misses it: a loop of links, a broken link that
/// is no photo by its name, what would be passed over anyway.
fn fault(error: &walkdir::Error) -> Option<String> {
    let path = error.path()?;
    let is_broken_link = path.is_symlink() && !path.exists();
    let is_missed = error.depth() == 0 || !is_aside(path) && (!is_broken_link || is_photo(path));
    let cause = error.io_error().filter(|_| error.loop_ancestor().is_none() && is_missed)?;
    Some(format!("{}: cannot be read: {cause}", path.display()))
}

/// Hidden files and folders, and what programs keep beside photos.
fn is_aside(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || SIDE_FOLDERS.contains(&name.as_ref())
}

/// The folder that a path's photos are named below: itself, or where the file lies.
fn base(path: &Path) -> anyhow::Result<PathBuf> {
    let whole = absolute(path)?;
    if path.is_dir() {
        return Ok(whole);
    }
    path.file_name().with_context(|| format!("{}: not a file", path.display()))?;
    Ok(whole.parent().unwrap_or(&whole).to_path_buf())
}

/// The path from the root, without `.` and `..`. Links keep their names, but behind one `..` is the folder that holds
/// what it leads to, as it is for the system.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let whole = std::path::absolute(path).with_context(|| path.display().to_string())?;
    let mut plain = PathBuf::new();
    for component in whole.components() {
        match component {
            Component::ParentDir => {
                if plain.is_symlink() {
                    plain = plain.canonicalize().unwrap_or(plain);
                }
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    Ok(plain)
}

/// Where a file lies, the same whatever path leads to it: its folder without links, and its own name, which may be a
/// link's. A folder that is not there yet stays as it is named.
fn place(path: &Path) -> anyhow::Result<PathBuf> {
    let whole = absolute(path)?;
    let (Some(folder), Some(name)) = (whole.parent(), whole.file_name()) else { return Ok(whole) };
    Ok(folder.canonicalize().map_or_else(|_| whole.clone(), |folder| folder.join(name)))
}

/// The folder that holds both.
fn common(one: &Path, other: &Path) -> PathBuf {
    one.components().zip(other.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// The ending in small letters.
fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Whether the file is an image by its ending, and not one that this program wrote.
fn is_photo(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let written_here = OutputKind::ALL.iter().any(|kind| name.ends_with(kind.suffix()));
    !written_here && EXTENSIONS.contains(&extension(path).as_str())
}

/// The format of an image by its ending that is not served.
fn format_not_served(path: &Path) -> Option<&'static str> {
    let extension = extension(path);
    let is_served = EXTENSIONS.contains(&extension.as_str());
    NOT_SERVED.iter().find(|(ending, _)| *ending == extension && !is_served).map(|(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with these files.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        folder
    }

    /// What `paths` below `folder` name, and the names of their masks below `out`.
    fn masks(folder: &Path, paths: &[&str]) -> (Found, Vec<String>) {
        let paths: Vec<_> = paths.iter().map(|path| folder.join(path)).collect();
        let found = find(&paths).unwrap();
        let outputs = found.photos.iter().map(|photo| photo.output(Some(Path::new("out")), OutputKind::Mask));
        let outputs = outputs.map(|path| path.display().to_string()).collect();
        (found, outputs)
    }

    #[test]
    fn folders_give_photos_but_not_our_own_outputs() {
        let folder = folder(&["b.JPG", "in/a.png", "b.JPG.mask.png", "b.JPG.overlay.jpg", "notes.txt"]);
        let (found, names) = masks(folder.path(), &[""]);
        assert_eq!(names, ["out/b.JPG.mask.png", "out/in/a.png.mask.png"]);
        assert_eq!(found.photos[0].output(None, OutputKind::Json), folder.path().join("b.JPG.json"));
        assert!(found.faults.is_empty() && found.passed_over().is_none());
    }

    #[test]
    fn an_empty_folder_is_told_and_the_others_are_searched() {
        let folder = folder(&["full/a.jpg", "empty/notes.txt"]);
        let (found, names) = masks(folder.path(), &["empty", "full"]);
        assert_eq!(names, ["out/full/a.jpg.mask.png"]);
        assert!(found.faults[0].ends_with("empty: no images in this folder"), "{:?}", found.faults);
    }

    #[test]
    fn each_photo_has_outputs_of_its_own() {
        let folder = folder(&["day1/IMG_1.jpg", "day2/IMG_1.jpg", "day2/more/IMG_1.jpg", "top.jpg"]);
        for (paths, expected) in [
            (&["day1/IMG_1.jpg"][..], &["IMG_1.jpg"][..]),
            (&["day2"], &["IMG_1.jpg", "more/IMG_1.jpg"]),
            (&["day1/IMG_1.jpg", "day2/IMG_1.jpg"], &["day1/IMG_1.jpg", "day2/IMG_1.jpg"]),
            (&["day1", "day2"], &["day1/IMG_1.jpg", "day2/IMG_1.jpg", "day2/more/IMG_1.jpg"]),
            (&["day1", "top.jpg"], &["day1/IMG_1.jpg", "top.jpg"]),
            (&["day2/IMG_1.jpg", "day2/more/IMG_1.jpg"], &["IMG_1.jpg", "more/IMG_1.jpg"]),
            (&["day1/../day1/IMG_1.jpg", "./day1/IMG_1.jpg", "day1"], &["IMG_1.jpg"]),
        ] {
            let (found, names) = masks(folder.path(), paths);
            let expected: Vec<_> = expected.iter().map(|name| format!("out/{name}.mask.png")).collect();
            assert_eq!(names, expected, "{paths:?}");
            // The mask in one of its two forms.
            let kinds: Vec<_> = OutputKind::ALL.into_iter().filter(|kind| *kind != OutputKind::Index).collect();
            check_outputs(&found.photos, Some(Path::new("out")), &kinds).unwrap();
            check_outputs(&found.photos, None, &kinds).unwrap();
        }
    }

    #[test]
    fn outputs_that_would_meet_are_refused() {
        let folder = folder(&["stdin", "a.jpg", "a.jpg.mask.png"]);
        let check = |paths: &[PathBuf], out: Option<&Path>| {
            check_outputs(&find(paths).unwrap().photos, out, &[OutputKind::Mask]).unwrap_err().to_string()
        };
        let error = check(&["-".into(), folder.path().join("stdin")], Some(Path::new("out")));
        assert!(error.contains("standard input and") && error.contains("out/stdin.mask.png"), "{error}");
        let error = check(&["-".into(), "-".into()], None);
        assert!(error.contains("standard input and standard input"), "{error}");
        let error = check(&["a.jpg", "a.jpg.mask.png"].map(|name| folder.path().join(name)), None);
        assert!(error.contains("would be written over"), "{error}");
    }

    #[test]
    fn what_lies_beside_photos_is_passed_over() {
        let folder = folder(&[
            "a.jpg",
            "._a.jpg",
            ".hidden.png",
            ".thumbnails/a.jpg",
            "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
            "__MACOSX/._a.jpg",
            "in/.cache/b.jpg",
            "b.jxl",
            "c.CR2",
            "d.nef",
            "e.txt",
            ".f.jxl",
        ]);
        let appledouble = include_bytes!("../../tests/data/cases/01-appledouble.jpg");
        std::fs::write(folder.path().join("._a.jpg"), appledouble).unwrap();
        let (found, names) = masks(folder.path(), &[""]);
        assert_eq!(names, ["out/a.jpg.mask.png"]);
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        assert_eq!(found.passed_over().unwrap(), "3 passed over: JPEG XL, camera raw");
        // A hidden file or folder that is named is meant.
        assert_eq!(masks(folder.path(), &[".hidden.png"]).1, ["out/.hidden.png.mask.png"]);
        assert_eq!(masks(folder.path(), &[".thumbnails"]).1, ["out/a.jpg.mask.png"]);
    }

    /// A build that serves AVIF or HEIC finds it; one that does not says how to get it.
    #[test]
    fn avif_and_heic_are_photos_or_passed_over() {
        let avif = folder(&["a.jpg", "b.avif"]);
        let (found, names) = masks(avif.path(), &[""]);
        if cfg!(feature = "avif") {
            assert_eq!(names, ["out/a.jpg.mask.png", "out/b.avif.mask.png"]);
        } else {
            let line = found.passed_over().unwrap();
            assert_eq!(line, "1 passed over: AVIF (served by builds with the cargo feature `avif`)");
        }
        let folder = folder(&["a.jpg", "IMG_1.HEIC", "IMG_2.heif"]);
        let (found, names) = masks(folder.path(), &[""]);
        if cfg!(feature = "heic") {
            assert_eq!(names, ["out/IMG_1.HEIC.mask.png", "out/IMG_2.heif.mask.png", "out/a.jpg.mask.png"]);
            assert!(found.passed_over().is_none());
        } else {
            assert_eq!(names, ["out/a.jpg.mask.png"]);
            let line = found.passed_over().unwrap();
            assert_eq!(line, "2 passed over: HEIC (served by builds with the cargo feature `heic`)");
        }
    }

    #[test]
    fn links_to_photos_are_photos_and_loops_end() {
        let folder = folder(&["real/a.jpg", "photos/b.jpg"]);
        let at = |name: &str| folder.path().join("photos").join(name);
        symlink("../real/a.jpg", at("link.jpg")).unwrap();
        symlink("../real", at("folder")).unwrap();
        symlink("../real", at("twin")).unwrap();
        symlink("..", at("up")).unwrap();
        symlink(".", at("self")).unwrap();
        symlink("nowhere", at("broken.txt")).unwrap();
        let (found, names) = masks(folder.path(), &["photos"]);
        assert_eq!(names, ["out/b.jpg.mask.png", "out/folder/a.jpg.mask.png", "out/link.jpg.mask.png"]);
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        symlink("nowhere.jpg", at("broken.jpg")).unwrap();
        let (found, names) = masks(folder.path(), &["photos"]);
        assert_eq!((names.len(), found.faults.len()), (3, 1));
        assert!(found.faults[0].contains("broken.jpg: cannot be read"), "{:?}", found.faults);
    }

    #[test]
    fn paths_through_links_are_what_the_system_makes_of_them() {
        let folder = folder(&["a.jpg", "real/a.jpg", "real/in/b.jpg"]);
        symlink("real/in", folder.path().join("link")).unwrap();
        for (paths, expected) in [
            (&["a.jpg", "link/../a.jpg"][..], &["a.jpg", "real/a.jpg"][..]),
            (&["link/../a.jpg", "real/a.jpg"], &["a.jpg"]),
            (&["link/b.jpg", "real/in/b.jpg"], &["link/b.jpg"]),
            (&["link/..", "a.jpg"], &["real/a.jpg", "real/in/b.jpg", "a.jpg"]),
            (&["link/nothing/../../a.jpg"], &["a.jpg"]),
        ] {
            let (found, names) = masks(folder.path(), paths);
            let expected: Vec<_> = expected.iter().map(|name| format!("out/{name}.mask.png")).collect();
            assert_eq!(names, expected, "{paths:?}");
            check_outputs(&found.photos, None, &[OutputKind::Mask]).unwrap();
        }
    }

    #[test]
    fn outputs_that_meet_through_a_link_are_refused() {
        let folder = folder(&["photos/one/a.jpg", "photos/two/a.jpg", "out/one/b.txt"]);
        symlink("one", folder.path().join("out/two")).unwrap();
        let found = masks(folder.path(), &["photos"]).0;
        let out = folder.path().join("out");
        let error = check_outputs(&found.photos, Some(&out), &[OutputKind::Mask]).unwrap_err().to_string();
        assert!(error.contains("would both be written to"), "{error}");
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_in_no_list() {
        let folder = folder(&["a.jpg"]);
        for name in [&b"\xfe.jpg"[..], b"\xff.jpg"] {
            std::fs::write(folder.path().join(OsStr::from_bytes(name)), b"x").unwrap();
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found.photos.iter().map(|photo| photo.name().map_err(|error| error.to_string())).collect();
        let refused = Err("its name is not UTF-8, so no COCO file can hold it".to_owned());
        assert_eq!(names, [Ok("a.jpg"), refused.clone(), refused]);
    }

    /// A folder whose path is longer than the system opens: unreadable for root, too, for whom permissions are none.
    #[test]
    fn an_unreadable_folder_does_not_end_the_search() {
        let folder = folder(&["photos/a.jpg", "photos/z.jpg"]);
        let long = |levels: usize| (0..levels).map(|_| "l".repeat(250)).collect::<PathBuf>();
        let (outer, inner) = (folder.path().join("photos").join(long(10)), folder.path().join(long(10)));
        for deep in [&outer, &inner] {
            std::fs::create_dir_all(deep).unwrap();
        }
        std::fs::rename(folder.path().join("l".repeat(250)), outer.join("inner")).unwrap();
        let (found, names) = masks(folder.path(), &["photos"]);
        assert_eq!(names, ["out/a.jpg.mask.png", "out/z.jpg.mask.png"]);
        assert_eq!(found.faults.len(), 1);
        assert!(found.faults[0].contains("cannot be read"), "{:?}", found.faults);
    }
}
