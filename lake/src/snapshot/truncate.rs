//! The snapshot that empties a table.

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::Operation;
use iceberg::table::Table;
use parking_lot::Mutex;

use super::producer::Producer;
use super::removal::Removal;
use super::summary;
use crate::Result;
use crate::catalog::Change;

/// Removes all data and delete files that are there at the commit, whoever added them.
#[derive(Debug)]
pub struct Truncate {
    producer: Producer,
    rows: Mutex<Option<u64>>,
}

impl Truncate {
    /// The change that empties `table`.
    pub fn new(name: &str, table: &Table) -> Self {
        Self {
            producer: Producer::new(name, table, vec![]),
            rows: Mutex::default(),
        }
    }

    /// How many rows the last attempt removed; none where the table's summary and its deletes do
    /// not tell.
    pub fn rows(&self) -> Option<u64> {
        *self.rows.lock()
    }
}

#[async_trait]
impl Change for Truncate {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        *self.rows.lock() = summary::live_rows(table.metadata().current_snapshot());
        let operation = Operation::Delete;
        self.producer.updates(table, operation, &Removal::All).await
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        self.producer.unused(committed)
    }
}
