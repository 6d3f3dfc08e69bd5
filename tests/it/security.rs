//! What names, headers and metadata of strangers cannot do: end a line, leave their place, or come along into an output.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use m2fp::delivery::settle::{self, Done, Order};
use m2fp::http::{App, handle};
use m2fp::options::OutputKind;
use m2fp::store::{NewObject, ObjectRef, ObjectStore, Standing};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::events;
use crate::support::http as http_support;
use crate::support::http::{MemoryStore, app, context, header, json_of, pipeline, request, send};
use crate::support::s3_servers::Moto;

const JSON: (&str, &str) = ("content-type", "application/json");
/// Stands in every kind of metadata of the test's photos, and nowhere else.
const SECRET: &str = "51.4779N-home-of-somebody";

/// The events' photo as a camera would leave it: EXIF with the secret as its description and a GPS directory, XMP, IPTC,
/// an ICC profile and a comment.
fn jpeg_with_metadata() -> Bytes {
    let segment = |marker: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
        [&[0xff, marker][..], &length, payload].concat()
    };
    let secret = SECRET.as_bytes();
    // TIFF, little-endian: ImageDescription (0x10e, ASCII) and GPSInfo (0x8825), whose GPSLatitudeRef (1) is `N`.
    let after_directory = 8 + 2 + 2 * 12 + 4;
    let gps = after_directory + u32::try_from(secret.len()).unwrap() + 1;
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let tiff = [
        &b"II*\0\x08\0\0\0"[..],
        &2_u16.to_le_bytes(),
        &entry(0x10e, 2, u32::try_from(secret.len()).unwrap() + 1, after_directory),
        &entry(0x8825, 4, 1, gps),
        &[0; 4],
        secret,
        b"\0",
        &1_u16.to_le_bytes(),
        &entry(1, 2, 2, u32::from(b'N')),
        &[0; 4],
    ]
    .concat();
    let photo = events::photo();
    let (start, rest) = photo.split_at(2);
    [
        start,
        &segment(0xe1, &[b"Exif\0\0", &tiff[..]].concat()),
        &segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", secret].concat()),
        &segment(0xed, &[b"Photoshop 3.0\0", secret].concat()),
        &segment(0xe2, &[b"ICC_PROFILE\0\x01\x01", secret].concat()),
        &segment(0xfe, secret),
        rest,
    ]
    .concat()
    .into()
}

