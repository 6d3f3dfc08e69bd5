//! `model.json`, the only place that has the facts about a model.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::geometry::{Region, Size};
use crate::units::bytes_of_mb;

mod processor;
mod size;

pub use processor::ProcessorKind;
pub use size::{Canvas, Letterbox, ShortestEdge, SizeRule};

/// Name of the manifest's file inside a model folder.
pub(crate) const FILE_NAME: &str = "model.json";

/// The only schema version that this build reads.
const SCHEMA: u32 = 1;

/// The manifest of a model folder, checked: its indices, sizes and thresholds are consistent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub schema: u32,
    pub name: String,
    pub version: String,
    pub description: String,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    pub files: Vec<ModelFile>,
    /// The graph as the runtime makes it for one kind of processor, if it was made before. It is loaded there in the
    /// place of `files`, which any processor can load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimized: Option<Optimized>,
    pub input: Input,
    pub outputs: Outputs,
    /// The classes, whose ids are 0, 1, 2, … in order.
    pub classes: Vec<Class>,
    pub background_id: u8,
    /// The class whose queries are whole persons; `None` if the model has none.
    pub person_id: Option<u8>,
    pub label_map: LabelMap,
    /// The classes that change places when a photo is mirrored, as pairs of ids of left and right. It is empty where no
    /// class has a side. A model whose manifest does not have it cannot be asked to flip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip_pairs: Option<Vec<[u8; 2]>>,
    pub thresholds: Thresholds,
    /// Of the kinds of processors that were measured, the one that takes most.
    pub memory: Memory,
    pub time: Time,
    /// The same, as measured on other kinds of processors. [`Self::time_here`] takes the one that fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_times: Vec<Time>,
    /// What the model was trained on and by what code, in free form. `/info` shows it.
    pub provenance: serde_json::Value,
    /// The measured accuracy, in free form. `/info` shows it.
    pub accuracy: serde_json::Value,
    /// How a float model was turned into one that computes in 8 bits. It is absent from float models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

/// Post-training quantisation, as the exporter did it. Nothing here changes how the graph is run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// The types and granularity of activations and weights, in words.
    pub scheme: String,
    /// The processors on which it is exact and fast, in words.
    pub made_for: String,
    /// From how many photos the ranges of activations come.
    pub calibration_photos: u32,
}

/// A graph as one runtime makes it for one kind of processor and those with vectors as long, with its weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimized {
    pub file: ModelFile,
    pub processor: ProcessorKind,
    /// The build of the runtime, in its own words. No other build may load the file.
    pub runtime: String,
}

/// A file of the model folder. The first that is listed is the graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// The path relative to the folder, of one component.
    pub path: String,
    /// The sha256 in lower-case hexadecimal.
    pub sha256: String,
    pub bytes: u64,
}

/// The graph's input, which is the resized image `[1, 3, H, W]`, unpadded or letterboxed, in RGB from 0 to 255.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
    pub dtype: Dtype,
    pub size: SizeRule,
}

/// The element type of the graph's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    Uint8,
    Float32,
}

/// The graph's outputs: class logits `[1, Q, C+1]` and mask logits `[1, Q, H/stride, W/stride]`, where H and W are of
/// the padded size.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    pub class_logits: String,
    pub mask_logits: String,
    /// The number of queries, Q.
    pub queries: u32,
    pub stride: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub id: u8,
    pub name: String,
    /// The colour in sRGB.
    pub color: [u8; 3],
}

/// The sizes of the network's tensors for one photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Geometry {
    /// The size of the network's input, which is the resized photo or the canvas that it lies on.
    pub input: Size,
    /// Where the resized photo lies on the input.
    pub photo: Region,
    /// The size of the input after padding to the divisor.
    pub padded: Size,
    /// The size of one mask's logits.
    pub mask: Size,
}

/// How queries become one label per pixel (`parsing/label_map.rs`, `parsing/semantic.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelMap {
    /// M2FP's parsing mode: confident pairs are pasted, their mean is taken for each class, and the greatest wins.
    Paste,
    /// Mask2Former's semantic inference: Σ softmax · sigmoid for each class, and the greatest wins.
    Semantic,
}

/// The thresholds of scores. All lie between 0 and 1 except `top_k`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// How many (query, class) pairs are kept, the best first.
    pub top_k: u32,
    /// The least score from which a part is reported (≥).
    pub part_score: f32,
    /// The score above which a person is reported (>).
    pub person_score: f32,
    /// The least score from which a pair is pasted into the label map (≥): `parsing_ins_score_thr`.
    pub paste_score: f32,
    /// Persons that overlap by more than this IoU are taken for one person.
    pub nms_iou: f32,
}

