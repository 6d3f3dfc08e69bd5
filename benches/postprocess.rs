//! Post-processing of a 1080p photo: both passes, the figures of the report and the palette PNG, as one answer needs
//! them, and the renderers alone.

#[path = "../tests/it/support/drawn.rs"]
mod drawn;

use divan::{Bencher, black_box};
use drawn::Case;
use m2fp::geometry::Size;
use m2fp::image::Rgb8;
use m2fp::image::decode::Row;
use m2fp::manifest::LabelMap;
use m2fp::parsing::{self, BAND_ROWS, Found};
use m2fp::render::cutout::{Cutout, Foreground};
use m2fp::render::label_png::LabelPng;
use m2fp::render::overlay::{OverlayLabels, overlay_size};
use m2fp::render::report::Stats;

const PHOTO: Size = Size::new(1920, 1080);

fn main() {
    divan::main();
}

fn nano(label_map: LabelMap) -> Case {
    drawn::nano(label_map, Size::new(683, 384), PHOTO)
}

fn m2fp() -> Case {
    drawn::m2fp(Size::new(1138, 640), PHOTO)
}

/// Both passes with the report's figures and the label map's PNG.
fn answer(case: &Case, rle: bool) -> (Found, Vec<u8>) {
    let view = case.view();
    let found = parsing::find(&view, &case.manifest, None, BAND_ROWS);
    let mut stats = Stats::new(PHOTO, &case.manifest, rle);
    let mut png = LabelPng::new(PHOTO, &case.manifest.palette()).expect("a palette");
    parsing::bands(&view, &case.manifest, &found, BAND_ROWS, &mut |band| {
        stats.push(band);
        png.push(band.labels)
    })
    .expect("a sink that succeeds");
    black_box(stats.finish(&case.manifest, &found));
    (found, png.finish().expect("every row"))
}

const LABEL_MAPS: [LabelMap; 2] = [LabelMap::Semantic, LabelMap::Paste];

#[divan::bench(args = LABEL_MAPS)]
fn nano_find(bencher: Bencher<'_, '_>, label_map: LabelMap) {
    let case = nano(label_map);
    bencher.bench(|| parsing::find(&case.view(), &case.manifest, None, BAND_ROWS));
}

#[divan::bench(args = LABEL_MAPS)]
fn nano_bands(bencher: Bencher<'_, '_>, label_map: LabelMap) {
    let case = nano(label_map);
    let found = parsing::find(&case.view(), &case.manifest, None, BAND_ROWS);
    bencher.bench(|| parsing::bands(&case.view(), &case.manifest, &found, BAND_ROWS, &mut |_| Ok(())));
}

#[divan::bench(args = LABEL_MAPS)]
fn nano_answer(bencher: Bencher<'_, '_>, label_map: LabelMap) {
    let case = nano(label_map);
    bencher.bench(|| answer(&case, false));
}

#[divan::bench(args = [false, true])]
fn m2fp_answer(bencher: Bencher<'_, '_>, rle: bool) {
    let case = m2fp();
    bencher.bench(|| answer(&case, rle));
}

#[divan::bench]
fn m2fp_find(bencher: Bencher<'_, '_>) {
    let case = m2fp();
    bencher.bench(|| parsing::find(&case.view(), &case.manifest, None, BAND_ROWS));
}

#[divan::bench]
fn m2fp_bands(bencher: Bencher<'_, '_>) {
    let case = m2fp();
    let found = parsing::find(&case.view(), &case.manifest, None, BAND_ROWS);
    bencher.bench(|| parsing::bands(&case.view(), &case.manifest, &found, BAND_ROWS, &mut |_| Ok(())));
}

/// The label map of the packaged model's shape, whole.
fn labels() -> (Case, Vec<u8>) {
    let case = nano(LabelMap::Semantic);
    let mut labels = Vec::new();
    parsing::bands(&case.view(), &case.manifest, &Found::default(), BAND_ROWS, &mut |band| {
        labels.extend_from_slice(band.labels);
        Ok(())
    })
    .expect("a sink that succeeds");
    (case, labels)
}

#[divan::bench]
fn palette_png(bencher: Bencher<'_, '_>) {
    let (case, labels) = labels();
    bencher.bench(|| {
        let mut png = LabelPng::new(PHOTO, &case.manifest.palette())?;
        labels.chunks(1920 * BAND_ROWS as usize).try_for_each(|rows| png.push(rows))?;
        png.finish()
    });
}

/// A photograph's texture: smooth colours and some noise.
fn photo(size: Size) -> Rgb8 {
    let mut state = 1_u32;
    let mut data = Vec::with_capacity(size.area() as usize * 3);
    for i in 0..size.area() as u32 {
        let (x, y) = (i % size.width, i / size.width);
        for channel in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.push(((x * (channel + 1) + y * 2) / 16 % 240 + (state >> 28)) as u8);
        }
    }
    Rgb8 { size, data }
}

fn collect(case: &Case, mut sink: impl FnMut(&parsing::Band<'_>)) {
    parsing::bands(&case.view(), &case.manifest, &Found::default(), BAND_ROWS, &mut |band| {
        sink(band);
        Ok(())
    })
    .expect("a sink that succeeds");
}

#[divan::bench]
fn overlay_jpeg(bencher: Bencher<'_, '_>) {
    let case = nano(LabelMap::Semantic);
    let photo = photo(overlay_size(PHOTO));
    let mut labels = OverlayLabels::new(PHOTO);
    collect(&case, |band| labels.push(band));
    bencher.bench(|| labels.encode(&photo, &case.manifest.palette(), 0, 0.6));
}

#[divan::bench]
fn cutout_png(bencher: Bencher<'_, '_>) {
    let case = nano(LabelMap::Semantic);
    let photo = photo(PHOTO);
    let foreground = || {
        let mut foreground = Foreground::new(PHOTO, 0);
        collect(&case, |band| foreground.push(band));
        foreground
    };
    bencher.with_inputs(foreground).bench_values(|foreground| {
        let mut cutout = Cutout::new(foreground)?;
        for (y, row) in photo.data.chunks(1920 * 3).enumerate() {
            cutout.push(y as u32, Row { rgb: row, alpha: None })?;
        }
        cutout.finish()
    });
}
