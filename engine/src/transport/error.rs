//! Errors of every layer as [`WireError`]s, and back into DataFusion.
//!
//! A failure passes through many hands on its way: a file store's error inside Parquet's inside
//! Arrow's inside DataFusion's, shared and wrapped in contexts. [`wire_error`] finds the innermost
//! one that has a meaning of its own, so that its code and retry verdict survive.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::object_store;
use datafusion::parquet::errors::ParquetError;
use inshore_proto::error::{Code, RetryVerdict, WireError};
use tokio::task::JoinError;
use tonic::Status;
use url::Url;

/// The error as it goes over the wire.
pub fn wire_error(error: &DataFusionError) -> WireError {
    match error {
        DataFusionError::Shared(inner) => wire_error(inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            wire_error(inner)
        }
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => wire_error(first),
            None => internal(error),
        },
        DataFusionError::External(inner) => foreign(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow(inner),
        DataFusionError::ParquetError(inner) => parquet(inner),
        DataFusionError::ObjectStore(inner) => store(inner),
        DataFusionError::IoError(inner) => file_system(inner),
        DataFusionError::ExecutionJoin(inner) => joined(inner),
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        // What an expression says about its arguments while it runs.
        | DataFusionError::Execution(_) => plain(Code::InvalidArgument, RetryVerdict::Never, error),
        DataFusionError::NotImplemented(_) => {
            plain(Code::Unsupported, RetryVerdict::Never, error)
        }
        DataFusionError::ResourcesExhausted(_) => {
            plain(Code::ResourceExhausted, RetryVerdict::Retry, error)
        }
        DataFusionError::Internal(_)
        | DataFusionError::Substrait(_)
        | DataFusionError::Ffi(_) => internal(error),
    }
}

/// A wire error as DataFusion hands it on; [`wire_error`] finds it again.
pub fn into_datafusion(error: WireError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The error that a call to `url` ended with, made while `doing` something ("running …").
///
/// A status that a node made carries the node's error. Any other was made by the transport: the
/// node is gone, or is none of ours.
pub fn call_error(status: &Status, url: &Url, doing: &str) -> WireError {
    if let Some(error) = WireError::from_status(status) {
        return error.at_node(url.as_str());
    }
    let why = status_cause(status);
    let (code, retry, message) = match status.code() {
        tonic::Code::Unimplemented => (
            Code::Unsupported,
            RetryVerdict::Never,
            format!("{url} does not offer what was asked for while {doing}: {why}"),
        ),
        tonic::Code::OutOfRange => (
            Code::ResourceExhausted,
            RetryVerdict::Never,
            format!(
                "a message between this node and {url} is larger than {} bytes while {doing}: {why}",
                inshore_proto::MAX_MESSAGE_BYTES
            ),
        ),
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => (
            Code::Forbidden,
            RetryVerdict::Never,
            format!("{url} refused while {doing}: {why}"),
        ),
        _ => return gone(url, &why, doing),
    };
    WireError::new(code, retry, message).at_node(url.as_str())
}

/// The error of a call to a node that does not answer (any more).
pub fn gone(url: &Url, why: &str, doing: &str) -> WireError {
    let message = format!("worker {url} is gone: {why} while {doing}");
    WireError::new(Code::Unavailable, RetryVerdict::Elsewhere, message).at_node(url.as_str())
}

/// The last cause a status knows of; those before it only say where they were.
pub fn status_cause(status: &Status) -> String {
    let mut cause = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !text.is_empty() {
            cause = text;
        }
        source = error.source();
    }
    match cause.is_empty() {
        true => status.code().description().to_owned(),
        false => cause,
    }
}

