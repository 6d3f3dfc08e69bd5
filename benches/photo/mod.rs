//! The photo that benches run.

use std::path::Path;

use m2fp::geometry::Size;

/// The astronaut as a JPEG of this size.
pub fn astronaut(size: Size) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/photos/astronaut.png");
    let png = std::fs::read(path).expect("`make runtime` fetches the photo");
    let header = m2fp::image::header::read(&png, u64::MAX).unwrap();
    let rgb = m2fp::image::decode::resized(&png.into(), &header, size).unwrap();
    let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    jpeg.set_size(size.width as usize, size.height as usize);
    let mut writer = jpeg.start_compress(Vec::new()).unwrap();
    writer.write_scanlines(&rgb.data).unwrap();
    writer.finish().unwrap()
}
