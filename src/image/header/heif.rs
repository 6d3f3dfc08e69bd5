//! HEIC: which coded pictures of a HEIF file (ISO/IEC 23008-12) make up its photo, and how.
//!
//! A phone's photo is a grid of tiles, each of which is a picture of its own coded with HEVC; other programs write one
//! picture. Alpha is a second picture or grid beside it. Turning and mirroring are properties of the item. EXIF is
//! ignored for them, as the standard asks.

mod boxes;
mod meta;

use std::borrow::Cow;

use self::boxes::{Boxes, Fields, Kind};
use self::meta::{ITEM_BYTES, Id, Meta};
use super::format::{Format, Header, MAX_PROFILE_BYTES, cut_short, undecodable, unsupported};
use crate::error::{Error, Result};
use crate::geometry::{Orientation, Region, Size};

/// The largest coding block. The sides of a coded picture are multiples of at most this.
pub const BLOCK: u32 = 64;

/// The most pixels of one coded picture: more than three times what HEVC's level 6.2 allows.
const MAX_CODED_PIXELS: u64 = 1 << 27;

/// The most bytes of a decoder configuration. The parameter sets of one coded picture take a few hundred.
const MAX_CONFIG_BYTES: usize = 8 << 10;

/// Bytes that the decoder holds for each pixel beside the samples while it decodes: what it knows of each 4×4 block,
/// and a copy of the luma samples for the last filter.
const WORKING_BYTES_A_PIXEL: u64 = 4;

/// Properties whose meaning is known here, or that say nothing about how pixels look.
const KNOWN: [&Kind; 12] =
    [b"hvcC", b"ispe", b"pixi", b"colr", b"irot", b"imir", b"clap", b"auxC", b"pasp", b"clli", b"mdcv", b"cclv"];

/// A photo: its pictures, and what has to be done with them.
#[derive(Debug)]
pub struct Photo<'a> {
    pub color: Picture<'a>,
    pub alpha: Option<Picture<'a>>,
    /// Whether the colours were multiplied with alpha.
    pub premultiplied: bool,
    /// The part of the picture that is the photo.
    pub crop: Region,
    orientation: Orientation,
    pub coding: Option<Coding>,
    profile: Option<&'a [u8]>,
    /// Bytes that the lists of items take.
    lists: u64,
}

/// How colours are coded (ITU-T H.273), if the file says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    primaries: u16,
    transfer: u16,
    pub matrix: u16,
    pub full_range: bool,
}

/// A grid of coded pictures of one size. A single picture is a grid of one.
#[derive(Debug)]
pub struct Picture<'a> {
    pub size: Size,
    pub tile: Size,
    /// The number of tiles in a row.
    pub across: u32,
    /// The tiles, row by row.
    pub tiles: Vec<Tile<'a>>,
}

/// A coded picture.
#[derive(Debug)]
pub struct Tile<'a> {
    pub config: Config<'a>,
    /// Its bytes, which may lie in several pieces.
    pub data: Vec<&'a [u8]>,
}

/// The decoder's configuration (`hvcC`: ISO/IEC 14496-15, 8.3.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config<'a> {
    /// The chroma format: 0 is grey, 1 is 4:2:0, 2 is 4:2:2 and 3 is 4:4:4.
    pub chroma: u8,
    /// How many bytes the length before each unit takes.
    pub length_bytes: usize,
    /// The arrays of parameter sets.
    sets: Fields<'a>,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let photo = Photo::read(bytes)?;
    let alpha = photo.alpha.as_ref();
    let held = photo.color.held_bytes() + alpha.map_or(0, Picture::held_bytes) + photo.lists;
    Ok(Header {
        orientation: photo.orientation,
        alpha: alpha.is_some(),
        profile_bytes: photo.profile().map_or(0, |profile| profile.len() as u64),
        ..Header::plain(Format::Heic, photo.crop.size, held)
    })
}

/// The colour profile of a HEIC.
pub fn profile(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    Photo::read(bytes).ok()?.profile()
}

