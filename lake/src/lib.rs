//! Iceberg for DataFusion: catalogs, planning from manifests, and the scan source.
//!
//! - [`config`]: what the owner writes down about catalogs and lakes.
//! - [`store`]: the object stores behind the lakes, for data and metadata alike.
//! - [`catalog`]: catalogs, and the names of one statement resolved against them.
//! - [`name`]: full table names.
//! - [`table`]: a table as DataFusion sees it.
//! - [`plan`]: which files a scan has to read.
//! - [`scan`]: reading them.
//! - [`codec`]: sending a scan to a worker.
//! - [`sql_types`]: SQL type names as Iceberg understands them.
//! - [`error`]: the crate's error.

pub mod catalog;
pub mod codec;
pub mod config;
pub mod error;
pub mod name;
pub mod plan;
pub mod scan;
pub mod sql_types;
pub mod store;
pub mod table;

pub use error::{Error, Result};
pub use name::TableName;
