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
    /// The branch's newest snapshot when the statement began.
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
            false => Removal::partitions(spec.spec_id(), &files),
        };
        Self {
            producer: Producer::new(name, table, files),
            start: metadata.current_snapshot_id(),
            removal,
        }
    }

    /// To another branch than `main`.
    ///
    /// # Errors
    /// [`crate::Error::Conflict`] when `table`, as it was when the statement began, has no such
    /// branch.
    pub fn to_branch(self, table: &Table, branch: &str) -> Result<Self> {
        let producer = self.producer.on_branch(branch);
        let start = producer.head(table.metadata())?;
        Ok(Self {
            start: start.map(|snapshot| snapshot.snapshot_id()),
            producer,
            ..self
        })
    }
}

#[async_trait]
impl Change for Overwrite {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        self.producer.check_table(table)?;
        let head = self.producer.head(table.metadata())?;
        let span = (self.start, head.map(|head| head.snapshot_id()));
        conflicts::check(self.producer.name(), table, span, &self.removal).await?;
        let operation = Operation::Overwrite;
        self.producer.updates(table, operation, &self.removal).await
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        self.producer.unused(committed)
    }
}
