//! Routing, tokens, problems and descriptions through the public door; photos are in `http_parse.rs`.

use std::io::Read as _;
use std::sync::Arc;

use http::StatusCode;
use m2fp::http::{App, BasePath, handle};
use m2fp::pipeline::Pipeline;
use proptest::prelude::*;
use serde_json::json;

use crate::support::http::{MemoryStore, app, config, context, header, json_of, pipeline, request, send};

#[tokio::test]
async fn every_answer_carries_what_surrounds_it() {
    let app = app(&[]);
    for line in ["GET /", "GET /health", "GET /info", "GET /openapi.json", "GET /nothing", "PUT /parse", "POST /parse"]
    {
        let response = send(&app, line, &[], "").await;
        assert_eq!(header(&response, "x-request-id"), Some("test-1"), "{line}");
        assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"), "{line}");
        assert!(header(&response, "cache-control").is_some(), "{line}");
        assert!(header(&response, "access-control-allow-origin").is_none(), "{line}");
    }
}

#[tokio::test]
async fn info_says_what_is_served() {
    let response = send(&app(&[]), "GET /info", &[], "").await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut info = json_of(&response);
    info["version"] = "[version]".into();
    let types = info["image_types"].as_array_mut().expect("a list");
    for (is_served, name) in [(cfg!(feature = "heic"), "image/heic"), (cfg!(feature = "avif"), "image/avif")] {
        if is_served {
            assert_eq!(types.pop().expect("a type"), name);
        }
    }
    insta::assert_json_snapshot!(info);
}

#[tokio::test]
async fn health_does_not_load_anything() {
    let response = send(&app(&[("BEARER_TOKEN", "t")]), "GET /health", &[], "").await;
    assert_eq!(json_of(&response), serde_json::json!({"status": "ok", "model_loaded": true}));
}

