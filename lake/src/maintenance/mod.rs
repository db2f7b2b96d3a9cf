//! Keeping tables in order: files that nothing refers to, and files that are taken over.

mod adopt;
mod footer;
mod orphans;
mod purge;
mod reachable;

use iceberg::spec::TableMetadata;

use crate::{Error, Result};

pub use adopt::{Adopted, adopt_files};
pub use orphans::{OrphanSearch, Orphans};
pub use purge::{Purged, purge_table};

/// Property without which files of a table may be deleted.
const GC: &str = "gc.enabled";

/// # Errors
/// [`Error::Refused`] for a table whose files must not be deleted.
fn check_gc(name: &str, metadata: &TableMetadata) -> Result<()> {
    // As Iceberg reads it: anything but true is false.
    let value = metadata.properties().get(GC);
    match value.is_none_or(|value| value.trim().eq_ignore_ascii_case("true")) {
        true => Ok(()),
        false => Err(Error::Refused(format!(
            "files of table {name} must not be deleted: its property {GC} is false"
        ))),
    }
}
