//! Tiles: the network sees a photo in overlapping pieces, at a larger size than it could see the whole photo.
//!
//! Tile rows are run when the bands need them, top to bottom, and dropped when the bands have passed. Each tile gives
//! class values at its own working pixels, from its own mask logits, so nothing is blurred. Where tiles overlap, values
//! are blended by weights that fall from 1 to 0 over the overlap, as half a cosine does. The class with the greatest
//! blended value is the label.
//!
//! Persons who lie wholly in a tile and are found in no other answer are taken as well. Such a person has no pixel above
//! or below the tile, so it is known before the first band that shows it, and its mask is painted from the tile's own
//! logits while these are held.

use std::collections::VecDeque;
use std::f32::consts::FRAC_PI_2;
use std::ops::Range;

use serde::Serialize;

use super::persons::Person;
use super::scores::{find, find_persons};
use super::semantic::{self, ClassRows, ClassValues, RowScratch};
use super::tile_persons::{Known, Sight, TilePerson};
use super::upsample::Upsampler;
use super::view::{Answers, BAND_ROWS, Found, Pair, Sizes, View};
use crate::engine::Queries;
use crate::error::Result;
use crate::geometry::{Region, Size};
use crate::manifest::{LabelMap, Manifest};

/// The side of a tile, in working pixels. Most photos are shown to a network at this size.
const SIDE: u32 = 512;
/// The least overlap of neighbours, in working pixels.
const OVERLAP: u32 = 64;
/// The most from the beginning of a tile to that of the next, in working pixels.
const STEP: u32 = SIDE - OVERLAP;

/// Where tiles lie on a photo resized to a working size. Every row has the same columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grid {
    columns: Vec<Range<u32>>,
    rows: Vec<Range<u32>>,
}

/// The pixels of each tile along a side. Tiles are spread evenly, so that every overlap is as wide as it can be and
/// every cut as far from the tiles' edges as it can be; none ends outside. All begin at multiples of the greatest power
/// of two that divides both `divisor` and [`STEP`], so that the cells of their masks are those of the whole photo's.
fn stretches(length: u32, divisor: u32) -> Vec<Range<u32>> {
    if length <= SIDE {
        return std::iter::once(0..length).collect();
    }
    let align = 1 << (divisor | STEP).trailing_zeros();
    let gaps = (length - OVERLAP).div_ceil(STEP) - 1;
    let start = |index: u32| {
        let units = (u64::from(index) * u64::from(length - SIDE)).div_ceil(u64::from(gaps) * align);
        (units * align) as u32
    };
    (0..=gaps).map(|index| start(index)..(start(index) + SIDE).min(length)).collect()
}

impl Grid {
    #[must_use]
    pub fn new(working: Size, divisor: u32) -> Self {
        Self { columns: stretches(working.width, divisor), rows: stretches(working.height, divisor) }
    }

    /// The size that the photo is resized to.
    #[must_use]
    pub fn working(&self) -> Size {
        let end = |stretches: &[Range<u32>]| stretches.last().map_or(0, |last| last.end);
        Size::new(end(&self.columns), end(&self.rows))
    }

    /// How many tiles there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        (self.columns.len() * self.rows.len()) as u32
    }

    /// The size of the largest tile.
    #[must_use]
    pub fn tile(&self) -> Size {
        let Size { width, height } = self.working();
        Size::new(width.min(SIDE), height.min(SIDE))
    }

    /// The most tiles that are held at once: those of all tile rows that any `rows` consecutive working rows lie in.
    fn most_held(&self, rows: u32) -> u64 {
        let reached = |tile: &Range<u32>| {
            let end = tile.end.saturating_add(rows - 1);
            self.rows.iter().filter(|other| other.start >= tile.start && other.start < end).count()
        };
        let most = self.rows.iter().map(reached).max().unwrap_or(0);
        (most * self.columns.len()) as u64
    }
}

