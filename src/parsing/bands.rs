//! Pass 2: paints the photo, one band of rows after the other, top to bottom.

use rayon::prelude::*;

use super::label_map::{self, ClassPairs, Paster};
use super::persons::{Person, PersonPainter, RowBits, TILE_WORDS};
use super::semantic::{self, ClassPainter, ClassValues};
use super::tiles::{self, Tiles};
use super::upsample::{TILE_WIDTH, Tile, TileLogits, Upsampler, Window, tile, tiles_across};
use super::view::{Found, Pair, Sizes, View};
use crate::engine::Queries;
use crate::error::Result;
use crate::manifest::{LabelMap, Manifest};

/// Some whole rows of the painted photo.
#[derive(Debug, Clone, Copy)]
pub struct Band<'a> {
    /// The photo row that the band begins with.
    pub y: u32,
    pub rows: u32,
    /// The photo's width.
    pub width: u32,
    /// Class ids, `[rows, width]`.
    pub labels: &'a [u8],
    /// The number of the person that each pixel belongs to, or 0 for nobody, `[rows, width]`.
    pub instances: &'a [u8],
    /// How many persons there are so far: tiles may add some, of whom no band before has a pixel.
    pub persons: usize,
    /// The persons' own masks, which may overlap, `[persons, rows, words]`. Pixel x is bit x % 64 of word x / 64; bits
    /// past the width are 0.
    pub masks: &'a [u64],
}

impl<'a> Band<'a> {
    /// How many 64-bit words one row of a mask takes.
    #[must_use]
    pub fn words(&self) -> usize {
        (self.width as usize).div_ceil(64)
    }

    /// The class ids of the band's row `row`.
    #[must_use]
    pub(crate) fn label_row(&self, row: usize) -> &'a [u8] {
        &self.labels[row * self.width as usize..][..self.width as usize]
    }

    /// The person numbers of the band's row `row`.
    #[must_use]
    pub(crate) fn instance_row(&self, row: usize) -> &'a [u8] {
        &self.instances[row * self.width as usize..][..self.width as usize]
    }

    /// Row `row` of the band in a person's own mask. `person` is an index, which is the person's number − 1.
    #[must_use]
    pub fn mask_row(&self, person: usize, row: usize) -> &'a [u64] {
        &self.masks[(person * self.rows as usize + row) * self.words()..][..self.words()]
    }
}

