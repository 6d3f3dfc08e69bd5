//! CloudWatch's embedded metric format: one line of JSON for each request to parse and each object that an event names,
//! from which CloudWatch Logs makes metrics. The code that answers a request, or stores its outputs, writes the line
//! when that is done or has failed.
//!
//! The format: "Specification: Embedded metric format", Amazon CloudWatch user guide. docs/operations.md says what each
//! metric means. The function's name is the only dimension, because each combination of dimensions is billed as metrics
//! of its own, and a function has one model; request id and model stand in the line as properties, to be searched for.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::LambdaLogLevel;
use crate::error::{Error, Fault, Limit, Result};
use crate::manifest::Manifest;
use crate::plan::Plan;
use crate::render::report::TimingsSection;
use crate::units::fractional_mb;

/// Where the metrics are found in CloudWatch.
pub(crate) const NAMESPACE: &str = "m2fp";

/// The only dimension.
const DIMENSION: &str = "FunctionName";

/// How a request to parse, or an object that an event names, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was parsed, and the answer or the outputs went where they belong.
    Ok,
    /// There was nothing to do: the result exists already, or the object is not a photo to parse.
    Skipped,
    /// The request or the photo is at fault.
    Client,
    /// The photo was replaced or removed meanwhile.
    Overtaken,
    /// Other requests held the memory.
    Busy,
    /// Not even the smallest useful size fits.
    Memory,
    Deadline,
    /// The storage service failed.
    Storage,
    /// This function is at fault.
    Internal,
}

impl Ended {
    /// That of work that ends in an answer.
    #[must_use]
    pub fn of<T>(result: &Result<T>) -> Self {
        result.as_ref().err().map_or(Self::Ok, Self::of_error)
    }

    #[must_use]
    pub(crate) fn of_error(error: &Error) -> Self {
        match error {
            Error::Overtaken => Self::Overtaken,
            Error::Busy { .. } => Self::Busy,
            Error::Deadline { .. } => Self::Deadline,
            Error::TooLarge { limit: Limit::Memory, .. } => Self::Memory,
            other => match other.fault() {
                Fault::Client => Self::Client,
                Fault::Upstream => Self::Storage,
                Fault::Capacity | Fault::Internal => Self::Internal,
            },
        }
    }

    /// The name of the metric that counts parses which ended so.
    #[must_use]
    pub const fn metric(self) -> &'static str {
        match self {
            Self::Ok => "Parsed",
            Self::Skipped => "Skipped",
            Self::Client => "ClientFaults",
            Self::Overtaken => "Overtaken",
            Self::Busy => "Busy",
            Self::Memory => "TooLittleMemory",
            Self::Deadline => "Deadlines",
            Self::Storage => "StorageFaults",
            Self::Internal => "InternalFaults",
        }
    }
}

/// What was measured of one parse, as far as it came. If it took several runs, the values are those of the last one.
#[derive(Debug, Clone, Default)]
pub struct Measurements {
    pub planned: Option<Planned>,
    /// How long the model took to load, where this parse loaded it.
    pub model_load: Option<Duration>,
    pub timings_ms: Option<TimingsSection>,
    /// Greatest resident set while it ran, bytes.
    pub peak_bytes: Option<u64>,
}

/// What the plan says of it.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    working_pixels: u64,
    tiles: u32,
    downscaled: bool,
    predicted_peak_bytes: u64,
    limit_bytes: u64,
}

impl From<&Plan> for Planned {
    fn from(plan: &Plan) -> Self {
        Self {
            working_pixels: plan.working.area(),
            tiles: plan.tiles(),
            downscaled: plan.downscaled,
            predicted_peak_bytes: plan.predicted_peak_bytes,
            limit_bytes: plan.limit_bytes,
        }
    }
}

/// Writes the lines.
pub struct Metrics {
    function: String,
    model: String,
    /// Of each line, where Lambda would drop one without.
    level: Option<LambdaLogLevel>,
    is_warm: AtomicBool,
    writer: Mutex<Box<dyn Write + Send>>,
}

