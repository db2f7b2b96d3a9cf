//! Compiles the `.proto` files. `protox` parses them in Rust, so that no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 6] = [
    "proto/inshore/v1/error.proto",
    "proto/inshore/v1/task.proto",
    "proto/inshore/v1/fragment.proto",
    "proto/inshore/v1/metrics.proto",
    "proto/inshore/v1/exchange.proto",
    "proto/inshore/v1/membership.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let files: Vec<PathBuf> = FILES.iter().map(|file| root.join(file)).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [root.join("proto")])?;
    let mut config = prost_build::Config::new();
    // Plans, work units and sketches are handed on, not looked into: no copy when decoding.
    config.bytes(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
