//! `m2fp serve` over a real socket: what the routes' own tests cannot see.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use m2fp::cli::serve::serve_on;
use m2fp::http::App;
use m2fp::pipeline::Pipeline;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::alone::is_alone;
use crate::support::fake_engine::GatedEngine;
use crate::support::http as support;

/// Far more than any of these answers takes: a test that hangs fails.
const PATIENCE: Duration = Duration::from_mins(1);

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn start(app: App) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve_on(listener, Arc::new(app), async move { _ = stopped.await }));
    Running { address, stop, server }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).expect("the server runs");
        tokio::time::timeout(PATIENCE, self.server).await.expect("it ends").expect("without a panic");
    }

    /// Sends `request` as it is, and reads until the server closes the connection.
    async fn exchange(&self, request: Vec<u8>) -> String {
        let address = self.address;
        let talk = move || {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(&request).expect("sent");
            let mut answer = Vec::new();
            // A reset after the answer is the server's way not to read the rest.
            if let Err(error) = stream.read_to_end(&mut answer) {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::task::spawn_blocking(talk).await.expect("the client does not panic")
    }
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_photo_goes_over_the_socket() {
    let server = start(support::app(&[])).await;
    let answer = server.exchange(post("/parse", &support::photo(80, 50))).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: image/png\r\n") && answer.contains("x-m2fp-plan: "), "{answer}");
    assert!(answer.contains("x-request-id: local-1\r\n"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_too_large_is_refused_before_it_is_read() {
    let server = start(support::app(&[("MAX_BODY_BYTES", "100")])).await;
    let only_head = b"POST /parse HTTP/1.1\r\nHost: test\r\nContent-Length: 999999999\r\n\r\n".to_vec();
    let answer = server.exchange(only_head).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close\r\n") && answer.contains("\"body_too_large\""), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_refused_where_it_passes_the_limit() {
    let server = start(support::app(&[("MAX_BODY_BYTES", "100")])).await;
    let mut endless = b"POST /parse HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    endless.extend_from_slice(b"80\r\n");
    endless.extend_from_slice(&[b'x'; 0x80]);
    endless.extend_from_slice(b"\r\n");
    let answer = server.exchange(endless).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_harms_nobody() {
    let server = start(support::app(&[])).await;
    for partial in
        [&b"POST /parse HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nxx"[..], b"PO", b"\xff\x00\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(server.address).expect("a connection");
        stream.write_all(partial).expect("sent");
        drop(stream);
    }
    let health = b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec();
    assert!(server.exchange(health).await.starts_with("HTTP/1.1 200 OK"));
    server.stop().await;
}

/// Sixteen clients stop before the last byte of 8 MB each: no memory holds what they sent.
#[tokio::test]
async fn bodies_on_their_way_cost_no_memory() {
    const BODY: usize = 8_000_000;
    if !is_alone("http_serve::bodies_on_their_way_cost_no_memory") {
        return;
    }
    let server = start(support::app(&[])).await;
    let head = format!("POST /plan HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {BODY}\r\n\r\n");
    let piece = vec![b'x'; BODY / 100];
    let before = m2fp::sys::anonymous_bytes();
    let address = server.address;
    let send = move || {
        let mut clients = Vec::new();
        for _ in 0..16 {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.write_all(head.as_bytes()).expect("sent");
            (0..99).for_each(|_| stream.write_all(&piece).expect("sent"));
            stream.write_all(&piece[1..]).expect("sent");
            clients.push(stream);
        }
        clients
    };
    let clients = tokio::task::spawn_blocking(send).await.expect("the clients do not panic");
    let held = m2fp::sys::anonymous_bytes().saturating_sub(before);
    assert!(held < 4 * BODY as u64, "{held} bytes");
    for mut stream in clients {
        stream.write_all(b"x").expect("sent");
        let mut answer = String::new();
        let talk = move || stream.read_to_string(&mut answer).map(|_| answer);
        let answer = tokio::task::spawn_blocking(talk).await.expect("no panic").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"unsupported\""), "{answer}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_progress_ends_after_the_order_to_stop() {
    let (engine, is_asked, open) = GatedEngine::new(support::manifest());
    let pipeline = Pipeline::with_engine(support::config(&[]), support::manifest(), None, Arc::new(engine));
    let Running { address, stop, server } = start(App::local(Arc::new(pipeline))).await;
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&post("/parse", &support::photo(80, 50))).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    });
    tokio::task::spawn_blocking(move || is_asked.recv_timeout(PATIENCE)).await.expect("no panic").expect("asked");
    stop.send(()).expect("the server runs");
    open.send(()).expect("the engine waits");
    tokio::time::timeout(PATIENCE, server).await.expect("it ends").expect("without a panic");
    assert!(client.join().expect("no panic").starts_with(b"HTTP/1.1 200 OK\r\n"));
}
