//! Snapshots: what a commit adds to a table and takes out of it.
//!
//! ```text
//! added files ---------------> one manifest, written once --+
//! manifests as they are now -> without what is removed -----+-> merged -> list -> snapshot
//! ```
//!
//! All but the first is done anew by each attempt to commit, since another writer may have changed
//! the table; only the first attempt merges. What an attempt wrote that was not committed is removed.
//!
//! A snapshot is put on top of a branch: `main`, which is the table's current state, or another one.

mod append;
mod conflicts;
mod manifests;
mod merge;
mod overwrite;
mod producer;
mod refs;
mod removal;
mod summary;
mod truncate;

pub use append::Append;
pub use overwrite::Overwrite;
pub use refs::{ChangeRef, Mode, RefAction, RefChange, RefKind, Retention};
pub use truncate::Truncate;
