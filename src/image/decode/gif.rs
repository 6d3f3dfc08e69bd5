//! GIF: the first frame on its screen, given row by row, unless it is interlaced and has to be decoded whole.

use std::io::Read;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, MemoryLimit};

use super::row::{RGB, Row, RowSink, too_few_rows, undecodable};
use crate::error::{Error, Result};
use crate::image::header::{Header, gif as blocks};

/// The most bytes that the decoder may hold of its own. It needs little, because it is given no metadata.
const KEPT_BYTES: u64 = 1 << 20;

/// Working bytes a column, which are the rows of indices, RGB and alpha, and fixed working bytes, which are LZW tables
/// and buffers.
pub(crate) const WORKING_BYTES: (u64, u64) = (1 + 3 + 1, KEPT_BYTES + (128 << 10));

/// Where the frame lies on the screen.
struct Place {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(NonZeroU64::new(KEPT_BYTES).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let [screen, control, image] = blocks::parts_of_first_frame(bytes)?;
    let mut decoder = options.read_info(screen.chain(control).chain(image)).map_err(|error| damaged(&error))?;
    let frame = decoder.next_frame_info().map_err(|error| damaged(&error))?;
    let frame = frame.ok_or_else(|| undecodable("it holds no image"))?;
    let place = Place {
        left: usize::from(frame.left),
        top: usize::from(frame.top),
        width: usize::from(frame.width),
        height: usize::from(frame.height),
    };
    let (interlaced, transparent) = (frame.interlaced, frame.transparent);
    let palette = palette(&decoder)?;
    // As in Pillow, what the frame does not cover is filled with its transparent index, or with index 0 if it has none.
    let background = transparent.unwrap_or(0);
    let opacity = |index: u8| if transparent == Some(index) { 0 } else { u8::MAX };

    let mut frame = vec![0; if interlaced { place.width * place.height } else { 0 }];
    if interlaced {
        decoder.read_into_buffer(&mut frame).map_err(|error| damaged(&error))?;
    }
    let mut indices = vec![0; place.width];
    let mut rgb = vec![0; header.stored.width as usize * RGB];
    let mut alpha = vec![0; if transparent.is_some() { header.stored.width as usize } else { 0 }];
    for y in 0..header.stored.height as usize {
        rgb.as_chunks_mut::<RGB>().0.fill(palette[usize::from(background)]);
        alpha.fill(opacity(background));
        if let Some(row) = y.checked_sub(place.top).filter(|&row| row < place.height) {
            if interlaced {
                indices.copy_from_slice(&frame[row * place.width..][..place.width]);
            } else if !decoder.fill_buffer(&mut indices).map_err(|error| damaged(&error))? {
                return Err(too_few_rows());
            }
            let covered = rgb.as_chunks_mut::<RGB>().0.iter_mut().skip(place.left);
            for (pixel, &index) in covered.zip(&indices) {
                *pixel = palette[usize::from(index)];
            }
            alpha.iter_mut().skip(place.left).zip(&indices).for_each(|(alpha, &index)| *alpha = opacity(index));
        }
        sink(Row { rgb: &rgb, alpha: transparent.is_some().then_some(&alpha) })?;
    }
    Ok(())
}

/// The frame's palette. Indices beyond its end are black.
fn palette<R: Read>(decoder: &Decoder<R>) -> Result<[[u8; RGB]; 256]> {
    let mut palette = [[0; RGB]; 256];
    let colors = decoder.palette().map_err(|error| damaged(&error))?.as_chunks::<RGB>().0;
    for (entry, color) in palette.iter_mut().zip(colors) {
        *entry = *color;
    }
    Ok(palette)
}

fn damaged(error: &DecodingError) -> Error {
    undecodable(match error {
        DecodingError::UnexpectedEof | DecodingError::Io(_) => "it ends before its last row",
        DecodingError::MemoryLimit | DecodingError::OutOfMemory => "its frame is too large",
        _ => "its data is damaged",
    })
}
