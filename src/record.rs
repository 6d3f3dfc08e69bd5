//! Stored outputs and their commit record, for every door that writes to a bucket.
//!
//! For a photo `a/b.jpg` and the prefix `masks/` a run leaves `masks/a/b.jpg.mask.png` (and whatever else was asked
//! for) and, last, the report `masks/a/b.jpg.json`. The report is the commit record: where it stands, the outputs it
//! names stand beside it and belong to it. What makes that so, whenever a run is cut short or two overlap:
//!
//! - Every object carries the [stamp](Work::stamp) of the work it belongs to (source version, model, options) as
//!   metadata, so one `HEAD` tells whose it is without reading it.
//! - A report of other work is deleted before its outputs are overwritten; so no report ever describes another run's
//!   outputs. The report of the same work may stay: its outputs are overwritten with the same bytes.
//! - Everything else is done before the report is written: outputs, then removal of what this work does not have
//!   (other kinds, an earlier error). A run that ends anywhere before has committed nothing, and a retry does it all.
//! - After the report is written, the outputs' stamps are read once more. A run that finds another's output takes its
//!   own report back and fails as retryable: of two overlapping runs, the one whose outputs are mixed tries again.
//! - Work counts as done only if report and outputs all stand with its stamp ([`is_done`]).
//!
//! Things are deleted only where a `HEAD` sees them, so that versioned buckets do not fill with delete markers. Without
//! `s3:ListBucket` S3 answers 403 for what is not there; that is read as "not known", never as "done".

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::http::problem;
use crate::manifest::Manifest;
use crate::options::{Options, OutputKind};
use crate::pipeline::{Outcome, Prepared, Source, StoreTarget};
use crate::render::report::{OutputSection, Report, S3Location, SourceSection};
use crate::store::{NewObject, ObjectMeta, ObjectRef, ObjectStore};

/// User metadata of every object written: the mark by which the function knows its own outputs. Its value is `1`.
pub const MARK: &str = "m2fp";
/// User metadata: the stamp of the work an object belongs to.
const STAMP: &str = "m2fp-work";

/// What an error record's name ends with, after the photo's own.
const ERROR_SUFFIX: &str = ".error.json";

/// Longest key of S3, bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// Where the outputs of one photo go: a bucket, and the key that each output's suffix is appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    bucket: String,
    stem: String,
}

impl Destination {
    /// `{prefix}{source_key}` in `bucket`: the names that S3 events give.
    ///
    /// # Errors
    /// `BadRequest` when a key would be longer than S3 allows.
    pub fn for_source(bucket: &str, prefix: &str, source_key: &str) -> Result<Self> {
        Self { bucket: bucket.to_owned(), stem: format!("{prefix}{source_key}") }.checked()
    }

    /// Where a request asked for.
    ///
    /// # Errors
    /// `BadRequest` when the bucket or prefix is empty, the prefix starts or ends with `/` or holds control characters,
    /// or a key would be longer than S3 allows.
    pub fn for_target(target: &StoreTarget) -> Result<Self> {
        let prefix = &target.key_prefix;
        let fault = if target.bucket.is_empty() {
            Some("`store.bucket` is empty")
        } else if prefix.is_empty() || prefix.starts_with('/') || prefix.ends_with('/') {
            Some("`store.key_prefix` must be a name that suffixes are appended to: not empty, no `/` at either end")
        } else if prefix.chars().any(char::is_control) {
            Some("`store.key_prefix` must not hold control characters")
        } else {
            None
        };
        match fault {
            Some(fault) => Err(Error::bad_request(fault)),
            None => Self { bucket: target.bucket.clone(), stem: prefix.clone() }.checked(),
        }
    }

