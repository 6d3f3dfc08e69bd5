//! `input.size`: the rule for the size at which the network sees a photo.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::geometry::{Region, Size};

/// How a photo becomes the graph's input. In JSON, a rule with the key `letterbox` is a letterbox, and any other is a
/// shortest edge.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum SizeRule {
    ShortestEdge(ShortestEdge),
    Letterbox(Letterbox),
}

/// detectron2's `ResizeShortestEdge`, or a little smaller, followed by zero padding on the right and below to a multiple
/// of `divisor`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortestEdge {
    /// The short side, pixels.
    pub min_side: u32,
    /// The greatest long side, pixels.
    pub max_side: u32,
    pub divisor: u32,
    /// The smallest short side that is still useful. The plan refuses a smaller one, but photos whose aspect makes
    /// their native short side smaller are run at their native size.
    pub smallest_side: u32,
    /// The greatest share by which a photo becomes smaller still, so that a row or a column of `divisor` pixels of
    /// padding is saved. By default none, as in detectron2.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_shrink: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl ShortestEdge {
    fn at_most(&self, photo: Size, max_side: u32) -> Size {
        let max_side = max_side.min(self.max_side);
        let min_side = self.min_side.min(max_side);
        let size = photo.shortest_edge(min_side, max_side);
        let padded = |size: Size| size.padded_to(self.divisor).area();
        let with_long_side = |long: u32| photo.shortest_edge(min_side.min(long), long);
        let long = size.long_side();
        let least = (f64::from(long) * (1.0 - self.max_shrink)).ceil() as u32;
        let fewest = padded(with_long_side(least));
        if fewest >= padded(size) {
            return size;
        }
        // The largest that needs no more pixels than the smallest.
        (least..long).rev().map(with_long_side).find(|&size| padded(size) == fewest).unwrap_or(size)
    }
}

/// ModelScope's `center_to_target_size_test`: a photo larger than the canvas is shrunk into it, and every photo is then
/// centred on it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letterbox {
    pub letterbox: Canvas,
    /// The graph pads the canvas with zeros, on the right and below, to a multiple of this.
    pub divisor: u32,
}

/// The canvas on which a letterboxed photo lies.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canvas {
    pub width: u32,
    pub height: u32,
    /// The value of the pixels beside the photo, for all channels, 0–255.
    pub fill: u8,
}

impl Canvas {
    #[must_use]
    pub const fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

/// This is written by hand, because the error of serde's `untagged` would only say that nothing matched.
impl<'de> Deserialize<'de> for SizeRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = serde_json::Value::deserialize(deserializer)?;
        let read = if rule.get("letterbox").is_some() {
            serde_json::from_value(rule).map(Self::Letterbox)
        } else {
            serde_json::from_value(rule).map(Self::ShortestEdge)
        };
        read.map_err(|error| D::Error::custom(format!("`input.size`: {error}")))
    }
}

impl SizeRule {
    /// The working size of a photo when memory does not matter.
    #[must_use]
    pub fn native(&self, photo: Size) -> Size {
        self.at_most(photo, u32::MAX)
    }

    /// As [`Self::native`], but with a long side of at most `max_side`.
    #[must_use]
    pub(crate) fn at_most(&self, photo: Size, max_side: u32) -> Size {
        match self {
            Self::ShortestEdge(rule) => rule.at_most(photo, max_side),
            Self::Letterbox(rule) => {
                let canvas = rule.letterbox;
                photo.shrunk_into(Size::new(canvas.width.min(max_side), canvas.height.min(max_side)))
            }
        }
    }

    /// The number of which the sides of the padded input are multiples.
    #[must_use]
    pub const fn divisor(&self) -> u32 {
        match self {
            Self::ShortestEdge(rule) => rule.divisor,
            Self::Letterbox(rule) => rule.divisor,
        }
    }

    /// The value of the input's pixels beside the photo.
    #[must_use]
    pub const fn fill(&self) -> u8 {
        match self {
            Self::ShortestEdge(_) => 0,
            Self::Letterbox(rule) => rule.letterbox.fill,
        }
    }

