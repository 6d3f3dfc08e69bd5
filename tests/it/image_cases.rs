//! Files of other people's tools that were once refused or read wrongly, kept in `tests/data/cases`.

use std::path::Path;

use m2fp::geometry::Size;
use m2fp::image::decode;
use m2fp::image::header::{self, Header};
use m2fp::memory::blob::Blob;

/// Upright pixels and alpha of the file of this name.
fn decoded(name: &str) -> (Header, Vec<u8>, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases").join(name);
    let bytes = Blob::from(std::fs::read(path).expect("the file"));
    let header = header::read(&bytes, u64::MAX).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (mut rgb, mut alpha) = (Vec::new(), Vec::new());
    decode::rows(&bytes, &header, &mut |_, row| {
        rgb.extend(row.rgb);
        alpha.extend(row.alpha.into_iter().flatten());
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    (header, rgb, alpha)
}

fn mean_difference(ours: &[u8], others: &[u8]) -> f64 {
    assert_eq!(ours.len(), others.len());
    let sum: u64 = ours.iter().zip(others).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / ours.len() as f64
}

#[test]
fn orientation_is_found_wherever_it_stands() {
    let turned = Size::new(40, 60);
    for (name, size) in [
        ("04-png-xmp-attr.png", turned),
        ("04-png-xmp-elem.png", turned),
        ("04-jpg-xmp.jpg", turned),
        ("04-png-rawprofile-text.png", turned),
        ("04-jpg-exif-none-xmp.jpg", turned),
        ("04-jpg-exif-count0.jpg", Size::new(60, 40)),
    ] {
        assert_eq!(decoded(name).0.upright(), size, "{name}");
    }
}

#[test]
fn a_jpeg_without_its_end_marker_has_every_pixel() {
    let (header, pixels, _) = decoded("05-baseline-noeoi.jpg");
    assert_eq!(header.upright(), Size::new(240, 135));
    assert_eq!(decoded("05-baseline-noeoi-trailer.jpg").1, pixels);
}

/// One small photo in many kinds of TIFF.
#[test]
fn tiffs_show_the_same_photo() {
    let (_, photo, _) = decoded("05-baseline-noeoi.jpg");
    for (name, most) in [
        ("07-RGB-jpeg.tif", 4.5),
        ("07-YCbCr-raw.tif", 4.0),
        ("07-P-tiff_lzw.tif", 12.0),
        ("26-rgb-plus-selection-p2.tif", 0.001),
    ] {
        let (header, pixels, _) = decoded(name);
        assert_eq!(header.upright(), Size::new(240, 135), "{name}");
        let difference = mean_difference(&pixels, &photo);
        assert!(difference < most, "{name} differs by {difference}");
    }
    assert_eq!(decoded("07-fax-fillorder2.tif").1.len(), 240 * 135 * 3);
    assert_eq!(decoded("28-planar-tiles.tif").0.upright(), Size::new(96, 70));
}

#[test]
fn premultiplied_colours_are_divided_by_alpha() {
    let (_, photo, _) = decoded("05-baseline-noeoi.jpg");
    let (_, pixels, alpha) = decoded("27-associated-LZW.tif");
    let visible = |pixels: &[u8]| {
        let pixels = pixels.chunks_exact(3).zip(&alpha).filter(|(_, alpha)| **alpha > 100);
        pixels.flat_map(|(pixel, _)| pixel.to_vec()).collect::<Vec<_>>()
    };
    assert!(mean_difference(&visible(&pixels), &visible(&photo)) < 4.0);
}

#[test]
fn a_photo_in_display_p3_looks_as_in_srgb() {
    let (_, p3, _) = decoded("08-p3.jpg");
    let (_, srgb, _) = decoded("08-srgb.jpg");
    let difference = mean_difference(&p3, &srgb);
    // Both are JPEGs, which is what is left; unconverted it is 5.9.
    assert!(difference < 3.0, "{difference}");
}

#[test]
fn alpha_comes_with_the_rows() {
    let (header, _, alpha) = decoded("09-half-transparent.png");
    let width = header.upright().width as usize;
    for row in alpha.chunks_exact(width) {
        assert_eq!((row[0], row[width - 1]), (255, 0));
    }
}
