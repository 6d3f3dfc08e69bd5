//! The label map `paste`. It is M2FP's parsing mode, `paste_instance_to_semseg_probs` in the reference.

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
}

/// Groups the pasted pairs by class, in ascending order of class.
pub(super) fn by_class(pasted: &[Pair]) -> Vec<ClassPairs> {
    let mut sorted = pasted.to_vec();
    sorted.sort_by(|a, b| a.class.cmp(&b.class).then_with(|| a.score.total_cmp(&b.score)));
    let groups = sorted.chunk_by(|a, b| a.class == b.class);
    groups.map(|pairs| ClassPairs { class: pairs[0].class, pairs: pairs.to_vec() }).collect()
}

/// Paints the label map over one tile. A class's value at a pixel is the mean of the pastes that reach the pixel.
#[derive(Debug, Default)]
pub(super) struct Paster {
    /// The best mean so far and its class, `[rows]` each. The class is an f32, so that both are chosen in one lane.
    best: Vec<Row>,
    label: Vec<Row>,
    /// For the class in progress, the sum of what was pasted at each pixel, and how often something was.
    sum: Vec<Row>,
    times: Vec<Row>,
    touched: Vec<bool>,
}

impl Paster {
    pub(super) fn bytes(rows: u64) -> u64 {
        rows * (4 * size_of::<Row>() as u64 + 1)
    }

    /// Fills `labels`, `[rows, TILE_WIDTH]`. Pixels that no class claims become `background`. Where several classes are
    /// equal, the one with the lowest id wins.
    pub(super) fn paint(
        &mut self,
        window: &Window<'_>,
        logits: &mut TileLogits,
        classes: &[ClassPairs],
        background: u8,
        labels: &mut [u8],
    ) {
        self.begin(window.tile.rows, background);
        for ClassPairs { class, pairs } in classes {
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
                merge(&mut self.best[row], &mut self.label[row], &self.sum[row], &self.times[row], *class);
            }
        }
        for (out, label) in labels.chunks_exact_mut(TILE_WIDTH).zip(&self.label) {
            for (out, &label) in out.iter_mut().zip(&label.0) {
                *out = label as u8;
            }
        }
    }

    fn begin(&mut self, rows: usize, background: u8) {
        for buffer in [&mut self.best, &mut self.label, &mut self.sum, &mut self.times] {
            buffer.resize_with(rows, Row::default);
        }
        self.touched.resize(rows, false);
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

/// Ends the running class in a row: it takes the pixels where its mean is the greatest yet.
#[multiversion(targets = "simd")]
fn merge(best: &mut Row, label: &mut Row, sum: &Row, times: &Row, class: u8) {
    let pasted = sum.0.iter().zip(&times.0);
    let painted = best.0.iter_mut().zip(&mut label.0);
    for ((sum, times), (best, label)) in pasted.zip(painted) {
        let mean = sum / if *times > 1.0 { *times } else { 1.0 };
        let wins = mean > *best;
        *label = if wins { f32::from(class) } else { *label };
        *best = if wins { mean } else { *best };
    }
}