    /// The size of the graph's input for a photo resized to `working`, and where the photo lies on it.
    pub(super) fn place(&self, working: Size) -> (Size, Region) {
        match self {
            Self::ShortestEdge(_) => (working, working.into()),
            Self::Letterbox(rule) => {
                let canvas = rule.letterbox.size();
                let region = Region::centred(working, canvas);
                // The reference's `PadTransform` gives the photo back if there is nothing to pad on the left and above,
                // so a single missing column or row is left to the graph, which pads it with zeros.
                if region.left == 0 && region.top == 0 { (working, region) } else { (canvas, region) }
            }
        }
    }

    /// Every fault of the rule, in one sentence each.
    pub(super) fn faults(&self) -> Vec<&'static str> {
        const MOST: u32 = 8192;
        let has_divisor = self.divisor() >= 1;
        let rules = match self {
            Self::ShortestEdge(size) => vec![
                (
                    has_divisor
                        && size.smallest_side >= 1
                        && size.smallest_side <= size.min_side
                        && size.min_side <= size.max_side,
                    "`input.size` needs 1 ≤ smallest_side ≤ min_side ≤ max_side and divisor ≥ 1",
                ),
                (size.max_side <= MOST, "`input.size.max_side` is above 8192"),
                ((0.0..0.5).contains(&size.max_shrink), "`input.size.max_shrink` is not from 0 up to 0.5"),
            ],
            Self::Letterbox(size) => {
                let canvas = size.letterbox.size();
                vec![
                    (
                        has_divisor && canvas.short_side() >= 1,
                        "`input.size` needs a letterbox of at least 1×1 and divisor ≥ 1",
                    ),
                    (canvas.long_side() <= MOST, "`input.size.letterbox` is above 8192 pixels a side"),
                ]
            }
        };
        rules.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{FILE_NAME, Geometry, Manifest};
    use serde_json::{Value, json};

    fn nano() -> Value {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano").join(FILE_NAME);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn with_size(size: Value) -> Result<Manifest, serde_json::Error> {
        let mut manifest = nano();
        manifest["input"]["size"] = size;
        manifest["outputs"]["stride"] = 4.into();
        serde_json::from_value(manifest)
    }

    fn lip() -> Value {
        json!({"letterbox": {"width": 384, "height": 512, "fill": 128}, "divisor": 32})
    }

    #[test]
    fn both_size_rules_are_read_and_written() {
        for size in [nano()["input"]["size"].clone(), lip()] {
            let manifest = with_size(size.clone()).unwrap();
            assert_eq!(manifest.faults(), Vec::<String>::new());
            assert_eq!(serde_json::to_value(manifest.input.size).unwrap(), size);
        }
    }

    #[test]
    fn a_size_rule_that_is_neither_is_told_in_a_sentence() {
        let mut unknown = lip();
        unknown["min_side"] = 3.into();
        let mut bright = lip();
        bright["letterbox"]["fill"] = 256.into();
        let shortest = json!({"min_side": 4, "max_side": 8, "smallest_side": 4, "divisor": 4});
        let mut wider = shortest.clone();
        wider["width"] = 3.into();
        for (size, fault) in [
            (unknown, "`input.size`: unknown field `min_side`, expected `letterbox` or `divisor`"),
            (bright, "`input.size`: invalid value: integer `256`, expected u8"),
            (json!({"letterbox": {"width": 3, "fill": 0}, "divisor": 4}), "`input.size`: missing field `height`"),
            (json!({"min_side": 4, "max_side": 8, "divisor": 4}), "`input.size`: missing field `smallest_side`"),
            (wider, "`input.size`: unknown field `width`"),
        ] {
            let error = with_size(size).unwrap_err().to_string();
            assert!(error.starts_with(fault), "{error}");
        }
    }

    #[test]
    fn faults_of_size_rules() {
        let letterbox = |width: u32, divisor: u32| json!({"letterbox": {"width": width, "height": 512, "fill": 128}, "divisor": divisor});
        let shortest = |smallest: u32, max: u32| json!({"min_side": 64, "max_side": max, "smallest_side": smallest, "divisor": 32});
        for (size, fault) in [
            (letterbox(0, 32), "`input.size` needs a letterbox of at least 1×1 and divisor ≥ 1"),
            (letterbox(384, 0), "`input.size` needs a letterbox of at least 1×1 and divisor ≥ 1"),
            (letterbox(8193, 32), "`input.size.letterbox` is above 8192 pixels a side"),
            (letterbox(384, 6), "`input.size.divisor` is not a multiple of `outputs.stride`"),
            (shortest(65, 128), "`input.size` needs 1 ≤ smallest_side ≤ min_side ≤ max_side and divisor ≥ 1"),
            (shortest(32, 8193), "`input.size.max_side` is above 8192"),
            (shrinking(-0.1), "`input.size.max_shrink` is not from 0 up to 0.5"),
            (shrinking(0.5), "`input.size.max_shrink` is not from 0 up to 0.5"),
        ] {
            assert_eq!(with_size(size).unwrap().faults(), [fault]);
        }
    }

