//! Photos a second of a folder by `m2fp parse`, one at a time and several at once, their rounds in turn, loading included.
//! `cargo bench --bench folder`.

mod figures;
mod photo;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use m2fp::geometry::Size;

const JOBS: [&str; 3] = ["1", "2", "3"];
const ROUNDS: usize = 3;
const PHOTOS: usize = 50;

/// Photos a second.
fn rate(photos: &Path, out: &Path, outputs: &str, jobs: &str) -> f64 {
    let start = Instant::now();
    let done = Command::new(env!("CARGO_BIN_EXE_m2fp"))
        .args(["parse", "--output", outputs, "--jobs", jobs, "--model"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano"))
        .arg(photos)
        .arg("-o")
        .arg(out)
        .output()
        .expect("m2fp starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    PHOTOS as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, out) = (folder.path().join("photos"), folder.path().join("out"));
    std::fs::create_dir(&photos).unwrap();
    let photo = photo::astronaut(Size::new(1920, 1080));
    for index in 0..PHOTOS {
        std::fs::write(photos.join(format!("{index}.jpg")), &photo).unwrap();
    }
    println!("{:<20} {:>8} {:>10} {:>14}", "outputs", "at once", "photos/s", "of 1 at once");
    for outputs in ["mask", "mask,overlay,json"] {
        let mut measured = JOBS.map(|_| (Vec::new(), Vec::new()));
        for _ in 0..ROUNDS {
            let mut alone = None;
            for (jobs, (rates, ratios)) in JOBS.iter().zip(&mut measured) {
                let rate = rate(&photos, &out, outputs, jobs);
                rates.push(rate);
                ratios.push(rate / *alone.get_or_insert(rate));
            }
        }
        for (jobs, (rates, ratios)) in JOBS.iter().zip(&mut measured) {
            println!("{outputs:<20} {jobs:>8} {:>10.2} {:>14.2}", figures::median(rates), figures::median(ratios));
        }
    }
}
