//! Lakes and clusters for tests: real Iceberg tables on disk, real gRPC on loopback. Used by tests
//! only.
//!
//! - [`lake`]: a lake in a folder of its own, with tables filled by queries.
//! - [`cluster`]: a coordinator and workers in this process, each behind a real socket.
//! - [`flight`]: what the wire carries, without a client library between.
//! - [`rows`]: answers as sorted text, to be compared as multisets.

pub mod cluster;
pub mod flight;
pub mod lake;
pub mod rows;

pub use cluster::Cluster;
pub use lake::Lake;
