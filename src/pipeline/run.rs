//! One admitted photo on one blocking thread: decode, infer, parse, render.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::Context;
use super::outcome::{Outcome, Rendered};
use crate::engine::Engine;
use crate::error::Result;
use crate::geometry::Region;
use crate::image::header::Header;
use crate::image::{Planar8, Rgb8, decode};
use crate::manifest::Manifest;
use crate::memory::blob::Blob;
use crate::memory::budget::Reservation;
use crate::memory::watch::{Peak, Watch};
use crate::options::{Options, OutputKind};
use crate::parsing::{self, Answers, BAND_ROWS, Band, Found, Tiles, View};
use crate::plan::Plan;
use crate::render::collect::{self, Collected, Collectors};
use crate::render::overlay::{OverlayLabels, overlay_size};
use crate::render::report::{Counted, ImageSection, MemorySection, ModelSection, Report, TimingsSection};
use crate::units::whole_mb;

/// One admitted request's work, on one blocking thread.
pub(super) struct Run {
    pub(super) bytes: Blob,
    pub(super) header: Header,
    pub(super) options: Options,
    pub(super) plan: Plan,
    pub(super) etag: String,
    pub(super) manifest: Arc<Manifest>,
    pub(super) context: Context,
    pub(super) start: Instant,
}

/// An encoded output, its share of the account not yet settled.
type Picture = (OutputKind, Vec<u8>);

/// What a run leaves, its share of the account not yet settled.
pub(super) struct RunOutput {
    plan: Plan,
    etag: String,
    report: Report,
    pictures: Vec<Picture>,
}

impl RunOutput {
    /// Gives back what the run took, but for what the answers hold until they are sent.
    pub(super) fn keep(self, mut reservation: Reservation) -> Outcome {
        let Self { plan, etag, report, pictures } = self;
        // The report as it is, and as the text it becomes.
        let report_bytes = 2 * report.json_bytes();
        reservation.shrink_to(pictures.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() + report_bytes);
        let reservation = Arc::new(reservation);
        let rendered = |(kind, bytes): Picture| Rendered {
            kind,
            content_type: kind.content_type(),
            bytes: reservation.keep(bytes),
        };
        Outcome { plan, etag, report, outputs: pictures.into_iter().map(rendered).collect(), reservation }
    }
}

impl Run {
    /// Runs, and says in the report and in the log what it took.
    pub(super) fn run_watched(self, engine: &dyn Engine) -> (Result<RunOutput>, Peak) {
        let watch = Watch::start();
        let (request_id, predicted, limit) =
            (self.context.request_id.clone(), self.plan.predicted_peak_bytes, self.plan.limit_bytes);
        let output = self.run(engine);
        let peak = watch.end();
        peak.log(&request_id, predicted, limit);
        let output = output.map(|mut output| {
            output.report.memory =
                Some(MemorySection { peak_rss_mb: whole_mb(peak.rss_bytes), limit_mb: whole_mb(limit) });
            output
        });
        (output, peak)
    }

    fn run(self, engine: &dyn Engine) -> Result<RunOutput> {
        let mut clock = Clock::default();
        let geometry = self.plan.geometry;
        let image =
            clock.time(|t| &mut t.decode, || decode::resized(&self.bytes, &self.header, geometry.photo.size))?;
        self.context.on_time()?;
        let planes = clock.time(
            |t| &mut t.preprocess,
            || Planar8::on_canvas(image, geometry.photo, geometry.input, self.manifest.input.size.fill()),
        );
        // Where there are tiles, the label map is theirs.
        let flip = self.plan.flip && self.plan.grid.is_none();
        let answers = self.infer(planes, geometry.photo, flip, engine, &mut clock)?;
        self.context.on_time()?;
        let (found, collected) = self.parse(&answers, engine, &mut clock)?;
        drop(answers);
        let persons = found.persons.len();
        let (pictures, counted) = self.finish(collected, &mut clock)?;
        let report = self.report(counted, &mut clock);
        tracing::info!(request_id = self.context.request_id, persons, total_ms = clock.timings.total, "parsed");
        Ok(RunOutput { plan: self.plan, etag: self.etag, report, pictures })
    }

    /// The network's answer, and that to the mirrored image where `flip` says so. The photo lies in `photo`.
    fn infer(
        &self,
        mut planes: Planar8,
        photo: Region,
        flip: bool,
        engine: &dyn Engine,
        clock: &mut Clock,
    ) -> Result<Answers> {
        let plain = clock.time(|t| &mut t.inference, || engine.infer(&planes))?;
        if !flip {
            return Ok(plain.into());
        }
        self.context.on_time()?;
        clock.time(|t| &mut t.preprocess, || planes.mirror(photo));
        let mut mirrored = clock.time(|t| &mut t.inference, || engine.infer(&planes))?;
        mirrored.exchange(self.manifest.flip_pairs.as_deref().unwrap_or_default());
        Ok(Answers { plain, mirrored: Some(mirrored) })
    }

