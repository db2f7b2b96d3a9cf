//! Files that belong to no table: read as tables, and written by `COPY`.
//!
//! ```text
//! text in SQL -> place (access) -> files (expand) -> format and schema (format, open)
//!             -> table -> scan, dealt out to tasks (split)
//! batches -> encoded (encode) -> uploaded (upload) -> one file, or a folder of them (export)
//! ```
//!
//! - Files are read and written under the configured lakes only, symbolic links included; an
//!   embedded engine may also be given the user's own file system ([`FileAccess`]).
//! - A written file appears under its name as a whole or not at all.
//! - Compressed files are unpacked by their store (`unpack`), so that every reader sees plain bytes.

mod access;
mod csv_schema;
mod encode;
mod expand;
mod export;
mod format;
mod hive;
mod open;
mod split;
mod table;
pub(crate) mod unpack;
mod upload;

pub use access::FileAccess;
pub(crate) use access::Place;
pub(crate) use expand::{Found, expand_place};
pub use export::{Export, ExportOptions};
pub use format::{FileKind, FileRequest, kind_of_name};
pub(crate) use hive::HiveFolders;
pub use split::{scan_bytes, split_for_tasks};
pub use table::FilesTable;
