//! The bytes of a source. They are in memory while they are few, and in a temporary file once they are many.
//!
//! A photo of 100 megapixels may have hundreds of megabytes, and a server may be sent many at once. A file's pages cost
//! no memory that the system could not take back, so what is held of a source is a few megabytes whatever its size.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::sys;
use crate::units::hex;

/// A source of more bytes than this goes to a file.
pub(crate) const MEMORY_BYTES: usize = 64 * 1024;

/// The most of a file that is resident at once, bytes, when whoever reads it from front to back calls
/// [`Blob::release`] every half of it.
pub(crate) const RESIDENT_BYTES: u64 = 8 << 20;

/// Bytes that do not change. They are cheap to clone.
#[derive(Debug, Clone)]
pub struct Blob(Held);

#[derive(Debug, Clone)]
enum Held {
    Memory(Bytes),
    /// A file without a name, so that nobody else can change it and it is gone with the last clone.
    File(Arc<Mmap>),
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Memory(bytes) => bytes,
            Held::File(mapping) => mapping,
        }
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(Held::Memory(bytes))
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

impl Blob {
    /// The most memory that these bytes take while they are read. That is all of them, but at most [`RESIDENT_BYTES`]
    /// for a file where `in_order` says that a reader goes through it from front to back.
    #[must_use]
    pub(crate) fn resident_bytes(&self, in_order: bool) -> u64 {
        let all = self.len() as u64;
        match &self.0 {
            Held::File(_) if in_order => all.min(RESIDENT_BYTES),
            _ => all,
        }
    }

    /// Lets the system take back what was read of a file. It can be read again as before.
    pub(crate) fn release(&self) {
        if let Held::File(mapping) = &self.0 {
            sys::release_mapping(mapping);
        }
    }

    /// All bytes, in pieces of at most half of [`RESIDENT_BYTES`]. Each piece is released when the next is asked for.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks(RESIDENT_BYTES as usize / 2).inspect(|_| self.release())
    }

    /// A part of the bytes that outlives this borrow. It is shared where they are in memory, and copied from a file.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Bytes {
        match &self.0 {
            Held::Memory(bytes) => bytes.slice(range),
            Held::File(mapping) => Bytes::copy_from_slice(&mapping[range]),
        }
    }

    /// The sha256 of all bytes, in lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        self.pieces().for_each(|piece| digest.update(piece));
        self.release();
        hex(&digest.finalize())
    }
}

/// Takes the bytes of a [`Blob`] one after the other.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    memory: Vec<u8>,
    file: Option<File>,
    /// Where that file lies.
    folder: PathBuf,
}

impl Default for BlobWriter {
    fn default() -> Self {
        Self::to(tempfile::env::temp_dir())
    }
}

impl BlobWriter {
    fn to(folder: PathBuf) -> Self {
        Self { memory: Vec::new(), file: None, folder }
    }

    /// Takes the next bytes. They are written to the page cache, so this may be called where nothing may wait long.
    ///
    /// # Errors
    /// `TemporaryFolder` when the folder is full, missing or cannot be written to, and `Internal` for other faults.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.memory.len() + bytes.len() <= MEMORY_BYTES {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder).map_err(|error| fault(error, &self.folder))?),
        };
        let written = file.write_all(&self.memory).and_then(|()| file.write_all(bytes));
        written.map_err(|error| fault(error, &self.folder))?;
        self.memory.clear();
        Ok(())
    }

    /// The blob of all bytes taken.
    ///
    /// # Errors
    /// Those of [`Self::push`].
    pub fn finish(self) -> Result<Blob> {
        let Some(mut file) = self.file else { return Ok(self.memory.into()) };
        let mapped = file.write_all(&self.memory).and_then(|()| sys::map(&file));
        Ok(Blob(Held::File(Arc::new(mapped.map_err(|error| fault(error, &self.folder))?))))
    }
}

/// Reads everything that `reader` gives. `bad` says what its failures mean.
///
/// # Errors
/// What `bad` makes of the reader's failures, and the errors of [`BlobWriter::push`].
pub fn read<E: From<Error>>(mut reader: impl Read, bad: impl Fn(io::Error) -> E) -> Result<Blob, E> {
    let mut blob = BlobWriter::default();
    let mut buffer = vec![0; MEMORY_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(blob.finish()?),
            Ok(read) => blob.push(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(bad(error)),
        }
    }
}

