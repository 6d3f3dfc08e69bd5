//! Turns queries into the label map, persons and scores, at the photo's size, one band of rows at a time.
//!
//! This takes two passes over the logits. [`find`] scores the queries and says which parts and persons there are;
//! [`bands()`] paints the photo with them. Each pass holds O(width × band), and never `Q × H × W` or `C × H × W` at the
//! photo's size. The arithmetic is that of ModelScope's pipeline `image-human-parsing`
//! (`models/cv/image_human_parsing/m2fp_net.py`).

mod bands;
mod label_map;
mod memory;
mod pairs;
mod persons;
#[cfg(test)]
mod reference;
mod scores;
mod semantic;
mod sigmoid;
mod tile_persons;
mod tiles;
mod upsample;
mod view;

pub use bands::{Band, bands, tiled_bands};
pub use memory::{bytes, tiled_bytes};
pub use scores::find;
pub use tiles::{Grid, Tiles};
pub use view::{Answers, BAND_ROWS, Found, Pair, View};
