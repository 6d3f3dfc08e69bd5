//! Any bytes as an image: an error of the client or the promised pixels, never a panic.
//!
//! Works on stable: `cargo fuzz run --sanitizer none decode fuzz/seeds/decode -- -max_total_time=30`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use m2fp::error::{Error, Limit};
use m2fp::geometry::Size;
use m2fp::memory::blob::Blob;
use m2fp::image::{decode, header};

/// Enough for every path; more would only make damaged sizes slow.
const MAX_PIXELS: u64 = 1 << 20;

// A decoder's panic is caught by the library; libFuzzer's hook would end the process before it is. Panics that reach
// libFuzzer still end it.
fuzz_target!(init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))), |bytes: &[u8]| {
    let header = match header::read(bytes, MAX_PIXELS) {
        Ok(header) => header,
        Err(error) => return the_clients(&error),
    };
    assert!((1..=MAX_PIXELS).contains(&header.stored.area()));
    let target = Size::new(16, 12);
    let source = Blob::from(bytes);
    match decode::resized(&source, &header, target) {
        Ok(image) => assert_eq!((image.size, image.data.len()), (target, 16 * 12 * 3)),
        Err(error) => the_clients(&error),
    }
    let mut rows = 0;
    let result = decode::rows(&source, &header, &mut |y, row| {
        assert_eq!((y, row.rgb.len()), (rows, header.upright().width as usize * 3));
        rows += 1;
        Ok(())
    });
    match result {
        Ok(()) => assert_eq!(rows, header.upright().height),
        Err(error) => the_clients(&error),
    }
});

fn the_clients(error: &Error) {
    let clients = matches!(
        error,
        Error::Unsupported { .. } | Error::Undecodable { .. } | Error::TooLarge { limit: Limit::Pixels, .. }
    );
    assert!(clients, "{error:?}");
}
