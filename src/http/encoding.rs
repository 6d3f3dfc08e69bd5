//! What is wrapped around bytes on their way: `Content-Encoding`, a form part's `Content-Transfer-Encoding`, and what
//! clients and gateways do to an image without saying so, which is named in the refusal.
//!
//! What comes out of a wrapping counts as the body: it never grows beyond the body's limit, whatever the wrapping claims.

use std::io::{self, Read};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::read::DecoderReader;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

use crate::error::{Error, Limit, Result};
use crate::memory::blob::{self, Blob, MEMORY_BYTES};

/// The standard alphabet, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// More of them on one body is no honest client's doing.
const MAX_CODINGS: usize = 2;

/// What is looked at to tell base64 by what it decodes to, characters: whole groups of four.
const BASE64_HEAD: usize = 24;

/// The body without its content codings (RFC 9110, section 8.4), at most `most` bytes at each step.
///
/// # Errors
/// `Unsupported` that names a coding which is not served; `BadRequest` for a body that is not coded as it says;
/// `TooLarge` with `Limit::Body`.
pub(super) fn decoded(headers: &HeaderMap, mut body: Blob, most: u64) -> Result<Blob> {
    let lines = headers.get_all(header::CONTENT_ENCODING).into_iter().map(|line| line.to_str().unwrap_or("?"));
    let names: Vec<_> = lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    let codings: Vec<_> = names.iter().filter(|name| !matches!(name.as_str(), "" | "identity")).collect();
    if codings.len() > MAX_CODINGS {
        return Err(Error::Unsupported { detail: format!("at most {MAX_CODINGS} content codings are served") });
    }
    // The last coding was applied last.
    for name in codings.into_iter().rev() {
        if body.is_empty() {
            break;
        }
        let inner = decode(name, &body, most)?;
        if inner.len() as u64 > most {
            let detail =
                format!("the body is more than {most} bytes once {name} is undone; at most {most} are accepted");
            return Err(Error::TooLarge { limit: Limit::Body, detail });
        }
        body.release();
        body = inner;
    }
    Ok(body)
}

/// Undoes one coding, and stops one byte beyond `most`.
fn decode(name: &str, body: &[u8], most: u64) -> Result<Blob> {
    match name {
        "gzip" | "x-gzip" => read(name, MultiGzDecoder::new(body), most),
        // The coding is zlib's format; some clients send the bare stream.
        "deflate" if is_zlib(body) => read(name, ZlibDecoder::new(body), most),
        "deflate" => read(name, DeflateDecoder::new(body), most),
        other => {
            let name: String = other.chars().take(40).filter(char::is_ascii_graphic).collect();
            let detail =
                format!("the content coding `{name}` is not served; send the body as it is, or in gzip or deflate");
            Err(Error::Unsupported { detail })
        }
    }
}

fn read(name: &str, decoder: impl Read, most: u64) -> Result<Blob> {
    let bad = |error: io::Error| Error::bad_request(format!("the body is not in {name}, as it says: {error}"));
    blob::read(decoder.take(most.saturating_add(1)), bad)
}

/// RFC 1950: the method is 8, and the two bytes are a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..] if cmf & 0x0f == 8 && u16::from_be_bytes([*cmf, *flags]) % 31 == 0)
}

/// A form part without its `Content-Transfer-Encoding`. (RFC 7578 has retired the header; mail libraries still send it.)
///
/// # Errors
/// `Unsupported` that names another encoding than base64; `BadRequest` for base64 that is none.
pub(super) fn part_decoded(encoding: Option<&str>, part: Blob) -> Result<Blob> {
    match encoding.unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "7bit" | "8bit" | "binary" => Ok(part),
        "base64" => {
            let bad = |error| Error::bad_request(format!("the form's part is not base64, as it says: {error}"));
            from_base64(unbroken(part.iter().copied()), bad)
        }
        other => {
            let name: String = other.chars().take(40).filter(char::is_ascii_graphic).collect();
            let detail =
                format!("the Content-Transfer-Encoding `{name}` is not served; send the part in binary or base64");
            Err(Error::Unsupported { detail })
        }
    }
}

/// JSON without the byte order mark that some editors and libraries put before it.
pub(super) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json)
}

