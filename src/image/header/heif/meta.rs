//! The items of a HEIF file (ISO/IEC 14496-12, 8.11): what each is, where its bytes are, and what belongs to it.
//!
//! What is kept is bounded by the numbers of items and references, and these by [`MAX_ITEMS`] and [`MAX_REFERENCES`],
//! whatever a file claims.

use std::collections::HashMap;

use super::boxes::{Boxes, Fields, Kind};
use crate::error::Result;
use crate::image::header::format::{cut_short, undecodable, unsupported};

/// The most items. A photo of 200 megapixels in tiles of 160 pixels a side has fewer.
const MAX_ITEMS: usize = 1 << 13;
/// The most properties that one item may have, and the most pieces that its bytes may lie in.
const MAX_PROPERTIES: usize = 32;
const MAX_PIECES: usize = 16;
/// The most references of all items together. A grid has at most this many tiles.
const MAX_REFERENCES: usize = 1 << 16;
/// Bytes that [`Meta`] holds for each item at most, with the pieces that its bytes lie in.
pub const ITEM_BYTES: u64 = 1 << 10;

/// An item's number.
pub type Id = u32;

/// A property of an item. A reader that does not know an essential property must leave the item alone.
#[derive(Debug, Clone, Copy)]
pub struct Property<'a> {
    pub kind: Kind,
    pub body: &'a [u8],
    pub essential: bool,
}

#[derive(Debug)]
pub struct Meta<'a> {
    file: &'a [u8],
    /// The bytes of items that lie in the meta box itself.
    inside: &'a [u8],
    pub primary: Id,
    kinds: HashMap<Id, Kind>,
    /// Each reference's type, the item that has it, and the items that it refers to.
    references: Vec<(Kind, Id, Vec<Id>)>,
    properties: Vec<(Kind, &'a [u8])>,
    associations: HashMap<Id, Vec<Association>>,
    locations: HashMap<Id, Location>,
}

#[derive(Debug, Clone, Copy)]
struct Association {
    /// The place among the properties, from 1 on; 0 is none.
    index: u16,
    essential: bool,
}

#[derive(Debug)]
struct Location {
    method: u8,
    /// The first byte and the length of each piece.
    pieces: Vec<(u64, u64)>,
}

impl<'a> Meta<'a> {
    pub fn read(file: &'a [u8]) -> Result<Self> {
        let body = Boxes(file).first(*b"meta").ok_or_else(|| {
            if Boxes(file).any(|(kind, _)| kind == *b"moov") {
                unsupported("HEIF with an image sequence and no still picture is not served; send its first picture")
            } else {
                cut_short()
            }
        })?;
        let boxes = Boxes(Fields::full(body).ok_or_else(cut_short)?.2.0);
        let properties = Boxes(boxes.first(*b"iprp").ok_or_else(cut_short)?);
        let kinds = kinds(boxes.first(*b"iinf").ok_or_else(cut_short)?)?;
        Ok(Self {
            file,
            inside: boxes.first(*b"idat").unwrap_or_default(),
            primary: primary(boxes.first(*b"pitm"))?,
            references: references(boxes.first(*b"iref").unwrap_or_default())?,
            properties: all_properties(properties.first(*b"ipco").ok_or_else(cut_short)?)?,
            associations: associations(properties)?,
            locations: locations(boxes.first(*b"iloc").ok_or_else(cut_short)?)?,
            kinds,
        })
    }

    /// Bytes that this value holds at most.
    pub fn bytes(&self) -> u64 {
        let most = [self.kinds.len(), self.associations.len(), self.locations.len(), self.properties.len()];
        let referred: usize = self.references.iter().map(|(_, _, to)| to.len() + 16).sum();
        most.into_iter().max().unwrap_or(0) as u64 * ITEM_BYTES + referred as u64 * size_of::<Id>() as u64
    }

    pub fn kind(&self, id: Id) -> Option<Kind> {
        self.kinds.get(&id).copied()
    }

