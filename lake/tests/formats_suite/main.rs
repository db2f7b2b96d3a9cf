//! Whole files in row order: Parquet, Avro and ORC, written by other libraries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod avro;
mod broken;
mod orc;
mod parquet;
mod support;
