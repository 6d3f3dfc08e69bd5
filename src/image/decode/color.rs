//! Conversion of samples of one kind to sRGB: by the photo's colour profile if it has one, otherwise as Pillow's
//! `convert("RGB")` does it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use moxcms::{
    BarycentricWeightScale, ColorProfile, DataColorSpace, InterpolationMethod, Layout, ParsingOptions, RenderingIntent,
    Transform8BitExecutor, TransformOptions,
};

use super::row::{RGB, rgb_of_cmyk, undecodable};
use crate::error::Result;
use crate::image::header::{self, Header, MAX_PROFILE_BYTES};

/// The most bytes that a transform holds besides the profile itself: its tables and, for table-based profiles, a grid
/// of 33³ colours or 17⁴ inks of three `f32` each, which is made from another grid.
const TRANSFORM_BYTES: u64 = 4 << 20;
/// Bytes held for each byte of a profile: its tables of one or two bytes a value become `f32`, beside the bytes
/// themselves.
const BYTES_A_PROFILE_BYTE: u64 = 6;

/// A transform that moves no sample by more than this many levels counts as none, because profiles of sRGB describe the
/// same colours in many ways that are rounded differently.
const SAME: u8 = 1;

/// What the samples of a pixel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Grey,
    Rgb,
    /// A sample of 0 means no ink.
    Cmyk,
}

impl Kind {
    fn samples(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Cmyk => 4,
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::Grey => Layout::Gray,
            Self::Rgb => Layout::Rgb,
            // This layout stands for any four samples.
            Self::Cmyk => Layout::Rgba,
        }
    }
}

/// Turns rows of samples into rows of sRGB.
pub(super) struct ToRgb {
    kind: Kind,
    transform: Option<Arc<Transform8BitExecutor>>,
    rgb: Vec<u8>,
}

impl ToRgb {
    pub fn new(bytes: &[u8], header: &Header, kind: Kind) -> Self {
        let transform = header::profile(bytes, header).and_then(|profile| of_profile(&profile, kind));
        Self { kind, transform, rgb: vec![0; header.stored.width as usize * RGB] }
    }

    /// The row as RGB.
    pub fn row<'a>(&'a mut self, samples: &'a [u8]) -> Result<&'a [u8]> {
        let rgb = &mut self.rgb[..samples.len() / self.kind.samples() * RGB];
        if let Some(transform) = &self.transform {
            transform.transform(samples, rgb).map_err(|_| undecodable("its colours cannot be converted"))?;
        } else {
            match self.kind {
                Kind::Rgb => return Ok(samples),
                Kind::Grey => {
                    rgb.as_chunks_mut::<RGB>().0.iter_mut().zip(samples).for_each(|(rgb, &grey)| rgb.fill(grey));
                }
                Kind::Cmyk => rgb_of_cmyk(samples, rgb),
            }
        }
        Ok(rgb)
    }
}

/// Bytes that [`ToRgb`] takes besides its row.
pub(super) fn profile_bytes(header: &Header) -> u64 {
    match header.profile_bytes {
        0 => 0,
        bytes => bytes * BYTES_A_PROFILE_BYTE + TRANSFORM_BYTES,
    }
}

/// The transform from the profile's colours to sRGB. It is `None` if the profile is damaged, describes another kind of
/// samples, or is sRGB itself.
fn of_profile(profile: &[u8], kind: Kind) -> Option<Arc<Transform8BitExecutor>> {
    // A panic is the profile's fault and must not cost anybody the photo. Nothing that the call touched is used after
    // it.
    catch_unwind(AssertUnwindSafe(|| {
        let limits = ParsingOptions {
            max_profile_size: MAX_PROFILE_BYTES as usize + 1,
            max_allowed_clut_size: MAX_PROFILE_BYTES as usize,
            ..ParsingOptions::default()
        };
        let profile = ColorProfile::new_from_slice_with_options(profile, limits).ok()?;
        let expected = match kind {
            Kind::Grey => DataColorSpace::Gray,
            Kind::Rgb => DataColorSpace::Rgb,
            Kind::Cmyk => DataColorSpace::Cmyk,
        };
        if profile.color_space != expected {
            return None;
        }
        transform(&profile, kind).filter(|transform| moves_colors(transform, kind))
    }))
    .ok()
    .flatten()
}

/// The transform with littleCMS's defaults, which are Pillow's too: the perceptual intent and tetrahedral
/// interpolation.
fn transform(profile: &ColorProfile, kind: Kind) -> Option<Arc<Transform8BitExecutor>> {
    let options = TransformOptions {
        rendering_intent: RenderingIntent::Perceptual,
        allow_use_cicp_transfer: false,
        prefer_fixed_point: false,
        interpolation_method: InterpolationMethod::Tetrahedral,
        barycentric_weight_scale: BarycentricWeightScale::High,
    };
    profile.create_transform_8bit(kind.layout(), &ColorProfile::new_srgb(), Layout::Rgb, options).ok()
}

/// Whether the transform changes colours at all, tried on a grid of them. A transform from inks always does.
fn moves_colors(transform: &Arc<Transform8BitExecutor>, kind: Kind) -> bool {
    const STEP: usize = 17;
    let levels = || (0..=255u8).step_by(STEP);
    let samples: Vec<u8> = match kind {
        Kind::Grey => (0..=255).collect(),
        Kind::Rgb => levels().flat_map(|r| levels().flat_map(move |g| levels().flat_map(move |b| [r, g, b]))).collect(),
        Kind::Cmyk => return true,
    };
    let mut rgb = vec![0; samples.len() / kind.samples() * RGB];
    if transform.transform(&samples, &mut rgb).is_err() {
        return false;
    }
    let moved = |(rgb, before): (&[u8; RGB], &[u8])| {
        rgb.iter().zip(before.iter().cycle()).any(|(after, before)| after.abs_diff(*before) > SAME)
    };
    rgb.as_chunks::<RGB>().0.iter().zip(samples.chunks_exact(kind.samples())).any(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(profile: &ColorProfile, kind: Kind, samples: &[u8]) -> Option<Vec<u8>> {
        let transform = of_profile(&profile.encode().expect("a profile"), kind)?;
        let mut rgb = vec![0; samples.len() / kind.samples() * RGB];
        transform.transform(samples, &mut rgb).expect("a row");
        Some(rgb)
    }

    #[test]
    fn display_p3_is_converted() {
        // The expected values are littleCMS's, as Pillow's ImageCms gives them.
        let colors = [200, 100, 50, 10, 200, 30, 128, 128, 128, 255, 255, 255];
        let srgb = row(&ColorProfile::new_display_p3(), Kind::Rgb, &colors).expect("a transform");
        let expected = [215, 93, 31, 0, 204, 0, 128, 128, 128, 255, 255, 255];
        assert!(srgb.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 2), "{srgb:?}");
    }

    #[test]
    fn a_profile_that_says_nothing_new_changes_nothing() {
        assert_eq!(row(&ColorProfile::new_srgb(), Kind::Rgb, &[1, 2, 3]), None);
        // A profile of another kind of samples and a damaged one are ignored, too.
        assert_eq!(row(&ColorProfile::new_display_p3(), Kind::Grey, &[1]), None);
        assert_eq!(row(&ColorProfile::new_display_p3(), Kind::Cmyk, &[1, 2, 3, 4]), None);
        let whole = ColorProfile::new_display_p3().encode().expect("a profile");
        assert!(of_profile(&whole, Kind::Rgb).is_some());
        assert!(of_profile(&whole[..whole.len() / 4], Kind::Rgb).is_none());
        assert!(of_profile(b"", Kind::Rgb).is_none());
    }
}
