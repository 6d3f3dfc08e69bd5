//! What the log says of requests, and what it never says, at the most talkative level. One test: the log is the process's.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use m2fp::config::LogFormat;
use m2fp::http::App;
use m2fp::lambda::dispatch::dispatch;
use m2fp::pipeline::{Context, Pipeline};
use m2fp::store::ObjectStore;
use m2fp::store::s3::S3Store;
use m2fp::telemetry;
use serde_json::{Value, json};

use crate::support::alone::is_alone;
use crate::support::events::{BUCKET, OUTPUT_BUCKET, event, photo};
use crate::support::http::{json_of, pipeline, send};
use crate::support::s3_servers::{ACCESS_KEY, FileServer, SECRET_KEY};

const TOKEN: &str = "the-token-0123456789";
const GUESS: &str = "a-guessed-token-98765";
const UPLOADS: &str = "m2fp-uploads";
const JSON: (&str, &str) = ("content-type", "application/json");

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn served(store: impl ObjectStore + 'static) -> Arc<Pipeline> {
    let buckets = format!("{BUCKET},{OUTPUT_BUCKET}");
    let settings = [
        ("BEARER_TOKEN", TOKEN),
        ("UPLOAD_BUCKET", UPLOADS),
        ("OUTPUT_BUCKET", OUTPUT_BUCKET),
        ("ALLOWED_BUCKETS", buckets.as_str()),
    ];
    pipeline(&settings, Some(Arc::new(store)))
}

async fn invoke(pipeline: &Arc<Pipeline>, id: &str, event: &Value) -> Value {
    let context = Context { request_id: id.to_owned(), deadline: None };
    let app = m2fp::lambda::app(Arc::clone(pipeline));
    let answer = dispatch(&app, serde_json::value::to_raw_value(event).unwrap(), context).await;
    answer.map_or_else(|failure| json!({"failed": failure.name}), |raw| serde_json::from_str(raw.get()).unwrap())
}

fn with_token(name: &str, token: &str) -> Value {
    let mut event = event(name);
    event["headers"]["authorization"] = format!("Bearer {token}").into();
    event
}

/// Signs an upload, sends it, and has it parsed where the answer is too large to send. What signs the links.
async fn upload_and_follow(pipeline: &Arc<Pipeline>) -> [String; 2] {
    let app = App::new(Arc::clone(pipeline), Some(16));
    let bearer = format!("Bearer {TOKEN}");
    let headers = [JSON, ("authorization", bearer.as_str())];
    let wish = json!({"content_type": "image/jpeg", "bytes": photo().len()}).to_string();
    let answer = json_of(&send(&app, "POST /uploads", &headers, wish).await);
    let url = answer["upload"]["url"].as_str().unwrap().to_owned();
    let request = http::Request::put(&url).header("content-type", "image/jpeg").body(photo().to_vec()).unwrap();
    let put = move || ureq::agent().run(request).unwrap().status().as_u16();
    assert_eq!(tokio::task::spawn_blocking(put).await.unwrap(), 200);
    let parsed = send(&app, "POST /parse", &headers, answer["parse"].to_string()).await;
    assert_eq!(parsed.status(), 303);
    let link = parsed.headers()["location"].to_str().unwrap().to_owned();
    [url, link].map(|url| url.split_once("X-Amz-Signature=").unwrap().1[..64].to_owned())
}

#[tokio::test]
async fn the_log_names_requests_and_keeps_their_secrets() {
    if !is_alone("logs::the_log_names_requests_and_keeps_their_secrets") {
        return;
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = telemetry::subscriber("trace", LogFormat::Json, move || writer.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let server = FileServer::start(&[BUCKET, OUTPUT_BUCKET, UPLOADS]).await;
    let pipeline = served(server.store());
    assert_eq!(invoke(&pipeline, "r-mask", &with_token("function-url", TOKEN)).await["statusCode"], 200);
    assert_eq!(invoke(&pipeline, "r-denied", &with_token("function-url", GUESS)).await["statusCode"], 401);
    assert!(invoke(&pipeline, "r-direct", &event("direct-invoke")).await["classes"].is_array());
    assert_eq!(invoke(&pipeline, "r-absent", &event("direct-invoke-s3")).await["failed"], "no_object");
    assert_eq!(invoke(&pipeline, "r-unknown", &json!({"what": "is this"})).await["failed"], "bad_request");
    let mut no_image = with_token("function-url", TOKEN);
    no_image["body"] = BASE64_STANDARD.encode(&photo()[40..]).into();
    assert_eq!(invoke(&pipeline, "r-no-image", &no_image).await["statusCode"], 415);
    let signatures = upload_and_follow(&pipeline).await;
    let unreachable = served(S3Store::with_keys("http://127.0.0.1:1", ACCESS_KEY, SECRET_KEY));
    assert_eq!(invoke(&unreachable, "r-storage", &event("direct-invoke-s3")).await["failed"], "storage");

    let text = log.text();
    let base64 = BASE64_STANDARD.encode(photo());
    let escaped = format!("{:?}", photo().slice(..8));
    let mut secrets = vec![TOKEN, GUESS, SECRET_KEY, "X-Amz-Signature", &base64[..32], &base64[400..432]];
    secrets.extend(signatures.iter().map(String::as_str));
    secrets.push(escaped.trim_start_matches("b\"").trim_end_matches('"'));
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in the log");
    }

    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let id = |line: &Value| [&line["request_id"], &line["span"]["request_id"]].map(|id| id.as_str().map(str::to_owned));
    for line in lines.iter().filter(|line| line["target"].as_str().unwrap().starts_with("m2fp")) {
        assert!(id(line).into_iter().any(|id| id.is_some()), "a line of no request: {line}");
    }
    let requests = ["r-mask", "r-denied", "r-direct", "r-absent", "r-unknown", "r-no-image", "test-1", "r-storage"];
    for request in requests {
        assert!(lines.iter().any(|line| id(line).iter().flatten().any(|id| id == request)), "nothing of {request}");
    }
    for message in ["invoked", "planned", "parsed", "memory", "refused", "failed"] {
        assert!(lines.iter().any(|line| line["message"] == message), "no line `{message}`");
    }
}