/// Refuses what should be an image's own bytes and was wrapped or changed on its way. `what`: the body or a field.
///
/// # Errors
/// `Unsupported` that says what it is, and what to do.
pub(super) fn check_plain(what: &str, bytes: &[u8]) -> Result<()> {
    let head = &bytes[..bytes.len().min(MEMORY_BYTES)];
    let text = head.trim_ascii_start();
    let refuse = |detail: String| Err(Error::Unsupported { detail });
    let instead = "send the image's bytes as they are, or as `image` of a JSON body";
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:")) {
        refuse(format!("{what} is a data URL; {instead}"))
    } else if is_base64_image(text) {
        refuse(format!("{what} is an image in base64; {instead}"))
    } else if is_mangled(head) {
        refuse(format!(
            "{what} was turned into text on its way, which destroys an image: the gateway lacks binary media types; set \
             them (`*/*` in API Gateway), or send the image in base64 as `image` of a JSON body"
        ))
    } else if head.starts_with(b"\x1f\x8b") {
        refuse(format!("{what} is gzip; say so with `Content-Encoding: gzip`"))
    } else {
        Ok(())
    }
}

/// Whether text is base64, in either alphabet, of what begins as an image.
fn is_base64_image(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let standard = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    let head: Vec<u8> =
        text.iter().filter(|b| !b.is_ascii_whitespace()).take(BASE64_HEAD).map(|b| standard(*b)).collect();
    BASE64.decode(&head[..head.len() / 4 * 4]).is_ok_and(|bytes| begins_as_image(&bytes))
}

/// Whether bytes were decoded as text and encoded again as UTF-8: then everything is UTF-8, and what was none is U+FFFD,
/// or, where they were taken for Latin-1, two bytes.
fn is_mangled(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let latin: Vec<u8> = text.chars().take(16).map_while(latin_byte).collect();
    text.contains('\u{fffd}') || (!head.starts_with(&latin) && begins_as_image(&latin))
}

/// The byte that Latin-1, or Windows' code page 1252 for PNG's first one, has for a character.
fn latin_byte(c: char) -> Option<u8> {
    if c == '\u{2030}' { Some(0x89) } else { u8::try_from(u32::from(c)).ok() }
}

/// Whether bytes begin as a format that people send, served or not.
fn begins_as_image(bytes: &[u8]) -> bool {
    const MAGIC: [&[u8]; 7] = [b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*"];
    MAGIC.iter().any(|magic| bytes.starts_with(magic)) || bytes.get(4..8) == Some(b"ftyp")
}

/// Text as it stands between a JSON string's quotes, its escapes undone (RFC 8259, section 7). What is not ASCII once that
/// is done is a backslash: none of what is read so has any.
#[derive(Clone)]
pub(super) struct Unescaped<'a>(pub(super) &'a [u8]);

impl Unescaped<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken;
        (taken, self.0) = self.0.split_at_checked(count)?;
        Some(taken)
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let first = self.take(1)?[0];
        if first != b'\\' {
            return Some(first);
        }
        Some(match self.take(1)?[0] {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let digits = str::from_utf8(self.take(4)?).unwrap_or_default();
                u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii).unwrap_or(b'\\')
            }
            itself => itself,
        })
    }
}

/// Text without its line breaks and blanks.
pub(super) fn unbroken<I: Iterator<Item = u8> + Clone>(text: I) -> impl Iterator<Item = u8> + Clone {
    text.filter(|byte| !byte.is_ascii_whitespace())
}

/// What base64 holds, padded or not. `bad` makes the error of text that is none.
///
/// # Errors
/// That of `bad`; those of the temporary folder.
pub(super) fn from_base64(text: impl Iterator<Item = u8>, bad: impl Fn(io::Error) -> Error) -> Result<Blob> {
    blob::read(DecoderReader::new(Reading(text), &BASE64), bad)
}

/// Bytes that come one by one, to be read.
struct Reading<I>(I);

