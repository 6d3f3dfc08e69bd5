//! What post-processing and rendering hold is what was predicted: measured as a process's peak resident memory, each
//! case in a process of its own (this test's executable again).

#![cfg(target_os = "linux")]

use std::process::Command;

use m2fp::geometry::Size;
use m2fp::manifest::LabelMap;
use m2fp::parsing::{self, Answers, BAND_ROWS, Grid, View};
use m2fp::render::label_png::{LabelPng, label_png_bytes};
use m2fp::render::report::{Stats, stats_bytes};

use crate::support::drawn;
use crate::support::drawn::Case;

/// What the code's own pages, which become resident when it runs, threads' stacks and the allocator's blocks may add.
const SLACK_BYTES: u64 = 3 << 20;
/// Names the case for a child.
const CASE: &str = "M2FP_TEST_MEMORY_CASE";

const CASES: [&str; 15] = [
    "nano 1920x1080",
    "nano-paste 1920x1080",
    "m2fp 1920x1080",
    "nano 12000x900",
    "m2fp 900x9000",
    "lip 3000x4000",
    "lip 6000x150",
    "tiled-nano 3000x2000",
    "tiled-m2fp 3000x2000",
    "tiled-nano 400x9000",
    "tiled-crowd 3000x2000",
    "flip-nano 1920x1080",
    "flip-m2fp 1920x1080",
    "flip-tiled-nano 3000x2000",
    "flip-tiled-m2fp 3000x2000",
];

fn case(name: &str) -> Case {
    let (model, photo) = name.split_once(' ').expect("a model and a size");
    let (width, height) = photo.split_once('x').expect("a width and a height");
    let photo = Size::new(width.parse().expect("a width"), height.parse().expect("a height"));
    match model.trim_start_matches("flip-") {
        "nano" | "tiled-nano" => drawn::nano(LabelMap::Semantic, photo.shortest_edge(384, 800), photo),
        "nano-paste" => drawn::nano(LabelMap::Paste, photo.shortest_edge(384, 800), photo),
        "lip" => drawn::lip(photo),
        "tiled-crowd" => drawn::crowd(photo.shortest_edge(640, 1333), photo),
        _ => drawn::m2fp(photo.shortest_edge(640, 1333), photo),
    }
}

/// Where tiles lie, at twice the working size but no more pixels than the photo has, in a case that has some.
fn tiles(name: &str, case: &Case) -> Option<Grid> {
    let size = case.photo.fit_within(2 * case.working.size.long_side());
    name.contains("tiled").then(|| Grid::new(size, case.manifest.input.size.divisor()))
}

/// Peak resident memory of this process in bytes.
fn peak() -> u64 {
    let bytes = m2fp::sys::peak_rss_bytes();
    assert!(bytes > 0, "Linux says the peak");
    bytes
}

/// Not a test of its own: what a child does. Prints predicted and measured bytes.
#[test]
fn child() {
    let Ok(name) = std::env::var(CASE) else { return };
    let (case, flip) = (case(&name), name.starts_with("flip"));
    let (manifest, size, threads) = (&case.manifest, case.photo, rayon::current_num_threads());
    let grid = tiles(&name, &case);
    let answers = |size: Size, flip: bool| Answers { plain: case.tile(size), mirrored: flip.then(|| case.tile(size)) };
    let whole = answers(case.padded, flip && grid.is_none());
    let view = View::of(&whole, case.padded, case.working, size).expect("a sound geometry");
    // Threads start before the measuring.
    drop(parsing::find(&view, manifest, Some(1.0), BAND_ROWS));
    let before = peak();
    let mut found = parsing::find(&view, manifest, None, BAND_ROWS);
    let mut png = LabelPng::new(size, &manifest.palette()).expect("a palette");
    let mut stats = Stats::new(size, manifest, true);
    let mut push = |band: &parsing::Band<'_>| {
        stats.push(band);
        png.push(band.labels)
    };
    let geometry = manifest.geometry(case.working.size);
    let predicted = if let Some(grid) = grid {
        let predicted = parsing::tiled_bytes(&geometry, &grid, size, manifest, flip, BAND_ROWS, threads);
        let tiles = parsing::Tiles::new(grid, manifest, None, |region| Ok(answers(region.size, flip)));
        let more = parsing::tiled_bands(&view, manifest, &found, tiles, BAND_ROWS, &mut push);
        found.persons.extend(more.expect("a sink that succeeds"));
        assert!(!name.contains("crowd") || found.persons.len() == 200, "as many again as one answer may have");
        predicted
    } else {
        parsing::bands(&view, manifest, &found, BAND_ROWS, &mut push).expect("a sink that succeeds");
        parsing::bytes(&geometry, size, manifest, flip, BAND_ROWS, threads)
    };
    let counted = stats.finish(manifest, &found);
    let file = png.finish().expect("every row");
    let held = peak() - before;
    assert!(!counted.classes.is_empty() && !file.is_empty());
    let rendered = label_png_bytes(size) + stats_bytes(size, manifest, name.contains("tiled"), true);
    println!("measured {predicted} {rendered} {held}");
}

#[test]
fn predictions_hold() {
    let executable = std::env::current_exe().expect("this test");
    for name in CASES {
        let mut command = Command::new(&executable);
        let run = command
            .args(["--exact", "parsing_memory::child", "--nocapture"])
            .env(CASE, name)
            .output()
            .expect("it starts again");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&run.stderr));
        let at = text.find("measured ").expect("the child measures");
        let numbers: Vec<u64> =
            text[at..].split_whitespace().skip(1).take(3).map(|number| number.parse().expect("a number")).collect();
        let [parsed, rendered, held] = numbers[..] else { panic!("three numbers") };
        println!("{name:22} predicted {parsed:>9} + {rendered:>9}, measured {held:>9} bytes");
        assert!(held <= parsed + rendered + SLACK_BYTES, "{name}: {held} bytes held, {} predicted", parsed + rendered);
    }
}
