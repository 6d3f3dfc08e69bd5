//! Pass 1: scores the pairs and measures how much persons overlap.

use multiversion::multiversion;
use rayon::prelude::*;

use super::pairs::{self, Candidate, Rules};
use super::persons::{self, Overlaps};
use super::sigmoid::sigmoid;
use super::upsample::{Row, TILE_WIDTH, TileLogits, Window, tile, tiles_across};
use super::view::{BAND_ROWS, Found, Pair, Sizes, View};
use crate::manifest::{LabelMap, Manifest};

/// What a sigmoid of 1 counts in a [`Tally`]. Integers add up to the same sum in any order, so scores depend neither on
/// the band's height nor on the threads.
const FRACTIONS: f32 = (1u32 << 20) as f32;

/// How many pieces a pass is cut into for each thread: several, so that threads that end early find more work.
const PIECES_PER_THREAD: usize = 4;

/// One query's mask, summed over the photo.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Σ sigmoid over the mask's pixels, times `FRACTIONS`.
    sigmoids: u64,
    pixels: u64,
}

impl Tally {
    /// The mean sigmoid over the mask, with the reference's 1e-6 in the denominator; 0 for an empty mask.
    fn mean(self) -> f32 {
        let sum = self.sigmoids as f64 / f64::from(FRACTIONS);
        (sum / (self.pixels as f64 + 1e-6)) as f32
    }
}

/// Scores the queries, which is pass 1.
///
/// `min_score` replaces the manifest's `part_score` and `person_score`. `view` and `manifest` must have the same
/// classes, which the engine checks at load. The result does not depend on `band_rows`.
#[must_use]
pub fn find(view: &View<'_>, manifest: &Manifest, min_score: Option<f32>, band_rows: u32) -> Found {
    let mut found = find_by(view, manifest, &Rules::new(manifest, min_score), band_rows);
    if manifest.label_map == LabelMap::Paste {
        // A score is a mean over the mask, so it does not matter that this one is seen mirrored.
        let mirrored = view.mirror().map(|view| find(&view, manifest, min_score, band_rows).pasted);
        found.mirrored = mirrored.unwrap_or_default();
    }
    found
}

/// The persons that [`find`] finds, without the rest of its work.
pub(super) fn find_persons(view: &View<'_>, manifest: &Manifest, min_score: Option<f32>) -> Vec<Pair> {
    find_by(view, manifest, &Rules::of_persons(manifest, min_score), BAND_ROWS).persons
}

fn find_by(view: &View<'_>, manifest: &Manifest, rules: &Rules, band_rows: u32) -> Found {
    let candidates = pairs::candidates(view.queries, manifest.thresholds.top_k, rules);
    let survivors = Survivors::of(&candidates, rules);
    let (tallies, overlaps) = measure(view, &survivors, band_rows.max(1));

    let mut found = Found::default();
    for candidate in &candidates {
        let tally = tallies[survivors.place(candidate.query)];
        let Candidate { query, class, probability } = *candidate;
        let pair = Pair { query, class, probability, score: probability * tally.mean(), pixels: tally.pixels };
        if rules.is_person(class, pair.score) {
            found.raw_persons.push(pair);
        }
        if rules.is_part(class, pair.score) {
            found.parts.push(pair);
        }
        if rules.is_pasted(class, pair.score) {
            found.pasted.push(pair);
        }
    }
    for list in [&mut found.parts, &mut found.raw_persons, &mut found.pasted] {
        list.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| (a.query, a.class).cmp(&(b.query, b.class))));
    }
    let intersection = |a: &Pair, b: &Pair| overlaps.between(survivors.person(a.query), survivors.person(b.query));
    found.persons = persons::suppress(&found.raw_persons, manifest.thresholds.nms_iou, intersection);
    found
}

/// The queries to look at. Each is listed once, however many pairs share it.
struct Survivors {
    /// Ascending.
    queries: Vec<u32>,
    /// For each of `queries`, its number among those that may be persons, or `None`.
    persons: Vec<Option<usize>>,
}

impl Survivors {
    fn of(candidates: &[Candidate], rules: &Rules) -> Self {
        let mut queries: Vec<u32> = candidates.iter().map(|pair| pair.query).collect();
        queries.sort_unstable();
        queries.dedup();
        let mut survivors = Self { persons: vec![None; queries.len()], queries };
        let persons = candidates.iter().filter(|pair| rules.is_person(pair.class, pair.probability));
        for (number, pair) in persons.enumerate() {
            let place = survivors.place(pair.query);
            survivors.persons[place] = Some(number);
        }
        survivors
    }

    fn place(&self, query: u32) -> usize {
        self.queries.binary_search(&query).expect("every candidate's query is listed")
    }

