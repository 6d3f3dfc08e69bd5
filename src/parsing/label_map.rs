//! The label map `paste`. It is M2FP's parsing mode, `paste_instance_to_semseg_probs` in the reference.
//!
//! Where the mirrored photo is parsed as well, a class's value is the mean of both answers', of which one that pastes
//! nothing has 0. That is `ParsingWithTTA` of M2FP's own code (`m2fp/test_time_augmentation.py`), with its flip.

use multiversion::multiversion;

use super::sigmoid::sigmoid;
use super::upsample::{Row, TILE_WIDTH, TileLogits, Window};
use super::view::Pair;

/// A pixel is pasted where its `sigmoid · score` is greater than this (>).
pub(super) const PASTED_ABOVE: f32 = 0.5;

/// The pairs of one class, in the order in which they are added up: worst score first.
#[derive(Debug)]
pub(super) struct ClassPairs {
    pub class: u8,
    pub pairs: Vec<Pair>,
    /// Those of the mirrored photo's answer.
    pub mirrored: Vec<Pair>,
}

/// Groups the pasted pairs by class, in ascending order of class.
pub(super) fn by_class(pasted: &[Pair], mirrored: &[Pair]) -> Vec<ClassPairs> {
    let mut classes: Vec<u8> = pasted.iter().chain(mirrored).map(|pair| pair.class).collect();
    classes.sort_unstable();
    classes.dedup();
    let of = |pasted: &[Pair], class: u8| {
        let mut pairs: Vec<Pair> = pasted.iter().copied().filter(|pair| pair.class == class).collect();
        pairs.sort_by(|a, b| a.score.total_cmp(&b.score));
        pairs
    };
    let group = |class| ClassPairs { class, pairs: of(pasted, class), mirrored: of(mirrored, class) };
    classes.into_iter().map(group).collect()
}

/// Paints the label map over one tile. A class's value at a pixel is the mean of the pastes that reach the pixel, or the
/// sum of two such means, one for each answer.
#[derive(Debug, Default)]
pub(super) struct Paster {
    /// The best mean so far and its class, `[rows]` each. The class is an f32, so that both are chosen in one lane.
    best: Vec<Row>,
    label: Vec<Row>,
    /// For the class in progress, its value so far, and in which rows it has one.
    value: Vec<Row>,
    valued: Vec<bool>,
    /// For the class and the answer in progress, the sum of what was pasted at each pixel, and how often something was.
    sum: Vec<Row>,
    times: Vec<Row>,
    touched: Vec<bool>,
}

impl Paster {
    pub(super) fn bytes(rows: u64) -> u64 {
        rows * (5 * size_of::<Row>() as u64 + 2)
    }

    /// Fills `labels`, `[rows, TILE_WIDTH]`. Pixels that no class claims become `background`. Where several classes are
    /// equal, the one with the lowest id wins. `windows` are of the same tile: the photo's answer, and the mirrored
    /// photo's where there is one.
    pub(super) fn paint(
        &mut self,
        windows: &[Window<'_>],
        logits: &mut TileLogits,
        classes: &[ClassPairs],
        background: u8,
        labels: &mut [u8],
    ) {
        let rows = windows[0].tile.rows;
        self.begin(rows, background);
        for ClassPairs { class, pairs, mirrored } in classes {
            self.valued.fill(false);
            for (window, pairs) in windows.iter().zip([pairs, mirrored]) {
                self.add_answer(window, logits, pairs);
            }
            for row in (0..rows).filter(|&row| self.valued[row]) {
                merge(&mut self.best[row], &mut self.label[row], &self.value[row], *class);
            }
        }
        for (out, label) in labels.chunks_exact_mut(TILE_WIDTH).zip(&self.label) {
            for (out, &label) in out.iter_mut().zip(&label.0) {
                *out = label as u8;
            }
        }
    }

    /// Adds to the running class's value the mean of what one answer pastes.
    fn add_answer(&mut self, window: &Window<'_>, logits: &mut TileLogits, pairs: &[Pair]) {
        self.touched.fill(false);
        for pair in pairs {
            if !logits.load(window, pair.query) {
                continue;
            }
            for row in 0..window.tile.rows {
                // In a row without a positive logit, sigmoid · score is at most 0.5, so there is nothing to paste.
                if let Some(values) = logits.row(window, row) {
                    if !std::mem::replace(&mut self.touched[row], true) {
                        self.sum[row].0.fill(0.0);
                        self.times[row].0.fill(0.0);
                    }
                    paste(&mut self.sum[row], &mut self.times[row], values, pair.score);
                }
            }
        }
        for row in (0..window.tile.rows).filter(|&row| self.touched[row]) {
            if !std::mem::replace(&mut self.valued[row], true) {
                self.value[row].0.fill(0.0);
            }
            add_mean(&mut self.value[row], &self.sum[row], &self.times[row]);
        }
    }

    fn begin(&mut self, rows: usize, background: u8) {
        for buffer in [&mut self.best, &mut self.label, &mut self.value, &mut self.sum, &mut self.times] {
            buffer.resize_with(rows, Row::default);
        }
        for flags in [&mut self.valued, &mut self.touched] {
            flags.resize(rows, false);
        }
        for (best, label) in self.best.iter_mut().zip(&mut self.label) {
            best.0.fill(0.0);
            label.0.fill(f32::from(background));
        }
    }
}

/// Adds a mask's row to the running class's sums.
#[multiversion(targets = "simd")]
fn paste(sum: &mut Row, times: &mut Row, values: &Row, score: f32) {
    for ((sum, times), &v) in sum.0.iter_mut().zip(&mut times.0).zip(&values.0) {
        let value = sigmoid(v) * score;
        let pasted = value > PASTED_ABOVE;
        *sum += if pasted { value } else { 0.0 };
        *times += if pasted { 1.0 } else { 0.0 };
    }
}

/// Ends an answer's part in the running class: the mean of its pastes is added to the class's value.
#[multiversion(targets = "simd")]
fn add_mean(value: &mut Row, sum: &Row, times: &Row) {
    for ((value, sum), times) in value.0.iter_mut().zip(&sum.0).zip(&times.0) {
        *value += sum / if *times > 1.0 { *times } else { 1.0 };
    }
}

/// Ends the running class in a row: it takes the pixels where its value is the greatest yet.
#[multiversion(targets = "simd")]
fn merge(best: &mut Row, label: &mut Row, value: &Row, class: u8) {
    for ((value, best), label) in value.0.iter().zip(&mut best.0).zip(&mut label.0) {
        let wins = *value > *best;
        *label = if wins { f32::from(class) } else { *label };
        *best = if wins { *value } else { *best };
    }
}
