//! The object store that is S3, or a server that speaks like it: the only file that knows the S3 SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{Builder, ConfigBag, Credentials, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use futures_util::FutureExt;
use tokio::sync::OnceCell;

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::memory::blob::{Blob, BlobWriter};
use crate::store::trace::trace_id;
use crate::store::{NewObject, ObjectMeta, ObjectRef, ObjectStore, OpenObject, SignedRequest, Standing, UploadTerms};

/// To a connection. Default of the SDK: 3.1 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// To the first byte of an answer, once.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The first try included; the waits between are the SDK's own (exponential, jittered, within its retry quota).
const ATTEMPTS: u32 = 3;
/// Where no region is configured: other servers do not care, AWS names the right one in its error.
const REGION: &str = "us-east-1";

/// What the log says where no server's certificate could be checked. The SDK itself only warns, and then trusts no
/// server; in a debug build it panics.
const NO_AUTHORITIES: &str = "no certificates of authorities (CA) were found, so S3's cannot be checked: install the \
    package ca-certificates, or name a file of them (PEM) in SSL_CERT_FILE";

/// S3 behind the port. The client is made by the first request, so that a cold start without S3 does not pay for it.
pub struct S3Store {
    endpoint: Option<String>,
    client: OnceCell<Client>,
}

impl S3Store {
    /// Credentials and region as every AWS tool finds them; `endpoint`: another server's URL, addressed path-style.
    #[must_use]
    pub fn from_environment(endpoint: Option<String>) -> Self {
        Self { endpoint, client: OnceCell::new() }
    }

    /// With fixed credentials: for tests.
    #[must_use]
    pub fn with_keys(endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        let credentials = Credentials::new(access_key, secret_key, None, None, "fixed");
        let builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(credentials);
        let client = finish(builder, Some(endpoint));
        Self { endpoint: None, client: OnceCell::new_with(Some(client)) }
    }

    async fn client(&self) -> Result<&Client> {
        let make = || async {
            if self.is_over_tls() && rustls_native_certs::load_native_certs().certs.is_empty() {
                return Err(Error::internal(NO_AUTHORITIES));
            }
            let region = RegionProviderChain::default_provider().or_else(REGION);
            let config = aws_config::defaults(BehaviorVersion::latest()).region(region).load().await;
            Ok(finish(Builder::from(&config), self.endpoint.as_deref()))
        };
        self.client.get_or_try_init(make).await
    }

    fn is_over_tls(&self) -> bool {
        self.endpoint.as_deref().is_none_or(|url| !url.starts_with("http://"))
    }
}

fn finish(builder: Builder, endpoint: Option<&str>) -> Client {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    let builder = builder.interceptor(TraceHeader).timeout_config(timeouts);
    let builder = builder.retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    Client::from_conf(match endpoint {
        Some(url) => builder.endpoint_url(url).force_path_style(true).build(),
        None => builder.build(),
    })
}

/// Sends the trace that a request belongs to. After signing: no signature covers it, and no presigned request holds it.
#[derive(Debug)]
struct TraceHeader;

impl Intercept for TraceHeader {
    fn name(&self) -> &'static str {
        "TraceHeader"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if let Some(trace_id) = trace_id() {
            context.request_mut().headers_mut().try_insert("x-amzn-trace-id", trace_id)?;
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn head(&self, at: &ObjectRef) -> Result<ObjectMeta> {
        let request = self.client().await?.head_object().bucket(&at.bucket).key(&at.key);
        let request = request.set_version_id(at.version_id.clone()).set_if_match(at.etag.clone());
        let head = request.send().await.map_err(|e| classify(e, "read", at))?;
        let meta = ObjectMeta {
            bytes: size(head.content_length, at)?,
            etag: head.e_tag,
            version_id: head.version_id,
            metadata: metadata(head.metadata),
        };
        same_version(at, meta)
    }

    async fn open(&self, at: &ObjectRef) -> Result<OpenObject> {
        let request = self.client().await?.get_object().bucket(&at.bucket).key(&at.key);
        let request = request.set_version_id(at.version_id.clone()).set_if_match(at.etag.clone());
        let answer = request.send().await.map_err(|e| classify(e, "read", at))?;
        let meta = ObjectMeta {
            bytes: size(answer.content_length, at)?,
            etag: answer.e_tag,
            version_id: answer.version_id,
            metadata: metadata(answer.metadata),
        };
        let meta = same_version(at, meta)?;
        let (body, bytes, at) = (answer.body, meta.bytes, at.clone());
        Ok(OpenObject { meta, body: async move { read(body, bytes, &at).await }.boxed() })
    }

    async fn put(&self, object: NewObject, over: &Standing) -> Result<bool> {
        let at = ObjectRef { bucket: object.bucket, key: object.key, version_id: None, etag: None };
        let request = self.client().await?.put_object().bucket(&at.bucket).key(&at.key);
        let request = request
            .content_type(object.content_type)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .set_metadata(Some(object.metadata.into_iter().collect()))
            .body(ByteStream::from(object.body));
        let request = match over {
            Standing::Whatever => request,
            Standing::Nothing => request.if_none_match("*"),
            Standing::ETag(etag) => request.if_match(etag),
        };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_unmet(&error) => Ok(false),
            Err(error) => Err(classify(error, "write", &at)),
        }
    }

