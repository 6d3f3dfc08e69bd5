//! The program: photo in, masks out. The only orchestrator; a newcomer reads it from top to bottom.

mod context;
mod outcome;
mod run;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::{MutexGuard, OnceCell};

pub use self::context::Context;
pub use self::outcome::{Outcome, Rendered};
use self::run::Run;
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::ort::OrtEngine;
use crate::error::{Error, Result};
use crate::image::decode;
use crate::image::header::{self, Header};
use crate::manifest::Manifest;
use crate::memory::blob::Blob;
use crate::memory::budget::{Budget, Reservation};
use crate::options::Options;
use crate::plan::cost::Processors;
use crate::plan::pace::Pace;
use crate::plan::{Decision, Plan, Planner};
use crate::store::{ObjectRef, ObjectStore};
use crate::sys;
use crate::telemetry::emf::{Ended, Measurements, Metrics, Planned};
use crate::units::hex;

/// Photos worth working on at once. A third would bring nothing, because the network of one keeps all processors busy.
pub(crate) const AT_ONCE: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// Where a photo comes from.
#[derive(Debug, Clone)]
pub enum Source {
    Bytes(Blob),
    Object(ObjectRef),
}

/// A photo with its plan, nothing decoded yet.
pub struct Prepared {
    pub bytes: Blob,
    /// Of the bytes, lower-case hexadecimal.
    pub sha256: String,
    pub header: Header,
    pub options: Options,
    pub decision: Decision,
    /// Memory that the bytes have been given already.
    pub held: Option<Reservation>,
    /// `"…"`, with quotes: depends on the input's bytes, the model, the options and the working size.
    pub etag: String,
}

/// A photo that has its share of the memory.
pub struct Admitted {
    run: Run,
    engine: Arc<dyn Engine>,
    reservation: Reservation,
    predicted: Duration,
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
    /// See [`Self::turn`].
    turnstile: tokio::sync::Mutex<()>,
}

impl Pipeline {
    /// Reads the manifest of `config.model_dir`. The model itself is loaded by the first request, or by [`Self::engine`].
    ///
    /// # Errors
    /// `Internal` whose cause names the file and the fault.
    pub fn new(config: Config, store: Option<Arc<dyn ObjectStore>>) -> Result<Self> {
        let manifest = Manifest::read(&config.model_dir).map_err(Error::internal)?;
        if config.flip && manifest.flip_pairs.is_none() {
            let fault =
                "is on, and the model's manifest has no `flip_pairs`: it does not say which classes are left and right";
            return Err(Error::internal(format!("M2FP_FLIP {fault}")));
        }
        // Post-processing runs on the process's one pool; a second pipeline in a process (tests) shares the first one's.
        if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build_global() {
            tracing::debug!(%error, "the thread pool was made before");
        }
        let budget = budget(&config, &manifest);
        let metrics = metrics(&config, &manifest);
        let (manifest, pace) = (Arc::new(manifest), Pace::default());
        Ok(Self {
            config,
            manifest,
            budget,
            store,
            metrics,
            engine: OnceCell::new(),
            pace,
            turnstile: tokio::sync::Mutex::default(),
        })
    }

    /// As [`Self::new`] with an engine already at hand: for tests.
    #[must_use]
    pub fn with_engine(
        config: Config,
        manifest: Manifest,
        store: Option<Arc<dyn ObjectStore>>,
        engine: Arc<dyn Engine>,
    ) -> Self {
        let budget = budget(&config, &manifest);
        Self {
            metrics: metrics(&config, &manifest),
            config,
            manifest: Arc::new(manifest),
            budget,
            store,
            engine: OnceCell::new_with(Some(engine)),
            pace: Pace::default(),
            turnstile: tokio::sync::Mutex::default(),
        }
    }

    /// The loaded model; the first call loads it, callers meanwhile wait for that one.
    pub async fn engine(&self, context: &Context) -> Result<Arc<dyn Engine>> {
        let load = || async {
            let (folder, manifest, threads) =
                (self.config.model_dir.clone(), self.manifest.clone(), self.config.threads);
            let start = Instant::now();
            let engine = blocking(move || Ok(OrtEngine::load(&folder, &manifest, threads)?)).await?;
            let engine = engine.with_spare(self.budget.clone());
            tracing::info!(
                request_id = context.request_id,
                load_ms = start.elapsed().as_millis() as u64,
                "model loaded"
            );
            Ok(Arc::new(engine) as Arc<dyn Engine>)
        };
        self.engine.get_or_try_init(load).await.cloned()
    }

