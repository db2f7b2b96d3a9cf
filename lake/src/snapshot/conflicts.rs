//! Whether another writer changed what a statement replaces, after it began.

use iceberg::spec::{ManifestStatus, SnapshotRef, TableMetadata};
use iceberg::table::Table;

use super::manifests::failed;
use super::removal::Removal;
use crate::{Error, Result};

/// Looks at all that was committed after `start`, the newest snapshot of the branch when the
/// statement began, up to `head`, its newest one now.
///
/// # Errors
/// [`Error::Conflict`] when files of what is removed were added or removed meanwhile, or when the
/// history does not go back to `start`.
pub(super) async fn check(
    name: &str,
    table: &Table,
    (start, head): (Option<i64>, Option<i64>),
    removal: &Removal,
) -> Result<()> {
    let conflict = |what: &str| {
        Error::Conflict(format!(
            "table {name}: {what} while its rows were being replaced; run the statement again"
        ))
    };
    let since = since(table.metadata(), start, head);
    let since = since.ok_or_else(|| conflict("its history was changed"))?;
    for snapshot in since {
        let id = snapshot.snapshot_id();
        let list = table.manifest_list_reader(&snapshot).load().await;
        let list = list.map_err(|error| failed(name, &error))?;
        let own = list.entries().iter().filter(|m| m.added_snapshot_id == id);
        for file in own {
            let manifest = file.load_manifest(table.file_io()).await;
            let manifest = manifest.map_err(|error| failed(name, &error))?;
            let touched = manifest.entries().iter().any(|entry| {
                entry.status() != ManifestStatus::Existing
                    && entry.snapshot_id() == Some(id)
                    && removal.covers(file.partition_spec_id, entry)
            });
            if touched {
                return Err(conflict("another writer changed the rows to be replaced"));
            }
        }
    }
    Ok(())
}

/// The snapshots after `start`; none when it is not an ancestor of `head`.
fn since(
    metadata: &TableMetadata,
    start: Option<i64>,
    head: Option<i64>,
) -> Option<Vec<SnapshotRef>> {
    let mut found = vec![];
    let mut next = head;
    while next != start {
        let snapshot = metadata.snapshot_by_id(next?)?;
        found.push(snapshot.clone());
        next = snapshot.parent_snapshot_id();
    }
    Some(found)
}
