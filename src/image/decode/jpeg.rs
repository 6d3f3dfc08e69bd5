//! JPEG by scanlines with libjpeg (mozjpeg): islow inverse DCT and fancy upsampling, as Pillow's libjpeg-turbo.

use std::io::{self, BufRead, Read};

use mozjpeg::{ColorSpace, Decompress};

use super::row::{RGB, RowSink, rgb_of_cmyk, undecodable};
use crate::error::{Error, Result};
use crate::image::header::Header;

/// libjpeg's row buffers (`jdmainct.c`, `jdsample.c`: ten row groups with context, at most 10 blocks an MCU, and the
/// upsampled rows) with our two rows a column; tables.
pub(crate) const WORKING_BYTES: (u64, u64) = (128, 256 << 10);

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let decoder = Decompress::builder().from_reader(Whole { rest: bytes }).map_err(undecodable_io)?;
    let four_inks = decoder.components().len() == 4;
    let color = if four_inks { ColorSpace::JCS_CMYK } else { ColorSpace::JCS_RGB };
    let mut decoder = decoder.to_colorspace(color).map_err(undecodable_io)?;
    let width = header.stored.width as usize;
    if decoder.width() != width || decoder.height() != header.stored.height as usize {
        return Err(undecodable("its headers contradict each other"));
    }
    let mut rgb = vec![0; width * RGB];
    let mut cmyk = vec![0; if four_inks { width * 4 } else { 0 }];
    for _ in 0..header.stored.height {
        if four_inks {
            decoder.read_scanlines_into(&mut cmyk).map_err(undecodable_io)?;
            // Pillow assumes Adobe's convention, 255 = no ink, for every four-component JPEG.
            for ink in &mut cmyk {
                *ink = !*ink;
            }
            rgb_of_cmyk(&cmyk, &mut rgb);
        } else {
            decoder.read_scanlines_into(&mut rgb).map_err(undecodable_io)?;
        }
        sink(&rgb)?;
    }
    // A file without its end marker is cut short, even if every row could be guessed.
    decoder.finish().map_err(undecodable_io)
}

fn undecodable_io(_: io::Error) -> Error {
    undecodable("its data is damaged or cut short")
}

/// The file as libjpeg's source. At its end it fails instead of giving nothing: libjpeg would warn, invent an end
/// marker and fill what is missing with grey.
struct Whole<'a> {
    rest: &'a [u8],
}

impl Read for Whole<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.rest.read(out)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() { Err(io::Error::other("the file is cut short")) } else { Ok(self.rest) }
    }

    fn consume(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }
}
