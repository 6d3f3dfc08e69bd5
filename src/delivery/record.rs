//! Stored outputs and their commit record, for every door that writes to a bucket.
//!
//! For a photo `a/b.jpg` and the prefix `masks/` a run leaves `masks/a/b.jpg.mask.png` (and whatever else was asked
//! for) and, last, the report `masks/a/b.jpg.json`. The report is the commit record: where it stands, the outputs it
//! names stand beside it and are those it has the checksums of. What makes that so, whenever a run is cut short or
//! several overlap:
//!
//! - Whatever a run writes or deletes, it does on the condition that the key stands as the run [saw](super::look) it,
//!   or that nothing stands there if the run did not look. So a run that was overtaken while it worked cannot touch
//!   what the newer one has written.
//! - A report of another set is deleted before any of its outputs is overwritten.
//! - The report is written after everything else: the outputs, and the removal of what was seen and is not the run's
//!   (other kinds, an earlier error; never what this function did not write). A run that ends anywhere before has
//!   committed nothing, and a retry does it all.
//! - Nobody takes work for done but by looking afterwards: report and outputs of one set and the work's stamp, and
//!   nothing else ([`Set::is_left`]). Of two overlapping runs the one that finds something else writes again.
//!
//! ARCHITECTURE.md says why that is enough. Things are deleted only where a `HEAD` sees them, so that versioned buckets
//! do not fill with delete markers.

use bytes::Bytes;
use futures_util::future::{join, join_all, try_join};
use serde::Serialize;
use serde_json::json;

use super::destination::{Destination, Slot};
use super::look::{self, DestinationState, KINDS, KeyState, MARK, SET, STAMP, look_at, look_beyond};
use super::work::{WorkId, sha256};
use crate::error::{Error, Result};
use crate::options::{Options, OutputKind};
use crate::pipeline::{Attempt, Outcome, Rendered, Source};
use crate::render::report::{OutputSection, Report, S3Location};
use crate::store::{NewObject, ObjectRef, ObjectStore};

/// How often one run writes again because others wrote.
const MAX_WRITES: usize = 3;

/// Whether a write took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    Yes,
    /// Something else stood there than was seen; look, and write again.
    Conflict,
}

impl From<bool> for Written {
    fn from(stood_as_seen: bool) -> Self {
        if stood_as_seen { Self::Yes } else { Self::Conflict }
    }
}

/// All that one run leaves: images and their report, or the record of an error.
pub struct Set {
    /// sha256 of the work and of the checksums of its outputs.
    name: String,
    stamp: String,
    /// In the order asked for.
    images: Vec<Object>,
    /// Written last.
    record: Object,
    /// The images and the report as the report's readers are told of them; of an error none.
    sections: Vec<OutputSection>,
}

struct Object {
    slot: Slot,
    bytes: Bytes,
}

impl Set {
    /// The outputs of `outcome` and their report.
    ///
    /// # Errors
    /// `Internal`.
    pub fn of_outcome(destination: &Destination, work: &WorkId, outcome: &Outcome) -> Result<Self> {
        let section = |kind: OutputKind, bytes: &Bytes| {
            let location =
                S3Location { bucket: destination.bucket().to_owned(), key: destination.key(kind), url: None };
            OutputSection::stored(kind, kind.content_type(), bytes.len() as u64, sha256(bytes), location)
        };
        let mut sections: Vec<_> = outcome.outputs.iter().map(|made| section(made.kind, &made.bytes)).collect();
        let report = stored_report(&outcome.report, work, &sections)?;
        sections.push(section(OutputKind::Json, &report));
        let stamp = work.stamp();
        // The report names everything else by its checksum.
        let name = sha256(format!("{stamp} {}", sha256(&report)).as_bytes());
        let image = |made: &Rendered| Some(Object { slot: Slot::of(made.kind)?, bytes: made.bytes.clone() });
        // Who stores outputs has checked that they may be (`Options::check_stored`).
        let images = outcome.outputs.iter().filter_map(image).collect();
        Ok(Self { name, stamp, images, record: Object { slot: Slot::Report, bytes: report }, sections })
    }

