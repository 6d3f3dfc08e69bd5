//! Readers of the bytes that a strip or tile was packed from, which unpack as they are read.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use flate2::read::ZlibDecoder;
use ruzstd::decoding::StreamingDecoder;
use weezl::decode::{Configuration, Decoder};
use weezl::{BitOrder, LzwStatus};

use crate::error::Result;
use crate::image::decode::row::undecodable;
use crate::image::header::tiff::{Compression, ZSTD_WINDOW_BYTES};

/// A reader of the unpacked bytes. JPEG and fax are handled elsewhere, because they give pixels and not bytes.
pub(super) fn reader<'a>(bytes: Cow<'a, [u8]>, compression: Compression) -> Result<Box<dyn Read + 'a>> {
    let bytes = Cursor::new(bytes);
    Ok(match compression {
        Compression::None | Compression::Jpeg | Compression::Fax3 | Compression::Fax4 => Box::new(bytes),
        Compression::Deflate => Box::new(ZlibDecoder::new(bytes)),
        Compression::Lzw => Box::new(Lzw::new(bytes)),
        Compression::PackBits => Box::new(PackBits { source: bytes, run: Run::Done }),
        Compression::Zstd => {
            let decoder = StreamingDecoder::new_with_max_window_size(bytes, ZSTD_WINDOW_BYTES);
            Box::new(decoder.map_err(|_| undecodable("its zstd data is damaged, or needs a window of more than 8 MB"))?)
        }
    })
}

struct Lzw<'a> {
    source: Cursor<Cow<'a, [u8]>>,
    decoder: Decoder,
}

impl<'a> Lzw<'a> {
    fn new(source: Cursor<Cow<'a, [u8]>>) -> Self {
        // Not every writer puts the end code behind its data, so what is decoded is given at once.
        let decoder = Configuration::with_tiff_size_switch(BitOrder::Msb, 8).with_yield_on_full_buffer(true).build();
        Self { source, decoder }
    }
}

impl Read for Lzw<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let at = (self.source.position() as usize).min(self.source.get_ref().len());
            let result = self.decoder.decode_bytes(&self.source.get_ref()[at..], out);
            self.source.set_position((at + result.consumed_in) as u64);
            match result.status {
                Ok(LzwStatus::Ok) if result.consumed_out == 0 && !out.is_empty() => {}
                Ok(_) => return Ok(result.consumed_out),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

/// `PackBits` (TIFF 6.0, section 9): runs of literal bytes, and runs of one byte repeated.
struct PackBits<R> {
    source: R,
    run: Run,
}

enum Run {
    Done,
    Literal(usize),
    Repeat(u8, usize),
}

impl<R: Read> PackBits<R> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.source.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

impl<R: Read> Read for PackBits<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.run {
                Run::Literal(left) if left > 0 => {
                    let length = left.min(out.len());
                    self.source.read_exact(&mut out[..length])?;
                    self.run = Run::Literal(left - length);
                    return Ok(length);
                }
                Run::Repeat(byte, left) if left > 0 => {
                    let length = left.min(out.len());
                    out[..length].fill(byte);
                    self.run = Run::Repeat(byte, left - length);
                    return Ok(length);
                }
                _ => {}
            }
            self.run = match self.byte()? {
                128 => Run::Done,
                literal @ 0..128 => Run::Literal(usize::from(literal) + 1),
                repeat => Run::Repeat(self.byte()?, 257 - usize::from(repeat)),
            };
        }
    }
}
