//! How a photo will be run, decided from its header before anything is decoded.
//!
//! Pure: header, options, manifest and budget in, a plan with its reasons out. It never loads the model.

use serde::Serialize;

use crate::budget::{Budget, to_mib};
use crate::error::{Error, Limit};
use crate::geometry::Size;
use crate::image::decode;
use crate::image::header::Header;
use crate::manifest::{Dtype, Geometry, Manifest, ShortestEdge, SizeRule};
use crate::options::{Mode, Options};
use crate::parsing;
use crate::render::collect;
use crate::render::report::PlanSection;

/// Decode and resample, per photo pixel and thread: baseline JPEG without SIMD, measured by `make bench`.
const DECODE_NS_PER_PIXEL: f64 = 25.0;
/// Post-processing and palette PNG, per photo pixel and thread, measured by `make bench`.
const POSTPROCESS_NS_PER_PIXEL: f64 = 60.0;

/// What will be done with one photo, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// `auto`: once, whole.
    pub mode: &'static str,
    /// Upright size of the photo.
    pub photo: Size,
    /// Size that the photo is resized to.
    pub working: Size,
    /// The network's sizes, and where on its input the resized photo lies.
    pub geometry: Geometry,
    pub tiles: u32,
    /// Why this size.
    pub reason: String,
    /// Memory limit of the process, bytes.
    pub limit_bytes: u64,
    /// What this request reserves, bytes.
    pub request_bytes: u64,
    /// Predicted greatest resident set of the process, bytes.
    pub predicted_peak_bytes: u64,
    pub predicted_ms: u64,
    /// What the user should know: a reduced size, for example.
    pub warnings: Vec<String>,
}

/// A plan, and why it may not be run if so.
#[derive(Debug)]
pub struct Decision {
    /// When refused for memory: the smallest useful plan.
    pub plan: Plan,
    pub refusal: Option<Error>,
}

/// Everything a plan depends on.
pub struct Planner<'a> {
    pub manifest: &'a Manifest,
    pub budget: &'a Budget,
    /// Threads that are started.
    pub threads: usize,
    /// Processor time given for each second: fewer than the threads, a part of one even, where a function's memory buys
    /// no more.
    pub cpus: f64,
}