/// The memory that the model takes, as measured. MB are 2^20 bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What the loaded session takes: all weights, whether or not they have been touched, and the runtime.
    pub load_mb: f64,
    /// What loading takes at its peak, which is over before a run begins. Without this measurement, loading is taken to
    /// need no more than `load_mb`.
    #[serde(default)]
    pub load_peak_mb: f64,
    /// Activations whose size does not depend on the input's.
    pub base_mb: f64,
    /// Bytes of activations per pixel of the padded input.
    pub bytes_per_pixel: f64,
}

impl Memory {
    /// Bytes that a run takes besides its input, for an input of `pixels` pixels after padding.
    #[must_use]
    pub(crate) fn run_bytes(&self, pixels: u64) -> u64 {
        bytes_of_mb(self.base_mb) + (self.bytes_per_pixel * pixels as f64) as u64
    }

    /// Of each constant the greater one.
    fn greater(&self, other: &Self) -> Self {
        Self {
            load_mb: self.load_mb.max(other.load_mb),
            load_peak_mb: self.load_peak_mb.max(other.load_peak_mb),
            base_mb: self.base_mb.max(other.base_mb),
            bytes_per_pixel: self.bytes_per_pixel.max(other.bytes_per_pixel),
        }
    }
}

impl Time {
    /// The default of `post_ns_per_pixel`, for a manifest without that measurement.
    fn some_post_ns() -> f64 {
        100.0
    }

    /// Milliseconds that a run takes on [`Self::threads`] processors, for an input of `pixels` pixels after padding.
    #[must_use]
    pub(crate) fn run_ms(&self, pixels: u64) -> f64 {
        self.base_ms + self.ns_per_pixel * pixels as f64 / 1e6
    }
}

/// The time that the model takes, as measured on `threads` threads.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// The time to check, map and prepare the model, which happens once in each process.
    #[serde(default)]
    pub load_ms: f64,
    pub base_ms: f64,
    /// The time per pixel of the padded input.
    pub ns_per_pixel: f64,
    /// The time for the post-processing of a photo with many people, per pixel of the photo, on one processor.
    #[serde(default = "Time::some_post_ns")]
    pub post_ns_per_pixel: f64,
    pub threads: u32,
    /// The kind of processor that was measured; absent where nobody wrote it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<ProcessorKind>,
}

/// The error for a model folder that cannot be used. Its sentence names the file and the fault.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct ManifestError {
    path: String,
    fault: String,
}

impl Manifest {
    /// Reads and checks `folder/model.json`.
    ///
    /// # Errors
    /// One sentence that names the file and every fault found.
    pub fn read(folder: &Path) -> Result<Self, ManifestError> {
        let path = folder.join(FILE_NAME);
        let error = |fault: String| ManifestError { path: path.display().to_string(), fault };
        let text = std::fs::read_to_string(&path).map_err(|e| error(e.to_string()))?;
        let manifest: Self = serde_json::from_str(&text).map_err(|e| error(e.to_string()))?;
        let faults = manifest.faults();
        if faults.is_empty() { Ok(manifest) } else { Err(error(faults.join("; "))) }
    }

    /// Whether the graph's file holds the weights. Else they are in files of their own.
    #[must_use]
    pub(crate) fn graph_holds_weights(&self) -> bool {
        self.files.len() == 1
    }

    /// Whether a second graph can be made for one kind of processor. Float weights in a file of their own are used as
    /// they lie there, on every kind; a second graph would hold all of them again.
    #[must_use]
    pub(crate) fn is_made_for_processors(&self) -> bool {
        self.graph_holds_weights() || self.quantization.is_some()
    }

    /// The graph that was made for processors like this one, if there is one.
    #[must_use]
    pub(crate) fn optimized_here(&self) -> Option<&Optimized> {
        self.optimized.as_ref().filter(|made| ProcessorKind::here().lays_weights_out_like(made.processor))
    }

    /// The times measured on this kind of processor, and [`Self::time`] where it was not measured.
    #[must_use]
    pub fn time_here(&self) -> &Time {
        let here = Some(ProcessorKind::here());
        self.times().find(|time| time.processor == here).unwrap_or(&self.time)
    }

    fn times(&self) -> impl Iterator<Item = &Time> {
        std::iter::once(&self.time).chain(&self.other_times)
    }

