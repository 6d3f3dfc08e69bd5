//! COCO's compressed run-length encoding, made from rows.
//!
//! The encoding runs down the columns, but rows come one after the other from the top. So only the places where a pixel
//! differs from the one above it are kept, and never the mask. The text is that of pycocotools (`rleToString` in
//! `common/maskApi.c` of cocodataset/cocoapi).

use serde::Serialize;

use crate::geometry::Size;

/// A mask as pycocotools takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rle {
    /// `[height, width]`.
    pub size: [u32; 2],
    pub counts: String,
}

/// The places where pixels differ from the pixel above them, in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Transitions {
    columns: Vec<u32>,
    /// The value that begins at each place and runs down from it.
    values: Vec<u8>,
    /// For each row that has ended, how many transitions there were by then.
    row_ends: Vec<u32>,
    /// The values of row 0.
    first: Vec<u8>,
}

impl Transitions {
    /// How many transitions there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    fn push(&mut self, column: usize, value: u8) {
        self.columns.push(column as u32);
        self.values.push(value);
    }

    fn end_row(&mut self) {
        self.row_ends.push(self.columns.len() as u32);
    }

    /// The same transitions, sorted by column.
    #[must_use]
    pub(crate) fn into_columns(self) -> Columns {
        let width = self.first.len();
        let mut starts = vec![0_u32; width + 1];
        for &column in &self.columns {
            starts[column as usize + 1] += 1;
        }
        for column in 0..width {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let mut changes = vec![Change { row: 0, value: 0 }; self.columns.len()];
        let mut begin = 0;
        for (row, &end) in self.row_ends.iter().enumerate() {
            for i in begin..end as usize {
                let place = &mut next[self.columns[i] as usize];
                changes[*place as usize] = Change { row: row as u32, value: self.values[i] };
                *place += 1;
            }
            begin = end as usize;
        }
        Columns { height: self.row_ends.len() as u32, first: self.first, starts, changes }
    }
}

#[derive(Debug, Clone, Copy)]
struct Change {
    row: u32,
    value: u8,
}

/// A picture of small numbers as runs down its columns.
#[derive(Debug)]
pub(crate) struct Columns {
    height: u32,
    first: Vec<u8>,
    starts: Vec<u32>,
    changes: Vec<Change>,
}

impl Columns {
    /// The mask of the pixels that have `value`.
    #[must_use]
    pub fn encode(&self, value: u8) -> Rle {
        let mut runs = Runs::default();
        for (column, &first) in self.first.iter().enumerate() {
            let (mut current, mut top) = (first, 0);
            for change in &self.changes[self.starts[column] as usize..self.starts[column + 1] as usize] {
                runs.add(current == value, change.row - top);
                (current, top) = (change.value, change.row);
            }
            runs.add(current == value, self.height - top);
        }
        Rle { size: [self.height, self.first.len() as u32], counts: runs.finish() }
    }
}

/// Takes rows of class ids (or any small numbers) and keeps their transitions.
#[derive(Debug, Default)]
pub(crate) struct LabelRows {
    transitions: Transitions,
    above: Vec<u8>,
}

impl LabelRows {
    /// Takes the next row.
    pub fn push(&mut self, row: &[u8]) {
        /// How many pixels are compared at once. Most pieces equal the piece above them.
        const PIECE: usize = 64;
        if self.above.is_empty() {
            self.above = row.to_vec();
            self.transitions.first = row.to_vec();
        }
        for (piece, (new, old)) in row.chunks(PIECE).zip(self.above.chunks(PIECE)).enumerate() {
            if new == old {
                continue;
            }
            for (x, (&new, _)) in new.iter().zip(old).enumerate().filter(|(_, (new, old))| new != old) {
                self.transitions.push(piece * PIECE + x, new);
            }
        }
        self.above.copy_from_slice(row);
        self.transitions.end_row();
    }

    #[must_use]
    pub(crate) fn transitions(&self) -> &Transitions {
        &self.transitions
    }

    #[must_use]
    pub fn finish(self) -> Transitions {
        self.transitions
    }
}