/// The weights of each tile's pixels along a side. Those of all tiles that a pixel lies in add up to 1.
fn weights(stretches: &[Range<u32>]) -> Vec<Vec<f32>> {
    let ramp = |x: u32, overlap: u32| {
        let way = (x as f32 + 0.5) / overlap.max(1) as f32;
        if way < 1.0 { (way * FRAC_PI_2).sin().powi(2) } else { 1.0 }
    };
    let mut weights: Vec<Vec<f32>> = Vec::new();
    for (index, own) in stretches.iter().enumerate() {
        let before = index.checked_sub(1).map_or(0, |i| stretches[i].end - own.start);
        let after = stretches.get(index + 1).map_or(0, |next| own.end - next.start);
        weights.push(own.clone().map(|x| ramp(x - own.start, before) * ramp(own.end - 1 - x, after)).collect());
    }
    let end = stretches.last().map_or(0, |last| last.end);
    let mut totals = vec![0.0; end as usize];
    for (own, weights) in stretches.iter().zip(&weights) {
        for (x, weight) in own.clone().zip(weights) {
            totals[x as usize] += weight;
        }
    }
    for (own, weights) in stretches.iter().zip(&mut weights) {
        for (x, weight) in own.clone().zip(weights) {
            *weight /= totals[x as usize];
        }
    }
    weights
}

/// The tiles of one photo, run as they are needed.
pub struct Tiles<'a> {
    blend: Blend,
    manifest: &'a Manifest,
    min_score: Option<f32>,
    classes: Vec<u8>,
    /// Runs the network on one region of the photo at the working size, and where it is asked to on its mirror image.
    infer: Box<dyn FnMut(Region) -> Result<Answers> + 'a>,
    /// The first tile row that has not been run yet.
    next: usize,
    /// Persons whom the whole run did not find, in the order in which tiles are run, the best of a tile first.
    persons: Vec<Pair>,
}

/// The tiles that are held, and the weights of all tiles.
pub(super) struct Blend {
    grid: Grid,
    column_weights: Vec<Vec<f32>>,
    row_weights: Vec<Vec<f32>>,
    held: VecDeque<TileRow>,
}

struct TileRow {
    index: usize,
    /// One tile for each column.
    tiles: Vec<SeenTile>,
}

struct SeenTile {
    region: Region,
    values: ClassValues<Queries>,
    /// The number of the first of `persons` − 1. The others follow.
    first_person: usize,
    persons: Vec<TilePerson>,
    /// What reads their masks, where there are any.
    operator: Option<Upsampler>,
}

impl SeenTile {
    fn sight(&self, manifest: &Manifest) -> Sight<'_> {
        let geometry = manifest.geometry(self.region.size);
        Sight { queries: self.values.queries(), padded: geometry.padded, shown: geometry.photo, part: self.region }
    }

    fn known(&self, manifest: &Manifest) -> impl Iterator<Item = Known<'_>> {
        let sight = self.sight(manifest);
        self.persons.iter().map(move |person| Known { sight, query: person.pair.query, cells: person.cells })
    }
}

impl<'a> Tiles<'a> {
    /// `infer` is called once for each tile, in reading order. `min_score` is that of [`find`].
    pub fn new(
        grid: Grid,
        manifest: &'a Manifest,
        min_score: Option<f32>,
        infer: impl FnMut(Region) -> Result<Answers> + 'a,
    ) -> Self {
        let (column_weights, row_weights) = (weights(&grid.columns), weights(&grid.rows));
        let blend = Blend { grid, column_weights, row_weights, held: VecDeque::new() };
        let classes = semantic::competing(manifest);
        Self { blend, manifest, min_score, classes, infer: Box::new(infer), next: 0, persons: Vec::new() }
    }

    pub(super) fn working(&self) -> Size {
        self.blend.grid.working()
    }

    /// The class values of the tiles that are held.
    pub(super) fn blend(&self) -> &Blend {
        &self.blend
    }

    /// The persons whom tiles have found so far and the whole run has not. Their numbers follow those of the whole run.
    pub(super) fn persons(&self) -> &[Pair] {
        &self.persons
    }