    async fn delete(&self, bucket: &str, key: &str, standing: &Standing) -> Result<bool> {
        let at = ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None };
        let request = self.client().await?.delete_object().bucket(bucket).key(key);
        let request = match standing {
            Standing::ETag(etag) => request.if_match(etag),
            Standing::Whatever | Standing::Nothing => request,
        };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_unmet(&error) && code(&error) != Some("NoSuchKey") => Ok(false),
            Err(error) => match classify(error, "delete", &at) {
                // S3 does not mind what is not there; some servers do.
                Error::NoObject { .. } => Ok(true),
                error => Err(error),
            },
        }
    }

    async fn presign_get(&self, bucket: &str, key: &str, expires: Duration) -> Result<Secret> {
        let at = ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None };
        let config = PresigningConfig::expires_in(expires).map_err(Error::internal)?;
        let request = self.client().await?.get_object().bucket(bucket).key(key);
        let link = request.presigned(config).await.map_err(|e| classify(e, "sign a link to", &at))?;
        Ok(Secret::new(link.uri().to_owned()))
    }

    async fn presign_put(&self, upload: UploadTerms<'_>, expires: Duration) -> Result<SignedRequest> {
        let UploadTerms { bucket, key, content_type, bytes } = upload;
        let at = ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None };
        let config = PresigningConfig::expires_in(expires).map_err(Error::internal)?;
        let length = i64::try_from(bytes).map_err(Error::internal)?;
        let request = self.client().await?.put_object().bucket(bucket).key(key);
        let request = request.content_type(content_type).content_length(length);
        let signed = request.presigned(config).await.map_err(|e| classify(e, "sign an upload to", &at))?;
        let headers = signed.headers().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Ok(SignedRequest { method: "PUT", url: Secret::new(signed.uri().to_owned()), headers })
    }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// Whether a conditional write found something else standing: another ETag (412), nothing (404), or a write of the same
/// key under way (409; Amazon S3 user guide, "Conditional requests").
fn is_unmet<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    matches!(
        (code(error), status),
        (Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey"), _) | (None, Some(412))
    )
}

fn size(content_length: Option<i64>, at: &ObjectRef) -> Result<u64> {
    content_length
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| Error::Storage { detail: format!("{} came without its size", name(at)), source: None })
}