/// Takes rows of bits and keeps their transitions. Pixel x is bit x % 64 of word x / 64; it is 1 inside the mask.
#[derive(Debug)]
pub(crate) struct BitRows {
    transitions: Transitions,
    width: usize,
    above: Vec<u64>,
}

impl BitRows {
    #[must_use]
    pub fn new(width: u32) -> Self {
        Self { transitions: Transitions::default(), width: width as usize, above: Vec::new() }
    }

    /// Takes the next row. Bits past the width must be 0.
    pub fn push(&mut self, row: &[u64]) {
        if self.above.is_empty() {
            self.above = row.to_vec();
            self.transitions.first = (0..self.width).map(|x| (row[x / 64] >> (x % 64) & 1) as u8).collect();
        }
        for (word, (&new, &old)) in row.iter().zip(&self.above).enumerate() {
            let mut changed = new ^ old;
            while changed != 0 {
                let bit = changed.trailing_zeros() as usize;
                self.transitions.push(word * 64 + bit, (new >> bit & 1) as u8);
                changed &= changed - 1;
            }
        }
        self.above.copy_from_slice(row);
        self.transitions.end_row();
    }

    #[must_use]
    pub(crate) fn transitions(&self) -> &Transitions {
        &self.transitions
    }

    #[must_use]
    pub fn finish(self) -> Transitions {
        self.transitions
    }
}

/// Bytes of one picture's rows and columns with `transitions` transitions. These are counted as they come (in vectors
/// that may have grown to twice what is needed), sorted, and as text.
#[must_use]
pub(crate) fn rle_bytes(size: Size, transitions: u64) -> u64 {
    const COMING: u64 = 2 * (4 + 1);
    const SORTED: u64 = size_of::<Change>() as u64;
    /// A count has at most 28 bits, which take 6 characters. A transition ends a run in at most two masks: that of the
    /// value above it and that of its own value.
    const TEXT: u64 = 2 * 6;
    let sides = u64::from(size.width) * (1 + 1 + 4 + 4) + u64::from(size.height) * 8;
    sides + transitions * (COMING + SORTED + TEXT)
}

/// Writes alternating runs, the first of them outside the mask, as pycocotools' text.
#[derive(Debug, Default)]
struct Runs {
    inside: bool,
    length: u32,
    /// The last two counts that were written, the older one first, and how many were written in all.
    before: [u32; 2],
    written: usize,
    text: String,
}

impl Runs {
    fn add(&mut self, inside: bool, length: u32) {
        if inside == self.inside {
            self.length += length;
        } else if length > 0 {
            self.write();
            (self.inside, self.length) = (inside, length);
        }
    }

    /// Writes the running count, or from the fourth count on its difference to the count before the last. A character
    /// holds five bits, the lowest first; the highest bit of the last character is the sign.
    fn write(&mut self) {
        let mut rest = i64::from(self.length);
        if self.written > 2 {
            rest -= i64::from(self.before[0]);
        }
        loop {
            let low = (rest & 0x1f) as u8;
            rest >>= 5;
            let done = if low & 0x10 == 0 { rest == 0 } else { rest == -1 };
            self.text.push(char::from(48 + low + if done { 0 } else { 0x20 }));
            if done {
                break;
            }
        }
        self.before = [self.before[1], self.length];
        self.written += 1;
    }

    fn finish(mut self) -> String {
        self.write();
        self.text
    }
}