    fn person(&self, query: u32) -> usize {
        self.persons[self.place(query)].expect("a person's probability is at least its score")
    }

    fn person_count(&self) -> usize {
        self.persons.iter().flatten().count()
    }
}

/// Measures every surviving query over the whole photo, in tiles of `band_rows` rows.
fn measure(view: &View<'_>, survivors: &Survivors, band_rows: u32) -> (Vec<Tally>, Overlaps) {
    let operator = view.upsampler();
    let (height, band_rows) = (view.photo.height as usize, band_rows as usize);
    let bands = height.div_ceil(band_rows);
    let jobs = tiles_across(view.photo) * bands;
    let nothing = || Sums::new(survivors);
    (0..jobs)
        .into_par_iter()
        .with_min_len(jobs.div_ceil(PIECES_PER_THREAD * rayon::current_num_threads()))
        .fold(
            || (nothing(), Scratch::default()),
            |(mut sums, mut scratch), job| {
                let y = job % bands * band_rows;
                let tile = tile(view.photo, job / bands, y, band_rows.min(height - y));
                let window = Window { queries: view.queries, operator: &operator, tile };
                scratch.overlapping.begin(survivors.person_count(), tile.rows);
                for (place, &query) in survivors.queries.iter().enumerate() {
                    if !scratch.logits.load(&window, query) {
                        continue;
                    }
                    let person = survivors.persons[place];
                    for row in 0..tile.rows {
                        let Some(values) = scratch.logits.row(&window, row) else { continue };
                        add(&mut sums.tallies[place], values);
                        if let Some(person) = person {
                            scratch.overlapping.set(person, row, values);
                        }
                    }
                }
                scratch.overlapping.count(&mut sums.overlaps);
                (sums, scratch)
            },
        )
        .map(|(sums, _)| sums)
        .reduce(nothing, Sums::plus)
        .into_parts()
}

/// What one piece of the pass has added up.
struct Sums {
    tallies: Vec<Tally>,
    overlaps: Overlaps,
}

impl Sums {
    fn new(survivors: &Survivors) -> Self {
        Self {
            tallies: vec![Tally::default(); survivors.queries.len()],
            overlaps: Overlaps::new(survivors.person_count()),
        }
    }

    fn plus(mut self, other: Self) -> Self {
        for (a, b) in self.tallies.iter_mut().zip(other.tallies) {
            a.sigmoids += b.sigmoids;
            a.pixels += b.pixels;
        }
        self.overlaps.add(&other.overlaps);
        self
    }

    fn into_parts(self) -> (Vec<Tally>, Overlaps) {
        (self.tallies, self.overlaps)
    }
}

#[derive(Default)]
struct Scratch {
    logits: TileLogits,
    overlapping: persons::TileMasks,
}

/// Adds a row's pixels inside the mask. Columns past the tile's width are 0 and therefore outside.
#[multiversion(targets = "simd")]
fn add(tally: &mut Tally, row: &Row) {
    const LANES: usize = 8;
    let mut sums = [0.0_f32; LANES];
    let mut counts = [0_u32; LANES];
    // The order of the sums is fixed, that of the sigmoids need not be. So these have a loop of their own, which uses
    // the widest registers there are.
    let mut sigmoids = [0.0; TILE_WIDTH];
    for (sigmoid_of, &v) in sigmoids.iter_mut().zip(&row.0) {
        *sigmoid_of = if v > 0.0 { sigmoid(v) } else { 0.0 };
    }
    for (sigmoids, values) in sigmoids.chunks_exact(LANES).zip(row.0.chunks_exact(LANES)) {
        for (((sum, count), sigmoid), &v) in sums.iter_mut().zip(&mut counts).zip(sigmoids).zip(values) {
            *sum += sigmoid;
            *count += u32::from(v > 0.0);
        }
    }
    // The sum is at most 128, which f32 holds to within 2^-17; FRACTIONS, 2^20, are finer than that.
    tally.sigmoids += (sums.iter().sum::<f32>() * FRACTIONS) as u64;
    tally.pixels += u64::from(counts.iter().sum::<u32>());
}

/// Bytes of the sums of every piece that may be alive at once, and of every thread's scratch memory.
pub(super) fn bytes(sizes: &Sizes) -> u64 {
    let sums = sizes.queries * size_of::<Tally>() as u64 + Overlaps::bytes(sizes.persons);
    let masks = sizes.persons * sizes.band_rows * (TILE_WIDTH as u64 / 8 + 8);
    let pieces = 2 * PIECES_PER_THREAD as u64 * sizes.threads;
    pieces * sums + sizes.threads * (sizes.tile + masks)
}
