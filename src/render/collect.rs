//! All outputs of one request, which are collected from the bands in one pass and then finished.

use std::time::{Duration, Instant};

use super::cutout::{self, Cutout, Foreground};
use super::overlay::{self, OverlayLabels};
use super::palette_png::{self, PalettePng};
use super::report::{self, Counted, Stats};
use crate::error::Result;
use crate::geometry::Size;
use crate::image::decode;
use crate::image::header::Header;
use crate::manifest::Manifest;
use crate::memory::blob::Blob;
use crate::options::{Options, OutputKind};
use crate::parsing::{Band, Found};

/// The collectors of the kinds of output that were asked for.
pub(crate) struct Collectors {
    mask: Option<PalettePng>,
    instances: Option<PalettePng>,
    overlay: Option<OverlayLabels>,
    foreground: Option<Foreground>,
    stats: Stats,
    encoding: Duration,
}

/// What the bands became: the finished pictures, the figures, and what the second decode needs.
pub(crate) struct Collected {
    pub mask: Option<Vec<u8>>,
    pub instances: Option<Vec<u8>>,
    pub overlay: Option<OverlayLabels>,
    pub foreground: Option<Foreground>,
    pub counted: Counted,
    /// The time spent on encoding the finished pictures.
    pub encoding: Duration,
}

impl Collectors {
    /// # Errors
    /// `Internal` when an encoder does not start.
    pub fn new(photo: Size, manifest: &Manifest, found: &Found, options: &Options) -> Result<Self> {
        let png = |kind, palette: &[[u8; 3]]| options.wants(kind).then(|| PalettePng::new(photo, palette)).transpose();
        Ok(Self {
            mask: png(OutputKind::Mask, &manifest.palette())?,
            instances: png(OutputKind::Instances, &palette_png::instance_palette(found.persons.len()))?,
            overlay: options.wants(OutputKind::Overlay).then(|| OverlayLabels::new(photo)),
            foreground: options.wants(OutputKind::Cutout).then(|| Foreground::new(photo, manifest.background_id)),
            stats: Stats::new(photo, manifest, found, options.rle),
            encoding: Duration::ZERO,
        })
    }

    /// Takes the next band.
    ///
    /// # Errors
    /// `Internal` when an encoder fails, `TooLarge` with `Limit::Memory` when a picture would pass the size that was
    /// planned for it.
    pub fn push(&mut self, band: &Band<'_>) -> Result<()> {
        self.stats.push(band);
        if let Some(overlay) = &mut self.overlay {
            overlay.push(band);
        }
        if let Some(foreground) = &mut self.foreground {
            foreground.push(band);
        }
        let start = Instant::now();
        if let Some(mask) = &mut self.mask {
            mask.push(band.labels)?;
        }
        if let Some(instances) = &mut self.instances {
            instances.push(band.instances)?;
        }
        self.encoding += start.elapsed();
        Ok(())
    }

    /// # Errors
    /// `Internal` when bands are missing, `TooLarge` as [`Self::push`].
    pub fn finish(self, manifest: &Manifest, found: &Found) -> Result<Collected> {
        let start = Instant::now();
        let (mask, instances) =
            (self.mask.map(PalettePng::finish).transpose()?, self.instances.map(PalettePng::finish).transpose()?);
        let encoding = self.encoding + start.elapsed();
        let counted = self.stats.finish(manifest, found);
        Ok(Collected { mask, instances, overlay: self.overlay, foreground: self.foreground, counted, encoding })
    }
}

/// Decodes the photo again and keeps only the people of it.
///
/// # Errors
/// `Undecodable`, as [`decode::rows`]; `Internal` when bands are missing; `TooLarge` with `Limit::Memory` when the file
/// would pass the size that was planned for it.
pub(crate) fn cut_out(source: &Blob, header: &Header, foreground: Foreground) -> Result<Vec<u8>> {
    let mut cutout = Cutout::new(foreground)?;
    decode::rows(source, header, &mut |y, row| cutout.push(y, row))?;
    cutout.finish()
}

/// The most bytes that [`Collectors`] hold while bands come.
#[must_use]
pub(crate) fn collectors_bytes(photo: Size, manifest: &Manifest, options: &Options) -> u64 {
    let when = |kind, bytes: u64| if options.wants(kind) { bytes } else { 0 };
    when(OutputKind::Mask, palette_png::palette_png_bytes(photo))
        + when(OutputKind::Instances, palette_png::palette_png_bytes(photo))
        + when(OutputKind::Overlay, overlay::overlay_size(photo).area())
        + when(OutputKind::Cutout, cutout::foreground_bytes(photo))
        + report::stats_bytes(photo, manifest, options.rle)
}

/// The most bytes that are held while the photo is decoded again for the overlay and the cut-out, the finished pictures
/// included.
#[must_use]
pub(crate) fn second_decode_bytes(header: &Header, options: &Options) -> u64 {
    let photo = header.upright();
    let when = |kind, bytes: u64| if options.wants(kind) { bytes } else { 0 };
    let kept = when(OutputKind::Mask, palette_png::file_bytes(photo))
        + when(OutputKind::Instances, palette_png::file_bytes(photo));
    let overlay = overlay::overlay_bytes(photo) + decode::resized_bytes(header, overlay::overlay_size(photo));
    let cutout = cutout::cutout_bytes(photo) + decode::rows_bytes(header);
    kept + when(OutputKind::Overlay, overlay) + when(OutputKind::Cutout, cutout)
}