impl<'a> Photo<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let meta = Meta::read(bytes)?;
        let color = Picture::read(&meta, meta.primary)?;
        let alpha_id = meta.referring(*b"auxl", meta.primary).find(|&id| is_alpha(&meta, id));
        let alpha = alpha_id.map(|id| Picture::read(&meta, id)).transpose()?;
        if alpha.as_ref().is_some_and(|alpha| alpha.size != color.size) {
            return Err(unsupported("HEIC whose alpha has another size than its colours is not served; send a PNG"));
        }
        let coded: u64 = [Some(&color), alpha.as_ref()].into_iter().flatten().map(Picture::coded_bytes).sum();
        // Tiles may share their bytes, but each takes its own time to decode.
        if coded > 4 * bytes.len() as u64 {
            return Err(undecodable("its tiles overlap in the file"));
        }
        let (crop, orientation) = transforms(&meta, color.size)?;
        let mut photo = Self {
            premultiplied: alpha_id.is_some_and(|id| meta.referred(*b"prem", meta.primary).contains(&id)),
            color,
            alpha,
            crop,
            orientation,
            coding: None,
            profile: None,
            lists: meta.bytes(),
        };
        // Colours may be described at the tiles only.
        let first_tile = meta.referred(*b"dimg", meta.primary).first().copied();
        for id in [Some(meta.primary), first_tile].into_iter().flatten() {
            meta.properties(id).filter(|property| property.kind == *b"colr").for_each(|colr| photo.describe(colr.body));
        }
        Ok(photo)
    }

    /// Takes note of a `colr` property (ISO/IEC 14496-12, 12.1.5). The first one of each kind counts.
    fn describe(&mut self, body: &'a [u8]) {
        let mut fields = Fields(body);
        match fields.kind() {
            Some([b'n', b'c', b'l', b'x']) if self.coding.is_none() => {
                let mut number = || fields.uint(2).map(|number| number as u16);
                let numbers = (number(), number(), number());
                if let ((Some(primaries), Some(transfer), Some(matrix)), Some(flags)) = (numbers, fields.uint(1)) {
                    self.coding = Some(Coding { primaries, transfer, matrix, full_range: flags & 0x80 != 0 });
                }
            }
            Some([b'p', b'r', b'o', b'f'] | [b'r', b'I', b'C', b'C']) if self.profile.is_none() => {
                self.profile = Some(fields.0).filter(|profile| profile.len() as u64 <= MAX_PROFILE_BYTES);
            }
            _ => {}
        }
    }

    fn profile(&self) -> Option<Cow<'a, [u8]>> {
        let named = || self.coding.and_then(Coding::profile).map(Cow::Owned);
        self.profile.map(Cow::Borrowed).or_else(named)
    }
}

impl Coding {
    /// A profile of the wide primaries, for a file that names them instead of holding a profile. Colours of high
    /// dynamic range are left as they are.
    fn profile(self) -> Option<Vec<u8>> {
        const DISPLAY_P3: u16 = 12;
        const BT2020: u16 = 9;
        const PQ: u16 = 16;
        const HLG: u16 = 18;
        let profile = match self.primaries {
            _ if matches!(self.transfer, PQ | HLG) => return None,
            DISPLAY_P3 => moxcms::ColorProfile::new_display_p3(),
            BT2020 => moxcms::ColorProfile::new_bt2020(),
            _ => return None,
        };
        profile.encode().ok()
    }
}

