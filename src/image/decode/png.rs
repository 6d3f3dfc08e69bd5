//! PNG by rows; interlaced files are put together in one RGB frame.

use std::io::Cursor;

use png::{ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Reader, Transformations};

use super::row::{RGB, RowSink, rgb_of, rgb_of_grey, too_few_rows, undecodable};
use crate::error::{Error, Result};
use crate::image::header::Header;

/// Room for metadata chunks that the decoder keeps (an eXIf with its thumbnail).
const METADATA_BYTES: u64 = 1 << 20;

/// `png`'s `UnfilteringBuffer` keeps up to six rows, grows by doubling and may be copied while it does; a pixel has at
/// most 8 bytes. Then our row, the transformed row, 128 KiB that it keeps whatever the width, and metadata.
pub(crate) const WORKING_BYTES: (u64, u64) = (6 * 8 * 3 + 8 + 3, 3 * (128 << 10) + METADATA_BYTES + (256 << 10));

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let row_bytes = u64::from(header.stored.width) * 8 + 1;
    let limits = Limits { bytes: (row_bytes + METADATA_BYTES) as usize };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let reader = decoder.read_info().map_err(|error| damaged(&error))?;
    let (width, height) = reader.info().size();
    if (width, height) != (header.stored.width, header.stored.height)
        || reader.info().frame_control.is_some_and(|frame| (frame.width, frame.height) != (width, height))
    {
        return Err(undecodable("its headers contradict each other"));
    }
    if reader.info().interlaced { interlaced(reader, header, sink) } else { streamed(reader, header, sink) }
}

type Source<'a> = Reader<Cursor<&'a [u8]>>;

fn streamed(mut reader: Source<'_>, header: &Header, sink: RowSink<'_>) -> Result<()> {
    let width = header.stored.width as usize;
    let color = reader.output_color_type().0;
    let mut row = vec![0; width * color.samples()];
    let mut rgb = vec![0; width * RGB];
    for _ in 0..header.stored.height {
        let more = reader.read_row(&mut row).map_err(|error| damaged(&error))?;
        more.ok_or_else(too_few_rows)?;
        to_rgb(&row, color, &mut rgb);
        sink(&rgb)?;
    }
    Ok(())
}

fn interlaced(mut reader: Source<'_>, header: &Header, sink: RowSink<'_>) -> Result<()> {
    let stride = header.stored.width as usize * RGB;
    let color = reader.output_color_type().0;
    let mut frame = vec![0; stride * header.stored.height as usize];
    let mut rgb = vec![0; stride];
    while let Some(row) = reader.next_interlaced_row().map_err(|error| damaged(&error))? {
        let InterlaceInfo::Adam7(pass) = row.interlace() else {
            return Err(undecodable("its interlacing is inconsistent"));
        };
        let samples = row.data().len() / color.samples();
        let rgb = &mut rgb[..samples * RGB];
        to_rgb(row.data(), color, rgb);
        png::expand_interlaced_row(&mut frame, stride, rgb, pass, 24);
    }
    frame.chunks_exact(stride).try_for_each(sink)
}

/// 8-bit samples as the decoder gives them: palettes and fewer bits are expanded, 16 bits reduced.
fn to_rgb(row: &[u8], color: ColorType, rgb: &mut [u8]) {
    match color {
        ColorType::Grayscale => rgb_of_grey(row, 1, rgb),
        ColorType::GrayscaleAlpha => rgb_of_grey(row, 2, rgb),
        ColorType::Rgba => rgb_of(row, 4, rgb),
        ColorType::Rgb | ColorType::Indexed => rgb.copy_from_slice(row),
    }
}

fn damaged(error: &DecodingError) -> Error {
    undecodable(match error {
        DecodingError::IoError(_) => "it ends before its last row",
        DecodingError::LimitsExceeded => "its metadata is too large",
        _ => "its data is damaged",
    })
}
