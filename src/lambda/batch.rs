//! S3 Batch Operations, invocation schemas 1.0 and 2.0: each task is an object, each result its outcome.
//!
//! | object | result |
//! |---|---|
//! | stored now or before, passed, or replaced since (its own event follows) | `Succeeded` |
//! | cannot be served: no image, too large, … (also recorded as `….error.json`) | `PermanentFailure` |
//! | storage, deadline, memory held by others, internal | `TemporaryFailure`: the job tries it again |
//! | gone, permission is lacking, the bucket is not allowed, the key is no key | `PermanentFailure` |
//!
//! `resultString` says in one sentence what happened; the job's completion report has it. A job ends when more than half of
//! its tasks fail, so its manifest should list photos alone.
//!
//! User arguments (schema 2.0) select options by the names of the HTTP query (`output`, `mode`, `flip`, `max_side`,
//! `score`, `alpha`, `rle`), and where outputs go (`output_bucket`, `output_prefix`); what they do not say, the settings
//! do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::s3::decode_key;
use super::settle_each::settle_each;
use crate::config::Config;
use crate::delivery::access::Sender;
use crate::delivery::settle::{self, Done, Order};
use crate::error::{Error, Result};
use crate::object_names::prefix_fault;
use crate::options::{Options, RawOptions};
use crate::pipeline::{Context, Pipeline};
use crate::store::ObjectRef;

/// The schemas served.
const SCHEMAS: [&str; 2] = ["1.0", "2.0"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    #[serde(rename = "invocationSchemaVersion")]
    schema: String,
    #[serde(rename = "invocationId")]
    id: String,
    #[serde(default)]
    job: Job,
    tasks: Vec<Task>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    /// Schema 2.0 alone; null where the job has none.
    #[serde(default)]
    user_arguments: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    #[serde(rename = "taskId")]
    id: String,
    /// Form-encoded, as in manifests.
    #[serde(default)]
    s3_key: String,
    #[serde(default)]
    s3_version_id: Option<String>,
    /// Schema 1.0.
    #[serde(default)]
    s3_bucket_arn: Option<String>,
    /// Schema 2.0.
    #[serde(default)]
    s3_bucket: Option<String>,
}

