//! The adapter for ONNX Runtime. No other file uses the runtime.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::Mmap;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::operator::OperatorDomain;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{DynValue, Tensor, TensorElementType, TensorRef, ValueType};
use sha2::{Digest, Sha256};

use super::add_resized::AddResized;
use super::conv3x3::Conv3x3;
use super::deform_attn::DeformAttn;
use super::group_norm::GroupNorm;
use super::heap::{SMALL_RUN, TensorHeap};
use super::product::{Conv1x1, Linear};
use super::{Engine, Queries};
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::Planar8;
use crate::manifest::{Dtype, Manifest, ModelFile};
use crate::memory::budget::{Budget, Reservation};
use crate::units::MIB;

/// File name of ONNX Runtime's library beside the executable and in the system.
const LIBRARY: &str = "libonnxruntime.so";

/// Domain of the project's own operators.
const OPERATORS: &str = "m2fp";

/// Microseconds that a thread waits awake for the next operator: to wake it takes as long as a small operator does. Then
/// it sleeps, for the processor belongs to the rest of the request, too.
const SPIN_US: &str = "500";

/// The variable that names another library than the one beside the executable.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Why a model or the runtime cannot be used, in one sentence that names the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "ONNX Runtime 1.{minor} cannot be loaded ({fault}); run `make runtime`, put {LIBRARY} beside the executable, or set {LIBRARY_VARIABLE}",
        minor = ort::MINOR_VERSION
    )]
    Runtime { fault: String },
    #[error("{path}: {fault}")]
    File { path: String, fault: String },
    #[error("{path}: its sha256 is not the one that model.json names")]
    Checksum { path: String },
    #[error("{path}: {fault}, which is not what model.json says")]
    Graph { path: String, fault: String },
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        Self::internal(error)
    }
}

/// A model loaded into ONNX Runtime on the CPU.
pub struct OrtEngine {
    /// Locked, so that there is one run at a time: a run already uses every thread, and two would double the peak.
    session: Mutex<Session>,
    heap: &'static TensorHeap,
    manifest: Manifest,
    /// The account of which runs take what nobody needs meanwhile.
    spare: Option<Budget>,
}

/// The part of its planned bytes that a run takes besides, where nobody needs them. `nano` never gives a page back
/// during a run with a fifth, and takes 0.85 of the time.
const SPARE_OF_PLAN: u64 = 4;

impl OrtEngine {
    /// Loads the model of `folder` and checks its checksums, names, types and shapes against `manifest`.
    ///
    /// # Errors
    /// [`LoadError`], in one sentence.
    pub fn load(folder: &Path, manifest: &Manifest, threads: usize) -> Result<Self, LoadError> {
        // The graph's file is checked while the runtime's library is loaded, which takes about as long.
        let made = manifest.optimized_here();
        let expected = made.map_or(&manifest.files[0], |made| &made.file);
        let (runtime, checked) = both(runtime, || check_file(folder, expected));
        let runtime = runtime?;
        let optimized = made.filter(|made| made.runtime == ort::info());
        let graph = optimized.map_or(&manifest.files[0], |made| &made.file);
        let checked = if graph.path == expected.path { checked } else { check_file(folder, graph) };
        checked?;
        // A graph that was made ready holds its weights.
        let weights = if optimized.is_some() { &[] } else { &manifest.files[1..] };
        let session = while_weights_are_checked(folder, weights, || {
            let graph = &folder.join(&graph.path);
            let path = graph.display().to_string();
            let loading = loading();
            let kept = Weights::of(manifest);
            let session = session_builder(runtime, threads, manifest, kept)
                .and_then(|mut builder| match optimized {
                    Some(_) => commit_mapped(builder, graph, kept),
                    None => builder.commit_from_file(graph),
                })
                .map_err(|error| LoadError::File { path: path.clone(), fault: error.to_string() })?;
            drop(loading);
            check_graph(&session, manifest).map_err(|fault| LoadError::Graph { path, fault })?;
            Ok(session)
        })?;
        runtime.heap.end_run();
        crate::sys::release_memory();
        // Most of what made the session does not run again.
        crate::sys::release_code();
        tracing::debug!(anonymous_mb = crate::sys::anonymous_bytes() / MIB, "the model is loaded");
        Ok(Self { session: Mutex::new(session), heap: runtime.heap, manifest: manifest.clone(), spare: None })
    }