    /// Those of [`Self::persons`] whose tiles are held.
    pub(super) fn held_persons(&self) -> impl Iterator<Item = Person<'_>> {
        let tiles = self.blend.held.iter().flat_map(|row| &row.tiles);
        tiles.filter_map(|tile| Some((tile, tile.operator.as_ref()?))).flat_map(|(tile, operator)| {
            let queries = tile.values.queries();
            let person = move |(place, person): (usize, &TilePerson)| Person {
                index: tile.first_person + place,
                pair: person.pair,
                queries,
                operator,
            };
            tile.persons.iter().enumerate().map(person)
        })
    }

    /// Holds every tile that the working rows `rows` lie in. They are in ascending order, and from call to call they
    /// only move down the photo. `view` and `found` are those of the whole run.
    pub(super) fn advance(&mut self, rows: &[u32], view: &View<'_>, found: &Found) -> Result<()> {
        if let (Some(&first), Some(&last)) = (rows.first(), rows.last()) {
            let places = &self.blend.grid.rows;
            self.blend.held.retain(|row| places[row.index].end > first);
            while self.blend.grid.rows.get(self.next).is_some_and(|place| place.start <= last) {
                let tiles = Vec::with_capacity(self.blend.grid.columns.len());
                self.blend.held.push_back(TileRow { index: self.next, tiles });
                self.run_row(view, found)?;
                self.next += 1;
            }
        }
        Ok(())
    }

    /// Runs the tiles of the last row that is held.
    fn run_row(&mut self, view: &View<'_>, found: &Found) -> Result<()> {
        let rows = self.blend.grid.rows[self.next].clone();
        for column in 0..self.blend.grid.columns.len() {
            let columns = self.blend.grid.columns[column].clone();
            let size = Size::new(columns.end - columns.start, rows.end - rows.start);
            let region = Region { left: columns.start, top: rows.start, size };
            let Answers { plain, mirrored } = (self.infer)(region)?;
            let mirrored = mirrored.map(|queries| self.values(queries, size)).transpose()?;
            let values = self.values(plain, size)?.with_mirrored(mirrored);
            let first_person = found.persons.len() + self.persons.len();
            let mut tile = SeenTile { region, values, first_person, persons: Vec::new(), operator: None };
            self.find_persons(&mut tile, view, found)?;
            self.persons.extend(tile.persons.iter().map(|person| person.pair));
            self.blend.held.back_mut().expect("the row that runs is held").tiles.push(tile);
        }
        Ok(())
    }

    /// Gives a tile the persons who are new in it.
    ///
    /// Tiles that are no longer held lie above this one, without overlapping it, so none of their persons is among its.
    fn find_persons(&self, tile: &mut SeenTile, view: &View<'_>, found: &Found) -> Result<()> {
        let (manifest, working) = (self.manifest, self.working());
        let sight = tile.sight(manifest);
        let tile_view = View::new(sight.queries, sight.padded, sight.shown, sight.shown.size)?;
        let whole = Sight { queries: view.queries, padded: view.padded, shown: view.working, part: working.into() };
        let cells_in_pixel = working.area() as f64 / view.photo.area() as f64 * sight.cells_in_pixel();
        let most = most_persons(manifest, found) - self.persons.len();
        let mut persons: Vec<TilePerson> = Vec::new();
        for pair in find_persons(&tile_view, manifest, self.min_score) {
            if persons.len() == most {
                break;
            }
            let of_whole = found.persons.iter().map(|pair| {
                let cells = pair.pixels as f64 * cells_in_pixel;
                Known { sight: whole, query: pair.query, cells }
            });
            let of_tiles = self.blend.held.iter().flat_map(|row| &row.tiles).flat_map(|tile| tile.known(manifest));
            let of_this = persons.iter().map(|one| Known { sight, query: one.pair.query, cells: one.cells });
            if let Some(person) = sight.take(pair, working, of_whole.chain(of_tiles).chain(of_this)) {
                persons.push(person);
            }
        }
        if !persons.is_empty() {
            let Sight { queries, padded, shown, part } = sight;
            tile.operator = Some(Upsampler::of_part(queries.mask_size, padded, shown, part, working, view.photo));
        }
        tile.persons = persons;
        Ok(())
    }

    /// What one answer says of the classes in a tile of this size.
    fn values(&self, queries: Queries, size: Size) -> Result<ClassValues<Queries>> {
        let geometry = self.manifest.geometry(size);
        let (padded, working, classes) = (geometry.padded, geometry.photo, self.classes.as_slice());
        Ok(match self.manifest.label_map {
            LabelMap::Semantic => ClassValues::semantic(queries, padded, working, classes),
            LabelMap::Paste => {
                let found = find(&View::new(&queries, padded, working, size)?, self.manifest, None, BAND_ROWS);
                let background = self.manifest.background_id;
                ClassValues::paste(queries, padded, working, classes, &found.pasted, background)
            }
        })
    }
}