fn foreign(error: &(dyn StdError + 'static)) -> WireError {
    if let Some(error) = error.downcast_ref::<WireError>() {
        return error.clone();
    }
    if let Some(error) = error.downcast_ref::<inshore_lake::Error>() {
        return lake(error);
    }
    if let Some(error) = error.downcast_ref::<crate::Error>() {
        return engine(error);
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return wire_error(error);
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return arrow(error);
    }
    if let Some(error) = error.downcast_ref::<ParquetError>() {
        return parquet(error);
    }
    if let Some(error) = error.downcast_ref::<object_store::Error>() {
        return store(error);
    }
    if let Some(error) = error.downcast_ref::<JoinError>() {
        return joined(error);
    }
    // Operators that serve several consumers share their errors.
    if let Some(error) = error.downcast_ref::<Arc<JoinError>>() {
        return joined(error);
    }
    if let Some(error) = error.downcast_ref::<Arc<DataFusionError>>() {
        return wire_error(error);
    }
    if let Some(status) = error.downcast_ref::<Status>()
        && let Some(error) = WireError::from_status(status)
    {
        return error;
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return file_system(error);
    }
    match error.source() {
        Some(source) => foreign(source),
        None => WireError::new(Code::Internal, RetryVerdict::Never, error.to_string()),
    }
}

fn engine(error: &crate::Error) -> WireError {
    match error {
        crate::Error::DataFusion(inner) => wire_error(inner),
        crate::Error::NoWorkers { .. } => {
            WireError::new(Code::Unavailable, RetryVerdict::Retry, error.to_string())
        }
    }
}

fn lake(error: &inshore_lake::Error) -> WireError {
    use inshore_lake::error::Code as LakeCode;
    let code = match error.code() {
        LakeCode::Config => Code::InvalidArgument,
        LakeCode::NotFound => Code::NotFound,
        LakeCode::Exists => Code::AlreadyExists,
        LakeCode::Conflict => Code::Conflict,
        LakeCode::Unsupported => Code::Unsupported,
        LakeCode::Corrupt => Code::Corrupt,
        LakeCode::Forbidden => Code::Forbidden,
        LakeCode::Unavailable => Code::Unavailable,
        LakeCode::Internal => Code::Internal,
    };
    let retry = match error.is_retryable() {
        true => RetryVerdict::Retry,
        false => RetryVerdict::Never,
    };
    let wire = WireError::new(code, retry, error.to_string());
    match error {
        inshore_lake::Error::Corrupt { path, .. }
        | inshore_lake::Error::Store { path, .. }
        | inshore_lake::Error::Gone { path, .. } => wire.with_file(path),
        _ => wire,
    }
}

fn arrow(error: &ArrowError) -> WireError {
    let message = error.to_string();
    match error {
        ArrowError::ExternalError(inner) => foreign(inner.as_ref()),
        ArrowError::IoError(_, inner) => file_system(inner),
        ArrowError::NotYetImplemented(_) => {
            WireError::new(Code::Unsupported, RetryVerdict::Never, message)
        }
        ArrowError::MemoryError(_) => {
            WireError::new(Code::ResourceExhausted, RetryVerdict::Retry, message)
        }
        ArrowError::IpcError(_) | ArrowError::CDataInterface(_) | ArrowError::SchemaError(_) => {
            WireError::new(Code::Internal, RetryVerdict::Never, message)
        }
        ArrowError::ParquetError(_) => WireError::new(Code::Corrupt, RetryVerdict::Never, message),
        // What the statement made of its data: casts, divisions, overflows.
        _ => WireError::new(Code::InvalidArgument, RetryVerdict::Never, message),
    }
}

fn parquet(error: &ParquetError) -> WireError {
    match error {
        ParquetError::External(inner) => match foreign(inner.as_ref()) {
            // An error of a decoder that has no meaning elsewhere.
            unknown if unknown.code == Code::Internal => {
                WireError::new(Code::Corrupt, RetryVerdict::Never, error.to_string())
            }
            known => known,
        },
        ParquetError::NYI(_) => {
            WireError::new(Code::Unsupported, RetryVerdict::Never, error.to_string())
        }
        _ => WireError::new(Code::Corrupt, RetryVerdict::Never, error.to_string()),
    }
}

fn store(error: &object_store::Error) -> WireError {
    use object_store::Error as Store;
    let message = error.to_string();
    let (code, retry, path) = match error {
        Store::NotFound { path, .. } => (Code::NotFound, RetryVerdict::Never, Some(path)),
        Store::PermissionDenied { path, .. } | Store::Unauthenticated { path, .. } => {
            (Code::Forbidden, RetryVerdict::Never, Some(path))
        }
        Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            (Code::Unsupported, RetryVerdict::Never, None)
        }
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => {
            (Code::InvalidArgument, RetryVerdict::Never, None)
        }
        _ => (Code::Unavailable, RetryVerdict::Retry, None),
    };
    let wire = WireError::new(code, retry, message);
    match path {
        Some(path) => wire.with_file(path),
        None => wire,
    }
}

fn file_system(error: &io::Error) -> WireError {
    // Libraries hide their errors in this one to pass through interfaces of std.
    if let Some(inner) = error.get_ref() {
        let inner: &(dyn StdError + 'static) = inner;
        let known = foreign(inner);
        if known.code != Code::Internal {
            return known;
        }
    }
    let (code, retry) = match error.kind() {
        io::ErrorKind::NotFound => (Code::NotFound, RetryVerdict::Never),
        io::ErrorKind::PermissionDenied => (Code::Forbidden, RetryVerdict::Never),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
            (Code::ResourceExhausted, RetryVerdict::Retry)
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            (Code::Corrupt, RetryVerdict::Never)
        }
        _ => (Code::Unavailable, RetryVerdict::Retry),
    };
    WireError::new(code, retry, error.to_string())
}

fn joined(error: &JoinError) -> WireError {
    match error.is_panic() {
        // tokio's text holds the panic's message.
        true => WireError::new(
            Code::Panic,
            RetryVerdict::Never,
            format!("a defect ended a task: {error}"),
        ),
        false => WireError::new(Code::Cancelled, RetryVerdict::Never, error.to_string()),
    }
}

/// The error of a caught panic.
pub fn panic_error(payload: &(dyn std::any::Any + Send)) -> WireError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let message = format!("a defect ended a task: panic: {text}");
    WireError::new(Code::Panic, RetryVerdict::Never, message)
}

fn internal(error: &DataFusionError) -> WireError {
    plain(Code::Internal, RetryVerdict::Never, error)
}

fn plain(code: Code, retry: RetryVerdict, error: &DataFusionError) -> WireError {
    WireError::new(code, retry, error.strip_backtrace())
}
