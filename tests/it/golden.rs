//! The packaged model on a photo that may be shipped, against masks looked at by a person.
//!
//! `M2FP_GOLDEN=write cargo test --test it golden` writes the masks anew; look at them before committing. A failing
//! test leaves the mask it got, and the pixels that differ, in the target folder.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use m2fp::config::Config;
use m2fp::options::{Options, OutputKind, RawOptions};
use m2fp::pipeline::{Context, Outcome, Pipeline, Source};

/// Pixels that may differ: other processors round convolutions differently, which moves edges by a pixel here and there.
const MAX_DIFFERENT_FRACTION: f64 = 0.005;
/// Scores that may differ.
const MAX_DIFFERENT_SCORE: f32 = 0.01;

struct Golden {
    name: &'static str,
    query: &'static str,
    /// Classes that a person sees in the photo, by name; each must cover this fraction of it.
    classes: &'static [(&'static str, std::ops::Range<f64>)],
}

const ASTRONAUT: Golden = Golden {
    name: "astronaut",
    query: "output=mask,instances",
    classes: &[("Background", 0.4..0.7), ("Face", 0.02..0.08), ("Hair", 0.02..0.12)],
};

const ASTRONAUT_SMALL: Golden = Golden {
    name: "astronaut-256",
    query: "output=mask,instances&max_side=256",
    classes: &[("Background", 0.4..0.7), ("Face", 0.02..0.08), ("Hair", 0.02..0.12)],
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn astronaut() -> Bytes {
    let path = root().join(".runtime/photos/astronaut.png");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `make runtime` fetches it", path.display())).into()
}

async fn parse(photo: Bytes, query: &str) -> Outcome {
    let mut config = Config::from_vars([]).unwrap();
    config.model_dir = root().join("model/nano");
    let pipeline = Pipeline::new(config, None).unwrap();
    let options = Options::check(&RawOptions::from_query(query).unwrap(), &[OutputKind::Mask]).unwrap();
    let context = Context { request_id: "golden".into(), deadline: None };
    let prepared = pipeline.begin(&context).prepare(Source::Bytes(photo.into()), options).await.unwrap();
    pipeline.begin(&context).run(prepared).await.unwrap()
}

/// Width, height and indices of a palette PNG.
fn indices(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((frame.color_type, frame.bit_depth), (png::ColorType::Indexed, png::BitDepth::Eight));
    (frame.width, frame.height, pixels)
}

fn leave(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn grey_png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    file
}

fn compare(name: &str, got: &[u8]) {
    let golden = root().join("tests/golden").join(name);
    if std::env::var_os("M2FP_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&golden, got).unwrap();
    }
    let want = indices(&std::fs::read(&golden).unwrap_or_else(|error| panic!("{}: {error}", golden.display())));
    let have = indices(got);
    assert_eq!((have.0, have.1), (want.0, want.1), "{name}: another size");
    let difference: Vec<u8> = have.2.iter().zip(&want.2).map(|(a, b)| u8::from(a != b) * 255).collect();
    let fraction = difference.iter().filter(|&&d| d > 0).count() as f64 / difference.len() as f64;
    if fraction > MAX_DIFFERENT_FRACTION {
        let got = leave(name, got);
        let difference = leave(&format!("{name}.difference.png"), &grey_png(have.0, have.1, &difference));
        panic!(
            "{name}: {:.2} % of the pixels differ; see {} and {}",
            fraction * 100.0,
            got.display(),
            difference.display()
        );
    }
}

async fn check(golden: &Golden) {
    let outcome = parse(astronaut(), golden.query).await;
    for output in &outcome.outputs {
        compare(&format!("{}.{}.png", golden.name, output.kind.name()), &output.bytes);
    }
    for (name, range) in golden.classes {
        let class = outcome.report.classes.iter().find(|class| class.name == *name);
        let fraction = class.unwrap_or_else(|| panic!("no {name}")).fraction;
        assert!(range.contains(&fraction), "{name} covers {fraction}");
    }
    assert_eq!(outcome.report.persons.len(), 1);
    assert!(outcome.report.memory.is_some_and(|memory| memory.peak_rss_mb > 0));
}

#[tokio::test]
async fn the_astronaut_at_the_native_size() {
    check(&ASTRONAUT).await;
}

#[tokio::test]
async fn the_astronaut_at_a_smaller_size() {
    check(&ASTRONAUT_SMALL).await;
}

#[tokio::test]
async fn scores_do_not_depend_on_what_is_asked_for() {
    let few = parse(astronaut(), "output=json").await.report;
    let all = parse(astronaut(), "output=mask,overlay,instances,cutout&rle=true").await.report;
    assert_eq!(few.classes.len(), all.classes.len());
    for (a, b) in few.classes.iter().zip(&all.classes) {
        assert_eq!((a.id, a.pixels, a.bbox), (b.id, b.pixels, b.bbox));
        let (a, b) = (a.score.unwrap_or(-1.0), b.score.unwrap_or(-1.0));
        assert!((a - b).abs() <= MAX_DIFFERENT_SCORE);
    }
}
