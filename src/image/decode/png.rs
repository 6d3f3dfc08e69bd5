//! PNG, decoded row by row. The passes of an interlaced file are put together in one frame.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use png::{ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Reader, Transformations};

use super::color::{Kind, ToRgb};
use super::row::{RGB, Row, RowSink, apart, too_few_rows, undecodable};
use crate::error::{Error, Result};
use crate::image::header::{Header, png as chunks};

/// Bytes that the decoder may keep besides rows, for palettes and the like.
const KEPT_BYTES: u64 = 64 << 10;

/// Working bytes a column and fixed working bytes. `png`'s `UnfilteringBuffer` keeps up to six rows, grows by doubling
/// and may be copied while it does, and a pixel has at most 8 bytes. To these come the transformed row, its colours and
/// alpha apart, and our row. The fixed bytes include 128 KiB that the buffer keeps whatever the width.
pub(crate) const WORKING_BYTES: (u64, u64) = (6 * 8 * 3 + 4 + 4 + 3, 3 * (128 << 10) + KEPT_BYTES + (256 << 10));

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let row_bytes = u64::from(header.stored.width) * 8 + 1;
    let limits = Limits { bytes: (row_bytes + KEPT_BYTES) as usize };
    let mut decoder = Decoder::new_with_limits(PixelChunks::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let reader = decoder.read_info().map_err(|error| damaged(&error))?;
    if reader.info().size() != (header.stored.width, header.stored.height) {
        return Err(undecodable("its headers contradict each other"));
    }
    let pixels = Pixels::new(reader.output_color_type().0, bytes, header);
    if reader.info().interlaced {
        interlaced(reader, pixels, header, sink)
    } else {
        streamed(reader, pixels, header, sink)
    }
}

type Source<'a> = Reader<PixelChunks<'a>>;

/// Rows of 8-bit samples as the decoder gives them: it expands palettes and samples of fewer bits, and reduces samples
/// of 16 bits.
struct Pixels {
    color: ColorType,
    to_rgb: ToRgb,
    /// Colours and alpha apart, for files whose pixels hold both together.
    colors: Vec<u8>,
    alpha: Vec<u8>,
}

impl Pixels {
    fn new(color: ColorType, bytes: &[u8], header: &Header) -> Self {
        let kind = match color {
            ColorType::Grayscale | ColorType::GrayscaleAlpha => Kind::Grey,
            ColorType::Rgb | ColorType::Rgba | ColorType::Indexed => Kind::Rgb,
        };
        let width = header.stored.width as usize;
        let (colors, alpha) = match color {
            ColorType::GrayscaleAlpha => (width, width),
            ColorType::Rgba => (width * RGB, width),
            _ => (0, 0),
        };
        Self { color, to_rgb: ToRgb::new(bytes, header, kind), colors: vec![0; colors], alpha: vec![0; alpha] }
    }

    fn row<'a>(&'a mut self, samples: &'a [u8]) -> Result<Row<'a>> {
        match self.color {
            ColorType::GrayscaleAlpha => apart::<2>(samples, &mut self.colors, &mut self.alpha),
            ColorType::Rgba => apart::<4>(samples, &mut self.colors, &mut self.alpha),
            _ => return Ok(Row { rgb: self.to_rgb.row(samples)?, alpha: None }),
        }
        let pixels = samples.len() / self.color.samples();
        let colors = &self.colors[..pixels * (self.color.samples() - 1)];
        Ok(Row { rgb: self.to_rgb.row(colors)?, alpha: Some(&self.alpha[..pixels]) })
    }
}

fn streamed(mut reader: Source<'_>, mut pixels: Pixels, header: &Header, sink: RowSink<'_>) -> Result<()> {
    let width = header.stored.width as usize;
    let mut row = vec![0; width * pixels.color.samples()];
    for _ in 0..header.stored.height {
        let more = reader.read_row(&mut row).map_err(|error| damaged(&error))?;
        more.ok_or_else(too_few_rows)?;
        sink(pixels.row(&row)?)?;
    }
    Ok(())
}

fn interlaced(mut reader: Source<'_>, mut pixels: Pixels, header: &Header, sink: RowSink<'_>) -> Result<()> {
    let width = header.stored.width as usize;
    let area = width * header.stored.height as usize;
    let has_alpha = !pixels.alpha.is_empty();
    let mut frame = vec![0; area * RGB];
    let mut alpha = vec![0; if has_alpha { area } else { 0 }];
    while let Some(row) = reader.next_interlaced_row().map_err(|error| damaged(&error))? {
        let InterlaceInfo::Adam7(pass) = row.interlace() else {
            return Err(undecodable("its interlacing is inconsistent"));
        };
        let row = pixels.row(row.data())?;
        png::expand_interlaced_row(&mut frame, width * RGB, row.rgb, pass, 24);
        if let Some(row) = row.alpha {
            png::expand_interlaced_row(&mut alpha, width, row, pass, 8);
        }
    }
    let mut alpha = alpha.chunks_exact(width);
    frame.chunks_exact(width * RGB).try_for_each(|rgb| sink(Row { rgb, alpha: alpha.next() }))
}

/// The file without its metadata, which may be of any size. The decoder is given the critical chunks and the
/// transparency only. An animation's frames are left out too, because every decoder shows the first picture.
struct PixelChunks<'a> {
    bytes: &'a [u8],
    /// Where the bytes that are given next begin, and where they end.
    at: usize,
    end: usize,
}

impl<'a> PixelChunks<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, end: chunks::SIGNATURE }
    }
}

impl Read for PixelChunks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(out)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for PixelChunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.end && self.end < self.bytes.len() {
            // What is not a whole chunk is left for the decoder to refuse.
            let (needed, next) = match chunks::chunk(self.bytes, self.end) {
                Some((kind, _, next)) => (kind[0].is_ascii_uppercase() || kind == *b"tRNS", next),
                None => (true, self.bytes.len()),
            };
            let next = next.min(self.bytes.len());
            self.at = if needed { self.end } else { next };
            self.end = next;
        }
        Ok(&self.bytes[self.at..self.end])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

/// The decoder requires this trait and never seeks.
impl Seek for PixelChunks<'_> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn damaged(error: &DecodingError) -> Error {
    undecodable(match error {
        DecodingError::IoError(_) => "it ends before its last row",
        DecodingError::LimitsExceeded => "its palette is too large",
        _ => "its data is damaged",
    })
}
