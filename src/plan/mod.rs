//! How a photo will be run, decided from its header before anything is decoded.
//!
//! Planning is pure: it takes a header, options, a manifest and a budget, and gives a plan with its reasons. It never
//! loads the model.

pub(crate) mod cost;
pub(crate) mod pace;

use serde::Serialize;

use self::cost::{Cost, Processors};
use crate::error::{Error, Limit};
use crate::geometry::{Orientation, Size};
use crate::image::header::Header;
use crate::manifest::{Geometry, Manifest, ShortestEdge, SizeRule};
use crate::memory::budget::Budget;
use crate::options::{Mode, Options};
use crate::parsing::Grid;
use crate::render::report::{ImageSection, PlanSection};
use crate::units::whole_mb;

/// What will be done with one photo, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Upright size of the photo.
    pub photo: Size,
    /// Size that the photo is resized to. Where it is tiled, this is its size for the tiles.
    pub working: Size,
    /// The network's sizes when it sees the whole photo, and where on its input the resized photo lies.
    pub geometry: Geometry,
    /// Where tiles lie on the photo at the working size. `None` where one run of the whole photo is all.
    pub grid: Option<Grid>,
    /// Whether the network sees the mirrored photo as well, or the mirrored tiles, for the label map.
    pub flip: bool,
    /// Why the working size is this one.
    pub reason: String,
    /// Memory limit of the process, bytes.
    pub limit_bytes: u64,
    /// What this request reserves, bytes.
    pub request_bytes: u64,
    /// Predicted greatest resident set of the process, bytes.
    pub predicted_peak_bytes: u64,
    pub predicted_ms: u64,
    /// Whether memory forced a smaller size than was asked for.
    pub downscaled: bool,
    /// What the user should know, such as a reduced size.
    pub warnings: Vec<String>,
}

/// A plan, and why it may not be run where it is refused.
#[derive(Debug)]
pub struct Decision {
    /// Where the photo is refused for memory, this is the smallest useful plan.
    pub plan: Plan,
    pub refusal: Option<Error>,
}

/// Everything a plan depends on.
pub(crate) struct Planner<'a> {
    pub manifest: &'a Manifest,
    pub budget: &'a Budget,
    pub processors: Processors,
    /// Photos with more pixels are tiled in mode `auto`.
    pub tile_above_px: Option<u64>,
}

