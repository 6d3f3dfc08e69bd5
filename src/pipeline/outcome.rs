//! What becomes of a photo.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::memory::budget::Reservation;
use crate::options::OutputKind;
use crate::plan::Plan;
use crate::render::report::Report;

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
    pub(super) reservation: Arc<Reservation>,
}

impl Outcome {
    /// The report as JSON.
    ///
    /// # Errors
    /// `Internal`.
    pub fn json(&self, report: &Report) -> Result<Bytes> {
        serde_json::to_vec(report).map(|bytes| self.reservation.keep(bytes)).map_err(Error::internal)
    }
}
