//! The Lambda binary under AWS's own Runtime Interface Emulator, one event of `events/` after the other.
//!
//! `M2FP_BOOTSTRAP` names another binary, such as the one that `sam build` leaves; it then runs as packaged, with the
//! library and the model beside it. `M2FP_RIE` names another emulator than the one in `.venv`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

const MEMORY_MB: u64 = 1769;
const TIMEOUT_S: u64 = 29;
const OUTPUT_BUCKET: &str = "emulator-masks";
/// moto wants a signature and does not check it.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=emulator/20250101/us-east-1/s3/aws4_request, \
                         SignedHeaders=host, Signature=0";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What an event must be answered with.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// 200, a PNG in base64.
    Mask,
    /// 200, the JSON report as text.
    HttpReport,
    /// 200, the web page as text.
    Page,
    /// The JSON report itself, not an HTTP response.
    Report,
    /// Mask and report of each named object in the output bucket, under this prefix.
    Stored(&'static str),
    /// Any answer but an error: the event asks for nothing.
    Nothing,
}

/// Every file of `events/`; one that is missing here fails the test.
const EVENTS: &[(&str, Expected)] = &[
    ("alb.json", Expected::Mask),
    ("apigw-http-multipart.json", Expected::HttpReport),
    ("apigw-http.json", Expected::Mask),
    ("apigw-rest-page.json", Expected::Page),
    ("apigw-rest.json", Expected::Mask),
    ("direct-invoke-s3.json", Expected::Report),
    ("direct-invoke.json", Expected::Report),
    ("eventbridge.json", Expected::Stored("masks/")),
    ("function-url.json", Expected::Mask),
    ("lattice.json", Expected::Mask),
    ("pipes-sqs.json", Expected::Stored("masks/")),
    ("s3-batch-1.0.json", Expected::Stored("masks/")),
    ("s3-batch-2.0.json", Expected::Stored("jobs/7/")),
    ("s3-put.json", Expected::Stored("masks/")),
    ("s3-test-event.json", Expected::Nothing),
    ("scheduled.json", Expected::Nothing),
    ("sns-eventbridge.json", Expected::Stored("masks/")),
    ("sns-s3.json", Expected::Stored("masks/")),
    ("sqs-eventbridge.json", Expected::Stored("masks/")),
    ("sqs-s3.json", Expected::Stored("masks/")),
    ("sqs-sns.json", Expected::Stored("masks/")),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A process with its children, ended when dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.process_group(0).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group: the emulator's own child too.
        let _ = Command::new("kill").arg("--").arg(format!("-{}", self.0.id())).status();
        let _ = self.0.wait();
    }
}

/// An S3 server on a free port.
struct S3 {
    url: String,
    agent: ureq::Agent,
    _process: Process,
}

impl S3 {
    fn start() -> Self {
        let server = root().join(".venv/bin/moto_server");
        assert!(server.exists(), "{} is missing: `make tools` installs it", server.display());
        let mut command = Command::new(server);
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines
            .find_map(|line| line.split_once("Running on ").map(|(_, url)| url.trim().to_owned()))
            .expect("moto_server says where it listens");
        // It logs each request; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { url, agent: agent(), _process: process }
    }

    fn make_bucket(&self, bucket: &str) {
        self.agent.put(format!("{}/{bucket}", self.url)).header("authorization", SIGNATURE).send_empty().unwrap();
    }

    /// Stores an object and gives its ETag, without quotes.
    fn put(&self, bucket: &str, key: &str, body: &[u8]) -> String {
        let url = format!("{}/{bucket}/{}", self.url, encode(key));
        let mut response = self.agent.put(&url).header("authorization", SIGNATURE).send(body).unwrap();
        assert_eq!(response.status(), 200, "{url}: {}", response.body_mut().read_to_string().unwrap());
        response.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned()
    }

    fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let url = format!("{}/{bucket}/{}", self.url, encode(key));
        let mut response = self.agent.get(url).header("authorization", SIGNATURE).call().unwrap();
        (response.status() == 200).then(|| response.body_mut().read_to_vec().unwrap())
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(2 * TIMEOUT_S)))
        .build()
        .into()
}

fn encode(key: &str) -> String {
    const PATH: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-');
    percent_encoding::utf8_percent_encode(key, &PATH).to_string()
}

/// Keys in notifications are form-encoded: a plus is a space.
fn decode_key(key: &str) -> String {
    percent_encoding::percent_decode_str(&key.replace('+', " ")).decode_utf8().unwrap().into_owned()
}

/// The function, as Lambda would run it.
struct Emulator {
    url: String,
    agent: ureq::Agent,
    log: PathBuf,
    _process: Process,
}

impl Emulator {
    fn start(s3: &S3, settings: &[(&str, &str)]) -> Self {
        let [front, back] = free_ports();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulator-{}.log", front.port()));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(emulator_binary());
        // Settings of whoever runs the tests are not the function's, and ours above would be unknown to it.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("M2FP_")) {
            command.env_remove(name);
        }
        command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .args(["--runtime-interface-emulator-address", &front.to_string()])
            .args(["--runtime-api-address", &back.to_string()])
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB.to_string())
            .env("AWS_LAMBDA_FUNCTION_TIMEOUT", TIMEOUT_S.to_string())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "emulator")
            .env("AWS_SECRET_ACCESS_KEY", "emulator")
            .env("M2FP_S3_ENDPOINT", &s3.url)
            .env("M2FP_OUTPUT_BUCKET", OUTPUT_BUCKET)
            .envs(settings.iter().copied());
        if let Some(packaged) = std::env::var_os("M2FP_BOOTSTRAP") {
            let packaged = std::fs::canonicalize(packaged).expect("M2FP_BOOTSTRAP is a file");
            command.arg(&packaged).current_dir(packaged.parent().unwrap()).env_remove("ORT_DYLIB_PATH");
        } else {
            command
                .arg(env!("CARGO_BIN_EXE_bootstrap"))
                .env("ORT_DYLIB_PATH", root().join(".runtime/libonnxruntime.so"))
                .env("M2FP_MODEL_DIR", root().join("model/nano"));
        }
        let process = Process::start(&mut command);
        wait_for(front);
        let url = format!("http://{front}/2015-03-31/functions/function/invocations");
        Self { url, agent: agent(), log, _process: process }
    }

    /// What the function returns. Errors come with status 200 too, as an object with `errorType`.
    fn invoke(&self, event: &Value) -> Value {
        let mut response = self.agent.post(&self.url).send(event.to_string()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

fn emulator_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("M2FP_RIE") {
        return path.into();
    }
    let name = if cfg!(target_arch = "aarch64") { "aws-lambda-rie-arm64" } else { "aws-lambda-rie-x86_64" };
    std::fs::read_dir(root().join(".venv/lib"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|python| python.path().join("site-packages/samcli/local/rapid").join(name))
        .find(|path| path.exists())
        .expect("the emulator is missing: `make tools` installs it, or set M2FP_RIE")
}

/// Two ports nobody listens on. The emulator cannot be asked for "any port".
fn free_ports() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Waits until somebody listens: the emulator does not say when it does.
fn wait_for(address: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "nobody listens on {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn events() -> BTreeMap<String, Value> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let event = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, event)
    };
    let files = std::fs::read_dir(root().join("events")).expect("events/ is there");
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(read)
        .collect()
}

fn photo() -> Vec<u8> {
    std::fs::read(root().join(".runtime/photos/astronaut.png")).expect("`make runtime` fetches the photo")
}

/// Puts the photo where the event says one is, and the photo's ETag where the event says its.
fn upload(s3: &S3, event: &mut Value) -> Vec<String> {
    let photo = photo();
    if let Some(place) = event.get("s3") {
        let (bucket, key) = (place["bucket"].as_str().unwrap(), place["key"].as_str().unwrap());
        s3.make_bucket(bucket);
        s3.put(bucket, key, &photo);
    }
    if let Some(bucket) = event.pointer("/store/bucket") {
        s3.make_bucket(bucket.as_str().unwrap());
    }
    let mut keys = Vec::new();
    if let Some(detail) = event.get_mut("detail").filter(|detail| detail.get("object").is_some()) {
        let (bucket, key) = (text(&detail["bucket"]["name"]), text(&detail["object"]["key"]));
        s3.make_bucket(&bucket);
        detail["object"]["etag"] = s3.put(&bucket, &key, &photo).into();
        keys.push(key);
    }
    for task in event.get("tasks").and_then(Value::as_array).into_iter().flatten() {
        let bucket = task.get("s3Bucket").or(task.get("s3BucketArn")).unwrap();
        let (bucket, key) = (text(bucket).replace("arn:aws:s3:::", ""), decode_key(&text(&task["s3Key"])));
        s3.make_bucket(&bucket);
        s3.put(&bucket, &key, &photo);
        keys.push(key);
    }
    let envelopes = ["/body", "/Sns/Message"];
    if let Some(message) = event.pointer_mut("/Message") {
        let mut inner = serde_json::from_str(&text(message)).unwrap();
        keys.extend(upload(s3, &mut inner));
        *message = inner.to_string().into();
    }
    let records = if event.is_array() { Some(event) } else { event.get_mut("Records") };
    for record in records.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(path) = envelopes.into_iter().find(|path| record.pointer(path).is_some()) {
            let message = record.pointer_mut(path).unwrap();
            let mut inner = serde_json::from_str(&text(message)).unwrap();
            keys.extend(upload(s3, &mut inner));
            *message = inner.to_string().into();
            continue;
        }
        let bucket = record["s3"]["bucket"]["name"].as_str().unwrap().to_owned();
        let object = &mut record["s3"]["object"];
        let key = decode_key(object["key"].as_str().unwrap());
        s3.make_bucket(&bucket);
        object["eTag"] = s3.put(&bucket, &key, &photo).into();
        object["size"] = photo.len().into();
        object.as_object_mut().unwrap().remove("versionId");
        keys.push(key);
    }
    keys
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Buckets that the events name, as the setting wants them.
fn buckets(events: &BTreeMap<String, Value>) -> String {
    let named = events.values().flat_map(|event| [event.pointer("/s3/bucket"), event.pointer("/store/bucket")]);
    let mut names: Vec<_> = named.flatten().filter_map(Value::as_str).collect();
    names.push(OUTPUT_BUCKET);
    names.join(",")
}

fn http_body(answer: &Value) -> Vec<u8> {
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let body = answer["body"].as_str().unwrap();
    if answer["isBase64Encoded"] == true { BASE64.decode(body).unwrap() } else { body.as_bytes().to_vec() }
}

fn check_report(report: &Value) {
    assert!(report["image"]["width"].is_u64() && report["image"]["height"].is_u64(), "{report}");
    assert!(report["memory"]["limit_mb"].as_f64().is_some_and(|mb| mb <= MEMORY_MB as f64), "{report}");
    assert!(report["classes"].as_array().is_some_and(|classes| !classes.is_empty()), "{report}");
}

fn check(expected: Expected, answer: &Value, s3: &S3, keys: &[String]) {
    assert!(answer.get("errorType").is_none(), "{answer}");
    match expected {
        Expected::Mask => assert!(http_body(answer).starts_with(PNG), "{answer}"),
        Expected::Page => assert!(String::from_utf8(http_body(answer)).unwrap().contains("<html"), "{answer}"),
        Expected::HttpReport => check_report(&serde_json::from_slice(&http_body(answer)).unwrap()),
        Expected::Report => check_report(answer),
        Expected::Stored(prefix) => {
            assert!(!keys.is_empty());
            let failed = answer["batchItemFailures"].as_array().is_some_and(|failed| !failed.is_empty());
            let results = answer["results"].as_array().into_iter().flatten();
            assert!(!failed && results.clone().all(|result| result["resultCode"] == "Succeeded"), "{answer}");
            for key in keys {
                let get = |suffix: &str| s3.get(OUTPUT_BUCKET, &format!("{prefix}{key}{suffix}"));
                assert!(get(".mask.png").is_some_and(|mask| mask.starts_with(PNG)), "no mask of {key}: {answer}");
                let report = get(".json").unwrap_or_else(|| panic!("no report of {key}: {answer}"));
                assert!(serde_json::from_slice::<Value>(&report).unwrap()["classes"].is_array());
            }
        }
        Expected::Nothing => {}
    }
}

#[test]
fn every_event_is_answered() {
    let mut events = events();
    let known: Vec<_> = EVENTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(events.keys().map(String::as_str).collect::<Vec<_>>(), known, "events/ and this test differ");
    let s3 = S3::start();
    s3.make_bucket(OUTPUT_BUCKET);
    let emulator = Emulator::start(&s3, &[("M2FP_ALLOWED_BUCKETS", &buckets(&events))]);
    for (name, expected) in EVENTS {
        let event = events.get_mut(*name).unwrap();
        let keys = upload(&s3, event);
        println!("{name}: {expected:?}");
        check(*expected, &emulator.invoke(event), &s3, &keys);
    }
}

#[test]
fn a_wrong_event_is_an_error_and_the_function_lives_on() {
    let s3 = S3::start();
    let emulator = Emulator::start(&s3, &[]);
    let answer = emulator.invoke(&json!({"what": "is this"}));
    assert!(answer["errorType"].is_string(), "{answer}");
    let image = BASE64.encode(photo());
    check(Expected::Report, &emulator.invoke(&json!({ "image": image })), &s3, &[]);
}

/// What CloudWatch would make metrics of.
fn metrics(emulator: &Emulator) -> Vec<Value> {
    let log = std::fs::read_to_string(&emulator.log).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("_aws").is_some()).collect()
}

