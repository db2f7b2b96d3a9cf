//! Adding rows to a table.
//!
//! ```text
//! INSERT -> provider -> exec: dealt out and sorted as the table wants (layout, ranges)
//!        -> writer: the table's types (rows), partitions, open files (file)
//!        -> complete files with what manifests tell of them (metrics, bounds)
//!        -> manifest and snapshot (crate::snapshot) -> commit (catalog::change_table)
//! ```
//!
//! The operator runs where the plan's last stage runs, the commit on the coordinator. Who writes
//! owns the files: a writer that is dropped before it is done removes what it wrote, and the
//! statement removes all of it when it is not committed ([`StatementFiles`]).

mod bounds;
mod cleanup;
mod exec;
mod file;
mod layout;
mod metrics;
mod options;
mod partitions;
mod provider;
mod ranges;
mod rows;
mod target;
mod writer;

pub use crate::snapshot::{Append, Overwrite};
pub(crate) use bounds::datum;
pub use cleanup::StatementFiles;
pub use exec::{WriteExec, data_files};
pub(crate) use file::split_offsets;
pub use layout::transform_function;
pub(crate) use metrics::{MetricsMode, MetricsModes};
pub(crate) use partitions::path_of;
pub use provider::WriteProvider;
pub use ranges::{RangeExec, Ranges, SampleExec, SampleProvider, row_bytes};
pub use target::WriteTarget;
