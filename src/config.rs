//! Settings: the environment variables `M2FP_*`, raw as they come from outside and checked as the program uses them.

mod logging;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::manifest;
use crate::object_names::prefix_fault;
use crate::options::{self, OutputKind, RawOptions};

pub use logging::{LambdaLogLevel, LogFormat};

/// Prefix of every setting's variable.
pub(crate) const PREFIX: &str = "M2FP_";

/// Lambda's variable for how many invocations it hands to a process at once. The runtime reads it, too.
const CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

/// The greatest that Lambda allows (`PerExecutionEnvironmentMaxConcurrency`).
const MAX_CONCURRENCY: u32 = 1600;

/// A setting: its name without the prefix, its default in words, and what it does.
pub(crate) struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

/// Every setting, in the order of the documentation.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting { name: "MODEL_DIR", default: "the packaged model", meaning: "model folder with model.json" },
    Setting {
        name: "MEMORY_MB",
        default: "found",
        meaning: "memory limit in MB (2^20 bytes); the smallest of this, the function's size, the cgroup and physical memory counts",
    },
    Setting { name: "MAX_SOURCE_PIXELS", default: "200000000", meaning: "largest photo accepted, pixels" },
    Setting { name: "MAX_BODY_BYTES", default: "20000000", meaning: "largest request body, bytes" },
    Setting {
        name: "MAX_OBJECT_BYTES",
        default: "400000000",
        meaning: "largest photo read from S3 or a file, bytes; large ones are kept in the temporary folder meanwhile",
    },
    Setting {
        name: "TILE_ABOVE_PX",
        default: "off",
        meaning: "photos with more pixels are tiled where the mode is `auto`, named or not",
    },
    Setting {
        name: "FLIP",
        default: "off",
        meaning: "on: the mirrored photo is parsed as well where a request does not say; twice the network's time",
    },
    Setting {
        name: "OUTPUT_BUCKET",
        default: "none",
        meaning: "bucket that outputs are written to; for S3 events the event's own bucket where none is set",
    },
    Setting { name: "OUTPUT_PREFIX", default: "masks/", meaning: "prefix of written keys" },
    Setting {
        name: "OUTPUTS",
        default: "mask,json",
        meaning: "what S3 events write: mask or index, overlay, instances, cutout, json; json is always written",
    },
    Setting {
        name: "ALLOWED_BUCKETS",
        default: "those of the event",
        meaning: "buckets, separated by commas, that requests, events and invocations may read from and write to, \
                  beside reading uploads and writing to the output bucket; not set: none for HTTP requests, any for \
                  events and invocations",
    },
    Setting {
        name: "UPLOAD_BUCKET",
        default: "none",
        meaning: "bucket that `POST /uploads` lets clients put photos into, for `/parse` to read",
    },
    Setting {
        name: "UPLOAD_PREFIX",
        default: "uploads/",
        meaning: "what the keys of those photos start with; S3 events pass over them",
    },
    Setting {
        name: "UPLOAD_EXPIRES_S",
        default: "900",
        meaning: "how long a signed upload may be begun, seconds; less where the function's credentials end sooner",
    },
    Setting {
        name: "BEARER_TOKEN",
        default: "none",
        meaning: "token that HTTP requests must send as `Authorization: Bearer …`",
    },
    Setting {
        name: "CORS_ORIGIN",
        default: "none",
        meaning: "origins, separated by commas, whose pages may call the HTTP routes (`https://example.com`), or *",
    },
    Setting { name: "THREADS", default: "the CPUs given", meaning: "threads for inference and post-processing" },
    Setting {
        name: "PRELOAD",
        default: "off",
        meaning: "on: load the model at init instead of at the first request; `m2fp serve` always loads it at its start",
    },
    Setting {
        name: "RESPONSE_STREAM",
        default: "off",
        meaning: "on: Lambda streams the answers to HTTP requests; only where the REST API or the Function URL is set to stream",
    },
    Setting {
        name: "MAX_WAIT_MS",
        default: "5000",
        meaning: "longest wait for memory that other requests hold, milliseconds; then 503",
    },
    Setting {
        name: "S3_ENDPOINT",
        default: "AWS",
        meaning: "URL of another S3-compatible server (path-style addressing)",
    },
    Setting {
        name: "METRICS",
        default: "on in Lambda, off elsewhere",
        meaning: "on: print a line of CloudWatch's embedded metric format for each request to parse and each object of an event",
    },
    Setting {
        name: "LOG",
        default: "Lambda's, else info; warn on the command line",
        meaning: "log level: error, warn, info, debug, trace, or tracing directives",
    },
    Setting {
        name: "LOG_FORMAT",
        default: "Lambda's, else json; text on the command line",
        meaning: "format of log lines: json or text",
    },
];

