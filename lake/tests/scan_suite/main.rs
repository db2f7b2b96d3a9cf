//! Scans of real tables: written here through iceberg-rust, and by other systems.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod codec;
mod expected;
mod lakes;
mod manifests;
mod mapping;
mod pruning;
mod split;
mod tables;