/// The error for a fault of the temporary file. What an operator can mend is said in one sentence, and anything else is
/// `Internal`.
fn fault(error: io::Error, folder: &Path) -> Error {
    use io::ErrorKind as Kind;
    let what = match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => "is full",
        Kind::NotFound | Kind::NotADirectory => "is missing",
        Kind::ReadOnlyFilesystem | Kind::PermissionDenied => "cannot be written to",
        _ => return Error::internal(error),
    };
    let detail = format!(
        "the temporary folder {} {what}, and a photo of more than {} KiB needs it; TMPDIR names another",
        folder.display(),
        MEMORY_BYTES / 1024
    );
    Error::TemporaryFolder { detail, source: Some(error.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(pieces in prop::collection::vec(0usize..40_000, 0..8), seed: u8) {
            let mut writer = BlobWriter::default();
            let mut expected = Vec::new();
            for (index, length) in pieces.into_iter().enumerate() {
                let piece: Vec<u8> = (0..length).map(|i| (i % 251) as u8 ^ seed ^ index as u8).collect();
                writer.push(&piece).unwrap();
                expected.extend(piece);
            }
            let blob = writer.finish().unwrap();
            prop_assert_eq!(matches!(blob.0, Held::File(_)), expected.len() > MEMORY_BYTES);
            prop_assert_eq!(&*blob, &expected);
            blob.release();
            prop_assert_eq!(&*blob, &expected);
            prop_assert_eq!(blob.pieces().collect::<Vec<_>>().concat(), expected.clone());
            prop_assert_eq!(blob.sha256(), hex(&Sha256::digest(&expected)));
            let (start, end) = (expected.len() / 3, expected.len() / 2);
            prop_assert_eq!(&*blob.part(start..end), &expected[start..end]);
        }
    }

    /// None of these folders can be written to, not even by root, so the fault is the same whoever runs the test.
    #[test]
    fn the_temporary_folder_is_named_and_small_bytes_need_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for (folder, word) in [
            (folder.path().join("none"), "is missing"),
            (file, "is missing"),
            (PathBuf::from("/sys"), "cannot be written to"),
        ] {
            let mut small = BlobWriter::to(folder.clone());
            small.push(&vec![1; MEMORY_BYTES]).unwrap();
            assert_eq!(small.finish().unwrap().len(), MEMORY_BYTES);
            let error = BlobWriter::to(folder.clone()).push(&vec![1; MEMORY_BYTES + 1]).unwrap_err();
            assert!(matches!(error, Error::TemporaryFolder { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("{} {word}", folder.display())), "{error}");
        }
        for (code, word) in
            [(libc::ENOSPC, "is full"), (libc::EDQUOT, "is full"), (libc::EROFS, "cannot be written to")]
        {
            let error = fault(io::Error::from_raw_os_error(code), Path::new("/scratch"));
            assert!(error.to_string().contains(&format!("/scratch {word}")), "{error}");
        }
    }

    /// A device that is always full stands for a file in a full folder.
    #[test]
    fn a_full_folder_is_not_busy() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = BlobWriter { file: Some(full), ..BlobWriter::to("/scratch".into()) };
        let error = writer.push(&vec![1; MEMORY_BYTES + 1]).unwrap_err();
        assert!(matches!(&error, Error::TemporaryFolder { detail, .. } if detail.contains("/scratch is full")));
    }

    /// Resident bytes of the mapping, as `/proc/self/smaps` says.
    fn resident(blob: &Blob) -> u64 {
        let start = format!("{:x}-", blob.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start));
        let line = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    #[test]
    fn a_file_read_in_order_costs_a_few_megabytes() {
        let mut writer = BlobWriter::default();
        let row = vec![7; 1 << 20];
        (0..40).for_each(|_| writer.push(&row).unwrap());
        let blob = writer.finish().unwrap();
        assert_eq!(blob.resident_bytes(true), RESIDENT_BYTES);
        assert_eq!(blob.resident_bytes(false), 40 << 20);
        assert_eq!(Blob::from(row).resident_bytes(true), 1 << 20);
        for piece in blob.pieces() {
            assert!(piece.iter().all(|byte| *byte == 7));
            assert!(resident(&blob) <= RESIDENT_BYTES);
        }
        assert!(resident(&blob) > 0, "the measurement sees the mapping");
        blob.release();
        assert_eq!(resident(&blob), 0);
    }
}