#[test]
fn each_parse_is_a_line_of_metrics() {
    let s3 = S3::start();
    let emulator = Emulator::start(&s3, &[]);
    let photo = json!({ "image": BASE64.encode(photo()) });
    emulator.invoke(&photo);
    emulator.invoke(&photo);
    emulator.invoke(&json!({"image": BASE64.encode("no photo")}));
    let lines = metrics(&emulator);
    let values = |name: &str| lines.iter().map(|line| line[name].as_f64()).collect::<Vec<_>>();
    assert_eq!(values("Parsed"), [Some(1.0), Some(1.0), None]);
    assert_eq!(values("ClientFaults"), [None, None, Some(1.0)]);
    assert_eq!(values("ColdStart"), [Some(1.0), Some(0.0), Some(0.0)]);
    assert!(values("ModelLoadTime")[0].is_some() && values("ModelLoadTime")[1].is_none());
    assert!(values("MemoryUsed")[..2].iter().flatten().all(|percent| (0.1..100.0).contains(percent)), "{lines:?}");
    // The name that the emulator gives a function.
    assert!(lines.iter().all(|line| line["FunctionName"] == "test_function" && line["request_id"].is_string()));

    let silent = Emulator::start(&s3, &[("M2FP_METRICS", "off")]);
    check(Expected::Report, &silent.invoke(&photo), &s3, &[]);
    assert!(metrics(&silent).is_empty());
}

#[test]
fn requests_without_the_token_are_refused() {
    let s3 = S3::start();
    let emulator = Emulator::start(&s3, &[("M2FP_BEARER_TOKEN", "emulator-token-0123")]);
    let mut event = events().remove("function-url.json").unwrap();
    assert_eq!(emulator.invoke(&event)["statusCode"], 401);
    event["headers"]["authorization"] = "Bearer emulator-token-0123".into();
    check(Expected::Mask, &emulator.invoke(&event), &s3, &[]);
}
