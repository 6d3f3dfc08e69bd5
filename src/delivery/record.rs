//! Stored outputs and their commit record, for every door that writes to a bucket.
//!
//! For a photo `a/b.jpg` and the prefix `masks/` a run leaves `masks/a/b.jpg.mask.png` (and whatever else was asked
//! for) and, last, the report `masks/a/b.jpg.json`. The report is the commit record: where it stands, the outputs it
//! names stand beside it and are those it has the checksums of. What makes that so, whenever a run is cut short or
//! several overlap:
//!
//! - Every object carries two words as metadata, so that one `HEAD` tells whose it is. The [stamp](WorkId::stamp) names the
//!   work: source version, model, options. The set names what came of it: the checksums of all the outputs of one run.
//!   (The same work may give other bytes on another kind of processor.)
//! - A run [looks](look) at every key first. Whatever it writes or deletes afterwards, it does on the condition that the
//!   key stands as it was seen. So a run that was overtaken while it worked cannot touch what the newer one has written.
//! - A report of another set is deleted before any of its outputs is overwritten.
//! - Everything else is done before the report is written: outputs, then removal of what this work does not have
//!   (other kinds, an earlier error). A run that ends anywhere before has committed nothing, and a retry does it all.
//! - Nobody takes work for done but by looking again: report and outputs of one set and the work's stamp, and nothing
//!   else ([`DestinationState::is_whole`]). Of two overlapping runs the one that finds something else starts over.
//!
//! ARCHITECTURE.md says why that is enough. Things are deleted only where a `HEAD` sees them, so that versioned buckets do
//! not fill with delete markers. Without `s3:ListBucket` S3 answers 403 for what is not there; that is read as "not
//! known", never as "done".

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::object_names::MAX_KEY_BYTES;
use crate::options::{Options, OutputKind};
use crate::pipeline::{Attempt, Outcome, Prepared, Source};
use crate::render::report::{OutputSection, Report, S3Location, SourceSection};
use crate::store::{NewObject, ObjectMeta, ObjectRef, ObjectStore, Standing, StoreTarget};
use crate::units::hex;

/// User metadata of every object written: the mark by which the function knows its own outputs. Its value is `1`.
pub(crate) const MARK: &str = "m2fp";
/// User metadata: the stamp of the work an object belongs to.
const STAMP: &str = "m2fp-work";
/// User metadata: the set of outputs an object belongs to.
const SET: &str = "m2fp-set";

/// What an error record's name ends with, after the photo's own.
const ERROR_SUFFIX: &str = ".error.json";

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
    pub(crate) fn for_target(target: &StoreTarget) -> Result<Self> {
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
    pub(crate) fn error_key(&self) -> String {
        format!("{}{ERROR_SUFFIX}", self.stem)
    }

    fn at(&self, key: String) -> ObjectRef {
        ObjectRef { bucket: self.bucket.clone(), key, version_id: None, etag: None }
    }
}

/// Whether a key is named like something this module writes.
#[must_use]
pub(crate) fn is_output_key(key: &str) -> bool {
    OutputKind::ALL.into_iter().any(|kind| key.ends_with(kind.suffix()))
}

/// Whether an object carries the mark of something this module wrote.
#[must_use]
pub fn is_output(meta: &ObjectMeta) -> bool {
    meta.metadata.contains_key(MARK)
}

/// What was done: equal works make equal outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkId {
    pub source: SourceSection,
    /// Names the model: sha256 of its graph.
    pub model_sha256: String,
    /// [`Options::canonical`].
    pub options: String,
    #[serde(skip)]
    kinds: Vec<OutputKind>,
}

impl WorkId {
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

/// What stands at a destination, key by key.
#[derive(Debug)]
pub struct DestinationState {
    outputs: BTreeMap<OutputKind, KeyState>,
    error: KeyState,
}

/// What a `HEAD` says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyState {
    Absent,
    Object {
        etag: Option<String>,
        stamp: Option<String>,
        set: Option<String>,
    },
    /// The store does not say: permission is lacking.
    Hidden,
}

impl KeyState {
    /// What must still stand when it is overwritten.
    fn standing(&self) -> Standing {
        match self {
            Self::Absent => Standing::Nothing,
            Self::Object { etag: Some(etag), .. } => Standing::ETag(etag.clone()),
            Self::Object { etag: None, .. } | Self::Hidden => Standing::Whatever,
        }
    }

    fn set(&self) -> Option<&str> {
        match self {
            Self::Object { set, .. } => set.as_deref(),
            Self::Absent | Self::Hidden => None,
        }
    }

    fn has_stamp(&self, wanted: &str) -> bool {
        matches!(self, Self::Object { stamp: Some(stamp), .. } if stamp == wanted)
    }

    const fn is_object(&self) -> bool {
        matches!(self, Self::Object { .. })
    }
}

