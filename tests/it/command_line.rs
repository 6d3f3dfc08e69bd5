//! What the built `m2fp` says and leaves behind where something fails: a disk, its standard output, one of the photos.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use m2fp::units::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::http::photo;

/// A file of the repository.
fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// `m2fp` with the smallest packaged model.
fn m2fp() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_m2fp"));
    command.arg("--model").arg(root("model/pico")).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("m2fp starts")
}

/// A standard output that takes nothing, as on a full disk.
fn full() -> File {
    File::options().write(true).open("/dev/full").expect("/dev/full")
}

fn stderr(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// The lines of JSON on standard output.
fn lines(done: &Output) -> Vec<Value> {
    let text = String::from_utf8(done.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file")).unwrap()
}

/// The names of the photos in a COCO file.
fn file_names(coco: &Value) -> Vec<&str> {
    coco["images"].as_array().unwrap().iter().map(|image| image["file_name"].as_str().unwrap()).collect()
}

/// A folder with its photos in `photos`, small ones but for what is no photo.
fn folder(photos: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    for name in photos {
        let bytes = if name.starts_with("bad") { b"no image".to_vec() } else { photo(64, 48).to_vec() };
        std::fs::write(folder.path().join("photos").join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn a_full_standard_output_is_told_in_a_sentence() {
    let folder = folder(&["a.png"]);
    let (photo, model) = (folder.path().join("photos/a.png"), root("model/pico"));
    let event = root("events/function-url.json");
    let commands: [&[&OsStr]; 10] = [
        &["config".as_ref()],
        &["info".as_ref()],
        &["plan".as_ref(), photo.as_ref()],
        &["plan".as_ref(), "--json".as_ref(), photo.as_ref()],
        &["invoke".as_ref(), event.as_ref()],
        &["serve".as_ref(), "--port=0".as_ref()],
        &["calibrate".as_ref(), "--measure".as_ref(), "64".as_ref(), "64".as_ref(), model.as_ref()],
        &["parse".as_ref(), photo.as_ref()],
        &["parse".as_ref(), "--json".as_ref(), photo.as_ref()],
        &["parse".as_ref(), "--output=index".as_ref(), "-o".as_ref(), "-".as_ref(), photo.as_ref()],
    ];
    for arguments in commands {
        let done = run(m2fp().args(arguments).stdout(full()));
        let told = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {told}");
        assert_eq!(told.matches("standard output: No space left on device").count(), 1, "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    }
    // There is nobody to tell.
    let done = run(m2fp().args([OsStr::new("parse"), photo.as_os_str()]).stdout(full()).stderr(full()));
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_model_made_ready_for_this_machine_gives_the_same_files() {
    let folder = folder(&["a.png"]);
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for name in ["model.json", "model.onnx"] {
        std::fs::copy(root("model/nano").join(name), model.join(name)).unwrap();
    }
    let given = read_json(&model.join("model.json"));
    let of_model = |arguments: &[&OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_m2fp"));
        run(command.arg("--model").arg(&model).args(arguments).stdin(Stdio::null()))
    };
    let answer = || {
        let photo = folder.path().join("photos/a.png");
        let done =
            of_model(&["parse".as_ref(), "--output=index".as_ref(), "-o".as_ref(), "-".as_ref(), photo.as_ref()]);
        assert!(done.status.success(), "{}", stderr(&done));
        done.stdout
    };
    let before = answer();
    // The second time there is a graph to replace.
    for _ in 0..2 {
        let done = of_model(&["optimize".as_ref(), model.as_ref()]);
        assert!(done.status.success() && done.stderr.is_empty(), "{}", stderr(&done));
        let mut manifest = read_json(&model.join("model.json"));
        let made = manifest.as_object_mut().unwrap().remove("optimized").unwrap();
        assert_eq!(manifest, given);
        let graph = std::fs::read(model.join("model.onnx.ort")).unwrap();
        let described = json!({"path": "model.onnx.ort", "sha256": hex(&Sha256::digest(&graph)), "bytes": graph.len()});
        assert_eq!(made["file"], described);
        assert_eq!(answer(), before);
    }
    let left: BTreeSet<_> = std::fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["model.json", "model.onnx", "model.onnx.ort"].map(OsString::from).into());
    std::fs::write(model.join("model.onnx.ort"), b"damaged").unwrap();
    let refused = of_model(&["parse".as_ref(), folder.path().join("photos").as_ref()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("model.onnx.ort: it has 7 bytes"), "{}", stderr(&refused));
}

#[test]
fn photos_are_parsed_though_their_lines_go_nowhere() {
    let folder = folder(&["a.png", "b.png", "c.png"]);
    let out = folder.path().join("out");
    let mut parse = m2fp();
    parse.args(["parse", "--output=coco,mask"]).arg(folder.path().join("photos")).arg("-o").arg(&out);
    let done = run(parse.stdout(full()));
    let told = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert_eq!(told.matches("standard output: ").count(), 1, "{told}");
    assert!(told.contains("annotations.coco.json: 3 of 3 photos"), "{told}");
    for name in ["a.png", "b.png", "c.png"] {
        assert!(out.join(format!("{name}.mask.png")).exists(), "{name}");
    }
    assert_eq!(file_names(&read_json(&out.join("annotations.coco.json"))), ["a.png", "b.png", "c.png"]);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let folder = folder(&["a.png"]);
    for arguments in [&["config"][..], &["plan", "photos"], &["parse", "photos"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = run(m2fp().args(arguments).current_dir(folder.path()).stdout(writer));
        assert_eq!(done.status.signal(), Some(libc::SIGPIPE), "{arguments:?}: {}", stderr(&done));
        assert_eq!(stderr(&done), "", "{arguments:?}");
    }
}

#[test]
fn each_line_of_json_names_its_photo() {
    let folder = folder(&["a.png", "bad.png", "c.png"]);
    for arguments in [&["parse", "--output=mask"][..], &["plan"]] {
        let done = run(m2fp().args(arguments).args(["--json", "photos"]).current_dir(folder.path()));
        let told = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{told}");
        let lines = lines(&done);
        let files: Vec<_> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
        assert_eq!(files, ["photos/a.png", "photos/bad.png", "photos/c.png"]);
        for line in [&lines[0], &lines[2]] {
            assert_eq!((&line["image"]["width"], &line["error"]), (&json!(64), &Value::Null), "{line}");
        }
        let error = lines[1]["error"].as_str().unwrap();
        assert_eq!(lines[1], json!({"file": "photos/bad.png", "error": error}));
        assert!(told.lines().any(|line| line == format!("photos/bad.png: {error}")), "{told}");
    }
}

/// A file may have 19968 bytes here: more than the first and the last photo add, and less than all three.
#[test]
fn a_photo_is_in_the_coco_file_whole_or_not_at_all() {
    let folder = folder(&[]);
    for (name, sample) in [("a.jpg", "photographer"), ("b.jpg", "portrait"), ("c.jpg", "photographer")] {
        let sample = root("src/http/page").join(format!("sample-{sample}.jpg"));
        std::fs::copy(sample, folder.path().join("photos").join(name)).unwrap();
    }
    let out = folder.path().join("out");
    let done = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 39; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_m2fp")])
        .args(["parse", "--output=coco", "photos", "-o", "out", "--model"])
        .arg(root("model/pico"))
        .current_dir(folder.path())
        .output()
        .expect("m2fp starts");
    let told = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("photos/b.jpg: the temporary folder: File too large"), "{told}");
    assert!(told.contains("annotations.coco.json: 2 of 3 photos"), "{told}");
    let coco = read_json(&out.join("annotations.coco.json"));
    assert_eq!(file_names(&coco), ["a.jpg", "c.jpg"]);
    let numbers = |field: &str| -> Vec<u64> {
        coco["annotations"].as_array().unwrap().iter().map(|one| one[field].as_u64().unwrap()).collect()
    };
    let (ids, images) = (numbers("id"), numbers("image_id"));
    let each = images.len() / 2;
    assert!(each > 5);
    assert_eq!(images, [vec![1; each], vec![2; each]].concat());
    assert_eq!(ids, (1..=images.len() as u64).collect::<Vec<_>>());
}

#[test]
fn names_that_are_not_utf_8_are_in_no_coco_file() {
    let folder = folder(&["a.png"]);
    for name in [&b"\xfe.png"[..], b"\xff.png"] {
        std::fs::write(folder.path().join("photos").join(OsStr::from_bytes(name)), photo(64, 48)).unwrap();
    }
    let parse = |output: &str| run(m2fp().args(["parse", output, "photos", "-o", "out"]).current_dir(folder.path()));
    let done = parse("--output=coco");
    let told = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert_eq!(told.matches(".png: its name is not UTF-8, so no COCO file can hold it").count(), 2, "{told}");
    assert!(told.contains("annotations.coco.json: 1 of 3 photos"), "{told}");
    assert_eq!(file_names(&read_json(&folder.path().join("out/annotations.coco.json"))), ["a.png"]);
    // Files beside each other are told apart by any names.
    let done = parse("--output=mask");
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(folder.path().join("out").join(OsStr::from_bytes(b"\xff.png.mask.png")).exists());
}

/// A float graph with weights in a file of their own; these are inside, so it is given a file that it does not need.
#[test]
fn an_optimised_model_folder_is_whole_whatever_is_told_of_it() {
    let folder = folder(&["a.png"]);
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for name in ["model.json", "model.onnx"] {
        std::fs::copy(root("model/nano-float").join(name), model.join(name)).unwrap();
    }
    let sha256 = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    std::fs::write(model.join("weights.bin"), "none").unwrap();
    let mut manifest = read_json(&model.join("model.json"));
    let weights = json!({"path": "weights.bin", "sha256": sha256(b"none"), "bytes": 4});
    manifest["files"].as_array_mut().unwrap().push(weights);
    std::fs::write(model.join("model.json"), manifest.to_string()).unwrap();
    let done = run(m2fp().arg("optimize").arg(&model).stdout(full()));
    let told = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("standard output: No space left on device"), "{told}");
    let names: BTreeSet<_> = std::fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, BTreeSet::from(["model.json", "model.onnx", "weights.bin"].map(OsString::from)));
    let graph = std::fs::read(model.join("model.onnx")).unwrap();
    let manifest = read_json(&model.join("model.json"));
    let file = json!({"path": "model.onnx", "sha256": sha256(&graph), "bytes": graph.len()});
    assert_eq!(manifest["files"][0], file);
    assert_ne!(graph, std::fs::read(root("model/pico/model.onnx")).unwrap());
}
