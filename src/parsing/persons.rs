//! Persons: how much they overlap, which of them are the same person, and to whom each pixel belongs.

use multiversion::multiversion;

use super::sigmoid::sigmoid;
use super::upsample::{Row, TILE_WIDTH, Tile, TileLogits, Upsampler, Window};
use super::view::Pair;
use crate::engine::Queries;

/// How many 64-bit words one row of bits takes in a tile.
pub(super) const TILE_WORDS: usize = TILE_WIDTH / 64;

/// A tile's row of a mask. Pixel x is bit `x % 64` of word `x / 64`.
pub(super) type RowBits = [u64; TILE_WORDS];

/// The pixels of a row that are inside the mask.
#[multiversion(targets = "simd")]
pub(super) fn inside(row: &Row) -> RowBits {
    /// A factor that gathers the lowest bits of eight bytes in the product's highest byte. The first byte's bit becomes
    /// the lowest there.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut flags = [0_u8; TILE_WIDTH];
    for (flag, &v) in flags.iter_mut().zip(&row.0) {
        *flag = u8::from(v > 0.0);
    }
    let mut bits = [0; TILE_WORDS];
    for (word, flags) in bits.iter_mut().zip(flags.chunks_exact(64)) {
        for (byte, flags) in flags.as_chunks::<8>().0.iter().enumerate() {
            *word |= (u64::from_le_bytes(*flags).wrapping_mul(GATHER) >> 56) << (8 * byte);
        }
    }
    bits
}

/// How many pixels each two of `count` masks have in common.
#[derive(Debug, Clone)]
pub(super) struct Overlaps {
    count: usize,
    /// The upper triangle, row-major, without the diagonal. `u32` is enough: photos have fewer than 2^32 pixels.
    pixels: Vec<u32>,
}

impl Overlaps {
    pub(super) fn new(count: usize) -> Self {
        Self { count, pixels: vec![0; count * count.saturating_sub(1) / 2] }
    }

    pub(super) fn bytes(count: u64) -> u64 {
        count * count * 2
    }

    fn place(&self, a: usize, b: usize) -> usize {
        let (low, high) = (a.min(b), a.max(b));
        low * (2 * self.count - low - 1) / 2 + high - low - 1
    }

    /// How many pixels two different masks have in common.
    pub(super) fn between(&self, a: usize, b: usize) -> u64 {
        u64::from(self.pixels[self.place(a, b)])
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (a, b) in self.pixels.iter_mut().zip(&other.pixels) {
            *a += b;
        }
    }
}

/// Masks of the persons over one tile.
#[derive(Debug, Default)]
pub(super) struct TileMasks {
    rows: usize,
    /// `[persons, rows]`.
    bits: Vec<RowBits>,
    /// The persons of whom rows were taken up; no other can have a pixel in this tile.
    present: Vec<usize>,
}

impl TileMasks {
    pub(super) fn begin(&mut self, persons: usize, rows: usize) {
        self.rows = rows;
        self.bits.clear();
        self.bits.resize(persons * rows, [0; TILE_WORDS]);
        self.present.clear();
    }

    /// Takes up one row of a person. All rows of a person must come before those of the next.
    pub(super) fn set(&mut self, person: usize, row: usize, values: &Row) {
        self.bits[person * self.rows + row] = inside(values);
        if self.present.last() != Some(&person) {
            self.present.push(person);
        }
    }

    /// Adds the pixels that the tile's persons have in common.
    pub(super) fn count(&self, overlaps: &mut Overlaps) {
        let bits = |person: usize| &self.bits[person * self.rows..][..self.rows];
        for (i, &a) in self.present.iter().enumerate() {
            for &b in &self.present[i + 1..] {
                let common = bits(a).iter().flatten().zip(bits(b).iter().flatten());
                let place = overlaps.place(a, b);
                overlaps.pixels[place] += common.map(|(a, b)| (a & b).count_ones()).sum::<u32>();
            }
        }
    }
}

/// Greedy non-maximum suppression of masks. Persons are looked at from the best to the worst. One whose intersection
/// over union with a person already kept is greater than `nms_iou` is taken for that person and dropped.
pub(super) fn suppress(persons: &[Pair], nms_iou: f32, intersection: impl Fn(&Pair, &Pair) -> u64) -> Vec<Pair> {
    let mut kept: Vec<Pair> = Vec::new();
    for person in persons {
        let same = |other: &Pair| {
            let common = intersection(person, other);
            let union = person.pixels + other.pixels - common;
            common as f64 / union.max(1) as f64 > f64::from(nms_iou)
        };
        if !kept.iter().any(same) {
            kept.push(*person);
        }
    }
    kept
}