    fn checked(self) -> Result<Self> {
        let longest = OutputKind::ALL.into_iter().map(|k| k.suffix().len()).max().unwrap_or(0).max(ERROR_SUFFIX.len());
        if self.stem.len() + longest <= MAX_KEY_BYTES {
            return Ok(self);
        }
        Err(Error::bad_request(format!(
            "the outputs' keys would exceed {MAX_KEY_BYTES} bytes; the photo's name and prefix may have {}",
            MAX_KEY_BYTES - longest
        )))
    }

    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key of an output; `Json` is the report.
    #[must_use]
    pub fn key(&self, kind: OutputKind) -> String {
        format!("{}{}", self.stem, kind.suffix())
    }

    /// The key of the record that a bad image leaves.
    #[must_use]
    pub fn error_key(&self) -> String {
        format!("{}{ERROR_SUFFIX}", self.stem)
    }

    fn at(&self, key: String) -> ObjectRef {
        ObjectRef { bucket: self.bucket.clone(), key, version_id: None, etag: None }
    }
}

/// Whether a key is named like something this module writes.
#[must_use]
pub fn is_output_key(key: &str) -> bool {
    OutputKind::ALL.into_iter().any(|kind| key.ends_with(kind.suffix()))
}

/// Whether an object carries the mark of something this module wrote.
#[must_use]
pub fn is_output(meta: &ObjectMeta) -> bool {
    meta.metadata.contains_key(MARK)
}

/// What was done: equal works make equal outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Work {
    pub source: SourceSection,
    /// Names the model: sha256 of its graph.
    pub model_sha256: String,
    /// [`Options::canonical`].
    pub options: String,
    #[serde(skip)]
    kinds: Vec<OutputKind>,
}

impl Work {
    fn new(source: SourceSection, manifest: &Manifest, options: &Options) -> Self {
        Self {
            source,
            model_sha256: manifest.digest().to_owned(),
            options: options.canonical(),
            kinds: options.outputs.clone(),
        }
    }

    /// The work of a prepared photo. Call before the pipeline takes the photo.
    #[must_use]
    pub fn of(source: &Source, prepared: &Prepared, manifest: &Manifest) -> Self {
        let digest = prepared.sha256.clone();
        let section = match source {
            Source::Bytes(bytes) => SourceSection::Bytes { bytes: bytes.len() as u64, sha256: digest },
            Source::Object(at) => object_section(at, Some(digest)),
        };
        Self::new(section, manifest, &prepared.options)
    }

    /// The work of an object that is pinned to one version, before it is read.
    #[must_use]
    pub fn of_pinned(at: &ObjectRef, options: &Options, manifest: &Manifest) -> Self {
        Self::new(object_section(at, None), manifest, options)
    }

    /// One word for the work: sha256 of its facts, lower-case hexadecimal.
    #[must_use]
    pub fn stamp(&self) -> String {
        sha256(json!(self).to_string().as_bytes())
    }

    /// The images this work makes; the report is made in any case.
    fn images(&self) -> impl Iterator<Item = OutputKind> + '_ {
        self.kinds.iter().copied().filter(|kind| *kind != OutputKind::Json)
    }

    /// What an earlier, other work may have left that this one does not have.
    fn others(&self) -> impl Iterator<Item = OutputKind> + '_ {
        OutputKind::ALL.into_iter().filter(|kind| *kind != OutputKind::Json && !self.kinds.contains(kind))
    }
}

/// Writes the outputs of `outcome` and, last, its report; see the module for the order and why.
/// Returns what was written, the images in the order asked for, then the report.
///
/// # Errors
/// Those of the store: `NoObject` (no such bucket), `Forbidden`, `Storage`; also `Storage` when another run wrote
/// the same outputs meanwhile. After each, nothing is committed.
pub async fn write(
    store: &dyn ObjectStore,
    destination: &Destination,
    work: &Work,
    outcome: &Outcome,
) -> Result<Vec<OutputSection>> {
    let writer = Writer { store, destination, stamp: work.stamp() };
    writer.withdraw_other_report().await?;
    let mut stored = Vec::with_capacity(outcome.outputs.len() + 1);
    for output in &outcome.outputs {
        stored.push(writer.put(output.kind, output.bytes.clone()).await?);
    }
    for kind in work.others() {
        writer.remove(destination.key(kind)).await?;
    }
    writer.remove(destination.error_key()).await?;
    let report = stored_report(&outcome.report, work, &stored)?;
    stored.push(writer.put(OutputKind::Json, report).await?);
    writer.confirm(work).await?;
    Ok(stored)
}

