//! The port that the network lies behind. It takes a working image and gives queries.

mod add_resized;
mod conv3x3;
mod deform_attn;
mod group_norm;
mod heap;
mod kernel;
pub mod ort;
mod product;

use crate::error::Result;
use crate::geometry::Size;
use crate::image::Planar8;

/// What the network says of one image.
pub struct Queries {
    /// Number of queries, Q.
    pub count: usize,
    /// Number of classes, C, without "no object".
    pub classes: usize,
    /// `[Q, C+1]` in row-major order. The last column is "no object".
    pub class_logits: Vec<f32>,
    /// Width and height of one mask: the padded size, divided by the network's stride.
    pub mask_size: Size,
    /// `[Q, h, w]` in row-major order. They may still lie in the runtime's own buffer.
    pub mask_logits: Box<dyn AsRef<[f32]> + Send + Sync>,
}

impl Queries {
    /// Mask logits of one query, `[h, w]`.
    #[must_use]
    pub fn mask(&self, query: usize) -> &[f32] {
        let plane = self.mask_size.width as usize * self.mask_size.height as usize;
        &(*self.mask_logits).as_ref()[query * plane..][..plane]
    }

    /// Lets the classes of each pair change places, as they do where a photo is mirrored.
    pub fn exchange(&mut self, pairs: &[[u8; 2]]) {
        for logits in self.class_logits.chunks_exact_mut(self.classes + 1) {
            for &[a, b] in pairs {
                logits.swap(usize::from(a), usize::from(b));
            }
        }
    }
}

/// A loaded model. Implementations may run several images at once.
pub trait Engine: Send + Sync {
    /// Runs the network on its input: the resized photo, unpadded, or the canvas that it lies on.
    ///
    /// # Errors
    /// `Internal` when the runtime fails.
    fn infer(&self, image: &Planar8) -> Result<Queries>;
}
