//! COCO's compressed run-length encoding, made from rows.
//!
//! The encoding runs down the columns, but rows come one after the other from the top. So only the places where a pixel
//! differs from the one above it are kept, and never the mask. The text is that of pycocotools (`rleToString` in
//! `common/maskApi.c` of cocodataset/cocoapi).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Limit};
use crate::geometry::{BBox, Size};
use crate::parsing::Band;

/// A mask as pycocotools takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rle {
    /// `[height, width]`.
    pub size: [u32; 2],
    pub counts: String,
}

/// How many transitions masks may have for each pixel of the photo's width plus height: some 37 in every column of a
/// 1080p photo, more than crowds have edges.
const TRANSITIONS_PER_SIDE_PIXEL: u64 = 24;

/// The most transitions that the label map, and the persons together, may have.
#[must_use]
pub(super) fn most_transitions(photo: Size) -> u64 {
    TRANSITIONS_PER_SIDE_PIXEL * (u64::from(photo.width) + u64::from(photo.height))
}

/// The failure of an output that is nothing without its masks.
#[must_use]
pub(super) fn too_many_edges() -> Error {
    let detail = "the masks have more edges than the memory planned for them".to_owned();
    Error::TooLarge { limit: Limit::Memory, detail }
}

/// The places where pixels differ from the pixel above them, in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Transitions<V = u8> {
    columns: Vec<u32>,
    /// The value that begins at each place and runs down from it.
    values: Vec<V>,
    /// For each row that has ended, how many transitions there were by then.
    row_ends: Vec<u32>,
    /// The values of row 0.
    first: Vec<V>,
}

