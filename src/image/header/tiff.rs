//! TIFF and BigTIFF: the first directory.

use std::borrow::Cow;

use super::bytes::Endian;
use super::format::{Format, Header, MAX_PROFILE_BYTES, cut_short, undecodable, unsupported};
use super::{exif, xmp};
use crate::error::Result;
use crate::geometry::Size;

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const STRIP_OFFSETS: u16 = 273;
const ORIENTATION: u16 = 274;
const SAMPLES: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTES: u16 = 279;
const PLANES: u16 = 284;
const FAX_OPTIONS: u16 = 292;
const PREDICTOR: u16 = 317;
const PALETTE: u16 = 320;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTES: u16 = 325;
const INKS: u16 = 332;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const JPEG_TABLES: u16 = 347;
const SUBSAMPLING: u16 = 530;
const XMP: u16 = 700;
const PROFILE: u16 = 34675;

/// The most values that a tag describing pixels may have. A picture needs one for each sample, and more would only fill
/// memory.
const MAX_VALUES: u64 = 64;
/// The most entries that a directory may have. Cameras write about a hundred.
const MAX_ENTRIES: u64 = 4096;
/// The most samples of a pixel.
pub(in crate::image) const MAX_SAMPLES: usize = 8;

/// The largest window of a zstd frame that is served: that of level 19. Encoders ask for more only beyond it.
pub(in crate::image) const ZSTD_WINDOW_BYTES: u64 = 8 << 20;
/// Bytes that the decoder of zstd may hold: the window, in a ring that doubles and is copied while it does, and blocks
/// and tables.
const ZSTD_BYTES: u64 = 3 * ZSTD_WINDOW_BYTES + (2 << 20);

/// How a chunk's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Compression {
    None,
    Fax3,
    Fax4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Zstd,
}

/// What samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Photometric {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
    Lab,
}

impl Photometric {
    /// The number of a pixel's samples that are colours.
    pub fn colors(self) -> usize {
        match self {
            Self::WhiteIsZero | Self::BlackIsZero | Self::Palette => 1,
            Self::Rgb | Self::YCbCr | Self::Lab => 3,
            Self::Cmyk => 4,
        }
    }
}

/// A sample that says how opaque a pixel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) struct Alpha {
    /// Its place among the pixel's samples.
    pub sample: usize,
    /// Whether the colours were multiplied with it.
    pub associated: bool,
}

/// The values of a tag, which are read when they are asked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Values<'a> {
    source: &'a [u8],
    at: usize,
    endian: Endian,
    bytes_each: usize,
    pub count: u64,
}

impl<'a> Values<'a> {
    /// The values of an entry of type BYTE, SHORT, LONG, LONG8 or UNDEFINED.
    fn read(bytes: &'a [u8], endian: Endian, big: bool, entry: &'a [u8]) -> Option<Self> {
        let count = if big { endian.u64(entry, 4)? } else { u64::from(endian.u32(entry, 4)?) };
        let bytes_each = match endian.u16(entry, 2)? {
            1 | 7 => 1,
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
        Some(Self { source, at, endian, bytes_each: bytes_each as usize, count })
    }

    pub fn get(&self, index: u64) -> Option<u64> {
        if index >= self.count {
            return None;
        }
        let at = self.at.checked_add(usize::try_from(index).ok()?.checked_mul(self.bytes_each)?)?;
        match self.bytes_each {
            1 => self.source.get(at).copied().map(u64::from),
            2 => self.endian.u16(self.source, at).map(u64::from),
            4 => self.endian.u32(self.source, at).map(u64::from),
            _ => self.endian.u64(self.source, at),
        }
    }

    /// The values of a tag of single bytes.
    fn bytes(&self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.count).ok().filter(|_| self.bytes_each == 1)?;
        self.source.get(self.at..self.at.checked_add(length)?)
    }

    fn all(&self) -> impl Iterator<Item = Option<u64>> + '_ {
        (0..self.count).map(|index| self.get(index))
    }
}

