//! What the network holds, run after run.

use std::path::Path;

use m2fp::engine::Engine;
use m2fp::engine::ort::OrtEngine;
use m2fp::geometry::Size;
use m2fp::image::Planar8;
use m2fp::manifest::Manifest;
use m2fp::sys;

use crate::support::alone::is_alone;

#[test]
fn memory_does_not_grow_over_200_images_of_mixed_sizes() {
    if !is_alone("engine_memory::memory_does_not_grow_over_200_images_of_mixed_sizes") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano");
    let engine = OrtEngine::load(&folder, &Manifest::read(&folder).unwrap(), 2).unwrap();
    let sides = [320_u32, 64, 200, 33, 256];
    let mut run = |index: usize| {
        let size = Size::new(sides[index % 5], sides[index / 5 % 5]);
        let image = Planar8 { size, data: vec![index as u8; size.area() as usize * 3] };
        engine.infer(&image).unwrap();
        sys::release_memory();
        sys::anonymous_bytes()
    };
    let warm = (0..25).map(&mut run).max().unwrap();
    let then = (25..200).map(&mut run).max().unwrap();
    assert!(then < warm + (8 << 20), "{then} bytes after {warm}");
}