/// Whether an auxiliary item says that it is alpha.
fn is_alpha(meta: &Meta<'_>, id: Id) -> bool {
    const NAMES: [&[u8]; 2] = [b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0"];
    let name = meta.property(id, *b"auxC").and_then(Fields::full).map(|(_, _, name)| name.0);
    name.is_some_and(|name| NAMES.iter().any(|alpha| name.starts_with(alpha)))
}

impl<'a> Picture<'a> {
    fn read(meta: &Meta<'a>, id: Id) -> Result<Self> {
        known_properties(meta, id)?;
        let kind = meta.kind(id).ok_or_else(|| undecodable("a part of the picture is missing"))?;
        if kind != *b"grid" {
            let tile = Tile::read(meta, id, kind)?;
            let size = coded_size(meta, id)?;
            return Ok(Self { size, tile: size, across: 1, tiles: vec![tile] });
        }
        let (across, down, size_of_grid) = grid(&meta.data(id)?)?;
        let ids = meta.referred(*b"dimg", id);
        if ids.len() as u64 != u64::from(across) * u64::from(down) {
            return Err(undecodable("a part of the picture is missing"));
        }
        let tile = coded_size(meta, ids[0])?;
        let mut tiles = Vec::with_capacity(ids.len());
        for &id in ids {
            known_properties(meta, id)?;
            if coded_size(meta, id)? != tile {
                return Err(undecodable("its tiles are of different sizes"));
            }
            let kind = meta.kind(id).ok_or_else(|| undecodable("a part of the picture is missing"))?;
            tiles.push(Tile::read(meta, id, kind)?);
        }
        // There have to be as many tiles as cover the picture, and no more.
        let covers = |side: u32, tile: u32, count: u32| u64::from(side).div_ceil(u64::from(tile)) == u64::from(count);
        if !covers(size_of_grid.width, tile.width, across) || !covers(size_of_grid.height, tile.height, down) {
            return Err(undecodable("its tiles do not cover it"));
        }
        Ok(Self { size: size_of_grid, tile, across, tiles })
    }

    /// Bytes of all its coded pictures.
    fn coded_bytes(&self) -> u64 {
        self.tiles.iter().map(Tile::coded_bytes).sum()
    }

    /// Bytes that decoding holds: the samples of one row of tiles, and what the decoder needs for one of them, with two
    /// copies of its coded bytes.
    fn held_bytes(&self) -> u64 {
        let pixels = self.tile.padded_to(BLOCK).area();
        let sample_bytes = self.tiles.iter().map(|tile| tile.config.sample_bytes()).max().unwrap_or(0);
        let coded = self.tiles.iter().map(Tile::coded_bytes).max().unwrap_or(0);
        let lists = self.tiles.len() as u64 * ITEM_BYTES;
        pixels * sample_bytes * u64::from(self.across) + pixels * WORKING_BYTES_A_PIXEL + 2 * coded + lists
    }
}

impl<'a> Tile<'a> {
    fn read(meta: &Meta<'a>, id: Id, kind: Kind) -> Result<Self> {
        if !matches!(&kind, b"hvc1" | b"hev1") {
            return Err(not_served(kind));
        }
        let config = meta.property(id, *b"hvcC").ok_or_else(|| undecodable("its decoder configuration is missing"))?;
        let config = Config::read(config).ok_or_else(|| undecodable("its decoder configuration is damaged"))?;
        Ok(Self { config, data: meta.data(id)? })
    }

    fn coded_bytes(&self) -> u64 {
        self.data.iter().map(|piece| piece.len() as u64).sum()
    }
}

impl<'a> Config<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(Some(body).filter(|body| body.len() <= MAX_CONFIG_BYTES)?);
        // These are the version, the profile, tier and level, and what is said of segmentation and parallel decoding.
        fields.bytes(16)?;
        let chroma = fields.uint(1)? as u8 & 3;
        // These are the depths of samples, and the frame rate.
        fields.bytes(4)?;
        let length_bytes = (fields.uint(1)? as usize & 3) + 1;
        Some(Self { chroma, length_bytes, sets: fields })
    }

    /// The units that hold parameter sets.
    pub fn units(&self) -> Option<Vec<&'a [u8]>> {
        let mut fields = self.sets;
        let mut units = Vec::new();
        for _ in 0..fields.uint(1)? {
            fields.uint(1)?;
            for _ in 0..fields.uint(2)? {
                let length = fields.uint(2)? as usize;
                units.push(fields.bytes(length)?);
            }
        }
        Some(units)
    }

    /// Bytes of the decoded samples for each pixel. A sample has two.
    fn sample_bytes(&self) -> u64 {
        match self.chroma {
            0 => 2,
            1 => 3,
            2 => 4,
            _ => 6,
        }
    }
}

/// Refuses an item that has an unknown essential property, because a reader has to know those.
fn known_properties(meta: &Meta<'_>, id: Id) -> Result<()> {
    match meta.properties(id).find(|property| property.essential && !KNOWN.contains(&&property.kind)) {
        None => Ok(()),
        Some(property) if property.kind == *b"av1C" => Err(not_served(*b"av01")),
        Some(property) => Err(Error::Unsupported {
            detail: format!("HEIC with the property {} is not served; send a JPEG", property.kind.escape_ascii()),
        }),
    }
}

fn not_served(kind: Kind) -> Error {
    let detail = match &kind {
        b"av01" => "AVIF is not served; send a JPEG, PNG or WebP".to_owned(),
        _ => format!("a HEIF picture of the kind {} is not served; send a JPEG or HEIC", kind.escape_ascii()),
    };
    Error::Unsupported { detail }
}

/// The width and height of a coded picture.
fn coded_size(meta: &Meta<'_>, id: Id) -> Result<Size> {
    let fields = meta.property(id, *b"ispe").and_then(Fields::full);
    let (_, _, mut fields) = fields.ok_or_else(|| undecodable("the size of a picture is missing"))?;
    let size = two_sides(&mut fields, 4)?;
    if size.padded_to(BLOCK).area() > MAX_CODED_PIXELS {
        return Err(unsupported("HEIC with pictures of more than 134 megapixels in one piece is not served"));
    }
    Ok(size)
}