    /// Lets runs hold more than was planned for them while that memory is in nobody's reservation.
    #[must_use]
    pub fn with_spare(self, budget: Budget) -> Self {
        Self { spare: Some(budget), ..self }
    }
}

/// A rewriting that the runtime must not do. Convolutions that an 8-bit graph leaves in floats, for what 8 bits would do
/// to them, are put into 8 bits by it, and with one scale for all channels.
const REQUANTIZE: &str = "WeightBiasQuantization";

/// Writes to `out` what the runtime makes of the graph of `folder`, and says for which build of the runtime that is.
///
/// A graph with float weights in a file of their own stays an ONNX graph for any processor, in which constants are
/// folded and operators are fused; weights stay in the file where they are. Any other graph is made ready for processors
/// of this kind, in the runtime's own format, with its weights in it and laid out as they are used, so that they are
/// mapped: it is loaded in less than half of the time.
///
/// # Errors
/// [`LoadError`], in one sentence.
pub(crate) fn optimize(folder: &Path, manifest: &Manifest, out: &Path) -> Result<&'static str, LoadError> {
    let runtime = runtime()?;
    check_file(folder, &manifest.files[0])?;
    while_weights_are_checked(folder, &manifest.files[1..], || {
        let graph = folder.join(&manifest.files[0].path);
        let _loading = loading();
        session_builder(runtime, 1, manifest, Weights::of(manifest))
            .and_then(|builder| {
                if !manifest.is_made_for_processors() {
                    return Ok(builder.with_optimization_level(GraphOptimizationLevel::Level2)?);
                }
                // It warns that the graph is for one kind of processor, which the manifest says.
                Ok(builder.with_config_entry("session.save_model_format", "ORT")?.with_log_level(LogLevel::Error)?)
            })
            .and_then(|builder| Ok(builder.with_optimized_model_path(out)?))
            .and_then(|mut builder| builder.commit_from_file(&graph))
            .map(|_| ort::info())
            .map_err(|error| LoadError::File { path: graph.display().to_string(), fault: error.to_string() })
    })
}

impl Engine for OrtEngine {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        let outputs = &self.manifest.outputs;
        let (class_logits, mask_logits) = self.run(image).map_err(Error::internal)?;
        let (class_shape, class_data) = class_logits.extract_tensor();
        let expected = self.manifest.mask_size(image.size);
        let (count, classes) = (outputs.queries as usize, self.manifest.classes.len());
        let mask_shape = mask_logits.extract_tensor().0;
        if class_shape[..] != [1, count as i64, classes as i64 + 1]
            || mask_shape[..] != [1, count as i64, i64::from(expected.height), i64::from(expected.width)]
        {
            return Err(Error::internal(format!(
                "the network answered with class logits {class_shape:?} and mask logits {mask_shape:?}; masks of {expected} were expected"
            )));
        }
        Ok(Queries {
            count,
            classes,
            class_logits: class_data.to_vec(),
            mask_size: expected,
            mask_logits: Box::new(RuntimeBuffer(mask_logits)),
        })
    }
}

