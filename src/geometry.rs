//! Sizes, orientations and boxes. Everything is in integers, and nothing here holds pixels.

use serde::{Deserialize, Serialize};

/// Width and height in pixels. Both are at least 1 wherever a `Size` comes from this crate's parsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    #[must_use]
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// The number of pixels.
    #[must_use]
    pub const fn area(self) -> u64 {
        self.width as u64 * self.height as u64
    }

    #[must_use]
    pub(crate) const fn transposed(self) -> Self {
        Self::new(self.height, self.width)
    }

    #[must_use]
    pub(crate) fn short_side(self) -> u32 {
        self.width.min(self.height)
    }

    #[must_use]
    pub fn long_side(self) -> u32 {
        self.width.max(self.height)
    }

    /// The size with both sides rounded up to a multiple of `divisor`.
    #[must_use]
    pub const fn padded_to(self, divisor: u32) -> Self {
        Self::new(self.width.div_ceil(divisor) * divisor, self.height.div_ceil(divisor) * divisor)
    }

    /// detectron2's `ResizeShortestEdge`: the short side becomes `min_side` and the long side at most `max_side`; each
    /// is rounded as `int(x + 0.5)` and is at least 1. It enlarges small images, too.
    #[must_use]
    pub fn shortest_edge(self, min_side: u32, max_side: u32) -> Self {
        let (width, height) = (f64::from(self.width), f64::from(self.height));
        let scale = f64::from(min_side) / width.min(height);
        // This follows the reference: the short side is `min_side` itself, not `scale * short`.
        let (mut new_width, mut new_height) = if self.height < self.width {
            (scale * width, f64::from(min_side))
        } else {
            (f64::from(min_side), scale * height)
        };
        let long = new_width.max(new_height);
        if long > f64::from(max_side) {
            let shrink = f64::from(max_side) / long;
            new_width *= shrink;
            new_height *= shrink;
        }
        let round = |x: f64| ((x + 0.5) as u32).max(1);
        Self::new(round(new_width), round(new_height))
    }

    /// The largest size of the same aspect inside `canvas`, without enlarging. This is ModelScope's
    /// `center_to_target_size_test`: one side is the canvas's, and the other is cut to whole pixels. A side is at least
    /// 1 here, where the reference fails.
    #[must_use]
    pub(crate) fn shrunk_into(self, canvas: Self) -> Self {
        if self.width <= canvas.width && self.height <= canvas.height {
            return self;
        }
        // Integer division cuts in the same way as the reference's floats: no quotient of such numbers is so little
        // below a whole number that a float would round it up.
        let side = |canvas: u32, own: u32, other: u32| {
            let cut = u64::from(canvas) * u64::from(own) / u64::from(other);
            cut.max(1) as u32
        };
        let (of_height, of_width) =
            (side(canvas.height, self.width, self.height), side(canvas.width, self.height, self.width));
        let (by_height, by_width) = (Self::new(of_height, canvas.height), Self::new(canvas.width, of_width));
        // The side to try first. If the result does not fit, the other side is taken.
        let (first, second) = if self.width > canvas.width && (self.height <= canvas.height || self.width > self.height)
        {
            (by_width, by_height)
        } else {
            (by_height, by_width)
        };
        if first.width <= canvas.width && first.height <= canvas.height { first } else { second }
    }

    /// Shrinks to a long side of at most `max_side` and keeps the aspect. It never enlarges.
    #[must_use]
    pub fn fit_within(self, max_side: u32) -> Self {
        let long = self.long_side();
        if long <= max_side {
            return self;
        }
        let scaled = |side: u32| {
            let rounded = (u64::from(side) * u64::from(max_side) + u64::from(long) / 2) / u64::from(long);
            (rounded as u32).max(1)
        };
        Self::new(scaled(self.width), scaled(self.height))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}

/// A rectangle of pixels in a larger image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Region {
    /// The first column.
    pub left: u32,
    /// The first row.
    pub top: u32,
    pub size: Size,
}

impl Region {
    /// The region of this size in the middle of `canvas`. If a margin is odd, its greater part is to the right or
    /// below.
    #[must_use]
    pub(crate) const fn centred(size: Size, canvas: Size) -> Self {
        Self { left: (canvas.width - size.width) / 2, top: (canvas.height - size.height) / 2, size }
    }

    /// Whether the region lies inside an image of this size.
    #[must_use]
    pub(crate) fn is_inside(&self, image: Size) -> bool {
        let within = |first: u32, length: u32, side: u32| u64::from(first) + u64::from(length) <= u64::from(side);
        within(self.left, self.size.width, image.width) && within(self.top, self.size.height, image.height)
    }
}

/// The region of this size in the upper left corner.
impl From<Size> for Region {
    fn from(size: Size) -> Self {
        Self { left: 0, top: 0, size }
    }
}

/// The EXIF orientation (tag 0x0112), which says how stored pixels become upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Orientation {
    /// 1: as stored.
    #[default]
    Upright = 1,
    /// 2: mirrored left to right.
    MirrorHorizontal = 2,
    /// 3: rotated by 180°.
    Rotate180 = 3,
    /// 4: mirrored top to bottom.
    MirrorVertical = 4,
    /// 5: transposed (mirrored along the main diagonal).
    Transpose = 5,
    /// 6: to be rotated by 90° clockwise.
    Rotate90 = 6,
    /// 7: transversed (mirrored along the other diagonal).
    Transverse = 7,
    /// 8: to be rotated by 270° clockwise.
    Rotate270 = 8,
}

