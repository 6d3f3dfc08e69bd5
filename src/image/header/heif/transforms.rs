//! What is done with a decoded picture to make it the photo: it is cropped, turned and mirrored.

use super::boxes::Fields;
use super::meta::Meta;
use crate::error::Result;
use crate::geometry::{Orientation, Region, Size};
use crate::image::header::format::{undecodable, unsupported};

/// The clean aperture, and how the photo is turned after it is cropped.
pub fn transforms(meta: &Meta<'_>, size: Size) -> Result<(Region, Orientation)> {
    let mut crop = Region::from(size);
    let mut exif = 1;
    for property in meta.properties(meta.primary) {
        let value = property.body.first().copied().unwrap_or(0);
        match &property.kind {
            b"clap" if exif == 1 => {
                crop = aperture(property.body, size).ok_or_else(|| undecodable("its clean aperture is damaged"))?;
            }
            b"clap" => return Err(unsupported("HEIF that is cropped after it is turned is not served; send a JPEG")),
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
