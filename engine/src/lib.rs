//! What the coordinator and the workers must set up identically, so that a plan made by one means
//! the same to the other: the session, the plan codec, how plans are distributed, the guards that
//! keep a distributed plan right, and the transport between nodes.
//!
//! - [`options`]: settings of the engine, and those that travel with a query.
//! - [`session`]: DataFusion sessions of both roles.
//! - [`distribute`]: how many tasks a stage gets, which files each reads, which worker runs it.
//! - [`floats`]: comparisons with floating-point numbers, as SQL means them.
//! - [`guard`]: what datafusion-distributed would plan wrongly, and how that is prevented.
//! - [`interrupt`]: joins that can be stopped.
//! - [`planner`]: the query planner that puts the two together.
//! - [`functions`]: SQL functions beyond DataFusion's.
//! - [`preimage`]: conditions on functions of columns, as ranges of the columns.
//! - [`metrics`]: what a finished query did, read off its plan.
//! - [`rewrite`]: what a worker changes in a fragment before it runs it.
//! - [`transport`]: Arrow Flight between coordinator and workers.

pub mod distribute;
pub mod error;
pub mod floats;
pub mod functions;
pub mod guard;
pub mod interrupt;
pub mod metrics;
pub mod options;
pub mod planner;
pub mod preimage;
pub mod rewrite;
pub mod session;
pub mod transport;

pub use error::{Error, Result};
pub use options::EngineOptions;