/// A person, and what its mask is painted from.
#[derive(Clone, Copy)]
pub(super) struct Person<'a> {
    /// The person's number − 1.
    pub index: usize,
    pub pair: Pair,
    pub queries: &'a Queries,
    pub operator: &'a Upsampler,
}

/// Paints persons over one tile.
#[derive(Debug, Default)]
pub(super) struct PersonPainter {
    /// The greatest p·score so far, where p is the sigmoid, and the number of the person that it belongs to, `[rows]`
    /// each. Numbers are f32, so that both are chosen in one lane.
    best: Vec<Row>,
    number: Vec<Row>,
}

impl PersonPainter {
    pub(super) fn bytes(rows: u64) -> u64 {
        rows * 2 * size_of::<Row>() as u64
    }

    /// Fills `instances` (`[rows, TILE_WIDTH]`, the person's number or 0) and `masks` (`[persons, rows]`, empty for a
    /// person who is not among `persons`). A pixel that several masks hold goes to the person with the greatest p·score
    /// there, or to the one with the lower number if equal. Numbers ascend in `persons`.
    pub(super) fn paint(
        &mut self,
        tile: Tile,
        logits: &mut TileLogits,
        persons: &[Person<'_>],
        instances: &mut [u8],
        masks: &mut [RowBits],
    ) {
        let rows = tile.rows;
        for buffer in [&mut self.best, &mut self.number] {
            buffer.clear();
            buffer.resize_with(rows, Row::default);
        }
        masks.fill([0; TILE_WORDS]);
        for &Person { index, pair, queries, operator } in persons {
            let window = Window { queries, operator, tile };
            if !logits.load(&window, pair.query) {
                continue;
            }
            for row in 0..rows {
                let Some(values) = logits.row(&window, row) else { continue };
                masks[index * rows + row] = inside(values);
                claim(&mut self.best[row], &mut self.number[row], values, pair.score, index + 1);
            }
        }
        for (out, number) in instances.chunks_exact_mut(TILE_WIDTH).zip(&self.number) {
            for (out, &number) in out.iter_mut().zip(&number.0) {
                *out = number as u8;
            }
        }
    }
}

/// Gives a row's pixels to the person `number` where its mask claims them more than any before it.
#[multiversion(targets = "simd")]
fn claim(best: &mut Row, owner: &mut Row, values: &Row, score: f32, number: usize) {
    for ((best, owner), &v) in best.0.iter_mut().zip(&mut owner.0).zip(&values.0) {
        let claim = if v > 0.0 { sigmoid(v) * score } else { 0.0 };
        let wins = claim > *best;
        *owner = if wins { number as f32 } else { *owner };
        *best = if wins { claim } else { *best };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_pixels_inside() {
        let mut row = Row::default();
        for x in [0, 1, 7, 8, 63, 64, 100, 127] {
            row.0[x] = 0.5;
        }
        let bits = inside(&row);
        for x in 0..TILE_WIDTH {
            assert_eq!(bits[x / 64] >> (x % 64) & 1 == 1, row.0[x] > 0.0, "{x}");
        }
    }

    #[test]
    fn suppression_is_greedy_from_the_best() {
        let person = |query, score| Pair { query, class: 1, probability: 1.0, score, pixels: 100 };
        let persons = [person(0, 0.9), person(1, 0.8), person(2, 0.7)];
        // 0 and 1 share 90 pixels, 1 and 2 share 90, 0 and 2 share 60. So 1 is dropped as the same person as 0, and 2
        // stays, because it is compared with 0 alone.
        let common = |a: &Pair, b: &Pair| if a.query.abs_diff(b.query) == 1 { 90 } else { 60 };
        let kept: Vec<u32> = suppress(&persons, 0.7, common).iter().map(|p| p.query).collect();
        assert_eq!(kept, [0, 2]);
        assert_eq!(suppress(&persons, 1.0, common).len(), 3);
    }

    #[test]
    fn triangle_has_a_place_for_every_two() {
        let overlaps = Overlaps::new(5);
        let mut places: Vec<_> = (0..5).flat_map(|a| (a + 1..5).map(move |b| (a, b))).collect();
        for (expected, (a, b)) in places.drain(..).enumerate() {
            assert_eq!(overlaps.place(a, b), expected);
            assert_eq!(overlaps.place(b, a), expected);
        }
        assert_eq!(overlaps.pixels.len(), 10);
    }
}