impl ClassRows for Blend {
    fn add_row(&self, row: u32, scratch: &mut RowScratch, sums: &mut [f32]) {
        let width = self.grid.working().width as usize;
        let mut values = std::mem::take(&mut scratch.values);
        for TileRow { index, tiles } in self.held.iter().filter(|held| self.grid.rows[held.index].contains(&row)) {
            let own_row = row - self.grid.rows[*index].start;
            let row_weight = self.row_weights[*index][own_row as usize];
            for ((tile, columns), weights) in tiles.iter().zip(&self.grid.columns).zip(&self.column_weights) {
                values.clear();
                values.resize(weights.len() * (sums.len() / width), 0.0);
                tile.values.add_row(own_row, scratch, &mut values);
                for (sums, values) in sums.chunks_exact_mut(width).zip(values.chunks_exact(weights.len())) {
                    semantic::add_weighted(&mut sums[columns.start as usize..], values, weights, row_weight);
                }
            }
        }
        scratch.values = values;
    }
}

/// The most persons that tiles may add to those of the whole run: as many as one answer may have, where all persons'
/// numbers still fit a byte.
pub(super) fn most_persons(manifest: &Manifest, found: &Found) -> usize {
    (manifest.most_persons(false) as usize).min(usize::from(u8::MAX) - found.persons.len())
}

/// Bytes that [`Tiles`] holds: the tiles with their logits and what reads persons off them, the weights, every thread's
/// class values of one row of a tile, and `finding`, which is what finding a tile's pairs takes.
pub(super) fn bytes(sizes: &Sizes, grid: &Grid, manifest: &Manifest, finding: u64) -> u64 {
    let tile = grid.tile();
    let geometry = manifest.geometry(tile);
    let logits = sizes.queries * (geometry.mask.area() + sizes.classes + 1) * 4;
    // The working rows under a band are its share of the working height, and at most two more at its ends.
    let under = (u64::from(grid.working().height) * sizes.band_rows).div_ceil(u64::from(sizes.photo.height)) + 2;
    let tiles = sizes.answers * (logits + semantic::answer_bytes(sizes, tile)) + Upsampler::bytes(sizes.photo);
    let held = grid.most_held(under as u32) * tiles;
    let weights = |stretches: &[Range<u32>]| stretches.iter().map(|own| u64::from(own.end - own.start) * 4 + 64).sum();
    let weights: u64 = [&grid.columns, &grid.rows].map(|stretches| weights(stretches)).iter().sum();
    held + weights + finding + sizes.threads * u64::from(tile.width) * 4 * sizes.classes
}

#[cfg(test)]
mod tests {
    use super::super::reference::manifest;
    use super::super::{Found, bands, tiled_bands};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_cover_every_pixel_and_none_outside(length in 1u32..9000, divisor in 1u32..70) {
            let tiles = stretches(length, divisor);
            prop_assert_eq!(tiles[0].start, 0);
            prop_assert_eq!(tiles[tiles.len() - 1].end, length);
            prop_assert!(tiles.iter().all(|tile| tile.end - tile.start <= SIDE));
            for pair in tiles.windows(2) {
                prop_assert!(pair[0].start < pair[1].start);
                prop_assert!(pair[0].end >= pair[1].start + OVERLAP, "{pair:?}");
            }
            prop_assert!(length <= SIDE || tiles.len() as u32 == (length - OVERLAP).div_ceil(STEP));
        }

        #[test]
        fn weights_add_up_to_one(length in 1u32..5000) {
            let tiles = stretches(length, 32);
            let mut totals = vec![0.0; length as usize];
            for (tile, weights) in tiles.iter().zip(weights(&tiles)) {
                for (x, weight) in tile.clone().zip(weights) {
                    prop_assert!(weight > 0.0);
                    totals[x as usize] += weight;
                }
            }
            prop_assert!(totals.iter().all(|total: &f32| (total - 1.0).abs() < 1e-5));
        }

