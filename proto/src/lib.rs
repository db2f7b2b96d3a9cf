//! The wire contract between the nodes of a cluster.
//!
//! Nodes speak Arrow Flight. What Flight leaves open is defined here: the bodies of tickets,
//! actions and application metadata (`proto/inshore/v1/*.proto`), their names, the error codes,
//! and the version that both sides must share.
//!
//! | call | direction | carries |
//! |---|---|---|
//! | `DoExchange` | coordinator to worker | [`fragment`]: a task's plan down, load and metrics up |
//! | `DoGet` | any node to worker | [`task::Ticket`]: partitions of a task, batches tagged with [`exchange::BatchMetadata`] |
//! | `DoAction` | worker to coordinator | [`membership`]: register, heartbeat, drain, leave |
//! | `DoAction` | any node to worker | info, cancel-query |
//!
//! Each message has a domain struct whose `TryFrom<generated>` validates it once, on receipt; the
//! generated types ([`pb`]) stay at the edge. The exception is [`pb::MetricsSet`], which the
//! engine translates to and from DataFusion's metrics, since this crate knows no DataFusion.
//!
//! Failures travel as [`error::WireError`] in the details of a gRPC status.

pub mod error;
pub mod exchange;
pub mod fragment;
pub mod membership;
pub mod names;
pub mod task;
pub mod version;
mod wire;

pub use wire::decode;

/// Generated from the `.proto` files, where the fields are explained.
#[allow(missing_docs, clippy::all, rust_2018_idioms)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/inshore.v1.rs"));
}

/// Largest gRPC message that a node sends or accepts, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Size towards which record batches are split for sending, in bytes.
pub const TARGET_BATCH_BYTES: usize = 8 << 20;
