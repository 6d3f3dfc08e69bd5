//! Logs: one JSON line an event on Lambda, plain text elsewhere. Never image bytes, tokens or presigned links.

use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Json,
    Text,
}

/// Installs the log writer (standard error) at `level`; a later call changes nothing.
pub fn init(level: &str, style: Style) {
    // ONNX Runtime reports each optimisation at `info`; a directive of the setting's own overrides this.
    let filter = EnvFilter::try_new(format!("ort=warn,{level}")).unwrap_or_else(|_| EnvFilter::new("ort=warn,info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match style {
        Style::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        Style::Text => builder.without_time().with_target(false).try_init(),
    };
    if let Err(error) = installed {
        tracing::debug!(%error, "logging was set up before");
    }
}