    /// A record that says why the photo has no outputs, as HTTP's problems do, with what was read.
    ///
    /// # Errors
    /// `Internal`.
    pub fn of_error(work: &WorkId, error: &Error) -> Result<Self> {
        let mut record = json!(error.problem());
        record["source"] = json!(work.source);
        record["model_sha256"] = json!(work.model_sha256);
        record["options"] = json!(work.options);
        let bytes = pretty(&record)?;
        let record = Object { slot: Slot::Error, bytes };
        let name = sha256(&record.bytes);
        Ok(Self { name, stamp: work.stamp(), images: Vec::new(), record, sections: Vec::new() })
    }

    /// Writes the set over what `state` says and, last, its record; see the module for the order and why. Whether it is
    /// done, only a look afterwards tells.
    ///
    /// # Errors
    /// Those of the store: `NoObject` (no such bucket), `Forbidden`, `Storage`. After each, nothing is committed.
    pub async fn write(
        &self,
        store: &dyn ObjectStore,
        destination: &Destination,
        state: &DestinationState,
    ) -> Result<Written> {
        Ok(FencedWriter { store, destination, set: self }.replace(state).await?.into())
    }

    /// Writes the set over what was `seen`, or over nothing where nobody looked, until a look finds it whole and the
    /// version `of` which it is standing, if that matters. False when another version stands by now. Where none is
    /// named, the caller tells a client what was written, and so nobody else's set will do.
    ///
    /// # Errors
    /// Those of the store; `Storage`, too, when others keep writing there.
    pub(crate) async fn leave(
        &self,
        store: &dyn ObjectStore,
        destination: &Destination,
        of: Option<&ObjectRef>,
        mut seen: Option<DestinationState>,
    ) -> Result<bool> {
        let is_current = || async {
            match of {
                Some(at) => look::stands(store, at).await,
                None => Ok(true),
            }
        };
        let is_left = |state: &DestinationState| self.is_left(state) && (of.is_some() || self.has_record(state));
        for run in 0.. {
            if let Some(state) = &seen {
                // After the look: whatever a newer photo's run writes from here on is not as it was seen.
                if !is_current().await? {
                    return Ok(false);
                }
                if is_left(state) {
                    return Ok(true);
                }
            }
            if run == MAX_WRITES {
                break;
            }
            let nothing = DestinationState::nothing();
            let written = self.write(store, destination, seen.as_ref().unwrap_or(&nothing)).await?;
            if written == Written::Yes {
                // Over nothing, the record's own write was the last, and tells as much as a look at it.
                let known = seen.is_none().then(|| self.written_record());
                let (is_current, state) = try_join(is_current(), look_beyond(store, destination, known)).await?;
                if !is_current {
                    return Ok(false);
                }
                if is_left(&state) {
                    return Ok(true);
                }
            }
            seen = Some(look::look(store, destination).await?);
        }
        Err(contended())
    }

    /// Whether the record that stands is this set's.
    fn has_record(&self, state: &DestinationState) -> bool {
        state.of(self.record.slot).set() == Some(&self.name)
    }

    /// Whether all that stands is one whole set of this work: this one, or one that another run of the same work made.
    #[must_use]
    pub fn is_left(&self, state: &DestinationState) -> bool {
        state.is_one_set(&self.stamp, &self.slots().collect::<Vec<_>>(), self.record.slot)
    }

    /// The record as it stands right after it was written.
    fn written_record(&self) -> (Slot, KeyState) {
        let (stamp, set) = (Some(self.stamp.clone()), Some(self.name.clone()));
        (self.record.slot, KeyState::Object { etag: None, stamp, set, names: self.slots().collect() })
    }

    /// The kinds of the outputs, separated by commas.
    fn kinds(&self) -> String {
        let kinds: Vec<_> = self.sections.iter().map(|section| section.kind).collect();
        kinds.join(",")
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.images.iter().chain([&self.record]).map(|object| object.slot)
    }
}

/// Parses the photo of a request that says itself where its outputs go, and [leaves](Set::leave) them there. The report
/// names what was written, the images in the order asked for, then itself.
///
/// # Errors
/// Those of the pipeline and of [`Set::leave`].
pub(crate) async fn parse_and_store(
    attempt: &Attempt<'_>,
    source: Source,
    options: Options,
    destination: &Destination,
) -> Result<(Outcome, Report)> {
    let store = attempt.pipeline.object_store()?;
    if let Source::Object(photo) = &source
        && destination.holds(photo)
    {
        return Err(Error::bad_request(format!("an output would take the key of the photo itself, `{}`", photo.key)));
    }
    let parsed = async {
        let prepared = attempt.prepare(source.clone(), options).await?;
        let work = WorkId::of(&source, &prepared, &attempt.pipeline.manifest);
        // The photo's bytes are the pipeline's alone from here.
        drop(source);
        Ok((work, attempt.run(prepared).await?))
    };
    let ((work, outcome), report) = try_join(parsed, look_at(store, destination, Slot::Report)).await?;
    let seen = look::look_around(store, destination, report).await?;
    let set = Set::of_outcome(destination, &work, &outcome)?;
    set.leave(store, destination, None, seen).await?;
    let report = Report { outputs: set.sections, ..outcome.report.clone() };
    Ok((outcome, report))
}

