//! Chooses the (query, class) pairs whose pixels are worth looking at.

use super::view::{Pair, Sizes};
use crate::engine::Queries;
use crate::manifest::{LabelMap, Manifest};

/// A pair whose mask has not been looked at yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub query: u32,
    pub class: u8,
    pub probability: f32,
}

/// What a pair can be used for, depending on its class and its score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    background: u8,
    person: Option<u8>,
    part_score: f32,
    person_score: f32,
    /// `None` where the label map is not pasted.
    paste_score: Option<f32>,
}

impl Rules {
    /// Takes the thresholds from the manifest. `min_score` replaces those for reported parts and persons; it does not
    /// change the label map.
    pub(super) fn new(manifest: &Manifest, min_score: Option<f32>) -> Self {
        let thresholds = &manifest.thresholds;
        Self {
            background: manifest.background_id,
            person: manifest.person_id,
            part_score: min_score.unwrap_or(thresholds.part_score),
            person_score: min_score.unwrap_or(thresholds.person_score),
            paste_score: (manifest.label_map == LabelMap::Paste).then_some(thresholds.paste_score),
        }
    }

    /// Like [`Self::new`], but pairs are of use as persons alone.
    pub(super) fn of_persons(manifest: &Manifest, min_score: Option<f32>) -> Self {
        Self { part_score: f32::INFINITY, paste_score: None, ..Self::new(manifest, min_score) }
    }

    pub(super) fn is_person(&self, class: u8, score: f32) -> bool {
        Some(class) == self.person && score > self.person_score
    }

    pub(super) fn is_part(&self, class: u8, score: f32) -> bool {
        Some(class) != self.person && class != self.background && score >= self.part_score
    }

    pub(super) fn is_pasted(&self, class: u8, score: f32) -> bool {
        Some(class) != self.person && self.paste_score.is_some_and(|least| score >= least)
    }

    /// Whether the pair may be of any use once it is scored. A score is at most the probability, so a pair whose
    /// probability meets no threshold can be dropped before its mask is looked at.
    fn may_matter(&self, pair: &Candidate) -> bool {
        let (class, bound) = (pair.class, pair.probability);
        self.is_person(class, bound) || self.is_part(class, bound) || self.is_pasted(class, bound)
    }
}

/// The class probabilities, `[Q, C]`: the softmax over C+1 logits, of which the last column ("no object") is dropped.
pub(super) fn probabilities(queries: &Queries) -> Vec<f32> {
    let columns = queries.classes + 1;
    let mut probabilities = Vec::with_capacity(queries.count * queries.classes);
    for logits in queries.class_logits.chunks_exact(columns) {
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|x| (x - greatest).exp()).sum();
        probabilities.extend(logits[..queries.classes].iter().map(|x| (x - greatest).exp() / total));
    }
    probabilities
}

/// The `top_k` most probable pairs, without those among them that `rules` has no use for. The best come first, and
/// equal ones are ordered by their place in `[Q, C]`. Pairs whose probability is not a number are left out.
pub(super) fn candidates(queries: &Queries, top_k: u32, rules: &Rules) -> Vec<Candidate> {
    let probabilities = probabilities(queries);
    let mut order: Vec<u32> =
        (0..probabilities.len() as u32).filter(|&i| !probabilities[i as usize].is_nan()).collect();
    let by_rank =
        |a: &u32, b: &u32| probabilities[*b as usize].total_cmp(&probabilities[*a as usize]).then_with(|| a.cmp(b));
    let top_k = top_k as usize;
    if order.len() > top_k {
        order.select_nth_unstable_by(top_k, by_rank);
        order.truncate(top_k);
    }
    order.sort_unstable_by(by_rank);
    let pair = |flat: u32| Candidate {
        query: flat / queries.classes as u32,
        class: (flat % queries.classes as u32) as u8,
        probability: probabilities[flat as usize],
    };
    order.into_iter().map(pair).filter(|pair| rules.may_matter(pair)).collect()
}

/// Bytes of the probabilities, of their order, and of the pairs that come of them.
pub(super) fn bytes(sizes: &Sizes) -> u64 {
    const FOUND_LISTS: u64 = 5 * 255 * size_of::<Pair>() as u64;
    sizes.queries * sizes.classes * 8 + FOUND_LISTS
}

#[cfg(test)]
mod tests {
    use super::super::reference::{manifest, queries};
    use super::*;
    use crate::geometry::Size;

    #[test]
    fn ties_go_to_the_lower_place_and_hopeless_pairs_are_dropped() {
        let manifest = manifest(LabelMap::Paste, 3, Some(2));
        // There are two queries, three classes and "no object"; query 1 repeats query 0.
        let logits = vec![2.0, 5.0, 2.0, -9.0, 2.0, 5.0, 2.0, -9.0];
        let queries = queries(3, logits, Size::new(1, 1), vec![1.0, 1.0]);
        let rules = Rules::new(&manifest, None);
        let found = candidates(&queries, 3, &rules);
        // The third pair would be (0, 0) with probability 0.04, which is background under the paste threshold.
        let places: Vec<_> = found.iter().map(|pair| (pair.query, pair.class)).collect();
        assert_eq!(places, [(0, 1), (1, 1)]);
        let all = candidates(&queries, 255, &Rules::new(&manifest, Some(0.0)));
        let places: Vec<_> = all.iter().map(|pair| (pair.query, pair.class)).collect();
        assert_eq!(places, [(0, 1), (1, 1), (0, 2), (1, 2)]);
    }
}