/// A value that is never shown in logs or debug output.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Checked settings. See [`SETTINGS`] for units and defaults.
#[derive(Debug, Clone)]
pub struct Config {
    pub model_dir: PathBuf,
    pub memory_mb: Option<u64>,
    /// The function's memory size that Lambda names, MB; `None` outside Lambda.
    pub lambda_memory_mb: Option<u64>,
    /// The function's name, as Lambda gives it.
    pub function_name: Option<String>,
    /// Most invocations at once that Lambda hands to this process, as it says on Lambda Managed Instances. Elsewhere 1.
    pub concurrency: u32,
    pub max_source_pixels: u64,
    pub max_body_bytes: u64,
    pub max_object_bytes: u64,
    /// `None`: a photo is tiled only if the request asks for it.
    pub tile_above_px: Option<u64>,
    /// Whether the mirrored photo is parsed as well where a request does not say.
    pub flip: bool,
    pub output_bucket: Option<String>,
    pub output_prefix: String,
    /// Always contains `Json`.
    pub outputs: Vec<OutputKind>,
    pub allowed_buckets: Vec<String>,
    /// `None`: `POST /uploads` is not served.
    pub upload_bucket: Option<String>,
    /// Ends with `/`.
    pub upload_prefix: String,
    pub upload_expires: Duration,
    pub bearer_token: Option<Secret>,
    /// Each as browsers write it, or `*` alone; empty: none.
    pub cors_origins: Vec<String>,
    pub threads: usize,
    /// Processor time given for each second; see [`crate::sys::cpus`].
    pub cpus: f64,
    pub preload: bool,
    /// Whether the doors that can stream an answer do.
    pub response_stream: bool,
    pub max_wait: Duration,
    pub s3_endpoint: Option<String>,
    /// `None`: the door's own default.
    pub metrics: Option<bool>,
    /// `None`: Lambda's, or the door's own default.
    pub log: Option<String>,
    /// Where the setting is not set, Lambda's; `None`: the door's own default.
    pub log_format: Option<LogFormat>,
    /// What Lambda itself lets pass; `None` outside Lambda, and where its log format is text.
    pub lambda_log_level: Option<LambdaLogLevel>,
}

/// All faults of the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", faults.join("; "))]
pub struct ConfigError {
    pub faults: Vec<String>,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Every fault found, together.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    /// Reads `vars`; names without the prefix are ignored, except the name, the memory size, the logging controls and
    /// the concurrency that Lambda sets.
    ///
    /// # Errors
    /// Every fault found, together; an unknown name with the prefix is a fault, unless Kubernetes put it there.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut raw = Raw::default();
        for (name, value) in vars {
            if name == "AWS_LAMBDA_FUNCTION_MEMORY_SIZE" {
                raw.lambda_memory = Some(value);
            } else if name == "AWS_LAMBDA_FUNCTION_NAME" {
                raw.function_name = Some(value);
            } else if name == "AWS_LAMBDA_LOG_FORMAT" {
                raw.lambda_log_format = Some(value);
            } else if name == "AWS_LAMBDA_LOG_LEVEL" {
                raw.lambda_log_level = Some(value);
            } else if name == CONCURRENCY {
                raw.concurrency = Some(value);
            } else if let Some(short) = name.strip_prefix(PREFIX) {
                if SETTINGS.iter().any(|s| s.name == short) {
                    raw.values.push((short.to_owned(), value));
                } else if !is_service_variable(&name, &value) {
                    raw.faults.push(format!("{name} is not a setting; `m2fp config --help` lists them"));
                }
            }
        }
        raw.check()
    }

    /// The options that a request has where it does not say otherwise.
    #[must_use]
    pub(crate) fn default_options(&self) -> RawOptions {
        RawOptions { flip: Some(self.flip), ..RawOptions::default() }
    }

    /// Whether `POST /uploads` may have given out the key of this object.
    #[must_use]
    pub fn is_upload(&self, bucket: &str, key: &str) -> bool {
        self.upload_bucket.as_deref() == Some(bucket) && key.starts_with(&self.upload_prefix)
    }

    /// The log level in force: that of the setting, else Lambda's, else `default`.
    #[must_use]
    pub fn log_level<'a>(&'a self, default: &'a str) -> &'a str {
        self.log.as_deref().or(self.lambda_log_level.map(LambdaLogLevel::directive)).unwrap_or(default)
    }

    /// The memory limit in force, bytes.
    #[must_use]
    pub(crate) fn memory_limit_bytes(&self) -> u64 {
        let found = crate::sys::memory_limit_bytes(self.lambda_memory_mb);
        self.memory_mb.map_or(found, |mb| found.min(mb.saturating_mul(crate::units::MIB)))
    }
}