impl Planner<'_> {
    /// Plans a photo whose source takes `source_bytes` of memory.
    #[must_use]
    pub fn decide(&self, header: &Header, source_bytes: u64, options: &Options) -> Decision {
        let photo = header.upright();
        let asked = self.asked_size(photo, options);
        let bytes_at = |size: Size| self.request_bytes(header, source_bytes, options, size);
        let fits = |size: Size| bytes_at(size) <= self.budget.total_bytes();
        let (working, refusal) = match self.manifest.input.size {
            _ if fits(asked) => (asked, None),
            SizeRule::ShortestEdge(rule) => largest_that(rule, photo, asked, fits),
            // The network sees the whole canvas whatever the photo's size on it.
            SizeRule::Letterbox(_) => (asked, Some(())),
        };
        let request_bytes = bytes_at(working);
        let mut plan = self.plan_at(photo, working, request_bytes);
        plan.reason = self.reason(photo, asked, working, options);
        if working != asked && refusal.is_none() {
            plan.warnings.push(format!(
                "downscaled from {asked} to {working} because {asked} would need {} MB and this function has {} MB",
                to_mib(self.budget.limit_for(bytes_at(asked))),
                to_mib(self.budget.limit_bytes()),
            ));
        }
        let refusal = refusal.map(|()| self.refuse(request_bytes, &plan));
        Decision { plan, refusal }
    }

    /// The size without regard to memory: the model's own rule, lowered by the request.
    fn asked_size(&self, photo: Size, options: &Options) -> Size {
        self.manifest.input.size.at_most(photo, options.max_side.unwrap_or(u32::MAX))
    }

    fn plan_at(&self, photo: Size, working: Size, request_bytes: u64) -> Plan {
        Plan {
            mode: match Mode::default() {
                Mode::Auto => "auto",
            },
            photo,
            working,
            geometry: self.manifest.geometry(working),
            tiles: 1,
            reason: String::new(),
            limit_bytes: self.budget.limit_bytes(),
            request_bytes,
            predicted_peak_bytes: self.budget.used_bytes() + request_bytes,
            predicted_ms: self.predicted_ms(photo, working),
            warnings: Vec::new(),
        }
    }

    fn reason(&self, photo: Size, asked: Size, working: Size, options: &Options) -> String {
        if working != asked {
            format!("the largest size that fits {} MB", to_mib(self.budget.limit_bytes()))
        } else if asked != self.manifest.input.size.native(photo) {
            format!("max_side={} asked for", options.max_side.unwrap_or_default())
        } else {
            match self.manifest.input.size {
                SizeRule::ShortestEdge(_) => "the model's native size".to_owned(),
                SizeRule::Letterbox(rule) => format!("the model's native size, centred on {}", rule.letterbox.size()),
            }
        }
    }

    fn refuse(&self, request_bytes: u64, plan: &Plan) -> Error {
        let enough = to_mib(self.budget.limit_for(request_bytes));
        let size = match self.manifest.input.size {
            SizeRule::ShortestEdge(_) => format!("even at the smallest working size {}", plan.working),
            SizeRule::Letterbox(rule) => format!("at {}, the only size of this model", rule.letterbox.size()),
        };
        Error::TooLarge {
            limit: Limit::Memory,
            detail: format!(
                "a photo of {} needs {enough} MB {size}; this function has {} MB",
                plan.photo,
                to_mib(self.budget.limit_bytes()),
            ),
        }
    }

    /// Peak of what one request holds: its source, and the hungriest of its stages with what is kept meanwhile.
    fn request_bytes(&self, header: &Header, source_bytes: u64, options: &Options, working: Size) -> u64 {
        let photo = header.upright();
        let geometry = self.manifest.geometry(working);
        let decode = decode::resized_bytes(header, working);
        let logits = geometry.mask.area() * u64::from(self.manifest.outputs.queries) * 4;
        // The resized photo is at most as large as the input that it is put on.
        let input = geometry.input.area() * 3 * (1 + self.input_element_bytes());
        let activations = self.manifest.memory.run_bytes(geometry.padded.area());
        let post = logits
            + parsing::bytes(&geometry, photo, self.manifest, parsing::BAND_ROWS)
            + collect::collectors_bytes(photo, self.manifest, options);
        let second_decode = collect::second_decode_bytes(header, options);
        source_bytes + decode.max(input + activations).max(post).max(second_decode)
    }

    fn input_element_bytes(&self) -> u64 {
        match self.manifest.input.dtype {
            Dtype::Uint8 => 1,
            Dtype::Float32 => 4,
        }
    }

    fn predicted_ms(&self, photo: Size, working: Size) -> u64 {
        let time = &self.manifest.time;
        let cpus = self.cpus.min(self.threads as f64);
        let padded = self.manifest.geometry(working).padded;
        // More processors than it was measured with are not known to help.
        let measured_cpus = f64::from(time.threads);
        let inference_ms = time.run_ms(padded.area()) * measured_cpus / cpus.min(measured_cpus);
        let photo_ms = photo.area() as f64 / 1e6;
        let post_ms = POSTPROCESS_NS_PER_PIXEL * photo_ms / cpus;
        let decode_ms = DECODE_NS_PER_PIXEL * photo_ms / cpus.min(1.0);
        (inference_ms + post_ms + decode_ms).ceil() as u64
    }

    /// Time that loading the model takes, milliseconds.
    #[must_use]
    pub fn load_ms(&self) -> u64 {
        // One thread does it.
        (self.manifest.time.load_ms / self.cpus.min(1.0)).ceil() as u64
    }
}