impl Planner<'_> {
    /// Plans a photo whose source takes `source_bytes` of memory.
    #[must_use]
    pub(crate) fn decide(&self, header: &Header, source_bytes: u64, options: &Options) -> Decision {
        let photo = header.upright();
        let cost = Cost::new(self.manifest, header, source_bytes, options, self.processors);
        let flip = options.flip;
        let once = || self.once(photo, options, |size| cost.whole_bytes(size, flip), |size| cost.whole_ms(size, flip));
        if options.flip && self.manifest.flip_pairs.is_none() {
            let fault = "this model does not say which of its classes are left and right: `flip` cannot be on";
            return Decision { refusal: Some(Error::bad_request(fault)), ..once() };
        }
        let unasked = self.tile_above_px.is_some_and(|most| photo.area() > most);
        match (options.mode, self.manifest.input.size) {
            (Mode::Tiled, SizeRule::Letterbox(rule)) => {
                let canvas = rule.letterbox.size();
                let fault = format!("this model sees every photo whole, on {canvas}: `mode` cannot be `tiled`");
                Decision { refusal: Some(Error::bad_request(fault)), ..once() }
            }
            (_, SizeRule::ShortestEdge(_)) if self.one_run_sees_all(photo, options) => once(),
            (Mode::Tiled, _) => self.tiled(photo, options, &cost),
            (Mode::Auto, SizeRule::ShortestEdge(_)) if unasked => {
                match self.tiled(photo, options, &cost) {
                    Decision { refusal: Some(refusal), .. } => {
                        // Nobody asked for tiles, so where memory refuses them, one run is the answer and its plan
                        // says why.
                        let mut once = once();
                        if once.refusal.is_none() {
                            once.plan.warnings.push(format!("not tiled: {refusal}"));
                        }
                        once
                    }
                    tiled => tiled,
                }
            }
            (Mode::Auto, _) => once(),
        }
    }

    /// Plans one run of the whole photo, or two of which one is mirrored, at the largest size for which the bytes of
    /// `bytes_at` fit.
    fn once(
        &self,
        photo: Size,
        options: &Options,
        bytes_at: impl Fn(Size) -> u64,
        ms_at: impl Fn(Size) -> u64,
    ) -> Decision {
        let asked = self.asked_size(photo, options);
        let fits = |size: Size| bytes_at(size) <= self.budget.total_bytes();
        let fitting = match self.manifest.input.size {
            _ if fits(asked) => Ok(asked),
            SizeRule::ShortestEdge(rule) => largest_fitting(rule, photo, asked, fits),
            // The network sees the whole canvas, whatever the photo's size on it.
            SizeRule::Letterbox(_) => Err(NothingFits { smallest: asked }),
        };
        let working = fitting.unwrap_or_else(|NothingFits { smallest }| smallest);
        let request_bytes = bytes_at(working);
        let mut plan = self.plan_at(photo, working, request_bytes, ms_at(working));
        plan.flip = options.flip;
        plan.reason = self.reason(photo, asked, working, options);
        if working != asked && fitting.is_ok() {
            plan.downscaled = true;
            plan.warnings.push(format!(
                "downscaled from {asked} to {working} because {asked} would need {} MB and this function has {} MB",
                whole_mb(self.budget.limit_for(bytes_at(asked))),
                whole_mb(self.budget.limit_bytes()),
            ));
        }
        let refusal = fitting.err().map(|_| self.refuse(request_bytes, &plan));
        Decision { plan, refusal }
    }

    /// The long side that is asked for with tiles. It is twice the native one, but at most the photo's own and at most
    /// `max_side`.
    fn asked_long_side(&self, photo: Size, options: &Options) -> u32 {
        let native = self.manifest.input.size.native(photo).long_side();
        options.max_side.unwrap_or(u32::MAX).min(2 * native).min(photo.long_side())
    }

    /// Whether tiles would show the network nothing that it does not see in one run.
    fn one_run_sees_all(&self, photo: Size, options: &Options) -> bool {
        let (once, long) = (self.asked_size(photo, options), self.asked_long_side(photo, options));
        let tiled = tiled_size(photo, once, long);
        tiled == once || Grid::new(tiled, self.manifest.input.size.divisor()).count() == 1
    }

    /// Plans one run of the whole photo, then tiles. Tiles are at twice the native size, or at less where
    /// [`Self::asked_long_side`] says so. Memory may force them to be smaller, down to the whole run's size.
    fn tiled(&self, photo: Size, options: &Options, cost: &Cost<'_>) -> Decision {
        let grid_of = |size: Size| Grid::new(size, self.manifest.input.size.divisor());
        let bytes = |whole: Size, tiles: Size| cost.tiled_bytes(whole, &grid_of(tiles));
        let Decision { plan, refusal } =
            self.once(photo, options, |size| bytes(size, size), |size| cost.whole_ms(size, false));
        if refusal.is_some() {
            return Decision { plan, refusal };
        }
        let (whole, asked) = (plan.working, self.asked_long_side(photo, options));
        let at = |long: u32| tiled_size(photo, whole, long);
        let fits = |long: u32| bytes(whole, at(long)) <= self.budget.total_bytes();
        let least = whole.long_side();
        let long = largest(least, asked.max(least), fits).unwrap_or(least);
        let (working, request_bytes) = (at(long), bytes(whole, at(long)));
        let grid = grid_of(working);
        let mut plan = Plan {
            predicted_ms: plan.predicted_ms + cost.tiles_ms(&grid),
            request_bytes,
            predicted_peak_bytes: self.budget.peak_bytes(request_bytes),
            working,
            grid: Some(grid),
            ..plan
        };
        plan.reason = if long < asked {
            plan.downscaled = true;
            plan.warnings.push(format!(
                "tiled at {working}, not {}, which would need {} MB; this function has {} MB",
                at(asked),
                whole_mb(self.budget.limit_for(bytes(whole, at(asked)))),
                whole_mb(self.budget.limit_bytes()),
            ));
            format!("tiles at the largest size that fits {} MB", whole_mb(self.budget.limit_bytes()))
        } else if options.max_side == Some(asked) {
            format!("tiles at max_side={asked}")
        } else if working == photo {
            "tiles at the photo's own size".to_owned()
        } else {
            "tiles at twice the native size".to_owned()
        };
        Decision { plan, refusal: None }
    }

    /// The size that is asked for, without regard to memory: that of the model's rule, unless the request lowers it.
    fn asked_size(&self, photo: Size, options: &Options) -> Size {
        self.manifest.input.size.at_most(photo, options.max_side.unwrap_or(u32::MAX))
    }

    fn plan_at(&self, photo: Size, working: Size, request_bytes: u64, predicted_ms: u64) -> Plan {
        Plan {
            photo,
            working,
            geometry: self.manifest.geometry(working),
            grid: None,
            flip: false,
            reason: String::new(),
            limit_bytes: self.budget.limit_bytes(),
            request_bytes,
            predicted_peak_bytes: self.budget.peak_bytes(request_bytes),
            predicted_ms,
            downscaled: false,
            warnings: Vec::new(),
        }
    }

    fn reason(&self, photo: Size, asked: Size, working: Size, options: &Options) -> String {
        if working != asked {
            format!("the largest size that fits {} MB", whole_mb(self.budget.limit_bytes()))
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
        let enough = whole_mb(self.budget.limit_for(request_bytes));
        let size = match self.manifest.input.size {
            SizeRule::ShortestEdge(_) => format!("even at the smallest working size {}", plan.working),
            SizeRule::Letterbox(rule) => format!("at {}, the only size of this model", rule.letterbox.size()),
        };
        Error::TooLarge {
            limit: Limit::Memory,
            detail: format!(
                "a photo of {} needs {enough} MB {size}; this function has {} MB",
                plan.photo,
                whole_mb(self.budget.limit_bytes()),
            ),
        }
    }

    /// Time that loading the model takes, milliseconds.
    #[must_use]
    pub(crate) fn load_ms(&self) -> u64 {
        cost::load_ms(self.manifest, self.processors)
    }
}

