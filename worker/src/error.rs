//! Why a worker does not start or serve.

use std::net::SocketAddr;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a worker does not start or serve. What goes wrong with a task goes to whoever asked for it,
/// as an [`inshore_proto::error::WireError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Other machines could connect, and nothing would be encrypted.
    #[error(
        "worker.listen is {address}, which other machines can reach, and TLS is not configured; \
         set worker.listen to a loopback address such as 127.0.0.1:0"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The port cannot be opened.
    #[error("cannot listen on {address} (worker.listen): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The URL under which others are to reach the worker is none.
    #[error("worker.advertise is {url:?}: {why}; it has the form grpc://HOST:PORT")]
    Advertise {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Serving ended.
    #[error("the worker's Flight service ended: {0}")]
    Serve(String),
    /// The operating system gives no thread.
    #[error("cannot start a thread for heartbeats: {0}")]
    Thread(std::io::Error),
}

impl Error {
    /// Whether starting again may succeed without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Thread(_))
    }
}
