//! What the commands say: results on standard output, everything else on standard error.
//!
//! Any line may fail, on a full disk for example, and `println!` would panic then. A reader that goes away, as in
//! `… | head`, ends the process quietly instead ([`crate::sys::end_on_broken_pipe`]).

use std::fmt::Arguments;
use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;

/// How faults call it.
pub(super) const STDOUT: &str = "standard output";

/// Writes a line to standard output.
pub(super) fn line(text: Arguments<'_>) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context(STDOUT)
}

/// Writes a line of JSON to standard output.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value).context(STDOUT)?;
    writeln!(out).context(STDOUT)
}

/// What `--json` says of one photo. Each photo has its line, also one that failed.
#[derive(Serialize)]
struct PhotoLine<'a, T> {
    /// The photo as messages call it.
    file: &'a str,
    #[serde(flatten)]
    said: T,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

/// Writes a line of JSON about the photo `file`: what is `said` of it, or why it failed.
pub(super) fn photo<T: Serialize>(file: &str, said: Result<T, &anyhow::Error>) -> anyhow::Result<()> {
    match said {
        Ok(said) => json(&PhotoLine { file, said }),
        Err(error) => json(&PhotoLine { file, said: Failure { error: format!("{error:#}") } }),
    }
}

/// Writes a line to standard error. Where even that fails, there is nobody to tell.
pub(super) fn note(text: Arguments<'_>) {
    _ = writeln!(std::io::stderr().lock(), "{text}");
}
