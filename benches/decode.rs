//! Decoding and resizing photographs: `cargo bench --bench decode`.

use divan::Bencher;
use divan::counter::ItemsCount;
use m2fp::geometry::{Orientation, Size};
use m2fp::image::header::{self, Header};
use m2fp::image::resample::Resampler;
use m2fp::image::{Rgb8, decode};
use m2fp::memory::blob::Blob;

const FULL_HD: Size = Size::new(1920, 1080);
const TWELVE_MEGAPIXELS: Size = Size::new(4000, 3000);

fn main() {
    divan::main();
}

/// A photograph of this size, enlarged from `make runtime`'s.
fn photo(size: Size) -> Rgb8 {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.runtime/photos/astronaut.png");
    let bytes = Blob::from(std::fs::read(path).expect("`make runtime` fetches the photo"));
    let header = header::read(&bytes, u64::MAX).expect("a PNG");
    decode::resized(&bytes, &header, size).expect("a PNG")
}

fn jpeg(size: Size, progressive: bool) -> Vec<u8> {
    let mut encoder = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    encoder.set_size(size.width as usize, size.height as usize);
    encoder.set_fastest_defaults();
    encoder.set_quality(90.0);
    if progressive {
        encoder.set_progressive_mode();
    }
    let mut started = encoder.start_compress(Vec::new()).expect("it starts");
    started.write_scanlines(&photo(size).data).expect("rows");
    started.finish().expect("a JPEG")
}

fn png(size: Size) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&photo(size).data)).expect("a PNG");
    out
}

/// Decodes and resizes to the size that M2FP works at.
fn bench(bencher: Bencher<'_, '_>, bytes: &[u8], orientation: Orientation) {
    let header = Header { orientation, ..header::read(bytes, u64::MAX).expect("a header") };
    let target = header.upright().shortest_edge(640, 1333);
    let source = Blob::from(bytes);
    bencher
        .counter(ItemsCount::new(header.stored.area()))
        .bench_local(|| decode::resized(&source, &header, target).expect("an image"));
}

#[divan::bench(sample_count = 20)]
fn jpeg_full_hd(bencher: Bencher<'_, '_>) {
    bench(bencher, &jpeg(FULL_HD, false), Orientation::Upright);
}

#[divan::bench(sample_count = 20)]
fn png_full_hd(bencher: Bencher<'_, '_>) {
    bench(bencher, &png(FULL_HD), Orientation::Upright);
}

#[divan::bench(sample_count = 10)]
fn jpeg_12_megapixels(bencher: Bencher<'_, '_>) {
    bench(bencher, &jpeg(TWELVE_MEGAPIXELS, false), Orientation::Upright);
}

#[divan::bench(sample_count = 10)]
fn jpeg_12_megapixels_rotated(bencher: Bencher<'_, '_>) {
    bench(bencher, &jpeg(TWELVE_MEGAPIXELS, false), Orientation::Rotate90);
}

#[divan::bench(sample_count = 10)]
fn jpeg_12_megapixels_progressive(bencher: Bencher<'_, '_>) {
    bench(bencher, &jpeg(TWELVE_MEGAPIXELS, true), Orientation::Upright);
}

/// The resize alone: what it adds to decoding.
#[divan::bench(sample_count = 10, args = [Orientation::Upright, Orientation::Rotate90])]
fn resize_12_megapixels(bencher: Bencher<'_, '_>, orientation: Orientation) {
    let photo = photo(TWELVE_MEGAPIXELS);
    let target = orientation.upright(photo.size).shortest_edge(640, 1333);
    bencher.counter(ItemsCount::new(photo.size.area())).bench_local(|| {
        let mut resampler = Resampler::new(photo.size, orientation, target);
        for row in photo.data.chunks_exact(photo.size.width as usize * 3) {
            resampler.push(row);
        }
        resampler.finish().expect("every row was pushed")
    });
}
