//! `m2fp config`: the settings in force.

use std::fmt::Write;

use super::say;
use crate::config::{Config, LogFormat, PREFIX, SETTINGS};
use crate::units::whole_mb;

/// Every setting with its default, for `--help`.
pub(crate) fn settings_help() -> String {
    let mut text = "Settings (environment variables):\n".to_owned();
    for setting in SETTINGS {
        let _ = writeln!(text, "  {PREFIX}{}\n      {} [default: {}]", setting.name, setting.meaning, setting.default);
    }
    text
}

/// Prints every setting with the value in force; the token is only said to be set.
///
/// # Errors
/// When standard output takes no line.
pub fn print(config: &Config) -> anyhow::Result<()> {
    for (setting, value) in SETTINGS.iter().zip(values(config)) {
        say::line(format_args!("{PREFIX}{:<18} {value}", setting.name))?;
    }
    say::line(format_args!("memory limit in force: {} MB", whole_mb(config.memory_limit_bytes())))
}

/// One value per entry of [`SETTINGS`], in its order.
fn values(config: &Config) -> [String; 24] {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let outputs: Vec<_> = config.outputs.iter().map(|kind| kind.name()).collect();
    [
        config.model_dir.display().to_string(),
        config.memory_mb.map_or_else(|| "found".to_owned(), |mb| mb.to_string()),
        config.max_source_pixels.to_string(),
        config.max_body_bytes.to_string(),
        config.max_object_bytes.to_string(),
        config.tile_above_px.map_or_else(|| "off".to_owned(), |px| px.to_string()),
        if config.flip { "on" } else { "off" }.to_owned(),
        or_none(&config.output_bucket),
        config.output_prefix.clone(),
        outputs.join(","),
        if config.allowed_buckets.is_empty() {
            "those of the event".to_owned()
        } else {
            config.allowed_buckets.join(",")
        },
        or_none(&config.upload_bucket),
        config.upload_prefix.clone(),
        config.upload_expires.as_secs().to_string(),
        if config.bearer_token.is_some() { "set" } else { "none" }.to_owned(),
        if config.cors_origins.is_empty() { "none".to_owned() } else { config.cors_origins.join(",") },
        config.threads.to_string(),
        if config.preload { "on" } else { "off" }.to_owned(),
        if config.response_stream { "on" } else { "off" }.to_owned(),
        config.max_wait.as_millis().to_string(),
        or_none(&config.s3_endpoint),
        if config.metrics == Some(true) { "on" } else { "off" }.to_owned(),
        config.log_level("warn").to_owned(),
        config.log_format.unwrap_or(LogFormat::Text).name().to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_value() {
        let config = Config::from_vars([]).unwrap();
        assert_eq!(values(&config).len(), SETTINGS.len());
        assert!(settings_help().contains("M2FP_MAX_WAIT_MS"));
    }
}
