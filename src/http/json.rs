//! Answers in JSON, and objects in requests.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `value` as an answer of 200.
///
/// # Errors
/// `Internal` for a value that JSON cannot hold.
pub fn response(value: &impl Serialize) -> Result<Response<Bytes>> {
    let mut response = Response::new(bytes(value)?);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `value` as the bytes of a body.
///
/// # Errors
/// `Internal` for a value that JSON cannot hold.
pub fn bytes(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Error::internal)
}

/// The most JSON that is read of what says something of a photo and does not hold it, bytes: an object's key, whose 1,024
/// bytes may all be escapes, fits.
const MAX_BYTES: usize = 16 * 1024;

/// Reads a JSON object.
///
/// # Errors
/// What is wrong with it, for a sentence.
pub(super) fn read<T: DeserializeOwned>(json: &[u8]) -> std::result::Result<T, String> {
    if json.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, and at most {MAX_BYTES} are read", json.len()));
    }
    serde_json::from_slice(json).map(|Object(value)| value).map_err(|error| error.to_string())
}

/// A value that is a JSON object. Of itself serde takes an array for a struct, too, field by field.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}
