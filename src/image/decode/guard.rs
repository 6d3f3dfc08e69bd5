//! A guard around decoders: a decoder's panic is the file's fault, and the sink's panic is the program's own.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::row::{Row, RowSink, undecodable};
use crate::error::Result;

/// Runs `decode` with `sink`. libjpeg's fatal errors arrive as panics too.
///
/// # Errors
/// `Undecodable` for a decoder's panic, otherwise what `decode` returns.
///
/// # Panics
/// When `sink` panics.
pub fn decoder(sink: RowSink<'_>, decode: impl FnOnce(RowSink<'_>) -> Result<()>) -> Result<()> {
    let mut in_sink = false;
    let mut watched = |row: Row<'_>| {
        in_sink = true;
        let result = sink(row);
        in_sink = false;
        result
    };
    // Nothing that the decoder touched is used after a panic.
    match catch_unwind(AssertUnwindSafe(|| decode(&mut watched))) {
        Ok(result) => result,
        Err(panic) if in_sink => resume_unwind(panic),
        Err(_) => Err(undecodable("its data is damaged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_decoders_panic_is_undecodable() {
        let result = decoder(&mut |_| Ok(()), |_| resume_unwind(Box::new("libjpeg")));
        assert!(matches!(result, Err(Error::Undecodable { .. })));
    }

    #[test]
    fn a_sinks_panic_passes() {
        let panics = || decoder(&mut |_| resume_unwind(Box::new("ours")), |sink| sink(Row { rgb: &[], alpha: None }));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    }
}
