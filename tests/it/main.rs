//! The integration tests, one binary: linking is most of what a test binary costs.

mod support;

mod batches;
mod clients;
mod command_line;
mod deadline;
mod deliveries;
mod dispatch_doors;
mod dispatch_hostile;
mod dispatch_runtime_api;
mod dispatch_sources;
mod emulator;
mod engine_memory;
mod flip;
mod folder;
mod golden;
mod hostile;
mod http_parse;
mod http_routes;
mod http_serve;
#[cfg(feature = "avif")]
mod image_avif;
mod image_cases;
#[cfg(feature = "heic")]
mod image_heic;
mod image_hostile;
mod image_memory;
mod image_pillow;
mod letterbox;
mod logs;
mod parsing_memory;
mod parsing_reference;
mod render_judges;
mod runtime_api;
mod s3_conditions;
mod s3_trigger;
mod s3_wire;
mod security;
mod settle;
mod sqs_queue;
mod tiled;
mod uploads;
mod walls;
