//! WebP and BMP, which are decoded whole and then given row by row.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::ImageError;
use image::{ColorType, ImageDecoder};

use super::color::{Kind, ToRgb};
use super::row::{RGB, Row, RowSink, apart, undecodable};
use crate::error::{Error, Result};
use crate::image::header::Header;

/// Working bytes a column and fixed working bytes. A column's are the decoders' row buffers (`vp8.rs` keeps 20 bytes of
/// borders and a macroblock's state every 16 columns) and our row; the fixed ones are tables.
pub(crate) const WORKING_BYTES: (u64, u64) = (32 + 4, 512 << 10);

pub(crate) fn webp_rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let colors = ToRgb::new(bytes, header, Kind::Rgb);
    whole(WebPDecoder::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?, colors, header, sink)
}

pub(crate) fn bmp_rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let colors = ToRgb::new(bytes, header, Kind::Rgb);
    whole(BmpDecoder::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?, colors, header, sink)
}

fn whole(decoder: impl ImageDecoder, mut colors: ToRgb, header: &Header, sink: RowSink<'_>) -> Result<()> {
    if decoder.dimensions() != (header.stored.width, header.stored.height) {
        return Err(undecodable("its headers contradict each other"));
    }
    let channels = match decoder.color_type() {
        ColorType::Rgb8 => 3,
        ColorType::Rgba8 => 4,
        _ => return Err(undecodable("its colour type is unknown")),
    };
    let width = header.stored.width as usize;
    // The plan has charged the header's `held_bytes`, so a decoder that wants more has read another header.
    if decoder.total_bytes() > header.held_bytes {
        return Err(undecodable("its headers contradict each other"));
    }
    let mut frame = vec![0; width * header.stored.height as usize * channels];
    decoder.read_image(&mut frame).map_err(|error| damaged(&error))?;
    let (mut rgb, mut alpha) = if channels == 4 { (vec![0; width * RGB], vec![0; width]) } else { (vec![], vec![]) };
    for row in frame.chunks_exact(width * channels) {
        if channels == 4 {
            apart::<4>(row, &mut rgb, &mut alpha);
            sink(Row { rgb: colors.row(&rgb)?, alpha: Some(&alpha) })?;
        } else {
            sink(Row { rgb: colors.row(row)?, alpha: None })?;
        }
    }
    Ok(())
}

fn damaged(error: &ImageError) -> Error {
    match error {
        ImageError::Unsupported(_) => {
            Error::Unsupported { detail: "this variant of the format is not served; send a JPEG or PNG".into() }
        }
        ImageError::IoError(_) => undecodable("it ends before its last row"),
        _ => undecodable("its data is damaged"),
    }
}