/// Not even the smallest useful size fits.
#[derive(Debug, Clone, Copy)]
struct NothingFits {
    smallest: Size,
}

/// The largest size below `asked` for which `fits` holds, among those that `rule` gives with smaller sides.
fn largest_fitting(
    rule: ShortestEdge,
    photo: Size,
    asked: Size,
    fits: impl Fn(Size) -> bool,
) -> Result<Size, NothingFits> {
    let at = |short: u32| {
        let long = (u64::from(rule.max_side) * u64::from(short)).div_ceil(u64::from(rule.min_side));
        let size = photo.shortest_edge(short, long as u32);
        if size.area() < asked.area() { size } else { asked }
    };
    let smallest = rule.smallest_side;
    largest(smallest, rule.min_side, |short| fits(at(short))).map(at).ok_or(NothingFits { smallest: at(smallest) })
}

/// The photo's size with a long side of `long`, but no smaller than a whole run's size.
fn tiled_size(photo: Size, whole: Size, long: u32) -> Size {
    if long <= whole.long_side() { whole } else { photo.fit_within(long) }
}

/// The greatest of `low..=high` for which `fits` holds, if it holds for all below that, too. `None` where it does not
/// even hold for `low`.
fn largest(low: u32, high: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    if fits(high) {
        return Some(high);
    }
    let (mut low, mut high) = (low, high);
    if !fits(low) {
        return None;
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

/// The answer of `POST /plan` and of `m2fp plan --json`.
#[derive(Debug, Clone, Serialize)]
pub struct PlanAnswer {
    pub admitted: bool,
    pub image: Option<ImageSection>,
    /// Where the photo is refused for memory, this is the smallest useful plan.
    pub plan: Option<PlanSection>,
    /// Why the photo would be refused. It is null where it is admitted.
    pub refused: Option<Refusal>,
    pub warnings: Vec<String>,
}

/// Why a photo would be refused, as the problem that would be answered says it.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub detail: String,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        Self { status: error.status().as_u16(), code: error.code(), detail: error.to_string() }
    }
}

