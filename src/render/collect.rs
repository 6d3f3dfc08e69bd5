//! All outputs of one request, which are collected from the bands in one pass and then finished.

use std::time::{Duration, Instant};

use super::coco::{self, Coco};
use super::cutout::{self, Cutout, Foreground, PeoplePng};
use super::hf::{self, Segments};
use super::label_png::{self, LabelPng};
use super::overlay::{self, OverlayLabels};
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
    /// The mask in the form that was asked for.
    mask: Option<LabelPng>,
    instances: Option<LabelPng>,
    overlay: Option<OverlayLabels>,
    foreground: Option<Foreground>,
    people: Option<PeoplePng>,
    coco: Option<Coco>,
    segments: Option<Segments>,
    stats: Stats,
    /// What a COCO file calls the photo.
    file_name: String,
    encoding: Duration,
}

/// What the bands became: the finished pictures, the figures, and what the second decode needs.
pub(crate) struct Collected {
    pub mask: Option<Vec<u8>>,
    pub instances: Option<Vec<u8>>,
    pub overlay: Option<OverlayLabels>,
    pub foreground: Option<Foreground>,
    /// The cut-out's mask alone.
    pub people: Option<Vec<u8>>,
    pub coco: Option<Vec<u8>>,
    pub segments: Option<Vec<u8>>,
    pub counted: Counted,
    /// The time spent on encoding the finished pictures.
    pub encoding: Duration,
}

impl Collectors {
    /// `persons` is the most persons that bands may have.
    ///
    /// # Errors
    /// `Internal` when an encoder does not start.
    pub fn new(header: &Header, manifest: &Manifest, persons: usize, options: &Options) -> Result<Self> {
        let photo = header.upright();
        let mask = if options.wants(OutputKind::Mask) {
            Some(LabelPng::new(photo, &manifest.palette())?)
        } else {
            options.wants(OutputKind::Index).then(|| LabelPng::grey(photo)).transpose()?
        };
        let instances = options.wants(OutputKind::Instances);
        let instances = instances.then(|| LabelPng::new(photo, &label_png::instance_palette(persons)));
        let (cutout, background) = (options.wants(OutputKind::Cutout), manifest.background_id);
        let people = (cutout && options.only_mask).then(|| PeoplePng::new(photo, background));
        Ok(Self {
            mask,
            instances: instances.transpose()?,
            overlay: options.wants(OutputKind::Overlay).then(|| OverlayLabels::new(photo)),
            foreground: (cutout && !options.only_mask).then(|| Foreground::new(photo, background)),
            people: people.transpose()?,
            coco: options.wants(OutputKind::Coco).then(|| Coco::new(photo, manifest)),
            segments: options.wants(OutputKind::Hf).then(|| Segments::new(photo)),
            stats: Stats::new(photo, manifest, options.rle),
            file_name: header.format.media_type().replace("image/", "photo."),
            encoding: Duration::ZERO,
        })
    }

    /// Takes the next band.
    ///
    /// # Errors
    /// `Internal` when an encoder fails, `TooLarge` with `Limit::Memory` when an output would pass the size that was
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
        if let Some(people) = &mut self.people {
            people.push(band)?;
        }
        if let Some(coco) = &mut self.coco {
            coco.push(band)?;
        }
        if let Some(segments) = &mut self.segments {
            segments.push(band)?;
        }
        self.encoding += start.elapsed();
        Ok(())
    }

    /// # Errors
    /// `Internal` when bands are missing, `TooLarge` as [`Self::push`].
    pub fn finish(self, manifest: &Manifest, found: &Found) -> Result<Collected> {
        let start = Instant::now();
        let (mask, instances) =
            (self.mask.map(LabelPng::finish).transpose()?, self.instances.map(LabelPng::finish).transpose()?);
        let people = self.people.map(PeoplePng::finish).transpose()?;
        let coco = self.coco.map(|coco| coco.finish(manifest, found, &self.file_name)).transpose()?;
        let segments = self.segments.map(|segments| segments.finish(manifest, found)).transpose()?;
        let encoding = self.encoding + start.elapsed();
        let counted = self.stats.finish(manifest, found);
        let (overlay, foreground) = (self.overlay, self.foreground);
        Ok(Collected { mask, instances, overlay, foreground, people, coco, segments, counted, encoding })
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

/// The most bytes that [`Collectors`] hold while bands come. `tiled` says whether tiles may add persons.
#[must_use]
pub(crate) fn collectors_bytes(photo: Size, manifest: &Manifest, options: &Options, tiled: bool) -> u64 {
    let held = |kind: &OutputKind| match kind {
        OutputKind::Mask | OutputKind::Index | OutputKind::Instances => label_png::label_png_bytes(photo),
        OutputKind::Overlay => overlay::overlay_size(photo).area(),
        OutputKind::Cutout if options.only_mask => cutout::people_bytes(photo),
        OutputKind::Cutout => cutout::foreground_bytes(photo),
        OutputKind::Coco => coco::coco_bytes(photo, manifest, tiled),
        OutputKind::Hf => hf::segments_bytes(photo, manifest),
        OutputKind::Json => 0,
    };
    options.outputs.iter().map(held).sum::<u64>() + report::stats_bytes(photo, manifest, tiled, options.rle)
}

/// The most bytes that are held while the photo is decoded again for the overlay and the cut-out, the finished outputs
/// included. `tiled` is as in [`collectors_bytes`].
#[must_use]
pub(crate) fn second_decode_bytes(header: &Header, manifest: &Manifest, options: &Options, tiled: bool) -> u64 {
    let photo = header.upright();
    let held = |kind: &OutputKind| match kind {
        OutputKind::Mask | OutputKind::Index | OutputKind::Instances => label_png::file_bytes(photo),
        OutputKind::Overlay => {
            overlay::overlay_bytes(photo) + decode::resized_bytes(header, overlay::overlay_size(photo))
        }
        OutputKind::Cutout if options.only_mask => label_png::file_bytes(photo),
        OutputKind::Cutout => cutout::cutout_bytes(photo) + decode::rows_bytes(header),
        OutputKind::Coco => coco::file_bytes(photo, manifest, tiled),
        OutputKind::Hf => hf::answer_bytes(photo, manifest),
        OutputKind::Json => 0,
    };
    options.outputs.iter().map(held).sum()
}

/// How many pictures of the photo's size the outputs asked for are encoded from, for the time that takes.
#[must_use]
pub(crate) fn encoded_pictures(manifest: &Manifest, options: &Options) -> usize {
    if options.wants(OutputKind::Hf) { 1 + manifest.classes.len() } else { 1 }
}
