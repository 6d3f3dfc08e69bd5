//! From queries to labels and persons.
