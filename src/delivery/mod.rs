//! From an object to its outputs, whichever door named it.
//!
//! `access` says who may name which bucket and key. `destination` names what is stored, `work` what was done, and
//! `look` sees what stands. `record` writes the outputs and then the report, and `settle` decides what becomes of an
//! object that an event names.

pub mod access;
pub mod destination;
pub mod look;
pub mod record;
pub mod settle;
pub mod work;
