//! S3-compatible servers on loopback, each for what it does truly: s3s-fs (in process) checks signatures, moto (Python)
//! honours conditions and keeps versions.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{self, BehaviorVersion, Credentials, Region};
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use m2fp::store::s3::S3Store;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub const SECRET_KEY: &str = "an-example-secret";

/// s3s-fs over a folder that goes with it; buckets are its subfolders.
pub struct FileServer {
    folder: TempDir,
    address: SocketAddr,
    /// Path and trace (`x-amzn-trace-id`) of each request that named one.
    traces: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<()>,
}

impl FileServer {
    pub async fn start(buckets: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for bucket in buckets {
            std::fs::create_dir(folder.path().join(bucket)).expect("a bucket");
        }
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a file system"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        // Bound before the first request, so nothing has to be waited for.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let traces = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&traces);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, told) = (service.clone(), Arc::clone(&told));
                let service = service_fn(move |request: Request<Incoming>| {
                    if let Some(trace) = request.headers().get("x-amzn-trace-id") {
                        let trace = trace.to_str().expect("ASCII").to_owned();
                        told.lock().expect("no panic").push((request.uri().path().to_owned(), trace));
                    }
                    Service::call(&service, request)
                });
                tokio::spawn(async move {
                    let connection = Builder::new(TokioExecutor::new());
                    let served = connection.serve_connection(TokioIo::new(socket), service).await;
                    // A client that closes its connection is no failure of the server.
                    drop(served);
                });
            }
        });
        Self { folder, address, traces, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn store(&self) -> S3Store {
        S3Store::with_keys(&self.endpoint(), ACCESS_KEY, SECRET_KEY)
    }

    /// Path and trace of each request so far that named one.
    pub fn traces(&self) -> Vec<(String, String)> {
        self.traces.lock().expect("no panic").clone()
    }

    /// Keys of a bucket as they lie on the disk, in order.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let root = self.folder.path().join(bucket);
        let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().filter_map(Result::ok);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(&root).expect("inside").to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A moto server of its own process.
pub struct Moto {
    process: Child,
    url: String,
}

impl Moto {
    /// Starts it; see [`moto_server`] for where it is looked for.
    pub fn start() -> Self {
        let program = moto_server();
        assert!(
            program.is_file(),
            "{} is missing: `make tools` installs moto, M2FP_MOTO_SERVER names another place",
            program.display()
        );
        let mut process = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto starts");
        let mut log = BufReader::new(process.stderr.take().expect("its log")).lines().map_while(Result::ok);
        // It listens before it says so; the end of its log is the end of the process.
        let url = log.find_map(|line| line.split_once("Running on ").map(|(_, url)| url.trim().to_owned()));
        // It logs every request; a full pipe would stop it.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, url: url.expect("moto says where it listens") }
    }

    pub fn endpoint(&self) -> String {
        self.url.clone()
    }

    pub fn store(&self) -> S3Store {
        S3Store::with_keys(&self.endpoint(), ACCESS_KEY, SECRET_KEY)
    }

    /// A client of whoever uploads and looks, beside the function.
    pub fn client(&self) -> Client {
        let config = config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "fixed"))
            .endpoint_url(self.endpoint())
            .force_path_style(true)
            .build();
        Client::from_conf(config)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Errors here mean that it is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn moto_server() -> PathBuf {
    std::env::var_os("M2FP_MOTO_SERVER")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server"), PathBuf::from)
}
