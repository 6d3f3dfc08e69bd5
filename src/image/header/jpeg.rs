//! JPEG: the markers up to the first scan (ITU-T T.81, annex B).

use std::borrow::Cow;

use super::bytes::Endian;
use super::format::{Format, Header, MAX_PROFILE_BYTES, cut_short, undecodable, unsupported};
use super::{exif, xmp};
use crate::error::Result;
use crate::geometry::Size;

/// The most scans of a file that is not decoded in one pass. Encoders write about ten, and each costs a pass over all
/// coefficients.
const MAX_SCANS: usize = 100;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;

const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// The identifier of a part of a colour profile. The part's number, from 1, and the number of parts follow it.
const PROFILE: &[u8] = b"ICC_PROFILE\0";

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
    let mut metadata = Metadata::default();
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
            APP1 if segment.starts_with(b"Exif\0\0") && !metadata.has_exif => {
                metadata.has_exif = true;
                metadata.exif = exif::orientation(segment);
            }
            APP1 if segment.starts_with(XMP) => metadata.xmp = xmp::orientation(&segment[XMP.len()..]),
            APP2 if segment.starts_with(PROFILE) => metadata.profile.add(segment),
            SOS => {
                let frame = frame.ok_or_else(|| undecodable("a scan comes before the frame header"))?;
                return finish(bytes, start, segment, &frame, &metadata);
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

/// What the segments before the first scan say besides the pixels.
#[derive(Debug, Default)]
struct Metadata {
    has_exif: bool,
    exif: Option<u16>,
    xmp: Option<u16>,
    profile: ProfileParts,
}

/// What is known of the parts of a colour profile met so far.
#[derive(Debug, Default)]
struct ProfileParts {
    /// How many parts there are, and how many there should be according to the first of them.
    count: usize,
    expected: usize,
    bytes: u64,
}

impl ProfileParts {
    fn add(&mut self, segment: &[u8]) {
        let Some(&[number, of, ref data @ ..]) = segment.get(PROFILE.len()..) else { return };
        self.count += 1;
        self.bytes += data.len() as u64;
        if number <= 1 {
            self.expected = usize::from(of);
        }
    }

    /// Bytes of the whole profile; 0 if a part is missing or the profile is too long.
    fn whole_bytes(&self) -> u64 {
        if self.count == self.expected && self.bytes <= MAX_PROFILE_BYTES { self.bytes } else { 0 }
    }
}

/// The colour profile of a JPEG, put together from its parts in the order of their numbers.
pub fn profile(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut at = 2;
    loop {
        let (marker, start) = next_marker(bytes, at)?;
        at = start;
        if is_standalone(marker) {
            continue;
        }
        if marker == SOS {
            break;
        }
        let segment = segment(bytes, start)?;
        if marker == APP2 && segment.starts_with(PROFILE) {
            parts.push(&segment[PROFILE.len()..]);
        }
        at = start + 2 + segment.len();
    }
    parts.sort_by_key(|part| part.first());
    Some(parts.iter().flat_map(|part| part.iter().skip(2)).copied().collect::<Vec<_>>().into())
}

fn finish(bytes: &[u8], scan_at: usize, scan: &[u8], frame: &Frame, metadata: &Metadata) -> Result<Header> {
    let in_first_scan = usize::from(*scan.first().ok_or_else(cut_short)?);
    let one_pass = !frame.progressive && in_first_scan == frame.count;
    if !one_pass && count_scans(bytes, scan_at) > MAX_SCANS {
        return Err(undecodable("it has more than 100 scans"));
    }
    let held_bytes = if one_pass { 0 } else { coefficient_bytes(frame) };
    Ok(Header {
        orientation: exif::upright(metadata.exif, metadata.xmp),
        profile_bytes: metadata.profile.whole_bytes(),
        ..Header::plain(Format::Jpeg, frame.size, held_bytes)
    })
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

/// Whether a marker has no segment: restarts, TEM, SOI and EOI.
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

/// Bytes of libjpeg's full-image coefficient arrays (`jdcoefct.c`): 64 coefficients of 2 bytes for each block, in
/// blocks padded to whole MCUs, and a pointer for each row of blocks.
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

/// Counts the start-of-scan markers from the first one on, up to one more than the limit.
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

/// Whether the scans that are there give every coefficient to its last bit. A file without its end marker has to pass
/// this, because it may have lost whole scans.
pub(in crate::image) fn scans_are_complete(bytes: &[u8]) -> bool {
    /// The value of a coefficient that no scan has given yet.
    const UNTOLD: u8 = u8::MAX;
    let mut ids: Vec<u8> = Vec::new();
    let mut missing_bits = [[UNTOLD; 64]; 4];
    let mut at = 2;
    while let Some((marker, start)) = next_marker(bytes, at) {
        at = start;
        match marker {
            EOI => break,
            0xc0..=0xc2 => {
                let Some([_, _, _, _, _, _, specs @ ..]) = segment(bytes, start) else { break };
                ids = specs.chunks_exact(3).take(4).map(|spec| spec[0]).collect();
            }
            SOS => {
                let Some([count, rest @ ..]) = segment(bytes, start) else { break };
                let Some((components, [first, last, bits])) = rest.split_at_checked(2 * usize::from(*count)) else {
                    break;
                };
                for id in components.chunks_exact(2).map(|component| component[0]) {
                    let Some(component) = ids.iter().position(|&of| of == id) else { continue };
                    let range = usize::from(*first)..=usize::from(*last).min(63);
                    missing_bits[component].get_mut(range).into_iter().flatten().for_each(|low| *low = bits & 15);
                }
            }
            _ => {}
        }
    }
    !ids.is_empty() && missing_bits[..ids.len()].iter().flatten().all(|&low| low == 0)
}