/// A PNG with the secret as text and as EXIF.
fn png_with_metadata() -> Bytes {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
    encoder.set_color(png::ColorType::Rgb);
    encoder.add_text_chunk("Comment".to_owned(), SECRET.to_owned()).unwrap();
    encoder.add_ztxt_chunk("Description".to_owned(), SECRET.to_owned()).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_chunk(png::chunk::eXIf, &[b"II*\0\x08\0\0\0\0\0\0\0\0\0", SECRET.as_bytes()].concat()).unwrap();
    writer.write_image_data(&[100; 64 * 48 * 3]).unwrap();
    writer.finish().unwrap();
    bytes.into()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn nothing_of_a_photos_metadata_comes_into_an_output() {
    let app = app(&[]);
    for photo in [jpeg_with_metadata(), png_with_metadata()] {
        assert!(holds(&photo, SECRET));
        for kind in OutputKind::ALL {
            let line = format!("POST /parse?output={}&rle={}", kind.name(), kind == OutputKind::Json);
            let response = send(&app, &line, &[], photo.clone()).await;
            assert_eq!(response.status(), StatusCode::OK, "{kind:?}");
            for word in [SECRET, "51.4779", "Exif", "eXIf", "GPS", "adobe", "Photoshop", "ICC_PROFILE", "tEXt", "zTXt"]
            {
                assert!(!holds(response.body(), word), "{word} is in the {kind:?}");
                assert!(response.headers().values().all(|value| !holds(value.as_bytes(), word)), "{word}");
            }
        }
    }
}

/// Keys are what strangers call their photos; what belongs to one lies under its own name and nowhere else.
#[tokio::test]
async fn strange_keys_stay_what_they_are() {
    let moto = Moto::start();
    let store = Arc::new(moto.store());
    for bucket in ["m2fp-photos", "m2fp-masks"] {
        let url = format!("{}/{bucket}", moto.endpoint());
        let put = move || ureq::put(&url).header("authorization", SIGNATURE).send_empty().unwrap().status();
        assert_eq!(tokio::task::spawn_blocking(put).await.unwrap(), 200);
    }
    let pipeline = pipeline(&[("OUTPUT_BUCKET", "m2fp-masks")], Some(Arc::clone(&store) as Arc<dyn ObjectStore>));
    let order = Order::configured(&pipeline.config).unwrap();
    for key in [
        "a b+c&d=e.jpg",
        "quote'\"<>\\|.jpg",
        "日本/Zoë 👩‍👧.jpg",
        "%2e%2e%2fetc%2fpasswd.jpg",
        "a//b.jpg",
        "x-amz-meta-m2fp: 1.jpg",
        "?versionId=null#.jpg",
    ] {
        let photo = NewObject {
            bucket: "m2fp-photos".to_owned(),
            key: key.to_owned(),
            body: events::photo(),
            content_type: "image/jpeg",
            metadata: std::collections::BTreeMap::new(),
        };
        store.put(photo, &Standing::Whatever).await.unwrap();
        let at = |bucket: &str, key: &str| ObjectRef {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: None,
            etag: None,
        };
        let done = settle::process(&pipeline.begin(&context()), &at("m2fp-photos", key), &order).await.unwrap();
        assert_eq!(done, Done::Stored, "{key:?}");
        let report = store.get(&at("m2fp-masks", &format!("masks/{key}.json")), 1 << 20).await.unwrap();
        let report: Value = serde_json::from_slice(&report.body).unwrap();
        assert_eq!(report["source"]["key"], key);
        assert!(store.head(&at("m2fp-masks", &format!("masks/{key}.mask.png"))).await.is_ok(), "{key:?}");
    }
}

/// moto wants a signature and does not check it.
const SIGNATURE: &str =
    "AWS4-HMAC-SHA256 Credential=test/20250101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

fn stored_app() -> App {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
    App::local(pipeline(&[("ALLOWED_BUCKETS", "photos"), ("OUTPUT_BUCKET", "masks")], Some(store)))
}

#[tokio::test]
async fn names_that_would_leave_their_place_are_refused() {
    let app = stored_app();
    let ask = async |body: Value| {
        let response = send(&app, "POST /parse", &[JSON], body.to_string()).await;
        (response.status(), response)
    };
    let controls = ["\r\n", "\n", "\0", "\u{7f}", "\u{85}", "\t"];
    let keys = controls.map(|c| format!("a{c}x-amz-acl: public-read")).into_iter();
    for key in keys.chain(["..", "../b", "a/../../b", "./a", ""].map(str::to_owned)) {
        let (status, response) = ask(json!({"s3": {"bucket": "photos", "key": key}})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{key:?} {response:?}");
        let store = json!({"image": "AAAA", "store": {"bucket": "masks", "key_prefix": key}});
        assert_eq!(ask(store).await.0, StatusCode::BAD_REQUEST, "{key:?}");
    }
    for bucket in [
        "photos\r\n",
        "фото",
        "ｐｈｏｔｏｓ",
        "photos\u{200b}",
        "photos/../masks",
        "photos?x",
        "photos@evil.example",
        "PHOTOS",
        "",
    ] {
        let (status, response) = ask(json!({"s3": {"bucket": bucket, "key": "a"}})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bucket:?} {response:?}");
        let store = json!({"image": "AAAA", "store": {"bucket": bucket, "key_prefix": "a"}});
        assert_eq!(ask(store).await.0, StatusCode::BAD_REQUEST, "{bucket:?}");
    }
    for version in ["a\r\nb", "null&acl", "vé", ""] {
        let asked = json!({"s3": {"bucket": "photos", "key": "a", "version_id": version}});
        let (status, _) = ask(asked).await;
        // `&` is harmless: the SDK escapes it in the query.
        assert!(
            status == StatusCode::BAD_REQUEST || version.contains('&') && status == StatusCode::NOT_FOUND,
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn a_forms_names_cannot_break_the_answer() {
    let app = app(&[]);
    for (name, value) in [
        ("image\"; filename=\"x\r\nX-Injected: 1", "x"),
        ("a\u{0}\u{1b}[31m", "x"),
        ("output", "mask\r\nX-Injected: 1"),
        ("mode", "auto\u{0}"),
    ] {
        let body = format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--B--\r\n");
        let form = ("content-type", "multipart/form-data; boundary=B");
        let response = send(&app, "POST /parse", &[form], body).await;
        // The first is a form that holds an image which is none: its lines end where the client ended them.
        assert!(response.status().is_client_error(), "{name:?} {response:?}");
        assert!(response.headers().get("x-injected").is_none());
        let detail = json_of(&response)["detail"].as_str().unwrap().to_owned();
        assert!(!detail.chars().any(char::is_control), "{detail:?}");
    }
}

#[tokio::test]
async fn what_the_function_says_of_itself_cannot_be_sent_to_it() {
    let headers = [
        ("x-m2fp-plan", "mode=evil"),
        ("x-m2fp-warnings", "evil"),
        ("x-request-id", "evil"),
        ("server-timing", "evil"),
        ("etag", "\"evil\""),
        ("x-forwarded-host", "evil.example"),
        ("content-disposition", "attachment; filename=\"evil\r.exe\"".split('\r').next().unwrap()),
    ];
    let response = send(&app(&[]), "POST /parse", &headers, http_support::photo(80, 50)).await;
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in response.headers() {
        assert!(!holds(value.as_bytes(), "evil"), "{name}: {value:?}");
    }
    assert_eq!(header(&response, "x-request-id"), Some("test-1"));
    assert!(header(&response, "content-disposition").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in an `Authorization` header: without the token nobody gets in, and it is not told back.
    #[test]
    fn no_other_token_gets_in(scheme in "(?i:bearer)|Basic|[A-Za-z]{0,8}", sent in "[!-~]{0,64}", pad in " {1,3}") {
        prop_assume!(sent != "the-real-token-0123");
        let app = app(&[("BEARER_TOKEN", "the-real-token-0123")]);
        let value = format!("{scheme}{pad}{sent}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = request("GET /info", &[("authorization", value.as_str())], "");
        let response = runtime.block_on(handle(&app, asked, context()));
        prop_assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        prop_assert!(sent.len() < 8 || !holds(response.body(), &sent));
    }
}
