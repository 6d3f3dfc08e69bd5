//! Decodes one coded picture to samples with the crate `heifer-hevc-dec`.
//!
//! The loop over units is written here instead of using the crate's own, so that each block is decoded once whatever
//! the slices say, which keeps a small file from taking hours, and so that nothing is copied needlessly.

use heifer_hevc_dec::Error as HevcError;
use heifer_hevc_dec::nal::{NalUnit, NalUnitType};
use heifer_hevc_dec::params::{ParameterSets, Sps};
use heifer_hevc_dec::recon::Reconstructor;
use heifer_hevc_dec::slice::SliceHeader;
use heifer_hevc_dec::syntax::{Picture, decode_slice_segment};

use super::ycbcr::Frame;
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::decode::row::undecodable;
use crate::image::header::format::unsupported;
use crate::image::header::heif::hevc::Config;
use crate::image::header::heif::{BLOCK, Tile};

/// The most slice segments of one picture. The standard's levels allow 600.
const MAX_SLICES: usize = 600;

pub fn decode(tile: &Tile<'_>, size: Size) -> Result<Frame> {
    let data = tile.joined();
    let config = Config::read(tile.config).ok_or_else(|| undecodable("its decoder configuration is damaged"))?;
    let mut sets = ParameterSets::default();
    let mut add = |unit: &NalUnit<'_>| {
        sets.add(unit).map_err(damaged)?;
        // The sizes are checked at once, because what comes next relies on them.
        sets.sps.iter().flatten().try_for_each(|sps| check(sps, tile.chroma, size))
    };
    for unit in config.units().ok_or_else(|| undecodable("its decoder configuration is damaged"))? {
        let unit = NalUnit::parse(unit).map_err(damaged)?;
        if unit.header.layer_id == 0 {
            add(&unit)?;
        }
    }
    let mut units = Units { bytes: &data, length_bytes: config.length_bytes };
    // Parameter sets may also stand before the first slice.
    let mut first = None;
    while let (None, Some(unit)) = (&first, units.next()) {
        let unit = unit?;
        add(&unit)?;
        first = Some(unit).filter(|unit| unit.header.unit_type.is_slice());
    }
    let first = first.ok_or_else(|| undecodable("a picture is empty"))?;
    let header = SliceHeader::parse(&first.rbsp, &first.header, &sets, None).map_err(damaged)?;
    let (pps, sps) = sets.get(usize::from(header.slice_pic_parameter_set_id)).map_err(damaged)?;

    let (mut picture, mut samples) = (Picture::new(sps, pps), Reconstructor::new(sps, pps));
    let mut previous = None;
    for (count, unit) in std::iter::once(Ok(first)).chain(units).enumerate() {
        let unit = unit?;
        if !unit.header.unit_type.is_slice() {
            continue;
        }
        let header = SliceHeader::parse(&unit.rbsp, &unit.header, &sets, previous.as_ref()).map_err(damaged)?;
        if count > 0 && header.first_slice_segment_in_pic_flag {
            break;
        }
        let address = picture.layout.rs_to_ts.get(header.slice_segment_address as usize);
        if address != Some(&picture.decoded_ctbs) || count > MAX_SLICES {
            return Err(undecodable("its slices are inconsistent"));
        }
        samples.start_slice(&header);
        let slice = unit.rbsp.get(header.header_size..).ok_or_else(|| damaged(HevcError::UnexpectedEof))?;
        let qp = header.slice_qp_y(&sets).map_err(damaged)?;
        decode_slice_segment(&mut picture, &header, qp, slice, &mut samples).map_err(damaged)?;
        if let Some(error) = samples.error.take() {
            return Err(damaged(error));
        }
        if !header.dependent_slice_segment_flag {
            previous = Some(header);
        }
    }
    if !picture.is_complete() {
        return Err(undecodable("it ends before its last row"));
    }
    drop(picture);
    let decoded = samples.finish(false);
    let (across, down) = sps.chroma_subsampling();
    let [left, _, top, _] = sps.conf_win_offsets;
    Ok(Frame {
        planes: decoded.planes,
        strides: decoded.widths.map(|width| width as usize),
        left: (left * across) as usize,
        top: (top * down) as usize,
        chroma: (decoded.chroma_format != 0).then_some((across as usize, down as usize)),
        depths: decoded.bit_depth,
        full_range: decoded.full_range,
        matrix: u16::from(decoded.matrix_coeffs),
        // As libheif does it, and therefore Pillow.
        smooth: false,
    })
}

/// Refuses a picture that is not what the plan has charged for.
fn check(sps: &Sps, chroma: u8, size: Size) -> Result<()> {
    if sps.separate_colour_plane_flag {
        return Err(unsupported("HEIC with colours coded apart is not served; send a JPEG"));
    }
    let coded = Size::new(sps.pic_width_in_luma_samples, sps.pic_height_in_luma_samples);
    let most = size.padded_to(BLOCK);
    if sps.output_size() != (size.width, size.height)
        || coded.width > most.width
        || coded.height > most.height
        || sps.chroma_format_idc != chroma
    {
        return Err(undecodable("its headers contradict each other"));
    }
    Ok(())
}

/// The units of a picture, each preceded by its length. Units of other layers and of unknown types are left out.
struct Units<'a> {
    bytes: &'a [u8],
    length_bytes: usize,
}

impl<'a> Iterator for Units<'a> {
    type Item = Result<NalUnit<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.bytes.is_empty() {
                return None;
            }
            let cut = || undecodable("it ends before its last row");
            let Some((length, rest)) = self.bytes.split_at_checked(self.length_bytes) else {
                self.bytes = &[];
                return Some(Err(cut()));
            };
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let Some((unit, rest)) = rest.split_at_checked(length) else {
                self.bytes = &[];
                return Some(Err(cut()));
            };
            self.bytes = rest;
            match NalUnit::parse(unit) {
                Ok(unit) if unit.header.layer_id != 0 || matches!(unit.header.unit_type, NalUnitType::Other(_)) => {}
                parsed => return Some(parsed.map_err(damaged)),
            }
        }
    }
}

/// The error is taken by value so that the function can be passed to `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn damaged(error: HevcError) -> Error {
    match error {
        HevcError::Unimplemented(what) => {
            Error::Unsupported { detail: format!("HEIC with {what} is not served; send a JPEG") }
        }
        HevcError::UnexpectedEof => undecodable("it ends before its last row"),
        HevcError::Invalid(_) | HevcError::HashMismatch(_) => undecodable("its data is damaged"),
    }
}
