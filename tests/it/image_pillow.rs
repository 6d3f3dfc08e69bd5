//! Pillow as the judge: the same pixels for every format, depth, kind of alpha and palette, and orientation.
//!
//! The images and Pillow's reading of them come from `tests/python/pillow_reference.py`, one process for all.

use std::path::Path;

use m2fp::geometry::Size;
use m2fp::image::decode;
use m2fp::image::header::{self, Header};
use m2fp::memory::blob::Blob;
use serde::Deserialize;

use crate::support::reference;

/// Grey levels that a lossy decoder may differ from Pillow's: libjpeg-turbo and libjpeg (mozjpeg) are the same code
/// for what Pillow writes, libwebp and `image-webp` round their colour conversion alike.
const LOSSY_TOLERANCE: u8 = 0;

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    orientation: u8,
    /// Upright width and height.
    size: [u32; 2],
    target: [u32; 2],
    /// Whether the image has alpha.
    alpha: bool,
    lossy: bool,
    /// Grey levels that this case may differ by, for a reason given in the script.
    tolerance: u8,
}

fn cases(out: &Path) -> Vec<Case> {
    reference::write(out, &[]);
    let list = std::fs::read(out.join("cases.json")).expect("the reference lists its cases");
    serde_json::from_slice(&list).expect("the list is JSON")
}

/// What is wrong with one case, if anything.
fn fault(out: &Path, case: &Case) -> Result<(), String> {
    let read = |suffix: &str| std::fs::read(out.join(format!("{}{suffix}", case.name))).expect("the file was written");
    let bytes = Blob::from(read(""));
    let header = header::read(&bytes, u64::MAX).map_err(|error| error.to_string())?;
    let upright = Size::new(case.size[0], case.size[1]);
    if (header.upright(), header.orientation.exif()) != (upright, case.orientation) {
        return Err(format!("read as {header:?}"));
    }
    let tolerance = if case.lossy { LOSSY_TOLERANCE } else { case.tolerance };
    let (full, alpha) = all_rows(&bytes, &header)?;
    compare("full size", &full, &read(".full"), tolerance)?;
    compare("alpha", &alpha, &if case.alpha { read(".alpha") } else { Vec::new() }, 0)?;
    let target = Size::new(case.target[0], case.target[1]);
    let small = decode::resized(&bytes, &header, target).map_err(|error| error.to_string())?;
    compare("resized", &small.data, &read(".small"), tolerance)
}

/// Upright pixels, and their alpha where the image has any.
fn all_rows(bytes: &Blob, header: &Header) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (mut full, mut alpha) = (Vec::new(), Vec::new());
    let mut next = 0;
    decode::rows(bytes, header, &mut |y, row| {
        assert_eq!(y, next, "rows come in order");
        next += 1;
        full.extend(row.rgb);
        alpha.extend(row.alpha.into_iter().flatten());
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    Ok((full, alpha))
}

fn compare(what: &str, ours: &[u8], pillows: &[u8], tolerance: u8) -> Result<(), String> {
    if ours.len() != pillows.len() {
        return Err(format!("{what}: {} bytes, Pillow has {}", ours.len(), pillows.len()));
    }
    let difference = |(a, b): (&u8, &u8)| a.abs_diff(*b);
    let most = ours.iter().zip(pillows).map(difference).max().unwrap_or(0);
    if most <= tolerance {
        return Ok(());
    }
    let differing = ours.iter().zip(pillows).filter(|pair| difference(*pair) > tolerance).count();
    Err(format!("{what}: {differing} of {} samples differ, by up to {most}", ours.len()))
}

#[test]
fn pixels_equal_pillows() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let cases = cases(out.path());
    assert!(cases.len() > 1200, "only {} cases", cases.len());
    let faults: Vec<_> = cases
        .iter()
        .filter_map(|case| fault(out.path(), case).err().map(|fault| format!("{}: {fault}", case.name)))
        .collect();
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}
