//! Which request does what.
//!
//! | route | methods | token |
//! |---|---|---|
//! | `/` | GET: the page; POST: as `/parse` | POST |
//! | `/parse`, `/plan`, `/uploads`, `/api/remove` | POST | yes |
//! | `/info` | GET | yes |
//! | `/health`, `/openapi.json`, `/sample.jpg`, `/sample-portrait.jpg`, `/sample-photographer.jpg` | GET | no |
//!
//! HEAD goes with every GET, OPTIONS with every route.
//!
//! The function does not know where it is mounted: gateways put a stage (`/Prod`) or a custom domain's base path in
//! front. A door that knows its stage names it with [`BasePath`], which is taken off first. Of what remains the end
//! is the route and anything before it a base path, which may not contain a route's name itself: `/m2fp/parse`
//! is `/parse`, `/health/parse` is nothing. `/` alone has no name, so under a base path that the door does not know
//! it is not found. Empty segments, and so a trailing slash, do not count; percent-encoding is not undone.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::app::App;
use super::body::{self, Asked};
use super::page::Sample;
use super::{describe, encoding, headers, negotiate, problem, rembg, respond, uploads};
use crate::delivery::destination::Destination;
use crate::delivery::record;
use crate::error::{Error, Result};
use crate::memory::blob::Blob;
use crate::options::{Options, RawOptions};
use crate::pipeline::{Attempt, Context, Source};
use crate::telemetry::emf::Ended;

/// The path the function is mounted at, `/Prod` for example; a request's extension, set by the door that knows it.
#[derive(Debug, Clone)]
pub struct BasePath(pub String);

/// Everything that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Home,
    Parse,
    Plan,
    Uploads,
    Health,
    Info,
    OpenApi,
    Sample(Sample),
    Remove,
}

/// What a route does for a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Page,
    Parse,
    Plan,
    Upload,
    Health,
    Info,
    OpenApi,
    Sample(Sample),
    Remove,
    Preflight,
}

impl Route {
    /// Every route but `/`, by its name.
    const NAMED: [(&'static str, Self); 10] = [
        ("parse", Self::Parse),
        ("plan", Self::Plan),
        ("uploads", Self::Uploads),
        ("health", Self::Health),
        ("info", Self::Info),
        ("openapi.json", Self::OpenApi),
        ("sample.jpg", Self::Sample(Sample::Scene)),
        ("sample-portrait.jpg", Self::Sample(Sample::Portrait)),
        ("sample-photographer.jpg", Self::Sample(Sample::Photographer)),
        ("api/remove", Self::Remove),
    ];

    fn find(path: &str, base: Option<&BasePath>) -> Result<Self> {
        let mut segments: Vec<&str> = segments(path).collect();
        if let Some(base) = base {
            let base: Vec<&str> = self::segments(&base.0).collect();
            if segments.starts_with(&base) {
                segments.drain(..base.len());
            }
        }
        if segments.is_empty() {
            return Ok(Self::Home);
        }
        let no_route = || Error::NoRoute { path: path.chars().take(200).collect() };
        let (route, before) = Self::at_end(&segments).ok_or_else(no_route)?;
        let holds_a_route = (1..=before.len()).any(|end| Self::at_end(&before[..end]).is_some());
        if holds_a_route { Err(no_route()) } else { Ok(route) }
    }

    /// The route whose name the segments end with, and the segments before it.
    fn at_end<'s, 'p>(segments: &'s [&'p str]) -> Option<(Self, &'s [&'p str])> {
        Self::NAMED.into_iter().find_map(|(name, route)| {
            let name: Vec<&str> = name.split('/').collect();
            Some((route, segments.strip_suffix(name.as_slice())?))
        })
    }

    /// The methods it accepts, as `Allow` lists them.
    const fn methods(self) -> &'static str {
        match self {
            Self::Home => "GET, HEAD, POST, OPTIONS",
            Self::Parse | Self::Plan | Self::Uploads | Self::Remove => "POST, OPTIONS",
            Self::Health | Self::Info | Self::OpenApi | Self::Sample(_) => "GET, HEAD, OPTIONS",
        }
    }

    fn action(self, method: &Method) -> Result<Action> {
        let is_get = method == Method::GET || method == Method::HEAD;
        Ok(match self {
            _ if method == Method::OPTIONS => Action::Preflight,
            Self::Home if is_get => Action::Page,
            Self::Health if is_get => Action::Health,
            Self::Info if is_get => Action::Info,
            Self::OpenApi if is_get => Action::OpenApi,
            Self::Sample(sample) if is_get => Action::Sample(sample),
            Self::Home | Self::Parse if method == Method::POST => Action::Parse,
            Self::Plan if method == Method::POST => Action::Plan,
            Self::Uploads if method == Method::POST => Action::Upload,
            Self::Remove if method == Method::POST => Action::Remove,
            _ => {
                let hint = if self == Self::Remove && is_get { rembg::NO_FETCH } else { "" };
                return Err(Error::Method { allowed: self.methods(), hint });
            }
        })
    }
}

