//! Which persons of a tile are new: those who lie wholly in it, and whom neither the run of the whole photo nor another
//! tile has found.
//!
//! Masks are compared where the tile's mask cells have their centres. That is far finer than what tells two people
//! apart.

use super::view::Pair;
use crate::engine::Queries;
use crate::geometry::{Region, Size};

/// A mask that comes this near to an edge where the photo goes on, in mask cells, may be cut by it.
const NEAR_EDGE: f64 = 2.0;

/// Two masks are one person's where more than this share of the smaller one lies in the other. A share of the union
/// would not do: what one run sees of a person may be far less than what another sees.
const SAME_PERSON: f64 = 0.5;

/// An answer, and which part of the photo it is of.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub queries: &'a Queries,
    /// The size of the network's padded input, and the region of it where the part lies.
    pub padded: Size,
    pub shown: Region,
    /// The part, in pixels of the tiles' photo.
    pub part: Region,
}

/// A person who is known: in which answer, of which query, and of how many of a tile's mask cells.
pub(super) struct Known<'a> {
    pub sight: Sight<'a>,
    pub query: u32,
    pub cells: f64,
}

/// A person whom one tile sees whole, and nobody saw before.
#[derive(Clone, Copy)]
pub(super) struct TilePerson {
    pub pair: Pair,
    /// How many mask cells the mask has.
    pub cells: f64,
}

impl Sight<'_> {
    /// The size of a mask cell in pixels of the input.
    fn cell(&self) -> (f64, f64) {
        let mask = self.queries.mask_size;
        (f64::from(self.padded.width / mask.width), f64::from(self.padded.height / mask.height))
    }

    /// How many of these mask cells a pixel of the tiles' photo is.
    pub(super) fn cells_in_pixel(&self) -> f64 {
        let (width, height) = self.cell();
        self.shown.size.area() as f64 / self.part.size.area() as f64 / (width * height)
    }

    /// The centres of a mask's cells inside the part, in pixels of the tiles' photo.
    fn cells_of(&self, query: u32) -> impl Iterator<Item = (f64, f64)> {
        let (sight, (width, height), columns) = (*self, self.cell(), self.queries.mask_size.width as usize);
        let mask = self.queries.mask(query as usize).iter().enumerate();
        let inside = mask.filter(|(_, logit)| **logit > 0.0);
        let centres = inside.map(move |(i, _)| ((i % columns) as f64 + 0.5, (i / columns) as f64 + 0.5));
        centres.filter_map(move |(column, row)| {
            let (shown, part) = (sight.shown, sight.part);
            let x = place(column * width, (shown.left, shown.size.width), (part.left, part.size.width))?;
            let y = place(row * height, (shown.top, shown.size.height), (part.top, part.size.height))?;
            Some((x, y))
        })
    }

    /// Whether a mask holds a pixel of the tiles' photo.
    fn holds(&self, query: u32, (x, y): (f64, f64)) -> bool {
        let (shown, part, (width, height)) = (self.shown, self.part, self.cell());
        let x = place(x, (part.left, part.size.width), (shown.left, shown.size.width));
        let y = place(y, (part.top, part.size.height), (shown.top, shown.size.height));
        let Some((x, y)) = x.zip(y) else { return false };
        let (column, row) = ((x / width) as usize, (y / height) as usize);
        self.queries.mask(query as usize)[row * self.queries.mask_size.width as usize + column] > 0.0
    }

    /// Whether a mask comes so near to an edge of the part that somebody in it may be cut there. An edge of `photo`, the
    /// tiles' photo, cuts nobody.
    fn is_cut(&self, query: u32, photo: Size) -> bool {
        let (width, height) = self.cell();
        let near = |at: f64, cell: f64, start: u32, length: u32, whole: u32| {
            let (end, reach) = (start + length, NEAR_EDGE * cell);
            start > 0 && at - f64::from(start) < reach || end < whole && f64::from(end) - at < reach
        };
        let Region { left, top, size } = self.part;
        self.cells_of(query).any(|(x, y)| {
            near(x, width, left, size.width, photo.width) || near(y, height, top, size.height, photo.height)
        })
    }

    /// Takes a tile's person, unless it may be cut by the tile's edge or is one of those `known`.
    pub(super) fn take<'k>(
        &self,
        pair: Pair,
        photo: Size,
        mut known: impl Iterator<Item = Known<'k>>,
    ) -> Option<TilePerson> {
        let cells = self.cells_of(pair.query).count() as f64;
        let is_same = |other: Known<'_>| {
            let common = self.cells_of(pair.query).filter(|at| other.sight.holds(other.query, *at)).count();
            common as f64 > SAME_PERSON * cells.min(other.cells)
        };
        (cells > 0.0 && !self.is_cut(pair.query, photo) && !known.any(is_same)).then_some(TilePerson { pair, cells })
    }
}

/// The place `at` of one stretch in another that shows the same; `None` where it is beyond the first. Both are told by
/// where they begin and how long they are.
fn place(at: f64, (start, length): (u32, u32), (other_start, other_length): (u32, u32)) -> Option<f64> {
    let along = (at - f64::from(start)) / f64::from(length);
    (0.0..1.0).contains(&along).then(|| f64::from(other_start) + along * f64::from(other_length))
}
