//! What was done to a photo, as one comparable fact.

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::destination::Slot;
use crate::manifest::Manifest;
use crate::options::{Options, OutputKind};
use crate::pipeline::{Prepared, Source};
use crate::render::report::SourceSection;
use crate::store::ObjectRef;
use crate::units::hex;

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

    /// The slots of what this work leaves; the report is made in any case.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let images = self.kinds.iter().copied().filter(|kind| *kind != OutputKind::Json);
        images.chain([OutputKind::Json]).filter_map(Slot::of)
    }
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

/// sha256 of a text, lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
