//! What decoding holds is what was predicted: measured as a process's peak resident memory, C libraries included.
//!
//! Each file is decoded in a process of its own (this test's executable again), so that nothing freed before can be
//! used again unseen.

#![cfg(target_os = "linux")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use m2fp::geometry::Size;
use m2fp::image::{decode, header};
use m2fp::memory::blob::Blob;

use crate::support::reference;

/// What the allocator's blocks may add, and the pages that a library writes once, when it is first used.
const SLACK_BYTES: u64 = 1 << 20;
/// Names the file for a child.
const FILE: &str = "M2FP_TEST_MEMORY_FILE";

/// Peak resident memory of this process in bytes.
fn peak() -> u64 {
    let bytes = m2fp::sys::peak_rss_bytes();
    assert!(bytes > 0, "Linux says the peak");
    bytes
}

/// Makes every page of the code resident, so that the peak grows by what decoding holds alone: how many pages of a file
/// become resident when one of them is read depends on the machine, and on what it read before.
fn read_all_code() {
    let memory = std::fs::File::open("/proc/self/mem").expect("Linux shows a process its memory");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux lists a process's memory");
    for map in maps.lines().filter(|map| map.contains(" r") && map.contains('/')) {
        let (range, _) = map.split_once(' ').expect("a range, then the rest");
        let (start, end) = range.split_once('-').expect("a start and an end");
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).expect("an address"));
        for page in (start..end).step_by(4096) {
            memory.read_exact_at(&mut [0], page).expect("what is mapped can be read");
        }
    }
}

/// Not a test of its own: what a child does. Prints predicted and measured bytes.
#[test]
fn child() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let bytes = Blob::from(std::fs::read(&file).expect("the file"));
    let header = header::read(&bytes, u64::MAX).expect("a header");
    let target = header.orientation.upright(Size::new(960, 640));
    read_all_code();
    let before = peak();
    let image = decode::resized(&bytes, &header, target);
    let held = peak() - before;
    match image {
        Ok(image) => assert_eq!(image.size, target),
        Err(error) => assert!(file.to_string_lossy().contains("broken"), "{error}"),
    }
    println!("measured {} {held}", decode::resized_bytes(&header, target));
}

fn measured(file: &Path) -> (u64, u64) {
    let executable = std::env::current_exe().expect("this test");
    let mut command = Command::new(executable);
    let run = command
        .args(["--exact", "image_memory::child", "--nocapture"])
        .env(FILE, file)
        .output()
        .expect("it starts again");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{}: {text}{}", file.display(), String::from_utf8_lossy(&run.stderr));
    let at = text.find("measured ").expect("the child measures");
    let mut numbers = text[at..].split_whitespace().skip(1).map(|number| number.parse().expect("a number"));
    (numbers.next().expect("predicted"), numbers.next().expect("measured"))
}

#[test]
fn predictions_hold() {
    let out = tempfile::tempdir().expect("a temporary folder");
    reference::write(out.path(), &["large"]);
    #[cfg(feature = "avif")]
    write_heifs(out.path(), *b"avif", &["large.avif", "large-444.avif", "large-grain.avif"]);
    #[cfg(feature = "heic")]
    write_heifs(out.path(), *b"heic", &["large.heic"]);
    let mut names: Vec<_> =
        std::fs::read_dir(out.path()).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    assert!(names.len() > 20);
    let mut faults = Vec::new();
    for name in names {
        let (predicted, held) = measured(&out.path().join(&name));
        let line = format!("{:28} predicted {predicted:>9}, measured {held:>9} bytes", name.display());
        println!("{line}");
        if held > predicted + SLACK_BYTES {
            faults.push(line);
        }
    }
    assert!(faults.is_empty(), "held more than predicted:\n{}", faults.join("\n"));
}

/// Files in one piece, and photos in a phone's tiles, without and with alpha.
#[cfg(any(feature = "avif", feature = "heic"))]
fn write_heifs(out: &Path, brand: [u8; 4], files: &[&str]) {
    use crate::support::heif;

    let write = |name: &str, bytes: Vec<u8>| std::fs::write(out.join(name), bytes).expect("the file");
    for name in files {
        write(name, heif::file(name));
    }
    write(&format!("tiles-{}", brand.escape_ascii()), heif::photo(brand, 6, 4));
    write(&format!("alpha-{}", brand.escape_ascii()), heif::photo_with_alpha(brand, 6, 4));
}