/// The failure of work whose outputs others keep writing.
#[must_use]
pub(crate) fn contended() -> Error {
    Error::Storage { detail: "another run wrote the same outputs at the same time".to_owned(), source: None }
}

/// Withdraws the report, seen as `report`, if an output that it names is lost or of another set, where no photo stands
/// any more to mend it by.
///
/// # Errors
/// Those of the store.
pub(crate) async fn withdraw_torn(store: &dyn ObjectStore, destination: &Destination, report: KeyState) -> Result<()> {
    if !report.is_object() {
        return Ok(());
    }
    let standing = report.standing();
    let state = look_beyond(store, destination, Some((Slot::Report, report))).await?;
    let key = destination.key(OutputKind::Json);
    if state.is_torn() && !store.delete(destination.bucket(), &key, &standing).await? {
        return Err(contended());
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

fn pretty(value: &impl Serialize) -> Result<Bytes> {
    let mut text = serde_json::to_vec_pretty(value).map_err(Error::internal)?;
    text.push(b'\n');
    Ok(text.into())
}

/// One run's access to one destination. Its methods tell whether a key stood as it was seen, and so was written.
struct FencedWriter<'a> {
    store: &'a dyn ObjectStore,
    destination: &'a Destination,
    set: &'a Set,
}

impl FencedWriter<'_> {
    /// Puts the set, of which the record is the last, in the place of what was seen.
    async fn replace(&self, state: &DestinationState) -> Result<bool> {
        let report = state.of(Slot::Report);
        let is_withdrawn = report.set() != Some(&self.set.name);
        if is_withdrawn && !self.remove(Slot::Report, report).await? {
            return Ok(false);
        }
        // In one trip. All of them are waited for, so that none is under way any more when this run ends.
        let images = join_all(self.set.images.iter().map(|image| self.put(image, state.of(image.slot))));
        let is_stray = |slot: &Slot| *slot != Slot::Report && !self.set.slots().any(|own| own == *slot);
        let strays = join_all(Slot::ALL.into_iter().filter(is_stray).map(|slot| self.remove(slot, state.of(slot))));
        let (images, strays) = join(images, strays).await;
        for stood_as_seen in images.into_iter().chain(strays) {
            if !stood_as_seen? {
                return Ok(false);
            }
        }
        let record = &self.set.record;
        let is_gone = record.slot == Slot::Report && is_withdrawn && report.is_object();
        self.put(record, if is_gone { &KeyState::Absent } else { state.of(record.slot) }).await
    }

    /// Writes an object in the place of `before`, unless that is of this set already. That it stands with this run's
    /// set is as good: then an earlier try wrote it, or another run of the same work that made the same.
    async fn put(&self, object: &Object, before: &KeyState) -> Result<bool> {
        if before.set() == Some(&self.set.name) {
            return Ok(true);
        }
        let kinds = self.set.kinds();
        let mut words = vec![(MARK, "1"), (STAMP, &self.set.stamp), (SET, &self.set.name)];
        if object.slot == Slot::Report {
            words.push((KINDS, &kinds));
        }
        let written = NewObject {
            bucket: self.destination.bucket().to_owned(),
            key: self.destination.slot_key(object.slot),
            body: object.bytes.clone(),
            content_type: object.slot.content_type(),
            metadata: words.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        if self.store.put(written, &before.standing()).await? {
            return Ok(true);
        }
        Ok(look_at(self.store, self.destination, object.slot).await?.set() == Some(&self.set.name))
    }

    /// Removes what was seen if this function wrote it; where the store does not say, tries.
    async fn remove(&self, slot: Slot, before: &KeyState) -> Result<bool> {
        if matches!(before, KeyState::Absent | KeyState::Foreign { .. }) {
            return Ok(true);
        }
        self.store.delete(self.destination.bucket(), &self.destination.slot_key(slot), &before.standing()).await
    }
}