    /// The two passes over the logits.
    fn parse(&self, answers: &Answers, engine: &dyn Engine, clock: &mut Clock) -> Result<(Found, Collected)> {
        let start = Instant::now();
        let (manifest, plan) = (&*self.manifest, &self.plan);
        let view = View::of(answers, plan.geometry.padded, plan.geometry.photo, plan.photo)?;
        let mut found = parsing::find(&view, manifest, self.options.score, BAND_ROWS);
        let persons = plan.grid.as_ref().map_or(found.persons.len(), |_| manifest.most_persons(true) as usize);
        let mut collectors = Collectors::new(&self.header, manifest, persons, &self.options)?;
        let mut push = |band: &Band<'_>| {
            self.context.on_time()?;
            collectors.push(band)
        };
        let mut elsewhere = Duration::ZERO;
        match &plan.grid {
            None => parsing::bands(&view, manifest, &found, BAND_ROWS, &mut push)?,
            Some(grid) => {
                let before = clock.sum();
                let photo =
                    clock.time(|t| &mut t.decode, || decode::resized(&self.bytes, &self.header, plan.working))?;
                let infer = |region| self.tile(&photo, region, engine, clock);
                let tiles = Tiles::new(grid.clone(), manifest, self.options.score, infer);
                let more = parsing::tiled_bands(&view, manifest, &found, tiles, BAND_ROWS, &mut push)?;
                found.persons.extend(more);
                elsewhere = Duration::from_secs_f64((clock.sum() - before) / 1e3);
            }
        }
        let collected = collectors.finish(manifest, &found)?;
        clock.timings.encode += milliseconds(collected.encoding);
        clock.timings.postprocess += milliseconds(start.elapsed().saturating_sub(collected.encoding + elsewhere));
        Ok((found, collected))
    }

    /// The network's answer to a part of the photo at the tiles' size.
    fn tile(&self, photo: &Rgb8, region: Region, engine: &dyn Engine, clock: &mut Clock) -> Result<Answers> {
        self.context.on_time()?;
        let planes = clock.time(|t| &mut t.preprocess, || Planar8::cut_out(photo, region));
        self.infer(planes, region.size.into(), self.plan.flip, engine, clock)
    }

    /// The pictures in the order asked for; overlay and cut-out decode the photo again.
    fn finish(&self, mut collected: Collected, clock: &mut Clock) -> Result<(Vec<Picture>, Counted)> {
        let mut pictures = Vec::new();
        for &kind in &self.options.outputs {
            let bytes = match kind {
                OutputKind::Json => None,
                OutputKind::Mask | OutputKind::Index => collected.mask.take(),
                OutputKind::Instances => collected.instances.take(),
                OutputKind::Coco => collected.coco.take(),
                OutputKind::Hf => collected.segments.take(),
                OutputKind::Cutout if self.options.only_mask => collected.people.take(),
                OutputKind::Overlay => {
                    collected.overlay.take().map(|labels| self.overlay(&labels, clock)).transpose()?
                }
                OutputKind::Cutout => collected
                    .foreground
                    .take()
                    .map(|people| clock.time(|t| &mut t.encode, || collect::cut_out(&self.bytes, &self.header, people)))
                    .transpose()?,
            };
            pictures.extend(bytes.map(|bytes| (kind, bytes)));
        }
        Ok((pictures, collected.counted))
    }

    fn overlay(&self, labels: &OverlayLabels, clock: &mut Clock) -> Result<Vec<u8>> {
        let size = overlay_size(self.plan.photo);
        let photo = clock.time(|t| &mut t.decode, || decode::resized(&self.bytes, &self.header, size))?;
        let (palette, background) = (self.manifest.palette(), self.manifest.background_id);
        clock.time(|t| &mut t.encode, || labels.encode(&photo, &palette, background, self.options.alpha))
    }

    fn report(&self, counted: Counted, clock: &mut Clock) -> Report {
        clock.timings.total = milliseconds(self.start.elapsed());
        let photo = self.plan.photo;
        let mut warnings = self.plan.warnings.clone();
        warnings.extend(counted.warnings);
        Report {
            model: ModelSection::new(&self.manifest),
            image: ImageSection {
                width: photo.width,
                height: photo.height,
                orientation: self.header.orientation.exif(),
            },
            plan: self.plan.section(),
            classes: counted.classes,
            persons: counted.persons,
            outputs: Vec::new(),
            timings_ms: Some(clock.timings),
            memory: None,
            warnings,
            source: None,
            options: None,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Stage times of one request.
#[derive(Default)]
struct Clock {
    timings: TimingsSection,
}

impl Clock {
    /// What the stages have taken so far, milliseconds.
    fn sum(&self) -> f64 {
        let t = &self.timings;
        t.decode + t.preprocess + t.inference + t.postprocess + t.encode
    }

    /// Runs `work` and adds its time, in milliseconds, to the stage that `stage` picks.
    fn time<T>(&mut self, stage: impl FnOnce(&mut TimingsSection) -> &mut f64, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        *stage(&mut self.timings) += milliseconds(start.elapsed());
        result
    }
}
