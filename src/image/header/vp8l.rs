//! How much memory the prefix codes of a lossless WebP need, which is the one thing that its size does not bound.
//!
//! A picture may have up to 65,536 groups of five codes, and a decoder keeps a lookup table for each, so a small file
//! can ask for more than a gigabyte. This module walks over the stream (RFC 9649, section 3) up to its last code
//! without keeping a pixel. To find the next bit, it only has to know how many pixels a symbol stands for. The number
//! of groups is one more than the largest literal of the entropy image, since copies only repeat literals.

/// The order in which code lengths are stored (RFC 9649, section 3.7.2.1).
const LENGTH_ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// The numbers of symbols of the green, red, blue, alpha and distance codes, without a colour cache.
const ALPHABETS: [usize; 5] = [256 + 24, 256, 256, 256, 40];
const LITERALS: u32 = 256;
const LENGTHS: u32 = 24;
const MAX_CACHE_BITS: u32 = 11;
const MAX_SYMBOLS: usize = 256 + 24 + (1 << MAX_CACHE_BITS);
const MAX_LENGTH: usize = 15;

/// `image-webp`'s `HuffmanTree` has a table of this many bits; longer codes continue in a tree behind it.
const TABLE_BITS: usize = 10;
const TABLE_ENTRY_BYTES: u64 = 4;
/// Two nodes of 16 bytes for each long code, and twice that in case the vector grows.
const LONG_CODE_BYTES: u64 = 64;
/// A group of five trees, counted three times because their vector doubles, and what the allocator adds to ten blocks.
const GROUP_BYTES: u64 = 3 * 320 + 10 * 16;

/// Bytes of the prefix codes that decoding a picture of `width` × `height` holds. `stream` begins behind VP8L's header
/// of five bytes, or is that of an alpha plane. `None` if the stream is damaged or cut short.
pub(crate) fn code_bytes(stream: &[u8], width: u32, height: u32) -> Option<u64> {
    let mut walk = Walk { bits: Bits { stream, at: 0 }, code: Code::new() };
    let width = walk.transforms(width, height)?;
    let cache_bits = walk.cache_bits()?;
    let mut groups = 1;
    if walk.bits.read(1)? == 1 {
        let block = walk.bits.read(3)? + 2;
        groups = walk.sub_image(blocks(width, block), blocks(height, block))? + 1;
    }
    let mut bytes = 0;
    for _ in 0..groups {
        bytes += GROUP_BYTES;
        for alphabet in alphabets(cache_bits) {
            walk.code.read(&mut walk.bits, alphabet)?;
            bytes += walk.code.table_bytes();
        }
    }
    Some(bytes)
}

fn blocks(side: u32, bits: u32) -> u32 {
    side.div_ceil(1 << bits)
}

fn alphabets(cache_bits: u32) -> [usize; 5] {
    let mut alphabets = ALPHABETS;
    if cache_bits > 0 {
        alphabets[0] += 1 << cache_bits;
    }
    alphabets
}

struct Walk<'a> {
    bits: Bits<'a>,
    /// The prefix code that is read at the moment. One is kept so that its vectors are reused.
    code: Code,
}

