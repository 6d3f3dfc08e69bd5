//! Multi-person human parsing (M2FP) on a CPU, inside a fixed amount of memory.
//!
//! `pipeline` is the program; the doors (`http`, `lambda`, `cli`) bring it photos and carry its answers.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod error;
pub mod geometry;
pub mod http;
pub mod image;
pub mod lambda;
pub mod manifest;
pub mod memory;
pub(crate) mod object_names;
pub mod options;
pub mod parsing;
pub mod pipeline;
pub mod plan;
pub mod render;
pub mod store;
pub mod sys;
pub mod telemetry;
pub mod units;
