//! The program: photo in, masks out. The only orchestrator; a newcomer reads it from top to bottom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::blob::Blob;
use crate::budget::{Budget, Reservation, to_mib};
use crate::config::Config;
use crate::engine::ort::OrtEngine;
use crate::engine::{Engine, Queries};
use crate::error::{Error, Result};
use crate::geometry::Region;
use crate::hex;
use crate::image::header::{self, Header};
use crate::image::{Planar8, Rgb8, decode};
use crate::manifest::Manifest;
use crate::options::{Options, OutputKind};
use crate::pace::Pace;
use crate::parsing::{self, BAND_ROWS, Band, Found, Tiles, View};
use crate::plan::{Decision, Plan, Planner};
use crate::render::collect::{self, Collected, Collectors};
use crate::render::overlay::{OverlayLabels, overlay_size};
use crate::render::report::{Counted, ImageSection, MemorySection, ModelSection, Report, TimingsSection};
use crate::store::{ObjectRef, ObjectStore};
use crate::sys;
use crate::telemetry::emf::{Ended, Metrics, Parse, Planned};
use crate::watch::{Peak, Watch};

/// Where a photo comes from.
#[derive(Debug, Clone)]
pub enum Source {
    Bytes(Blob),
    Object(ObjectRef),
}

/// Where a request wants its outputs written: `{bucket}/{key_prefix}` followed by each output's suffix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreTarget {
    pub bucket: String,
    pub key_prefix: String,
}

/// A checked request, whatever door it came through.
#[derive(Debug, Clone)]
pub struct Job {
    pub source: Source,
    pub options: Options,
    pub store: Option<StoreTarget>,
}

/// What surrounds a request.
#[derive(Debug, Clone)]
pub struct Context {
    /// Names the request in logs and in answers to internal errors.
    pub request_id: String,
    /// When the answer must be given; `None`: no limit.
    pub deadline: Option<Instant>,
}

/// A photo with its plan, nothing decoded yet.
pub struct Prepared {
    pub bytes: Blob,
    /// Of the bytes, lower-case hexadecimal.
    pub sha256: String,
    pub header: Header,
    pub options: Options,
    pub decision: Decision,
    /// `"…"`, with quotes: depends on the input's bytes, the model, the options and the working size.
    pub etag: String,
}

/// An encoded output.
#[derive(Debug, Clone)]
pub struct Rendered {
    pub kind: OutputKind,
    pub content_type: &'static str,
    pub bytes: Bytes,
}

/// What became of a photo.
pub struct Outcome {
    pub plan: Plan,
    pub etag: String,
    /// Its `outputs` list is empty: whoever delivers or stores the outputs knows where they went.
    pub report: Report,
    /// In the order asked for; `Json` is not among them: it is the report.
    pub outputs: Vec<Rendered>,
    reservation: Arc<Reservation>,
}

impl Outcome {
    /// The report as JSON.
    ///
    /// # Errors
    /// `Internal`.
    pub fn json(&self, report: &Report) -> Result<Bytes> {
        serde_json::to_vec(report).map(|bytes| self.reservation.keep(bytes)).map_err(Error::internal)
    }
}

/// Everything a container keeps between requests.
pub struct Pipeline {
    pub config: Config,
    pub manifest: Arc<Manifest>,
    pub budget: Budget,
    pub store: Option<Arc<dyn ObjectStore>>,
    /// Where each parse is counted; `None`: nowhere.
    pub metrics: Option<Metrics>,
    engine: OnceCell<Arc<dyn Engine>>,
    pace: Pace,
}

impl Pipeline {
    /// Reads the manifest of `config.model_dir`. The model itself is loaded by the first request, or by [`Self::engine`].
    ///
    /// # Errors
    /// `Internal` whose cause names the file and the fault.
    pub fn new(config: Config, store: Option<Arc<dyn ObjectStore>>) -> Result<Self> {
        let manifest = Manifest::read(&config.model_dir).map_err(Error::internal)?;
        // Post-processing runs on the process's one pool; a second pipeline in a process (tests) shares the first one's.
        if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build_global() {
            tracing::debug!(%error, "the thread pool was made before");
        }
        let budget = Budget::new(config.memory_limit_bytes(), sys::anonymous_bytes(), &manifest);
        let metrics = metrics(&config, &manifest);
        let (manifest, pace) = (Arc::new(manifest), Pace::default());
        Ok(Self { config, manifest, budget, store, metrics, engine: OnceCell::new(), pace })
    }

