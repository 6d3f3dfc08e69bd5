//! TIFF and BigTIFF: the first directory.

use super::bytes::Endian;
use super::format::{Format, Header, cut_short, undecodable, unsupported};
use crate::error::Result;
use crate::geometry::{Orientation, Size};

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const STRIP_OFFSETS: u16 = 273;
const ORIENTATION: u16 = 274;
const SAMPLES: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTES: u16 = 279;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTES: u16 = 325;

/// The most values that a tag describing pixels may have. A picture needs one for each sample, and more would only fill
/// memory.
const MAX_VALUES: u64 = 64;
/// The most entries that a directory may have. Cameras write about a hundred.
const MAX_ENTRIES: u64 = 4096;

/// Bytes that the decoder spends on one offset or length of a strip or tile: a tagged value and an integer.
const INDEX_ENTRY_BYTES: u64 = 48;

/// What the first directory says, with TIFF's defaults.
#[derive(Debug)]
struct Directory {
    width: u64,
    height: u64,
    bits: u64,
    compression: u64,
    samples: u64,
    rows_per_strip: u64,
    tile: Option<(u64, u64)>,
    orientation: u16,
    /// Offsets and lengths of strips or tiles.
    index_entries: u64,
    /// A tag has more values, or the directory more entries, than any picture needs.
    overfull: bool,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let directory = Directory::read(bytes).ok_or_else(cut_short)?;
    if directory.overfull {
        return Err(undecodable("its directory is overfull"));
    }
    let side = |value: u64| u32::try_from(value).map_err(|_| undecodable("its sides are out of range"));
    let size = Size::new(side(directory.width)?, side(directory.height)?);
    if matches!(directory.compression, 6 | 7) {
        return Err(unsupported("TIFF with JPEG compression is not served; send the JPEG itself, or another TIFF"));
    }
    if !matches!(directory.bits, 1 | 2 | 4 | 8 | 16) || !(1..=8).contains(&directory.samples) {
        return Err(unsupported("TIFF is served with 1 to 16 bits a sample and up to 8 samples a pixel only"));
    }
    if directory.index_entries > (directory.height.saturating_mul(directory.samples) * 2).saturating_add(1 << 16) {
        return Err(undecodable("it lists more strips than it has rows"));
    }
    Ok(Header {
        format: Format::Tiff,
        stored: size,
        orientation: Orientation::from_exif(directory.orientation),
        held_bytes: directory.held_bytes(),
    })
}

impl Directory {
    fn read(bytes: &[u8]) -> Option<Self> {
        let endian = if bytes.starts_with(b"II") { Endian::Little } else { Endian::Big };
        let big = endian.u16(bytes, 2)? == 43;
        let offset = if big { endian.u64(bytes, 8)? } else { u64::from(endian.u32(bytes, 4)?) };
        let at = usize::try_from(offset).ok()?;
        let (count, entries, length) = if big {
            (endian.u64(bytes, at)?, at.checked_add(8)?, 20)
        } else {
            (u64::from(endian.u16(bytes, at)?), at.checked_add(2)?, 12)
        };
        let mut directory = Self {
            width: 0,
            height: 0,
            bits: 1,
            compression: 1,
            samples: 1,
            rows_per_strip: u64::MAX,
            tile: None,
            orientation: 1,
            index_entries: 0,
            overfull: count > MAX_ENTRIES,
        };
        for index in 0..count.min(MAX_ENTRIES) as usize {
            let start = entries.checked_add(index.checked_mul(length)?)?;
            let entry = bytes.get(start..start.checked_add(length)?)?;
            directory.take(bytes, endian, big, entry)?;
        }
        Some(directory)
    }

    fn take(&mut self, bytes: &[u8], endian: Endian, big: bool, entry: &[u8]) -> Option<()> {
        let tag = endian.u16(entry, 0)?;
        let count = if big { endian.u64(entry, 4)? } else { u64::from(endian.u32(entry, 4)?) };
        self.overfull |= count > MAX_VALUES && is_of_pixels(tag);
        let first = || first_value(bytes, endian, big, entry, count);
        match tag {
            WIDTH => self.width = first()?,
            HEIGHT => self.height = first()?,
            BITS => self.bits = first()?,
            COMPRESSION => self.compression = first()?,
            SAMPLES => self.samples = first()?,
            ROWS_PER_STRIP => self.rows_per_strip = first()?,
            TILE_WIDTH => self.tile = Some((first()?, self.tile.map_or(0, |tile| tile.1))),
            TILE_HEIGHT => self.tile = Some((self.tile.map_or(0, |tile| tile.0), first()?)),
            // A malformed orientation counts as upright.
            ORIENTATION => self.orientation = first().and_then(|value| u16::try_from(value).ok()).unwrap_or(1),
            STRIP_OFFSETS | STRIP_BYTES | TILE_OFFSETS | TILE_BYTES => {
                self.index_entries = self.index_entries.saturating_add(count);
            }
            _ => {}
        }
        Some(())
    }