    /// nano's sides, with another greatest share.
    fn shrinking(max_shrink: f64) -> Value {
        json!({"min_side": 384, "max_side": 576, "divisor": 32, "smallest_side": 128, "max_shrink": max_shrink})
    }

    #[test]
    fn a_photo_is_shrunk_a_little_where_that_saves_padding() {
        let exact = with_size(shrinking(0.0)).unwrap().input.size;
        let shrinks = with_size(shrinking(0.025)).unwrap().input.size;
        for (photo, reference, working) in [
            ((1920, 1080), (576, 324), (569, 320)),
            ((1080, 1920), (324, 576), (320, 569)),
            // 360 rows are 8 above a multiple of 32.
            ((1280, 800), (576, 360), (563, 352)),
            // The long side of a photo of three to four and a bit is 2 above one.
            ((1025, 768), (513, 384), (512, 384)),
            ((1030, 768), (515, 384), (512, 382)),
            // 266 rows are 10 above one, too many; and nothing is padded here.
            ((2340, 1080), (576, 266), (576, 266)),
            ((1500, 1000), (576, 384), (576, 384)),
            ((4000, 40), (576, 6), (576, 6)),
        ] {
            let photo = Size::new(photo.0, photo.1);
            assert_eq!(exact.native(photo), Size::new(reference.0, reference.1), "{photo}");
            assert_eq!(shrinks.native(photo), Size::new(working.0, working.1), "{photo}");
        }
        assert_eq!(shrinks.at_most(Size::new(1920, 1080), 515), Size::new(512, 288));
    }

    proptest::proptest! {
        #[test]
        fn more_is_never_seen_smaller(width in 1u32..5000, height in 1u32..5000, side in 1u32..600) {
            let rule = with_size(shrinking(0.025)).unwrap().input.size;
            let (photo, exact) = (Size::new(width, height), with_size(shrinking(0.0)).unwrap().input.size);
            let [less, more] = [side, side + 1].map(|side| rule.at_most(photo, side));
            proptest::prop_assert!(less.width <= more.width && less.height <= more.height, "{less} {more}");
            let most = exact.at_most(photo, side);
            proptest::prop_assert!(less.width <= most.width && less.height <= most.height, "{less} {most}");
        }
    }

    /// Where ModelScope's `center_to_target_size_test` puts photos: its canvas, and the upper left corner of its box.
    #[test]
    fn letterboxed_photos_lie_where_the_reference_puts_them() {
        let manifest = with_size(lip()).unwrap();
        for (photo, corner, input) in [
            ((1920, 1080), (0, 148), (384, 512)),
            ((1080, 1920), (48, 0), (384, 512)),
            ((384, 600), (28, 0), (384, 512)),
            ((101, 151), (141, 180), (384, 512)),
            ((383, 300), (0, 106), (384, 512)),
            ((382, 512), (1, 0), (384, 512)),
            ((384, 512), (0, 0), (384, 512)),
            // Where there is nothing to pad on the left and above, the photo is not padded at all.
            ((383, 512), (0, 0), (383, 512)),
            ((384, 511), (0, 0), (384, 511)),
            ((767, 1024), (0, 0), (383, 512)),
        ] {
            let working = manifest.input.size.native(Size::new(photo.0, photo.1));
            let geometry = manifest.geometry(working);
            let expected = Geometry {
                input: Size::new(input.0, input.1),
                photo: Region { left: corner.0, top: corner.1, size: working },
                padded: Size::new(384, 512),
                mask: Size::new(96, 128),
            };
            assert_eq!(geometry, expected, "{photo:?}");
        }
    }
}
