//! A thousand damaged photos through the dispatcher and the real model in one process: none panics, none is answered with
//! 500, and memory does not grow.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use m2fp::config::Config;
use m2fp::pipeline::Pipeline;
use m2fp::sys;
use serde_json::json;

use crate::support::alone::is_alone;
use crate::support::events;

const INPUTS: usize = 1000;
/// By then every buffer and thread that stays has been made.
const WARM_UP: usize = 250;
/// What the process may hold more at the end than after the warm-up.
const MAX_GROWTH_BYTES: u64 = 8 << 20;

/// SplitMix64 (Steele, Lea, Flood 2014): the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// The photo's PNG twin.
fn png_of(photo: &[u8]) -> Vec<u8> {
    let header = m2fp::image::header::read(photo, u64::MAX).unwrap();
    let rgb = m2fp::image::decode::resized(&photo.into(), &header, header.upright()).unwrap();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, rgb.size.width, rgb.size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&rgb.data).unwrap();
    file
}

/// Cut, bytes overwritten (the header more often than the rest), or bytes put in.
fn damage(photo: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = photo.to_vec();
    match random.below(4) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => bytes.insert(random.below(bytes.len()), random.below(256) as u8),
        kind => {
            let reach = if kind == 2 { bytes.len().min(200) } else { bytes.len() };
            for _ in 0..=random.below(8) {
                bytes[random.below(reach)] = random.below(256) as u8;
            }
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_damaged_photos() {
    if !is_alone("hostile::a_thousand_damaged_photos") {
        return;
    }
    let mut config = Config::from_vars([]).unwrap();
    config.model_dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano");
    let pipeline = Arc::new(Pipeline::new(config, None).unwrap());
    let jpeg = events::photo();
    let seeds = [
        jpeg.to_vec(),
        png_of(&jpeg),
        #[cfg(feature = "avif")]
        crate::support::heif::file("tile.avif"),
        #[cfg(feature = "avif")]
        crate::support::heif::file("grain.avif"),
        #[cfg(feature = "heic")]
        crate::support::heif::file("tile.heic"),
        #[cfg(feature = "heic")]
        crate::support::heif::file("alpha.heic"),
    ];
    let mut random = Random(1);
    let mut event = events::event("apigw-http");
    event["rawQueryString"] = json!("max_side=64");
    event["isBase64Encoded"] = json!(true);
    // Of each seed, how many of its damaged copies were served, and how many not.
    let (mut outcomes, mut warm_bytes) = (vec![[0; 2]; seeds.len()], 0);
    for index in 0..INPUTS {
        let seed = index % seeds.len();
        let photo = damage(&seeds[seed], &mut random);
        event["body"] = json!(BASE64.encode(&photo));
        let answer = events::invoke(&pipeline, &event).await.expect("HTTP failures are answers");
        let status = answer["statusCode"].as_u64().unwrap();
        assert!([200, 400, 413, 415, 422].contains(&status), "input {index}: {answer}");
        outcomes[seed][usize::from(status == 200)] += 1;
        if index == WARM_UP {
            sys::release_memory();
            warm_bytes = sys::anonymous_bytes();
        }
    }
    sys::release_memory();
    let end_bytes = sys::anonymous_bytes();
    assert!(outcomes.as_flattened().iter().all(|&count| count > 0), "refused and served, by seed: {outcomes:?}");
    assert!(end_bytes < warm_bytes + MAX_GROWTH_BYTES, "{warm_bytes} bytes after the warm-up, {end_bytes} at the end");
}
