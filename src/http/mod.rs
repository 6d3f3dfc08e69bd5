//! The HTTP door, in plain `http` types: Lambda and `m2fp serve` share it.
//!
//! [`routes::handle`] is the whole of it: a request with its body in, a response with its body out, never an error.
//! The other files each do one step of that: who may ask (`auth`), what is asked (`body`, `negotiate`), what is
//! answered (`respond`, `describe`, `page`, `uploads`), which headers surround it (`headers`), `json`, and failures (`problem`).

pub mod app;
pub mod auth;
pub mod body;
pub mod describe;
mod encoding;
pub mod headers;
mod json;
pub(crate) mod negotiate;
pub mod page;
pub mod problem;
mod rembg;
pub(crate) mod respond;
pub mod routes;
pub mod uploads;

pub use app::App;
pub use routes::{BasePath, handle};
