//! The bearer token. IAM, where it is used instead, is the gateway's business.

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Secret;
use crate::error::{Error, Result};

/// The token that requests must bring, as its digest: comparing digests takes the same time whatever was sent, also
/// for tokens of other lengths.
pub(crate) struct Token([u8; 32]);

impl Token {
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(digest(secret.expose().as_bytes()))
    }

    /// Checks `Authorization: Bearer …` (RFC 6750; the scheme's case does not matter).
    ///
    /// # Errors
    /// `Unauthorized`.
    pub fn check(&self, headers: &HeaderMap) -> Result<()> {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes())).unwrap_or_default();
        if self.0.ct_eq(&digest(sent)).into() { Ok(()) } else { Err(Error::Unauthorized) }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Config;

    fn allows(value: Option<&'static [u8]>) -> bool {
        let config = Config::from_vars([("M2FP_BEARER_TOKEN".to_owned(), "s3cret".to_owned())]).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        Token::new(&config.bearer_token.unwrap()).check(&headers).is_ok()
    }

    #[test]
    fn only_the_token_itself_is_let_in() {
        assert!(allows(Some(b"Bearer s3cret")) && allows(Some(b"bearer  s3cret ")));
        for value in [&b""[..], b"Bearer", b"Bearer ", b"Bearer s3cre", b"Bearer s3crets", b"Basic s3cret", b"s3cret"] {
            assert!(!allows(Some(value)), "{value:?}");
        }
        assert!(!allows(Some(b"Bearer \xff")));
        assert!(!allows(None));
    }
}