    /// As [`Self::new`] with an engine already at hand: for tests.
    #[must_use]
    pub fn with_engine(
        config: Config,
        manifest: Manifest,
        store: Option<Arc<dyn ObjectStore>>,
        engine: Arc<dyn Engine>,
    ) -> Self {
        let budget = Budget::new(config.memory_limit_bytes(), sys::anonymous_bytes(), &manifest);
        Self {
            metrics: metrics(&config, &manifest),
            config,
            manifest: Arc::new(manifest),
            budget,
            store,
            engine: OnceCell::new_with(Some(engine)),
            pace: Pace::default(),
        }
    }

    /// The loaded model; the first call loads it, callers meanwhile wait for that one.
    pub async fn engine(&self, context: &Context) -> Result<Arc<dyn Engine>> {
        let load = || async {
            let (folder, manifest, threads) =
                (self.config.model_dir.clone(), self.manifest.clone(), self.config.threads);
            let start = Instant::now();
            let engine = blocking(move || Ok(OrtEngine::load(&folder, &manifest, threads)?)).await?;
            tracing::info!(
                request_id = context.request_id,
                load_ms = start.elapsed().as_millis() as u64,
                "model loaded"
            );
            Ok(Arc::new(engine) as Arc<dyn Engine>)
        };
        self.engine.get_or_try_init(load).await.cloned()
    }

