//! Warm-up pings: the model is loaded, so that the next photo does not wait for it, and that is all. Nothing is parsed, so
//! no line of metrics is written.

use serde_json::{Value, json};

use crate::error::Result;
use crate::pipeline::{Context, Pipeline};

/// Loads the model, where it is not loaded yet.
///
/// # Errors
/// `Internal` when it cannot be loaded.
pub async fn handle(pipeline: &Pipeline, context: &Context) -> Result<Value> {
    pipeline.engine(context).await?;
    Ok(json!({"warm": true}))
}