impl DestinationState {
    /// Whether all that stands is one whole set of `work`: its report, the outputs that the report names, nothing else.
    #[must_use]
    pub(crate) fn is_whole(&self, work: &WorkId) -> bool {
        let (stamp, set) = (work.stamp(), self.outputs[&OutputKind::Json].set());
        let is_ours = |kind| self.outputs[&kind].has_stamp(&stamp) && self.outputs[&kind].set() == set;
        set.is_some()
            && is_ours(OutputKind::Json)
            && work.images().all(is_ours)
            && !work.others().any(|kind| self.outputs[&kind].is_object())
            && !self.error.is_object()
    }

    /// Whether all that stands is the error record of `work`.
    #[must_use]
    pub(crate) fn is_refusal(&self, work: &WorkId) -> bool {
        self.error.has_stamp(&work.stamp()) && !self.outputs.values().any(KeyState::is_object)
    }

    /// Whether a report stands beside an output of another set.
    fn is_mixed(&self) -> bool {
        let report = &self.outputs[&OutputKind::Json];
        report.is_object() && self.outputs.values().any(|key| key.is_object() && key.set() != report.set())
    }
}

/// Looks at every key of a destination.
///
/// # Errors
/// `Storage`.
pub async fn look(store: &dyn ObjectStore, destination: &Destination) -> Result<DestinationState> {
    let keys = OutputKind::ALL.into_iter().map(|kind| destination.key(kind)).chain([destination.error_key()]);
    let mut states = try_join_all(keys.map(|key| look_at(store, destination, key))).await?;
    let error = states.pop().unwrap_or(KeyState::Hidden);
    Ok(DestinationState { outputs: OutputKind::ALL.into_iter().zip(states).collect(), error })
}

async fn look_at(store: &dyn ObjectStore, destination: &Destination, key: String) -> Result<KeyState> {
    match store.head(&destination.at(key)).await {
        Ok(ObjectMeta { etag, mut metadata, .. }) => {
            Ok(KeyState::Object { etag, stamp: metadata.remove(STAMP), set: metadata.remove(SET) })
        }
        Err(Error::NoObject { .. }) => Ok(KeyState::Absent),
        Err(Error::Forbidden { .. }) => Ok(KeyState::Hidden),
        Err(error) => Err(error),
    }
}

/// Whether a write took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    Yes,
    /// Somebody else wrote there since it was looked at; look again and start over.
    Conflict,
}

impl From<bool> for Written {
    fn from(stood_as_seen: bool) -> Self {
        if stood_as_seen { Self::Yes } else { Self::Conflict }
    }
}

/// Writes the outputs of `outcome` over what `state` says and, last, its report; see the module for the order and why.
/// Whether it is done, only another look tells.
///
/// # Errors
/// Those of the store: `NoObject` (no such bucket), `Forbidden`, `Storage`. After each, nothing is committed.
pub async fn write(
    store: &dyn ObjectStore,
    destination: &Destination,
    work: &WorkId,
    state: &DestinationState,
    outcome: &Outcome,
) -> Result<Written> {
    Set::of(destination, work, outcome)?.write(store, destination, work, state).await
}

/// Parses the photo of a request that says itself where its outputs go, and stores them: looks, writes and looks again.
/// The report names what was written, the images in the order asked for, then itself.
///
/// # Errors
/// Those of the pipeline and of [`write()`]; also `Storage` when another run wrote the same outputs at the same time.
pub(crate) async fn parse_and_store(
    attempt: &Attempt<'_>,
    source: Source,
    options: Options,
    destination: &Destination,
) -> Result<(Outcome, Report)> {
    let store = attempt.pipeline.object_store()?;
    let prepared = attempt.prepare(source.clone(), options).await?;
    let work = WorkId::of(&source, &prepared, &attempt.pipeline.manifest);
    // The photo's bytes are the pipeline's alone from here.
    drop(source);
    let outcome = attempt.run(prepared).await?;
    let state = look(store, destination).await?;
    let set = Set::of(destination, &work, &outcome)?;
    let written = set.write(store, destination, &work, &state).await?;
    if written == Written::Conflict || !look(store, destination).await?.is_whole(&work) {
        return Err(contended());
    }
    let outputs = set.outputs.into_iter().map(|output| output.section).collect();
    let report = Report { outputs, ..outcome.report.clone() };
    Ok((outcome, report))
}

/// The failure of work whose outputs others keep writing.
#[must_use]
pub(crate) fn contended() -> Error {
    Error::Storage { detail: "another run wrote the same outputs at the same time".to_owned(), source: None }
}

/// Leaves a record that says why the photo has no outputs (as HTTP's problems do, with what was read), over what
/// `state` says, and removes the outputs of an earlier version of it.
///
/// # Errors
/// Those of the store.
pub async fn write_error(
    store: &dyn ObjectStore,
    destination: &Destination,
    work: &WorkId,
    state: &DestinationState,
    error: &Error,
) -> Result<Written> {
    let mut record = json!(error.problem());
    record["source"] = json!(work.source);
    record["model_sha256"] = json!(work.model_sha256);
    record["options"] = json!(work.options);
    let record = pretty(&record)?;
    let writer = FencedWriter { store, destination, stamp: work.stamp(), set: sha256(&record) };
    // The report before the outputs it names.
    for kind in OutputKind::ALL.into_iter().rev() {
        if !writer.remove(destination.key(kind), &state.outputs[&kind]).await? {
            return Ok(Written::Conflict);
        }
    }
    Ok(writer.put(destination.error_key(), OutputKind::Json, record, &state.error).await?.into())
}

