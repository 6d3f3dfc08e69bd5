//! Other people's clients and readers against the built `m2fp serve`, and the `OpenAPI` document held against it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::judge;

/// A running `m2fp serve` of a packaged model; it is killed when dropped.
struct Serving {
    process: Child,
    url: String,
}

impl Serving {
    fn start(model: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new(env!("CARGO_BIN_EXE_m2fp"))
            .args(["serve", "--port", "0", "--model"])
            .arg(root.join("model").join(model))
            // Uploads are signed for by whoever holds these; no bucket is asked for anything.
            .envs([
                ("M2FP_UPLOAD_BUCKET", "uploads"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ])
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("m2fp starts");
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().expect("its output is piped"));
        out.read_line(&mut line).expect("it says where it serves");
        // Nothing else is written there; a reader that stays keeps a line from failing.
        std::thread::spawn(move || _ = out.read_to_end(&mut Vec::new()));
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
        Self { process, url: url.trim_end_matches('/').to_owned() }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[test]
fn the_open_api_document_and_the_server_agree() {
    let serving = Serving::start("pico");
    judge::run("openapi_judge.py", &[OsStr::new(&serving.url)]);
}

#[test]
fn clients_and_readers_of_others_are_served() {
    let serving = Serving::start("nano");
    judge::run("clients.py", &[OsStr::new(&serving.url), sample().as_os_str()]);
}

fn m2fp(arguments: &[&OsStr], stdin: Option<&Path>) -> Output {
    let input = stdin.map_or_else(Stdio::null, |path| std::fs::File::open(path).expect("the photo").into());
    Command::new(env!("CARGO_BIN_EXE_m2fp"))
        .arg("--model")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("model/pico"))
        .args(arguments)
        .stdin(input)
        .output()
        .expect("m2fp starts")
}

#[track_caller]
fn done(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/page/sample.jpg")
}

#[test]
fn one_output_of_one_photo_goes_to_standard_output() {
    let (photo, parse) = (sample(), |photo: &OsStr, more: &[&str], stdin: Option<&Path>| {
        let arguments: Vec<&OsStr> =
            [OsStr::new("parse"), photo].into_iter().chain(more.iter().map(OsStr::new)).collect();
        m2fp(&arguments, stdin)
    });
    let index = done(parse(photo.as_os_str(), &["--output", "index", "-o", "-"], None));
    assert!(index.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(done(parse(OsStr::new("-"), &["--output", "index", "-o", "-"], Some(&photo))), index);
    let report = done(parse(photo.as_os_str(), &["--output", "json", "-o", "-"], None));
    assert!(serde_json::from_slice::<Value>(&report).unwrap()["persons"].is_array());
    let folder = photo.parent().unwrap().as_os_str();
    for (photo, more) in [
        (photo.as_os_str(), &["-o", "-"][..]),
        (photo.as_os_str(), &["--output", "index", "-o", "-", "--json"]),
        (folder, &["--output", "index", "-o", "-"]),
    ] {
        let refused = parse(photo, more, None);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains("`-o -` writes one output of one photo") && refused.stdout.is_empty(), "{told}");
    }
}

#[test]
fn a_folder_has_one_coco_file_and_a_photo_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("photos/in")).unwrap();
    std::fs::copy(sample(), at("photos/a.jpg")).unwrap();
    std::fs::copy(sample(), at("photos/in/b.jpg")).unwrap();
    std::fs::write(at("photos/bad.jpg"), b"no image").unwrap();
    let parse = |photos: &str, more: &[&OsStr]| {
        let photos = at(photos);
        m2fp(&[&[OsStr::new("parse"), photos.as_os_str(), OsStr::new("--output=coco,mask")][..], more].concat(), None)
    };
    let read = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(at(name)).unwrap()).unwrap();
    let parsed = parse("photos", &["-o".as_ref(), at("out").as_os_str()]);
    let told = String::from_utf8_lossy(&parsed.stderr).into_owned();
    assert_eq!(parsed.status.code(), Some(1), "{told}");
    assert!(told.contains("annotations.coco.json: 2 of 3 photos"), "{told}");
    let all = read("out/annotations.coco.json");
    let names: Vec<_> = all["images"].as_array().unwrap().iter().map(|image| image["file_name"].clone()).collect();
    assert_eq!(names, ["a.jpg", "in/b.jpg"]);
    assert!(at("out/in/b.jpg.mask.png").exists() && !at("out/a.jpg.coco.json").exists());

    done(parse("photos/a.jpg", &[]));
    let one = read("photos/a.jpg.coco.json");
    assert_eq!(one["images"][0]["file_name"], "a.jpg");
    let annotations = |file: &Value, image: u64| -> Vec<Value> {
        let all = file["annotations"].as_array().unwrap().iter().filter(|one| one["image_id"] == image);
        all.map(|annotation| json!([annotation["segmentation"], annotation["attributes"]])).collect()
    };
    let own = annotations(&one, 1);
    assert!(own.len() > 5);
    assert_eq!((annotations(&all, 1), annotations(&all, 2)), (own.clone(), own.clone()));
    let ids: Vec<_> = all["annotations"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=2 * own.len() as u64).collect::<Vec<_>>());
}
