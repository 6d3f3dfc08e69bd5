//! Content negotiation: what to make where the request does not say so, and whether the client has it already.

use http::{HeaderMap, header};

use crate::options::OutputKind;

/// What `Accept` can choose, in our order of preference: first wins where the client has none.
const CHOICES: [(&str, &str, OutputKind); 3] = [
    ("image", "png", OutputKind::Mask),
    ("image", "jpeg", OutputKind::Overlay),
    ("application", "json", OutputKind::Json),
];

/// The output that `Accept` asks for (RFC 9110, section 12.5.1): the greatest q-value wins; among equals the type that
/// is named most exactly, so that `application/json, */*` is JSON; then `mask`, `overlay`, `json`.
///
/// No header, or none of the three acceptable: `mask`. The RFC lets a server disregard the header, and a client that
/// cares names its output.
#[must_use]
pub(crate) fn default_output(headers: &HeaderMap) -> OutputKind {
    let ranges: Vec<Range<'_>> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    let mut best = (OutputKind::Mask, Weight { q: 0, exactness: 0 });
    for (kind, subtype, output) in CHOICES {
        let weight = ranges.iter().filter_map(|range| range.weight(kind, subtype)).max_by_key(|w| w.exactness);
        if let Some(weight) = weight.filter(|weight| weight.q > 0 && *weight > best.1) {
            best = (output, weight);
        }
    }
    best.0
}

/// How much a type is wanted: by q in thousandths, then by how exactly it was named (2 whole, 1 `type/*`, 0 `*/*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    q: u16,
    exactness: u8,
}

/// One media range of `Accept`; parameters but `q` are passed over.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    q: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let q = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(Some(1.0), |(_, q)| q.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)))?;
        Some(Self { kind, subtype, q: (q * 1000.0).round() as u16 })
    }

    fn weight(&self, kind: &str, subtype: &str) -> Option<Weight> {
        let same_kind = self.kind.eq_ignore_ascii_case(kind);
        let exactness = match (self.kind, self.subtype) {
            (_, s) if same_kind && s.eq_ignore_ascii_case(subtype) => 2,
            (_, "*") if same_kind => 1,
            ("*", "*") => 0,
            _ => return None,
        };
        Some(Weight { q: self.q, exactness })
    }
}

/// Whether `Accept-Encoding` names gzip, and not only to refuse it (RFC 9110, section 12.5.3). `*` is passed over: who
/// means gzip names it.
#[must_use]
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let (name, parameter) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = parameter.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|q| q > 0.0)
    })
}

/// Whether `If-None-Match` names `etag`, compared weakly (RFC 9110, section 8.8.3.2). `*` is passed over: on `POST` it
/// would ask for a failure, not for a saving.
#[must_use]
pub(crate) fn has_current(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepts(values: &[&str]) -> OutputKind {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        default_output(&headers)
    }

    #[test]
    fn the_type_named_decides() {
        assert_eq!(accepts(&[]), OutputKind::Mask);
        assert_eq!(accepts(&["*/*"]), OutputKind::Mask);
        assert_eq!(accepts(&["image/png"]), OutputKind::Mask);
        assert_eq!(accepts(&["image/jpeg"]), OutputKind::Overlay);
        assert_eq!(accepts(&["IMAGE/JPEG"]), OutputKind::Overlay);
        assert_eq!(accepts(&["application/json; charset=utf-8"]), OutputKind::Json);
        assert_eq!(accepts(&["image/*"]), OutputKind::Mask);
        assert_eq!(accepts(&["application/*"]), OutputKind::Json);
    }

    #[test]
    fn q_values_order_and_exclude() {
        assert_eq!(accepts(&["image/png;q=0.5, image/jpeg;q=0.9, application/json;q=0.1"]), OutputKind::Overlay);
        assert_eq!(accepts(&["image/png;q=0.5", "application/json"]), OutputKind::Json);
        assert_eq!(accepts(&["image/png;q=0, */*"]), OutputKind::Overlay);
        assert_eq!(accepts(&["image/*;q=0.2, image/jpeg;q=0, application/json;q=0.1"]), OutputKind::Mask);
        assert_eq!(accepts(&["application/json, text/plain, */*"]), OutputKind::Json);
        assert_eq!(accepts(&["text/html,image/avif,image/webp,*/*;q=0.8"]), OutputKind::Mask);
    }

    #[test]
    fn nothing_acceptable_or_nonsense_is_a_mask() {
        for value in ["text/html", "image/png;q=0", "image/jpeg;q=2", ";;,,", "image", "image/jpeg;q=NaN"] {
            assert_eq!(accepts(&[value]), OutputKind::Mask, "{value}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_name_it() {
        for (value, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip, deflate, br, zstd", true),
            ("gzip;q=0", false),
            ("gzip;q=x", false),
            ("br", false),
            ("*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn known_etags_are_found_in_lists_and_weakly() {
        let names = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            has_current(&headers, "\"abc\"")
        };
        assert!(names("\"abc\"") && names("\"x\", \"abc\"") && names("W/\"abc\""));
        assert!(!names("\"abcd\"") && !names("abc") && !names("*") && !names(""));
        assert!(!has_current(&HeaderMap::new(), "\"abc\""));
    }
}