/// Withdraws a report that stands beside an output of another set, where no photo stands any more to mend it by.
///
/// # Errors
/// Those of the store.
pub(crate) async fn withdraw_mixed(store: &dyn ObjectStore, destination: &Destination) -> Result<()> {
    let state = look(store, destination).await?;
    if state.is_mixed() {
        let writer = FencedWriter { store, destination, stamp: String::new(), set: String::new() };
        let report = OutputKind::Json;
        if !writer.remove(destination.key(report), &state.outputs[&report]).await? {
            return Err(contended());
        }
    }
    Ok(())
}

/// The report without what differs from run to run, with where its outputs are and what it is a record of.
fn stored_report(report: &Report, work: &WorkId, stored: &[OutputSection]) -> Result<Bytes> {
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
    hex(&Sha256::digest(bytes))
}

/// All that one run leaves.
struct Set {
    /// sha256 of the work and of the checksums of its outputs.
    name: String,
    /// The images in the order asked for, then the report.
    outputs: Vec<Output>,
}

struct Output {
    kind: OutputKind,
    bytes: Bytes,
    section: OutputSection,
}

impl Set {
    fn of(destination: &Destination, work: &WorkId, outcome: &Outcome) -> Result<Self> {
        let output = |kind: OutputKind, bytes: Bytes| {
            let location = S3Location { bucket: destination.bucket.clone(), key: destination.key(kind), url: None };
            let length = bytes.len() as u64;
            let section = OutputSection::stored(kind, kind.content_type(), length, sha256(&bytes), location);
            Output { kind, bytes, section }
        };
        let mut outputs: Vec<_> = outcome.outputs.iter().map(|made| output(made.kind, made.bytes.clone())).collect();
        let sections: Vec<_> = outputs.iter().map(|output| output.section.clone()).collect();
        let report = output(OutputKind::Json, stored_report(&outcome.report, work, &sections)?);
        // The report names everything else by its checksum.
        let name = sha256(format!("{} {}", work.stamp(), sha256(&report.bytes)).as_bytes());
        outputs.push(report);
        Ok(Self { name, outputs })
    }

    async fn write(
        &self,
        store: &dyn ObjectStore,
        destination: &Destination,
        work: &WorkId,
        state: &DestinationState,
    ) -> Result<Written> {
        let writer = FencedWriter { store, destination, stamp: work.stamp(), set: self.name.clone() };
        Ok(writer.replace(work, state, &self.outputs).await?.into())
    }
}

/// One run's access to one destination. Its methods tell whether a key stood as it was seen, and so was written.
struct FencedWriter<'a> {
    store: &'a dyn ObjectStore,
    destination: &'a Destination,
    stamp: String,
    set: String,
}

impl FencedWriter<'_> {
    /// Puts the outputs, of which the report is the last, in the place of what was seen.
    async fn replace(&self, work: &WorkId, state: &DestinationState, outputs: &[Output]) -> Result<bool> {
        let report = &state.outputs[&OutputKind::Json];
        let is_withdrawn = report.set() != Some(&self.set);
        if is_withdrawn && !self.remove(self.destination.key(OutputKind::Json), report).await? {
            return Ok(false);
        }
        for Output { kind, bytes, .. } in outputs {
            let before = match kind {
                OutputKind::Json => break,
                image => &state.outputs[image],
            };
            if !self.put(self.destination.key(*kind), *kind, bytes.clone(), before).await? {
                return Ok(false);
            }
        }
        for kind in work.others() {
            if !self.remove(self.destination.key(kind), &state.outputs[&kind]).await? {
                return Ok(false);
            }
        }
        if !self.remove(self.destination.error_key(), &state.error).await? {
            return Ok(false);
        }
        let before = if is_withdrawn && *report != KeyState::Hidden { &KeyState::Absent } else { report };
        match outputs.last() {
            Some(Output { kind, bytes, .. }) => {
                self.put(self.destination.key(*kind), *kind, bytes.clone(), before).await
            }
            None => Ok(false),
        }
    }

    /// Writes an object in the place of `before`. That it stands with this run's set is as good: then an earlier try
    /// wrote it, or another run of the same work that made the same.
    async fn put(&self, key: String, kind: OutputKind, body: Bytes, before: &KeyState) -> Result<bool> {
        let words = [(MARK, "1"), (STAMP, &self.stamp), (SET, &self.set)];
        let object = NewObject {
            bucket: self.destination.bucket.clone(),
            key: key.clone(),
            body,
            content_type: kind.content_type(),
            metadata: words.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        if self.store.put(object, &before.standing()).await? {
            return Ok(true);
        }
        Ok(look_at(self.store, self.destination, key).await?.set() == Some(&self.set))
    }

    /// Removes what was seen; where the store does not say, tries.
    async fn remove(&self, key: String, before: &KeyState) -> Result<bool> {
        if *before == KeyState::Absent {
            return Ok(true);
        }
        self.store.delete(&self.destination.bucket, &key, &before.standing()).await
    }
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
