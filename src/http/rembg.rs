//! `POST /api/remove`, the route of rembg's server (`rembg s`, github.com/danielgatis/rembg): a form with the photo in
//! the field `file`, and its people cut out as the answer. Of rembg's options `om` (only the mask) is heeded.

use http::request::Parts;

use super::body;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::memory::blob::Blob;
use crate::options::{self, Options, OutputKind, SWITCHES};
use crate::pipeline::Source;

/// The field and parameter that is heeded.
const ONLY_MASK: &str = "om";

/// rembg's other fields and parameters: the model, alpha matting, edges, background colour.
const IGNORED: [&str; 10] = ["model", "a", "af", "ab", "ae", "ppm", "dc", "vm", "bgc", "extras"];

/// What is said to rembg's `GET`, which would fetch the photo from an address.
pub(super) const NO_FETCH: &str =
    "; no photo is fetched from an address: send it itself with POST, in the form's field `file`";

/// The photo, what is made of it, and what of the request is not heeded.
///
/// # Errors
/// `BadRequest` (no form, no `file`, an `om` that is no switch), `TooLarge` with `Limit::Body`.
pub(super) async fn read(
    parts: &Parts,
    content_type: Option<&str>,
    body: &Blob,
    config: &Config,
) -> Result<(Source, Options, Vec<String>)> {
    let form = body::photo_form(content_type, body, config, ("file", &[ONLY_MASK])).await?;
    let query: Vec<_> = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).collect();
    let names = query.iter().map(|(name, _)| &**name).chain(form.fields.iter().map(|(name, _)| name.as_str()));
    let known = |name: &str| name == ONLY_MASK || IGNORED.contains(&name);
    if let Some(unknown) = names.clone().find(|name| !known(name)) {
        return Err(Error::bad_request(format!(
            "unknown field or parameter `{}`; known are file, {ONLY_MASK}, {}",
            body::printable(unknown),
            IGNORED.join(", ")
        )));
    }
    let ignored: Vec<_> = IGNORED.into_iter().filter(|one| names.clone().any(|name| name == *one)).collect();
    let warnings = match ignored.as_slice() {
        [] => Vec::new(),
        ignored => vec![format!("rembg's options {} are ignored", ignored.join(", "))],
    };
    let in_query = query.iter().filter(|(name, _)| name == ONLY_MASK).map(|(_, text)| options::switch(text));
    let in_form = form.fields.iter().filter(|(name, _)| name == ONLY_MASK);
    let in_form = in_form.map(|(_, text)| std::str::from_utf8(text).ok().and_then(options::switch));
    // The last one counts, as in rembg, and a form's after a query's.
    let mut only_mask = false;
    for switch in in_query.chain(in_form) {
        only_mask = switch.ok_or_else(|| Error::bad_request(format!("`{ONLY_MASK}` is {SWITCHES}")))?;
    }
    let options = Options::check(&config.default_options(), &[OutputKind::Cutout])?;
    Ok((Source::Bytes(form.image), Options { only_mask, ..options }, warnings))
}