    /// Whether the model is loaded.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.engine.initialized()
    }

    /// The first half of a parse: fetches the photo, reads its header and plans it. A refusal is data here, for `/plan`.
    ///
    /// # Errors
    /// Whatever keeps a photo from being planned: no such object, not an image, too many pixels.
    pub async fn prepare(&self, source: Source, options: Options, context: &Context) -> Result<Prepared> {
        let bytes = self.fetch(source).await?;
        let header = header::read(&bytes, self.config.max_source_pixels)?;
        let sha256 = bytes.sha256();
        let decision = self.planner().decide(&header, decode::source_bytes(&bytes, &header), &options);
        let etag = self.etag(&sha256, &options, &decision.plan);
        tracing::info!(
            request_id = context.request_id,
            format = ?header.format,
            photo = %decision.plan.photo,
            working = %decision.plan.working,
            admitted = decision.refusal.is_none(),
            "planned"
        );
        for warning in &decision.plan.warnings {
            tracing::info!(request_id = context.request_id, warning, "planned");
        }
        Ok(Prepared { bytes, sha256, header, options, decision, etag })
    }

    /// Runs a prepared photo: decodes, infers, parses, renders. What it took is noted in `parse`, for whoever
    /// [counts](Self::count) it when the outputs are where they belong.
    ///
    /// # Errors
    /// The plan's refusal; `Deadline` when it would not end, or did not end, in time; `Busy` when other requests hold
    /// the memory; `Undecodable`.
    pub async fn run(&self, prepared: Prepared, context: &Context, parse: &mut Parse) -> Result<Outcome> {
        let planned = Some(Planned::from(&prepared.decision.plan));
        *parse = Parse { planned, model_load: parse.model_load, ..Parse::default() };
        let outcome = self.carry_out(prepared, context, parse).await?;
        parse.timings_ms = outcome.report.timings_ms;
        Ok(outcome)
    }

    /// Writes the one line of metrics of a request or of an object, whose end is known.
    pub fn count(&self, context: &Context, parse: &Parse, ended: Ended) {
        if let Some(metrics) = &self.metrics {
            metrics.record(&context.request_id, parse, ended);
        }
    }

    async fn carry_out(&self, prepared: Prepared, context: &Context, parse: &mut Parse) -> Result<Outcome> {
        let Prepared { bytes, header, options, decision, etag, .. } = prepared;
        let Decision { plan, refusal } = decision;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let expected = self.pace.expect(Duration::from_millis(plan.predicted_ms));
        let is_loaded = self.is_loaded();
        let load = if is_loaded { 0 } else { self.planner().load_ms() };
        context.require(expected + Duration::from_millis(load))?;
        let start = Instant::now();
        let engine = self.engine(context).await?;
        if !is_loaded {
            parse.model_load = Some(start.elapsed());
        }
        let max_wait = context.remaining().map_or(self.config.max_wait, |left| left.min(self.config.max_wait));
        let reservation = self.budget.reserve(plan.request_bytes, max_wait).await?;
        context.require(expected)?;
        let predicted = Duration::from_millis(plan.predicted_ms);
        let work = Work {
            bytes,
            header,
            options,
            plan,
            etag,
            manifest: self.manifest.clone(),
            context: context.clone(),
            start,
        };
        let done = blocking(move || {
            let run = Instant::now();
            let (made, peak) = work.run_watched(&*engine);
            sys::release_memory();
            // On failure held until here: until the memory is really free, also when nobody waits for the answer any more.
            Ok((made.map(|made| made.keep(reservation)), peak, run.elapsed()))
        });
        let done = match context.remaining() {
            None => done.await,
            Some(left) => tokio::time::timeout(left, done).await.unwrap_or_else(|_| Err(past_deadline())),
        };
        let (outcome, peak, measured) = done?;
        parse.peak_bytes = Some(peak.rss_bytes);
        if outcome.is_ok() {
            self.pace.observe(predicted, measured);
        }
        outcome
    }

    async fn fetch(&self, source: Source) -> Result<Blob> {
        match source {
            Source::Bytes(bytes) => Ok(bytes),
            Source::Object(at) => {
                let store = self.store.as_ref().ok_or_else(|| Error::bad_request("no object store is configured"))?;
                Ok(store.get(&at, self.config.max_object_bytes).await?.body)
            }
        }
    }

    fn planner(&self) -> Planner<'_> {
        Planner {
            manifest: &self.manifest,
            budget: &self.budget,
            threads: self.config.threads,
            cpus: self.config.cpus,
            tile_above_px: self.config.tile_above_px,
        }
    }

    fn etag(&self, sha256: &str, options: &Options, plan: &Plan) -> String {
        let facts =
            format!("{sha256} {} {} {} {}", self.manifest.digest(), options.canonical(), plan.mode(), plan.working);
        let digest = Sha256::digest(facts);
        format!("\"{}\"", hex::encode(&digest[..16]))
    }
}

impl Context {
    /// Time left until the deadline; `None`: no limit.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Ends work whose deadline is over: nobody waits for it any more.
    fn on_time(&self) -> Result<()> {
        if self.remaining() == Some(Duration::ZERO) { Err(past_deadline()) } else { Ok(()) }
    }

    /// Refuses work that would not end before the deadline.
    fn require(&self, predicted: Duration) -> Result<()> {
        match self.remaining() {
            Some(left) if left < predicted => Err(Error::Deadline {
                detail: format!(
                    "this photo needs about {} ms and {} ms are left before the deadline",
                    predicted.as_millis(),
                    left.as_millis()
                ),
            }),
            _ => Ok(()),
        }
    }
}

fn past_deadline() -> Error {
    Error::Deadline { detail: "the work did not end before the deadline".to_owned() }
}

/// Runs CPU work off the async threads; a panic there is `Internal`, never the process's end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    // Lines of that thread belong to the request as well.
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(Error::internal)?
}

fn metrics(config: &Config, manifest: &Manifest) -> Option<Metrics> {
    let function = config.function_name.as_deref().unwrap_or_default();
    (config.metrics == Some(true)).then(|| Metrics::new(function, manifest, std::io::stdout()))
}

/// One admitted request's work, on one blocking thread.
struct Work {
    bytes: Blob,
    header: Header,
    options: Options,
    plan: Plan,
    etag: String,
    manifest: Arc<Manifest>,
    context: Context,
    start: Instant,
}

/// An encoded output, its share of the account not yet settled.
type Picture = (OutputKind, Vec<u8>);

