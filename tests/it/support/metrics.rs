//! A pipeline whose lines of metrics a test reads.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use m2fp::pipeline::Pipeline;
use m2fp::telemetry::emf::Metrics;
use serde_json::Value;

/// Lines of metrics as they are written.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// What was written since the last call.
    pub fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How what was written since the last call ended, line by line: the one metric of `Parsed`, `Skipped`, … that it has.
    #[allow(dead_code, reason = "each test file uses its part")]
    pub fn ends(&self) -> Vec<&'static str> {
        let end = |line: Value| {
            assert_eq!(line["Parses"], 1.0, "{line}");
            let ends: Vec<_> = ENDS.into_iter().filter(|end| line.get(end).is_some()).collect();
            assert_eq!(ends.len(), 1, "{line}");
            assert_eq!(line[ends[0]], 1.0);
            ends[0]
        };
        self.take().into_iter().map(end).collect()
    }
}

#[allow(dead_code, reason = "each test file uses its part")]
const ENDS: [&str; 9] = [
    "Parsed",
    "Skipped",
    "ClientFaults",
    "Overtaken",
    "Busy",
    "TooLittleMemory",
    "Deadlines",
    "StorageFaults",
    "InternalFaults",
];

/// The pipeline, nobody else's yet, that writes its lines to `lines`.
pub fn counted(mut pipeline: Arc<Pipeline>, lines: &Lines) -> Arc<Pipeline> {
    let inner = Arc::get_mut(&mut pipeline).expect("nobody else has it");
    inner.metrics = Some(Metrics::new("f", &inner.manifest, lines.clone()));
    pipeline
}