/// The largest size below `asked`, `rule` with smaller sides, for which `fits` holds; else the smallest useful one and
/// `Some(())`.
fn largest_that(rule: ShortestEdge, photo: Size, asked: Size, fits: impl Fn(Size) -> bool) -> (Size, Option<()>) {
    let at = |short: u32| {
        let long = (u64::from(rule.max_side) * u64::from(short)).div_ceil(u64::from(rule.min_side));
        let size = photo.shortest_edge(short, long as u32);
        if size.area() < asked.area() { size } else { asked }
    };
    let (mut low, mut high) = (rule.smallest_side, rule.min_side);
    if !fits(at(low)) {
        return (at(low), Some(()));
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(at(middle)) { low = middle } else { high = middle }
    }
    (at(low), None)
}

impl Decision {
    /// The answer of `/plan` and `m2fp plan --json`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "admitted": self.refusal.is_none(),
            "refused": self.refusal.as_ref().map(ToString::to_string),
            "image": { "width": self.plan.photo.width, "height": self.plan.photo.height },
            "plan": self.plan.section(),
            "warnings": self.plan.warnings,
        })
    }
}

impl Plan {
    /// The plan as the report shows it.
    #[must_use]
    pub fn section(&self) -> PlanSection {
        PlanSection {
            mode: self.mode.to_owned(),
            working_width: self.working.width,
            working_height: self.working.height,
            tiles: self.tiles,
            reason: self.reason.clone(),
            limit_mb: to_mib(self.limit_bytes),
            predicted_peak_mb: to_mib(self.predicted_peak_bytes),
            predicted_ms: self.predicted_ms,
        }
    }