/// Settings as text, and the faults met so far.
#[derive(Default)]
struct Raw {
    values: Vec<(String, String)>,
    lambda_memory: Option<String>,
    function_name: Option<String>,
    lambda_log_format: Option<String>,
    lambda_log_level: Option<String>,
    concurrency: Option<String>,
    faults: Vec<String>,
}

impl Raw {
    fn text(&self, name: &str) -> Option<String> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).filter(|v| !v.is_empty())
    }

    fn number(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        let text = self.text(name)?;
        match text.parse::<u64>() {
            Ok(value) if (least..=most).contains(&value) => Some(value),
            _ => {
                self.faults.push(format!("{PREFIX}{name} must be a whole number from {least} to {most}, not `{text}`"));
                None
            }
        }
    }

    fn concurrency(&mut self) -> u32 {
        let Some(text) = self.concurrency.take().filter(|text| !text.is_empty()) else { return 1 };
        if let Ok(most @ 1..=MAX_CONCURRENCY) = text.parse() {
            return most;
        }
        self.faults.push(format!("{CONCURRENCY} must be a whole number from 1 to {MAX_CONCURRENCY}, not `{text}`"));
        1
    }

    fn pixels_or_off(&mut self, name: &str) -> Option<u64> {
        if self.text(name).as_deref() == Some("off") { None } else { self.number(name, 0, 1 << 40) }
    }

    fn switch(&mut self, name: &str) -> bool {
        let Some(text) = self.text(name) else { return false };
        options::switch(&text).unwrap_or_else(|| {
            self.faults.push(format!("{PREFIX}{name} must be {}, not `{text}`", options::SWITCHES));
            false
        })
    }

    /// A value of Lambda's that is not known is passed over: whoever runs the function did not write it.
    fn log_format(&mut self) -> Option<LogFormat> {
        let Some(text) = self.text("LOG_FORMAT") else {
            return self.lambda_log_format.as_deref().and_then(LogFormat::parse);
        };
        let format = LogFormat::parse(&text);
        if format.is_none() {
            self.faults.push(format!("{PREFIX}LOG_FORMAT must be {}, not `{text}`", logging::LOG_FORMATS));
        }
        format
    }

    fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }

    fn outputs(&mut self) -> Vec<OutputKind> {
        let mut kinds = Vec::new();
        for name in self.list("OUTPUTS") {
            match name.parse::<OutputKind>() {
                Ok(kind) if kinds.contains(&kind) => {}
                Ok(kind) => kinds.push(kind),
                Err(fault) => self.faults.push(format!("{PREFIX}OUTPUTS: {fault}")),
            }
        }
        for fault in [options::two_forms(&kinds), options::not_stored(&kinds)].into_iter().flatten() {
            self.faults.push(format!("{PREFIX}OUTPUTS: {fault}"));
        }
        if kinds.is_empty() {
            kinds.push(OutputKind::Mask);
        }
        if !kinds.contains(&OutputKind::Json) {
            kinds.push(OutputKind::Json);
        }
        kinds
    }

    fn prefix(&mut self, name: &str, default: &str) -> String {
        let prefix = self.text(name).unwrap_or_else(|| default.to_owned());
        if let Some(fault) = prefix_fault(&prefix) {
            self.faults.push(format!("{PREFIX}{name} {fault}"));
        }
        prefix
    }

    /// The upload prefix is a folder of its own: objects in it are neither photos for S3 events nor outputs.
    fn upload_prefix(&mut self, output_prefix: &str) -> String {
        let prefix = self.prefix("UPLOAD_PREFIX", "uploads/");
        if !prefix.ends_with('/') || prefix.split('/').any(|segment| matches!(segment, "." | "..")) {
            self.faults.push(format!("{PREFIX}UPLOAD_PREFIX must end with `/` and have no segment `.` or `..`"));
        }
        let shares_bucket =
            self.text("UPLOAD_BUCKET").is_some_and(|bucket| self.text("OUTPUT_BUCKET").is_none_or(|b| b == bucket));
        if shares_bucket && (prefix.starts_with(output_prefix) || output_prefix.starts_with(&prefix)) {
            self.faults.push(format!(
                "{PREFIX}UPLOAD_PREFIX `{prefix}` and {PREFIX}OUTPUT_PREFIX `{output_prefix}` must not lie in each other"
            ));
        }
        prefix
    }

    fn endpoint(&mut self) -> Option<String> {
        let url = self.text("S3_ENDPOINT")?;
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            self.faults.push(format!("{PREFIX}S3_ENDPOINT must be an http or https URL, not `{url}`"));
        }
        Some(url)
    }

    fn cors_origins(&mut self) -> Vec<String> {
        let origins = self.list("CORS_ORIGIN");
        if origins.len() == 1 && origins[0] == "*" {
            return origins;
        }
        for origin in &origins {
            if let Some(fault) = origin_fault(origin) {
                self.faults.push(format!("{PREFIX}CORS_ORIGIN: no browser would match `{origin}`: {fault}"));
            }
        }
        origins
    }

    /// A token comes from a secret's file as often as not, and files end with a line break.
    fn token(&mut self) -> Option<Secret> {
        let text = self.text("BEARER_TOKEN")?;
        let token = text.trim();
        if token.is_empty() || token.chars().any(char::is_control) {
            self.faults.push(format!("{PREFIX}BEARER_TOKEN must be one line that is not blank"));
        }
        Some(Secret(token.to_owned()))
    }

    fn check(mut self) -> Result<Config, ConfigError> {
        let lambda_memory_mb = self.lambda_memory.as_deref().and_then(|text| text.parse().ok());
        let output_prefix = self.prefix("OUTPUT_PREFIX", "masks/");
        let config = Config {
            model_dir: self.text("MODEL_DIR").map_or_else(packaged_model, PathBuf::from),
            memory_mb: self.number("MEMORY_MB", 64, 1 << 20),
            lambda_memory_mb,
            function_name: self.function_name.clone(),
            concurrency: self.concurrency(),
            max_source_pixels: self.number("MAX_SOURCE_PIXELS", 1, 1 << 40).unwrap_or(200_000_000),
            max_body_bytes: self.number("MAX_BODY_BYTES", 1, 1 << 40).unwrap_or(20_000_000),
            max_object_bytes: self.number("MAX_OBJECT_BYTES", 1, 1 << 40).unwrap_or(400_000_000),
            tile_above_px: self.pixels_or_off("TILE_ABOVE_PX"),
            flip: self.switch("FLIP"),
            output_bucket: self.text("OUTPUT_BUCKET"),
            upload_bucket: self.text("UPLOAD_BUCKET"),
            upload_prefix: self.upload_prefix(&output_prefix),
            upload_expires: Duration::from_secs(self.number("UPLOAD_EXPIRES_S", 60, 86_400).unwrap_or(900)),
            output_prefix,
            outputs: self.outputs(),
            allowed_buckets: self.list("ALLOWED_BUCKETS"),
            bearer_token: self.token(),
            cors_origins: self.cors_origins(),
            threads: self
                .number("THREADS", 1, 256)
                .map_or_else(|| crate::sys::threads(lambda_memory_mb), |n| n as usize),
            cpus: crate::sys::cpus(lambda_memory_mb),
            preload: self.switch("PRELOAD"),
            response_stream: self.switch("RESPONSE_STREAM"),
            max_wait: Duration::from_millis(self.number("MAX_WAIT_MS", 0, 900_000).unwrap_or(5000)),
            s3_endpoint: self.endpoint(),
            metrics: self.text("METRICS").map(|_| self.switch("METRICS")),
            log: self.text("LOG"),
            log_format: self.log_format(),
            lambda_log_level: self.lambda_log_level.as_deref().and_then(LambdaLogLevel::parse),
        };
        if self.faults.is_empty() { Ok(config) } else { Err(ConfigError { faults: self.faults }) }
    }
}

