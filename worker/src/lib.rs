//! The worker: runs fragments of plans, and serves their partitions to other nodes.
//!
//! - [`server`]: the Flight door, a thin adapter.
//! - [`tasks`]: which tasks exist, how those who ask for their partitions wait for them, and how
//!   they end.
//! - [`exchange`]: a task's partitions as one stream of messages.
//! - [`member`]: being a member of the cluster: registering, heartbeats, leaving.
//! - [`node`]: one worker put together, from start to drain.
//!
//! The execution itself is datafusion-distributed's `Worker`; what is here is the transport, the
//! bounds, and the certainty that a task ends when its query does: when the coordinator closes the
//! task's channel, vanishes, or asks for it. A panic in a task fails that query and nothing else;
//! this relies on unwinding, so no profile may set `panic = "abort"`.
//!
//! The worker never depends on the coordinator crate: they meet over Arrow Flight only.

pub mod error;
pub mod exchange;
pub mod member;
pub mod node;
pub mod server;
pub mod tasks;
pub mod tidy;

pub use error::{Error, Result};
pub use node::{Config, Worker, run};