/// What a run made, its share of the account not yet settled.
struct Made {
    plan: Plan,
    etag: String,
    report: Report,
    pictures: Vec<Picture>,
}

impl Made {
    /// Gives back what the run took, but for what the answers hold until they are sent.
    fn keep(self, mut reservation: Reservation) -> Outcome {
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

impl Work {
    /// Runs, and says in the report and in the log what it took.
    fn run_watched(self, engine: &dyn Engine) -> (Result<Made>, Peak) {
        let watch = Watch::start();
        let (request_id, predicted, limit) =
            (self.context.request_id.clone(), self.plan.predicted_peak_bytes, self.plan.limit_bytes);
        let made = self.run(engine);
        let peak = watch.end();
        peak.log(&request_id, predicted, limit);
        let made = made.map(|mut made| {
            made.report.memory = Some(MemorySection { peak_rss_mb: to_mib(peak.rss_bytes), limit_mb: to_mib(limit) });
            made
        });
        (made, peak)
    }

    fn run(self, engine: &dyn Engine) -> Result<Made> {
        let mut clock = Clock::default();
        let geometry = self.plan.geometry;
        let image =
            clock.time(|t| &mut t.decode, || decode::resized(&self.bytes, &self.header, geometry.photo.size))?;
        self.context.on_time()?;
        let planes = clock.time(
            |t| &mut t.preprocess,
            || Planar8::on_canvas(image, geometry.photo, geometry.input, self.manifest.input.size.fill()),
        );
        let queries = clock.time(|t| &mut t.inference, || engine.infer(&planes))?;
        drop(planes);
        self.context.on_time()?;
        let (found, collected) = self.parse(&queries, engine, &mut clock)?;
        drop(queries);
        let persons = found.persons.len();
        let (pictures, counted) = self.finish(collected, &mut clock)?;
        let report = self.report(counted, &mut clock);
        tracing::info!(request_id = self.context.request_id, persons, total_ms = clock.timings.total, "parsed");
        Ok(Made { plan: self.plan, etag: self.etag, report, pictures })
    }

    /// The two passes over the logits.
    fn parse(&self, queries: &Queries, engine: &dyn Engine, clock: &mut Clock) -> Result<(Found, Collected)> {
        let start = Instant::now();
        let (manifest, plan) = (&*self.manifest, &self.plan);
        let view = View::new(queries, plan.geometry.padded, plan.geometry.photo, plan.photo)?;
        let found = parsing::find(&view, manifest, self.options.score, BAND_ROWS);
        let mut collectors = Collectors::new(plan.photo, manifest, &found, &self.options)?;
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
                let tiles = Tiles::new(grid.clone(), manifest, |region| self.tile(&photo, region, engine, clock));
                parsing::tiled_bands(&view, manifest, &found, tiles, BAND_ROWS, &mut push)?;
                elsewhere = Duration::from_secs_f64((clock.sum() - before) / 1e3);
            }
        }
        let collected = collectors.finish(manifest, &found)?;
        clock.timings.encode += milliseconds(collected.encoding);
        clock.timings.postprocess += milliseconds(start.elapsed().saturating_sub(collected.encoding + elsewhere));
        Ok((found, collected))
    }

    /// The network's answer to a part of the photo at the tiles' size.
    fn tile(&self, photo: &Rgb8, region: Region, engine: &dyn Engine, clock: &mut Clock) -> Result<Queries> {
        self.context.on_time()?;
        let planes = clock.time(|t| &mut t.preprocess, || Planar8::cut_out(photo, region));
        clock.time(|t| &mut t.inference, || engine.infer(&planes))
    }

    /// The pictures in the order asked for; overlay and cut-out decode the photo again.
    fn finish(&self, mut collected: Collected, clock: &mut Clock) -> Result<(Vec<Picture>, Counted)> {
        let mut pictures = Vec::new();
        for &kind in &self.options.outputs {
            let bytes = match kind {
                OutputKind::Json => None,
                OutputKind::Mask => collected.mask.take(),
                OutputKind::Instances => collected.instances.take(),
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
