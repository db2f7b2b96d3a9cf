//! The crate's error.

use datafusion::error::DataFusionError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a node sets up or distributes a query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No worker is live, and none appeared in time.
    #[error(
        "no worker is available: none registered within {waited_s} s; start one with `inshore worker --coordinator grpc://HOST:PORT`"
    )]
    NoWorkers {
        /// How long the query waited, in seconds.
        waited_s: u64,
    },
    /// Planning or execution failed.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
}

impl Error {
    /// Whether the same query may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NoWorkers { .. })
    }
}