    /// Takes over what was measured on one kind of processor. What another kind needed more of memory, or took of time,
    /// is kept.
    pub(crate) fn take(&mut self, memory: &Memory, time: &Time) {
        let of_another = |kind: Option<ProcessorKind>| kind.is_some() && kind != time.processor;
        let others_measured = self.times().any(|known| of_another(known.processor));
        self.memory = if others_measured { self.memory.greater(memory) } else { *memory };
        if !of_another(self.time.processor) {
            self.time = *time;
        } else if let Some(known) = self.other_times.iter_mut().find(|known| known.processor == time.processor) {
            *known = *time;
        } else {
            self.other_times.push(*time);
        }
    }

    /// The manifest `text` with this one's constants. Everything else in the text stays as it is.
    ///
    /// # Errors
    /// An error when `text` is not the JSON of an object that has `memory` and `time`.
    pub(crate) fn with_constants(&self, text: &str) -> serde_json::Result<String> {
        #[derive(Deserialize)]
        struct Constants<'a> {
            #[serde(borrow)]
            memory: &'a RawValue,
            #[serde(borrow)]
            time: &'a RawValue,
            #[serde(borrow)]
            other_times: Option<&'a RawValue>,
        }
        let old: Constants<'_> = serde_json::from_str(text)?;
        let place = |old: &RawValue| {
            let start = old.get().as_ptr() as usize - text.as_ptr() as usize;
            start..start + old.get().len()
        };
        let mut time = indented(&self.time)?;
        let others = indented(&self.other_times)?;
        if old.other_times.is_none() && !self.other_times.is_empty() {
            time = format!("{time},\n  \"other_times\": {others}");
        }
        let mut changes = vec![(place(old.memory), indented(&self.memory)?), (place(old.time), time)];
        changes.extend(old.other_times.map(|old| (place(old), others)));
        // A later section is replaced first, so that the places of the earlier ones do not change.
        changes.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(place.start));
        let mut text = text.to_owned();
        for (place, new) in changes {
            text.replace_range(place, &new);
        }
        Ok(text)
    }

    /// Every fault of the manifest. There is none when it is sound.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        let is_probability = |x: f32| (0.0..=1.0).contains(&x);
        let is_cost = |x: f64| x.is_finite() && x >= 0.0;
        require(self.schema == SCHEMA, "`schema` is not 1");
        require(!self.files.is_empty(), "`files` is empty");
        require(
            self.files
                .iter()
                .chain(self.optimized.iter().map(|made| &made.file))
                .all(|f| PathBuf::from(&f.path).file_name().is_some_and(|n| n == f.path.as_str())),
            "`files` and `optimized` may only name files of the folder itself",
        );
        require(
            self.optimized.is_none() || self.is_made_for_processors(),
            "a graph with float weights in a file of their own cannot be `optimized` for one kind of processor",
        );
        let count = self.classes.len();
        require((2..=255).contains(&count), "`classes` must be 2 to 255");
        require(
            self.classes.iter().enumerate().all(|(i, c)| usize::from(c.id) == i),
            "`classes` ids must be 0, 1, 2, … in order",
        );
        require(usize::from(self.background_id) < count, "`background_id` is not a class");
        require(
            self.person_id.is_none_or(|id| usize::from(id) < count && id != self.background_id),
            "`person_id` is not a class of its own",
        );
        let sided: Vec<u8> = self.flip_pairs.iter().flatten().flatten().copied().collect();
        require(
            sided.iter().enumerate().all(|(i, id)| {
                usize::from(*id) < count
                    && *id != self.background_id
                    && Some(*id) != self.person_id
                    && !sided[..i].contains(id)
            }),
            "`flip_pairs` may only hold parts, each of them once",
        );
        let size = self.input.size;
        for fault in size.faults() {
            require(false, fault);
        }
        require(
            self.outputs.stride >= 1 && size.divisor().is_multiple_of(self.outputs.stride.max(1)),
            "`input.size.divisor` is not a multiple of `outputs.stride`",
        );
        require((1..=1000).contains(&self.outputs.queries), "`outputs.queries` must be 1 to 1000");
        let t = self.thresholds;
        require(
            [t.part_score, t.person_score, t.paste_score, t.nms_iou].into_iter().all(is_probability),
            "`thresholds` must lie between 0 and 1",
        );
        require((1..=255).contains(&t.top_k), "`thresholds.top_k` must be 1 to 255");
        require(
            [self.memory.load_mb, self.memory.load_peak_mb, self.memory.base_mb, self.memory.bytes_per_pixel]
                .into_iter()
                .all(is_cost),
            "`memory` must not be negative",
        );
        require(
            self.times().all(|t| {
                [t.load_ms, t.base_ms, t.ns_per_pixel, t.post_ns_per_pixel].into_iter().all(is_cost) && t.threads >= 1
            }),
            "`time` and `other_times` must not be negative and need a thread",
        );
        let mut kinds = self.times().map(|time| time.processor);
        require(
            self.other_times.is_empty()
                || kinds.all(|kind| kind.is_some() && self.times().filter(|t| t.processor == kind).count() == 1),
            "where there are `other_times`, each time needs a `processor` of its own",
        );
        require(
            self.quantization.as_ref().is_none_or(|q| {
                q.calibration_photos >= 1 && !q.scheme.trim().is_empty() && !q.made_for.trim().is_empty()
            }),
            "`quantization` needs a scheme, what it was made for, and a calibration photo",
        );
        faults
    }

    /// The class with this id. Ids come from this manifest and are therefore in range.
    #[must_use]
    pub fn class(&self, id: u8) -> &Class {
        &self.classes[usize::from(id)]
    }

    /// Whether a class is a body part or garment, and neither the background nor the person.
    #[must_use]
    pub fn is_part(&self, id: u8) -> bool {
        id != self.background_id && Some(id) != self.person_id
    }

    /// The most persons that one photo's answer may have. Where it is tiled, the tiles may add as many again, as long as
    /// persons' numbers fit a byte.
    #[must_use]
    pub(crate) fn most_persons(&self, tiled: bool) -> u64 {
        let most = self.person_id.map_or(0, |_| self.thresholds.top_k.min(self.outputs.queries));
        if tiled { (2 * most).min(u8::MAX.into()) } else { most }.into()
    }

    /// The colours in order of class ids, for palettes.
    #[must_use]
    pub fn palette(&self) -> Vec<[u8; 3]> {
        self.classes.iter().map(|c| c.color).collect()
    }

    /// The sizes that follow from a working size, which is the size of the resized photo.
    #[must_use]
    pub fn geometry(&self, working: Size) -> Geometry {
        let (input, photo) = self.input.size.place(working);
        Geometry { input, photo, padded: input.padded_to(self.input.size.divisor()), mask: self.mask_size(input) }
    }

    /// The size of one mask's logits for an input of this size.
    #[must_use]
    pub fn mask_size(&self, input: Size) -> Size {
        let padded = input.padded_to(self.input.size.divisor());
        Size::new(padded.width / self.outputs.stride, padded.height / self.outputs.stride)
    }

    /// The sha256 of the graph's file, which names the model in ETags and reports.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.files[0].sha256
    }
}

