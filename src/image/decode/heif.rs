//! HEIC and AVIF: one row of tiles at a time is decoded, and its pixels are then given row by row.

#[cfg(feature = "avif")]
mod av1;
#[cfg(feature = "heic")]
mod hevc;
mod ycbcr;

use self::ycbcr::Frame;
use super::color::{Kind, ToRgb};
use super::row::{RGB, Row, RowSink, dissociate, undecodable};
use crate::error::Result;
use crate::image::header::Header;
use crate::image::header::heif::{Codec, Photo, Picture};

/// Working bytes a column, which are RGB and alpha of a row, and fixed working bytes, which are the decoder's tables
/// and its buffers of a block.
pub(crate) const WORKING_BYTES: (u64, u64) = (RGB as u64 + 1, 1 << 20);

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let photo = Photo::read(bytes)?;
    if photo.crop.size != header.stored || photo.alpha.is_some() != header.alpha {
        return Err(undecodable("its headers contradict each other"));
    }
    let mut to_rgb = ToRgb::new(bytes, header, Kind::Rgb);
    let mut colors = Strips::new(&photo.color);
    let mut opacity = photo.alpha.as_ref().map(Strips::new);
    let width = photo.color.size.width as usize;
    let (mut rgb, mut alpha) = (vec![0; width * RGB], vec![0; if opacity.is_some() { width } else { 0 }]);
    let (left, kept) = (photo.crop.left as usize, photo.crop.size.width as usize);
    for y in photo.crop.top..photo.crop.top + photo.crop.size.height {
        let tile_bytes = photo.color.tile.width as usize * RGB;
        let (frames, row) = colors.at(y)?;
        for (frame, rgb) in frames.iter().zip(rgb.chunks_mut(tile_bytes)) {
            ycbcr::rgb(frame, photo.coding, row, rgb)?;
        }
        if let Some(opacity) = &mut opacity {
            let tile_bytes = opacity.picture.tile.width as usize;
            let (frames, row) = opacity.at(y)?;
            for (frame, alpha) in frames.iter().zip(alpha.chunks_mut(tile_bytes)) {
                ycbcr::alpha(frame, row, alpha);
            }
            if photo.premultiplied {
                dissociate(&mut rgb, &alpha, RGB);
            }
        }
        let rgb = to_rgb.row(&rgb[left * RGB..][..kept * RGB])?;
        sink(Row { rgb, alpha: opacity.is_some().then(|| &alpha[left..][..kept]) })?;
    }
    Ok(())
}

/// A picture whose tiles are decoded one row of tiles at a time.
struct Strips<'a> {
    picture: &'a Picture<'a>,
    /// The index of the row of tiles that `frames` holds, once one is decoded.
    strip: Option<u32>,
    frames: Vec<Frame>,
}

impl<'a> Strips<'a> {
    fn new(picture: &'a Picture<'a>) -> Self {
        Self { picture, strip: None, frames: Vec::new() }
    }

    /// The tiles that row `y` of the picture lies in, and its index within them.
    fn at(&mut self, y: u32) -> Result<(&[Frame], usize)> {
        let strip = y / self.picture.tile.height;
        if self.strip != Some(strip) {
            self.frames.clear();
            let first = strip as usize * self.picture.across as usize;
            for tile in &self.picture.tiles[first..][..self.picture.across as usize] {
                self.frames.push(match tile.codec {
                    #[cfg(feature = "avif")]
                    Codec::Av1 => av1::decode(tile, self.picture.tile)?,
                    #[cfg(feature = "heic")]
                    Codec::Hevc => hevc::decode(tile, self.picture.tile)?,
                });
            }
            self.strip = Some(strip);
        }
        Ok((&self.frames, (y % self.picture.tile.height) as usize))
    }
}