/// What the first directory says, with TIFF's defaults for what it does not.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own that the file states")]
pub(in crate::image) struct Directory<'a> {
    pub endian: Endian,
    pub width: u64,
    pub height: u64,
    pub bits: u64,
    pub samples: u64,
    compression: u64,
    photometric: Option<u64>,
    pub reversed_bits: bool,
    pub rows_per_strip: u64,
    pub tile: Option<(u64, u64)>,
    pub planes_apart: bool,
    pub fax_options: u64,
    pub predictor: u64,
    pub palette: Option<Values<'a>>,
    inks: u64,
    extra_samples: Option<Values<'a>>,
    sample_format: u64,
    pub jpeg_tables: &'a [u8],
    /// How many pixels share a colour difference, across and down.
    pub subsampling: (u64, u64),
    orientation: Option<u16>,
    xmp: Option<u16>,
    profile: Option<&'a [u8]>,
    pub offsets: Option<Values<'a>>,
    pub lengths: Option<Values<'a>>,
    /// Whether the samples do not all have the same bits or format.
    mixed: bool,
    /// Whether a tag has more values, or the directory more entries, than any picture needs.
    overfull: bool,
}

/// How the pixels of a directory are coded. It is checked to be a way that is served.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Coding {
    pub compression: Compression,
    pub photometric: Photometric,
    pub alpha: Option<Alpha>,
    /// The width and height of a whole strip or tile.
    pub chunk: Size,
    pub samples: usize,
}

pub fn read(bytes: &[u8]) -> Result<Header> {
    let directory = Directory::read(bytes).ok_or_else(cut_short)?;
    let size = directory.size()?;
    let coding = directory.coding()?;
    Ok(Header {
        orientation: exif::upright(directory.orientation, directory.xmp),
        alpha: coding.alpha.is_some(),
        profile_bytes: directory.profile.map_or(0, |profile| profile.len() as u64),
        ..Header::plain(Format::Tiff, size, directory.held_bytes(&coding, bytes.len() as u64))
    })
}

/// The colour profile of a TIFF.
pub fn profile(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    Directory::read(bytes)?.profile.map(Cow::from)
}