    /// The items that `from` refers to by its first reference of this type.
    pub fn referred(&self, kind: Kind, from: Id) -> &[Id] {
        let mut references = self.references.iter().filter(|reference| (reference.0, reference.1) == (kind, from));
        references.next().map_or(&[], |(_, _, to)| to)
    }

    /// The items that refer to `to` by references of this type.
    pub fn referring(&self, kind: Kind, to: Id) -> impl Iterator<Item = Id> {
        let references =
            self.references.iter().filter(move |reference| reference.0 == kind && reference.2.contains(&to));
        references.map(|(_, from, _)| *from)
    }

    /// The properties of an item, in their order.
    pub fn properties(&self, id: Id) -> impl Iterator<Item = Property<'a>> {
        let associations = self.associations.get(&id).into_iter().flatten();
        associations.filter_map(|association| {
            let (kind, body) = *self.properties.get(usize::from(association.index).checked_sub(1)?)?;
            Some(Property { kind, body, essential: association.essential })
        })
    }

    /// The contents of the item's first property of this type.
    pub fn property(&self, id: Id, kind: Kind) -> Option<&'a [u8]> {
        self.properties(id).find_map(|property| (property.kind == kind).then_some(property.body))
    }

    /// The bytes of an item, in the pieces that they lie in.
    pub fn data(&self, id: Id) -> Result<Vec<&'a [u8]>> {
        let location = self.locations.get(&id).ok_or_else(|| undecodable("a part of the picture is missing"))?;
        let bytes = match location.method {
            0 => self.file,
            1 => self.inside,
            _ => return Err(unsupported("HEIF whose pictures lie inside other items is not served; send a JPEG")),
        };
        let piece = |&(first, length): &(u64, u64)| {
            let rest = bytes.get(usize::try_from(first).ok()?..)?;
            // A length of 0 means all that follows.
            if length == 0 { Some(rest) } else { rest.get(..usize::try_from(length).ok()?) }
        };
        let pieces = location.pieces.iter().map(piece).collect::<Option<Vec<_>>>();
        pieces.ok_or_else(|| undecodable("it ends before its last row"))
    }
}

fn too_many() -> crate::error::Error {
    undecodable("it has more parts than a photo needs")
}

fn damaged() -> crate::error::Error {
    undecodable("its list of pictures is damaged")
}

/// How many bytes an item's number takes in a box of this version.
fn id_bytes(version: u8) -> usize {
    if version == 0 { 2 } else { 4 }
}

fn primary(body: Option<&[u8]>) -> Result<Id> {
    let missing =
        || unsupported("HEIF with an image sequence and no still picture is not served; send its first picture");
    let (version, _, mut fields) = Fields::full(body.ok_or_else(missing)?).ok_or_else(damaged)?;
    fields.uint(id_bytes(version)).map(|id| id as Id).ok_or_else(damaged)
}

fn kinds(body: &[u8]) -> Result<HashMap<Id, Kind>> {
    let (version, _, mut fields) = Fields::full(body).ok_or_else(damaged)?;
    fields.uint(id_bytes(version)).ok_or_else(damaged)?;
    let mut kinds = HashMap::new();
    for (_, entry) in Boxes(fields.0).filter(|(kind, _)| kind == b"infe") {
        let (version, _, mut fields) = Fields::full(entry).ok_or_else(damaged)?;
        // Entries of older versions belong to files that hold no pictures.
        if version < 2 {
            continue;
        }
        let id = fields.uint(if version == 2 { 2 } else { 4 });
        let _protection = fields.uint(2);
        let (id, kind) = id.zip(fields.kind()).ok_or_else(damaged)?;
        kinds.insert(id as Id, kind);
        if kinds.len() > MAX_ITEMS {
            return Err(too_many());
        }
    }
    Ok(kinds)
}