impl<I: Iterator<Item = u8>> Read for Reading<I> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        for (place, byte) in out.iter_mut().zip(&mut self.0) {
            *place = byte;
            length += 1;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn decode(codings: &[&str], body: &[u8], most: u64) -> Result<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_str(coding).unwrap());
        }
        decoded(&headers, body.into(), most).map(|body| body.to_vec())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn codings_are_undone_in_their_order() {
        let photo = include_bytes!("../../tests/data/cases/16-photo.jpg.gz");
        assert!(decode(&["gzip"], photo, 1 << 20).unwrap().starts_with(b"\xff\xd8\xff"));
        let body = b"some bytes".repeat(100);
        for (codings, coded) in [
            (&[][..], body.clone()),
            (&["identity"], body.clone()),
            (&["gzip"], gzip(&body)),
            (&["X-GZIP"], gzip(&body)),
            (&["gzip"], [gzip(&body[..300]), gzip(&body[300..])].concat()),
            (&["deflate"], zlib(&body)),
            (&["deflate"], deflate(&body)),
            (&["deflate, gzip"], gzip(&zlib(&body))),
            (&["deflate", "gzip"], gzip(&zlib(&body))),
        ] {
            assert_eq!(decode(codings, &coded, 1000).unwrap(), body, "{codings:?}");
        }
        assert_eq!(decode(&["gzip"], b"", 1000).unwrap(), b"");
    }

    #[test]
    fn what_is_not_served_is_named() {
        for coding in ["br", "zstd", "compress", "aws-chunked"] {
            let error = decode(&[coding], b"body", 1000).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains(&format!("`{coding}`")));
        }
        assert!(matches!(decode(&["gzip, gzip, gzip"], b"body", 1000), Err(Error::Unsupported { .. })));
        let whole = gzip(b"some bytes");
        for bad in [&whole[..whole.len() - 4], b"plain", &[&whole[..], b"more"].concat()] {
            assert!(matches!(decode(&["gzip"], bad, 1000), Err(Error::BadRequest { .. })), "{bad:?}");
        }
    }

    /// A thousand times smaller than what it holds, and never held.
    #[test]
    fn bombs_end_at_the_limit() {
        let zeros = vec![0; 10_000_000];
        for (coding, bomb) in [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("deflate", deflate(&zeros))] {
            assert!(bomb.len() < 20_000);
            let error = decode(&[coding], &bomb, 100_000).unwrap_err();
            assert!(matches!(error, Error::TooLarge { limit: Limit::Body, .. }), "{error:?}");
            assert_eq!(decode(&[coding], &bomb, 10_000_000).unwrap().len(), 10_000_000);
        }
        let twice = gzip(&gzip(&zeros));
        assert!(matches!(decode(&["gzip, gzip"], &twice, 100_000), Err(Error::TooLarge { .. })));
    }

    #[track_caller]
    fn refuses(bytes: &[u8], words: &str) {
        let error = check_plain("the body", bytes).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains(words), "{error}");
    }

    #[test]
    fn what_was_done_to_an_image_is_named() {
        let jpeg: &[u8] = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01";
        let png: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x01\xc8";
        let gif: &[u8] = b"GIF89a\x01\x00\x01\x00\xf7\x00\x00\xff\xff\xff";
        for image in [jpeg, png, gif] {
            check_plain("the body", image).unwrap();
            refuses(String::from_utf8_lossy(image).as_bytes(), "binary media types");
            let base64 = BASE64.encode(image);
            refuses(base64.as_bytes(), "base64");
            refuses(format!("\n\"{base64}\"").as_bytes(), "base64");
            refuses(base64.replace('+', "-").replace('/', "_").as_bytes(), "base64");
            refuses(format!("data:image/x;base64,{base64}").as_bytes(), "data URL");
        }
        for image in [jpeg, png] {
            let latin: String = image.iter().map(|byte| char::from(*byte)).collect();
            refuses(latin.as_bytes(), "binary media types");
        }
        refuses("\u{2030}PNG\r\n".as_bytes(), "binary media types");
        refuses(&gzip(jpeg), "Content-Encoding: gzip");
        for other in [&b""[..], b"hello", b"BM", b"GIF89a", b"<svg/>", "Grüße".as_bytes(), b"\xc3"] {
            check_plain("the body", other).unwrap();
        }
    }

    proptest! {
        /// As serde_json reads it.
        #[test]
        fn escapes_are_undone(text in r"[\x00-\x7f]{0,40}") {
            let all: String = text.bytes().flat_map(|byte| format!("\\u{byte:04X}").into_bytes()).map(char::from).collect();
            let some = serde_json::to_string(&text).unwrap();
            for json in [&some[1..some.len() - 1], &all, &text.replace('\\', r"\\").replace('/', r"\/")] {
                let bytes: Vec<u8> = Unescaped(json.as_bytes()).collect();
                prop_assert_eq!(bytes, text.as_bytes());
            }
        }

        /// Whatever comes, the limit holds and nothing panics.
        #[test]
        fn hostile_bodies_stay_within_the_limit(
            body in prop::collection::vec(any::<u8>(), 0..400),
            coding in 0usize..2,
            most in 0u64..300,
        ) {
            let name = ["gzip", "deflate"][coding];
            for body in [gzip(&body), deflate(&body), zlib(&body), body.clone()] {
                match decode(&[name], &body, most) {
                    Ok(inner) => prop_assert!(inner.len() as u64 <= most),
                    Err(error) => prop_assert_eq!(error.fault(), crate::error::Fault::Client),
                }
            }
            let _ = check_plain("the body", &body);
            let _ = part_decoded(Some("base64"), body[..].into());
        }
    }
}
