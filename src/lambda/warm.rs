//! Warm-up pings: the model is loaded, so that the next photo does not wait for it, and that is all. Nothing is parsed, so
//! no line of metrics is written.

use serde_json::{Value, json};

use crate::error::Result;
use crate::pipeline::{Context, Pipeline};

/// Loads the model, where it is not loaded yet and a photo would fit beside it.
///
/// # Errors
/// `Internal` when it cannot be loaded.
pub async fn handle(pipeline: &Pipeline, context: &Context) -> Result<Value> {
    pipeline.preload(context).await?;
    Ok(json!({"warm": true}))
}