    /// Loads the model before the first photo asks for it, unless no photo would fit beside it: such photos are refused
    /// without it.
    ///
    /// # Errors
    /// Those of [`Self::engine`].
    pub async fn preload(&self, context: &Context) -> Result<()> {
        if self.budget.total_bytes() == 0 {
            return Ok(());
        }
        self.engine(context).await.map(drop)
    }

    /// Whether the model is loaded.
    #[must_use]
    pub(crate) fn is_loaded(&self) -> bool {
        self.engine.initialized()
    }

    /// Begins an attempt at one request, or at one object that an event names.
    #[must_use]
    pub fn begin<'a>(&'a self, context: &'a Context) -> Attempt<'a> {
        Attempt { pipeline: self, context, max_wait: self.config.max_wait, measurements: Mutex::default() }
    }

    /// Waits for one's turn to read a photo that nobody sent along, until its whole share of the memory is there: one photo
    /// at a time holds memory while it waits for more, so that no two wait for each other.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turnstile.lock().await
    }

    /// The object store that a request needs.
    ///
    /// # Errors
    /// `BadRequest` where none is configured.
    pub(crate) fn object_store(&self) -> Result<&dyn ObjectStore> {
        self.store.as_deref().ok_or_else(|| Error::bad_request("no object store is configured"))
    }

    async fn fetch(&self, source: Source) -> Result<Blob> {
        match source {
            Source::Bytes(bytes) => Ok(bytes),
            Source::Object(at) => Ok(self.object_store()?.get(&at, self.config.max_object_bytes).await?.body),
        }
    }

    fn planner(&self) -> Planner<'_> {
        Planner {
            manifest: &self.manifest,
            budget: &self.budget,
            processors: Processors {
                threads: self.config.threads,
                pool_threads: rayon::current_num_threads(),
                cpus: self.config.cpus,
            },
            tile_above_px: self.config.tile_above_px,
        }
    }

    fn etag(&self, sha256: &str, options: &Options, plan: &Plan) -> String {
        let facts =
            format!("{sha256} {} {} {} {}", self.manifest.digest(), options.canonical(), plan.mode(), plan.working);
        let digest = Sha256::digest(facts);
        format!("\"{}\"", hex(&digest[..16]))
    }
}

/// One request, or one object that an event names, on its way through the pipeline, with what is measured on the way.
pub struct Attempt<'a> {
    pub pipeline: &'a Pipeline,
    pub context: &'a Context,
    /// How long it waits for memory that others hold, if its time lasts.
    max_wait: Duration,
    measurements: Mutex<Measurements>,
}

