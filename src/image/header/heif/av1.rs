//! What AV1's sequence header says (AV1 Bitstream & Decoding Process Specification, 5.5), read with `oxideav-av1`.

use oxideav_av1::{ObuIter, ObuType, SequenceHeader, parse_sequence_header};

use crate::error::Result;
use crate::image::header::format::undecodable;

/// Bytes for each pixel that the decoder keeps of what it knows of each 4×4 block, palettes included.
const BLOCKS: u64 = 6;

/// Reads the sequence header of a coded picture whose bytes begin with these. A panic of the parser is caught, because
/// a header is read outside the guard that decoders have.
pub fn sequence(bytes: &[u8]) -> Result<SequenceHeader> {
    let read = || {
        let mut units = ObuIter::new(bytes).map_while(std::result::Result::ok);
        let unit = units.find(|unit| unit.obu_type == ObuType::SequenceHeader)?;
        parse_sequence_header(unit.payload).ok()
    };
    let header = std::panic::catch_unwind(read).ok().flatten();
    header.ok_or_else(|| undecodable("a picture's sequence header is missing or damaged"))
}

/// The chroma format: 0 is grey, 1 is 4:2:0, 2 is 4:2:2 and 3 is 4:4:4.
pub fn chroma(sequence: &SequenceHeader) -> u8 {
    let colors = &sequence.color_config;
    match (colors.mono_chrome, colors.subsampling_x, colors.subsampling_y) {
        (true, ..) => 0,
        (_, true, true) => 1,
        (_, true, false) => 2,
        (_, false, _) => 3,
    }
}

/// Bytes that the decoder holds for each pixel beside the samples that it gives, as an upper bound of what was
/// measured. Its own samples have four bytes, twice those that it gives, and are filtered in place.
/// Film grain needs three copies of them, and the picture without the grain, but nothing of the blocks any more.
/// Super-resolution was not measured: by the decoder's code, it needs three copies, too.
pub fn working_bytes_a_pixel(sequence: &SequenceHeader, sample_bytes: u64) -> u64 {
    let decoding = BLOCKS + if sequence.enable_superres { 6 } else { 2 } * sample_bytes;
    let most = if sequence.film_grain_params_present { decoding.max(8 * sample_bytes) } else { decoding };
    most - sample_bytes
}
