//! A network with a fixed answer, for tests of everything around the real one.

use std::sync::{Mutex, mpsc};

use m2fp::engine::{Engine, Queries};
use m2fp::error::Result;
use m2fp::geometry::Size;
use m2fp::image::Planar8;
use m2fp::manifest::Manifest;

/// Logit of a class or pixel that is present: a probability of nearly 1.
const YES: f32 = 8.0;
/// Logit of a class or pixel that is absent.
const NO: f32 = -8.0;

/// Sees two people side by side in every photo, whatever is in it: each fills the middle of its half, the upper
/// quarter of it the manifest's first part class, the rest the second. Around them is background. The same size gives
/// the same answer.
pub struct FakeEngine {
    manifest: Manifest,
}

/// What one query claims: a class, and where; `None` for "no object".
struct Claim {
    class: u8,
    holds: fn(f32, f32) -> bool,
}

impl FakeEngine {
    #[must_use]
    pub fn new(manifest: Manifest) -> Self {
        Self { manifest }
    }

    fn claims(&self) -> Vec<Claim> {
        let parts: Vec<u8> =
            self.manifest.classes.iter().map(|c| c.id).filter(|id| self.manifest.is_part(*id)).collect();
        let mut claims = vec![Claim { class: self.manifest.background_id, holds: |x, y| !left(x, y) && !right(x, y) }];
        if let Some(person) = self.manifest.person_id {
            claims.push(Claim { class: person, holds: left });
            claims.push(Claim { class: person, holds: right });
        }
        if let Some(class) = parts.first() {
            claims.push(Claim { class: *class, holds: |x, y| (left(x, y) || right(x, y)) && y < 0.3 });
        }
        if let Some(class) = parts.get(1) {
            claims.push(Claim { class: *class, holds: |x, y| (left(x, y) || right(x, y)) && y >= 0.3 });
        }
        claims.truncate(self.manifest.outputs.queries as usize);
        claims
    }
}

/// The person in the left half; `x` and `y` run from 0 to 1 over the input, unpadded.
fn left(x: f32, y: f32) -> bool {
    (0.1..0.4).contains(&x) && (0.1..0.9).contains(&y)
}

/// The person in the right half.
fn right(x: f32, y: f32) -> bool {
    (0.6..0.9).contains(&x) && (0.1..0.9).contains(&y)
}

impl Engine for FakeEngine {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        let mask_size = self.manifest.mask_size(image.size);
        let padded = image.size.padded_to(self.manifest.input.size.divisor());
        let (count, classes) = (self.manifest.outputs.queries as usize, self.manifest.classes.len());
        let claims = self.claims();
        let mut class_logits = vec![0.0; count * (classes + 1)];
        for (query, row) in class_logits.chunks_exact_mut(classes + 1).enumerate() {
            let column = claims.get(query).map_or(classes, |claim| usize::from(claim.class));
            row[column] = YES;
        }
        let Size { width, height } = mask_size;
        let mut mask_logits = Vec::with_capacity(count * mask_size.area() as usize);
        for query in 0..count {
            let holds = claims.get(query).map_or(nowhere as fn(f32, f32) -> bool, |claim| claim.holds);
            for row in 0..height {
                for column in 0..width {
                    let x = relative(column, width, padded.width, image.size.width);
                    let y = relative(row, height, padded.height, image.size.height);
                    mask_logits.push(if holds(x, y) { YES } else { NO });
                }
            }
        }
        Ok(Queries { count, classes, class_logits, mask_size, mask_logits: Box::new(mask_logits) })
    }
}

fn nowhere(_: f32, _: f32) -> bool {
    false
}

/// The centre of mask cell `cell` of `cells`, as a fraction of the input's side.
fn relative(cell: u32, cells: u32, padded: u32, working: u32) -> f32 {
    (cell as f32 + 0.5) / cells as f32 * padded as f32 / working as f32
}

/// An engine that answers when it is told to, and says when it is asked.
pub struct GatedEngine {
    inner: FakeEngine,
    asked: mpsc::Sender<()>,
    gate: Mutex<mpsc::Receiver<()>>,
}

impl GatedEngine {
    /// The engine, what hears that it is asked, and what opens the gate for one answer.
    pub fn new(manifest: Manifest) -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (asked, is_asked) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        (Self { inner: FakeEngine::new(manifest), asked, gate: Mutex::new(gate) }, is_asked, open)
    }
}

impl Engine for GatedEngine {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        // Not every test listens.
        let _ = self.asked.send(());
        self.gate.lock().expect("unpoisoned").recv().expect("the test opens the gate");
        self.inner.infer(image)
    }
}