/// Whether a variable is one that Kubernetes sets in every container for each service of its namespace ("Service",
/// "Environment variables"): a service whose name begins with `m2fp` has variables that begin with our prefix.
fn is_service_variable(name: &str, value: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_of_port = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(is_port)
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
            && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
            && parts.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
        || (0..name.len()).any(|at| name.get(at..).and_then(|rest| rest.strip_prefix("_PORT_")).is_some_and(is_of_port))
}

/// What keeps a text from being an origin as browsers send it: scheme and host in small letters, and a port where it is
/// not the scheme's own (RFC 6454; the URL standard's serialisation).
fn origin_fault(origin: &str) -> Option<&'static str> {
    let is_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:".contains(c);
    let Some((scheme, rest)) = origin.split_once("://") else {
        return Some("an origin begins with its scheme, as https://example.com does");
    };
    let (host, port) = host_and_port(rest);
    if origin.contains(char::is_whitespace) {
        Some("it holds a space; several origins are separated by commas")
    } else if rest.contains('/') {
        Some("an origin ends with its host or port, without a slash or a path")
    } else if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        Some("its scheme is not in small letters")
    } else if rest.contains('*') {
        Some("`*` stands alone, for any origin; parts of names cannot be left open")
    } else if host.is_empty() || !host.chars().all(is_host) {
        Some("browsers send the host in small ASCII letters and nothing before or after it but a port")
    } else if matches!((scheme, port), ("https", ":443") | ("http", ":80")) {
        Some("browsers leave out the scheme's own port")
    } else if !port.is_empty() && port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).is_none() {
        Some("what follows the host must be a port")
    } else {
        None
    }
}