fn two_sides(fields: &mut Fields<'_>, bytes: usize) -> Result<Size> {
    let (width, height) = fields.uint(bytes).zip(fields.uint(bytes)).ok_or_else(cut_short)?;
    let side = |side: u64| i32::try_from(side).ok().filter(|&side| side > 0).map(i32::cast_unsigned);
    let (width, height) = side(width).zip(side(height)).ok_or_else(|| undecodable("its sides are out of range"))?;
    Ok(Size::new(width, height))
}

/// A grid's tiles across and down, and its size in pixels (ISO/IEC 23008-12, 6.6.2.3.2).
fn grid(data: &[&[u8]]) -> Result<(u32, u32, Size)> {
    const MOST_BYTES: usize = 12;
    let bytes: Vec<u8> = data.iter().copied().flatten().copied().take(MOST_BYTES).collect();
    let mut fields = Fields(&bytes);
    fields.uint(1).ok_or_else(cut_short)?;
    let side_bytes = if fields.uint(1).ok_or_else(cut_short)? & 1 == 0 { 2 } else { 4 };
    let (down, across) = fields.uint(1).zip(fields.uint(1)).ok_or_else(cut_short)?;
    Ok((across as u32 + 1, down as u32 + 1, two_sides(&mut fields, side_bytes)?))
}

/// The clean aperture, and how the photo is turned after it is cropped.
fn transforms(meta: &Meta<'_>, size: Size) -> Result<(Region, Orientation)> {
    let mut crop = Region::from(size);
    let mut exif = 1;
    for property in meta.properties(meta.primary) {
        let value = property.body.first().copied().unwrap_or(0);
        match &property.kind {
            b"clap" if exif == 1 => {
                crop = aperture(property.body, size).ok_or_else(|| undecodable("its clean aperture is damaged"))?;
            }
            b"clap" => return Err(unsupported("HEIC that is cropped after it is turned is not served; send a JPEG")),
            b"irot" => exif = (0..value & 3).fold(exif, |exif, _| ANTICLOCKWISE[exif]),
            b"imir" if value & 1 == 0 => exif = TOP_FOR_BOTTOM[exif],
            b"imir" => exif = LEFT_FOR_RIGHT[exif],
            _ => {}
        }
    }
    Ok((crop, Orientation::from_exif(exif as u16)))
}

/// What each EXIF orientation, by its number, becomes if the picture is turned or mirrored once more.
const ANTICLOCKWISE: [usize; 9] = [0, 8, 5, 6, 7, 4, 1, 2, 3];
const TOP_FOR_BOTTOM: [usize; 9] = [0, 4, 3, 2, 1, 8, 7, 6, 5];
const LEFT_FOR_RIGHT: [usize; 9] = [0, 2, 1, 4, 3, 6, 5, 8, 7];

/// The part of a picture that a `clap` property selects, in whole pixels (ISO/IEC 14496-12, 12.1.4).
fn aperture(body: &[u8], size: Size) -> Option<Region> {
    let mut fields = Fields(body);
    let mut number = || fields.uint(4).map(|number| number as u32);
    let mut fraction = || Some((number()?, i64::from(number()?))).filter(|fraction| fraction.1 > 0);
    let (width, height, x, y) = (fraction()?, fraction()?, fraction()?, fraction()?);
    // The offset is that of the aperture's middle from the picture's.
    let axis = |side: u32, length: (u32, i64), offset: (u32, i64)| {
        let kept = u32::try_from(i64::from(length.0) / length.1).ok().filter(|&kept| 0 < kept && kept <= side)?;
        let shift = i64::from(offset.0.cast_signed()) as f64 / offset.1 as f64;
        let first = (f64::from(side - kept) / 2.0 + shift).round();
        (0.0..=f64::from(side - kept)).contains(&first).then_some((first as u32, kept))
    };
    let ((left, width), (top, height)) = (axis(size.width, width, x)?, axis(size.height, height, y)?);
    Some(Region { left, top, size: Size::new(width, height) })
}

/// Whether the file says that it is a HEIF whose pictures may be coded with HEVC.
pub fn is_heic(bytes: &[u8]) -> bool {
    let Some((_, body)) = Boxes(bytes).next().filter(|(kind, _)| kind == b"ftyp") else { return false };
    let is_general = |brand: &[u8]| matches!(brand, b"mif1" | b"mif2" | b"msf1" | b"miaf");
    let is_heic =
        |brand: &[u8]| matches!(brand, b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs");
    let brands = || body.chunks_exact(4).enumerate().filter(|(index, _)| *index != 1).map(|(_, brand)| brand);
    match body.get(..4) {
        Some(major) if is_heic(major) => true,
        // If the major brand is a general one, the other brands decide.
        Some(major) if is_general(major) => !brands().any(|brand| matches!(brand, b"avif" | b"avis")),
        _ => false,
    }
}
