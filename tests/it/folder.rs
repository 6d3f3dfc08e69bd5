//! `m2fp parse` of a folder: several photos at once, in one account of memory.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A large photo first, so that smaller ones could overtake it.
const SAMPLES: [&str; 4] = ["sample", "sample-portrait", "sample-photographer", "sample"];
const OUTPUTS: [&str; 2] = ["mask.png", "overlay.jpg"];

/// What was written and told of the photos, but for time and memory.
#[derive(PartialEq)]
struct Parsed {
    reports: Vec<Value>,
    files: Vec<Vec<u8>>,
}

/// Runs the photos of `folder`. The second value is the log.
fn parse(folder: &Path, jobs: &str, memory_mb: &str) -> (Parsed, String) {
    let out = folder.join(format!("out-{jobs}-{memory_mb}"));
    let done = Command::new(env!("CARGO_BIN_EXE_m2fp"))
        .args(["parse", "--output", "mask,overlay", "--json", "--jobs", jobs, "--memory", memory_mb, "--model"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("model/pico"))
        .arg(folder.join("photos"))
        .arg("-o")
        .arg(&out)
        // Is for requests: here a photo waits as long as those before it take.
        .envs([("M2FP_MAX_WAIT_MS", "0"), ("M2FP_LOG", "info")])
        .output()
        .expect("m2fp starts");
    let log = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{log}");
    let reports = String::from_utf8(done.stdout).unwrap();
    let report = |line: &str| {
        let mut report: Value = serde_json::from_str(line).unwrap();
        for one_runs in ["timings_ms", "memory"] {
            assert!(report.as_object_mut().unwrap().remove(one_runs).is_some());
        }
        report
    };
    let names = (0..SAMPLES.len()).flat_map(|index| OUTPUTS.map(|kind| format!("{index}.jpg.{kind}")));
    let files = names.map(|name| std::fs::read(out.join(name)).unwrap()).collect();
    (Parsed { reports: reports.lines().map(report).collect(), files }, log)
}

/// Whether any photo was planned before one in front of it was parsed.
fn overlap(log: &str) -> bool {
    let line = |index: usize, told: &str| {
        let photo = format!("/{index}.jpg\"");
        log.lines().position(|line| line.contains(told) && line.contains(&photo)).expect(told)
    };
    (1..SAMPLES.len()).any(|index| line(index, "planned") < line(index - 1, "parsed"))
}

#[test]
fn photos_at_once_give_what_they_give_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for (index, name) in SAMPLES.iter().enumerate() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/http/page/{name}.jpg"));
        std::fs::copy(sample, photos.join(format!("{index}.jpg"))).unwrap();
    }
    // In 2 GB there is room for two, in 128 MB for one.
    for memory_mb in ["2000", "128"] {
        let (one_by_one, log) = parse(folder.path(), "1", memory_mb);
        assert!(!overlap(&log), "{log}");
        let (at_once, log) = parse(folder.path(), "2", memory_mb);
        assert_eq!(one_by_one.reports, at_once.reports, "{memory_mb} MB");
        assert!(one_by_one.files == at_once.files, "{memory_mb} MB");
        assert!(overlap(&log), "{log}");
    }
}
