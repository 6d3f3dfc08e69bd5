//! Lambda's Runtime API, as custom runtimes are served it, with the real `bootstrap` at its other end. AWS's emulator
//! hands out one invocation at a time, says no tracing header and takes no streams; this does all three.

#![allow(dead_code, reason = "each user takes its part")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// What the function says of an invocation.
#[derive(Debug)]
pub struct Answer {
    /// Whether it failed, as a function error.
    pub failed: bool,
    /// Whether the function said that it streams.
    pub streamed: bool,
    pub content_type: Option<String>,
    pub body: Bytes,
    /// How many pieces the body came in.
    pub pieces: usize,
}

impl Answer {
    /// The answer as JSON; not of a stream.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(!self.streamed);
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }

    /// Status and headers of a streamed answer, and its body: eight zero bytes stand between them.
    #[track_caller]
    pub fn stream(&self) -> (Value, Bytes) {
        assert!(self.streamed, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.content_type.as_deref(), Some("application/vnd.awslambda.http-integration-response"));
        let end = self.body.windows(8).position(|bytes| bytes == [0; 8]).expect("a head has an end");
        (serde_json::from_slice(&self.body[..end]).expect("the head is JSON"), self.body.slice(end + 8..))
    }
}

struct Invocation {
    id: String,
    /// The tracing header.
    trace: Option<String>,
    event: String,
}

struct Shared {
    next: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    /// Where the answer of each invocation that was handed out and not answered goes.
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    /// How many are handed out and not answered, and the most there were.
    in_hand: Mutex<(usize, usize)>,
    /// Whether the function asks for an invocation and there is none.
    is_idle: watch::Sender<bool>,
    timeout: Duration,
}

/// The server.
pub struct RuntimeApi {
    address: SocketAddr,
    invocations: mpsc::UnboundedSender<Invocation>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl RuntimeApi {
    /// `timeout`: of each invocation, from when it is handed out.
    pub async fn start(timeout: Duration) -> Self {
        let (invocations, next) = mpsc::unbounded_channel();
        let (waiting, in_hand, is_idle) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        let shared = Arc::new(Shared { next: next.into(), waiting, in_hand, is_idle, timeout });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                tokio::spawn(async move {
                    let answer = service_fn(move |request| serve(Arc::clone(&served), request));
                    // A function that was ended is no failure of the server.
                    drop(http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await);
                });
            }
        });
        Self { address, invocations, shared, task }
    }

    /// Hands the event to the function, named `id`, and waits for its answer.
    pub async fn invoke(&self, id: &str, event: impl ToString) -> Answer {
        self.invoke_traced(id, None, event).await
    }

    /// As [`Self::invoke`], with a tracing header if there is one.
    pub async fn invoke_traced(&self, id: &str, trace: Option<&str>, event: impl ToString) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.shared.waiting.lock().expect("no panic").insert(id.to_owned(), answer);
        let invocation = Invocation { id: id.to_owned(), trace: trace.map(str::to_owned), event: event.to_string() };
        self.invocations.send(invocation).expect("the server is there");
        answered.await.expect("the function answers")
    }

    /// Waits until the function asks for an invocation while there is none. Called after an answer to a function that
    /// takes one at a time, it returns when that invocation is over.
    pub async fn idle(&self) {
        self.shared.is_idle.subscribe().wait_for(|idle| *idle).await.expect("the server is there");
    }

    /// The most invocations that the function had in hand at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.in_hand.lock().expect("no panic").1
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `…/invocation/next`, `…/invocation/ID/response` and `…/invocation/ID/error` (AWS Lambda developer guide, "Using the
/// Lambda runtime API").
async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().trim_start_matches("/2018-06-01/runtime/invocation/").to_owned();
    let response = Response::builder();
    let response = if path == "next" {
        // One waits for the next, the others for their turn.
        let mut waiting = shared.next.lock().await;
        shared.is_idle.send_replace(waiting.is_empty());
        let Some(next) = waiting.recv().await else { std::future::pending().await };
        shared.is_idle.send_replace(false);
        drop(waiting);
        {
            let (now, most) = &mut *shared.in_hand.lock().expect("no panic");
            *now += 1;
            *most = (*most).max(*now);
        }
        let deadline = SystemTime::now() + shared.timeout;
        let deadline = deadline.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let response = response
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", next.id)
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:m2fp");
        let response = match next.trace {
            Some(trace) => response.header("lambda-runtime-trace-id", trace),
            None => response,
        };
        response.body(Full::from(next.event))
    } else {
        let (id, kind) = path.split_once('/').expect("the invocation's name and what becomes of it");
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
        let streamed = header("lambda-runtime-function-response-mode").as_deref() == Some("streaming");
        let (failed, content_type) = (kind == "error", header("content-type"));
        let (mut body, mut read, mut pieces) = (request.into_body(), Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.expect("the answer is whole").into_data() {
                read.extend_from_slice(&data);
                pieces += 1;
            }
        }
        shared.in_hand.lock().expect("no panic").0 -= 1;
        let waiting = shared.waiting.lock().expect("no panic").remove(id).expect("answered once");
        // Whoever asked may be gone.
        drop(waiting.send(Answer { failed, streamed, content_type, body: read.into(), pieces }));
        response.status(StatusCode::ACCEPTED).body(Full::default())
    };
    Ok(response.expect("the headers are sound"))
}

/// The function's process, ended when dropped.
pub struct Function {
    process: Child,
    /// Where its standard output and error go, if they are kept.
    log: Option<PathBuf>,
}

impl Function {
    /// `bootstrap` with the packaged model, `memory_mb` of memory, room for so many invocations at once, and settings.
    /// It warns on standard error, and writes no metrics.
    pub fn start(api: &RuntimeApi, memory_mb: u64, concurrency: Option<u32>, settings: &[(&str, &str)]) -> Self {
        let mut command = command(api, memory_mb);
        command
            .env("M2FP_LOG", "warn")
            .env("M2FP_METRICS", "off")
            .envs(settings.iter().copied())
            .envs(concurrency.map(|most| ("AWS_LAMBDA_MAX_CONCURRENCY", most.to_string())))
            .stdout(Stdio::null());
        Self { process: command.spawn().expect("bootstrap starts"), log: None }
    }

    /// `bootstrap` with the packaged model, `memory_mb` of memory, one invocation at a time, and settings. What it
    /// writes is kept, and no more of that is set than `settings` do.
    pub fn start_logged(api: &RuntimeApi, memory_mb: u64, settings: &[(&str, &str)]) -> Self {
        let name = format!("bootstrap-{}.log", api.address.port());
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let file = File::create(&log).expect("a log");
        let mut command = command(api, memory_mb);
        command.envs(settings.iter().copied()).stdout(file.try_clone().expect("a log")).stderr(file);
        Self { process: command.spawn().expect("bootstrap starts"), log: Some(log) }
    }

    /// What a function that was started by [`Self::start_logged`] has written so far to standard output and error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.as_ref().expect("the log is kept")).expect("the log is text")
    }

    /// The most memory that the process held, bytes.
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // Errors here mean that it is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
        if let Some(log) = &self.log {
            drop(std::fs::remove_file(log));
        }
    }
}

fn command(api: &RuntimeApi, memory_mb: u64) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
    // Settings of whoever runs this are not the function's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("M2FP_")) {
        command.env_remove(name);
    }
    command
        .env("AWS_LAMBDA_RUNTIME_API", api.address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "m2fp")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory_mb.to_string())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("ORT_DYLIB_PATH", root.join(".runtime/libonnxruntime.so"))
        .env("M2FP_MODEL_DIR", root.join("model/nano"));
    command
}