impl Orientation {
    /// The orientation of a tag's value. Any value but 1–8 is `Upright`, as viewers treat it.
    #[must_use]
    pub(crate) const fn from_exif(value: u16) -> Self {
        match value {
            2 => Self::MirrorHorizontal,
            3 => Self::Rotate180,
            4 => Self::MirrorVertical,
            5 => Self::Transpose,
            6 => Self::Rotate90,
            7 => Self::Transverse,
            8 => Self::Rotate270,
            _ => Self::Upright,
        }
    }

    /// The tag's value, 1–8.
    #[must_use]
    pub const fn exif(self) -> u8 {
        self as u8
    }

    /// Whether width and height change places.
    #[must_use]
    pub(crate) const fn transposes(self) -> bool {
        self as u8 >= 5
    }

    /// Whether the *stored* rows run against the direction of the upright axis that they become.
    #[must_use]
    pub(crate) const fn flips_stored_rows(self) -> bool {
        matches!(self, Self::Rotate180 | Self::MirrorVertical | Self::Rotate90 | Self::Transverse)
    }

    /// Whether the *stored* columns run against the direction of the upright axis that they become.
    #[must_use]
    pub(crate) const fn flips_stored_columns(self) -> bool {
        matches!(self, Self::MirrorHorizontal | Self::Rotate180 | Self::Transverse | Self::Rotate270)
    }

    /// The size after turning upright.
    #[must_use]
    pub const fn upright(self, stored: Size) -> Size {
        if self.transposes() { stored.transposed() } else { stored }
    }
}

/// A COCO bounding box `[x, y, width, height]` in pixels. It serialises as that array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BBox {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Serialize for BBox {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.x, self.y, self.width, self.height].serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shortest_edge_follows_the_reference() {
        let native = |w, h| Size::new(w, h).shortest_edge(640, 1333);
        assert_eq!(native(1920, 1080), Size::new(1138, 640));
        assert_eq!(native(1080, 1920), Size::new(640, 1138));
        assert_eq!(native(512, 512), Size::new(640, 640));
        assert_eq!(native(4000, 1000), Size::new(1333, 333));
        assert_eq!(native(20_000, 1), Size::new(1333, 1));
        assert_eq!(Size::new(1920, 1080).shortest_edge(384, 800), Size::new(683, 384));
    }

    /// The expected sizes are those of ModelScope's `center_to_target_size_test`.
    #[test]
    fn shrinking_follows_the_reference() {
        for (photo, expected) in [
            ((1920, 1080), (384, 216)),
            ((1080, 1920), (288, 512)),
            ((3000, 4000), (384, 512)),
            ((384, 600), (327, 512)),
            ((500, 512), (384, 393)),
            ((400, 513), (384, 492)),
            ((385, 513), (384, 512)),
            ((383, 513), (382, 512)),
            ((513, 400), (384, 299)),
            ((640, 640), (384, 384)),
            ((9000, 9001), (384, 384)),
            ((767, 1024), (383, 512)),
            // These are never enlarged.
            ((384, 512), (384, 512)),
            ((383, 511), (383, 511)),
            ((100, 150), (100, 150)),
            ((1, 1), (1, 1)),
            // The reference fails on these, whose shorter side it makes 0.
            ((4000, 3), (384, 1)),
            ((1, 4000), (1, 512)),
        ] {
            let shrunk = Size::new(photo.0, photo.1).shrunk_into(Size::new(384, 512));
            assert_eq!(shrunk, Size::new(expected.0, expected.1), "{photo:?}");
        }
    }

    #[test]
    fn orientation_tables_agree_with_pillow() {
        // Pillow's exif_transpose answers 6 with ROTATE_270 (clockwise 90°): the stored left column becomes the top
        // row.
        assert!(Orientation::Rotate90.transposes() && !Orientation::Rotate90.flips_stored_columns());
        assert!(Orientation::Rotate90.flips_stored_rows());
        assert_eq!(Orientation::from_exif(0), Orientation::Upright);
        assert_eq!(Orientation::from_exif(9), Orientation::Upright);
        for value in 1..=8 {
            assert_eq!(u16::from(Orientation::from_exif(value).exif()), value);
        }
    }

    proptest! {
        #[test]
        fn resized_sizes_stay_in_bounds(w in 1u32..60_000, h in 1u32..60_000) {
            let size = Size::new(w, h).shortest_edge(640, 1333);
            prop_assert!(size.width >= 1 && size.height >= 1 && size.long_side() <= 1333 && size.short_side() <= 640);
            let fit = Size::new(w, h).fit_within(2048);
            prop_assert!(fit.width >= 1 && fit.height >= 1 && fit.long_side() <= 2048);
            prop_assert!(fit.width <= w && fit.height <= h);
            let canvas = Size::new(384, 512);
            let shrunk = Size::new(w, h).shrunk_into(canvas);
            prop_assert!(shrunk.width >= 1 && shrunk.height >= 1 && shrunk.width <= w && shrunk.height <= h);
            prop_assert!(Region::centred(shrunk, canvas).is_inside(canvas));
            let padded = size.padded_to(32);
            prop_assert!(padded.width.is_multiple_of(32) && padded.width >= size.width && padded.width - size.width < 32);
        }
    }
}
