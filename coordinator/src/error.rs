//! The crate's error: what a client gets to see, with a code and a retry verdict.

use datafusion::error::DataFusionError;
use inshore_engine::transport::error::wire_error;
use inshore_proto::error::{Code, RetryVerdict, WireError};

use crate::statement::describe;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a statement failed, or why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The statement's text is wrong; the message holds the position where it is known.
    #[error("{0}")]
    Sql(String),
    /// A request that is no statement is wrong.
    #[error("{0}")]
    Request(String),
    /// What was asked for belongs to somebody else.
    #[error("{0}")]
    Forbidden(String),
    /// Something named does not exist; the message holds near names.
    #[error("{0}")]
    NotFound(String),
    /// The statement is right, but not supported.
    #[error("{0}")]
    Unsupported(String),
    /// A bound was reached: too many sessions, statements or waiting queries.
    #[error("{0}")]
    ResourceExhausted(String),
    /// The statement ran longer than it may.
    #[error("the statement ran longer than {timeout_s} s ({setting})")]
    Timeout {
        /// The time it may take, in seconds.
        timeout_s: u64,
        /// The setting that says so.
        setting: &'static str,
    },
    /// Somebody wanted the statement to end.
    #[error("the statement was cancelled")]
    Cancelled,
    /// A catalog or a file.
    #[error(transparent)]
    Lake(#[from] inshore_lake::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] inshore_engine::Error),
    /// Planning or running the statement failed.
    #[error("{}", describe(.0))]
    Execution(DataFusionError),
    /// What went wrong with a statement that has an id.
    #[error("{error}")]
    Query {
        /// The id, as in `system.queries`.
        query_id: String,
        /// What went wrong.
        error: Box<Error>,
    },
    /// A socket could not be opened or served.
    #[error("cannot serve on {address}: {why}")]
    Serve {
        /// The address.
        address: String,
        /// What went wrong.
        why: String,
    },
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Execution(error)
    }
}

impl Error {
    /// The error as one of a statement. The first statement counts.
    #[must_use]
    pub fn of_query(self, query_id: &str) -> Self {
        match self.query_id() {
            Some(_) => self,
            None => Self::Query {
                query_id: query_id.to_owned(),
                error: Box::new(self),
            },
        }
    }

    /// The id of the statement that failed, if it had got one.
    pub fn query_id(&self) -> Option<&str> {
        match self {
            Self::Query { query_id, .. } => Some(query_id),
            Self::Execution(error) | Self::Engine(inshore_engine::Error::DataFusion(error)) => {
                own(error)?.query_id()
            }
            _ => None,
        }
    }

    /// The error as it goes over the wire.
    pub fn to_wire(&self) -> WireError {
        let (code, retry) = match self {
            Self::Engine(inshore_engine::Error::DataFusion(error)) | Self::Execution(error) => {
                return wire_of(error);
            }
            Self::Lake(error) => return wire_error(&error.clone().into()),
            Self::Query { error, .. } => return error.to_wire(),
            Self::Sql(_) | Self::Request(_) => (Code::InvalidArgument, RetryVerdict::Never),
            Self::Forbidden(_) => (Code::Forbidden, RetryVerdict::Never),
            Self::NotFound(_) => (Code::NotFound, RetryVerdict::Never),
            Self::Unsupported(_) => (Code::Unsupported, RetryVerdict::Never),
            Self::ResourceExhausted(_) => (Code::ResourceExhausted, RetryVerdict::Retry),
            Self::Cancelled => (Code::Cancelled, RetryVerdict::Never),
            Self::Timeout { .. } => (Code::DeadlineExceeded, RetryVerdict::Never),
            Self::Engine(error) if error.is_retryable() => (Code::Unavailable, RetryVerdict::Retry),
            Self::Serve { .. } => (Code::Unavailable, RetryVerdict::Retry),
            Self::Engine(_) => (Code::Internal, RetryVerdict::Never),
        };
        WireError::new(code, retry, self.to_string())
    }
}

/// A query's error: one of ours that came through DataFusion keeps its code, any other is sorted by
/// the engine's rules. The message is the one a person should read.
fn wire_of(error: &DataFusionError) -> WireError {
    if let Some(own) = own(error) {
        return own.to_wire();
    }
    let mut wire = wire_error(error);
    wire.message = describe(error);
    wire
}

/// The error of ours that came through DataFusion.
fn own(error: &DataFusionError) -> Option<&Error> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}