impl Action {
    /// Whether it is done for anybody. The page has nothing to hide, and browsers send no token with OPTIONS.
    const fn is_public(self) -> bool {
        match self {
            Self::Page | Self::Health | Self::OpenApi | Self::Sample(_) | Self::Preflight => true,
            Self::Parse | Self::Plan | Self::Upload | Self::Info | Self::Remove => false,
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Answers a request. Failures are answers too.
pub async fn handle(app: &App, request: Request<impl Into<Blob>>, context: Context) -> Response<Bytes> {
    let is_head = request.method() == Method::HEAD;
    let origin = request.headers().get(header::ORIGIN).cloned();
    let request = request.map(Into::into);
    let mut response =
        answer(app, request, &context).await.unwrap_or_else(|error| problem::response(&error, &context.request_id));
    headers::surround(&mut response, &app.pipeline.config, origin.as_ref(), &context.request_id);
    if is_head {
        *response.body_mut() = Bytes::new();
    }
    response
}

async fn answer(app: &App, request: Request<Blob>, context: &Context) -> Result<Response<Bytes>> {
    let (parts, body) = request.into_parts();
    let route = Route::find(parts.uri.path(), parts.extensions.get::<BasePath>())?;
    let action = route.action(&parts.method)?;
    if let (Some(token), false) = (&app.token, action.is_public()) {
        token.check(&parts.headers)?;
    }
    match action {
        Action::Page => Ok(app.page.response(&app.pipeline, app.max_answer_bytes.is_some(), &parts.headers).await),
        Action::Health => describe::health(&app.pipeline),
        Action::Info => describe::info(app, app.encoded_room(&parts), app.room(&parts, None)),
        Action::OpenApi => Ok(describe::open_api()),
        Action::Sample(sample) => Ok(sample.response()),
        Action::Preflight => Ok(preflight(app, route)),
        Action::Parse | Action::Remove => parse(app, action, &parts, body, context).await,
        Action::Plan => context.in_time(Box::pin(plan(app, &parts, body, context))).await,
        Action::Upload => {
            let body = encoding::decoded(&parts.headers, body, app.pipeline.config.max_body_bytes)?;
            uploads::sign(&app.pipeline, encoding::without_mark(&body)).await
        }
    }
}

fn preflight(app: &App, route: Route) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(route.methods()));
    headers::allow_cross_origin(response.headers_mut(), &app.pipeline.config, route.methods());
    response
}

/// A checked request to parse or to plan a photo.
struct ParseRequest {
    source: Source,
    options: Options,
    /// Where the outputs are stored; `None`: the answer carries the one asked for.
    destination: Option<Destination>,
    /// What of the request is not heeded.
    warnings: Vec<String>,
}

/// Parses, answers, and only then counts: an answer that could not be stored or sent was not parsed for anybody.
async fn parse(app: &App, action: Action, parts: &Parts, body: Blob, context: &Context) -> Result<Response<Bytes>> {
    let attempt = app.pipeline.begin(context);
    let answer = context.in_time(Box::pin(parse_and_answer(app, action, &attempt, parts, body))).await;
    attempt.count(match &answer {
        Ok(response) if response.status() == StatusCode::NOT_MODIFIED => Ended::Skipped,
        answer => Ended::of(answer),
    });
    answer
}

async fn parse_and_answer(
    app: &App,
    action: Action,
    attempt: &Attempt<'_>,
    parts: &Parts,
    body: Blob,
) -> Result<Response<Bytes>> {
    let request = match action {
        Action::Remove => read_rembg(app, parts, body).await?,
        _ => read_request(app, parts, body).await?,
    };
    let ParseRequest { source, options, destination, warnings } = request;
    if let Some(destination) = destination {
        let (outcome, report) = record::parse_and_store(attempt, source, options, &destination).await?;
        return respond::stored(&outcome, &report);
    }
    let kind = options.outputs[0];
    let mut prepared = attempt.prepare(source, options).await?;
    prepared.decision.plan.warnings.extend(warnings);
    if prepared.decision.refusal.is_none() && negotiate::has_current(&parts.headers, &prepared.etag) {
        return Ok(respond::not_modified(kind, &prepared));
    }
    let outcome = attempt.run(prepared).await?;
    respond::one(app, app.room(parts, attempt.context.remaining()), kind, outcome).await
}

/// Plans alone: a photo that would be refused is a finding here, not a failure.
async fn plan(app: &App, parts: &Parts, body: Blob, context: &Context) -> Result<Response<Bytes>> {
    let ParseRequest { source, options, warnings, .. } = read_request(app, parts, body).await?;
    match app.pipeline.begin(context).prepare(source, options).await {
        Ok(mut prepared) => {
            prepared.decision.plan.warnings.extend(warnings);
            describe::plan(&prepared)
        }
        Err(error) if error.is_about_the_photo() => describe::refused(&error),
        Err(error) => Err(error),
    }
}

/// The checked request. The query wins over options in the body; `Accept` decides where neither names an output, and
/// the configured outputs where they are stored.
async fn read_request(app: &App, parts: &Parts, body: Blob) -> Result<ParseRequest> {
    let query = RawOptions::from_query(parts.uri.query().unwrap_or_default())?;
    let config = &app.pipeline.config;
    let body = encoding::decoded(&parts.headers, body, config.max_body_bytes)?;
    let Asked { source, options: raw, target, warnings } = body::parse(content_type(parts), body, config).await?;
    let default_outputs = match target {
        Some(_) => app.pipeline.config.outputs.clone(),
        None => vec![negotiate::default_output(&parts.headers)],
    };
    let check = if target.is_some() { Options::check_stored } else { Options::check };
    // What the body says is checked also where the query says otherwise.
    check(&raw, &default_outputs)?;
    let options = check(&query.or(raw).or(config.default_options()), &default_outputs)?;
    if target.is_none() && options.outputs.len() > 1 {
        return Err(Error::bad_request(
            "an HTTP answer carries one output: name one in `output`, or have all of them stored with `store` in a JSON \
             body",
        ));
    }
    if target.is_some() && app.pipeline.store.is_none() {
        return Err(Error::bad_request("no object store is configured, so `store` cannot be served"));
    }
    let destination = target.as_ref().map(Destination::for_target).transpose()?;
    Ok(ParseRequest { source, options, destination, warnings })
}

/// As [`read_request`], of a request to rembg's route.
async fn read_rembg(app: &App, parts: &Parts, body: Blob) -> Result<ParseRequest> {
    let config = &app.pipeline.config;
    let body = encoding::decoded(&parts.headers, body, config.max_body_bytes)?;
    let (source, options, warnings) = rembg::read(parts, content_type(parts), &body, config).await?;
    Ok(ParseRequest { source, options, destination: None, warnings })
}

fn content_type(parts: &Parts) -> Option<&str> {
    parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str, base: Option<&str>) -> Option<Route> {
        Route::find(path, base.map(|b| BasePath(b.to_owned())).as_ref()).ok()
    }

