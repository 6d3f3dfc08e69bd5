//! A PNG that is written row by row into memory whose size is bounded beforehand.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Limit, Result};
use crate::geometry::Size;

/// The size of an IDAT chunk, and of the encoder's buffer for it.
const CHUNK_BYTES: usize = 32 * 1024;

/// Bytes that the encoder holds for an image whose rows have `row_bytes`: three rows, a chunk and the compressor's
/// tables (`miniz_oxide`'s window, hash chains and output, about 350 kB).
pub(super) fn encoder_bytes(row_bytes: u64) -> u64 {
    3 * row_bytes + CHUNK_BYTES as u64 + 384 * 1024
}

/// How the rows are compressed.
pub(super) struct Coding {
    pub color: png::ColorType,
    /// RGB triples; empty where the colour type has no palette.
    pub palette: Vec<u8>,
    pub compression: png::DeflateCompression,
    pub filter: png::Filter,
}

/// The encoder and where it writes.
pub(super) struct PngRows {
    stream: png::StreamWriter<'static, Shared>,
    bytes: Shared,
}

impl PngRows {
    /// An 8-bit PNG of `size` that may take at most `most_bytes`.
    pub(super) fn new(size: Size, coding: Coding, most_bytes: u64) -> Result<Self> {
        let bytes = Shared::new(most_bytes);
        let mut encoder = png::Encoder::new(bytes.clone(), size.width, size.height);
        encoder.set_color(coding.color);
        encoder.set_depth(png::BitDepth::Eight);
        if !coding.palette.is_empty() {
            encoder.set_palette(coding.palette);
        }
        encoder.set_deflate_compression(coding.compression);
        encoder.set_filter(coding.filter);
        let stream = encoder.write_header().and_then(|writer| writer.into_stream_writer_with_size(CHUNK_BYTES));
        match stream {
            Ok(stream) => Ok(Self { stream, bytes }),
            Err(error) => Err(bytes.fault(error)),
        }
    }

    /// Takes the next rows, which must be whole ones.
    pub(super) fn push(&mut self, rows: &[u8]) -> Result<()> {
        self.stream.write_all(rows).map_err(|error| self.bytes.fault(error))
    }

    /// Ends the file after the last row and returns it.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        let Self { stream, bytes } = self;
        stream.finish().map_err(|error| bytes.fault(error))?;
        let file = std::mem::take(&mut bytes.lock().file);
        Ok(file)
    }
}

/// The growing file. The encoder does not give its writer back, so the file is shared with it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Bounded>>);

struct Bounded {
    file: Vec<u8>,
    most_bytes: u64,
    overrun: bool,
}

impl Shared {
    fn new(most_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Bounded { file: Vec::new(), most_bytes, overrun: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Bounded> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn fault(&self, error: impl Into<crate::error::Cause>) -> Error {
        let bounded = self.lock();
        if !bounded.overrun {
            return Error::internal(error);
        }
        let detail = format!("the PNG would take more than the {} bytes planned for it", bounded.most_bytes);
        Error::TooLarge { limit: Limit::Memory, detail }
    }
}

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let mut bounded = self.lock();
        let length = bounded.file.len() + data.len();
        if length as u64 > bounded.most_bytes {
            bounded.overrun = true;
            return Err(std::io::Error::other("beyond the planned size"));
        }
        if length > bounded.file.capacity() {
            // The buffer never grows beyond the plan, as it might by doubling. Large blocks grow in place or are moved
            // by the kernel (mremap), so the old and the new one are not held at once.
            let wanted = (length + length / 2).min(usize::try_from(bounded.most_bytes).unwrap_or(usize::MAX));
            let more = wanted - bounded.file.len();
            bounded.file.reserve_exact(more);
        }
        bounded.file.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_its_plan_is_refused() {
        let coding = || Coding {
            color: png::ColorType::Grayscale,
            palette: Vec::new(),
            compression: png::DeflateCompression::NoCompression,
            filter: png::Filter::NoFilter,
        };
        let size = Size::new(300, 300);
        let write = |most_bytes| {
            let mut rows = PngRows::new(size, coding(), most_bytes)?;
            rows.push(&vec![7; 300 * 300])?;
            rows.finish()
        };
        let error = write(50_000).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: Limit::Memory, .. }), "{error}");
        assert!(write(100_000).unwrap().len() > 90_000);
    }
}