/// The text of an object as it stands in a manifest, indented by one level.
fn indented(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)?.replace('\n', "\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The packaged manifest with `quantization` set.
    fn with_quantization(value: serde_json::Value) -> Result<Manifest, serde_json::Error> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano").join(FILE_NAME);
        let mut manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        manifest["quantization"] = value;
        serde_json::from_value(manifest)
    }

    #[test]
    fn quantization_is_optional_and_checked() {
        let told = |scheme: &str, photos: u32| {
            with_quantization(serde_json::json!({
                "scheme": scheme, "made_for": "x86-64", "calibration_photos": photos
            }))
            .unwrap()
        };
        assert!(with_quantization(serde_json::Value::Null).unwrap().faults().is_empty());
        assert!(told("static", 9).faults().is_empty());
        for bad in [told(" ", 9), told("static", 0)] {
            assert_eq!(bad.faults().len(), 1);
        }
        assert!(with_quantization(serde_json::json!({"scheme": "static"})).is_err());
    }

    #[test]
    fn constants_change_and_nothing_else() {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano/model.json")).unwrap();
        let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
        let (memory, time) = (manifest.memory, manifest.time);
        manifest.memory = Memory { load_mb: 1.0, load_peak_mb: 1.5, base_mb: 2.5, bytes_per_pixel: 3.0 };
        manifest.time.threads = 7;
        manifest.other_times = vec![Time { processor: Some(ProcessorKind::Neon), ..time }];
        let changed = manifest.with_constants(&text).unwrap();
        let new: serde_json::Value = serde_json::from_str(&changed).unwrap();
        let expected = json!({"load_mb": 1.0, "load_peak_mb": 1.5, "base_mb": 2.5, "bytes_per_pixel": 3.0});
        assert_eq!(new["memory"], expected);
        assert_eq!(new["time"]["threads"], 7);
        assert_eq!(new["other_times"][0]["processor"], "neon");
        assert_eq!(manifest.with_constants(&changed).unwrap(), changed);
        (manifest.memory, manifest.time) = (memory, time);
        manifest.other_times.clear();
        let back = manifest.with_constants(&changed).unwrap();
        let mut back: serde_json::Value = serde_json::from_str(&back).unwrap();
        assert_eq!(back.as_object_mut().unwrap().remove("other_times"), Some(json!([])));
        let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
        old.as_object_mut().unwrap().remove("other_times");
        assert_eq!(back, old);
        assert!(manifest.with_constants("{}").is_err());
    }

    #[test]
    fn each_kind_of_processor_has_its_times_and_memory_is_the_hungriests() {
        let mut manifest = Manifest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano")).unwrap();
        let memory = |load_mb: f64| Memory { load_mb, load_peak_mb: 9.0, base_mb: 5.0, bytes_per_pixel: 3.0 };
        let on = |processor: ProcessorKind, base_ms: f64| Time {
            load_ms: 1.0,
            base_ms,
            ns_per_pixel: 1.0,
            post_ns_per_pixel: 1.0,
            threads: 2,
            processor: Some(processor),
        };
        let held_and_took = |manifest: &Manifest| (manifest.memory.load_mb, manifest.time_here().base_ms);
        let here = ProcessorKind::here();
        let [first, second] = [ProcessorKind::Other, ProcessorKind::Neon]
            .map(|kind| if kind == here { ProcessorKind::Avx2 } else { kind });
        manifest.other_times.clear();
        // Nobody wrote down where these were measured.
        manifest.time.processor = None;
        manifest.take(&memory(4.0), &on(first, 10.0));
        assert!(manifest.other_times.is_empty());
        assert_eq!(held_and_took(&manifest), (4.0, 10.0));
        manifest.take(&memory(3.0), &on(first, 11.0));
        assert_eq!(held_and_took(&manifest), (3.0, 11.0));

        manifest.take(&memory(6.0), &on(second, 20.0));
        manifest.take(&memory(5.0), &on(second, 21.0));
        assert_eq!(held_and_took(&manifest), (6.0, 11.0));
        manifest.take(&memory(2.0), &on(here, 30.0));
        manifest.take(&memory(2.0), &on(first, 12.0));
        assert_eq!(held_and_took(&manifest), (6.0, 30.0));
        let all: Vec<_> = manifest.times().map(|time| (time.processor, time.base_ms)).collect();
        assert_eq!(all, [(Some(first), 12.0), (Some(second), 21.0), (Some(here), 30.0)]);
        assert!(manifest.faults().is_empty());
        manifest.other_times[0].processor = manifest.time.processor;
        assert_eq!(manifest.faults().len(), 1);
    }

    /// The sentence with which the packaged manifest is refused after this change.
    fn fault(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano").join(FILE_NAME);
        let mut manifest = serde_json::from_str(&std::fs::read_to_string(packaged).unwrap()).unwrap();
        change(&mut manifest);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), manifest.to_string()).unwrap();
        let sentence = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(sentence.starts_with(&folder.path().join(FILE_NAME).display().to_string()), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
        sentence
    }

    #[test]
    fn a_manifest_that_cannot_be_meant_is_refused_in_one_sentence() {
        assert!(fault(|m| m["surprise"] = 1.into()).contains("`surprise`"));
        assert!(fault(|m| m["schema"] = 2.into()).contains("`schema` is not 1"));
        assert!(fault(|m| m["files"] = serde_json::json!([])).contains("`files` is empty"));
        assert!(fault(|m| m["files"][0]["path"] = "../model.onnx".into()).contains("folder itself"));
        assert!(fault(|m| m["outputs"]["stride"] = 3.into()).contains("`outputs.stride`"));
        assert!(fault(|m| m["person_id"] = 200.into()).contains("`person_id`"));
        for pairs in
            [json!([[14, 21]]), json!([[0, 14]]), json!([[20, 14]]), json!([[14, 14]]), json!([[14, 15], [15, 16]])]
        {
            assert!(fault(|m| m["flip_pairs"] = pairs).contains("`flip_pairs`"));
        }
        assert!(fault(|m| m["flip_pairs"] = json!([[14]])).contains("length 1"));
        assert!(fault(|m| drop(m.as_object_mut().unwrap().remove("classes"))).contains("`classes`"));
        let both = fault(|m| {
            m["schema"] = 2.into();
            m["thresholds"]["nms_iou"] = 7.into();
        });
        assert!(both.contains("`schema`") && both.contains("`thresholds`"), "{both}");
    }

    #[test]
    fn a_manifest_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", "null"] {
            std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
            assert!(Manifest::read(folder.path()).unwrap_err().to_string().contains(FILE_NAME));
        }
        assert!(Manifest::read(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
