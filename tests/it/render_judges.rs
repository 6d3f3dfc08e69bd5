//! Other people's programs as judges: Pillow reads our PNG and JPEG files, pycocotools our RLE.

use std::path::Path;

use m2fp::geometry::Size;
use m2fp::image::Rgb8;
use m2fp::image::decode::Row;
use m2fp::manifest::LabelMap;
use m2fp::parsing;
use m2fp::render::cutout::{Cutout, Foreground};
use m2fp::render::label_png::{LabelPng, instance_palette};
use m2fp::render::overlay::{OverlayLabels, overlay_size};
use m2fp::render::report::Stats;

use crate::support::drawn;
use crate::support::drawn::Case;
use crate::support::judge;

const ALPHA: f32 = 0.6;

/// Smooth colours.
fn photo(size: Size) -> Rgb8 {
    let pixel = |i: u32| {
        let (x, y) = (i % size.width, i / size.width);
        [x * 255 / size.width, y * 255 / size.height, (x + y) * 255 / (size.width + size.height)].map(|v| v as u8)
    };
    Rgb8 { size, data: (0..size.area() as u32).flat_map(pixel).collect() }
}

/// Renders everything of `case` into `folder`.
fn render(case: &Case, band_rows: u32, folder: &Path) -> m2fp::error::Result<()> {
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("the folder can be written");
    let (view, manifest, size) = (case.view(), &case.manifest, case.photo);
    let found = parsing::find(&view, manifest, None, band_rows);
    let (palette, numbers) = (manifest.palette(), instance_palette(found.persons.len()));
    let mut mask = LabelPng::new(size, &palette)?;
    let mut index = LabelPng::grey(size)?;
    let mut instances = LabelPng::new(size, &numbers)?;
    let mut overlay = OverlayLabels::new(size);
    let mut foreground = Foreground::new(size, manifest.background_id);
    let mut stats = Stats::new(size, manifest, true);
    let (mut all_labels, mut all_instances) = (Vec::new(), Vec::new());
    let mut own: Vec<Vec<u8>> = vec![Vec::new(); found.persons.len()];
    parsing::bands(&view, manifest, &found, band_rows, &mut |band| {
        stats.push(band);
        overlay.push(band);
        foreground.push(band);
        all_labels.extend_from_slice(band.labels);
        all_instances.extend_from_slice(band.instances);
        for (person, own) in own.iter_mut().enumerate() {
            for row in 0..band.rows as usize {
                let bits = band.mask_row(person, row);
                own.extend((0..band.width as usize).map(|x| (bits[x / 64] >> (x % 64) & 1) as u8));
            }
        }
        mask.push(band.labels)?;
        index.push(band.labels)?;
        instances.push(band.instances)
    })?;
    let full = photo(size);
    let mut cutout = Cutout::new(foreground)?;
    for (y, row) in full.data.chunks(size.width as usize * 3).enumerate() {
        cutout.push(y as u32, Row { rgb: row, alpha: None })?;
    }
    let small = photo(overlay_size(size));
    let counted = stats.finish(manifest, &found);
    assert!(counted.warnings.is_empty());

    write("mask.png", &mask.finish()?);
    write("index.png", &index.finish()?);
    write("instances.png", &instances.finish()?);
    write("cutout.png", &cutout.finish()?);
    write("overlay.jpg", &overlay.encode(&small, &palette, manifest.background_id, ALPHA)?);
    write("photo.rgb", &full.data);
    write("small.rgb", &small.data);
    write("labels.u8", &all_labels);
    write("instances.u8", &all_instances);
    for (index, own) in own.iter().enumerate() {
        write(&format!("person-{}.u8", index + 1), own);
    }
    let facts = serde_json::json!({
        "size": [size.width, size.height], "small": [small.size.width, small.size.height], "alpha": ALPHA,
        "palette": palette, "instance_palette": numbers, "classes": counted.classes, "persons": counted.persons,
    });
    write("facts.json", facts.to_string().as_bytes());
    Ok(())
}

fn judged(case: &Case, band_rows: u32) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    render(case, band_rows, folder.path()).expect("everything renders");
    judge::run("render_judges.py", &[folder.path().as_os_str()]);
}

#[test]
fn pillow_and_pycocotools_read_what_is_rendered() {
    judged(&drawn::nano(LabelMap::Semantic, Size::new(227, 128), Size::new(640, 361)), 32);
    judged(&drawn::m2fp(Size::new(341, 192), Size::new(701, 393)), 50);
}

#[test]
fn also_when_the_overlay_is_smaller_than_the_photo() {
    judged(&drawn::m2fp(Size::new(341, 192), Size::new(2500, 1406)), 32);
}

#[test]
fn also_a_photo_of_one_pixel_and_one_of_one_row() {
    for photo in [Size::new(1, 1), Size::new(200, 1), Size::new(1, 90)] {
        judged(&drawn::nano(LabelMap::Semantic, Size::new(227, 128), photo), 32);
    }
}
