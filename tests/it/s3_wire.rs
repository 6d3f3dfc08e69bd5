//! The S3 adapter against a server that answers with S3's errors, breaks off or falls silent, over a real connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use m2fp::error::{Error, Result};
use m2fp::store::s3::S3Store;
use m2fp::store::{NewObject, ObjectRef, ObjectStore, Standing};

use crate::support::events::{BUCKET, KEY, event, invoke, invoke_until};
use crate::support::http::pipeline;
use crate::support::scripted::{Answer, Scripted};

const METHODS: [&str; 4] = ["HEAD", "GET", "PUT", "DELETE"];
/// The adapter's: the first try included.
const ATTEMPTS: usize = 3;
/// Three times the adapter's ten seconds to the first byte, its waits between (at most one and two), and as much again
/// for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn store_of(server: &Scripted) -> S3Store {
    S3Store::with_keys(&server.endpoint(), "AKIDEXAMPLE", "an-example-secret")
}

/// The adapter's operation that sends a request of this method.
async fn operate(store: &S3Store, method: &str) -> Result<()> {
    let at = ObjectRef { bucket: BUCKET.to_owned(), key: KEY.to_owned(), version_id: None, etag: None };
    match method {
        "HEAD" => store.head(&at).await.map(drop),
        "GET" => store.get(&at, 1 << 20).await.map(drop),
        "PUT" => {
            let object = NewObject {
                bucket: at.bucket,
                key: at.key,
                body: Bytes::from_static(b"a mask"),
                content_type: "image/png",
                metadata: BTreeMap::new(),
            };
            store.put(object, &Standing::Whatever).await.map(drop)
        }
        _ => store.delete(&at.bucket, &at.key, &Standing::Whatever).await.map(drop),
    }
}

/// A whole answer; one to `HEAD` has no body.
fn answer(method: &str, status: &str, body: &str) -> Answer {
    let length = body.len();
    let body = if method == "HEAD" { "" } else { body };
    Answer::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
}

/// S3's error of this code (Amazon S3 API reference, "Error responses").
fn error(method: &str, status: &str, code: &str) -> Answer {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Please reduce your request \
         rate.</Message><RequestId>656c76696e6727732072657175657374</RequestId><HostId>Uuag1LuByRx9e6j5Onimru9pO4ZVKnJ2\
         </HostId></Error>"
    );
    answer(method, status, &xml)
}

fn success(method: &str) -> Answer {
    match method {
        "DELETE" => Answer::Bytes("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()),
        "PUT" => answer(method, "200 OK", ""),
        _ => answer(method, "200 OK", "a photo"),
    }
}

/// What each of the adapter's operations comes to, and how many requests it sent, where a server answers by `script`.
async fn outcomes(script: impl Fn(&'static str) -> Vec<Answer>) -> Vec<(&'static str, Result<()>, usize)> {
    join_all(METHODS.map(|method| {
        let script = script(method);
        async move {
            let server = Scripted::start(script).await;
            let outcome = tokio::time::timeout(PATIENCE, operate(&store_of(&server), method)).await;
            let requests = server.requests();
            assert!(requests.iter().all(|sent| sent == method), "{requests:?}");
            (method, outcome.unwrap_or_else(|_| panic!("{method} never ended")), requests.len())
        }
    }))
    .await
}

#[tokio::test]
async fn errors_of_s3_that_do_not_pass_are_errors_of_storage_after_three_tries() {
    for (status, code) in [("503 Slow Down", "SlowDown"), ("500 Internal Server Error", "InternalError")] {
        for (method, outcome, requests) in outcomes(|method| vec![error(method, status, code)]).await {
            let Err(Error::Storage { detail, .. }) = outcome else { panic!("{method}, {code}: {outcome:?}") };
            // A `HEAD` answer has no body to say the code in.
            assert_eq!(detail.ends_with(&format!("({code})")), method != "HEAD", "{method}: {detail}");
            assert_eq!(requests, ATTEMPTS, "{method}, {code}");
        }
    }
}

#[tokio::test]
async fn errors_of_s3_that_pass_are_not_noticed() {
    for (status, code) in [("503 Slow Down", "SlowDown"), ("500 Internal Server Error", "InternalError")] {
        let script = |method| vec![error(method, status, code), success(method)];
        for (method, outcome, requests) in outcomes(script).await {
            assert!(outcome.is_ok(), "{method}, {code}: {outcome:?}");
            assert_eq!(requests, 2, "{method}, {code}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_without_an_answer_is_tried_three_times() {
    for (method, outcome, requests) in outcomes(|_| vec![Answer::Bytes(String::new())]).await {
        assert!(matches!(outcome, Err(Error::Storage { .. })), "{method}: {outcome:?}");
        assert_eq!(requests, ATTEMPTS, "{method}");
    }
}

/// The SDK's tries end with the headers; a body that breaks off is for the next delivery.
#[tokio::test]
async fn a_body_that_is_shorter_than_its_length_is_an_error_of_storage() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nhalf a pho";
    let server = Scripted::start([Answer::Bytes(short.to_owned())]).await;
    let outcome = operate(&store_of(&server), "GET").await;
    let Err(Error::Storage { detail, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(detail.ends_with("broke off"), "{detail}");
    assert_eq!(server.requests(), ["GET"]);
}

/// Half a minute, as that is what the adapter allows: ten seconds to the first byte, three times.
#[tokio::test]
async fn headers_that_stall_are_an_error_of_storage_by_the_adapters_own_timeouts() {
    let silent = async {
        for (method, outcome, requests) in outcomes(|_| vec![Answer::Stall(String::new())]).await {
            assert!(matches!(outcome, Err(Error::Storage { .. })), "{method}: {outcome:?}");
            assert_eq!(requests, ATTEMPTS, "{method}");
        }
    };
    let half = async {
        let begun = "HTTP/1.1 200 OK\r\nContent-Le".to_owned();
        for (method, outcome, requests) in outcomes(|_| vec![Answer::Stall(begun.clone())]).await {
            assert!(matches!(outcome, Err(Error::Storage { .. })), "{method}: {outcome:?}");
            assert_eq!(requests, ATTEMPTS, "{method}");
        }
    };
    // By the SDK's protection against stalled streams; the body is not tried again.
    let body = async {
        let begun = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf a pho".to_owned();
        let server = Scripted::start([Answer::Stall(begun)]).await;
        let store = store_of(&server);
        let outcome = tokio::time::timeout(PATIENCE, operate(&store, "GET")).await.expect("the body is given up");
        assert!(matches!(outcome, Err(Error::Storage { .. })), "{outcome:?}");
        assert_eq!(server.requests(), ["GET"]);
    };
    tokio::join!(silent, half, body);
}

#[tokio::test]
async fn an_invocation_tells_what_came_of_it() {
    let stalled = Scripted::start([Answer::Stall(String::new())]).await;
    let over = |server: &Scripted| pipeline(&[], Some(Arc::new(store_of(server))));
    let deadline = Instant::now() + Duration::from_millis(300);
    let failure = invoke_until(&over(&stalled), &event("s3-put"), deadline).await.unwrap_err();
    assert_eq!(failure.name, "deadline", "{failure}");

    let slow_down = Scripted::start([error("HEAD", "503 Slow Down", "SlowDown")]).await;
    let failure = invoke(&over(&slow_down), &event("s3-put")).await.unwrap_err();
    assert_eq!(failure.name, "storage", "{failure}");
}