impl PlanAnswer {
    /// The answer for a photo that cannot even be planned.
    #[must_use]
    pub fn refused(error: &Error) -> Self {
        Self { admitted: false, image: None, plan: None, refused: Some(error.into()), warnings: Vec::new() }
    }
}

impl Decision {
    /// The answer that says what was decided. `orientation` is that of the stored photo.
    #[must_use]
    pub fn answer(&self, orientation: Orientation) -> PlanAnswer {
        let Size { width, height } = self.plan.photo;
        PlanAnswer {
            admitted: self.refusal.is_none(),
            image: Some(ImageSection { width, height, orientation: orientation.exif() }),
            plan: Some(self.plan.section()),
            refused: self.refusal.as_ref().map(Refusal::from),
            warnings: self.plan.warnings.clone(),
        }
    }
}

impl Plan {
    /// The mode that the photo is run in: `auto` or `tiled`.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        if self.grid.is_some() { "tiled" } else { "auto" }
    }

    /// Number of images that labels come from; with `flip` the network sees each of them twice.
    #[must_use]
    pub fn tiles(&self) -> u32 {
        self.grid.as_ref().map_or(1, Grid::count)
    }

    /// The plan as the report shows it.
    #[must_use]
    pub(crate) fn section(&self) -> PlanSection {
        PlanSection {
            mode: self.mode().to_owned(),
            working_width: self.working.width,
            working_height: self.working.height,
            tiles: self.tiles(),
            flip: self.flip,
            reason: self.reason.clone(),
            limit_mb: whole_mb(self.limit_bytes),
            predicted_peak_mb: whole_mb(self.predicted_peak_bytes),
            predicted_ms: self.predicted_ms,
        }
    }

    /// The plan as one header line, `X-M2FP-Plan`.
    #[must_use]
    pub(crate) fn header_line(&self) -> String {
        format!(
            "mode={}; photo={}x{}; working={}x{}; tiles={}; flip={}; predicted_peak_mb={}; limit_mb={}; predicted_ms={}",
            self.mode(),
            self.photo.width,
            self.photo.height,
            self.working.width,
            self.working.height,
            self.tiles(),
            self.flip,
            whole_mb(self.predicted_peak_bytes),
            whole_mb(self.limit_bytes),
            self.predicted_ms,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::header::Format;
    use crate::options::{OutputKind, RawOptions};
    use crate::units::MIB;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        Manifest::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano")).unwrap()
    }

    fn header(width: u32, height: u32, held_bytes: u64) -> Header {
        Header::plain(Format::Jpeg, Size::new(width, height), held_bytes)
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
        decide_above(None, manifest, limit_mb, header, options)
    }

    fn decide_above(
        tile_above_px: Option<u64>,
        manifest: &Manifest,
        limit_mb: u64,
        header: &Header,
        options: &Options,
    ) -> Decision {
        let budget = Budget::new(limit_mb * MIB, 10 * MIB, manifest);
        let processors = Processors { threads: 2, pool_threads: 2, cpus: 2.0 };
        Planner { manifest, budget: &budget, processors, tile_above_px }.decide(header, 1 << 20, options)
    }

    #[test]
    fn plenty_of_memory_gives_the_native_size() {
        let decision = decide(4096, &header(1920, 1080, 0), &options(""));
        assert!(decision.refusal.is_none());
        assert_eq!(decision.plan.working, Size::new(626, 352));
        assert_eq!(decision.plan.geometry.padded, Size::new(640, 352));
        assert!(decision.plan.warnings.is_empty());
        assert_eq!(decision.plan.reason, "the model's native size");
    }

    #[test]
    fn a_request_may_lower_the_size_but_not_raise_it() {
        let plan = |query| decide(4096, &header(1920, 1080, 0), &options(query)).plan;
        assert_eq!(plan("max_side=400").working, Size::new(399, 224));
        assert_eq!(plan("max_side=400").reason, "max_side=400 asked for");
        assert_eq!(plan("max_side=4000").working, Size::new(626, 352));
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
            assert!(plan.predicted_ms as f64 >= manifest.time_here().run_ms(384 * 512), "{plan:?}");
        }

        // With too little memory the photo is refused, since no size is smaller. The memory that the refusal names is
        // enough.
        let limit_mb = |photo, query| (1..4096).find(|mb| decide(*mb, photo, query).refusal.is_none()).unwrap();
        for (photo, query) in [(large, ""), (large, "max_side=200"), (small, "")] {
            let enough = limit_mb(photo, query);
            let refused = decide(enough - 1, photo, query);
            assert!(refused.plan.warnings.is_empty());
            let told = refused.refusal.unwrap().to_string();
            assert!(told.contains(&format!("needs {enough} MB at 384×512, the only size of this model")), "{told}");
        }
    }

    #[test]
    fn tiles_are_at_twice_the_native_size() {
        let plan = |width, height, query| decide(4096, &header(width, height, 0), &options(query)).plan;
        let large = plan(6000, 4000, "mode=tiled");
        assert_eq!((large.mode(), large.tiles(), large.working), ("tiled", 6, Size::new(1152, 768)));
        assert_eq!(large.geometry.photo.size, Size::new(576, 384));
        assert_eq!(large.reason, "tiles at twice the native size");
        let own = plan(1000, 700, "mode=tiled");
        assert_eq!((own.working, own.reason.as_str()), (Size::new(1000, 700), "tiles at the photo's own size"));
        let lowered = plan(6000, 4000, "mode=tiled&max_side=700");
        assert_eq!((lowered.working, lowered.reason.as_str()), (Size::new(700, 467), "tiles at max_side=700"));
        // In each of these, one tile would hold the photo, or one run enlarges it already.
        for (width, height) in [(500, 500), (100, 150), (512, 400), (560, 280)] {
            let small = plan(width, height, "mode=tiled");
            assert_eq!((small.mode(), small.tiles()), ("auto", 1), "{width}×{height}");
        }
    }

    #[test]
    fn tiles_need_a_model_that_sees_any_size() {
        let decision = decide_for(&letterboxed(), 4096, &header(6000, 4000, 0), &options("mode=tiled"));
        let refusal = decision.refusal.unwrap();
        assert!(matches!(refusal, Error::BadRequest { .. }));
        assert_eq!(refusal.to_string(), "this model sees every photo whole, on 384×512: `mode` cannot be `tiled`");
    }

    #[test]
    fn a_flip_is_planned_as_a_second_run() {
        let photo = header(1920, 1080, 0);
        for (query, flipped) in [("", "flip=on"), ("mode=tiled", "mode=tiled&flip=on")] {
            let once = decide(4096, &photo, &options(query)).plan;
            let twice = decide(4096, &photo, &options(flipped)).plan;
            assert_eq!((once.flip, twice.flip, once.working), (false, true, twice.working));
            // The whole photo is seen once where there are tiles.
            assert!(twice.predicted_ms > once.predicted_ms * 3 / 2 && twice.predicted_ms < once.predicted_ms * 2);
            let logits = once.geometry.mask.area() * u64::from(manifest().outputs.queries) * 4;
            assert!(twice.request_bytes >= once.request_bytes + logits, "{query}");
        }
        let mut manifest = manifest();
        manifest.flip_pairs = None;
        let refusal = decide_for(&manifest, 4096, &photo, &options("flip=on")).refusal.unwrap();
        assert!(matches!(refusal, Error::BadRequest { .. }));
        let told = "this model does not say which of its classes are left and right: `flip` cannot be on";
        assert_eq!(refusal.to_string(), told);
    }

    #[test]
    fn large_photos_are_tiled_unasked_where_that_is_set() {
        let photo = header(3000, 2000, 0);
        let decide =
            |above, manifest: &Manifest, limit_mb| decide_above(Some(above), manifest, limit_mb, &photo, &options(""));
        assert_eq!(decide(6_000_000, &manifest(), 4096).plan.mode(), "auto");
        assert_eq!(decide(5_999_999, &manifest(), 4096).plan.mode(), "tiled");
        let whole = decide(1, &letterboxed(), 4096);
        assert!(whole.refusal.is_none() && whole.plan.grid.is_none() && whole.plan.warnings.is_empty());
        // Memory that is enough for one run at some size, but too little for tiles, gives one run with a warning. There
        // is none where loading takes more at its peak than both.
        let mut manifest = manifest();
        manifest.memory.load_peak_mb = 0.0;
        let tight = (64..4096).map(|mb| decide(1, &manifest, mb)).find(|d| d.refusal.is_none()).unwrap();
        assert_eq!(tight.plan.mode(), "auto");
        assert!(tight.plan.warnings.iter().any(|warning| warning.starts_with("not tiled: ")), "{tight:?}");
    }

    /// The memory that a refusal says would be enough, MB.
    fn named_mb(refusal: &Error) -> u64 {
        let text = refusal.to_string();
        text.split(' ').skip_while(|word| *word != "needs").nth(1).unwrap().parse().unwrap()
    }

    proptest! {
        #[test]
        fn a_tiled_plan_fits_or_names_what_would(
            (width, height) in (1u32..20_000, 1u32..20_000),
            limit_mb in 64u64..2048,
            held_mb in 0u64..512,
        ) {
            let header = header(width, height, held_mb * MIB);
            let decision = decide(limit_mb, &header, &options("mode=tiled"));
            let (plan, whole) = (&decision.plan, decision.plan.geometry.photo.size);
            prop_assert!(plan.working.long_side() >= whole.long_side());
            prop_assert!(plan.working == whole || plan.working.area() <= header.upright().area());
            match &decision.refusal {
                None => {
                    prop_assert!(plan.predicted_peak_bytes <= plan.limit_bytes);
                    let enough = decide(1 << 20, &header, &options("mode=tiled")).plan;
                    prop_assert_eq!(plan.working == enough.working && plan.geometry == enough.geometry, plan.warnings.is_empty());
                    if let Some(grid) = &plan.grid {
                        prop_assert_eq!(grid.working(), plan.working);
                        let whole = decide(1 << 20, &header, &options(&format!("max_side={}", whole.long_side()))).plan;
                        prop_assert!(plan.request_bytes >= whole.request_bytes);
                    }
                }
                Some(refusal) => {
                    let enough = named_mb(refusal);
                    prop_assert!(enough > limit_mb);
                    prop_assert!(decide(enough, &header, &options("mode=tiled")).refusal.is_none());
                }
            }
        }

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
                    let enough = named_mb(refusal);
                    prop_assert!(enough > limit_mb);
                    prop_assert!(decide(enough, &header, &options("")).refusal.is_none());
                }
            }
        }
    }
}
