//! An object that an event names, and what becomes of it, whichever door the event came through:
//!
//! | what happens | then |
//! |---|---|
//! | the photo was parsed | outputs and, last, the report are stored ([`crate::delivery::record`]) |
//! | the same work is stored already | nothing is done |
//! | the photo was replaced since | the newer one is parsed, unless its own event had that done already |
//! | the photo was removed since | nothing is done |
//! | it is one of our own outputs, a folder's marker, or an upload for `/parse` | nothing is done |
//! | the photo cannot be served (no image, too large, archived, …) | `….error.json` says why |
//! | storage, deadline, memory held by others, internal | an error: trying again may help |
//! | permission is lacking, the bucket is not allowed, the key is no key | an error: trying again does not help, and the door sees to it that the event is not lost |
//!
//! The function needs `s3:ListBucket` on both buckets: without it S3 says 403 for an object that is gone.

use futures_util::FutureExt;
use futures_util::future::{ready, try_join};

use super::access;
use super::destination::{self, Destination, Slot};
use super::look::{self, DestinationState};
use super::record::{self, Set};
use super::work::WorkId;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipeline::{Attempt, Outcome, Source};
use crate::store::{ObjectMeta, ObjectRef, ObjectStore, OpenObject};
use crate::telemetry::emf::Ended;

/// How often one delivery parses because the photo was replaced meanwhile.
const MAX_RUNS: usize = 3;

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Stored,
    /// The same work was stored before.
    StoredBefore,
    /// Replaced since the event; the newer photo's outputs were stored before.
    Overtaken,
    /// Removed since the event.
    Gone,
    /// Not a photo for us to parse.
    Passed,
    /// A photo that cannot be served; the error record says the same.
    Refused {
        code: &'static str,
        detail: String,
        ended: Ended,
    },
}

impl Done {
    /// The name in answers and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::StoredBefore => "stored-before",
            Self::Overtaken => "overtaken",
            Self::Gone => "gone",
            Self::Passed => "passed",
            Self::Refused { .. } => "refused",
        }
    }

    /// How it is counted.
    #[must_use]
    pub const fn ended(&self) -> Ended {
        match self {
            Self::Stored => Ended::Ok,
            Self::StoredBefore | Self::Passed => Ended::Skipped,
            Self::Overtaken | Self::Gone => Ended::Overtaken,
            Self::Refused { ended, .. } => *ended,
        }
    }
}

/// Writes the line of metrics of an object that a door is done with.
pub fn count(attempt: &Attempt<'_>, done: &Result<Done>) {
    attempt.count(done.as_ref().map_or_else(Ended::of_error, Done::ended));
}

/// What is made of objects, and where it goes.
#[derive(Debug, Clone)]
pub struct Order {
    pub options: Options,
    /// `None`: the object's own bucket.
    pub bucket: Option<String>,
    pub prefix: String,
}

impl Order {
    /// What the settings say.
    ///
    /// # Errors
    /// None where the settings were checked, as [`Config`] does.
    pub fn configured(config: &Config) -> Result<Self> {
        Ok(Self {
            options: Options::check_stored(&config.default_options(), &config.outputs)?,
            bucket: config.output_bucket.clone(),
            prefix: config.output_prefix.clone(),
        })
    }

    /// Whether a key lies where this order's outputs are written.
    fn writes_to(&self, object: &ObjectRef) -> bool {
        let is_output_bucket = self.bucket.as_ref().is_none_or(|bucket| *bucket == object.bucket);
        is_output_bucket && !self.prefix.is_empty() && object.key.starts_with(&self.prefix)
    }
}

/// Parses an object as `order` says and stores what comes of it. `event` names the object and, if it says so, a
/// version; what is made is always of the newest. The door [counts](count) the attempt.
///
/// # Errors
/// Those that a retry or an operator must mend; see the module.
pub async fn process(attempt: &Attempt<'_>, event: &ObjectRef, order: &Order) -> Result<Done> {
    let config = &attempt.pipeline.config;
    access::check_object(&event.bucket, &event.key)?;
    access::check_event_bucket(&event.bucket, config)?;
    if is_passed(event, order, config)? {
        return Ok(Done::Passed);
    }
    let store = attempt.pipeline.object_store().map_err(Error::internal)?;
    let bucket = order.bucket.as_ref().unwrap_or(&event.bucket);
    let destination = Destination::for_source(bucket, &order.prefix, &event.key)?;
    Settlement { attempt, store, destination, options: &order.options }.settle(event).await
}

/// Whether a key says that it is not a photo for us: a folder's marker, an upload that its owner sends to `/parse`, one
/// of our outputs by its name, or anything under the output prefix of a bucket that is written to. Without this an
/// output would be taken for an upload, its output again, and so on.
fn is_passed(object: &ObjectRef, order: &Order, config: &Config) -> Result<bool> {
    let is_written_to = order.writes_to(object) || Order::configured(config)?.writes_to(object);
    let is_sent_to_parse = config.is_upload(&object.bucket, &object.key);
    Ok(object.key.ends_with('/') || is_sent_to_parse || destination::is_output_key(&object.key) || is_written_to)
}

