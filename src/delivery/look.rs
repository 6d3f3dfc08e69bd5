//! What stands at a destination, as `HEAD` tells it.
//!
//! Every object that the function writes carries two words as metadata, so that one `HEAD` tells whose it is. The
//! [stamp](WorkId::stamp) names the work: source version, model, options. The set names what came of it: the checksums
//! of all the outputs of one run. (The same work may give other bytes on another kind of processor.) A report has a
//! third word, the kinds of its outputs, by which it is seen that one of them is lost.
//!
//! Without `s3:ListBucket` S3 answers 403 for what is not there; if it says so twice, that is read as "not known",
//! never as "done".

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::destination::{Destination, Slot};
use super::work::WorkId;
use crate::error::{Error, Result};
use crate::store::{ObjectMeta, ObjectRef, ObjectStore, Standing};

/// User metadata of every object written: the mark by which the function knows its own outputs. Its value is `1`.
pub(crate) const MARK: &str = "m2fp";
/// User metadata: the stamp of the work an object belongs to.
pub(crate) const STAMP: &str = "m2fp-work";
/// User metadata: the set of outputs an object belongs to.
pub(crate) const SET: &str = "m2fp-set";
/// User metadata of a report: the kinds of the outputs that it names, separated by commas.
pub(crate) const KINDS: &str = "m2fp-outputs";

/// Whether an object carries the mark of something this function wrote.
#[must_use]
pub fn is_output(meta: &ObjectMeta) -> bool {
    meta.metadata.contains_key(MARK)
}

/// What a `HEAD` says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyState {
    Absent,
    Object {
        etag: Option<String>,
        stamp: Option<String>,
        set: Option<String>,
        /// The outputs that a report names, itself among them.
        names: Vec<Slot>,
    },
    /// Something that this function did not write. It is overwritten where an output is asked for under its key, and
    /// otherwise left alone.
    Foreign {
        etag: Option<String>,
    },
    /// The store does not say: permission is lacking.
    Hidden,
}

impl KeyState {
    /// What must still stand when it is overwritten.
    pub(crate) fn standing(&self) -> Standing {
        match self {
            Self::Absent => Standing::Nothing,
            Self::Object { etag: Some(etag), .. } | Self::Foreign { etag: Some(etag) } => Standing::ETag(etag.clone()),
            Self::Object { etag: None, .. } | Self::Foreign { etag: None } | Self::Hidden => Standing::Whatever,
        }
    }

    pub(crate) fn set(&self) -> Option<&str> {
        match self {
            Self::Object { set, .. } => set.as_deref(),
            Self::Absent | Self::Foreign { .. } | Self::Hidden => None,
        }
    }

    /// Whether something stands there that this function wrote.
    pub(crate) const fn is_object(&self) -> bool {
        matches!(self, Self::Object { .. })
    }

    fn has_stamp(&self, wanted: &str) -> bool {
        matches!(self, Self::Object { stamp: Some(stamp), .. } if stamp == wanted)
    }
}

/// What stands at a destination, key by key.
#[derive(Debug)]
pub struct DestinationState(BTreeMap<Slot, KeyState>);

impl DestinationState {
    /// Nothing stands. Whoever writes over this without having looked writes on the condition that it is so.
    #[must_use]
    pub fn nothing() -> Self {
        Self(Slot::ALL.into_iter().map(|slot| (slot, KeyState::Absent)).collect())
    }

    /// What stands in a slot.
    pub(crate) fn of(&self, slot: Slot) -> &KeyState {
        self.0.get(&slot).unwrap_or(&KeyState::Hidden)
    }

    /// Whether all that stands of this function's is one whole set of `work`: its report, the outputs that the report
    /// names, nothing else.
    #[must_use]
    pub(crate) fn is_whole(&self, work: &WorkId) -> bool {
        self.is_one_set(&work.stamp(), &work.slots().collect::<Vec<_>>(), Slot::Report)
    }

    /// Whether all that stands of this function's is in `slots`, of the work that `stamp` names, and of the set that
    /// `record` belongs to.
    pub(crate) fn is_one_set(&self, stamp: &str, slots: &[Slot], record: Slot) -> bool {
        let set = self.of(record).set();
        let is_right = |(slot, state): (&Slot, &KeyState)| {
            if slots.contains(slot) { state.has_stamp(stamp) && state.set() == set } else { !state.is_object() }
        };
        set.is_some() && self.0.iter().all(is_right)
    }