    #[test]
    fn routes_are_found_with_and_without_a_trailing_slash() {
        assert_eq!(find("/", None), Some(Route::Home));
        assert_eq!(find("", None), Some(Route::Home));
        for (name, route) in Route::NAMED {
            assert_eq!(find(&format!("/{name}"), None), Some(route));
            assert_eq!(find(&format!("/{name}/"), None), Some(route));
        }
        for path in ["/nothing", "/parse/x", "/PARSE", "/parse%2f", "/..", "/parse.html"] {
            assert_eq!(find(path, None), None, "{path}");
        }
    }

    #[test]
    fn a_stage_that_the_door_names_is_taken_off() {
        assert_eq!(find("/Prod", Some("/Prod")), Some(Route::Home));
        assert_eq!(find("/Prod/", Some("/Prod")), Some(Route::Home));
        assert_eq!(find("/Prod/parse/", Some("/Prod")), Some(Route::Parse));
        assert_eq!(find("/parse", Some("/Prod")), Some(Route::Parse));
        assert_eq!(find("/Production", Some("/Prod")), None);
        assert_eq!(find("/parse/plan", Some("/parse")), Some(Route::Plan), "a stage may have a route's name");
    }

    #[test]
    fn an_unknown_base_path_is_passed_over_unless_it_is_ambiguous() {
        assert_eq!(find("/Prod/parse", None), Some(Route::Parse));
        assert_eq!(find("/Prod/team/m2fp/parse", Some("/Prod")), Some(Route::Parse));
        assert_eq!(find("/Prod", None), None);
        assert_eq!(find("/health/parse", None), None);
        assert_eq!(find("/parse/parse", None), None);
        assert_eq!(find("/Prod/api/remove", None), Some(Route::Remove));
        assert_eq!(find("/Prod/remove", Some("/Prod")), None);
        assert_eq!(find("/api/remove/parse", None), None);
        assert_eq!(find("/api/remove/team/parse", None), None);
    }