/// A host without its brackets, and what follows it, which is nothing or `:` and a port.
fn host_and_port(authority: &str) -> (&str, &str) {
    match authority.strip_prefix('[') {
        Some(ipv6) => ipv6.split_once(']').unwrap_or_default(),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    }
}

/// The model that came with this build: `model/` beside the executable (the Lambda package), or `model/nano` in the
/// working folder or in a folder above the executable (a checkout).
fn packaged_model() -> PathBuf {
    let is_model = |folder: &Path| folder.join(manifest::FILE_NAME).is_file();
    let executable = std::env::current_exe().unwrap_or_default();
    let beside = executable.with_file_name("model");
    if is_model(&beside) {
        return beside;
    }
    let nano = Path::new("model").join("nano");
    executable.ancestors().skip(1).map(|folder| folder.join(&nano)).find(|f| is_model(f)).unwrap_or(nano)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn concurrency_is_what_lambda_says() {
        let of = |text: &str| read(&[(CONCURRENCY, text)]);
        assert_eq!(read(&[]).unwrap().concurrency, 1);
        assert_eq!(["", "1", "16", "1600"].map(|text| of(text).unwrap().concurrency), [1, 1, 16, 1600]);
        for text in ["0", "1601", "-1", "two"] {
            assert!(of(text).unwrap_err().faults[0].starts_with(CONCURRENCY), "{text}");
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = read(&[]).unwrap();
        let documented = |name: &str| SETTINGS.iter().find(|s| s.name == name).unwrap().default;
        assert_eq!(config.max_source_pixels.to_string(), documented("MAX_SOURCE_PIXELS"));
        assert_eq!(config.max_body_bytes.to_string(), documented("MAX_BODY_BYTES"));
        assert_eq!(config.max_object_bytes.to_string(), documented("MAX_OBJECT_BYTES"));
        assert_eq!(config.max_wait.as_millis().to_string(), documented("MAX_WAIT_MS"));
        assert_eq!(config.output_prefix, documented("OUTPUT_PREFIX"));
        assert_eq!(config.upload_prefix, documented("UPLOAD_PREFIX"));
        assert_eq!(config.upload_expires.as_secs().to_string(), documented("UPLOAD_EXPIRES_S"));
        assert_eq!(config.log, None);
        let names: Vec<_> = config.outputs.iter().map(|k| k.name()).collect();
        assert_eq!(names.join(","), documented("OUTPUTS"));
    }

    #[test]
    fn the_documentation_lists_every_setting() {
        let page = include_str!("../docs/configuration.md");
        let listed: Vec<_> = page.lines().filter(|line| line.starts_with("| `M2FP_")).collect();
        let expected: Vec<_> =
            SETTINGS.iter().map(|s| format!("| `{PREFIX}{}` | {} | {} |", s.name, s.default, s.meaning)).collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults = read(&[
            ("M2FP_MEMORY_MB", "lots"),
            ("M2FP_PRELOAD", "maybe"),
            ("M2FP_OUTPUTS", "mask,faces"),
            ("M2FP_S3_ENDPOINT", "ftp://x"),
            ("M2FP_MEMRY_MB", "512"),
        ])
        .unwrap_err()
        .faults;
        assert_eq!(faults.len(), 5, "{faults:?}");
    }

    #[test]
    fn uploads_have_a_folder_of_their_own() {
        for (prefix, output_bucket, output_prefix) in [
            ("uploads", "out", "masks/"),
            ("../uploads/", "out", "masks/"),
            ("/", "out", "masks/"),
            ("masks/", "up", "masks/"),
            ("masks/new/", "up", "masks/"),
            ("all/", "up", "all/masks/"),
            ("masks/", "", "masks/"),
        ] {
            let vars = [
                ("M2FP_UPLOAD_BUCKET", "up"),
                ("M2FP_UPLOAD_PREFIX", prefix),
                ("M2FP_OUTPUT_BUCKET", output_bucket),
                ("M2FP_OUTPUT_PREFIX", output_prefix),
            ];
            assert!(read(&vars).is_err(), "{prefix} beside {output_bucket}/{output_prefix}");
        }
        let config = read(&[("M2FP_UPLOAD_BUCKET", "up"), ("M2FP_OUTPUT_BUCKET", "up")]).unwrap();
        assert!(config.is_upload("up", "uploads/a"));
        assert!(!config.is_upload("up", "masks/a") && !config.is_upload("out", "uploads/a"));
        assert!(!read(&[]).unwrap().is_upload("up", "uploads/a"));
    }

    #[test]
    fn variables_of_kubernetes_services_are_no_settings() {
        for service in ["M2FP", "M2FP_API", "M2FP_SERVICE", "M2FP_MAX", "M2FP_PORT"] {
            for (rest, value) in [
                ("SERVICE_HOST", "10.0.0.7"),
                ("SERVICE_PORT", "80"),
                ("SERVICE_PORT_HTTP", "80"),
                ("SERVICE_PORT_HTTP_METRICS", "9090"),
                ("PORT", "tcp://10.0.0.7:80"),
                ("PORT_80_TCP", "tcp://10.0.0.7:80"),
                ("PORT_80_TCP_PROTO", "tcp"),
                ("PORT_80_TCP_PORT", "80"),
                ("PORT_80_TCP_ADDR", "10.0.0.7"),
                ("PORT_53_UDP", "udp://10.0.0.7:53"),
                ("PORT_9_SCTP_ADDR", "10.0.0.7"),
            ] {
                let name = format!("{service}_{rest}");
                assert!(read(&[(&name, value)]).is_ok(), "{name}={value}");
            }
        }
        for (name, value) in [
            ("M2FP_PORT", "9000"),
            ("M2FP_PORT", "http://x"),
            ("M2FP_PORT_80", "tcp://10.0.0.7:80"),
            ("M2FP_PORT_80_TCP_HOST", "x"),
            ("M2FP_PORT_HTTP_TCP", "x"),
            ("M2FP_SERVICE", "x"),
            ("M2FP_HOST", "10.0.0.7"),
        ] {
            assert!(read(&[(name, value)]).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn origins_are_what_a_browser_sends() {
        let origins = |text: &str| read(&[("M2FP_CORS_ORIGIN", text)]).map(|config| config.cors_origins);
        for (text, expected) in [
            ("", &[][..]),
            ("*", &["*"]),
            ("https://example.com", &["https://example.com"]),
            ("https://example.com\n", &["https://example.com"]),
            ("https://a.example, http://localhost:3000", &["https://a.example", "http://localhost:3000"]),
            ("http://[::1]:8080,http://[::1]", &["http://[::1]:8080", "http://[::1]"]),
            ("chrome-extension://abcdef", &["chrome-extension://abcdef"]),
            ("https://xn--bcher-kva.example:8443", &["https://xn--bcher-kva.example:8443"]),
        ] {
            assert_eq!(origins(text).unwrap(), expected, "{text}");
        }
        for text in [
            "example.com",
            "null",
            "https://a.example https://b.example",
            "https://example.com/",
            "https://example.com/page",
            "https://*.example.com",
            "*,https://example.com",
            "https://Example.com",
            "HTTPS://example.com",
            "https://bücher.example",
            "https://example.com:443",
            "http://example.com:80",
            "https://user@example.com",
            "https://example.com:port",
            "https://",
            "://example.com",
            "https://:8443",
            "https://a.example,b.example",
        ] {
            assert!(origins(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_token_is_what_its_file_holds_without_the_line_break() {
        for text in ["s3cret", "s3cret\n", " s3cret\r\n"] {
            let config = read(&[("M2FP_BEARER_TOKEN", text)]).unwrap();
            assert_eq!(config.bearer_token.unwrap().expose(), "s3cret");
        }
        assert!(read(&[("M2FP_BEARER_TOKEN", "")]).unwrap().bearer_token.is_none());
        // Blank is no token, and no token would be an open door.
        for text in ["\n", " ", "one\ntwo"] {
            assert!(read(&[("M2FP_BEARER_TOKEN", text)]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn switches_are_words_in_any_case() {
        for (text, expected) in
            [("on", true), ("True", true), ("YES", true), ("1", true), ("Off", false), ("no", false)]
        {
            assert_eq!(read(&[("M2FP_PRELOAD", text)]).unwrap().preload, expected, "{text}");
        }
        assert!(read(&[("M2FP_PRELOAD", "maybe")]).unwrap_err().to_string().contains("on or off"));
    }

    #[test]
    fn the_token_does_not_show() {
        let config = read(&[("M2FP_BEARER_TOKEN", "s3cret")]).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn lambdas_logging_controls_hold_where_no_setting_does() {
        let log = |vars: &[(&str, &str)]| {
            let config = read(vars).unwrap();
            (config.log_level("info").to_owned(), config.log_format)
        };
        let (level, format) = ("AWS_LAMBDA_LOG_LEVEL", "AWS_LAMBDA_LOG_FORMAT");
        assert_eq!(log(&[]), ("info".to_owned(), None));
        assert_eq!(log(&[(level, "WARN"), (format, "JSON")]), ("warn".to_owned(), Some(LogFormat::Json)));
        assert_eq!(log(&[(level, "FATAL"), (format, "Text")]), ("error".to_owned(), Some(LogFormat::Text)));
        assert_eq!(log(&[(level, "loud"), (format, "yaml")]), ("info".to_owned(), None));
        let ours = [(level, "WARN"), (format, "Text"), ("M2FP_LOG", "debug"), ("M2FP_LOG_FORMAT", "json")];
        assert_eq!(log(&ours), ("debug".to_owned(), Some(LogFormat::Json)));
        // Lambda goes on dropping lines, whatever the function's own level is.
        assert_eq!(read(&ours).unwrap().lambda_log_level, Some(LambdaLogLevel::Warn));
        assert!(read(&[("M2FP_LOG_FORMAT", "xml")]).unwrap_err().to_string().contains("json or text"));
    }

    #[test]
    fn a_setting_cannot_raise_the_function_size() {
        let config = read(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"), ("M2FP_MEMORY_MB", "4096")]).unwrap();
        assert!(config.memory_limit_bytes() <= 256 << 20);
    }
}