impl Walk<'_> {
    /// Passes over the transforms and returns the width of what follows.
    fn transforms(&mut self, mut width: u32, height: u32) -> Option<u32> {
        let mut seen = [false; 4];
        while self.bits.read(1)? == 1 {
            let kind = self.bits.read(2)? as usize;
            if std::mem::replace(&mut seen[kind], true) {
                return None;
            }
            match kind {
                0 | 1 => {
                    let block = self.bits.read(3)? + 2;
                    self.sub_image(blocks(width, block), blocks(height, block))?;
                }
                3 => {
                    let colors = self.bits.read(8)? + 1;
                    self.sub_image(colors, 1)?;
                    // With few colours, several pixels share a byte.
                    width = blocks(
                        width,
                        if colors <= 2 {
                            3
                        } else if colors <= 4 {
                            2
                        } else {
                            u32::from(colors <= 16)
                        },
                    );
                }
                _ => {}
            }
        }
        Some(width)
    }

    fn cache_bits(&mut self) -> Option<u32> {
        if self.bits.read(1)? == 0 {
            return Some(0);
        }
        let bits = self.bits.read(4)?;
        (1..=MAX_CACHE_BITS).contains(&bits).then_some(bits)
    }

    /// Passes over a sub-image and returns the largest number that red and green together make in one of its literals.
    fn sub_image(&mut self, width: u32, height: u32) -> Option<u32> {
        let cache_bits = self.cache_bits()?;
        let mut codes: [Code; 5] = std::array::from_fn(|_| Code::new());
        for (code, alphabet) in codes.iter_mut().zip(alphabets(cache_bits)) {
            code.read(&mut self.bits, alphabet)?;
        }
        let [green, red, blue, alpha, distance] = &codes;
        let mut largest = 0;
        let mut left = u64::from(width) * u64::from(height);
        while left > 0 {
            let symbol = green.symbol(&mut self.bits)?;
            let mut pixels = 1;
            if symbol < LITERALS {
                largest = largest.max(red.symbol(&mut self.bits)? << 8 | symbol);
                blue.symbol(&mut self.bits)?;
                alpha.symbol(&mut self.bits)?;
            } else if symbol < LITERALS + LENGTHS {
                pixels = self.bits.prefixed(symbol - LITERALS)?;
                let distance = distance.symbol(&mut self.bits)?;
                self.bits.prefixed(distance)?;
            }
            left = left.saturating_sub(u64::from(pixels));
        }
        Some(largest)
    }
}

/// A canonical prefix code, decoded by counting.
struct Code {
    /// The number of codes of each length.
    counts: [u16; MAX_LENGTH + 1],
    /// The symbols in the order of their codes.
    symbols: Vec<u16>,
}

impl Code {
    fn new() -> Self {
        Self { counts: [0; MAX_LENGTH + 1], symbols: Vec::new() }
    }

    fn read(&mut self, bits: &mut Bits<'_>, alphabet: usize) -> Option<()> {
        let mut lengths = [0u8; MAX_SYMBOLS];
        let lengths = &mut lengths[..alphabet];
        if bits.read(1)? == 1 {
            let two = bits.read(1)? == 1;
            let wide = bits.read(1)?;
            *lengths.get_mut(bits.read(1 + 7 * wide)? as usize)? = 1;
            if two {
                *lengths.get_mut(bits.read(8)? as usize)? = 1;
            }
        } else {
            read_lengths(bits, lengths)?;
        }
        self.set(lengths)
    }

