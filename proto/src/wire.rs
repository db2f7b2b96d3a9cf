//! Helpers for validating messages on receipt.

use uuid::Uuid;

use crate::error::{Code, RetryVerdict, WireError};

/// Decodes a protobuf message; `what` names it in the error.
pub fn decode<M: prost::Message + Default>(body: &[u8], what: &str) -> Result<M, WireError> {
    M::decode(body).map_err(|error| malformed(what, &error.to_string()))
}

pub(crate) fn malformed(what: &str, why: &str) -> WireError {
    WireError::new(
        Code::InvalidArgument,
        RetryVerdict::Never,
        format!("malformed {what}: {why}"),
    )
}

/// Unwraps a field that a message must have.
pub(crate) fn required<T>(field: Option<T>, name: &str) -> Result<T, WireError> {
    field.ok_or_else(|| malformed(name, "the field is missing"))
}

pub(crate) fn uuid(bytes: &[u8], name: &str) -> Result<Uuid, WireError> {
    Uuid::from_slice(bytes).map_err(|error| malformed(name, &error.to_string()))
}

pub(crate) fn url(text: &str, name: &str) -> Result<url::Url, WireError> {
    let url = url::Url::parse(text).map_err(|error| malformed(name, &error.to_string()))?;
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(url),
        _ => Err(malformed(name, &format!("{text:?} names no host"))),
    }
}

pub(crate) fn index(value: u64, name: &str) -> Result<usize, WireError> {
    usize::try_from(value).map_err(|_| malformed(name, &format!("{value} is out of range")))
}
