//! Events that nobody should send: whatever is done to an event, the dispatcher neither panics nor blames itself.

use std::sync::{Arc, LazyLock};

use m2fp::pipeline::Pipeline;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::support::events::{ALL, BUCKET, KEY, OUTPUT_BUCKET, event, invoke, photo};
use crate::support::http::{MemoryStore, pipeline};

static PIPELINE: LazyLock<Arc<Pipeline>> = LazyLock::new(|| {
    let store = MemoryStore::with(BUCKET, KEY, photo());
    pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET)], Some(store))
});

/// One change, somewhere in an event.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Value),
    Remove,
    /// Text cut at a fraction of its length.
    Cut(Index),
    /// Text put into text.
    Insert(Index, String),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "",
            " ",
            "\u{0}",
            "%",
            "%zz",
            "%ff",
            "+",
            "/",
            "//",
            "..",
            "?",
            "#",
            "@:99999",
            "http://[",
            "a\r\nb: c",
            "é",
            "\u{1f600}",
            "null",
            "-1",
            "18446744073709551616",
            "data:;base64,",
            "data:image/png;base64,AAAA",
            "\"",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,24}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| serde_json::Number::from_f64(x).map_or(Value::Null, Value::Number)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        value().prop_map(Mutation::Replace),
        Just(Mutation::Remove),
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), text()).prop_map(|(at, text)| Mutation::Insert(at, text)),
    ]
}

/// JSON pointers to everything in `value`, itself included.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                pointers(field, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn mutate(event: &mut Value, place: Index, mutation: Mutation) {
    let mut places = Vec::new();
    pointers(event, "", &mut places);
    let place = &places[place.index(places.len())];
    if let (Mutation::Remove, Some((parent, name))) = (&mutation, place.rsplit_once('/')) {
        if let Some(Value::Object(fields)) = event.pointer_mut(parent) {
            fields.remove(name);
        }
        return;
    }
    let Some(target) = event.pointer_mut(place) else { return };
    match (mutation, target) {
        (Mutation::Replace(value), target) => *target = value,
        (Mutation::Cut(at), Value::String(text)) => text.truncate(boundary(text, at)),
        (Mutation::Insert(at, more), Value::String(text)) => text.insert_str(boundary(text, at), &more),
        _ => {}
    }
}

fn boundary(text: &str, at: Index) -> usize {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    boundaries[at.index(boundaries.len())]
}

/// Invokes; a panic fails the test by itself.
fn check(event: &Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(invoke(&PIPELINE, event)) {
        Ok(answer) => assert_ne!(answer["statusCode"], 500, "{event}"),
        Err(failure) => assert_ne!(failure.name, "internal", "{event}: {failure}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_event_is_refused_or_served(
        name in select(ALL.to_vec()),
        mutations in prop::collection::vec((any::<Index>(), mutation()), 1..5),
    ) {
        let mut event = event(name);
        for (place, mutation) in mutations {
            mutate(&mut event, place, mutation);
        }
        check(&event);
    }

    #[test]
    fn any_json_is_refused_or_served(event in value()) {
        check(&event);
    }

    #[test]
    fn any_path_and_query_are_answered(path in text(), query in text(), host in text(), stage in text()) {
        let mut rest = event("apigw-rest-page");
        rest["path"] = json!(path);
        rest["headers"] = json!({"Host": host, "X-Forwarded-Proto": host});
        rest["queryStringParameters"] = json!({&query: query});
        rest["requestContext"]["stage"] = json!(stage);
        check(&rest);
        let mut http_api = event("apigw-http");
        http_api["rawPath"] = json!(path);
        http_api["rawQueryString"] = json!(query);
        http_api["headers"] = json!({"host": host, "content-type": host});
        http_api["requestContext"]["stage"] = json!(stage);
        check(&http_api);
    }
}
