//! The rows of one strip or tile as 8-bit samples, unpacked and with the predictor undone.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{self, Read};

use fax::Color;
use fax::decoder::{DecodeStatus, Group3Decoder, Group4Decoder, pels};

use super::codec;
use crate::error::Result;
use crate::image::decode::color::Kind;
use crate::image::decode::jpeg::Scanlines;
use crate::image::decode::row::{too_few_rows, undecodable};
use crate::image::header::bytes::Endian;
use crate::image::header::tiff::{Coding, Compression, Directory, Photometric};
use crate::image::header::{format, jpeg};

/// Adobe's marker, whose last byte says how three or four samples were transformed: 0 for not at all, 1 for YCbCr.
/// Without it, libjpeg would guess and could take RGB for YCbCr.
const AS_STORED: &[u8] = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0";
const AS_YCBCR: &[u8] = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x01";

pub(super) enum Chunk<'a> {
    Packed(Packed<'a>),
    Subsampled(Subsampled<'a>),
    Jpeg(Box<Scanlines<'a>>),
    Fax(Box<Fax<'a>>),
}

impl<'a> Chunk<'a> {
    /// `samples` is the number of samples of a pixel in this chunk, and `height` the number of rows that will be read.
    pub fn new(
        bytes: &'a [u8],
        directory: &Directory<'a>,
        coding: &Coding,
        samples: usize,
        height: usize,
    ) -> Result<Self> {
        let width = coding.chunk.width as usize;
        if coding.compression == Compression::Jpeg {
            return Ok(Self::Jpeg(Box::new(jpeg_stream(bytes, directory, coding, samples, height)?)));
        }
        let bytes = if directory.reversed_bits {
            Cow::Owned(bytes.iter().map(|byte| byte.reverse_bits()).collect())
        } else {
            Cow::Borrowed(bytes)
        };
        if matches!(coding.compression, Compression::Fax3 | Compression::Fax4) {
            return Ok(Self::Fax(Box::new(Fax::new(bytes, coding.compression, width as u16)?)));
        }
        let source = codec::reader(bytes, coding.compression)?;
        if coding.photometric == Photometric::YCbCr && directory.is_subsampled() {
            return Ok(Self::Subsampled(Subsampled::new(source, width, directory.subsampling)));
        }
        let bits = directory.bits as usize;
        let predicts = matches!(coding.compression, Compression::Lzw | Compression::Deflate | Compression::Zstd);
        Ok(Self::Packed(Packed {
            source,
            row: vec![0; (width * samples * bits).div_ceil(8)],
            bits,
            endian: directory.endian,
            // With the predictor, a sample is stored as its difference from the one this far before it.
            predictor: (predicts && directory.predictor == 2).then_some(samples),
        }))
    }

    /// Writes the next row to `out`, which takes the chunk's width × samples bytes.
    pub fn next_row(&mut self, out: &mut [u8]) -> Result<()> {
        match self {
            Self::Packed(packed) => packed.next_row(out),
            Self::Subsampled(subsampled) => subsampled.next_row(out),
            Self::Jpeg(scanlines) => scanlines.read(out),
            Self::Fax(fax) => fax.next_row(out),
        }
    }
}

/// The error for a row whose bytes could not be read.
fn unread(error: &io::Error) -> crate::error::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { too_few_rows() } else { undecodable("its data is damaged") }
}

/// Begins to read a JPEG stream whose tables may lie elsewhere in the file.
fn jpeg_stream<'a>(
    bytes: &'a [u8],
    directory: &Directory<'a>,
    coding: &Coding,
    samples: usize,
    height: usize,
) -> Result<Scanlines<'a>> {
    // A progressive stream would hold coefficients that the plan has not counted. The streams in a TIFF are sequential.
    let own = jpeg::read(bytes)?;
    if own.held_bytes > 0 {
        return Err(format::unsupported("TIFF with progressive JPEG is not served; send the JPEG itself"));
    }
    let adobe = if coding.photometric == Photometric::YCbCr { AS_YCBCR } else { AS_STORED };
    // The start and end markers of the tables are left out.
    let tables = directory.jpeg_tables.get(2..).and_then(|tables| tables.strip_suffix(b"\xff\xd9")).unwrap_or(&[]);
    let stream = if samples == 1 { [&bytes[..2], tables, &bytes[2..], &[]] } else { [adobe, tables, &bytes[2..], &[]] };
    let stream = Scanlines::new(stream)?;
    let expected = match samples {
        1 => Kind::Grey,
        3 => Kind::Rgb,
        _ => Kind::Cmyk,
    };
    if stream.width != coding.chunk.width as usize || stream.height < height || stream.kind != expected {
        return Err(undecodable("a JPEG inside it contradicts its header"));
    }
    Ok(stream)
}

/// Rows of packed samples.
pub(super) struct Packed<'a> {
    source: Box<dyn Read + 'a>,
    row: Vec<u8>,
    bits: usize,
    endian: Endian,
    predictor: Option<usize>,
}