impl OrtEngine {
    fn run(&self, image: &Planar8) -> ort::Result<(Tensor<f32>, Tensor<f32>)> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let padded = image.size.padded_to(self.manifest.input.size.divisor());
        let planned = self.manifest.memory.run_bytes(padded.area());
        let asks = self.spare.as_ref().filter(|_| planned <= SMALL_RUN);
        let spare = asks.and_then(|budget| budget.spare(planned / SPARE_OF_PLAN));
        let weights = self.heap.start_run(planned, spare.as_ref().map_or(0, Reservation::bytes));
        let outputs = self.run_session(&mut session, image);
        let peak = self.heap.end_run().saturating_sub(weights);
        tracing::debug!(peak_mb = peak / MIB as usize, size = %image.size, "the network ran");
        outputs
    }

    fn run_session(&self, session: &mut Session, image: &Planar8) -> ort::Result<(Tensor<f32>, Tensor<f32>)> {
        let Size { width, height } = image.size;
        let shape = [1, 3, height as usize, width as usize];
        let input = &self.manifest.input;
        let mut outputs = match input.dtype {
            Dtype::Uint8 => {
                let planes = TensorRef::from_array_view((shape, image.data.as_slice()))?;
                session.run(ort::inputs![input.name.as_str() => planes])?
            }
            Dtype::Float32 => {
                let floats: Vec<f32> = image.data.iter().copied().map(f32::from).collect();
                let planes = TensorRef::from_array_view((shape, floats.as_slice()))?;
                session.run(ort::inputs![input.name.as_str() => planes])?
            }
        };
        let mut take = |name: &str| -> ort::Result<Tensor<f32>> {
            let value: Option<DynValue> = outputs.remove(name);
            value.ok_or_else(|| ort::Error::new(format!("the network gave no `{name}`")))?.downcast()
        };
        Ok((take(&self.manifest.outputs.class_logits)?, take(&self.manifest.outputs.mask_logits)?))
    }
}

/// Logits in the runtime's own buffer, which is freed when this is dropped.
struct RuntimeBuffer(Tensor<f32>);

impl AsRef<[f32]> for RuntimeBuffer {
    fn as_ref(&self) -> &[f32] {
        self.0.extract_tensor().1
    }
}

/// The process's one environment, and the heap that its tensors live in.
struct Runtime {
    environment: Environment,
    heap: &'static TensorHeap,
}

/// A lock that is held while the runtime or a session is made. Only one is made at a time, because the first session
/// brings the domain of the project's own operators and the runtime does not guard against two sessions that bring it.
fn loading() -> MutexGuard<'static, ()> {
    static LOADING: Mutex<()> = Mutex::new(());
    LOADING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process's runtime. Its library is the one that `ORT_DYLIB_PATH` names, else the one beside the executable, else
/// the system's.
fn runtime() -> Result<&'static Runtime, LoadError> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let _loading = loading();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let fault = |error: &dyn std::fmt::Display| LoadError::Runtime { fault: error.to_string() };
    let environment = ort::init_from(library())
        .map_err(|error| fault(&error))?
        .with_name("m2fp")
        .with_telemetry(false)
        .build()
        .map_err(|error| fault(&error))?;
    let heap = TensorHeap::register(&environment).map_err(|error| fault(&error))?;
    Ok(RUNTIME.get_or_init(|| Runtime { environment, heap }))
}

fn library() -> PathBuf {
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        return path.into();
    }
    let beside = std::env::current_exe().unwrap_or_default().with_file_name(LIBRARY);
    if beside.is_file() { beside } else { PathBuf::from(LIBRARY) }
}

/// How a model's weights are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weights {
    /// They are in the graph's file, and are copied into the layout that is fastest.
    Inside,
    /// They are in a file of their own, which is mapped and used as it is.
    Mapped,
    /// They are in a file of their own and have 8 bits. They are packed at load, which costs little beside what it
    /// saves in a run.
    Packed,
}

impl Weights {
    fn of(manifest: &Manifest) -> Self {
        match (manifest.graph_holds_weights(), &manifest.quantization) {
            (true, _) => Self::Inside,
            (false, None) => Self::Mapped,
            (false, Some(_)) => Self::Packed,
        }
    }
}