    /// One band of strips or tiles: a chunk as decoded, and the band as RGB.
    fn held_bytes(&self) -> u64 {
        let sample_bytes = if self.bits > 8 { 2 } else { 1 };
        let strip = (self.width, self.rows_per_strip.min(self.height));
        let (chunk_width, chunk_height) = self.tile.unwrap_or(strip);
        let chunk_pixels = chunk_width.saturating_mul(chunk_height);
        let band_rows = chunk_height.min(self.height);
        let chunk = chunk_pixels.saturating_mul(self.samples * sample_bytes);
        let band = self.width.saturating_mul(band_rows).saturating_mul(3);
        let index = self.index_entries.saturating_mul(INDEX_ENTRY_BYTES);
        chunk.saturating_add(band).saturating_add(index)
    }
}

/// Whether a decoder reads every value of the tag before it looks at a pixel: sizes, sample formats and the like. Not
/// palettes, metadata and the index of strips or tiles.
fn is_of_pixels(tag: u16) -> bool {
    matches!(tag, 254..=266 | 274 | 277..=278 | 284 | 292..=293 | 317 | 322..=323 | 338..=339 | 530)
}

/// The first value of an entry, of type BYTE, SHORT, LONG or LONG8.
fn first_value(bytes: &[u8], endian: Endian, big: bool, entry: &[u8], count: u64) -> Option<u64> {
    let kind = endian.u16(entry, 2)?;
    let bytes_each = match kind {
        1 => 1,
        3 => 2,
        4 => 4,
        16 => 8,
        _ => return None,
    };
    let (field, room) = if big { (12, 8) } else { (8, 4) };
    let (source, at) = if count.checked_mul(bytes_each)? <= room {
        (entry, field)
    } else {
        let offset = if big { endian.u64(entry, field)? } else { u64::from(endian.u32(entry, field)?) };
        (bytes, usize::try_from(offset).ok()?)
    };
    match bytes_each {
        1 => source.get(at).copied().map(u64::from),
        2 => endian.u16(source, at).map(u64::from),
        4 => endian.u32(source, at).map(u64::from),
        _ => endian.u64(source, at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// A little-endian TIFF of 64 × 48 RGB pixels with these entries (tag, type, count, value) besides, in 16 rows a strip.
    fn tiff(more: &[(u16, u16, u32, u32)]) -> Vec<u8> {
        let mut entries = vec![(WIDTH, 3, 1, 64), (HEIGHT, 3, 1, 48), (BITS, 3, 1, 8), (SAMPLES, 3, 1, 3)];
        entries.extend([(ROWS_PER_STRIP, 3, 1, 16), (STRIP_OFFSETS, 4, 3, 8), (STRIP_BYTES, 4, 3, 8)]);
        entries.extend(more);
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn one_band_is_charged() {
        let header = read(&tiff(&[(ORIENTATION, 3, 1, 6)])).unwrap();
        assert_eq!((header.stored, header.orientation), (Size::new(64, 48), Orientation::Rotate90));
        assert_eq!(header.held_bytes, 2 * 64 * 16 * 3 + 6 * INDEX_ENTRY_BYTES);
        let tiles = read(&tiff(&[(TILE_WIDTH, 3, 1, 32), (TILE_HEIGHT, 3, 1, 32)])).unwrap();
        assert_eq!(tiles.held_bytes, 32 * 32 * 3 + 64 * 32 * 3 + 6 * INDEX_ENTRY_BYTES);
    }

    #[test]
    fn lists_that_only_fill_memory_are_refused() {
        for more in [(339, 1, 8_000_000, 8), (COMPRESSION, 1, 65, 8), (TILE_OFFSETS, 1, 8_000_000, 8)] {
            assert!(matches!(read(&tiff(&[more])), Err(Error::Undecodable { .. })), "{more:?}");
        }
    }

    #[test]
    fn jpeg_inside_is_unsupported() {
        assert!(matches!(read(&tiff(&[(COMPRESSION, 3, 1, 7)])), Err(Error::Unsupported { .. })));
    }
}