/// Paints the photo, which is pass 2. `sink` gets every band, top to bottom. All but the last have `band_rows` rows;
/// what is painted does not depend on that.
///
/// # Errors
/// What `sink` returns.
pub fn bands(
    view: &View<'_>,
    manifest: &Manifest,
    found: &Found,
    band_rows: u32,
    sink: &mut dyn FnMut(&Band<'_>) -> Result<()>,
) -> Result<()> {
    let source = match manifest.label_map {
        LabelMap::Paste => LabelSource::Pasted(label_map::by_class(&found.pasted, &found.mirrored)),
        LabelMap::Semantic => {
            let classes = semantic::competing(manifest);
            let values = |queries| ClassValues::semantic(queries, view.padded, view.working, &classes);
            let values = values(view.queries).with_mirrored(view.mirrored.map(values));
            LabelSource::Whole(ClassPainter::new(view.working.size, view.photo, classes, band_rows), values)
        }
    };
    paint(view, manifest, found, source, band_rows, sink)?;
    Ok(())
}

/// Like [`bands()`], but labels come from `tiles`, which see the same photo at a larger size. Persons are those of
/// `view`, and those whom tiles alone find. The latter are returned; their numbers follow those of `found`.
///
/// # Errors
/// What `sink` or the tiles' network returns.
pub fn tiled_bands(
    view: &View<'_>,
    manifest: &Manifest,
    found: &Found,
    tiles: Tiles<'_>,
    band_rows: u32,
    sink: &mut dyn FnMut(&Band<'_>) -> Result<()>,
) -> Result<Vec<Pair>> {
    let painter = ClassPainter::new(tiles.working(), view.photo, semantic::competing(manifest), band_rows);
    paint(view, manifest, found, LabelSource::Tiled(painter, tiles), band_rows, sink)
}

fn paint(
    view: &View<'_>,
    manifest: &Manifest,
    found: &Found,
    source: LabelSource<'_>,
    band_rows: u32,
    sink: &mut dyn FnMut(&Band<'_>) -> Result<()>,
) -> Result<Vec<Pair>> {
    let band_rows = band_rows.clamp(1, view.photo.height);
    let mut painter = BandPainter::new(view, manifest, found, source, band_rows as usize);
    for y in (0..view.photo.height).step_by(band_rows as usize) {
        let rows = band_rows.min(view.photo.height - y);
        sink(&painter.paint(y, rows)?)?;
    }
    Ok(painter.source.tiles().map_or_else(Vec::new, |tiles| tiles.persons().to_vec()))
}

/// Where labels come from.
enum LabelSource<'a> {
    /// Pairs pasted at the photo's size.
    Pasted(Vec<ClassPairs>),
    Whole(ClassPainter, ClassValues<&'a Queries>),
    Tiled(ClassPainter, Tiles<'a>),
}

impl LabelSource<'_> {
    /// What is pasted at the photo's size, if that is where labels come from.
    fn pasted(&self) -> Option<&[ClassPairs]> {
        match self {
            Self::Pasted(pasted) => Some(pasted),
            Self::Whole(..) | Self::Tiled(..) => None,
        }
    }

    fn tiles(&self) -> Option<&Tiles<'_>> {
        match self {
            Self::Tiled(_, tiles) => Some(tiles),
            Self::Pasted(_) | Self::Whole(..) => None,
        }
    }
}

struct BandPainter<'a> {
    view: &'a View<'a>,
    found: &'a Found,
    /// How many persons there are so far.
    persons: usize,
    band_rows: usize,
    background: u8,
    operator: Upsampler,
    /// The operator for the answer to the mirrored photo. There is one where labels are pasted from that, too.
    mirrored: Option<Upsampler>,
    source: LabelSource<'a>,
    tiles: Vec<PaintedTile>,
    labels: Vec<u8>,
    instances: Vec<u8>,
    masks: Vec<u64>,
}

/// One tile's share of a band. Each tile has buffers of its own, so that threads can write them at once.
struct PaintedTile {
    /// `[rows, TILE_WIDTH]`; empty when labels are not pasted at the photo's size.
    labels: Vec<u8>,
    /// `[rows, TILE_WIDTH]`; empty when there are no persons.
    instances: Vec<u8>,
    /// `[persons, rows]`.
    masks: Vec<RowBits>,
}

/// The scratch memory of a thread that paints.
#[derive(Default)]
struct Scratch {
    logits: TileLogits,
    paster: Paster,
    persons: PersonPainter,
}

impl<'a> BandPainter<'a> {
    fn new(
        view: &'a View<'a>,
        manifest: &Manifest,
        found: &'a Found,
        source: LabelSource<'a>,
        band_rows: usize,
    ) -> Self {
        let pastes = source.pasted().is_some();
        // There is room for every person from the beginning, so that the buffers never grow.
        let most = found.persons.len() + source.tiles().map_or(0, |_| tiles::most_persons(manifest, found));
        let tile_area = TILE_WIDTH * band_rows;
        let tile = || PaintedTile {
            labels: vec![0; if pastes { tile_area } else { 0 }],
            instances: Vec::with_capacity(if most == 0 { 0 } else { tile_area }),
            masks: Vec::with_capacity(most * band_rows),
        };
        let width = view.photo.width as usize;
        let mut painter = Self {
            view,
            found,
            persons: 0,
            band_rows,
            background: manifest.background_id,
            operator: view.upsampler(),
            mirrored: view.mirrored.filter(|_| pastes).map(|_| view.upsampler().mirrored()),
            tiles: (0..tiles_across(view.photo)).map(|_| tile()).collect(),
            labels: vec![0; width * band_rows],
            instances: vec![0; width * band_rows],
            masks: Vec::with_capacity(most * band_rows * width.div_ceil(64)),
            source,
        };
        painter.count_persons();
        painter
    }

    /// Makes room for the persons who are known by now.
    fn count_persons(&mut self) {
        self.persons = self.found.persons.len() + self.source.tiles().map_or(0, |tiles| tiles.persons().len());
        let rows = self.persons * self.band_rows;
        for tile in &mut self.tiles {
            tile.instances.resize(if self.persons == 0 { 0 } else { TILE_WIDTH * self.band_rows }, 0);
            tile.masks.resize(rows, [0; TILE_WORDS]);
        }
        self.masks.resize(rows * (self.view.photo.width as usize).div_ceil(64), 0);
    }

    fn paint(&mut self, y: u32, rows: u32) -> Result<Band<'_>> {
        let (top, height, width) = (y as usize, rows as usize, self.view.photo.width as usize);
        let area = height * width;
        if let LabelSource::Tiled(painter, tiles) = &mut self.source {
            tiles.advance(&painter.working_rows(top, height), self.view, self.found)?;
            self.count_persons();
        }
        self.paint_tiles(top, height);
        self.gather_tiles(height);
        match &mut self.source {
            LabelSource::Pasted(_) => {}
            LabelSource::Whole(painter, answer) => painter.paint(answer, top, &mut self.labels[..area]),
            LabelSource::Tiled(painter, tiles) => painter.paint(tiles.blend(), top, &mut self.labels[..area]),
        }
        Ok(Band {
            y,
            rows,
            width: self.view.photo.width,
            labels: &self.labels[..area],
            instances: &self.instances[..area],
            persons: self.persons,
            masks: &self.masks[..self.persons * height * width.div_ceil(64)],
        })
    }

    fn paint_tiles(&mut self, y: usize, rows: usize) {
        let Self { view, found, persons: count, operator, mirrored, source, background, tiles, .. } = self;
        let (view, count, operator, pasted, background) = (*view, *count, &*operator, source.pasted(), *background);
        let mirrored = view.mirrored.zip(mirrored.as_ref());
        if pasted.is_none() && count == 0 {
            return;
        }
        let queries = view.queries;
        let of_whole = found.persons.iter().enumerate();
        let of_whole = of_whole.map(|(index, &pair)| Person { index, pair, queries, operator });
        let persons: Vec<_> = of_whole.chain(source.tiles().into_iter().flat_map(Tiles::held_persons)).collect();
        let paint = |scratch: &mut Scratch, painted: &mut PaintedTile, tile: Tile| {
            let window = Window { queries: view.queries, operator, tile };
            let Scratch { logits, paster, persons: person_painter } = scratch;
            if let Some(pasted) = pasted {
                let labels = &mut painted.labels[..rows * TILE_WIDTH];
                let mut windows = vec![window];
                windows.extend(mirrored.map(|(queries, operator)| Window { queries, operator, tile }));
                paster.paint(&windows, logits, pasted, background, labels);
            }
            if count > 0 {
                let instances = &mut painted.instances[..rows * TILE_WIDTH];
                let masks = &mut painted.masks[..count * rows];
                person_painter.paint(tile, logits, &persons, instances, masks);
            }
        };
        tiles.par_iter_mut().enumerate().for_each_init(Scratch::default, |scratch, (index, painted)| {
            paint(scratch, painted, tile(view.photo, index, y, rows));
        });
    }

    /// Copies the tiles' rows into the band's, side by side.
    fn gather_tiles(&mut self, rows: usize) {
        let width = self.view.photo.width as usize;
        let words = width.div_ceil(64);
        for (index, painted) in self.tiles.iter().enumerate() {
            let x = index * TILE_WIDTH;
            let tile_width = TILE_WIDTH.min(width - x);
            for (from, to) in [(&painted.labels, &mut self.labels), (&painted.instances, &mut self.instances)] {
                for (from, to) in from.chunks_exact(TILE_WIDTH).zip(to.chunks_exact_mut(width)).take(rows) {
                    to[x..x + tile_width].copy_from_slice(&from[..tile_width]);
                }
            }
            let word = index * TILE_WORDS;
            let tile_words = TILE_WORDS.min(words - word);
            let rows = self.persons * rows;
            for (from, to) in painted.masks.iter().zip(self.masks.chunks_exact_mut(words)).take(rows) {
                to[word..word + tile_words].copy_from_slice(&from[..tile_words]);
            }
        }
    }
}

/// Bytes of the band, of its tiles and of every thread's scratch memory. What labels come from is not included.
pub(super) fn bytes(sizes: &Sizes) -> u64 {
    let width = u64::from(sizes.photo.width);
    let tiled_width = width.next_multiple_of(TILE_WIDTH as u64);
    let labels = 2 * sizes.band_rows * (width + tiled_width);
    let masks = sizes.persons * sizes.band_rows * (width.div_ceil(64) * 8 + tiled_width / 8);
    let scratch = sizes.tile + Paster::bytes(sizes.band_rows) + PersonPainter::bytes(sizes.band_rows);
    labels + masks + sizes.threads * scratch
}
