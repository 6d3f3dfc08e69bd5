//! The configuration of HEVC's decoder (`hvcC`: ISO/IEC 14496-15, 8.3.3.1).

use super::boxes::Fields;

/// The most bytes of a configuration. The parameter sets of one coded picture take a few hundred.
const MAX_CONFIG_BYTES: usize = 8 << 10;

/// Bytes that the decoder holds for each pixel beside the samples while it decodes: what it knows of each 4×4 block,
/// and a copy of the luma samples for the last filter.
pub const WORKING_BYTES_A_PIXEL: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config<'a> {
    /// The chroma format: 0 is grey, 1 is 4:2:0, 2 is 4:2:2 and 3 is 4:4:4.
    pub chroma: u8,
    /// How many bytes the length before each unit takes.
    pub length_bytes: usize,
    /// The arrays of parameter sets.
    sets: Fields<'a>,
}

impl<'a> Config<'a> {
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(Some(body).filter(|body| body.len() <= MAX_CONFIG_BYTES)?);
        // These are the version, the profile, tier and level, and what is said of segmentation and parallel decoding.
        fields.bytes(16)?;
        let chroma = fields.uint(1)? as u8 & 3;
        // These are the depths of samples, and the frame rate.
        fields.bytes(4)?;
        let length_bytes = (fields.uint(1)? as usize & 3) + 1;
        Some(Self { chroma, length_bytes, sets: fields })
    }

    /// The units that hold parameter sets.
    pub fn units(&self) -> Option<Vec<&'a [u8]>> {
        let mut fields = self.sets;
        let mut units = Vec::new();
        for _ in 0..fields.uint(1)? {
            fields.uint(1)?;
            for _ in 0..fields.uint(2)? {
                let length = fields.uint(2)? as usize;
                units.push(fields.bytes(length)?);
            }
        }
        Some(units)
    }
}