impl Packed<'_> {
    fn next_row(&mut self, out: &mut [u8]) -> Result<()> {
        self.source.read_exact(&mut self.row).map_err(|error| unread(&error))?;
        match self.bits {
            8 => {
                if let Some(distance) = self.predictor {
                    for at in distance..self.row.len() {
                        self.row[at] = self.row[at].wrapping_add(self.row[at - distance]);
                    }
                }
                out.copy_from_slice(&self.row);
            }
            16 => self.halves(out),
            bits => unpack(&self.row, bits, out),
        }
        Ok(())
    }

    /// The high bytes of 16-bit samples.
    fn halves(&mut self, out: &mut [u8]) {
        let samples = self.row.as_chunks_mut::<2>().0;
        let little = self.endian == Endian::Little;
        if let Some(distance) = self.predictor {
            let value = |sample: [u8; 2]| if little { u16::from_le_bytes(sample) } else { u16::from_be_bytes(sample) };
            for at in distance..samples.len() {
                let sum = value(samples[at]).wrapping_add(value(samples[at - distance]));
                samples[at] = if little { sum.to_le_bytes() } else { sum.to_be_bytes() };
            }
        }
        out.iter_mut().zip(samples).for_each(|(out, sample)| *out = sample[usize::from(little)]);
    }
}

/// Unpacks samples of 1, 2 or 4 bits, the first of which is in the highest bits.
fn unpack(row: &[u8], bits: usize, out: &mut [u8]) {
    let in_a_byte = 8 / bits;
    let mask = (1u8 << bits) - 1;
    for (x, out) in out.iter_mut().enumerate() {
        let shift = 8 - bits * (x % in_a_byte + 1);
        *out = row[x / in_a_byte] >> shift & mask;
    }
}

/// YCbCr whose colour differences are shared by several pixels. It is stored in blocks of `across` × `down` luma
/// samples and two differences.
pub(super) struct Subsampled<'a> {
    source: Box<dyn Read + 'a>,
    blocks: Vec<u8>,
    across: usize,
    down: usize,
    /// How many rows of the current blocks were given.
    given: usize,
}

impl<'a> Subsampled<'a> {
    fn new(source: Box<dyn Read + 'a>, width: usize, (across, down): (u64, u64)) -> Self {
        let (across, down) = (across as usize, down as usize);
        let blocks = vec![0; width.div_ceil(across) * (across * down + 2)];
        Self { source, blocks, across, down, given: down }
    }

    fn next_row(&mut self, out: &mut [u8]) -> Result<()> {
        if self.given == self.down {
            self.source.read_exact(&mut self.blocks).map_err(|error| unread(&error))?;
            self.given = 0;
        }
        let lumas = self.across * self.down;
        for (pixels, block) in out.chunks_mut(self.across * 3).zip(self.blocks.chunks_exact(lumas + 2)) {
            let row = &block[self.given * self.across..];
            for (pixel, &luma) in pixels.chunks_exact_mut(3).zip(row) {
                pixel.copy_from_slice(&[luma, block[lumas], block[lumas + 1]]);
            }
        }
        self.given += 1;
        Ok(())
    }
}

/// Rows in fax compression. A sample is 1 where the paper is black.
pub(super) struct Fax<'a> {
    decoder: FaxDecoder<'a>,
    width: u16,
    end: End,
}

/// Whether the end of the page was met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// The code for the end was met, so the rest of the page is white.
    Told,
    /// The data ended behind a whole line, without that code.
    Silent,
}

/// Bytes that lie in the file, or in a copy whose bits were reversed.
type Bytes<'a> = Box<dyn Iterator<Item = std::result::Result<u8, Infallible>> + 'a>;

enum FaxDecoder<'a> {
    Group3(Group3Decoder<Bytes<'a>>),
    Group4(Group4Decoder<Bytes<'a>>),
}

impl<'a> Fax<'a> {
    fn new(bytes: Cow<'a, [u8]>, compression: Compression, width: u16) -> Result<Self> {
        let bytes: Bytes<'a> = match bytes {
            Cow::Borrowed(bytes) => Box::new(bytes.iter().copied().map(Ok)),
            Cow::Owned(bytes) => Box::new(bytes.into_iter().map(Ok)),
        };
        let damaged = || undecodable("its data is damaged");
        let decoder = if compression == Compression::Fax3 {
            FaxDecoder::Group3(Group3Decoder::new(bytes).map_err(|_| damaged())?)
        } else {
            FaxDecoder::Group4(Group4Decoder::new(bytes, width).map_err(|_| damaged())?)
        };
        Ok(Self { decoder, width, end: End::NotYet })
    }

    fn next_row(&mut self, out: &mut [u8]) -> Result<()> {
        let damaged = || undecodable("its data is damaged or cut short");
        let mut transitions: &[u16] = &[];
        match (&mut self.decoder, self.end) {
            (_, End::Told) => {}
            (_, End::Silent) => return Err(damaged()),
            (FaxDecoder::Group3(decoder), End::NotYet) => {
                // The decoder reads each line together with the end-of-line code behind it. Many writers leave out the
                // code for the end of the page.
                match decoder.advance() {
                    Ok(DecodeStatus::Incomplete) => {}
                    Ok(DecodeStatus::End) => self.end = End::Told,
                    Err(_) if decoder.transitions().last() == Some(&self.width) => self.end = End::Silent,
                    Err(_) => return Err(damaged()),
                }
                transitions = decoder.transitions();
            }
            (FaxDecoder::Group4(decoder), End::NotYet) => match decoder.advance().map_err(|_| damaged())? {
                DecodeStatus::Incomplete => transitions = decoder.transition(),
                DecodeStatus::End => self.end = End::Told,
            },
        }
        for (out, color) in out.iter_mut().zip(pels(transitions, self.width)) {
            *out = u8::from(color == Color::Black);
        }
        Ok(())
    }
}