    #[test]
    fn every_method_is_done_or_named_in_allow() {
        for route in [Route::Home].into_iter().chain(Route::NAMED.map(|(_, route)| route)) {
            for method in ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"] {
                let listed = route.methods().split(", ").any(|m| m == method);
                let done = route.action(&method.parse().unwrap());
                assert_eq!(done.is_ok(), listed, "{route:?} {method}");
            }
        }
    }

    /// The document and the table say the same: every path, its methods, and which of them need a token.
    #[test]
    fn the_open_api_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(describe::OPEN_API).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let routes = Route::NAMED.map(|(name, route)| (format!("/{name}"), route));
        let routes: Vec<_> = routes.into_iter().chain([("/".to_owned(), Route::Home)]).collect();
        assert_eq!(paths.len(), routes.len());
        for (path, route) in routes {
            let operations = paths[&path].as_object().unwrap();
            let documented: Vec<_> = operations.keys().map(|m| m.to_uppercase()).collect();
            let served: Vec<_> = route.methods().split(", ").filter(|m| !matches!(*m, "HEAD" | "OPTIONS")).collect();
            assert_eq!(documented, served, "{path}");
            for (method, operation) in operations {
                let action = route.action(&method.to_uppercase().parse().unwrap()).unwrap();
                let needs_no_token = operation["security"].as_array().unwrap().is_empty();
                assert_eq!(needs_no_token, action.is_public(), "{method} {path}");
                assert_eq!(operation["responses"].get("401").is_none(), action.is_public(), "{method} {path}");
            }
        }
    }
}