fn session_builder(
    runtime: &Runtime,
    threads: usize,
    manifest: &Manifest,
    weights: Weights,
) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        .with_intra_threads(threads)?
        .with_intra_op_spinning(true)?
        .with_config_entry("session.intra_op.spin_duration_us", SPIN_US)?
        // Sizes vary from photo to photo, so a remembered pattern would only hold memory.
        .with_memory_pattern(false)?
        // A graph that computes in floats may have its weights in bytes, so that it is small. Floats are made of them at
        // load; the runtime would keep them for the operators in 8 bits that it looks for, and make floats in each run.
        .with_quant_qdq(manifest.quantization.is_some())?
        .with_env_allocators()?
        .with_operators(operators(runtime.heap)?)?
        .with_execution_providers([ort::ep::CPU::default().with_arena_allocator(false).build()])?;
    if weights == Weights::Inside {
        return Ok(builder.with_disabled_optimizers(REQUANTIZE)?);
    }
    // The blocked convolution layout is a tenth faster, but it copies the weights, so it is off for those in a file of
    // their own. Mapped weights are not packed either: they cost nothing to load, and can be dropped and read again
    // when memory is short.
    Ok(builder
        .with_disabled_optimizers(format!("{REQUANTIZE};NchwcTransformer"))?
        .with_prepacking(weights == Weights::Packed)?)
}

/// Makes a session of a graph in the runtime's own format, and uses its weights where they lie in the file, unless they
/// are packed: then few of them are left, and would keep their neighbours' pages. The file stays mapped as long as the
/// process lives: a process loads one model, and its pages can be dropped and read again.
fn commit_mapped(builder: SessionBuilder, graph: &Path, weights: Weights) -> ort::Result<Session> {
    let map = std::fs::File::open(graph).and_then(|file| crate::sys::map(&file));
    let map: &'static Mmap = Box::leak(Box::new(map.map_err(|error| ort::Error::new(error.to_string()))?));
    let in_place = if weights == Weights::Packed { "0" } else { "1" };
    builder
        .with_config_entry("session.use_ort_model_bytes_directly", "1")?
        .with_config_entry("session.use_ort_model_bytes_for_initializers", in_place)?
        .commit_from_memory(map)
        // What was read to make the session is hardly read again.
        .inspect(|_| crate::sys::release_mapping(map))
}

/// The operators that M2FP's graphs use besides the standard ones. Other graphs do not use them.
fn operators(heap: &'static TensorHeap) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(OPERATORS)?
        .add(DeformAttn)?
        .add(AddResized)?
        .add(Conv3x3(heap))?
        .add(Conv1x1(heap))?
        .add(Linear(heap))?
        .add(GroupNorm(TensorElementType::Float32))?
        .add(GroupNorm(TensorElementType::Uint8))
}

/// Does `work` while the weights' files are checked, because that takes as long as making a session, which only maps or
/// copies them. A fault of theirs comes before one of `work`, which may follow from it.
fn while_weights_are_checked<T>(
    folder: &Path,
    weights: &[ModelFile],
    work: impl FnOnce() -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let (done, checked) = both(work, || weights.iter().try_for_each(|file| check_file(folder, file)));
    checked.and(done)
}

