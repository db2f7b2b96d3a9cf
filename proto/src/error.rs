//! Errors that keep their type and their retry verdict across the wire.
//!
//! The mapping to a gRPC status is [`WireError::to_status`] and back [`WireError::from_status`];
//! there is no other. The status carries a gRPC code that any client understands, a short message,
//! and the whole error in its details.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::pb;

/// Class of an error; stable, since clients and retries decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The statement or request is wrong.
    InvalidArgument,
    /// Something named does not exist.
    NotFound,
    /// Something named exists already.
    AlreadyExists,
    /// Right, but the state of a catalog or a table does not allow it.
    Conflict,
    /// Right, but not supported.
    Unsupported,
    /// A data or metadata file is broken.
    Corrupt,
    /// Not allowed.
    Forbidden,
    /// A node or a service cannot be reached for now.
    Unavailable,
    /// A bound was reached: memory, message size, queue.
    ResourceExhausted,
    /// Took longer than allowed.
    DeadlineExceeded,
    /// Somebody asked for it to stop.
    Cancelled,
    /// The nodes do not speak the same protocol version.
    VersionMismatch,
    /// A defect of this program.
    Internal,
    /// A defect of this program that unwound a task.
    Panic,
}

/// Every code.
pub const CODES: [Code; 14] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::Conflict,
    Code::Unsupported,
    Code::Corrupt,
    Code::Forbidden,
    Code::Unavailable,
    Code::ResourceExhausted,
    Code::DeadlineExceeded,
    Code::Cancelled,
    Code::VersionMismatch,
    Code::Internal,
    Code::Panic,
];

