//! The JSON report.

use serde::Serialize;

/// Placeholder until the renderer lands.
#[derive(Debug, Clone, Serialize)]
pub struct Report {}
