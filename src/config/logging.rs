//! How the log is written, and Lambda's own logging controls, which Lambda tells the function by
//! `AWS_LAMBDA_LOG_FORMAT` and `AWS_LAMBDA_LOG_LEVEL` (AWS Lambda developer guide, "Configuring advanced logging
//! controls").

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    Text,
}

/// What [`LogFormat`] is written as.
pub(super) const LOG_FORMATS: &str = "json or text";

impl LogFormat {
    /// In any case, since Lambda writes `JSON` and `Text`; `None`: neither of the two.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [("json", Self::Json), ("text", Self::Text)]
            .into_iter()
            .find_map(|(name, format)| name.eq_ignore_ascii_case(text).then_some(format))
    }

    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// The level below which Lambda drops lines, where the function's log format at Lambda is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LambdaLogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl LambdaLogLevel {
    const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// `None`: not a level that Lambda knows.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text))
    }

    /// As Lambda reads it in a line.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// As a level of the function's own lines, of which none is worse than an error.
    #[must_use]
    pub const fn directive(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error | Self::Fatal => "error",
        }
    }

    /// Whether a line without a level, which Lambda takes for `INFO`, is dropped.
    #[must_use]
    pub(crate) fn drops_lines_without_level(self) -> bool {
        self > Self::Info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_levels_are_read_as_lambda_writes_them() {
        assert_eq!(LogFormat::parse("JSON"), Some(LogFormat::Json));
        assert_eq!(LogFormat::parse("Text"), Some(LogFormat::Text));
        assert_eq!(LogFormat::parse("yaml"), None);
        for level in LambdaLogLevel::ALL {
            assert_eq!(LambdaLogLevel::parse(level.name()), Some(level));
        }
        assert_eq!(LambdaLogLevel::parse("OFF"), None);
    }

    #[test]
    fn lines_without_a_level_pass_up_to_info() {
        use LambdaLogLevel::{Debug, Error, Fatal, Info, Trace, Warn};
        assert!([Trace, Debug, Info].into_iter().all(|level| !level.drops_lines_without_level()));
        assert!([Warn, Error, Fatal].into_iter().all(LambdaLogLevel::drops_lines_without_level));
    }

    #[test]
    fn every_level_is_one_that_our_lines_have() {
        for level in LambdaLogLevel::ALL {
            assert!(level.directive().parse::<tracing::Level>().is_ok(), "{level:?}");
        }
    }
}