    fn set(&mut self, lengths: &[u8]) -> Option<()> {
        self.counts = [0; MAX_LENGTH + 1];
        self.symbols.clear();
        for length in 1..=MAX_LENGTH {
            let before = self.symbols.len();
            let of_length = lengths.iter().enumerate().filter(|(_, own)| usize::from(**own) == length);
            self.symbols.extend(of_length.map(|(symbol, _)| symbol as u16));
            self.counts[length] = (self.symbols.len() - before) as u16;
        }
        let used: u32 = (1..=MAX_LENGTH).map(|length| u32::from(self.counts[length]) << (MAX_LENGTH - length)).sum();
        // A single symbol needs no bits; several have to fill the code.
        (self.symbols.len() == 1 || used == 1 << MAX_LENGTH).then_some(())
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u32> {
        if let [only] = self.symbols[..] {
            return Some(u32::from(only));
        }
        let (mut code, mut first, mut index) = (0, 0, 0);
        for &count in &self.counts[1..] {
            code |= bits.read(1)?;
            let count = u32::from(count);
            if code < first + count {
                return self.symbols.get((index + code - first) as usize).map(|&symbol| u32::from(symbol));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }

    fn table_bytes(&self) -> u64 {
        if self.symbols.len() == 1 {
            return 0;
        }
        let longest = (1..=MAX_LENGTH).rfind(|&length| self.counts[length] > 0).unwrap_or(0);
        let long: u64 = self.counts[TABLE_BITS + 1..].iter().map(|&count| u64::from(count)).sum();
        (TABLE_ENTRY_BYTES << longest.min(TABLE_BITS)) + (long + 1) * LONG_CODE_BYTES
    }
}

/// Reads the lengths of a code, which are coded themselves.
fn read_lengths(bits: &mut Bits<'_>, lengths: &mut [u8]) -> Option<()> {
    let mut own = [0u8; LENGTH_ORDER.len()];
    for &symbol in &LENGTH_ORDER[..4 + bits.read(4)? as usize] {
        own[symbol] = bits.read(3)? as u8;
    }
    let mut code = Code::new();
    code.set(&own)?;
    let mut tokens = lengths.len();
    if bits.read(1)? == 1 {
        let width = 2 + 2 * bits.read(3)?;
        tokens = 2 + bits.read(width)? as usize;
    }
    let (mut at, mut previous) = (0, 8);
    while at < lengths.len() && tokens > 0 {
        tokens -= 1;
        let (length, repeat) = match code.symbol(bits)? {
            16 => (previous, 3 + bits.read(2)?),
            17 => (0, 3 + bits.read(3)?),
            18 => (0, 11 + bits.read(7)?),
            length => (length as u8, 1),
        };
        lengths.get_mut(at..at + repeat as usize)?.fill(length);
        at += repeat as usize;
        if length != 0 {
            previous = length;
        }
    }
    Some(())
}

/// Reads bits, the lowest of each byte first.
struct Bits<'a> {
    stream: &'a [u8],
    /// Index of the next bit.
    at: usize,
}

impl Bits<'_> {
    /// Reads at most 16 bits.
    fn read(&mut self, count: u32) -> Option<u32> {
        let byte = self.at / 8;
        let last = (self.at + count as usize).div_ceil(8);
        let window = self.stream.get(byte..last)?;
        let value = window.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
        let shifted = value >> (self.at % 8);
        self.at += count as usize;
        Some(shifted & ((1 << count) - 1))
    }

    /// Reads a length or distance, whose prefix decides how many bits follow.
    fn prefixed(&mut self, prefix: u32) -> Option<u32> {
        if prefix < 4 {
            return Some(prefix + 1);
        }
        let extra = (prefix - 2) >> 1;
        let low = extra.min(16);
        let mut value = self.read(low)?;
        value |= self.read(extra - low)? << low;
        Some(((2 + (prefix & 1)) << extra) + value + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes bits, the lowest of each byte first.
    #[derive(Default)]
    struct Writer {
        bytes: Vec<u8>,
        bits: u32,
    }

    impl Writer {
        fn put(&mut self, value: u32, count: u32) -> &mut Self {
            for i in 0..count {
                if self.bits.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                *self.bytes.last_mut().unwrap() |= ((value >> i & 1) as u8) << (self.bits % 8);
                self.bits += 1;
            }
            self
        }

        /// Writes a code of one symbol below 256.
        fn single(&mut self, symbol: u32) -> &mut Self {
            self.put(1, 1).put(0, 1).put(1, 1).put(symbol, 8)
        }

        /// Writes a code of two symbols below 256.
        fn double(&mut self, zero: u32, one: u32) -> &mut Self {
            self.put(1, 1).put(1, 1).put(1, 1).put(zero, 8).put(one, 8)
        }
    }

    #[test]
    fn one_group_of_single_symbols() {
        let mut writer = Writer::default();
        writer.put(0, 1).put(0, 1).put(0, 1);
        for _ in 0..5 {
            writer.single(7);
        }
        assert_eq!(code_bytes(&writer.bytes, 100, 100), Some(GROUP_BYTES));
        assert_eq!(code_bytes(&writer.bytes[..writer.bytes.len() - 1], 100, 100), None);
    }

    #[test]
    fn groups_are_counted_by_the_largest_literal() {
        let mut writer = Writer::default();
        // There are no transforms and no cache, and an entropy image of 2 × 1 blocks of 4 pixels.
        writer.put(0, 1).put(0, 1).put(1, 1).put(0, 3);
        // Its cache flag, its codes (green 0 or 44, and red 1) and its two pixels follow.
        writer.put(0, 1).double(0, 44).single(1).single(0).single(0).single(0).put(0, 1).put(1, 1);
        let groups = 256 + 44 + 1;
        for _ in 0..groups * 5 {
            writer.double(3, 9);
        }
        let tree = (TABLE_ENTRY_BYTES << 1) + LONG_CODE_BYTES;
        assert_eq!(code_bytes(&writer.bytes, 8, 4), Some(groups * (GROUP_BYTES + 5 * tree)));
    }

    #[test]
    fn nonsense_ends() {
        for byte in [0x00, 0x55, 0xaa, 0xff] {
            let _ = code_bytes(&[byte; 1000], 16_384, 16_384);
        }
        assert_eq!(code_bytes(&[], 1, 1), None);
    }
}