impl Metrics {
    /// `function`: the dimension's value.
    pub fn new(function: &str, manifest: &Manifest, writer: impl Write + Send + 'static) -> Self {
        Self {
            // A dimension's value has 1 to 1024 characters of ASCII.
            function: if function.is_empty() { NAMESPACE.to_owned() } else { function.to_owned() },
            model: format!("{} {}", manifest.name, manifest.version),
            level: None,
            is_warm: AtomicBool::new(false),
            writer: Mutex::new(Box::new(writer)),
        }
    }

    /// The same, past Lambda's filter at `level`: lines carry that level where Lambda would drop lines without one.
    /// Lambda takes a line's level only beside a timestamp (AWS Lambda developer guide, "Log-level filtering").
    #[must_use]
    pub fn past(self, level: Option<LambdaLogLevel>) -> Self {
        Self { level: level.filter(|level| level.drops_lines_without_level()), ..self }
    }

    /// Writes what became of a measured. A line that cannot be written is only missed.
    pub fn record(&self, request_id: &str, measured: &Measurements, ended: Ended) {
        let cold = !self.is_warm.swap(true, Ordering::Relaxed);
        let mut line = self.line(request_id, measured, ended, cold, SystemTime::now()).to_string();
        line.push('\n');
        let Ok(mut writer) = self.writer.lock() else { return };
        // The line is written in one piece, because a torn line is not a metric.
        if let Err(error) = writer.write_all(line.as_bytes()).and_then(|()| writer.flush()) {
            tracing::debug!(%error, "metrics cannot be written");
        }
    }

    fn line(&self, request_id: &str, measured: &Measurements, ended: Ended, cold: bool, now: SystemTime) -> Value {
        let mut line = Line::default();
        line.count("Parses", 1);
        line.count("ColdStart", u64::from(cold));
        line.count(ended.metric(), 1);
        if let Some(planned) = measured.planned {
            line.count("WorkingPixels", planned.working_pixels);
            line.count("Tiles", u64::from(planned.tiles));
            line.count("Downscaled", u64::from(planned.downscaled));
            line.add("PredictedMemory", "Megabytes", fractional_mb(planned.predicted_peak_bytes));
            if let Some(peak) = measured.peak_bytes {
                line.add("PeakMemory", "Megabytes", fractional_mb(peak));
                line.add("MemoryUsed", "Percent", 100.0 * peak as f64 / planned.limit_bytes.max(1) as f64);
            }
        }
        if let Some(load) = measured.model_load {
            line.add("ModelLoadTime", "Milliseconds", load.as_secs_f64() * 1e3);
        }
        if let Some(ms) = measured.timings_ms {
            for (name, value) in [
                ("DecodeTime", ms.decode),
                ("PreprocessTime", ms.preprocess),
                ("InferenceTime", ms.inference),
                ("PostprocessTime", ms.postprocess),
                ("EncodeTime", ms.encode),
                ("TotalTime", ms.total),
            ] {
                line.add(name, "Milliseconds", value);
            }
        }
        if let Some(level) = self.level {
            line.values.insert("level".to_owned(), json!(level.name()));
            line.values.insert("timestamp".to_owned(), json!(timestamp()));
        }
        line.end(&self.function, &self.model, request_id, now)
    }
}

