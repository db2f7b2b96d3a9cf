//! Arrow Flight between coordinator and workers.
//!
//! datafusion-distributed leaves the way from node to node open. This module fills it in with
//! Arrow Flight, over the contract of `inshore-proto`:
//!
//! ```text
//! DistributedExec, Network*Exec            (datafusion-distributed)
//!    | ChannelResolver, WorkerChannel
//! client    calls of one node to a worker, with deadlines
//! fate      a broken channel ends all streams of its query
//! demux     one DoGet stream -> one queue per partition, bounded in bytes
//! channel   one HTTP/2 connection per node, found dead by keepalive
//! ~~~~~~~~~ network ~~~~~~~~~
//! encode    record batches -> messages of bounded size    (used by the worker's server)
//! ```
//!
//! [`fragment`] translates plans and load between datafusion-distributed's types and those of the
//! contract, [`metrics`] DataFusion's metrics, [`error`] errors of every layer.

pub mod channel;
mod client;
mod demux;
pub mod encode;
pub mod error;
mod fate;
pub mod fragment;
pub mod metrics;

pub use client::FlightChannelResolver;