/// Whether the report and every output of `work` stand at `destination`.
///
/// # Errors
/// `Storage`. Without permission to see what is missing the answer is no.
pub async fn is_done(store: &dyn ObjectStore, destination: &Destination, work: &Work) -> Result<bool> {
    let writer = Writer { store, destination, stamp: work.stamp() };
    writer.all_stand(work).await
}

/// Leaves a record that says why the photo has no outputs (as HTTP's problems do, with what was read), and removes the outputs of an earlier version of it: of
/// report and error record at most one stands when this returns.
///
/// # Errors
/// Those of the store.
pub async fn write_error(store: &dyn ObjectStore, destination: &Destination, work: &Work, error: &Error) -> Result<()> {
    let writer = Writer { store, destination, stamp: work.stamp() };
    // The report before the outputs it names.
    for kind in OutputKind::ALL.into_iter().rev() {
        writer.remove(destination.key(kind)).await?;
    }
    let (status, code) = problem::row(error);
    let record = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "code": code,
        "detail": error.to_string(),
        "source": work.source,
        "model_sha256": work.model_sha256,
        "options": work.options,
    });
    writer.put_at(destination.error_key(), OutputKind::Json.content_type(), pretty(&record)?).await
}

/// A report as an answer gives it: with where its outputs are.
#[must_use]
pub fn answer(outcome: &Outcome, stored: &[OutputSection]) -> Report {
    Report { outputs: stored.to_vec(), ..outcome.report.clone() }
}

/// The report without what differs from run to run, with where its outputs are and what it is a record of.
fn stored_report(report: &Report, work: &Work, stored: &[OutputSection]) -> Result<Bytes> {
    pretty(&Report {
        outputs: stored.to_vec(),
        timings_ms: None,
        memory: None,
        source: Some(work.source.clone()),
        options: Some(work.options.clone()),
        ..report.clone()
    })
}

fn object_section(at: &ObjectRef, sha256: Option<String>) -> SourceSection {
    SourceSection::Object {
        bucket: at.bucket.clone(),
        key: at.key.clone(),
        etag: at.etag.clone(),
        version_id: at.version_id.clone(),
        sha256,
    }
}

fn pretty(value: &impl Serialize) -> Result<Bytes> {
    let mut text = serde_json::to_vec_pretty(value).map_err(Error::internal)?;
    text.push(b'\n');
    Ok(text.into())
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// One work's access to one destination.
struct Writer<'a> {
    store: &'a dyn ObjectStore,
    destination: &'a Destination,
    stamp: String,
}