impl<V: Copy + Default + PartialEq> Transitions<V> {
    /// How many transitions there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The values of all pixels, some of them many times.
    pub(crate) fn values(&self) -> impl Iterator<Item = V> + '_ {
        self.first.iter().chain(&self.values).copied()
    }

    /// Gives the rows to `sink` again, each with whether it differs from the row before it.
    ///
    /// # Errors
    /// What `sink` returns.
    pub(crate) fn replay<E>(&self, mut sink: impl FnMut(&[V], bool) -> Result<(), E>) -> Result<(), E> {
        let mut row = self.first.clone();
        let mut begin = 0;
        for (y, &end) in self.row_ends.iter().enumerate() {
            for i in begin..end as usize {
                row[self.columns[i] as usize] = self.values[i];
            }
            let is_new = y == 0 || end as usize > begin;
            sink(&row, is_new)?;
            begin = end as usize;
        }
        Ok(())
    }

    fn push(&mut self, column: usize, value: V) {
        self.columns.push(column as u32);
        self.values.push(value);
    }

    fn end_row(&mut self) {
        self.row_ends.push(self.columns.len() as u32);
    }

    /// The same transitions, sorted by column.
    #[must_use]
    pub(crate) fn into_columns(self) -> Columns<V> {
        let width = self.first.len();
        let mut starts = vec![0_u32; width + 1];
        for &column in &self.columns {
            starts[column as usize + 1] += 1;
        }
        for column in 0..width {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let mut changes = vec![Change { row: 0, value: V::default() }; self.columns.len()];
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
struct Change<V> {
    row: u32,
    value: V,
}

/// A picture of small numbers as runs down its columns.
#[derive(Debug)]
pub(crate) struct Columns<V = u8> {
    height: u32,
    first: Vec<V>,
    starts: Vec<u32>,
    changes: Vec<Change<V>>,
}

impl<V: Copy + PartialEq> Columns<V> {
    /// The values of all pixels, some of them many times.
    pub(crate) fn values(&self) -> impl Iterator<Item = V> + '_ {
        self.first.iter().copied().chain(self.changes.iter().map(|change| change.value))
    }

    /// The mask of the pixels that have `value`.
    #[must_use]
    pub fn encode(&self, value: V) -> Rle {
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
pub(crate) struct LabelRows<V = u8> {
    transitions: Transitions<V>,
    above: Vec<V>,
}

impl<V: Copy + Default + PartialEq> LabelRows<V> {
    /// Takes the next row.
    pub fn push(&mut self, row: &[V]) {
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
    pub(crate) fn transitions(&self) -> &Transitions<V> {
        &self.transitions
    }

    #[must_use]
    pub fn finish(self) -> Transitions<V> {
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

    /// A picture that begins with `rows` rows of zeros.
    fn below(rows: u32, width: u32) -> Self {
        let mut picture = Self::new(width);
        if rows > 0 {
            picture.above = vec![0; picture.width.div_ceil(64)];
            picture.transitions.first = vec![0; picture.width];
            picture.transitions.row_ends = vec![0; rows as usize];
        }
        picture
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

/// Takes the persons' masks from the bands and keeps their transitions. Persons may be added on the way: they have no
/// pixel in the bands before.
#[derive(Debug, Default)]
pub(crate) struct PersonRows {
    persons: Vec<BitRows>,
}

impl PersonRows {
    /// Takes row `row` of a band.
    pub(crate) fn push(&mut self, band: &Band<'_>, row: usize) {
        self.persons.resize_with(band.persons, || BitRows::below(band.y, band.width));
        for (index, person) in self.persons.iter_mut().enumerate() {
            person.push(band.mask_row(index, row));
        }
    }

    /// How many transitions all persons have together.
    #[must_use]
    pub(crate) fn transitions(&self) -> usize {
        self.persons.iter().map(|person| person.transitions().len()).sum()
    }

    /// The masks, in the order of the persons' numbers.
    pub(crate) fn finish(self) -> impl Iterator<Item = Rle> {
        self.persons.into_iter().map(|person| person.finish().into_columns().encode(1))
    }
}

/// Bytes that the rows and columns of a picture of labels hold, and the texts of the masks of its `values` values.
/// There are at most `transitions` transitions before the last row.
#[must_use]
pub(crate) fn label_rle_bytes<V>(size: Size, transitions: u64, values: u64) -> u64 {
    picture_bytes::<V>(size, transitions) + label_text_bytes(size, transitions, values)
}

/// The texts alone of [`label_rle_bytes`].
#[must_use]
pub(crate) fn label_text_bytes(size: Size, transitions: u64, values: u64) -> u64 {
    // A pixel that differs from the one above it, or the top of a column that differs from the foot of the column
    // before, ends a run in at most two masks: that of the value before it and that of its own. The transitions of one
    // last row are among them.
    let ends = transitions + 2 * u64::from(size.width);
    COUNT_BYTES * (2 * ends + COUNTS_MORE * values)
}

/// Bytes that the rows and columns of `masks` pictures of bits hold, and the texts of their masks. There are at most
/// `transitions` transitions in all of them before the last row. Columns are made of one at a time.
#[must_use]
pub(crate) fn bit_rle_bytes(size: Size, transitions: u64, masks: u64) -> u64 {
    let all = transitions + masks * u64::from(size.width);
    let sides = u64::from(size.width) / 8 + u64::from(size.width) + 8 * u64::from(size.height);
    picture_bytes::<u8>(size, all) + masks * sides + bit_text_bytes(size, transitions, masks)
}

/// The texts alone of [`bit_rle_bytes`].
#[must_use]
pub(crate) fn bit_text_bytes(size: Size, transitions: u64, masks: u64) -> u64 {
    // As of labels; each picture is one mask.
    let ends = transitions + masks * 2 * u64::from(size.width);
    COUNT_BYTES * (ends + COUNTS_MORE * masks)
}

/// A count has at most 28 bits and a sign, which take 6 characters.
const COUNT_BYTES: u64 = 6;

/// A mask has as many counts as its runs have ends, but for the first one, which may be of no pixel, and the last.
const COUNTS_MORE: u64 = 2;

/// Bytes of a picture's transitions, those of one last row among them, as they come (in vectors that may have grown to
/// twice what is needed) and sorted into columns.
fn picture_bytes<V>(size: Size, transitions: u64) -> u64 {
    let value = size_of::<V>() as u64;
    let each = 2 * (4 + value) + size_of::<Change<V>>() as u64;
    let sides = u64::from(size.width) * (2 * value + 4 + 4) + u64::from(size.height) * 8;
    sides + (transitions + u64::from(size.width)) * each
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
        self.text.shrink_to_fit();
        self.text
    }
}

impl Rle {
    /// How many pixels the mask has, and the box around them.
    ///
    /// # Errors
    /// A few words that say what is wrong with the text.
    pub(crate) fn extent(&self) -> Result<(u64, Option<BBox>), String> {
        let height = u64::from(self.size[0]);
        let (mut place, mut pixels) = (0, 0);
        // The first and the last column and row.
        let (mut left, mut right, mut top, mut bottom) = (u64::MAX, 0, u64::MAX, 0);
        for (i, count) in counts(self)?.into_iter().enumerate() {
            let (begin, end) = (place, place + count as u64);
            place = end;
            if i % 2 == 0 || count == 0 {
                continue;
            }
            pixels += count as u64;
            let last = end - 1;
            (left, right) = (left.min(begin / height), right.max(last / height));
            if begin / height == last / height {
                (top, bottom) = (top.min(begin % height), bottom.max(last % height));
            } else {
                (top, bottom) = (0, height - 1);
            }
        }
        let bbox = || BBox {
            x: left as u32,
            y: top as u32,
            width: (right - left + 1) as u32,
            height: (bottom - top + 1) as u32,
        };
        Ok((pixels, (pixels > 0).then(bbox)))
    }
}

/// Decodes a mask into its pixels, column-major. This is the reverse of the encoding.
///
/// # Errors
/// A few words that say what is wrong with the text.
pub fn decode(rle: &Rle) -> Result<Vec<bool>, String> {
    let counts = counts(rle)?;
    let mut mask = Vec::with_capacity(counts.iter().sum::<i64>() as usize);
    for (i, &count) in counts.iter().enumerate() {
        mask.extend(std::iter::repeat_n(i % 2 == 1, count as usize));
    }
    Ok(mask)
}

/// The lengths of a mask's runs, which together are its size.
fn counts(rle: &Rle) -> Result<Vec<i64>, String> {
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
    Ok(counts)
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
            let transitions = rows.finish();
            let mut replayed = Vec::new();
            transitions.replay(|row, _| { replayed.extend_from_slice(row); Ok::<_, ()>(()) }).unwrap();
            prop_assert_eq!(&replayed, &labels);
            let columns = transitions.into_columns();
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
                let places: Vec<_> = (0..labels.len()).filter(|i| mask[*i]).map(|i| (i % width, i / width)).collect();
                let (pixels, bbox) = expected.extent().unwrap();
                prop_assert_eq!(pixels, places.len() as u64);
                prop_assert_eq!(bbox.is_some(), !places.is_empty());
                if let Some(BBox { x, y, width, height }) = bbox {
                    let range = |of: fn(&(usize, usize)) -> usize| {
                        let values = places.iter().map(of);
                        (values.clone().min().unwrap() as u32, values.max().unwrap() as u32 + 1)
                    };
                    prop_assert_eq!((x, x + width), range(|place| place.0));
                    prop_assert_eq!((y, y + height), range(|place| place.1));
                }
            }
        }

        /// Whatever the picture, stripes that no row differs in among them, what is held is at most what is planned.
        #[test]
        fn what_is_held_is_planned_for(
            (width, height) in (1usize..200, 1usize..60),
            (period_x, period_y) in (1usize..5, 1usize..70),
            values in 1usize..6,
            noise in prop::collection::vec((0usize..12_000, 0u8..6), 0..40),
        ) {
            let mut labels: Vec<u8> = (0..width * height)
                .map(|i| ((i % width / period_x + i / width / period_y) % values) as u8)
                .collect();
            for (place, value) in noise {
                let area = labels.len();
                labels[place % area] = value % values as u8;
            }
            let size = Size::new(width as u32, height as u32);
            let held = |transitions: &Transitions| {
                transitions.columns.capacity() * 4 + transitions.values.capacity()
                    + transitions.row_ends.capacity() * 4 + transitions.first.capacity()
            };
            let in_columns = |columns: &Columns| {
                columns.first.capacity() + columns.starts.capacity() * 4
                    + columns.changes.capacity() * size_of::<Change<u8>>()
            };
            let slack = 64; // The least capacity of small vectors.

            let mut rows = LabelRows::default();
            labels.chunks(width).for_each(|row| rows.push(row));
            let count = rows.transitions().len();
            let transitions = rows.finish();
            let coming = held(&transitions);
            let columns = transitions.into_columns();
            let sorted = in_columns(&columns);
            let texts: usize = (0..values).map(|value| columns.encode(value as u8).counts.capacity()).sum();
            let most = label_rle_bytes::<u8>(size, count as u64, values as u64) as usize + slack;
            prop_assert!(coming + sorted + texts <= most, "{coming} + {sorted} + {texts} of {most}");
            // Not only all of it together: the texts alone keep within their share.
            let share = most - slack - picture_bytes::<u8>(size, count as u64) as usize;
            prop_assert!(texts <= share, "{texts} of {share}");

            let (mut total, mut largest, mut texts, mut count) = (0, 0, 0, 0);
            for value in 0..values {
                let mut bits = BitRows::new(size.width);
                for row in labels.chunks(width) {
                    let mut words = vec![0; width.div_ceil(64)];
                    for (x, _) in row.iter().enumerate().filter(|(_, label)| **label == value as u8) {
                        words[x / 64] |= 1 << (x % 64);
                    }
                    bits.push(&words);
                }
                count += bits.transitions().len();
                total += held(bits.transitions()) + bits.above.capacity() * 8;
                let columns = bits.finish().into_columns();
                largest = largest.max(in_columns(&columns));
                texts += columns.encode(1).counts.capacity();
            }
            let most = bit_rle_bytes(size, count as u64, values as u64) as usize + slack * values;
            prop_assert!(total + largest + texts <= most, "{total} + {largest} + {texts} of {most}");
        }
    }
}