impl<'a> Directory<'a> {
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
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
            endian,
            width: 0,
            height: 0,
            bits: 1,
            samples: 1,
            compression: 1,
            photometric: None,
            reversed_bits: false,
            rows_per_strip: u64::MAX,
            tile: None,
            planes_apart: false,
            fax_options: 0,
            predictor: 1,
            palette: None,
            inks: 1,
            extra_samples: None,
            sample_format: 1,
            jpeg_tables: &[],
            subsampling: (2, 2),
            orientation: None,
            xmp: None,
            profile: None,
            offsets: None,
            lengths: None,
            mixed: false,
            overfull: count > MAX_ENTRIES,
        };
        for index in 0..count.min(MAX_ENTRIES) as usize {
            let start = entries.checked_add(index.checked_mul(length)?)?;
            let entry = bytes.get(start..start.checked_add(length)?)?;
            directory.take(bytes, big, entry)?;
        }
        Some(directory)
    }

    fn take(&mut self, bytes: &'a [u8], big: bool, entry: &'a [u8]) -> Option<()> {
        let endian = self.endian;
        let tag = endian.u16(entry, 0)?;
        let values = Values::read(bytes, endian, big, entry);
        self.overfull |= is_of_pixels(tag) && values.is_some_and(|values| values.count > MAX_VALUES);
        let first = || values?.get(0);
        match tag {
            WIDTH => self.width = first()?,
            HEIGHT => self.height = first()?,
            BITS => self.bits = self.common_value(values?)?,
            COMPRESSION => self.compression = first()?,
            PHOTOMETRIC => self.photometric = Some(first()?),
            FILL_ORDER => self.reversed_bits = first()? == 2,
            SAMPLES => self.samples = first()?,
            ROWS_PER_STRIP => self.rows_per_strip = first()?,
            PLANES => self.planes_apart = first()? == 2,
            FAX_OPTIONS => self.fax_options = first()?,
            PREDICTOR => self.predictor = first()?,
            PALETTE => self.palette = values,
            TILE_WIDTH => self.tile = Some((first()?, self.tile.map_or(0, |tile| tile.1))),
            TILE_HEIGHT => self.tile = Some((self.tile.map_or(0, |tile| tile.0), first()?)),
            INKS => self.inks = first()?,
            EXTRA_SAMPLES => self.extra_samples = values,
            SAMPLE_FORMAT => self.sample_format = self.common_value(values?)?,
            JPEG_TABLES => self.jpeg_tables = values?.bytes()?,
            SUBSAMPLING => self.subsampling = (values?.get(0)?, values?.get(1)?),
            // A malformed orientation counts as none, like a malformed profile.
            ORIENTATION => self.orientation = first().and_then(|value| u16::try_from(value).ok()),
            XMP => self.xmp = values.and_then(|values| xmp::orientation(values.bytes()?)),
            PROFILE => {
                let profile = values.and_then(|values| values.bytes());
                self.profile = profile.filter(|profile| profile.len() as u64 <= MAX_PROFILE_BYTES);
            }
            STRIP_OFFSETS | TILE_OFFSETS => self.offsets = Some(values?),
            STRIP_BYTES | TILE_BYTES => self.lengths = Some(values?),
            _ => {}
        }
        Some(())
    }

    /// The value that all samples share. If they do not share one, this is noted.
    fn common_value(&mut self, values: Values<'_>) -> Option<u64> {
        let first = values.get(0)?;
        self.mixed |= values.count <= MAX_VALUES && values.all().any(|value| value != Some(first));
        Some(first)
    }

    pub fn size(&self) -> Result<Size> {
        if self.overfull {
            return Err(undecodable("its directory is overfull"));
        }
        let side = |value: u64| u32::try_from(value).map_err(|_| undecodable("its sides are out of range"));
        Ok(Size::new(side(self.width)?, side(self.height)?))
    }

    /// How the pixels are coded.
    ///
    /// # Errors
    /// `Unsupported`, which names the way that is not served; `Undecodable` if tags contradict each other.
    pub fn coding(&self) -> Result<Coding> {
        let compression = self.compression()?;
        let photometric = self.photometric()?;
        if self.mixed || !matches!(self.bits, 1 | 2 | 4 | 8 | 16) || !(1..=MAX_SAMPLES as u64).contains(&self.samples) {
            return Err(unsupported("TIFF is served with 1 to 16 bits a sample and up to 8 samples a pixel only"));
        }
        let samples = self.samples as usize;
        match self.sample_format {
            1 | 4 => {}
            3 => return Err(unsupported("TIFF with floating-point samples is not served; send 8 or 16 bits a sample")),
            _ => return Err(unsupported("TIFF with signed samples is not served; send 8 or 16 bits a sample")),
        }
        if samples < photometric.colors() {
            return Err(undecodable("it has fewer samples than its colours need"));
        }
        let coding =
            Coding { compression, photometric, alpha: self.alpha(photometric)?, chunk: self.chunk()?, samples };
        self.check_combination(&coding)?;
        Ok(coding)
    }

    fn compression(&self) -> Result<Compression> {
        let other = match self.compression {
            1 => return Ok(Compression::None),
            3 => return Ok(Compression::Fax3),
            4 => return Ok(Compression::Fax4),
            5 => return Ok(Compression::Lzw),
            7 => return Ok(Compression::Jpeg),
            8 | 32946 => return Ok(Compression::Deflate),
            32773 => return Ok(Compression::PackBits),
            50000 => return Ok(Compression::Zstd),
            2 => "modified Huffman (CCITT 2)",
            6 => "old-style JPEG (6)",
            34925 => "LZMA",
            50001 => "WebP",
            other => return Err(unsupported(&format!("TIFF with compression {other} is not served; {SEND}"))),
        };
        Err(unsupported(&format!("TIFF with {other} compression is not served; {SEND}")))
    }

    fn photometric(&self) -> Result<Photometric> {
        Ok(match self.photometric {
            Some(0) => Photometric::WhiteIsZero,
            Some(1) => Photometric::BlackIsZero,
            Some(2) => Photometric::Rgb,
            Some(3) => Photometric::Palette,
            Some(5) if self.inks == 1 => Photometric::Cmyk,
            Some(6) => Photometric::YCbCr,
            Some(8) => Photometric::Lab,
            Some(5) => return Err(unsupported("TIFF with inks other than CMYK is not served; send RGB")),
            Some(32803 | 34892) => return Err(unsupported("a camera's raw file (DNG) is not served; send a JPEG")),
            Some(other) => {
                let detail =
                    format!("TIFF with the colours of photometric interpretation {other} is not served; send RGB");
                return Err(unsupported(&detail));
            }
            None => return Err(undecodable("it does not say what its samples mean")),
        })
    }

    /// The first extra sample that is alpha. If the file does not say what its extra samples are, a single one is taken
    /// for alpha except beside CMYK. Pillow does this for a fourth sample of RGB and a second one of grey.
    fn alpha(&self, photometric: Photometric) -> Result<Option<Alpha>> {
        let colors = photometric.colors();
        let extra = (self.samples as usize).saturating_sub(colors);
        let Some(kinds) = self.extra_samples else {
            let alone = extra == 1 && photometric != Photometric::Cmyk;
            return Ok(alone.then_some(Alpha { sample: colors, associated: false }));
        };
        if kinds.count > extra as u64 {
            return Err(undecodable("it has more extra samples than samples"));
        }
        let mut kinds = kinds.all().enumerate();
        let alpha = kinds.find_map(|(index, kind)| match kind {
            Some(1) => Some(Alpha { sample: colors + index, associated: true }),
            // Corel Draw 10 wrote 999.
            Some(2 | 999) => Some(Alpha { sample: colors + index, associated: false }),
            _ => None,
        });
        Ok(alpha)
    }

    /// The size of a whole strip or tile.
    fn chunk(&self) -> Result<Size> {
        let side = |value: u64| u32::try_from(value).ok().filter(|&side| side > 0);
        let chunk = match self.tile {
            Some((width, height)) => side(width).zip(side(height)),
            None => side(self.width).zip(side(self.rows_per_strip.min(self.height))),
        };
        let (width, height) = chunk.ok_or_else(|| undecodable("its strips or tiles are empty or out of range"))?;
        Ok(Size::new(width, height))
    }

    /// Refuses ways of coding that contradict each other, or whose combination is not served.
    fn check_combination(&self, coding: &Coding) -> Result<()> {
        // Each strip or tile takes the time that it takes to start a decompressor, whatever its size.
        let down = u64::from(coding.chunk.height);
        let chunks = self.width.div_ceil(u64::from(coding.chunk.width)).saturating_mul(self.height.div_ceil(down));
        if chunks > self.height.saturating_mul(2).saturating_add(1 << 16) {
            return Err(undecodable("it has more tiles than a picture of its size needs"));
        }
        let Coding { compression, photometric, samples, .. } = *coding;
        let predicts = matches!(compression, Compression::Lzw | Compression::Deflate | Compression::Zstd);
        let eight_bits = self.bits == 8;
        let refused = if predicts && !matches!(self.predictor, 1 | 2) {
            "TIFF with this predictor is served for no integers; send one without"
        } else if predicts && self.predictor == 2 && self.bits < 8 {
            "TIFF with a predictor is served with 8 or 16 bits a sample only"
        } else if matches!(compression, Compression::Fax3 | Compression::Fax4)
            && (self.bits != 1 || (samples != 1 && !self.planes_apart) || coding.chunk.width > u32::from(u16::MAX))
        {
            "TIFF with fax compression is served with one bit a pixel and up to 65535 columns only"
        } else if compression == Compression::Fax3 && self.fax_options & 1 == 1 {
            "TIFF with two-dimensional Group 3 fax compression is not served; send Group 4"
        } else if compression == Compression::Jpeg && !eight_bits {
            "TIFF with JPEG compression is served with 8 bits a sample only"
        } else if compression == Compression::Jpeg
            && ((self.planes_apart && photometric == Photometric::YCbCr)
                || (!self.planes_apart && samples != photometric.colors())
                || matches!(photometric, Photometric::Palette | Photometric::Lab))
        {
            "TIFF with JPEG compression is served in grey, RGB, YCbCr and CMYK without alpha only"
        } else if matches!(photometric, Photometric::YCbCr | Photometric::Lab) && !eight_bits {
            "TIFF in YCbCr or CIELAB is served with 8 bits a sample only"
        } else if photometric == Photometric::Palette && (self.bits > 8 || self.palette.is_none()) {
            "TIFF with a palette is served with up to 8 bits a pixel only"
        } else if compression != Compression::Jpeg && photometric == Photometric::YCbCr && self.is_subsampled() {
            let (across, down) = self.subsampling;
            if samples == 3
                && !self.planes_apart
                && (!predicts || self.predictor == 1)
                && matches!(across, 1 | 2 | 4)
                && matches!(down, 1 | 2 | 4)
            {
                return Ok(());
            }
            "TIFF with subsampled YCbCr is served with interleaved samples and without a predictor only"
        } else {
            return Ok(());
        };
        Err(unsupported(refused))
    }

    pub fn is_subsampled(&self) -> bool {
        self.subsampling != (1, 1)
    }

    /// Bytes that are held besides rows: the tiles of one row as 8-bit samples, since the tiles come one after the
    /// other; what a zstd decoder keeps; a copy of a chunk whose bits are reversed.
    fn held_bytes(&self, coding: &Coding, file_bytes: u64) -> u64 {
        let samples = self.samples;
        let planes = if self.planes_apart && self.tile.is_none() { samples } else { 1 };
        let band = match self.tile {
            Some((_, height)) => self.width.saturating_mul(height.min(self.height)).saturating_mul(samples),
            None => 0,
        };
        let packed = if self.reversed_bits { file_bytes.saturating_mul(planes) } else { 0 };
        let zstd = if coding.compression == Compression::Zstd { ZSTD_BYTES * planes } else { 0 };
        band.saturating_add(packed).saturating_add(zstd)
    }
}

