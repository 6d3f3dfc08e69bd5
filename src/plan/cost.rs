//! What the stages of one photo take at a working size, in memory and time. Whatever does not depend on that size is
//! computed once for each photo. The rest is computed for each size that the planner tries.

use crate::geometry::Size;
use crate::image::decode;
use crate::image::header::Header;
use crate::manifest::{Dtype, Geometry, Manifest};
use crate::options::Options;
use crate::parsing::{self, Grid};
use crate::render::collect;

/// Time to encode a palette PNG, per pixel of the photo, as measured by `make bench`.
const ENCODE_NS_PER_PIXEL: f64 = 2.0;

/// Time for the class values of a tile and their blend, per pixel of the tile, on one processor.
const VALUES_NS_PER_PIXEL: f64 = 100.0;

/// The processors that a photo's work runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processors {
    /// Threads that the network runs on.
    pub threads: usize,
    /// Threads of the pool that post-processing runs on.
    pub pool_threads: usize,
    /// Processor time that this process is given in each second. It may be less than the threads could use, or even
    /// less than one whole processor, where a function's memory buys no more.
    pub cpus: f64,
}

impl Processors {
    /// Processor time that `threads` threads can use in each second.
    fn used(self) -> f64 {
        self.cpus.min(self.threads as f64)
    }

    /// Processor time that one thread can use in each second.
    fn used_by_one(self) -> f64 {
        self.cpus.min(1.0)
    }
}

/// What the outputs hold.
#[derive(Debug, Clone, Copy)]
struct OutputBytes {
    /// While bands come.
    collectors: u64,
    /// While the photo is decoded again for some of them.
    second_decode: u64,
}

/// The costs of one photo, which the module describes.
pub(super) struct Cost<'a> {
    manifest: &'a Manifest,
    header: &'a Header,
    processors: Processors,
    photo: Size,
    /// Whether the network sees the mirrored photo as well.
    flip: bool,
    source_bytes: u64,
    once: OutputBytes,
    tiled: OutputBytes,
    /// Time of post-processing, milliseconds.
    post_ms: f64,
    /// Time of decoding and encoding, milliseconds.
    codec_ms: f64,
    /// Time of one decode, milliseconds.
    decode_ms: f64,
}

impl<'a> Cost<'a> {
    pub(super) fn new(
        manifest: &'a Manifest,
        header: &'a Header,
        source_bytes: u64,
        options: &Options,
        processors: Processors,
    ) -> Self {
        let photo = header.upright();
        let megapixels = header.stored.area() as f64 / 1e6;
        let post_ms = manifest.time_here().post_ns_per_pixel * megapixels / processors.used();
        let decode_ns = decode::ns_per_pixel(header);
        let encode_ns = ENCODE_NS_PER_PIXEL * collect::encoded_pictures(manifest, options) as f64;
        let outputs = |tiled: bool| OutputBytes {
            collectors: collect::collectors_bytes(photo, manifest, options, tiled),
            second_decode: collect::second_decode_bytes(header, manifest, options, tiled),
        };
        let codec_ms = (decode_ns + encode_ns) * megapixels / processors.used_by_one();
        Self {
            manifest,
            header,
            processors,
            photo,
            flip: options.flip,
            source_bytes,
            once: outputs(false),
            tiled: outputs(true),
            post_ms,
            codec_ms,
            decode_ms: decode_ns * megapixels / processors.used_by_one(),
        }
    }

    /// The most that one request holds where labels come from the whole photo: its source, and the hungriest of its
    /// stages with what is kept meanwhile. With `flip` the first answer is kept while the network sees the mirrored
    /// photo.
    pub(super) fn whole_bytes(&self, working: Size, flip: bool) -> u64 {
        let geometry = self.manifest.geometry(working);
        let decode = decode::resized_bytes(self.header, working);
        let (logits, threads) = (self.logits_bytes(&geometry), self.processors.pool_threads);
        let kept = if flip { logits } else { 0 };
        let post = logits
            + parsing::bytes(&geometry, self.photo, self.manifest, flip, parsing::BAND_ROWS, threads)
            + self.once.collectors;
        let run = kept + self.run_bytes(&geometry).max(post);
        self.source_bytes + decode.max(run).max(self.once.second_decode)
    }

    /// The same as [`Self::whole_bytes`] for a whole run at `working` that is followed by the tiles of `grid`.
    pub(super) fn tiled_bytes(&self, working: Size, grid: &Grid) -> u64 {
        let (geometry, tile) = (self.manifest.geometry(working), self.manifest.geometry(grid.tile()));
        let threads = self.processors.pool_threads;
        let bands = grid.working().area() * 3
            + self.run_bytes(&tile)
            + parsing::tiled_bytes(&geometry, grid, self.photo, self.manifest, self.flip, parsing::BAND_ROWS, threads);
        let decode = decode::resized_bytes(self.header, grid.working());
        let tiles = self.logits_bytes(&geometry) + self.tiled.collectors + decode.max(bands);
        (self.source_bytes + tiles.max(self.tiled.second_decode)).max(self.whole_bytes(working, false))
    }

    /// What one run of the network holds: its activations, and its input both as the interleaved photo and as the
    /// planes made of it. The resized photo is at most as large as the input that it is put on.
    fn run_bytes(&self, geometry: &Geometry) -> u64 {
        let element_bytes = match self.manifest.input.dtype {
            Dtype::Uint8 => 1,
            Dtype::Float32 => 4,
        };
        geometry.input.area() * 3 * (1 + element_bytes) + self.manifest.memory.run_bytes(geometry.padded.area())
    }

    fn logits_bytes(&self, geometry: &Geometry) -> u64 {
        geometry.mask.area() * u64::from(self.manifest.outputs.queries) * 4
    }

    /// Time where labels come from the whole photo, milliseconds. With `flip` the mirrored photo takes as long again.
    pub(super) fn whole_ms(&self, working: Size, flip: bool) -> u64 {
        let inference_ms = self.inference_ms(self.manifest.geometry(working).padded.area());
        ((inference_ms + self.post_ms) * runs(flip) + self.codec_ms).ceil() as u64
    }

    /// Time that tiles add, milliseconds: a second decode, the network's runs, and the class values at the tiles'
    /// pixels.
    pub(super) fn tiles_ms(&self, grid: &Grid) -> u64 {
        let (count, tile) = (f64::from(grid.count()), self.manifest.geometry(grid.tile()).padded.area());
        let inference_ms = count * self.inference_ms(tile);
        let values_ms = VALUES_NS_PER_PIXEL * count * tile as f64 / 1e6 / self.processors.used();
        ((inference_ms + values_ms) * runs(self.flip) + self.decode_ms).ceil() as u64
    }

    /// Time of one run of the network on an input of `pixels` pixels after padding, milliseconds.
    fn inference_ms(&self, pixels: u64) -> f64 {
        let time = self.manifest.time_here();
        // It is not known whether more processors than the model was measured with would help.
        let measured_cpus = f64::from(time.threads);
        time.run_ms(pixels) * measured_cpus / self.processors.used().min(measured_cpus)
    }
}

/// How often the network sees an image.
fn runs(flip: bool) -> f64 {
    if flip { 2.0 } else { 1.0 }
}

/// Time that loading the model takes, milliseconds. One thread does it.
pub(crate) fn load_ms(manifest: &Manifest, processors: Processors) -> u64 {
    (manifest.time_here().load_ms / processors.used_by_one()).ceil() as u64
}