/// Decodes a mask into its pixels, column-major. This is the reverse of the encoding.
///
/// # Errors
/// A few words that say what is wrong with the text.
pub fn decode(rle: &Rle) -> Result<Vec<bool>, String> {
    let mut counts: Vec<i64> = Vec::new();
    let (mut value, mut shift) = (0_i64, 0);
    for byte in rle.counts.bytes() {
        let digit = byte.checked_sub(48).filter(|digit| *digit < 64).ok_or("a character out of range")?;
        if shift > 40 {
            return Err("a count of too many digits".into());
        }
        value |= i64::from(digit & 0x1f) << shift;
        shift += 5;
        if digit & 0x20 == 0 {
            if digit & 0x10 != 0 {
                value |= -1 << shift;
            }
            if counts.len() > 2 {
                value += counts[counts.len() - 2];
            }
            counts.push(value);
            (value, shift) = (0, 0);
        }
    }
    let area = i64::from(rle.size[0]) * i64::from(rle.size[1]);
    if shift != 0 || counts.iter().any(|c| *c < 0 || *c > area) || counts.iter().sum::<i64>() != area {
        return Err("counts that are not the mask's size".into());
    }
    let mut mask = Vec::with_capacity(area as usize);
    for (i, &count) in counts.iter().enumerate() {
        mask.extend(std::iter::repeat_n(i % 2 == 1, count as usize));
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// pycocotools' `rleEncode` and `rleToString`, written plainly.
    fn plain(mask: &[bool], size: Size) -> Rle {
        let (width, height) = (size.width as usize, size.height as usize);
        let mut counts = vec![0_i64];
        let mut inside = false;
        for i in 0..width * height {
            let pixel = mask[i % height * width + i / height];
            if pixel != inside {
                counts.push(0);
                inside = pixel;
            }
            *counts.last_mut().unwrap() += 1;
        }
        let mut text = String::new();
        for (i, &count) in counts.iter().enumerate() {
            let mut x = if i > 2 { count - counts[i - 2] } else { count };
            let mut more = true;
            while more {
                let mut c = (x & 0x1f) as u8;
                x >>= 5;
                more = if c & 0x10 != 0 { x != -1 } else { x != 0 };
                if more {
                    c |= 0x20;
                }
                text.push(char::from(c + 48));
            }
        }
        Rle { size: [size.height, size.width], counts: text }
    }

    #[test]
    fn known_texts() {
        // The texts are those that pycocotools gives for encode(asfortranarray([[0, 1], [1, 1]])) and for an empty and
        // a full 2 × 3 mask.
        let encode = |rows: &[&[u8]]| {
            let mut labels = LabelRows::default();
            for row in rows {
                labels.push(row);
            }
            labels.finish().into_columns().encode(1)
        };
        assert_eq!(encode(&[&[0, 1], &[1, 1]]).counts, "13");
        assert_eq!(encode(&[&[0, 0, 0], &[0, 0, 0]]).counts, "6");
        assert_eq!(encode(&[&[1, 1, 1], &[1, 1, 1]]).counts, "06");
        assert!(decode(&Rle { size: [2, 2], counts: "5".into() }).is_err());
        assert!(decode(&Rle { size: [2, 2], counts: "~".into() }).is_err());
    }

    proptest! {
        #[test]
        fn streamed_equals_plain((width, labels) in (1usize..150).prop_flat_map(|width| {
            (Just(width), 1usize..30).prop_flat_map(|(width, height)| {
                (Just(width), prop::collection::vec(prop_oneof![4 => Just(0u8), 1 => 0u8..4], width * height))
            })
        })) {
            let size = Size::new(width as u32, (labels.len() / width) as u32);
            let mut rows = LabelRows::default();
            labels.chunks(width).for_each(|row| rows.push(row));
            let columns = rows.finish().into_columns();
            for value in 0..4 {
                let mask: Vec<bool> = labels.iter().map(|&label| label == value).collect();
                let expected = plain(&mask, size);
                prop_assert_eq!(&columns.encode(value), &expected);

                let mut bits = BitRows::new(size.width);
                for row in mask.chunks(width) {
                    let mut words = vec![0; width.div_ceil(64)];
                    for (x, _) in row.iter().enumerate().filter(|(_, inside)| **inside) {
                        words[x / 64] |= 1 << (x % 64);
                    }
                    bits.push(&words);
                }
                prop_assert_eq!(&bits.finish().into_columns().encode(1), &expected);

                let decoded = decode(&expected).unwrap();
                let height = size.height as usize;
                for (i, inside) in decoded.into_iter().enumerate() {
                    prop_assert_eq!(inside, mask[i % height * width + i / height]);
                }
            }
        }
    }
}