impl Attempt<'_> {
    /// Waits for memory as long as its time lasts: nobody would ask again sooner.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { max_wait: self.context.remaining().unwrap_or(self.max_wait), ..self }
    }

    /// Gives a photo of `bytes` that is about to be read the memory for them. Whoever holds some while it waits for its
    /// whole share has the [turn](Pipeline::turn).
    ///
    /// # Errors
    /// `Busy`.
    pub async fn hold(&self, bytes: u64) -> Result<Reservation> {
        let budget = &self.pipeline.budget;
        // More than all of it is refused once it is planned.
        budget.reserve(bytes.min(budget.total_bytes()), self.patience()).await
    }

    fn patience(&self) -> Duration {
        self.context.remaining().map_or(self.max_wait, |left| left.min(self.max_wait))
    }

    /// Fetches the photo, reads its header and plans it. A refusal is data here, for `/plan`.
    ///
    /// # Errors
    /// Whatever keeps a photo from being planned: no such object, not an image, too many pixels.
    pub async fn prepare(&self, source: Source, options: Options) -> Result<Prepared> {
        let pipeline = self.pipeline;
        let bytes = pipeline.fetch(source).await?;
        let header = header::read(&bytes, pipeline.config.max_source_pixels)?;
        let sha256 = bytes.sha256();
        let decision = pipeline.planner().decide(&header, decode::source_bytes(&bytes, &header), &options);
        let etag = pipeline.etag(&sha256, &options, &decision.plan);
        let request_id = &self.context.request_id;
        tracing::info!(
            request_id,
            format = ?header.format,
            photo = %decision.plan.photo,
            working = %decision.plan.working,
            admitted = decision.refusal.is_none(),
            "planned"
        );
        for warning in &decision.plan.warnings {
            tracing::info!(request_id, warning, "planned");
        }
        Ok(Prepared { bytes, sha256, header, options, decision, held: None, etag })
    }

    /// Runs a prepared photo: decodes, infers, parses, renders. What that took is measured for [`Self::count`]; of several
    /// runs the last one stays.
    ///
    /// # Errors
    /// Those of [`Self::admit`] and [`Self::run_admitted`].
    pub async fn run(&self, prepared: Prepared) -> Result<Outcome> {
        let admitted = self.admit(prepared).await?;
        self.run_admitted(admitted).await
    }

    /// Gives a prepared photo its share of the memory, and loads the model if none is.
    ///
    /// # Errors
    /// The plan's refusal; `Deadline` when it would not end in time; `Busy` when other requests hold the memory.
    pub async fn admit(&self, prepared: Prepared) -> Result<Admitted> {
        let planned = Some(Planned::from(&prepared.decision.plan));
        self.measure(|all| *all = Measurements { planned, model_load: all.model_load, ..Measurements::default() });
        let Self { pipeline, context, .. } = self;
        let Prepared { bytes, header, options, decision, held, etag, .. } = prepared;
        let Decision { plan, refusal } = decision;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let predicted = Duration::from_millis(plan.predicted_ms);
        let expected = pipeline.pace.expect(predicted);
        let is_loaded = pipeline.is_loaded();
        let load = if is_loaded { 0 } else { pipeline.planner().load_ms() };
        context.require(expected + Duration::from_millis(load))?;
        let start = Instant::now();
        let engine = pipeline.engine(context).await?;
        if !is_loaded {
            self.measure(|all| all.model_load = Some(start.elapsed()));
        }
        let held_bytes = held.as_ref().map_or(0, Reservation::bytes);
        let more = plan.request_bytes.saturating_sub(held_bytes);
        let mut reservation = pipeline.budget.reserve(more, self.patience()).await?;
        if let Some(held) = held {
            reservation.merge(held);
        }
        context.require(expected)?;
        let manifest = Arc::clone(&pipeline.manifest);
        let run = Run { bytes, header, options, plan, etag, manifest, context: (*context).clone(), start };
        Ok(Admitted { run, engine, reservation, predicted })
    }

    /// Runs a photo that was admitted.
    ///
    /// # Errors
    /// `Deadline` when it did not end in time; `Undecodable`.
    pub async fn run_admitted(&self, admitted: Admitted) -> Result<Outcome> {
        let Admitted { run, engine, reservation, predicted } = admitted;
        let done = blocking(move || {
            let start = Instant::now();
            let (output, peak) = run.run_watched(&*engine);
            sys::release_memory();
            // On failure held until here: until the memory is really free, also when nobody waits for the answer any more.
            Ok((output.map(|output| output.keep(reservation)), peak, start.elapsed()))
        });
        let (outcome, peak, measured) = self.context.in_time(done).await?;
        self.measure(|all| all.peak_bytes = Some(peak.rss_bytes));
        if let Ok(outcome) = &outcome {
            self.pipeline.pace.observe(predicted, measured);
            self.measure(|all| all.timings_ms = outcome.report.timings_ms);
        }
        outcome
    }

    /// Writes the one line of metrics, once it is known how the attempt ended: after its outputs are where they belong.
    pub fn count(&self, ended: Ended) {
        if let Some(metrics) = &self.pipeline.metrics {
            self.measure(|all| metrics.record(&self.context.request_id, all, ended));
        }
    }

    fn measure(&self, note: impl FnOnce(&mut Measurements)) {
        note(&mut self.measurements.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs CPU work off the async threads; a panic there is `Internal`, never the process's end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    // Lines of that thread belong to the request as well.
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(Error::internal)?
}

fn budget(config: &Config, manifest: &Manifest) -> Budget {
    let budget = Budget::new(config.memory_limit_bytes(), sys::anonymous_bytes(), manifest);
    budget.for_concurrency(config.concurrency)
}

fn metrics(config: &Config, manifest: &Manifest) -> Option<Metrics> {
    let function = config.function_name.as_deref().unwrap_or_default();
    (config.metrics == Some(true))
        .then(|| Metrics::new(function, manifest, std::io::stdout()).past(config.lambda_log_level))
}