/// One object that an event named, on its way to its outputs.
struct Settlement<'a> {
    attempt: &'a Attempt<'a>,
    store: &'a dyn ObjectStore,
    destination: Destination,
    options: &'a Options,
}

impl Settlement<'_> {
    /// Makes what belongs to the object as it stands, whatever version the event names: an event says that a key
    /// changed, and every delivery leaves the destination as the newest version wants it. Only a look, after whatever
    /// was written, ends it; so whoever writes last has seen that all is right.
    async fn settle(&self, event: &ObjectRef) -> Result<Done> {
        for run in 0.. {
            let report = look::look_at(self.store, &self.destination, Slot::Report);
            let (photo, report) = try_join(self.open(event), report).await?;
            let Some(photo) = photo else {
                record::withdraw_torn(self.store, &self.destination, report).await?;
                return Ok(Done::Gone);
            };
            if look::is_output(&photo.meta) {
                return Ok(Done::Passed);
            }
            let at = pinned(event, &photo.meta);
            let work = WorkId::of_pinned(&at, self.options, &self.attempt.pipeline.manifest);
            let seen = look::look_around(self.store, &self.destination, report).await?;
            if seen.as_ref().is_some_and(|state| state.is_whole(&work)) {
                return Ok(if is_about(event, &at) { Done::StoredBefore } else { Done::Overtaken });
            }
            if run == MAX_RUNS {
                break;
            }
            if let Some(done) = self.make(photo, &at, &work, seen).await? {
                return Ok(done);
            }
        }
        Err(record::contended())
    }

    /// The object as it stands now, its bytes not read yet; `None` if there is none.
    async fn open(&self, event: &ObjectRef) -> Result<Option<OpenObject>> {
        match self.store.open(&look::newest(event)).await {
            Ok(photo) => Ok(Some(photo)),
            Err(Error::NoObject { .. }) => Ok(None),
            Err(Error::Archived { .. }) => self.open_archived(event).await,
            Err(error) => Err(error),
        }
    }

    /// An object whose bytes cannot be read. Which version that is, only a `HEAD` tells, and whether it is so of that
    /// version, only another try to read it.
    async fn open_archived(&self, event: &ObjectRef) -> Result<Option<OpenObject>> {
        let Some(meta) = look::look_at_newest(self.store, event).await? else { return Ok(None) };
        match self.store.open(&pinned(event, &meta)).await {
            Ok(photo) => Ok(Some(photo)),
            Err(error @ Error::Archived { .. }) => Ok(Some(OpenObject { meta, body: ready(Err(error)).boxed() })),
            Err(Error::NoObject { .. } | Error::Overtaken) => {
                Err(Error::Storage { detail: "the photo was replaced while it was read".to_owned(), source: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Parses one version and leaves what comes of it over what was `seen` (see [`Set::leave`]); `None` when the photo
    /// is another by now.
    async fn make(
        &self,
        photo: OpenObject,
        at: &ObjectRef,
        work: &WorkId,
        seen: Option<DestinationState>,
    ) -> Result<Option<Done>> {
        // Kept until all is stored: it holds the memory that its outputs take.
        let parsed = self.parse(photo).await;
        let (set, done) = match &parsed {
            Ok(outcome) => (Set::of_outcome(&self.destination, work, outcome)?, Done::Stored),
            Err(error) if error.is_about_the_photo() => {
                tracing::info!(error = error.chain(), "the photo cannot be served");
                let (code, ended) = (error.code(), Ended::of_error(error));
                (Set::of_error(work, error)?, Done::Refused { code, detail: error.to_string(), ended })
            }
            Err(_) => return parsed.map(|_| None),
        };
        Ok(set.leave(self.store, &self.destination, Some(at), seen).await?.then_some(done))
    }

    async fn parse(&self, photo: OpenObject) -> Result<Outcome> {
        let Self { attempt, options, .. } = self;
        let max_bytes = attempt.pipeline.config.max_object_bytes;
        let turn = attempt.pipeline.turn().await;
        let held = attempt.hold(photo.meta.bytes.min(max_bytes)).await?;
        let photo = photo.read(max_bytes).await?;
        let mut prepared = attempt.prepare(Source::Bytes(photo.body), (*options).clone()).await?;
        prepared.held = Some(held);
        let admitted = attempt.admit(prepared).await?;
        drop(turn);
        attempt.run_admitted(admitted).await
    }
}

/// The version of an event's object that `meta` is of.
fn pinned(event: &ObjectRef, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef { version_id: meta.version_id.clone(), etag: meta.etag.clone(), ..event.clone() }
}

/// Whether an event is about this version, as far as it says.
fn is_about(event: &ObjectRef, at: &ObjectRef) -> bool {
    let fits = |said: &Option<String>, is: &Option<String>| said.is_none() || said == is;
    fits(&event.etag, &at.etag) && fits(&event.version_id, &at.version_id)
}