impl Code {
    /// The code's stable name, in snake case.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::ResourceExhausted => "resource_exhausted",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::VersionMismatch => "version_mismatch",
            Self::Internal => "internal",
            Self::Panic => "panic",
        }
    }

    fn grpc(self) -> tonic::Code {
        match self {
            Self::InvalidArgument => tonic::Code::InvalidArgument,
            Self::NotFound => tonic::Code::NotFound,
            Self::AlreadyExists => tonic::Code::AlreadyExists,
            Self::Conflict => tonic::Code::FailedPrecondition,
            Self::Unsupported => tonic::Code::Unimplemented,
            Self::Corrupt => tonic::Code::DataLoss,
            Self::Forbidden => tonic::Code::PermissionDenied,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::ResourceExhausted => tonic::Code::ResourceExhausted,
            Self::DeadlineExceeded => tonic::Code::DeadlineExceeded,
            Self::Cancelled => tonic::Code::Cancelled,
            Self::VersionMismatch => tonic::Code::FailedPrecondition,
            Self::Internal | Self::Panic => tonic::Code::Internal,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryVerdict {
    /// The same request fails again.
    Never,
    /// The same request may succeed later, on any node.
    Retry,
    /// The same request may succeed at once on another node.
    Elsewhere,
}

impl RetryVerdict {
    /// Whether trying again, here or elsewhere, can help.
    pub fn is_retryable(self) -> bool {
        self != Self::Never
    }
}

/// An error as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Class of the error.
    pub code: Code,
    /// Whether trying again can help.
    pub retry: RetryVerdict,
    /// What went wrong, where, and what to do.
    pub message: String,
    /// URL of the node that raised it.
    pub node: Option<String>,
    /// Location of the file concerned.
    pub file: Option<String>,
}

/// Longest message that travels, in bytes. A status goes in HTTP/2 headers, which receivers bound
/// (16 KiB by default), in base64.
const MAX_MESSAGE_BYTES: usize = 6 * 1024;

/// Longest message in the status itself, which is there for clients that do not read the details.
/// It is percent-encoded, up to three bytes for one.
const MAX_STATUS_MESSAGE_BYTES: usize = 1024;

impl WireError {
    /// An error that names neither node nor file yet.
    pub fn new(code: Code, retry: RetryVerdict, message: impl Into<String>) -> Self {
        Self {
            code,
            retry,
            message: message.into(),
            node: None,
            file: None,
        }
    }

    /// Names the node that raised the error, unless one is named already: the first is the right
    /// one.
    #[must_use]
    pub fn at_node(mut self, node: impl Into<String>) -> Self {
        self.node.get_or_insert_with(|| node.into());
        self
    }

    /// Names the file concerned.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Whether trying again can help.
    pub fn is_retryable(&self) -> bool {
        self.retry.is_retryable()
    }

    /// The status to answer a call with.
    pub fn to_status(&self) -> Status {
        let details = Bytes::from(pb::Error::from(self).encode_to_vec());
        let message = truncated(&self.to_string(), MAX_STATUS_MESSAGE_BYTES);
        Status::with_details(self.code.grpc(), message, details)
    }

    /// The error in a status, if the status was made by [`Self::to_status`].
    pub fn from_status(status: &Status) -> Option<Self> {
        if status.details().is_empty() {
            return None;
        }
        let error = pb::Error::decode(status.details()).ok()?;
        // A foreign server may put something else into the details that happens to decode.
        let error = Self::try_from(error).ok()?;
        (error.code.grpc() == status.code()).then_some(error)
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(file) = self
            .file
            .as_deref()
            .filter(|file| !self.message.contains(file))
        {
            write!(f, " (file {file})")?;
        }
        if let Some(node) = self
            .node
            .as_deref()
            .filter(|node| !self.message.contains(node))
        {
            write!(f, " [worker {node}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for WireError {}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        error.to_status()
    }
}

fn truncated(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mut end = max_bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

impl From<&WireError> for pb::Error {
    fn from(error: &WireError) -> Self {
        let max_name_bytes = MAX_STATUS_MESSAGE_BYTES;
        Self {
            code: pb::ErrorCode::from(error.code).into(),
            retry: pb::RetryVerdict::from(error.retry).into(),
            message: truncated(&error.message, MAX_MESSAGE_BYTES),
            node: error
                .node
                .as_deref()
                .map(|node| truncated(node, max_name_bytes)),
            file: error
                .file
                .as_deref()
                .map(|file| truncated(file, max_name_bytes)),
        }
    }
}

impl TryFrom<pb::Error> for WireError {
    type Error = WireError;

    fn try_from(error: pb::Error) -> Result<Self, Self::Error> {
        let code = match error.code() {
            pb::ErrorCode::Unspecified => {
                return Err(crate::wire::malformed("Error.code", "no code"));
            }
            pb::ErrorCode::InvalidArgument => Code::InvalidArgument,
            pb::ErrorCode::NotFound => Code::NotFound,
            pb::ErrorCode::AlreadyExists => Code::AlreadyExists,
            pb::ErrorCode::Conflict => Code::Conflict,
            pb::ErrorCode::Unsupported => Code::Unsupported,
            pb::ErrorCode::Corrupt => Code::Corrupt,
            pb::ErrorCode::Forbidden => Code::Forbidden,
            pb::ErrorCode::Unavailable => Code::Unavailable,
            pb::ErrorCode::ResourceExhausted => Code::ResourceExhausted,
            pb::ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
            pb::ErrorCode::Cancelled => Code::Cancelled,
            pb::ErrorCode::VersionMismatch => Code::VersionMismatch,
            pb::ErrorCode::Internal => Code::Internal,
            pb::ErrorCode::Panic => Code::Panic,
        };
        let retry = match error.retry() {
            pb::RetryVerdict::Unspecified | pb::RetryVerdict::Never => RetryVerdict::Never,
            pb::RetryVerdict::Retry => RetryVerdict::Retry,
            pb::RetryVerdict::Elsewhere => RetryVerdict::Elsewhere,
        };
        Ok(Self {
            code,
            retry,
            message: error.message,
            node: error.node,
            file: error.file,
        })
    }
}

impl From<Code> for pb::ErrorCode {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::Conflict => Self::Conflict,
            Code::Unsupported => Self::Unsupported,
            Code::Corrupt => Self::Corrupt,
            Code::Forbidden => Self::Forbidden,
            Code::Unavailable => Self::Unavailable,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::VersionMismatch => Self::VersionMismatch,
            Code::Internal => Self::Internal,
            Code::Panic => Self::Panic,
        }
    }
}

impl From<RetryVerdict> for pb::RetryVerdict {
    fn from(verdict: RetryVerdict) -> Self {
        match verdict {
            RetryVerdict::Never => Self::Never,
            RetryVerdict::Retry => Self::Retry,
            RetryVerdict::Elsewhere => Self::Elsewhere,
        }
    }
}