fn metadata(map: Option<std::collections::HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

/// Not every server honours `If-Match`: whatever came, it must be what was asked for.
fn same_version(at: &ObjectRef, meta: ObjectMeta) -> Result<ObjectMeta> {
    let differs = |wanted: &Option<String>, got: &Option<String>| wanted.is_some() && wanted != got;
    if differs(&at.etag, &meta.etag) { Err(Error::Overtaken) } else { Ok(meta) }
}

/// Reads a body of exactly `bytes`, and never keeps more.
async fn read(mut body: ByteStream, bytes: u64, at: &ObjectRef) -> Result<Blob> {
    let broken = |source| Error::Storage { detail: format!("reading {} broke off", name(at)), source };
    let mut read = BlobWriter::default();
    let mut left = bytes;
    while let Some(chunk) = body.try_next().await.map_err(|e| broken(Some(e.into())))? {
        let more = || broken(Some("more came than its size said".into()));
        left = left.checked_sub(chunk.len() as u64).ok_or_else(more)?;
        read.push(&chunk)?;
    }
    if left == 0 { read.finish() } else { Err(broken(Some("less came than its size said".into()))) }
}

fn name(at: &ObjectRef) -> String {
    format!("s3://{}/{}", at.bucket, at.key)
}

/// The SDK's error as ours. A `HEAD` answer has no body, so the status must do where there is no code.
fn classify<E>(error: SdkError<E, HttpResponse>, action: &str, at: &ObjectRef) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    let code = code(&error).map(str::to_owned);
    match kind(code.as_deref(), status, at.version_id.is_some()) {
        Kind::NoObject => Error::NoObject { detail: format!("there is no {}", name(at)) },
        Kind::Overtaken => Error::Overtaken,
        Kind::Archived => Error::Archived { detail: format!("{} is archived: restore it first", name(at)) },
        Kind::Forbidden => {
            // The reason (which policy, which key) is for the operator.
            tracing::warn!(code, status, "S3 denied access");
            Error::Forbidden { detail: format!("the function is not permitted to {action} {}", name(at)) }
        }
        Kind::Storage => Error::Storage {
            detail: match code {
                Some(code) => format!("it could not {action} {} ({code})", name(at)),
                None => format!("it could not {action} {}", name(at)),
            },
            source: Some(Box::new(error)),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NoObject,
    Overtaken,
    Archived,
    Forbidden,
    Storage,
}

/// What an error is, from S3's code and the status (Amazon S3 API reference, "Error responses").
fn kind(code: Option<&str>, status: Option<u16>, has_version: bool) -> Kind {
    match (code, status) {
        // Expired credentials are renewed; a retry has others.
        (Some("ExpiredToken" | "RequestTimeTooSkewed" | "SlowDown" | "InternalError"), _) => Kind::Storage,
        (Some("NoSuchKey" | "NoSuchBucket" | "NoSuchVersion" | "NotFound"), _) | (_, Some(404)) => Kind::NoObject,
        (Some("PreconditionFailed"), _) | (_, Some(412)) => Kind::Overtaken,
        // 403, but no permission would help: Glacier, Deep Archive, and the archives of Intelligent-Tiering.
        (Some("InvalidObjectState"), _) => Kind::Archived,
        (_, Some(401 | 403)) => Kind::Forbidden,
        // A version that is a delete marker, and a version id that is none.
        (_, Some(400 | 405)) if has_version => Kind::NoObject,
        _ => Kind::Storage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_code_and_status() {
        for (code, status, has_version, expected) in [
            (Some("NoSuchKey"), Some(404), false, Kind::NoObject),
            (Some("NoSuchBucket"), Some(404), false, Kind::NoObject),
            (None, Some(404), false, Kind::NoObject),
            (None, Some(400), true, Kind::NoObject),
            (Some("MethodNotAllowed"), Some(405), true, Kind::NoObject),
            (Some("PreconditionFailed"), Some(412), false, Kind::Overtaken),
            (None, Some(412), false, Kind::Overtaken),
            (Some("InvalidObjectState"), Some(403), false, Kind::Archived),
            (Some("InvalidObjectState"), Some(403), true, Kind::Archived),
            (Some("AccessDenied"), Some(403), false, Kind::Forbidden),
            (Some("SignatureDoesNotMatch"), Some(403), false, Kind::Forbidden),
            (None, Some(403), false, Kind::Forbidden),
            (Some("RequestTimeTooSkewed"), Some(403), false, Kind::Storage),
            (Some("ExpiredToken"), Some(400), true, Kind::Storage),
            (Some("SlowDown"), Some(503), false, Kind::Storage),
            (None, Some(500), false, Kind::Storage),
            (None, Some(429), false, Kind::Storage),
            (Some("PermanentRedirect"), Some(301), false, Kind::Storage),
            (None, Some(400), false, Kind::Storage),
            (None, None, false, Kind::Storage),
        ] {
            assert_eq!(kind(code, status, has_version), expected, "{code:?} {status:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_said_or_an_error() {
        let at = ObjectRef { bucket: "b".into(), key: "k".into(), version_id: None, etag: None };
        let read = |length| read(ByteStream::from_static(b"four"), length, &at);
        assert_eq!(&*read(4).await.unwrap(), b"four");
        for length in [0, 3, 5] {
            assert!(matches!(read(length).await, Err(Error::Storage { .. })), "{length}");
        }
    }
}
