//! Iceberg for DataFusion: catalogs, planning from manifests, and the scan source.
//!
//! - [`config`]: what the owner writes down about catalogs and lakes.
//! - [`store`]: the object stores behind the lakes, for data and metadata alike.
//! - [`catalog`]: catalogs, and the names of one statement resolved against them.
//! - [`name`]: full table names.
//! - [`table`]: a table as DataFusion sees it.
//! - [`version`]: which state of a table is read.
//! - [`metadata_tables`]: tables over a table's metadata.
//! - [`definition`]: a table as the statement that would create it.
//! - [`evolution`]: changing a table's columns and properties.
//! - [`maintenance`]: files that nothing refers to, and files that are taken over.
//! - [`manifest`]: manifest lists and manifests, decoded.
//! - [`plan`]: which files a scan has to read.
//! - [`scan`]: reading them.
//! - [`deletes`]: rows that are deleted from them.
//! - [`files`]: files that belong to no table, as tables and written.
//! - [`formats`]: reading one file of any format in the order of its rows.
//! - [`codec`]: sending a scan to a worker.
//! - [`write`](mod@write): adding rows.
//! - [`snapshot`]: what a commit adds to a table and takes out of it.
//! - [`sort_order`](mod@sort_order): how rows of a table are sorted.
//! - [`sql_types`]: SQL type names as Iceberg understands them.
//! - [`error`]: the crate's error.

pub mod catalog;
pub mod codec;
pub mod config;
pub mod definition;
pub mod deletes;
pub mod error;
pub mod evolution;
pub mod files;
pub mod formats;
pub mod maintenance;
pub mod manifest;
pub mod metadata_tables;
pub mod name;
pub mod plan;
pub mod scan;
pub mod snapshot;
pub mod sort_order;
pub mod sql_types;
pub mod store;
pub mod table;
pub mod version;
pub mod write;

pub use error::{Error, Result};
pub use name::TableName;
