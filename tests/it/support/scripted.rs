//! An HTTP server that misbehaves as it is told, for what no real server can be made to do.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of a request that was read to its end.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These bytes, and the connection is closed.
    Bytes(String),
    /// These bytes, and then nothing, while the connection stays open.
    Stall(String),
}

/// Answers each request, one a connection, with the next of its script, and all that come after with the last.
pub struct Scripted {
    address: SocketAddr,
    /// The requests' methods, as they came.
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let mut script: VecDeque<_> = script.into_iter().collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let told = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let answer = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
                let (answer, told) = (answer.expect("a script has an answer"), Arc::clone(&told));
                tokio::spawn(async move {
                    // A client that closes its connection is no failure of the server.
                    drop(serve(socket, answer, &told).await);
                });
            }
        });
        Self { address, requests, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, answer: Answer, requests: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut socket = BufReader::new(socket);
    let (mut head, mut line) = (Vec::new(), String::new());
    while socket.read_line(&mut line).await? > 2 {
        head.push(std::mem::take(&mut line));
    }
    let method = head.first().and_then(|line| line.split(' ').next()).unwrap_or_default();
    requests.lock().expect("no panic").push(method.to_owned());
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    socket.read_exact(&mut vec![0; length.unwrap_or_default()]).await?;
    match answer {
        Answer::Bytes(bytes) => {
            socket.write_all(bytes.as_bytes()).await?;
            socket.shutdown().await
        }
        Answer::Stall(bytes) => {
            socket.write_all(bytes.as_bytes()).await?;
            pending().await
        }
    }
}
