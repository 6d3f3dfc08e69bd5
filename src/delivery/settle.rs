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

use super::access;
use super::record::{self, Destination, DestinationState, WorkId, Written};
use crate::config::Config;
use crate::error::{Error, Limit, Result};
use crate::options::{Options, RawOptions};
use crate::pipeline::{Attempt, Outcome, Source};
use crate::store::{ObjectMeta, ObjectRef, ObjectStore};
use crate::telemetry::emf::Ended;

/// How often one delivery begins again because the photo was replaced, or others wrote, meanwhile.
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
            options: Options::check(&RawOptions::default(), &config.outputs)?,
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

/// Parses an object as `order` says and stores what comes of it. `event` names the object and, if it says so, a version;
/// what is made is always of the newest. The door [counts](count) the attempt.
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

/// Whether a key says that it is not a photo for us: a folder's marker, an upload that its owner sends to `/parse`, one of
/// our outputs by its name, or anything under the output prefix of a bucket that is written to. Without this an output would be taken for an upload, its
/// output again, and so on.
fn is_passed(object: &ObjectRef, order: &Order, config: &Config) -> Result<bool> {
    let is_written_to = order.writes_to(object) || Order::configured(config)?.writes_to(object);
    let is_sent_to_parse = config.is_upload(&object.bucket, &object.key);
    Ok(object.key.ends_with('/') || is_sent_to_parse || record::is_output_key(&object.key) || is_written_to)
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
    /// changed, and every delivery leaves the destination as the newest version wants it. Only another look, after
    /// whatever was written, ends it; so whoever writes last has seen that all is right.
    async fn settle(&self, event: &ObjectRef) -> Result<Done> {
        let mut made: Option<(ObjectRef, Done)> = None;
        for run in 0.. {
            let Some(meta) = self.newest(event).await? else {
                record::withdraw_mixed(self.store, &self.destination).await?;
                return Ok(Done::Gone);
            };
            if record::is_output(&meta) {
                return Ok(Done::Passed);
            }
            let at = ObjectRef { etag: meta.etag, version_id: meta.version_id, ..event.clone() };
            let work = WorkId::of_pinned(&at, self.options, &self.attempt.pipeline.manifest);
            let state = record::look(self.store, &self.destination).await?;
            let is_whole = state.is_whole(&work);
            match &made {
                Some((of, done @ Done::Refused { .. })) if *of == at && state.is_refusal(&work) => {
                    return Ok(done.clone());
                }
                Some((of, done)) if *of == at && is_whole => return Ok(done.clone()),
                _ if is_whole && is_about(event, &at) => return Ok(Done::StoredBefore),
                _ if is_whole => return Ok(Done::Overtaken),
                _ if run == MAX_RUNS => break,
                _ => made = self.make(&at, meta.bytes, &work, &state).await?.map(|done| (at, done)),
            }
        }
        Err(record::contended())
    }

    /// The object as it stands now; `None` if there is none.
    async fn newest(&self, at: &ObjectRef) -> Result<Option<ObjectMeta>> {
        let newest = ObjectRef { version_id: None, etag: None, ..at.clone() };
        match self.store.head(&newest).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::NoObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Parses one version and writes what comes of it over what `state` says; `None` when the photo, or
    /// what stands there, is another by now.
    async fn make(&self, at: &ObjectRef, bytes: u64, work: &WorkId, state: &DestinationState) -> Result<Option<Done>> {
        let parsed = self.parse(at, bytes).await;
        let newest = self.newest(at).await?;
        if newest.is_none_or(|meta| meta.etag != at.etag || meta.version_id != at.version_id) {
            return Ok(None);
        }
        let (written, done) = match parsed {
            Ok(outcome) => (record::write(self.store, &self.destination, work, state, &outcome).await?, Done::Stored),
            Err(error) if error.is_about_the_photo() => {
                tracing::info!(error = error.chain(), "the photo cannot be served");
                let written = record::write_error(self.store, &self.destination, work, state, &error).await?;
                let (code, ended) = (error.code(), Ended::of_error(&error));
                (written, Done::Refused { code, detail: error.to_string(), ended })
            }
            // It was another when it was read.
            Err(Error::Overtaken | Error::NoObject { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((written == Written::Yes).then_some(done))
    }

    async fn parse(&self, at: &ObjectRef, bytes: u64) -> Result<Outcome> {
        let most = self.attempt.pipeline.config.max_object_bytes;
        if bytes > most {
            let detail = format!("the object has {bytes} bytes; at most {most} are read");
            return Err(Error::TooLarge { limit: Limit::Body, detail });
        }
        let prepared = self.attempt.prepare(Source::Object(at.clone()), self.options.clone()).await?;
        self.attempt.run(prepared).await
    }
}

/// Whether an event is about this version, as far as it says.
fn is_about(event: &ObjectRef, at: &ObjectRef) -> bool {
    let fits = |said: &Option<String>, is: &Option<String>| said.is_none() || said == is;
    fits(&event.etag, &at.etag) && fits(&event.version_id, &at.version_id)
}