#[tokio::test]
async fn only_a_model_that_leaves_room_for_a_photo_is_loaded_ahead() {
    for (memory, is_loaded) in [(64, false), (512, true)] {
        let mut settings = config(&[]);
        settings.memory_mb = Some(memory);
        settings.model_dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano");
        let pipeline = Arc::new(Pipeline::new(settings, None).expect("the model folder is sound"));
        pipeline.preload(&context()).await.expect("it loads, or need not");
        let response = send(&App::local(pipeline), "GET /health", &[], "").await;
        assert_eq!(json_of(&response)["model_loaded"], is_loaded, "in {memory} MB");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let app = app(&[]);
    for path in
        ["/", "/health", "/info", "/openapi.json", "/sample.jpg", "/sample-portrait.jpg", "/sample-photographer.jpg"]
    {
        let get = send(&app, &format!("GET {path}"), &[], "").await;
        let head = send(&app, &format!("HEAD {path}"), &[], "").await;
        assert_eq!((head.status(), head.headers()), (get.status(), get.headers()));
        assert!(head.body().is_empty() && !get.body().is_empty());
    }
    assert_eq!(send(&app, "HEAD /parse", &[], "").await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn problems_look_like_this() {
    let app = app(&[("BEARER_TOKEN", "t")]);
    let token = ("authorization", "Bearer t");
    let json = ("content-type", "application/json");
    let s3 = r#"{"s3": {"bucket": "photos", "key": "a.jpg"}}"#;
    let mut problems = serde_json::Map::new();
    for (name, line, headers, body) in [
        ("no route", "GET /nothing", &[][..], ""),
        ("method", "GET /parse", &[], ""),
        ("no token", "POST /parse", &[], "x"),
        ("empty body", "POST /parse", &[token], ""),
        ("parameters", "POST /parse?output=face&mod=auto&score=2", &[token], "x"),
        ("outputs", "POST /parse?output=mask,json", &[token], "x"),
        ("bucket", "POST /parse", &[token, json], s3),
        ("store", "POST /parse", &[token, json], r#"{"image": "AAAA", "store": {"bucket": "out", "key_prefix": "a"}}"#),
    ] {
        let response = send(&app, line, headers, body).await;
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"), "{name}");
        let mut problem = json_of(&response);
        assert_eq!(problem["status"], response.status().as_u16(), "{name}");
        if let Some(allow) = header(&response, "allow") {
            problem["header allow"] = allow.into();
        }
        if let Some(challenge) = header(&response, "www-authenticate") {
            problem["header www-authenticate"] = challenge.into();
        }
        problems.insert(name.to_owned(), problem);
    }
    insta::assert_json_snapshot!(problems);
}

#[tokio::test]
async fn the_token_guards_all_but_the_public_routes() {
    let app = app(&[("BEARER_TOKEN", "t")]);
    for (line, guarded) in [
        ("GET /", false),
        ("GET /health", false),
        ("GET /openapi.json", false),
        ("OPTIONS /parse", false),
        ("POST /", true),
        ("POST /parse", true),
        ("POST /plan/", true),
        ("POST /uploads", true),
        ("GET /info", true),
        ("HEAD /info", true),
        ("GET /Prod/info", true),
    ] {
        let without = send(&app, line, &[], "x").await.status();
        assert_eq!(without == StatusCode::UNAUTHORIZED, guarded, "{line}");
        let with = send(&app, line, &[("authorization", "Bearer t")], "x").await.status();
        assert_ne!(with, StatusCode::UNAUTHORIZED, "{line}");
        let wrong = send(&app, line, &[("authorization", "Bearer u")], "x").await.status();
        assert_eq!(wrong == StatusCode::UNAUTHORIZED, guarded, "{line}");
    }
}

#[tokio::test]
async fn a_stage_named_by_the_door_reaches_the_page_too() {
    let app = app(&[]);
    for path in ["/Prod", "/Prod/"] {
        let mut stage = request(&format!("GET {path}"), &[], "");
        stage.extensions_mut().insert(BasePath("/Prod".to_owned()));
        let response = handle(&app, stage, context()).await;
        assert_eq!(header(&response, "content-type"), Some("text/html; charset=utf-8"));
    }
    assert_eq!(send(&app, "GET /Prod/health/", &[], "").await.status(), StatusCode::OK);
    assert_eq!(send(&app, "GET /Prod", &[], "").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_allows_its_own_script_alone() {
    let response = send(&app(&[]), "GET /", &[], "").await;
    let policy = header(&response, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(policy.ends_with("; connect-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
}

#[tokio::test]
async fn the_page_may_use_the_buckets_that_clients_are_sent_to_and_no_other() {
    let settings = [("UPLOAD_BUCKET", "photos"), ("OUTPUT_BUCKET", "masks"), ("ALLOWED_BUCKETS", "others")];
    let pipeline = pipeline(&settings, Some(Arc::new(MemoryStore::default())));
    for (app, sources) in [
        (App::local(Arc::clone(&pipeline)), "'self' https://photos.example"),
        (m2fp::lambda::app(pipeline), "'self' https://masks.example https://photos.example"),
    ] {
        for _ in 0..2 {
            let response = send(&app, "GET /", &[], "").await;
            let policy = header(&response, "content-security-policy").unwrap();
            assert!(policy.ends_with(&format!("; connect-src {sources}")), "{policy}");
        }
    }
}

#[tokio::test]
async fn the_samples_are_photos() {
    for (path, width, height) in
        [("sample.jpg", 1280, 720), ("sample-portrait.jpg", 512, 512), ("sample-photographer.jpg", 512, 512)]
    {
        let response = send(&app(&[("BEARER_TOKEN", "t")]), &format!("GET /{path}"), &[], "").await;
        assert_eq!(header(&response, "content-type"), Some("image/jpeg"));
        assert!(response.body().len() <= 80_000, "{path}");
        let parsed = send(&app(&[]), "POST /parse?output=json", &[], response.into_body()).await;
        let image = &json_of(&parsed)["image"];
        assert_eq!((&image["width"], &image["height"]), (&json!(width), &json!(height)));
    }
}

#[tokio::test]
async fn the_page_is_packed_for_those_who_can_unpack_it() {
    let app = app(&[]);
    let plain = send(&app, "GET /", &[], "").await;
    assert_eq!((header(&plain, "content-encoding"), header(&plain, "vary")), (None, Some("Accept-Encoding")));
    for _ in 0..2 {
        let packed = send(&app, "GET /", &[("accept-encoding", "gzip, br")], "").await;
        assert_eq!(
            (header(&packed, "content-encoding"), header(&packed, "vary")),
            (Some("gzip"), Some("Accept-Encoding"))
        );
        assert_eq!(header(&packed, "content-security-policy"), header(&plain, "content-security-policy"));
        assert!(packed.body().len() <= plain.body().len() / 2);
        let mut html = String::new();
        flate2::read::GzDecoder::new(packed.body().as_ref()).read_to_string(&mut html).unwrap();
        assert_eq!(html.as_bytes(), plain.body());
    }
}

#[tokio::test]
async fn other_origins_are_answered_where_one_is_set() {
    let app = app(&[("CORS_ORIGIN", "https://example.org"), ("BEARER_TOKEN", "t")]);
    let preflight = send(&app, "OPTIONS /parse", &[("origin", "https://example.org")], "").await;
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&preflight, "access-control-allow-origin"), Some("https://example.org"));
    assert_eq!(header(&preflight, "access-control-allow-methods"), Some("POST, OPTIONS"));
    assert!(header(&preflight, "access-control-allow-headers").unwrap().contains("Authorization"));
    assert_eq!(header(&preflight, "vary"), Some("Origin"));
    // Scripts can read failures too.
    let refused = send(&app, "POST /parse", &[], "x").await;
    assert_eq!(header(&refused, "access-control-allow-origin"), Some("https://example.org"));
    assert!(header(&refused, "access-control-expose-headers").unwrap().contains("X-M2FP-Plan"));
}

#[tokio::test]
async fn of_several_origins_the_one_that_asks_is_answered() {
    let app = app(&[("CORS_ORIGIN", "https://a.example,http://localhost:3000")]);
    for (asking, answered) in [
        ("https://a.example", Some("https://a.example")),
        ("http://localhost:3000", Some("http://localhost:3000")),
        ("https://b.example", None),
        ("https://a.example,http://localhost:3000", None),
    ] {
        for line in ["OPTIONS /parse", "POST /parse", "GET /health"] {
            let response = send(&app, line, &[("origin", asking)], "").await;
            assert_eq!(header(&response, "access-control-allow-origin"), answered, "{line} of {asking}");
            assert_eq!(header(&response, "vary"), Some("Origin"), "{line} of {asking}");
        }
    }
    let nobodys = send(&app, "GET /health", &[], "").await;
    assert_eq!(header(&nobodys, "access-control-allow-origin"), None);
}

#[tokio::test]
async fn without_an_origin_options_only_lists_methods() {
    let response = send(&app(&[]), "OPTIONS /info", &[("origin", "https://example.org")], "").await;
    assert_eq!(header(&response, "allow"), Some("GET, HEAD, OPTIONS"));
    assert!(response.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn what_a_client_sends_cannot_add_headers() {
    let app = app(&[("CORS_ORIGIN", "*")]);
    let mut hostile = context();
    hostile.request_id = "a\r\nset-cookie: b".to_owned();
    let response = handle(&app, request("GET /%0d%0aset-cookie:b", &[], ""), hostile).await;
    assert!(response.headers().get("set-cookie").is_none());
    assert_eq!(header(&response, "x-request-id"), Some("a??set-cookie: b"));
}

#[tokio::test]
async fn bodies_above_the_limit_are_refused() {
    let app = app(&[("MAX_BODY_BYTES", "100")]);
    let response = send(&app, "POST /parse", &[], vec![0u8; 101]).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(json_of(&response)["code"], "body_too_large");
}

/// The document names the codes and statuses of the table, and the parameters of the options.
#[tokio::test]
async fn the_document_describes_what_is_served() {
    let document = json_of(&send(&app(&[]), "GET /openapi.json", &[], "").await);
    let parse = &document["paths"]["/parse"]["post"];
    let statuses: Vec<&str> = parse["responses"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "200 303 304 400 401 403 404 405 409 413 415 422 500 503 504 507";
    assert_eq!(statuses.join(" "), expected);
    assert_eq!(document["paths"]["/"]["post"]["responses"], parse["responses"]);
    for parameter in document["components"]["parameters"].as_object().unwrap().values() {
        if parameter["in"] == "query" {
            let name = parameter["name"].as_str().unwrap();
            let error = m2fp::options::RawOptions::from_query(&format!("{name}=")).err().map(|e| e.to_string());
            assert!(!error.unwrap_or_default().contains("unknown parameter"), "{name}");
        }
    }
    let kinds = document["components"]["schemas"]["OutputKind"]["enum"].as_array().unwrap().clone();
    assert_eq!(kinds, m2fp::options::OutputKind::ALL.map(m2fp::options::OutputKind::name));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the path, the query and the body are: an answer, and never a failure of ours.
    #[test]
    fn hostile_requests_get_client_errors(
        path in "/[ -~&&[^ \"<>\\\\^`{|}#?]]{0,20}",
        query in "[a-z0-9=&%,.+-]{0,30}",
        kind in 0usize..4,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let content_type = ["image/jpeg", "application/json", "multipart/form-data; boundary=x", "text/plain"][kind];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let app = app(&[]);
        for path in [path.as_str(), "/parse", "/plan"] {
            let Ok(uri) = format!("{path}?{query}").parse::<http::Uri>() else { continue };
            let mut hostile = request("POST /", &[("content-type", content_type)], body.clone());
            *hostile.uri_mut() = uri;
            let response = runtime.block_on(handle(&app, hostile, context()));
            prop_assert!(response.status().as_u16() < 500, "{:?}", response);
        }
    }
}