    /// Whether a report stands without an output that it names, or beside one of another set.
    pub(crate) fn is_torn(&self) -> bool {
        let report = self.of(Slot::Report);
        let KeyState::Object { names, .. } = report else { return false };
        let is_wrong = |(slot, state): (&Slot, &KeyState)| match state {
            KeyState::Absent | KeyState::Foreign { .. } => names.contains(slot),
            KeyState::Object { .. } => *slot != Slot::Error && state.set() != report.set(),
            KeyState::Hidden => false,
        };
        self.0.iter().any(is_wrong)
    }
}

/// Looks at every key of a destination, in one trip.
///
/// # Errors
/// `Storage`.
pub async fn look(store: &dyn ObjectStore, destination: &Destination) -> Result<DestinationState> {
    look_beyond(store, destination, None).await
}

/// Looks at every key of a destination but the one that is `known`, in one trip.
///
/// # Errors
/// `Storage`.
pub(crate) async fn look_beyond(
    store: &dyn ObjectStore,
    destination: &Destination,
    known: Option<(Slot, KeyState)>,
) -> Result<DestinationState> {
    let is_asked = |slot: &Slot| known.as_ref().is_none_or(|(known, _)| known != slot);
    let looks = Slot::ALL.into_iter().filter(is_asked).map(|slot| async move {
        let state = look_at(store, destination, slot).await?;
        Ok::<_, Error>((slot, state))
    });
    let states = try_join_all(looks).await?;
    Ok(DestinationState(states.into_iter().chain(known).collect()))
}

/// Looks at every other key where a report stands, or may; `None` where none does. Most often nothing stands at the
/// others either then, and writing on that condition finds out.
///
/// # Errors
/// `Storage`.
pub(crate) async fn look_around(
    store: &dyn ObjectStore,
    destination: &Destination,
    report: KeyState,
) -> Result<Option<DestinationState>> {
    match report {
        KeyState::Absent => Ok(None),
        report => look_beyond(store, destination, Some((Slot::Report, report))).await.map(Some),
    }
}

/// What is known of an object as it stands now, whatever version `at` is of; `None` if there is none.
///
/// # Errors
/// `Forbidden`, `Storage`.
pub(crate) async fn look_at_newest(store: &dyn ObjectStore, at: &ObjectRef) -> Result<Option<ObjectMeta>> {
    match store.head(&newest(at)).await {
        Ok(meta) => Ok(Some(meta)),
        Err(Error::NoObject { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the version that stands is this one.
///
/// # Errors
/// `Forbidden`, `Storage`.
pub(crate) async fn stands(store: &dyn ObjectStore, at: &ObjectRef) -> Result<bool> {
    let standing = look_at_newest(store, at).await?;
    Ok(standing.is_some_and(|meta| meta.etag == at.etag && meta.version_id == at.version_id))
}

/// The object at a key, of whatever version.
pub(crate) fn newest(at: &ObjectRef) -> ObjectRef {
    ObjectRef { version_id: None, etag: None, ..at.clone() }
}

/// Looks at one key of a destination.
///
/// # Errors
/// `Storage`.
pub(crate) async fn look_at(store: &dyn ObjectStore, destination: &Destination, slot: Slot) -> Result<KeyState> {
    let at = destination.at(slot);
    let mut head = store.head(&at).await;
    // Asked once more: a 403 of a moment, as while a policy takes effect, must not hide what stands there.
    if matches!(head, Err(Error::Forbidden { .. })) {
        head = store.head(&at).await;
    }
    match head {
        Ok(meta) if !is_output(&meta) => Ok(KeyState::Foreign { etag: meta.etag }),
        Ok(ObjectMeta { etag, mut metadata, .. }) => {
            let kinds = metadata.remove(KINDS).unwrap_or_default();
            let names = kinds.split(',').filter_map(|kind| Slot::of(kind.parse().ok()?)).collect();
            Ok(KeyState::Object { etag, stamp: metadata.remove(STAMP), set: metadata.remove(SET), names })
        }
        Err(Error::NoObject { .. }) => Ok(KeyState::Absent),
        Err(Error::Forbidden { .. }) => Ok(KeyState::Hidden),
        Err(error) => Err(error),
    }
}
