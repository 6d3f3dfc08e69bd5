//! The HTTP door, in plain `http` types: Lambda and `m2fp serve` share it.

pub mod body;