/// The end of a refusal's sentence.
const SEND: &str = "send one with LZW or deflate, or a PNG";

/// Whether the values of the tag describe pixels, as sizes and sample formats do. Palettes, metadata and the index of
/// strips or tiles do not count.
fn is_of_pixels(tag: u16) -> bool {
    matches!(tag, 254..=266 | 274 | 277..=278 | 284 | 292..=293 | 317 | 322..=323 | 338..=339 | 530)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::geometry::Orientation;

    /// A little-endian TIFF of 64 × 48 RGB pixels in strips of 16 rows, with these entries (tag, type, count, value)
    /// added.
    fn tiff(more: &[(u16, u16, u32, u32)]) -> Vec<u8> {
        let mut entries =
            vec![(WIDTH, 3, 1, 64), (HEIGHT, 3, 1, 48), (BITS, 3, 1, 8), (SAMPLES, 3, 1, 3), (PHOTOMETRIC, 3, 1, 2)];
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
    fn one_row_of_tiles_is_charged() {
        let header = read(&tiff(&[(ORIENTATION, 3, 1, 6)])).unwrap();
        assert_eq!((header.stored, header.orientation), (Size::new(64, 48), Orientation::Rotate90));
        // Strips are decoded row by row.
        assert_eq!((header.held_bytes, header.alpha), (0, false));
        let tiles = read(&tiff(&[(TILE_WIDTH, 3, 1, 32), (TILE_HEIGHT, 3, 1, 32)])).unwrap();
        assert_eq!(tiles.held_bytes, 64 * 32 * 3);
    }

    #[test]
    fn lists_that_only_fill_memory_are_refused() {
        for more in [(339, 1, 8_000_000, 8), (COMPRESSION, 1, 65, 8)] {
            assert!(matches!(read(&tiff(&[more])), Err(Error::Undecodable { .. })), "{more:?}");
        }
    }

    #[test]
    fn what_is_not_served_is_named() {
        let refusals = [
            ((COMPRESSION, 3, 1, 6), "old-style JPEG"),
            ((COMPRESSION, 3, 1, 2), "modified Huffman"),
            ((COMPRESSION, 3, 1, 50001), "WebP"),
            ((COMPRESSION, 3, 1, 34887), "compression 34887"),
            ((PHOTOMETRIC, 3, 1, 32803), "raw file"),
            ((PHOTOMETRIC, 3, 1, 10), "photometric interpretation 10"),
            ((BITS, 3, 1, 32), "1 to 16 bits"),
            ((SAMPLE_FORMAT, 3, 1, 3), "floating-point"),
            ((SAMPLE_FORMAT, 3, 1, 2), "signed"),
        ];
        for (entry, said) in refusals {
            match read(&tiff(&[entry])) {
                Err(Error::Unsupported { detail }) => assert!(detail.contains(said), "{detail}"),
                other => panic!("{entry:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn alpha_is_an_extra_sample_or_a_fourth_one() {
        let alpha = |more: &[_]| Directory::read(&tiff(more)).unwrap().coding().unwrap().alpha;
        let (straight, associated) = (Alpha { sample: 3, associated: false }, Alpha { sample: 3, associated: true });
        assert_eq!(alpha(&[]), None);
        assert_eq!(alpha(&[(SAMPLES, 3, 1, 4)]), Some(straight));
        assert_eq!(alpha(&[(SAMPLES, 3, 1, 4), (EXTRA_SAMPLES, 3, 1, 0)]), None);
        assert_eq!(alpha(&[(SAMPLES, 3, 1, 4), (EXTRA_SAMPLES, 3, 1, 1)]), Some(associated));
        assert_eq!(alpha(&[(SAMPLES, 3, 1, 4), (EXTRA_SAMPLES, 3, 1, 2)]), Some(straight));
        // The field holds two values, 0 and 2.
        let second = Alpha { sample: 4, associated: false };
        assert_eq!(alpha(&[(SAMPLES, 3, 1, 5), (EXTRA_SAMPLES, 3, 2, 2 << 16)]), Some(second));
    }
}
