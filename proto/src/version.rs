//! Which nodes understand each other.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::error::{Code, RetryVerdict, WireError};
use crate::names::VERSION_HEADER;

/// Version of the wire contract, plan encoding included. Raised whenever a node of the previous
/// version could misread a message; only nodes of one version work together.
pub const PROTOCOL_VERSION: u32 = 1;

/// Version of this build, for messages and displays only.
pub const BUILD_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Puts this node's protocol version into a call's headers.
pub fn stamp(headers: &mut MetadataMap) {
    headers.insert(VERSION_HEADER, MetadataValue::from(PROTOCOL_VERSION));
}

/// Refuses a call from a node of another protocol version.
pub fn check_headers(headers: &MetadataMap) -> Result<(), WireError> {
    let theirs = headers
        .get(VERSION_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u32>().ok());
    match theirs {
        Some(version) => check(version),
        None => Err(WireError::new(
            Code::VersionMismatch,
            RetryVerdict::Never,
            format!(
                "the call names no protocol version (header {VERSION_HEADER}); \
                 only nodes of an Inshore cluster may make it"
            ),
        )),
    }
}

/// Refuses another protocol version.
pub fn check(theirs: u32) -> Result<(), WireError> {
    if theirs == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(WireError::new(
        Code::VersionMismatch,
        RetryVerdict::Elsewhere,
        format!(
            "the caller speaks protocol version {theirs}, this node {PROTOCOL_VERSION} \
             (build {BUILD_VERSION}); run one build of Inshore on all nodes of a cluster"
        ),
    ))
}