impl Writer<'_> {
    async fn put(&self, kind: OutputKind, bytes: Bytes) -> Result<OutputSection> {
        let key = self.destination.key(kind);
        let location = S3Location { bucket: self.destination.bucket.clone(), key: key.clone(), url: None };
        let stored = OutputSection::stored(kind, kind.content_type(), bytes.len() as u64, sha256(&bytes), location);
        self.put_at(key, kind.content_type(), bytes).await?;
        Ok(stored)
    }

    async fn put_at(&self, key: String, content_type: &'static str, body: Bytes) -> Result<()> {
        let metadata = BTreeMap::from([(MARK.to_owned(), "1".to_owned()), (STAMP.to_owned(), self.stamp.clone())]);
        let bucket = self.destination.bucket.clone();
        self.store.put(NewObject { bucket, key, body, content_type, metadata }).await
    }

    /// Whose object stands where `kind` belongs.
    async fn seen(&self, kind: OutputKind) -> Result<Seen> {
        match self.store.head(&self.destination.at(self.destination.key(kind))).await {
            Ok(meta) if meta.metadata.get(STAMP) == Some(&self.stamp) => Ok(Seen::Ours),
            Ok(_) => Ok(Seen::Other),
            Err(Error::NoObject { .. }) => Ok(Seen::Nothing),
            Err(Error::Forbidden { .. }) => Ok(Seen::Hidden),
            Err(error) => Err(error),
        }
    }

    /// Removes an object if there is one; where the store does not say, tries.
    async fn remove(&self, key: String) -> Result<()> {
        match self.store.head(&self.destination.at(key.clone())).await {
            Err(Error::NoObject { .. }) => Ok(()),
            Ok(_) | Err(Error::Forbidden { .. }) => self.store.delete(&self.destination.bucket, &key).await,
            Err(error) => Err(error),
        }
    }

    async fn all_stand(&self, work: &Work) -> Result<bool> {
        for kind in work.images().chain([OutputKind::Json]) {
            if self.seen(kind).await? != Seen::Ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn withdraw_other_report(&self) -> Result<()> {
        match self.seen(OutputKind::Json).await? {
            Seen::Ours | Seen::Nothing => Ok(()),
            Seen::Other | Seen::Hidden => self.remove(self.destination.key(OutputKind::Json)).await,
        }
    }

    /// Takes the report back when an output beside it is not this work's.
    async fn confirm(&self, work: &Work) -> Result<()> {
        for kind in work.images() {
            if matches!(self.seen(kind).await?, Seen::Other | Seen::Nothing) {
                self.remove(self.destination.key(OutputKind::Json)).await?;
                let detail = "another run wrote the same outputs at the same time".to_owned();
                return Err(Error::Storage { detail, source: None });
            }
        }
        Ok(())
    }
}

/// What a `HEAD` says of an output's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// It carries this work's stamp.
    Ours,
    Other,
    /// The store does not say: permission is lacking.
    Hidden,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(bucket: &str, key_prefix: &str) -> Result<Destination> {
        Destination::for_target(&StoreTarget { bucket: bucket.to_owned(), key_prefix: key_prefix.to_owned() })
    }

    #[test]
    fn names_append_to_the_photos_own() {
        let destination = Destination::for_source("out", "masks/", "a/b.jpg").unwrap();
        assert_eq!(destination.key(OutputKind::Mask), "masks/a/b.jpg.mask.png");
        assert_eq!(destination.key(OutputKind::Json), "masks/a/b.jpg.json");
        assert_eq!(destination.error_key(), "masks/a/b.jpg.error.json");
        assert_eq!(target("out", "jobs/42/a").unwrap().key(OutputKind::Overlay), "jobs/42/a.overlay.jpg");
    }

    #[test]
    fn a_target_is_a_bucket_and_a_name() {
        for (bucket, prefix) in [("", "a"), ("b", ""), ("b", "/a"), ("b", "a/"), ("b", "a\nb")] {
            assert!(matches!(target(bucket, prefix), Err(Error::BadRequest { .. })), "{bucket} {prefix}");
        }
    }

    #[test]
    fn keys_stay_within_what_s3_allows() {
        let longest = MAX_KEY_BYTES - ".instances.png".len();
        assert!(target("b", &"é".repeat(longest / 2)).is_ok());
        assert!(target("b", &"a".repeat(longest + 1)).is_err());
    }

    #[test]
    fn outputs_are_known_by_their_names() {
        for key in ["a.jpg.mask.png", "a.overlay.jpg", "a.instances.png", "a.cutout.png", "a.json", "a.error.json"] {
            assert!(is_output_key(key), "{key}");
        }
        for key in ["a.jpg", "mask.png", "a.json.png", "json", "masks/a.png"] {
            assert!(!is_output_key(key), "{key}");
        }
    }
}
