//! Lambda's runtime API, as far as a function asks it, with the built `bootstrap` behind it. Unlike AWS's emulator it
//! says the tracing header of each invocation, as Lambda does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// Of each invocation.
const TIME: Duration = Duration::from_secs(30);
/// Of a whole run on a busy machine; only a function that hangs takes that long.
const PATIENCE: Duration = Duration::from_mins(2);

/// An event, and its tracing header.
pub type Invocation = (Value, Option<&'static str>);

/// What a function answered and wrote.
pub struct Ran {
    pub answers: Vec<Value>,
    /// Standard output and error.
    pub log: String,
}

impl Ran {
    /// The lines of the log that are JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[derive(Default)]
struct Api {
    waiting: Mutex<VecDeque<Invocation>>,
    answers: Mutex<Vec<Value>>,
    /// All is answered: the function asks for more.
    done: Notify,
}

/// Starts `bootstrap` with the packaged model and these variables, and has it answer `invocations`.
pub async fn bootstrap(settings: &[(&str, &str)], invocations: impl Into<VecDeque<Invocation>>) -> Ran {
    let api = Arc::new(Api { waiting: Mutex::new(invocations.into()), ..Api::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(serve(listener, Arc::clone(&api)));

    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bootstrap-{}.log", address.replace(':', "-")));
    let mut function = Process(command(&address, &log, settings).spawn().expect("bootstrap starts"));
    let ended = tokio::time::timeout(PATIENCE, api.done.notified()).await;
    let _ = function.0.kill();
    let _ = function.0.wait();
    serving.abort();

    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(log).unwrap();
    assert!(ended.is_ok(), "the function does not ask for more: {text}");
    let answers = api.answers.lock().unwrap().clone();
    Ran { answers, log: text }
}

/// Ended when dropped, whatever a test says.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

fn command(address: &str, log: &Path, settings: &[(&str, &str)]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
    // Settings of whoever runs the tests are not the function's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("M2FP_")) {
        command.env_remove(name);
    }
    command
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .env("AWS_LAMBDA_RUNTIME_API", address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "f")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("ORT_DYLIB_PATH", root.join(".runtime/libonnxruntime.so"))
        .env("M2FP_MODEL_DIR", root.join("model/nano"))
        .envs(settings.iter().copied());
    command
}

async fn serve(listener: TcpListener, api: Arc<Api>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let api = Arc::clone(&api);
        let service = service_fn(move |request| answer(Arc::clone(&api), request));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// `…/invocation/next`, `…/invocation/ID/response` and `…/invocation/ID/error` (AWS Lambda developer guide, "Using the
/// Lambda runtime API").
async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !request.uri().path().ends_with("/invocation/next") {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        api.answers.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        return Ok(Response::builder().status(202).body(Full::default()).unwrap());
    }
    let next = api.waiting.lock().unwrap().pop_front();
    let Some((event, trace)) = next else {
        api.done.notify_one();
        // Lambda freezes a function that waits.
        return std::future::pending().await;
    };
    let deadline = (SystemTime::now() + TIME).duration_since(UNIX_EPOCH).unwrap().as_millis();
    let id = format!("r-{}", api.answers.lock().unwrap().len());
    let mut response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", id)
        .header("lambda-runtime-deadline-ms", deadline.to_string())
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:f");
    if let Some(trace) = trace {
        response = response.header("lambda-runtime-trace-id", trace);
    }
    Ok(response.body(Full::from(event.to_string())).unwrap())
}
