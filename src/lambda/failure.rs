//! Errors as Lambda function errors.

use lambda_runtime::Diagnostic;

use crate::error::{Error, Fault};

/// A failed invocation, as the caller sees it. Step Functions catch and retry by `name`: the problem's code of the HTTP
/// door (`undecodable`, `busy`, …).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {sentence}")]
pub struct Failure {
    pub name: &'static str,
    pub sentence: String,
}

impl Failure {
    /// Logs `error` with its causes and keeps what the caller may see.
    #[must_use]
    pub fn new(error: &Error, request_id: &str) -> Self {
        error.log(request_id);
        let sentence = match error.fault() {
            Fault::Internal => format!("internal error; the log has it under request id {request_id}"),
            Fault::Client | Fault::Capacity | Fault::Upstream => error.to_string(),
        };
        Self { name: error.code(), sentence }
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self { error_type: failure.name.to_owned(), error_message: failure.sentence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_problems_code() {
        let failure = Failure::new(&Error::Undecodable { detail: "it ends early".into() }, "r");
        let diagnostic = Diagnostic::from(failure);
        assert_eq!(diagnostic.error_type, "undecodable");
        assert_eq!(diagnostic.error_message, "the image cannot be decoded: it ends early");
    }

    #[test]
    fn causes_stay_in_the_log() {
        let failure = Failure::new(&Error::internal("disk on fire"), "r-1");
        assert!(!failure.sentence.contains("fire") && failure.sentence.contains("r-1"));
    }
}