/// The answer to an invocation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchAnswer {
    invocation_schema_version: String,
    /// What a task without a result counts as.
    treat_missing_keys_as: Code,
    invocation_id: String,
    results: Vec<TaskResult>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskResult {
    task_id: String,
    result_code: Code,
    result_string: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Code {
    Succeeded,
    TemporaryFailure,
    PermanentFailure,
}

/// Handles every task, whatever becomes of those before it.
///
/// # Errors
/// `BadRequest` for an invocation of another schema, or one whose tasks cannot be answered.
pub async fn handle(pipeline: &Pipeline, event: &str, context: &Context) -> Result<BatchAnswer> {
    let invocation: Invocation = serde_json::from_str(event)
        .map_err(|e| Error::bad_request(format!("not a well-formed invocation of S3 Batch Operations: {e}")))?;
    if !SCHEMAS.contains(&invocation.schema.as_str()) {
        return Err(Error::bad_request(format!(
            "this invocation schema of S3 Batch Operations is not served; {} are",
            SCHEMAS.join(" and ")
        )));
    }
    let order = order(&invocation.job.user_arguments.unwrap_or_default(), &pipeline.config);
    let objects: Vec<_> = invocation.tasks.iter().map(|task| object_of(task).map(Some)).collect();
    let done = match &order {
        Ok(order) => settle_each(pipeline, objects, order, context).await,
        Err(error) => objects.iter().map(|_| refused(pipeline, error, context)).collect(),
    };
    let results =
        std::iter::zip(invocation.tasks, done).map(|(task, done)| result(task.id, done, &context.request_id)).collect();
    Ok(BatchAnswer {
        invocation_schema_version: invocation.schema,
        treat_missing_keys_as: Code::PermanentFailure,
        invocation_id: invocation.id,
        results,
    })
}

/// What becomes of a task whose job asks for what there is not.
fn refused(pipeline: &Pipeline, error: &Error, context: &Context) -> Result<Done> {
    let done = Err(Error::bad_request(error.to_string()));
    settle::count(&pipeline.begin(context), &done);
    done
}

fn result(task_id: String, done: Result<Done>, request_id: &str) -> TaskResult {
    let (result_code, result_string) = match done {
        Ok(Done::Refused { code, detail, .. }) => (Code::PermanentFailure, format!("{code}: {detail}")),
        Ok(Done::Gone) => (Code::PermanentFailure, "gone: there is no such object".to_owned()),
        Ok(done) => (Code::Succeeded, done.name().to_owned()),
        Err(error) => {
            let code = if error.retryable() { Code::TemporaryFailure } else { Code::PermanentFailure };
            (code, Failure::new(&error, request_id).to_string())
        }
    };
    tracing::info!(task_id, result_code = ?result_code, result_string, "task");
    TaskResult { task_id, result_code, result_string }
}

/// The object of a task, pinned to its version if it names one.
fn object_of(task: &Task) -> Result<ObjectRef> {
    let bucket = match (&task.s3_bucket, &task.s3_bucket_arn) {
        (Some(name), _) => name.as_str(),
        (None, Some(arn)) => arn.rsplit(':').next().unwrap_or_default(),
        (None, None) => return Err(Error::bad_request("a task without a bucket")),
    };
    Ok(ObjectRef {
        bucket: bucket.to_owned(),
        key: decode_key(&task.s3_key)?,
        version_id: task.s3_version_id.clone().filter(|v| !v.is_empty()),
        etag: None,
    })
}

/// The settings' order, with what the job's arguments change.
fn order(arguments: &BTreeMap<String, String>, config: &Config) -> Result<Order> {
    let (mut order, mut faults, mut options) = (Order::configured(config)?, Vec::new(), Vec::new());
    for (name, value) in arguments {
        match name.as_str() {
            "output_bucket" => match Sender::Invoker.check_output_bucket(name, value, config) {
                Ok(()) => order.bucket = Some(value.clone()),
                Err(error) => faults.push(error.to_string()),
            },
            "output_prefix" => match prefix_fault(value) {
                None => order.prefix.clone_from(value),
                Some(fault) => faults.push(format!("`output_prefix` {fault}")),
            },
            name => options.push((name, value.as_str())),
        }
    }
    let checked = RawOptions::from_pairs(options)
        .and_then(|raw| Options::check_stored(&raw.or(config.default_options()), &config.outputs));
    match checked {
        Ok(options) => order.options = options,
        Err(error) => faults.push(error.to_string()),
    }
    if faults.is_empty() {
        Ok(order)
    } else {
        Err(Error::bad_request(format!("user arguments: {}", faults.join("; "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Mode, OutputKind};

    fn config() -> Config {
        Config::from_vars([("M2FP_OUTPUT_BUCKET".to_owned(), "masks".to_owned())]).unwrap()
    }

    fn arguments(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn arguments_change_what_the_settings_say() {
        let plain = order(&arguments(&[]), &config()).unwrap();
        assert_eq!((plain.bucket.as_deref(), plain.prefix.as_str()), (Some("masks"), "masks/"));
        assert_eq!(plain.options.outputs, [OutputKind::Mask, OutputKind::Json]);
        let chosen = order(
            &arguments(&[
                ("output", "overlay,json"),
                ("mode", "tiled"),
                ("max_side", "640"),
                ("score", "0.5"),
                ("output_bucket", "others"),
                ("output_prefix", "jobs/7/"),
            ]),
            &config(),
        )
        .unwrap();
        assert_eq!((chosen.bucket.as_deref(), chosen.prefix.as_str()), (Some("others"), "jobs/7/"));
        assert_eq!(
            (chosen.options.mode, chosen.options.max_side, chosen.options.score),
            (Mode::Tiled, Some(640), Some(0.5))
        );
        assert_eq!(chosen.options.outputs, [OutputKind::Overlay, OutputKind::Json]);
    }

    #[test]
    fn bad_arguments_are_told_together() {
        let bad = arguments(&[("outputs", "mask"), ("output_bucket", "No Bucket"), ("output_prefix", "/a")]);
        let error = order(&bad, &config()).unwrap_err().to_string();
        for word in ["`outputs`", "`output_bucket`", "`output_prefix`"] {
            assert!(error.contains(word), "{error}");
        }
        let values = arguments(&[("mode", "fast"), ("score", "much")]);
        assert!(order(&values, &config()).unwrap_err().to_string().contains("`score`"));
    }

    #[test]
    fn arguments_stay_within_the_allowed_buckets() {
        let vars = [("M2FP_ALLOWED_BUCKETS", "photos"), ("M2FP_OUTPUT_BUCKET", "masks")];
        let config = Config::from_vars(vars.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap();
        assert!(order(&arguments(&[("output_bucket", "masks")]), &config).is_ok());
        let error = order(&arguments(&[("output_bucket", "others")]), &config).unwrap_err().to_string();
        assert!(error.contains("others"), "{error}");
    }
}
