//! HEIC and AVIF: which coded pictures of a HEIF file (ISO/IEC 23008-12) make up its photo, and how.
//!
//! A phone's photo is a grid of tiles, each of which is a picture of its own coded with HEVC (HEIC) or AV1 (AVIF);
//! other programs write one picture. Alpha is a second picture or grid beside it. Turning and mirroring are properties
//! of the item. EXIF is ignored for them, as the standard asks.

#[cfg(feature = "avif")]
pub mod av1;
mod boxes;
mod brands;
#[cfg(feature = "heic")]
pub mod hevc;
mod meta;
mod transforms;

use std::borrow::Cow;

use self::boxes::{Fields, Kind};
pub use self::brands::format;
use self::meta::{ITEM_BYTES, Id, Meta};
use self::transforms::transforms;
use super::format::{Format, Header, MAX_PROFILE_BYTES, cut_short, not_built, undecodable, unsupported};
use crate::error::{Error, Result};
use crate::geometry::{Orientation, Region, Size};

/// The largest coding block. The sides of a coded picture are multiples of at most this.
pub const BLOCK: u32 = 64;

/// The most pixels of one coded picture: more than three times what the highest level of HEVC or AV1 allows.
const MAX_CODED_PIXELS: u64 = 1 << 27;

/// Properties whose meaning is known here, or that say nothing about how pixels look.
const KNOWN: [&Kind; 13] = [
    b"hvcC", b"av1C", b"ispe", b"pixi", b"colr", b"irot", b"imir", b"clap", b"auxC", b"pasp", b"clli", b"mdcv", b"cclv",
];

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
    pub codec: Codec,
    /// The body of the property that configures HEVC's decoder; AV1's needs none.
    #[cfg(feature = "heic")]
    pub config: &'a [u8],
    /// The chroma format: 0 is grey, 1 is 4:2:0, 2 is 4:2:2 and 3 is 4:4:4.
    pub chroma: u8,
    /// Bytes that the decoder holds for each pixel while it decodes, beside the samples that it gives.
    working_bytes_a_pixel: u64,
    /// Its bytes, which may lie in several pieces.
    pub data: Vec<&'a [u8]>,
}

/// What a picture is coded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    #[cfg(feature = "heic")]
    Hevc,
    #[cfg(feature = "avif")]
    Av1,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let photo = Photo::read(bytes)?;
    let pictures = || [Some(&photo.color), photo.alpha.as_ref()].into_iter().flatten();
    // A row of tiles of colours and one of alpha are held, and one tile at a time is decoded.
    let working = pictures().map(Picture::working_bytes).max().unwrap_or(0);
    let held = pictures().map(Picture::sample_bytes).sum::<u64>() + working + photo.lists;
    Ok(Header {
        orientation: photo.orientation,
        alpha: photo.alpha.is_some(),
        profile_bytes: photo.profile().map_or(0, |profile| profile.len() as u64),
        ..Header::plain(photo.format(), photo.crop.size, held)
    })
}

/// The colour profile of a HEIC or AVIF.
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
            return Err(unsupported("HEIF whose alpha has another size than its colours is not served; send a PNG"));
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

    /// The format, by what the photo is coded with.
    fn format(&self) -> Format {
        match self.color.tiles[0].codec {
            #[cfg(feature = "heic")]
            Codec::Hevc => Format::Heic,
            #[cfg(feature = "avif")]
            Codec::Av1 => Format::Avif,
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
            let size = coded_size(meta, id)?;
            let tile = Tile::read(meta, id, kind)?;
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

    /// Bytes of the decoded samples of one row of tiles, with the list of all tiles.
    fn sample_bytes(&self) -> u64 {
        let a_pixel = self.tiles.iter().map(|tile| sample_bytes_a_pixel(tile.chroma)).max().unwrap_or(0);
        self.tile.padded_to(BLOCK).area() * a_pixel * u64::from(self.across) + self.tiles.len() as u64 * ITEM_BYTES
    }

    /// Bytes that the decoder needs for one tile, with two copies of its coded bytes.
    fn working_bytes(&self) -> u64 {
        let a_pixel = self.tiles.iter().map(|tile| tile.working_bytes_a_pixel).max().unwrap_or(0);
        let coded = self.tiles.iter().map(Tile::coded_bytes).max().unwrap_or(0);
        self.tile.padded_to(BLOCK).area() * a_pixel + 2 * coded
    }
}

impl<'a> Tile<'a> {
    fn read(meta: &Meta<'a>, id: Id, kind: Kind) -> Result<Self> {
        match &kind {
            #[cfg(feature = "heic")]
            b"hvc1" | b"hev1" => {
                let config = meta.property(id, *b"hvcC");
                let config = config.ok_or_else(|| undecodable("its decoder configuration is missing"))?;
                let read =
                    hevc::Config::read(config).ok_or_else(|| undecodable("its decoder configuration is damaged"))?;
                Ok(Self {
                    codec: Codec::Hevc,
                    config,
                    chroma: read.chroma,
                    working_bytes_a_pixel: hevc::WORKING_BYTES_A_PIXEL,
                    data: meta.data(id)?,
                })
            }
            #[cfg(feature = "avif")]
            b"av01" => {
                let data = meta.data(id)?;
                let sequence = av1::sequence(data.first().copied().unwrap_or_default())?;
                let chroma = av1::chroma(&sequence);
                let working_bytes_a_pixel = av1::working_bytes_a_pixel(&sequence, sample_bytes_a_pixel(chroma));
                Ok(Self {
                    codec: Codec::Av1,
                    #[cfg(feature = "heic")]
                    config: &[],
                    chroma,
                    working_bytes_a_pixel,
                    data,
                })
            }
            _ => Err(not_served(kind)),
        }
    }

    /// Its bytes in one piece.
    pub fn joined(&self) -> Cow<'a, [u8]> {
        if let [whole] = self.data[..] { Cow::Borrowed(whole) } else { Cow::Owned(self.data.concat()) }
    }

    fn coded_bytes(&self) -> u64 {
        self.data.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Bytes of the decoded samples of a pixel in this chroma format. A sample has two.
fn sample_bytes_a_pixel(chroma: u8) -> u64 {
    match chroma {
        0 => 2,
        1 => 3,
        2 => 4,
        _ => 6,
    }
}

/// Refuses an item that has an unknown essential property, because a reader has to know those.
fn known_properties(meta: &Meta<'_>, id: Id) -> Result<()> {
    match meta.properties(id).find(|property| property.essential && !KNOWN.contains(&&property.kind)) {
        None => Ok(()),
        Some(property) => Err(Error::Unsupported {
            detail: format!("HEIF with the property {} is not served; send a JPEG", property.kind.escape_ascii()),
        }),
    }
}

fn not_served(kind: Kind) -> Error {
    match &kind {
        b"av01" => not_built("AVIF"),
        b"hvc1" | b"hev1" => not_built("HEIC"),
        _ => {
            let kind = kind.escape_ascii();
            Error::Unsupported { detail: format!("a HEIF picture of the kind {kind} is not served; send a JPEG") }
        }
    }
}

/// The width and height of a coded picture.
fn coded_size(meta: &Meta<'_>, id: Id) -> Result<Size> {
    let fields = meta.property(id, *b"ispe").and_then(Fields::full);
    let (_, _, mut fields) = fields.ok_or_else(|| undecodable("the size of a picture is missing"))?;
    let size = two_sides(&mut fields, 4)?;
    if size.padded_to(BLOCK).area() > MAX_CODED_PIXELS {
        return Err(unsupported("HEIF with pictures of more than 134 megapixels in one piece is not served"));
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
