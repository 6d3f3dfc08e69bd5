//! The program: photo in, masks out. The only orchestrator; a newcomer reads it from top to bottom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;

use crate::budget::Budget;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::header::Header;
use crate::manifest::Manifest;
use crate::options::{Options, OutputKind};
use crate::plan::{Decision, Plan};
use crate::render::report::Report;
use crate::store::{ObjectRef, ObjectStore};

/// Where a photo comes from.
#[derive(Debug, Clone)]
pub enum Source {
    Bytes(Bytes),
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
    pub bytes: Bytes,
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
}

/// Everything a container keeps between requests.
pub struct Pipeline {
    pub config: Config,
    pub manifest: Manifest,
    pub budget: Budget,
    pub store: Option<Arc<dyn ObjectStore>>,
    engine: tokio::sync::OnceCell<Arc<dyn Engine>>,
}

impl Pipeline {
    /// Reads the manifest of `config.model_dir`; the model itself is loaded by the first request, or by [`Self::preload`].
    pub fn new(config: Config, store: Option<Arc<dyn ObjectStore>>) -> Result<Self> {
        let _ = (config, store);
        Err(Error::internal("not built yet"))
    }

    /// As [`Self::new`] with an engine already at hand: for tests.
    #[must_use]
    pub fn with_engine(
        config: Config,
        manifest: Manifest,
        store: Option<Arc<dyn ObjectStore>>,
        engine: Arc<dyn Engine>,
    ) -> Self {
        let budget = Budget::new(config.memory_limit_bytes(), crate::sys::anonymous_bytes(), &manifest);
        Self { config, manifest, budget, store, engine: tokio::sync::OnceCell::new_with(Some(engine)) }
    }

    /// Loads the model now.
    pub async fn preload(&self) -> Result<()> {
        Err(Error::internal("not built yet"))
    }

    /// Whether the model is loaded.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.engine.initialized()
    }

    /// Fetches the photo, reads its header and plans it. Refusals are data here, for `/plan`.
    pub async fn prepare(&self, source: Source, options: Options, context: &Context) -> Result<Prepared> {
        let _ = (source, options, context);
        Err(Error::internal("not built yet"))
    }

    /// Runs a prepared photo: fails with its refusal, else decodes, infers, parses and renders.
    pub async fn run(&self, prepared: Prepared, context: &Context) -> Result<Outcome> {
        let _ = (prepared, context, Duration::ZERO);
        Err(Error::internal("not built yet"))
    }
}
