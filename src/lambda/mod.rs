//! The AWS doors: the only folder that knows AWS.
