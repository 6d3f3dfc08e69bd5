//! An engine without a network, for unit tests and delivery storms.
