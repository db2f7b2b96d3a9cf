//! The snapshot that puts new data files in the place of those that are there.

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{DataFile, Operation};
use iceberg::table::Table;

use super::conflicts;
use super::producer::Producer;
use super::removal::Removal;
use crate::Result;
use crate::catalog::Change;

/// Replaces all rows of an unpartitioned table, or those of the partitions that have new files.
///
/// What is replaced is worked out from the table as it is at the commit. If another writer added
/// files to what is replaced, or removed some of it, after the snapshot that the statement began
/// with, the commit ends with [`crate::Error::Conflict`]: the statement has not seen that.
#[derive(Debug)]
pub struct Overwrite {
    producer: Producer,
    /// The current snapshot when the statement began.
    start: Option<i64>,
    removal: Removal,
}

impl Overwrite {
    /// The change that puts `files` in, which were written for `table` as it was when the statement
    /// began.
    pub fn new(name: &str, table: &Table, files: Vec<DataFile>) -> Self {
        let metadata = table.metadata();
        let spec = metadata.default_partition_spec();
        let removal = match spec.is_unpartitioned() {
            true => Removal::All,
            false => Removal::partitions_of(spec.spec_id(), &files),
        };
        Self {
            producer: Producer::new(name, table, files),
            start: metadata.current_snapshot_id(),
            removal,
        }
    }
}

#[async_trait]
impl Change for Overwrite {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        self.producer.check_table(table)?;
        conflicts::check(self.producer.name(), table, self.start, &self.removal).await?;
        let operation = Operation::Overwrite;
        self.producer.updates(table, operation, &self.removal).await
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        self.producer.unused(committed)
    }
}
