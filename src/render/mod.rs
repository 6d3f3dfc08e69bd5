//! What is made of the labels: images and the report.
