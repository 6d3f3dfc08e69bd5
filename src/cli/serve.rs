//! `m2fp serve`: the HTTP routes on the program's own socket.
//!
//! One connection is one task. A request's body goes to a temporary file beyond its first 64 KiB ([`crate::memory::blob`]), so
//! clients that send much, slowly and all at once hold no memory; an answer holds its share of the account until it is
//! sent, and a client that does not take it in time loses the connection.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tracing::Instrument;

use super::say;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{App, body, headers, problem};
use crate::memory::blob::{Blob, BlobWriter};
use crate::pipeline::{Context, Pipeline};

/// A request's headers must be there after this long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A request's body must be there after this long, counted from when reading it begins.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// How long requests in progress may still take after the order to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// After a failed `accept` (too many open files, usually) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer's next bytes must be taken after this long.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections open at once; further ones wait in the kernel's queue. Together with [`CONNECTION_BYTES`] and the first
/// bytes of their bodies they stay below what the budget keeps free.
const MAX_CONNECTIONS: usize = 64;

/// The most that a connection buffers of what it reads and writes.
const CONNECTION_BYTES: usize = 64 * 1024;

/// `m2fp serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Port; 0 picks a free one.
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// Address to listen on; 0.0.0.0 is every network this machine is on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
}

pub(super) async fn run(pipeline: Arc<Pipeline>, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    serve(pipeline, SocketAddr::new(arguments.host, arguments.port)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Serves until SIGTERM or ctrl-c, then lets the requests in progress end. The model is loaded meanwhile, so that the
/// first photo need not wait for it.
///
/// # Errors
/// When `address` cannot be bound, or standard output does not take the line that names it.
pub async fn serve(pipeline: Arc<Pipeline>, address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    say::line(format_args!("m2fp serves http://{}/ (ctrl-c stops it)", listener.local_addr()?))?;
    tokio::spawn(load(Arc::clone(&pipeline)));
    serve_on(listener, Arc::new(App::local(pipeline)), stop_signal()).await;
    Ok(())
}

/// Loads the model, if the memory does for one. A fault goes to the log, and is the answer to every request that needs the model.
async fn load(pipeline: Arc<Pipeline>) {
    let context = Context { request_id: "start".to_owned(), deadline: None };
    if let Err(error) = pipeline.preload(&context).await {
        error.log(&context.request_id);
    }
}

/// Serves `listener` until `stop` is ready, then lets the requests in progress end.
pub async fn serve_on(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let server = Arc::new(Server { app, requests: AtomicU64::new(0) });
    let (stopping, stopped) = watch::channel(());
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let next = tokio::select! {
            next = accept(&listener, &connections) => next,
            () = &mut stop => break,
        };
        while tasks.try_join_next().is_some() {}
        match next {
            Ok((stream, permit)) => {
                let (server, stopped) = (Arc::clone(&server), stopped.clone());
                tasks.spawn(async move {
                    connection(server, stream, stopped).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, stopping));
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, rest).await.is_err() {
        tracing::warn!("requests were still in progress at the end");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((listener.accept().await?.0, permit))
}

/// One connection, until it ends or, after the order to stop, its request in progress does.
async fn connection(server: Arc<Server>, stream: TcpStream, mut stopped: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request).await.map(Full::new)) }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(SEND_TIMEOUT));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(CONNECTION_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // Nothing is ever sent on this channel: the change is that its sender is dropped when the server stops.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

struct Server {
    app: Arc<App>,
    requests: AtomicU64,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let context = Context { request_id: format!("local-{number}"), deadline: None };
        let (parts, body) = request.into_parts();
        let config = &self.app.pipeline.config;
        match read(body, config).await {
            Ok(body) => {
                let span = tracing::info_span!("request", request_id = context.request_id);
                crate::http::handle(&self.app, Request::from_parts(parts, body), context).instrument(span).await
            }
            Err(error) => {
                let mut response = problem::response(&error, &context.request_id);
                headers::surround(&mut response, config, parts.headers.get(header::ORIGIN), &context.request_id);
                // The rest of the body is not read, so the connection cannot be used for another request.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }
}

/// Reads a body. Its length is checked before a byte is read where the client names it.
async fn read(body: Incoming, config: &Config) -> Result<Blob> {
    body::check_length(body.size_hint().lower(), config)?;
    let most = config.max_body_bytes;
    let mut body = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
    let frames = async {
        let mut read = BlobWriter::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unread(&*error, most))?;
            frame.data_ref().map_or(Ok(()), |data| read.push(data))?;
        }
        read.finish()
    };
    tokio::time::timeout(BODY_TIMEOUT, frames).await.map_err(|_| too_slow())?
}

fn too_slow() -> Error {
    Error::Deadline { detail: format!("the body was not there after {} s", BODY_TIMEOUT.as_secs()) }
}

fn unread(error: &(dyn std::error::Error + 'static), max_bytes: u64) -> Error {
    if error.is::<LengthLimitError>() {
        let detail = format!("the body exceeds {max_bytes} bytes");
        Error::TooLarge { limit: crate::error::Limit::Body, detail }
    } else {
        Error::bad_request("the body ended early")
    }
}

async fn stop_signal() {
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "ctrl-c cannot be watched for");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => _ = signal.recv().await,
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be watched for");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
