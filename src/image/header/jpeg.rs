//! JPEG: markers up to the first scan (ITU-T T.81, annex B).

use super::bytes::Endian;
use super::exif;
use super::format::{Format, Header, cut_short, undecodable, unsupported};
use crate::error::Result;
use crate::geometry::{Orientation, Size};

/// Scans of a progressive file: encoders write about ten; each one costs a pass over all coefficients.
const MAX_SCANS: usize = 100;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP1: u8 = 0xe1;

/// A component's sampling factors.
#[derive(Debug, Clone, Copy, Default)]
struct Component {
    horizontal: u32,
    vertical: u32,
}

/// What a start-of-frame segment says.
#[derive(Debug)]
struct Frame {
    size: Size,
    progressive: bool,
    components: [Component; 4],
    count: usize,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let mut orientation = None;
    let mut frame = None;
    let mut at = 2;
    loop {
        let (marker, start) = next_marker(bytes, at).ok_or_else(cut_short)?;
        at = start;
        if is_standalone(marker) {
            if marker == EOI {
                return Err(undecodable("it holds no image data"));
            }
            continue;
        }
        let segment = segment(bytes, start).ok_or_else(cut_short)?;
        match marker {
            APP1 if segment.starts_with(b"Exif\0\0") => {
                orientation = orientation.or(Some(exif::orientation(segment)));
            }
            SOS => {
                let frame = frame.ok_or_else(|| undecodable("a scan comes before the frame header"))?;
                return finish(bytes, start, segment, &frame, orientation.unwrap_or_default());
            }
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                if frame.is_some() {
                    return Err(undecodable("it has two frame headers"));
                }
                frame = Some(read_frame(marker, segment)?);
            }
            _ => {}
        }
        at = start + 2 + segment.len();
    }
}

fn finish(bytes: &[u8], scan_at: usize, scan: &[u8], frame: &Frame, orientation: Orientation) -> Result<Header> {
    let in_first_scan = usize::from(*scan.first().ok_or_else(cut_short)?);
    let one_pass = !frame.progressive && in_first_scan == frame.count;
    if !one_pass && count_scans(bytes, scan_at) > MAX_SCANS {
        return Err(undecodable("it has more than 100 scans"));
    }
    let held_bytes = if one_pass { 0 } else { coefficient_bytes(frame) };
    Ok(Header { format: Format::Jpeg, stored: frame.size, orientation, held_bytes })
}

/// The next marker's code and the index behind it. Bytes that are not a marker are skipped, as libjpeg does.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        at += bytes[at..].iter().position(|&byte| byte != 0xff)?;
        if bytes[at] != 0 {
            return Some((bytes[at], at + 1));
        }
    }
}

/// Markers without a segment: restarts, TEM, SOI, EOI.
fn is_standalone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xd0..=0xd7 | SOI | EOI)
}

/// The segment whose length field is at `start`, without that field.
fn segment(bytes: &[u8], start: usize) -> Option<&[u8]> {
    let length = usize::from(Endian::Big.u16(bytes, start)?);
    bytes.get(start + 2..start + length.max(2))
}

fn read_frame(marker: u8, segment: &[u8]) -> Result<Frame> {
    match marker {
        0xc0..=0xc2 => {}
        0xc3 | 0xcb => return Err(unsupported("lossless JPEG is not served; send a baseline or progressive JPEG")),
        0xc9 | 0xca => {
            return Err(unsupported("arithmetic-coded JPEG is not served; send a baseline or progressive JPEG"));
        }
        _ => return Err(unsupported("hierarchical JPEG is not served; send a baseline or progressive JPEG")),
    }
    let [precision, h1, h0, w1, w0, count, specs @ ..] = segment else { return Err(cut_short()) };
    if *precision != 8 {
        return Err(unsupported("JPEG with more than 8 bits a sample is not served; send an 8-bit JPEG"));
    }
    let count = usize::from(*count);
    if !matches!(count, 1 | 3 | 4) {
        return Err(unsupported("JPEG is served with 1, 3 or 4 components only"));
    }
    let mut components = [Component::default(); 4];
    if specs.len() < count * 3 {
        return Err(cut_short());
    }
    for (component, spec) in components.iter_mut().zip(specs.chunks_exact(3)).take(count) {
        *component = Component { horizontal: u32::from(spec[1] >> 4), vertical: u32::from(spec[1] & 15) };
        if !(1..=4).contains(&component.horizontal) || !(1..=4).contains(&component.vertical) {
            return Err(undecodable("its sampling factors are out of range"));
        }
    }
    let size = Size::new(u32::from(u16::from_be_bytes([*w1, *w0])), u32::from(u16::from_be_bytes([*h1, *h0])));
    Ok(Frame { size, progressive: marker == 0xc2, components, count })
}

/// libjpeg's full-image coefficient arrays (`jdcoefct.c`): 64 coefficients of 2 bytes a block, blocks padded to whole
/// MCUs, and a pointer a row of blocks.
fn coefficient_bytes(frame: &Frame) -> u64 {
    let components = &frame.components[..frame.count];
    let most = |factor: fn(&Component) -> u32| components.iter().map(factor).max().unwrap_or(1);
    let (most_h, most_v) = (most(|c| c.horizontal), most(|c| c.vertical));
    let blocks =
        |side: u32, factor: u32, most: u32| u64::from((side * factor).div_ceil(8 * most).next_multiple_of(factor));
    components
        .iter()
        .map(|component| {
            let across = blocks(frame.size.width, component.horizontal, most_h);
            let down = blocks(frame.size.height, component.vertical, most_v);
            across * down * 128 + down * 8
        })
        .sum()
}

/// Start-of-scan markers from the first one on, at most one more than the limit.
fn count_scans(bytes: &[u8], first: usize) -> usize {
    let mut at = first;
    let mut scans = 1;
    while let Some((marker, start)) = next_marker(bytes, at) {
        at = start;
        match marker {
            EOI => break,
            SOS => scans += 1,
            _ => {}
        }
        if scans > MAX_SCANS {
            break;
        }
    }
    scans
}
