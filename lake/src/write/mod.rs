//! Adding rows to a table.
//!
//! ```text
//! batches -> columns in the table's types (rows) -> by partition -> Parquet files (writer)
//!         -> manifest and snapshot (append) -> commit (catalog::change_table)
//! ```
//!
//! Whoever writes owns the files until they are committed: a writer that is dropped before removes
//! what it wrote.

mod append;
mod rows;
mod writer;

pub use append::Append;
pub use writer::{TableWriter, WrittenFiles};