/// Now, as the log's other lines write it (RFC 3339).
fn timestamp() -> String {
    let mut text = String::new();
    // Text takes whatever is written to it.
    let _ = tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// A line in the making: values, and what they are.
#[derive(Default)]
struct Line {
    values: Map<String, Value>,
    definitions: Vec<Value>,
}

impl Line {
    fn count(&mut self, name: &str, value: u64) {
        self.add(name, "Count", value as f64);
    }

    /// Values are rounded to two decimals.
    fn add(&mut self, name: &str, unit: &str, value: f64) {
        self.values.insert(name.to_owned(), json!((value * 100.0).round() / 100.0));
        self.definitions.push(json!({"Name": name, "Unit": unit}));
    }

    fn end(self, function: &str, model: &str, request_id: &str, now: SystemTime) -> Value {
        let Self { mut values, definitions } = self;
        let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        values.insert(DIMENSION.to_owned(), json!(function));
        values.insert("model".to_owned(), json!(model));
        values.insert("request_id".to_owned(), json!(request_id));
        values.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": now_ms,
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": definitions}],
            }),
        );
        values.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::units::MIB;

    const ENDS: [Ended; 9] = [
        Ended::Ok,
        Ended::Skipped,
        Ended::Client,
        Ended::Overtaken,
        Ended::Busy,
        Ended::Memory,
        Ended::Deadline,
        Ended::Storage,
        Ended::Internal,
    ];

    fn metrics() -> Metrics {
        let manifest = Manifest::read(std::path::Path::new("model/nano")).unwrap();
        Metrics::new("m2fp-HttpFunction-1", &manifest, std::io::sink())
    }

    /// Everything is known of it.
    fn full() -> Measurements {
        let timings = TimingsSection {
            decode: 1.0,
            preprocess: 2.0,
            inference: 3.255,
            postprocess: 4.0,
            encode: 5.0,
            total: 15.3,
        };
        Measurements {
            planned: Some(Planned {
                working_pixels: 512 * 384,
                tiles: 1,
                downscaled: true,
                predicted_peak_bytes: 90 * MIB,
                limit_bytes: 256 * MIB,
            }),
            model_load: Some(Duration::from_millis(90)),
            timings_ms: Some(timings),
            peak_bytes: Some(64 * MIB),
        }
    }

    fn line(measured: &Measurements, ended: Ended) -> Value {
        metrics().line("r-1", measured, ended, true, UNIX_EPOCH + Duration::from_millis(1_790_000_000_123))
    }

    /// Holds a line against the specification's schema and limits (Amazon CloudWatch user guide, "Specification: Embedded
    /// metric format").
    fn check(line: &Value) {
        const UNITS: [&str; 4] = ["Count", "Megabytes", "Milliseconds", "Percent"];
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&line["_aws"]), ["CloudWatchMetrics", "Timestamp"].map(str::to_owned).into());
        assert!(line["_aws"]["Timestamp"].is_u64());
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(keys(directive), ["Dimensions", "Metrics", "Namespace"].map(str::to_owned).into());
            assert!((1..=1024).contains(&directive["Namespace"].as_str().unwrap().len()));
            for set in directive["Dimensions"].as_array().unwrap() {
                let set = set.as_array().unwrap();
                assert!(set.len() <= 30);
                for name in set {
                    let value = line[name.as_str().unwrap()].as_str().expect("a dimension's value is text");
                    assert!(value.is_ascii() && (1..=1024).contains(&value.len()), "{value}");
                }
            }
            let definitions = directive["Metrics"].as_array().unwrap();
            assert!(definitions.len() <= 100);
            let names: BTreeSet<_> = definitions.iter().map(|one| one["Name"].as_str().unwrap()).collect();
            assert_eq!(names.len(), definitions.len(), "a name twice");
            for one in definitions {
                assert_eq!(keys(one), ["Name", "Unit"].map(str::to_owned).into());
                assert!((1..=1024).contains(&one["Name"].as_str().unwrap().len()));
                assert!(UNITS.contains(&one["Unit"].as_str().unwrap()), "{one}");
                assert!(line[one["Name"].as_str().unwrap()].is_number(), "{one} refers to no number");
            }
        }
        assert!(line.to_string().len() < 256 * 1024);
    }

    #[test]
    fn every_line_is_what_the_specification_says() {
        for ended in ENDS {
            check(&line(&full(), ended));
            check(&line(&Measurements::default(), ended));
        }
        let strange = Planned { limit_bytes: 0, ..full().planned.unwrap() };
        check(&line(&Measurements { planned: Some(strange), ..full() }, Ended::Ok));
    }

    #[test]
    fn a_line_says_what_was_measured() {
        let line = line(&full(), Ended::Ok);
        for (name, value) in [
            ("Parses", 1.0),
            ("Parsed", 1.0),
            ("ColdStart", 1.0),
            ("Downscaled", 1.0),
            ("WorkingPixels", 196_608.0),
            ("PredictedMemory", 90.0),
            ("PeakMemory", 64.0),
            ("MemoryUsed", 25.0),
            ("ModelLoadTime", 90.0),
            ("InferenceTime", 3.26),
        ] {
            assert_eq!(line[name].as_f64(), Some(value), "{name}");
        }
        assert_eq!(line["_aws"]["Timestamp"], 1_790_000_000_123_u64);
        assert_eq!((&line["FunctionName"], &line["request_id"]), (&json!("m2fp-HttpFunction-1"), &json!("r-1")));
    }

    #[test]
    fn only_the_first_parse_of_a_process_is_cold() {
        let written = Written::default();
        let manifest = Manifest::read(std::path::Path::new("model/nano")).unwrap();
        let metrics = Metrics::new("", &manifest, written.clone());
        for _ in 0..3 {
            metrics.record("r", &Measurements::default(), Ended::Busy);
        }
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line["ColdStart"].as_f64().unwrap()).collect::<Vec<_>>(), [1.0, 0.0, 0.0]);
        lines.iter().for_each(check);
    }

    #[test]
    fn a_line_has_a_level_where_lambda_would_drop_it_without() {
        let line = |level| metrics().past(level).line("r", &full(), Ended::Ok, false, UNIX_EPOCH);
        for level in [None, Some(LambdaLogLevel::Trace), Some(LambdaLogLevel::Info)] {
            let line = line(level);
            assert!(line.get("level").is_none() && line.get("timestamp").is_none(), "{level:?}");
        }
        for level in [LambdaLogLevel::Warn, LambdaLogLevel::Error, LambdaLogLevel::Fatal] {
            let line = line(Some(level));
            check(&line);
            assert_eq!(line["level"], level.name());
            let time = line["timestamp"].as_str().unwrap();
            assert!(time.starts_with("20") && time.contains('T') && time.ends_with('Z'), "{time}");
        }
    }

    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whose_fault_it_was_is_told_apart() {
        let detail = || "x".to_owned();
        for (error, ended) in [
            (Error::bad_request("x"), Ended::Client),
            (Error::Undecodable { detail: detail() }, Ended::Client),
            (Error::NoObject { detail: detail() }, Ended::Client),
            (Error::TooLarge { limit: Limit::Pixels, detail: detail() }, Ended::Client),
            (Error::TooLarge { limit: Limit::Memory, detail: detail() }, Ended::Memory),
            (Error::Overtaken, Ended::Overtaken),
            (Error::busy(), Ended::Busy),
            (Error::Deadline { detail: detail() }, Ended::Deadline),
            (Error::Storage { detail: detail(), source: None }, Ended::Storage),
            (Error::internal("x"), Ended::Internal),
        ] {
            assert_eq!(Ended::of_error(&error), ended, "{error:?}");
            assert_eq!(Ended::of::<()>(&Err(error)), ended);
        }
        assert_eq!(Ended::of(&Ok(())), Ended::Ok);
    }

    /// docs/operations.md has a row `| `Name` | unit | meaning |` for every metric, and for no other.
    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/operations.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let units = ["Count", "Megabytes", "Milliseconds", "Percent"];
        let documented: BTreeSet<_> = rows
            .filter_map(|(name, rest)| Some((name.to_owned(), rest.split_once(" | ")?.0.to_owned())))
            .filter(|(_, unit)| units.contains(&unit.as_str()))
            .collect();
        let mut written = BTreeSet::new();
        for ended in ENDS {
            for one in line(&full(), ended)["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap() {
                written.insert((one["Name"].as_str().unwrap().to_owned(), one["Unit"].as_str().unwrap().to_owned()));
            }
        }
        assert_eq!(documented, written);
    }
}
