//! Logs: each entry is one line, of JSON on Lambda unless it is told otherwise, and plain text elsewhere. Logs never have image bytes, tokens or
//! presigned links. Metrics, which on Lambda are lines of the log too: [`emf`].

pub mod emf;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::LogFormat;

/// Installs the log writer (standard error) at `level`; a later call changes nothing.
pub fn init(level: &str, format: LogFormat) {
    if let Err(error) = subscriber(level, format, std::io::stderr).try_init() {
        tracing::debug!(%error, "logging was set up before");
    }
}

/// From now on a panic is a line of the log, like any other.
pub fn log_panics() {
    std::panic::set_hook(Box::new(log_panic));
}

/// The same log writer as [`init`] installs, with another destination.
pub fn subscriber<W>(level: &str, format: LogFormat, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // ONNX Runtime reports each optimisation at `info`; a directive of the setting's own overrides this.
    let filter = EnvFilter::try_new(format!("ort=warn,{level}")).unwrap_or_else(|_| EnvFilter::new("ort=warn,info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.without_time().with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    Registry::default().with(lines.with_filter(filter.and(FilterFn::new(is_discreet))))
}

/// Whether a line may be written whatever level was asked for. Below `info` other crates tell what they send and receive:
/// the runtime whole events, photos included; the SDK URLs with their signatures. At any level the runtime repeats each
/// failed invocation, which the function has logged, as an error whoever is at fault, in a span of its own with the
/// tracing header as it came.
fn is_discreet(line: &Metadata<'_>) -> bool {
    let is_ours = ["m2fp", "bootstrap", "ort"].contains(&line.target().split("::").next().unwrap_or_default());
    let is_repeated = ["lambda_runtime::layers::panic", "lambda_runtime::layers::trace"].contains(&line.target());
    is_ours || *line.level() <= Level::INFO && !is_repeated
}

/// Logs a panic as a line like any other. The outcome of its request is logged where the panic is caught.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("without a message");
    let place = panic.location().map(ToString::to_string);
    tracing::warn!(panic = text, place, "panic");
}