    /// The plan as one header line, `X-M2FP-Plan`.
    #[must_use]
    pub fn header_line(&self) -> String {
        format!(
            "mode={}; photo={}x{}; working={}x{}; tiles={}; predicted_peak_mb={}; limit_mb={}; predicted_ms={}",
            self.mode,
            self.photo.width,
            self.photo.height,
            self.working.width,
            self.working.height,
            self.tiles,
            to_mib(self.predicted_peak_bytes),
            to_mib(self.limit_bytes),
            self.predicted_ms,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::MIB;
    use crate::geometry::Orientation;
    use crate::image::header::Format;
    use crate::options::{OutputKind, RawOptions};
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        Manifest::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano")).unwrap()
    }

    fn header(width: u32, height: u32, held_bytes: u64) -> Header {
        Header { format: Format::Jpeg, stored: Size::new(width, height), orientation: Orientation::Upright, held_bytes }
    }

    fn options(query: &str) -> Options {
        Options::check(&RawOptions::from_query(query).unwrap(), &[OutputKind::Mask]).unwrap()
    }

    fn letterboxed() -> Manifest {
        let mut manifest = manifest();
        let size = serde_json::json!({"letterbox": {"width": 384, "height": 512, "fill": 128}, "divisor": 32});
        manifest.input.size = serde_json::from_value(size).unwrap();
        manifest
    }

    fn decide(limit_mb: u64, header: &Header, options: &Options) -> Decision {
        decide_for(&manifest(), limit_mb, header, options)
    }

    fn decide_for(manifest: &Manifest, limit_mb: u64, header: &Header, options: &Options) -> Decision {
        let budget = Budget::new(limit_mb * MIB, 10 * MIB, manifest);
        Planner { manifest, budget: &budget, threads: 2, cpus: 2.0 }.decide(header, 1 << 20, options)
    }

    #[test]
    fn plenty_of_memory_gives_the_native_size() {
        let decision = decide(4096, &header(1920, 1080, 0), &options(""));
        assert!(decision.refusal.is_none());
        assert_eq!(decision.plan.working, Size::new(683, 384));
        assert_eq!(decision.plan.geometry.padded, Size::new(704, 384));
        assert!(decision.plan.warnings.is_empty());
        assert_eq!(decision.plan.reason, "the model's native size");
    }

    #[test]
    fn a_request_may_lower_the_size_but_not_raise_it() {
        let plan = |query| decide(4096, &header(1920, 1080, 0), &options(query)).plan;
        assert_eq!(plan("max_side=400").working, Size::new(400, 225));
        assert_eq!(plan("max_side=400").reason, "max_side=400 asked for");
        assert_eq!(plan("max_side=4000").working, Size::new(683, 384));
    }

    #[test]
    fn what_the_decoder_holds_is_charged() {
        let streamed = decide(512, &header(6000, 4000, 0), &options(""));
        let held = decide(512, &header(6000, 4000, 144 << 20), &options(""));
        assert!(held.plan.request_bytes > streamed.plan.request_bytes);
        let refused = decide(512, &header(6000, 4000, 1 << 30), &options(""));
        assert!(refused.refusal.unwrap().to_string().contains("this function has 512 MB"));
    }

    #[test]
    fn a_letterbox_costs_the_same_whatever_lies_on_it() {
        let manifest = letterboxed();
        let decide = |limit_mb, photo: Size, query| {
            decide_for(&manifest, limit_mb, &header(photo.width, photo.height, 0), &options(query))
        };
        let (large, small) = (Size::new(1920, 1080), Size::new(100, 150));
        let plan = decide(4096, large, "").plan;
        assert_eq!((plan.working, plan.geometry.input), (Size::new(384, 216), Size::new(384, 512)));
        assert_eq!(plan.reason, "the model's native size, centred on 384×512");
        let lowered = decide(4096, large, "max_side=200").plan;
        assert_eq!((lowered.working, lowered.geometry.input), (Size::new(200, 112), Size::new(384, 512)));
        assert_eq!(lowered.reason, "max_side=200 asked for");
        let activations = manifest.memory.run_bytes(384 * 512);
        for plan in [plan, lowered, decide(4096, small, "").plan] {
            assert!(plan.request_bytes >= activations, "{plan:?}");
            assert!(plan.predicted_ms as f64 >= manifest.time.run_ms(384 * 512), "{plan:?}");
        }

        // Too little memory: refused, since no size is smaller; what it names is enough.
        let limit_mb = |photo, query| (1..4096).find(|mb| decide(*mb, photo, query).refusal.is_none()).unwrap();
        for (photo, query) in [(large, ""), (large, "max_side=200"), (small, "")] {
            let enough = limit_mb(photo, query);
            let refused = decide(enough - 1, photo, query);
            assert!(refused.plan.warnings.is_empty());
            let told = refused.refusal.unwrap().to_string();
            assert!(told.contains(&format!("needs {enough} MB at 384×512, the only size of this model")), "{told}");
        }
    }

    proptest! {
        #[test]
        fn a_plan_fits_or_names_what_would(
            (width, height) in (1u32..20_000, 1u32..20_000),
            limit_mb in 64u64..2048,
            held_mb in 0u64..512,
        ) {
            let header = header(width, height, held_mb * MIB);
            let decision = decide(limit_mb, &header, &options(""));
            let native = manifest().input.size.native(Size::new(width, height));
            let plan = &decision.plan;
            prop_assert!(plan.working.width <= native.width && plan.working.height <= native.height);
            match &decision.refusal {
                None => {
                    prop_assert!(plan.predicted_peak_bytes <= plan.limit_bytes);
                    prop_assert_eq!(plan.working == native, plan.warnings.is_empty());
                    let more = decide(limit_mb + 64, &header, &options("")).plan;
                    prop_assert!(more.working.area() >= plan.working.area());
                }
                Some(refusal) => {
                    let text = refusal.to_string();
                    let words: Vec<_> = text.split(' ').collect();
                    let at = words.iter().position(|w| *w == "needs").unwrap();
                    let enough: u64 = words[at + 1].parse().unwrap();
                    prop_assert!(enough > limit_mb);
                    prop_assert!(decide(enough, &header, &options("")).refusal.is_none());
                }
            }
        }
    }
}
