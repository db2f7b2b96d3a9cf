//! The coordinator: plans statements, places their tasks on workers, streams results to clients.
//!
//! - [`Coordinator`]: one node's state; the same type serves the embedded engine.
//! - [`session`]: what a client has set, and how its statements run.
//! - [`statement`]: from SQL text to a plan: names, positions, what is supported.
//! - [`names`], [`versions`], [`scope`], [`metadata_columns`]: what a statement's names stand for.
//! - [`ddl`]: statements that define schemas and tables.
//! - [`describe`]: `DESCRIBE` and `SHOW CREATE TABLE`.
//! - [`insert`]: adding rows; [`rows`]: those that a client sends.
//! - [`parameters`]: `?` and `$1` in statements, and their values.
//! - [`files`], [`copy`]: files as tables, and tables into files.
//! - [`procedures`]: what `CALL` calls.
//! - [`result`]: the one schema a result has towards a client; [`columns`]: what it is told of columns.
//! - [`listing`]: what there is: schemas, tables, views and their columns; `information_schema`.
//! - [`plans`]: what a plan reads.
//! - [`query`]: the life of a query, from planning to its last figures.
//! - [`membership`]: which workers are live.
//! - [`system`]: the `system` schema: queries and workers as tables.
//! - [`flight`]: the Flight SQL door.
//!
//! The coordinator never depends on the worker crate: they meet over Arrow Flight only.

pub mod as_of;
mod columns;
pub mod copy;
pub mod ddl;
pub mod describe;
pub mod error;
mod explain;
pub mod files;
pub mod flight;
pub mod insert;
mod listing;
pub mod membership;
pub mod metadata_columns;
pub mod names;
mod node;
pub mod parameters;
mod plans;
pub mod procedures;
pub mod query;
pub mod result;
pub mod rows;
pub mod scope;
pub mod session;
pub mod statement;
pub mod system;
pub mod truncate;
pub mod versions;

pub use error::{Error, Result};
pub use node::{Coordinator, Options, Topology};
pub use query::Execution;
pub use session::Session;
