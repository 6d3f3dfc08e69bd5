//! Decodes one coded picture to samples with the crate `oxideav-av1`.
//!
//! Its units are looked at here first, so that a picture is one frame of the size that the plan has charged for, which
//! no other frame comes before.

use std::borrow::Cow;

use oxideav_av1::decoder::SpecDecodeSession;
use oxideav_av1::{Error as Av1Error, FrameHeader, ObuIter, ObuType, SequenceHeader};
use oxideav_av1::{parse_frame_header, parse_sequence_header};

use super::ycbcr::Frame;
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::decode::row::undecodable;
use crate::image::header::format::unsupported;
use crate::image::header::heif::{Tile, av1};

/// The bit of a unit's first byte that says whether its length follows, and the one that says whether a byte of layers
/// does (AV1 Bitstream & Decoding Process Specification, 5.3.2).
const HAS_SIZE: u8 = 2;
const HAS_EXTENSION: u8 = 4;

pub fn decode(tile: &Tile<'_>, size: Size) -> Result<Frame> {
    let data = with_sizes(tile.joined());
    let sequence = av1::sequence(tile.data.first().copied().unwrap_or_default())?;
    check_units(&data, &sequence, size)?;
    let mut session = SpecDecodeSession::new();
    session.set_max_picture_size(size.area() as u32);
    let mut frames = session.decode_temporal_unit(&data).map_err(damaged)?;
    drop(session);
    let frame = frames.pop().filter(|_| frames.is_empty()).ok_or_else(|| undecodable("it ends before its last row"))?;
    let strides: Vec<usize> = frame.plane_dims.iter().map(|(width, _)| *width as usize).collect();
    let mut planes = frame.planes.into_iter().map(|plane| samples(plane, frame.bit_depth));
    let colors = &sequence.color_config;
    let chroma = |subsampled: bool| if subsampled { 2 } else { 1 };
    Ok(Frame {
        planes: std::array::from_fn(|_| planes.next().unwrap_or_default()),
        strides: std::array::from_fn(|plane| strides.get(plane).copied().unwrap_or(0)),
        left: 0,
        top: 0,
        chroma: (!colors.mono_chrome).then(|| (chroma(colors.subsampling_x), chroma(colors.subsampling_y))),
        depths: [frame.bit_depth; 2],
        full_range: colors.color_range,
        matrix: u16::from(colors.matrix_coefficients),
        // As libavif does it, and therefore Pillow.
        smooth: true,
    })
}

/// Samples out of a plane's bytes, two of which are a sample of more than 8 bits.
fn samples(plane: Vec<u8>, depth: u8) -> Vec<u16> {
    if depth == 8 {
        plane.into_iter().map(u16::from).collect()
    } else {
        plane.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
    }
}

/// Refuses a picture that is not one frame without references, or not what the plan has charged for.
fn check_units(data: &[u8], sequence: &SequenceHeader, size: Size) -> Result<()> {
    let mut frames = 0;
    for unit in ObuIter::new(data) {
        let unit = unit.map_err(damaged)?;
        match unit.obu_type {
            ObuType::SequenceHeader if parse_sequence_header(unit.payload).map_err(damaged)? != *sequence => {
                return Err(contradiction());
            }
            ObuType::FrameHeader | ObuType::Frame => {
                frames += 1;
                if frames > 1 {
                    return Err(unsupported(
                        "AVIF with pictures of several layers or frames is not served; send a JPEG",
                    ));
                }
                check(&parse_frame_header(unit.payload, sequence).map_err(damaged)?, size)?;
            }
            _ => {}
        }
    }
    if frames == 0 { Err(undecodable("a picture is empty")) } else { Ok(()) }
}

fn check(frame: &FrameHeader, size: Size) -> Result<()> {
    let coded = frame.frame_size.map(|coded| Size::new(coded.upscaled_width, coded.frame_height));
    if frame.frame_is_intra && frame.show_frame && coded == Some(size) { Ok(()) } else { Err(contradiction()) }
}

fn contradiction() -> Error {
    undecodable("its headers contradict each other")
}

/// The units with the length of the last one, which may be left out in a file, but not for the decoder.
fn with_sizes(mut data: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let mut units = ObuIter::new(&data);
    let last = loop {
        let at = units.position();
        match units.next() {
            Some(Ok(_)) => {}
            Some(Err(Av1Error::MissingSizeField)) => break at,
            _ => return data,
        }
    };
    let header = if data[last] & HAS_EXTENSION == 0 { 1 } else { 2 };
    let mut length = data.len().saturating_sub(last + header);
    let mut bytes = Vec::new();
    // Seven bits a byte, the lowest first.
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        bytes.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if more == 0 {
            break;
        }
    }
    let all = data.to_mut();
    all[last] |= HAS_SIZE;
    all.splice(last + header..last + header, bytes);
    data
}

/// The error is taken by value so that the function can be passed to `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn damaged(error: Av1Error) -> Error {
    match error {
        Av1Error::UnexpectedEnd => undecodable("it ends before its last row"),
        Av1Error::TemporalPointInfoUnsupported => {
            unsupported("AVIF with pictures that have a time is not served; send a JPEG")
        }
        _ => undecodable("its data is damaged"),
    }
}
