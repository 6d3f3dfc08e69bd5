//! The names of what is stored for a photo: its outputs, its report, and the record of an error.

use crate::error::{Error, Result};
use crate::object_names::MAX_KEY_BYTES;
use crate::options::OutputKind;
use crate::store::{ObjectRef, StoreTarget};

/// What an error record's name ends with, after the photo's own.
const ERROR_SUFFIX: &str = ".error.json";

/// What may stand at a destination, each under a key of its own. Two forms of one file share a slot: each slot more is
/// one more key for every look, and so one more request for every photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// The mask in either form.
    Mask,
    Overlay,
    Instances,
    Cutout,
    Report,
    /// The record that a bad image leaves.
    Error,
}

impl Slot {
    /// Every slot of a destination.
    pub(crate) const ALL: [Self; 6] =
        [Self::Mask, Self::Overlay, Self::Instances, Self::Cutout, Self::Report, Self::Error];

    /// Where an output stands; `None` for a kind that is not stored.
    pub(crate) const fn of(kind: OutputKind) -> Option<Self> {
        match kind {
            OutputKind::Mask | OutputKind::Index => Some(Self::Mask),
            OutputKind::Overlay => Some(Self::Overlay),
            OutputKind::Instances => Some(Self::Instances),
            OutputKind::Cutout => Some(Self::Cutout),
            OutputKind::Json => Some(Self::Report),
            OutputKind::Coco | OutputKind::Hf => None,
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        self.kind().content_type()
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Error => ERROR_SUFFIX,
            slot => slot.kind().suffix(),
        }
    }

    /// A kind of output that is named and served as what stands here is.
    const fn kind(self) -> OutputKind {
        match self {
            Self::Mask => OutputKind::Mask,
            Self::Overlay => OutputKind::Overlay,
            Self::Instances => OutputKind::Instances,
            Self::Cutout => OutputKind::Cutout,
            Self::Report | Self::Error => OutputKind::Json,
        }
    }
}

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
        let longest = Slot::ALL.map(|slot| slot.suffix().len()).into_iter().max().unwrap_or(0);
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
        self.key_of(kind.suffix())
    }

    pub(crate) fn slot_key(&self, slot: Slot) -> String {
        self.key_of(slot.suffix())
    }

    fn key_of(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.stem)
    }

    /// Whether an object is where an output may be written.
    pub(crate) fn holds(&self, object: &ObjectRef) -> bool {
        self.bucket == object.bucket && Slot::ALL.into_iter().any(|slot| self.slot_key(slot) == object.key)
    }

    /// Where what stands in a slot is read.
    pub(crate) fn at(&self, slot: Slot) -> ObjectRef {
        ObjectRef { bucket: self.bucket.clone(), key: self.slot_key(slot), version_id: None, etag: None }
    }
}

/// Whether a key is named like an output, a report or an error record.
#[must_use]
pub(crate) fn is_output_key(key: &str) -> bool {
    OutputKind::ALL.into_iter().any(|kind| key.ends_with(kind.suffix()))
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
        assert_eq!(destination.slot_key(Slot::Error), "masks/a/b.jpg.error.json");
        assert_eq!(target("out", "jobs/42/a").unwrap().key(OutputKind::Overlay), "jobs/42/a.overlay.jpg");
    }

    #[test]
    fn outputs_share_a_slot_where_they_share_a_name() {
        for kind in OutputKind::ALL {
            assert_eq!(Slot::of(kind).is_some(), kind.is_stored(), "{kind:?}");
            if let Some(slot) = Slot::of(kind) {
                assert_eq!((slot.suffix(), slot.content_type()), (kind.suffix(), kind.content_type()), "{kind:?}");
            }
        }
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