fn references(body: &[u8]) -> Result<Vec<(Kind, Id, Vec<Id>)>> {
    let Some((version, _, fields)) = Fields::full(body) else { return Ok(Vec::new()) };
    let (id_bytes, mut left) = (id_bytes(version), MAX_REFERENCES);
    let mut references = Vec::new();
    for (kind, body) in Boxes(fields.0) {
        let mut fields = Fields(body);
        let (from, count) = fields.uint(id_bytes).zip(fields.uint(2)).ok_or_else(damaged)?;
        left = left.checked_sub(count as usize + 1).ok_or_else(too_many)?;
        let to = (0..count).map(|_| fields.uint(id_bytes).map(|id| id as Id)).collect::<Option<Vec<_>>>();
        references.push((kind, from as Id, to.ok_or_else(damaged)?));
    }
    Ok(references)
}

fn all_properties(body: &[u8]) -> Result<Vec<(Kind, &[u8])>> {
    let properties: Vec<_> = Boxes(body).take(MAX_ITEMS + 1).collect();
    if properties.len() > MAX_ITEMS { Err(too_many()) } else { Ok(properties) }
}

fn associations(properties: Boxes<'_>) -> Result<HashMap<Id, Vec<Association>>> {
    let mut all = HashMap::new();
    for (_, body) in properties.filter(|(kind, _)| kind == b"ipma") {
        let (version, flags, mut fields) = Fields::full(body).ok_or_else(damaged)?;
        for _ in 0..fields.uint(4).ok_or_else(damaged)? {
            let (id, count) = fields.uint(id_bytes(version)).zip(fields.uint(1)).ok_or_else(damaged)?;
            if count as usize > MAX_PROPERTIES || all.len() >= MAX_ITEMS {
                return Err(too_many());
            }
            let bytes = if flags & 1 == 1 { 2 } else { 1 };
            let essential = 1u16 << (bytes * 8 - 1);
            let association = |word: u64| {
                let word = word as u16;
                Association { index: word & (essential - 1), essential: word & essential != 0 }
            };
            let of_item = (0..count).map(|_| fields.uint(bytes).map(association)).collect::<Option<Vec<_>>>();
            all.insert(id as Id, of_item.ok_or_else(damaged)?);
        }
    }
    Ok(all)
}

fn locations(body: &[u8]) -> Result<HashMap<Id, Location>> {
    let (version, _, mut fields) = Fields::full(body).ok_or_else(damaged)?;
    let sizes = fields.uint(2).ok_or_else(damaged)?;
    let size = |shift: u32| (sizes >> shift & 15) as usize;
    let (offset, length, base) = (size(12), size(8), size(4));
    let index = if version == 0 { 0 } else { size(0) };
    if [offset, length, base, index].iter().any(|size| *size > 8) {
        return Err(damaged());
    }
    let mut locations = HashMap::new();
    let count = fields.uint(if version < 2 { 2 } else { 4 }).ok_or_else(damaged)?;
    let mut next = || {
        let id = fields.uint(if version < 2 { 2 } else { 4 })?;
        let method = if version == 0 { 0 } else { fields.uint(2)? as u8 & 15 };
        let elsewhere = fields.uint(2)? != 0;
        let base = fields.uint(base)?;
        let count = fields.uint(2)?;
        let mut pieces = Vec::new();
        for _ in 0..count.min(MAX_PIECES as u64 + 1) {
            fields.uint(index)?;
            let first = base.checked_add(fields.uint(offset)?)?;
            pieces.push((first, fields.uint(length)?));
        }
        Some((id as Id, elsewhere, Location { method, pieces }))
    };
    for _ in 0..count {
        let (id, elsewhere, location) = next().ok_or_else(damaged)?;
        if location.pieces.len() > MAX_PIECES || locations.len() >= MAX_ITEMS {
            return Err(too_many());
        }
        // An item whose bytes lie in another file counts as missing.
        if !elsewhere {
            locations.insert(id, location);
        }
    }
    Ok(locations)
}