        #[test]
        fn no_more_tiles_are_held_than_said(height in 1u32..4000, rows in 1u32..60, step in 1u32..60) {
            let grid = Grid::new(Size::new(700, height), 32);
            let bound = grid.most_held(rows);
            for first in (0..height).step_by(step as usize) {
                let last = (first + rows - 1).min(height - 1);
                let held = grid.rows.iter().filter(|tile| tile.start <= last && tile.end > first).count();
                prop_assert!((held * grid.columns.len()) as u64 <= bound);
            }
        }
    }

    /// The logit of a class at a working pixel. The four classes lie in slanted stripes of 90 pixels with soft borders.
    fn logit(class: u32, x: f32, y: f32) -> f32 {
        let place = ((x + 0.5 * y) / 90.0).rem_euclid(4.0);
        let away = (place - class as f32 - 0.5).abs();
        3.0 - 8.0 * away.min(4.0 - away)
    }

    /// A network that sees the truth, which is the same wherever its input lies on the photo.
    fn truth(region: Region) -> Queries {
        const CLASSES: u32 = 4;
        let padded = region.size.padded_to(4);
        let mask_size = Size::new(padded.width / 4, padded.height / 4);
        let mut mask_logits = Vec::new();
        for class in 0..CLASSES {
            for y in 0..mask_size.height {
                for x in 0..mask_size.width {
                    let at = |cell: u32, first: u32| (first + cell * 4) as f32 + 2.0;
                    mask_logits.push(logit(class, at(x, region.left), at(y, region.top)));
                }
            }
        }
        let class_logits = (0..CLASSES).flat_map(|q| (0..=CLASSES).map(move |c| if q == c { 9.0 } else { -9.0 }));
        super::super::reference::queries(CLASSES as usize, class_logits.collect(), mask_size, mask_logits)
    }

    /// Seams cost nothing: where a network answers the same in a tile as in the whole photo, labels are the same.
    #[test]
    fn tiled_equals_whole_where_the_network_does() {
        let (working, photo) = (Size::new(1100, 700), Size::new(1300, 827));
        let queries = truth(working.into());
        let view = View::new(&queries, working.padded_to(4), working, photo).unwrap();
        let manifest = manifest(LabelMap::Semantic, 4, None);
        let (mut whole, mut tiled) = (Vec::new(), Vec::new());
        bands(&view, &manifest, &Found::default(), 32, &mut |band| {
            whole.extend_from_slice(band.labels);
            Ok(())
        })
        .unwrap();
        let mut run = Vec::new();
        let infer = |region: Region| {
            run.push(region);
            Ok(truth(region).into())
        };
        let grid = Grid::new(working, 4);
        let tiles = Tiles::new(grid.clone(), &manifest, None, infer);
        tiled_bands(&view, &manifest, &Found::default(), tiles, 32, &mut |band| {
            tiled.extend_from_slice(band.labels);
            Ok(())
        })
        .unwrap();
        assert_eq!((run.len(), grid.count()), (6, 6));
        // At a tile's own edge a logit has no neighbour to be interpolated with; the weight there is next to nothing.
        let differ = whole.iter().zip(&tiled).filter(|(a, b)| a != b).count();
        assert!(differ <= whole.len() / 100_000, "{differ} of {} pixels differ", whole.len());
        assert!((0..4).all(|class| whole.contains(&class)));
    }

    /// Where a tile claims nothing, its vote for the background counts, however sure a neighbour is at its edge.
    #[test]
    fn nothing_pasted_is_background() {
        let working = Size::new(700, 64);
        let manifest = manifest(LabelMap::Paste, 4, None);
        // The left tile sees class 1 everywhere, the overlap with the right tile included; the right one sees nothing.
        let infer = |region: Region| {
            let mut queries = truth(region);
            let seen = if region.left == 0 { 1.0 } else { -1.0 };
            let plane = queries.mask_size.area() as usize;
            let logits = |query: usize| vec![if query == 1 { 9.0 * seen } else { -9.0 }; plane];
            queries.mask_logits = Box::new((0..4).flat_map(logits).collect::<Vec<_>>());
            Ok(queries.into())
        };
        let queries = truth(working.into());
        let view = View::new(&queries, working, working, working).unwrap();
        let tiles = Tiles::new(Grid::new(working, 4), &manifest, None, infer);
        let mut labels = Vec::new();
        tiled_bands(&view, &manifest, &Found::default(), tiles, 32, &mut |band| {
            labels.extend_from_slice(band.labels);
            Ok(())
        })
        .unwrap();
        let row = &labels[..700];
        assert_eq!(row[..188], [1; 188]);
        assert_eq!(row[512..], [0; 188]);
        // Class 1 has 1 · w against the background's 0.5 · (1 − w): it wins where its tile's weight w is above a third.
        let edge = row.iter().position(|&label| label == 0).unwrap();
        assert!((370..400).contains(&edge), "{edge}");
        assert!(row[edge..].iter().all(|&label| label == 0));
    }

    #[test]
    fn a_failing_network_ends_the_pass() {
        let working = Size::new(600, 40);
        let manifest = manifest(LabelMap::Semantic, 4, None);
        let infer = |_: Region| Err(crate::error::Error::bad_request("no"));
        let queries = truth(working.into());
        let view = View::new(&queries, working, working, working).unwrap();
        let tiles = Tiles::new(Grid::new(working, 4), &manifest, None, infer);
        assert!(tiled_bands(&view, &manifest, &Found::default(), tiles, 32, &mut |_| Ok(())).is_err());
    }

    const PERSON: u8 = 2;

    /// Somebody round, in working pixels.
    type Disc = (f32, f32, f32);

    /// A network that sees the discs in its part of the photo, as far as they are in it, in a query each.
    fn sees(discs: &[Disc], region: Region) -> Queries {
        let padded = region.size.padded_to(4);
        let mask_size = Size::new(padded.width / 4, padded.height / 4);
        let (mut class_logits, mut mask_logits) = (Vec::new(), Vec::new());
        for &(x, y, radius) in discs {
            class_logits.extend([-9.0, -9.0, 9.0, -9.0]);
            for i in 0..mask_size.area() as u32 {
                let at = |cell: u32, first: u32| (first + cell * 4) as f32 + 2.0;
                let (cell_x, cell_y) = (at(i % mask_size.width, region.left), at(i / mask_size.width, region.top));
                mask_logits.push(radius - (cell_x - x).hypot(cell_y - y));
            }
        }
        super::super::reference::queries(3, class_logits, mask_size, mask_logits)
    }

    /// Everything that is told of persons.
    #[derive(Debug, PartialEq)]
    struct Persons {
        pairs: Vec<Pair>,
        instances: Vec<u8>,
        /// The pixels of each person's mask.
        masks: Vec<Vec<(usize, u32)>>,
    }

    fn persons(whole: &[Disc], tiled: &[Disc], manifest: &Manifest, band_rows: u32) -> Persons {
        let (working, photo) = (Size::new(1100, 1100), Size::new(1300, 1300));
        let queries = sees(whole, working.into());
        let view = View::new(&queries, working, working, photo).unwrap();
        let found = find(&view, manifest, None, 32);
        let tiles = Tiles::new(Grid::new(working, 4), manifest, None, |region| Ok(sees(tiled, region).into()));
        let (mut instances, mut masks) = (Vec::new(), Vec::new());
        let more = tiled_bands(&view, manifest, &found, tiles, band_rows, &mut |band| {
            instances.extend_from_slice(band.instances);
            masks.resize(band.persons, Vec::new());
            for (person, mask) in masks.iter_mut().enumerate() {
                for row in 0..band.rows {
                    let words = band.mask_row(person, row as usize);
                    let inside = (0..photo.width as usize).filter(|x| words[x / 64] >> (x % 64) & 1 == 1);
                    mask.extend(inside.map(|x| (x, band.y + row)));
                }
            }
            Ok(())
        })
        .unwrap();
        Persons { pairs: [found.persons, more].concat(), instances, masks }
    }

    /// One whom both see; one in the photo's corner; one whom four tiles see whole; one cut by the photo's edge; one cut
    /// by the edges of two tiles, which a third sees whole; one at the end of the photo.
    const CROWD: [Disc; 6] = [
        (300.0, 500.0, 70.0),
        (40.0, 40.0, 20.0),
        (400.0, 400.0, 24.0),
        (5.0, 700.0, 22.0),
        (512.0, 120.0, 18.0),
        (1070.0, 1080.0, 25.0),
    ];

    #[test]
    fn tiles_add_each_person_once() {
        let manifest = manifest(LabelMap::Semantic, 3, Some(PERSON));
        let seen = persons(&CROWD[..1], &CROWD, &manifest, 32);
        assert_eq!(seen.masks.len(), CROWD.len());
        assert_eq!(seen.pairs.len(), CROWD.len());
        let scale = 1300.0 / 1100.0;
        let is = |mask: &[(usize, u32)], (x, y, radius): Disc| {
            let inside = |&&(column, row): &&(usize, u32)| {
                (column as f32 / scale - x).hypot(row as f32 / scale - y) < radius + 2.0
            };
            let disc = (0..1300 * 1300)
                .filter(|i| ((i % 1300) as f32 / scale - x).hypot((i / 1300) as f32 / scale - y) < radius);
            let (area, right) = (disc.count(), mask.iter().filter(inside).count());
            right == mask.len() && right.abs_diff(area) < area / 10
        };
        assert!(is(&seen.masks[0], CROWD[0]), "the whole run's person comes first");
        for disc in CROWD {
            let masks = seen.masks.iter().enumerate().filter(|(_, mask)| is(mask, disc));
            let numbers: Vec<usize> = masks.map(|(index, _)| index + 1).collect();
            assert_eq!(numbers.len(), 1, "{disc:?}");
            let centre = (disc.1 * scale) as usize * 1300 + (disc.0 * scale) as usize;
            assert_eq!(usize::from(seen.instances[centre]), numbers[0], "{disc:?}");
        }
        assert!(seen.pairs.iter().all(|pair| pair.score > 0.9));
    }

    #[test]
    fn persons_do_not_depend_on_the_bands() {
        let manifest = manifest(LabelMap::Semantic, 3, Some(PERSON));
        let once = persons(&CROWD[..1], &CROWD, &manifest, 32);
        for band_rows in [5, 250, 1300] {
            assert!(persons(&CROWD[..1], &CROWD, &manifest, band_rows) == once, "{band_rows} rows");
        }
    }

    #[test]
    fn who_is_cut_in_every_tile_is_not_added() {
        let manifest = manifest(LabelMap::Semantic, 3, Some(PERSON));
        // Wider than any overlap.
        let wide = (550.0, 550.0, 280.0);
        assert!(persons(&[], &[wide], &manifest, 32).masks.is_empty());
    }

    /// What a tile sees of somebody whom the whole run found is no other person, however little it is.
    #[test]
    fn a_piece_of_a_known_person_is_not_added() {
        let manifest = manifest(LabelMap::Semantic, 3, Some(PERSON));
        let (known, piece) = ((300.0, 500.0, 70.0), (320.0, 480.0, 20.0));
        assert_eq!(persons(&[known], &[piece], &manifest, 32).pairs.len(), 1);
        assert_eq!(persons(&[piece], &[known], &manifest, 32).pairs.len(), 1);
    }

    #[test]
    fn no_more_persons_are_added_than_planned() {
        let mut manifest = manifest(LabelMap::Semantic, 3, Some(PERSON));
        manifest.outputs.queries = 4;
        assert_eq!(persons(&[], &CROWD, &manifest, 32).masks.len(), 4);
        assert_eq!(manifest.most_persons(true), 8);
        manifest.thresholds.top_k = 200;
        manifest.outputs.queries = 200;
        assert_eq!(manifest.most_persons(true), 255);
        let pair = Pair { query: 0, class: PERSON, probability: 1.0, score: 1.0, pixels: 1 };
        assert_eq!(most_persons(&manifest, &Found { persons: vec![pair; 100], ..Found::default() }), 155);
    }
}