/// Does both at once.
fn both<A, B: Send>(here: impl FnOnce() -> A, beside: impl FnOnce() -> B + Send) -> (A, B) {
    std::thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let here = here();
        (here, beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn check_file(folder: &Path, file: &ModelFile) -> Result<(), LoadError> {
    let path = folder.join(&file.path);
    let name = path.display().to_string();
    let length =
        std::fs::metadata(&path).map_err(|e| LoadError::File { path: name.clone(), fault: e.to_string() })?.len();
    if length != file.bytes {
        let fault = format!("it has {length} bytes where model.json says {}", file.bytes);
        return Err(LoadError::File { path: name, fault });
    }
    let (_, sha256) = describe_file(&path)?;
    if sha256 == file.sha256 { Ok(()) } else { Err(LoadError::Checksum { path: name }) }
}

/// The length and sha256 of a file, in the form that the manifest has them.
///
/// # Errors
/// [`LoadError`] when the file cannot be read.
pub(crate) fn describe_file(path: &Path) -> Result<(u64, String), LoadError> {
    let fault = |error: std::io::Error| LoadError::File { path: path.display().to_string(), fault: error.to_string() };
    let mut reader = std::fs::File::open(path).map_err(fault)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        match reader.read(&mut buffer).map_err(fault)? {
            0 => break,
            n => {
                digest.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
    Ok((length, crate::units::hex(&digest.finalize())))
}

/// Compares what the graph declares with the manifest. Dimensions that the graph leaves open are checked at each run.
fn check_graph(session: &Session, manifest: &Manifest) -> Result<(), String> {
    let input = match manifest.input.dtype {
        Dtype::Uint8 => TensorElementType::Uint8,
        Dtype::Float32 => TensorElementType::Float32,
    };
    let queries = i64::from(manifest.outputs.queries);
    let columns = manifest.classes.len() as i64 + 1;
    let float = TensorElementType::Float32;
    check_outlet(session.inputs(), &manifest.input.name, input, [1, 3, -1, -1])?;
    check_outlet(session.outputs(), &manifest.outputs.class_logits, float, [1, queries, columns])?;
    check_outlet(session.outputs(), &manifest.outputs.mask_logits, float, [1, queries, -1, -1])
}

/// A dimension of `-1` is open, in the graph as in `expected`.
fn check_outlet<const N: usize>(
    outlets: &[ort::value::Outlet],
    name: &str,
    element: TensorElementType,
    expected: [i64; N],
) -> Result<(), String> {
    let outlet = outlets.iter().find(|o| o.name() == name).ok_or_else(|| format!("it has no tensor `{name}`"))?;
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(format!("`{name}` is not a tensor"));
    };
    if *ty != element {
        return Err(format!("`{name}` holds {ty:?}, not {element:?}"));
    }
    let fits =
        shape.len() == N && shape.iter().zip(expected).all(|(&have, want)| have == -1 || want == -1 || have == want);
    if fits { Ok(()) } else { Err(format!("`{name}` has the shape {:?}, not {expected:?}", &shape[..])) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Optimized, ProcessorKind};

    fn nano() -> (PathBuf, Manifest) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano");
        let manifest = Manifest::read(&folder).unwrap();
        (folder, manifest)
    }

    /// A folder with nothing but the packaged model's graph as it is made for this machine, and the manifest.
    fn optimized_nano() -> (tempfile::TempDir, Manifest) {
        let (nano, mut manifest) = nano();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made.ort");
        let runtime = optimize(&nano, &manifest, &path).unwrap().to_owned();
        let (bytes, sha256) = describe_file(&path).unwrap();
        let file = ModelFile { path: "made.ort".to_owned(), sha256, bytes };
        manifest.optimized = Some(Optimized { file, processor: ProcessorKind::here(), runtime });
        (folder, manifest)
    }

    fn load_fault(folder: &Path, manifest: &Manifest) -> String {
        match OrtEngine::load(folder, manifest, 1) {
            Ok(_) => panic!("the model was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_packaged_model_answers_at_odd_sizes() {
        let (folder, manifest) = nano();
        let engine = OrtEngine::load(&folder, &manifest, 1).unwrap();
        for size in [Size::new(33, 47), Size::new(800, 8), Size::new(1, 1)] {
            let image = Planar8 { size, data: vec![127; size.area() as usize * 3] };
            let queries = engine.infer(&image).unwrap();
            assert_eq!(queries.mask_size, manifest.mask_size(size));
            assert_eq!(queries.class_logits.len(), queries.count * (queries.classes + 1));
            assert!(queries.mask(queries.count - 1).iter().all(|logit| logit.is_finite()));
        }
    }

    fn session(graph: &[u8]) -> Session {
        let runtime = runtime().unwrap();
        let _loading = loading();
        session_builder(runtime, 2, &nano().1, Weights::Inside).unwrap().commit_from_memory(graph).unwrap()
    }

    fn greatest_difference(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Made with `PyTorch`: `python -m tests.group_norm_fixture` in model/export.
    #[test]
    fn group_norm_of_floats_and_of_bytes_equals_pytorch() {
        #[derive(serde::Deserialize)]
        struct Fixture {
            x: (Vec<usize>, Vec<f32>),
            bytes: (Vec<usize>, Vec<u8>),
            scale: (Vec<usize>, Vec<f32>),
            bias: (Vec<usize>, Vec<f32>),
            normed: Vec<f32>,
        }
        let fixture: Fixture = serde_json::from_str(include_str!("../../tests/data/group_norm.json")).unwrap();
        let mut session = session(include_bytes!("../../tests/data/group_norm.onnx"));
        let inputs = ort::inputs![
            "x" => Tensor::from_array(fixture.x).unwrap(),
            "bytes" => Tensor::from_array(fixture.bytes).unwrap(),
            "scale" => Tensor::from_array(fixture.scale).unwrap(),
            "bias" => Tensor::from_array(fixture.bias).unwrap(),
        ];
        let outputs = session.run(inputs).unwrap();
        let output = |name: &str| outputs[name].try_extract_tensor::<f32>().unwrap().1;
        assert_eq!(output("x/normed").len(), fixture.normed.len());
        let without_negative: Vec<f32> = fixture.normed.iter().map(|value| value.max(0.0)).collect();
        let error = greatest_difference(output("x/normed"), &without_negative);
        assert!(error < 1e-5, "floats: {error}");
        let error = greatest_difference(output("bytes/normed"), &fixture.normed);
        assert!(error < 1e-5, "bytes: {error}");
    }

    #[test]
    fn memory_to_compute_in_is_nobody_elses() {
        let heap = runtime().unwrap().heap;
        let mut blocks: Vec<_> = (0..8).map(|index| heap.scratch(1000 * index).unwrap()).collect();
        for (index, block) in blocks.iter_mut().enumerate() {
            assert_eq!(block.len(), 1000 * index);
            block.fill(index as f32);
        }
        for (index, block) in blocks.iter().enumerate() {
            assert_eq!(block[..], vec![index as f32; 1000 * index]);
        }
        assert!(heap.scratch(usize::MAX / 2).is_none());
    }

    /// Made with `PyTorch`: `python -m tests.conv3x3_fixture` in model/export.
    #[test]
    fn a_winograd_convolution_equals_pytorch() {
        #[derive(serde::Deserialize)]
        struct Fixture {
            x: (Vec<usize>, Vec<f32>),
            weight: (Vec<usize>, Vec<f32>),
            bias: (Vec<usize>, Vec<f32>),
            whole: Vec<f32>,
            plain: Vec<f32>,
        }
        let fixture: Fixture = serde_json::from_str(include_str!("../../tests/data/conv3x3.json")).unwrap();
        let mut session = session(include_bytes!("../../tests/data/conv3x3.onnx"));
        let inputs = ort::inputs![
            "x" => Tensor::from_array(fixture.x).unwrap(),
            "weight" => Tensor::from_array(fixture.weight).unwrap(),
            "bias" => Tensor::from_array(fixture.bias).unwrap(),
        ];
        let outputs = session.run(inputs).unwrap();
        for (name, expected) in [("whole", fixture.whole), ("plain", fixture.plain)] {
            let output = outputs[name].try_extract_tensor::<f32>().unwrap().1;
            assert_eq!(output.len(), expected.len());
            let error = greatest_difference(output, &expected);
            assert!(error < 1e-4, "{name}: {error}");
        }
    }

    /// Made with the exporter's `attend`, in Python: `python -m tests.deform_attn_fixture` in model/export.
    #[test]
    fn fused_attention_equals_pytorch() {
        #[derive(serde::Deserialize)]
        struct Fixture {
            value: (Vec<usize>, Vec<f32>),
            offsets: (Vec<usize>, Vec<f32>),
            logits: (Vec<usize>, Vec<f32>),
            shapes: (Vec<usize>, Vec<i64>),
            output: Vec<f32>,
        }
        let fixture: Fixture = serde_json::from_str(include_str!("../../tests/data/deform_attn.json")).unwrap();
        let mut session = session(include_bytes!("../../tests/data/deform_attn.onnx"));
        let mut run = |shapes: Vec<i64>| -> ort::Result<Vec<f32>> {
            let outputs = session.run(ort::inputs![
                "value" => Tensor::from_array(fixture.value.clone())?,
                "offsets" => Tensor::from_array(fixture.offsets.clone())?,
                "logits" => Tensor::from_array(fixture.logits.clone())?,
                "shapes" => Tensor::from_array((fixture.shapes.0.clone(), shapes))?,
            ])?;
            Ok(outputs["output"].try_extract_tensor::<f32>()?.1.to_vec())
        };
        let output = run(fixture.shapes.1.clone()).unwrap();
        assert_eq!(output.len(), fixture.output.len());
        let error = greatest_difference(&output, &fixture.output);
        assert!(error < 1e-5, "{error}");
        let refused = run(vec![1; fixture.shapes.1.len()]).unwrap_err().to_string();
        assert!(refused.contains("does not add up"), "{refused}");
    }

    #[test]
    fn sessions_may_be_asked_for_at_once() {
        let (folder, manifest) = nano();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| OrtEngine::load(&folder, &manifest, 1).unwrap());
            }
        });
    }

    #[test]
    fn a_graph_made_for_this_machine_answers_like_the_one_for_all() {
        let (whole, optimized) = (nano(), optimized_nano());
        let engines = [(whole.0.as_path(), &whole.1), (optimized.0.path(), &optimized.1)]
            .map(|(folder, manifest)| OrtEngine::load(folder, manifest, 2).unwrap());
        for size in [Size::new(33, 47), Size::new(320, 200)] {
            let data = (0..size.area() as usize * 3).map(|index| (index * 7 % 251) as u8).collect();
            let image = Planar8 { size, data };
            let [whole, optimized] = engines.each_ref().map(|engine| engine.infer(&image).unwrap());
            assert_eq!(whole.class_logits, optimized.class_logits);
            assert!((0..whole.count).all(|query| whole.mask(query) == optimized.mask(query)), "{size}");
        }
    }

    #[test]
    fn a_graph_made_for_other_machines_is_left_alone() {
        let (folder, manifest) = optimized_nano();
        let wants = |change: fn(&mut Optimized)| {
            let mut manifest = manifest.clone();
            manifest.optimized.as_mut().map(change).unwrap();
            load_fault(folder.path(), &manifest)
        };
        assert!(wants(|made| made.processor = ProcessorKind::Other).contains("model.onnx: No such file"));
        assert!(wants(|made| made.runtime.push('1')).contains("model.onnx: No such file"));
        assert!(wants(|made| made.file.bytes += 1).contains("made.ort: it has"));
        assert!(wants(|made| made.file.sha256 = "0".repeat(64)).contains("made.ort: its sha256"));
    }

    #[test]
    fn a_changed_file_is_refused() {
        let (folder, mut manifest) = nano();
        manifest.files[0].sha256 = "0".repeat(64);
        assert!(load_fault(&folder, &manifest).contains("sha256"));
        manifest.files[0].bytes += 1;
        assert!(load_fault(&folder, &manifest).contains("bytes"));
        manifest.files[0].path = "absent.onnx".to_owned();
        assert!(load_fault(&folder, &manifest).contains("absent.onnx"));
    }

    /// The manifest stands for a file of weights.
    #[test]
    fn changed_weights_are_refused_before_what_follows_from_them() {
        let (folder, mut manifest) = nano();
        let path = "model.json".to_owned();
        let (bytes, sha256) = describe_file(&folder.join(&path)).unwrap();
        manifest.files.push(ModelFile { path, sha256, bytes });
        assert!(OrtEngine::load(&folder, &manifest, 1).is_ok());
        manifest.input.name = "pixels".into();
        assert!(load_fault(&folder, &manifest).contains("`pixels`"));
        manifest.files[1].sha256 = "0".repeat(64);
        assert!(load_fault(&folder, &manifest).contains("model.json: its sha256"));
    }

    #[test]
    fn a_manifest_that_does_not_fit_the_graph_is_refused() {
        let (folder, manifest) = nano();
        let refused = |change: fn(&mut Manifest)| {
            let mut manifest = manifest.clone();
            change(&mut manifest);
            load_fault(&folder, &manifest)
        };
        assert!(refused(|m| m.input.name = "pixels".into()).contains("`pixels`"));
        assert!(refused(|m| m.input.dtype = Dtype::Float32).contains("Uint8"));
        assert!(refused(|m| m.outputs.queries = 100).contains("shape"));
        assert!(refused(|m| drop(m.classes.pop())).contains("shape"));
    }
}
