//! The snapshot that adds data files to a table.

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{DataFile, Operation};
use iceberg::table::Table;

use super::producer::Producer;
use super::removal::Removal;
use crate::Result;
use crate::catalog::Change;

/// Adds data files.
#[derive(Debug)]
pub struct Append(Producer);

impl Append {
    /// The change that adds `files`, which were written for `table` as it was then.
    pub fn new(name: &str, table: &Table, files: Vec<DataFile>) -> Self {
        Self(Producer::new(name, table, files))
    }

    /// To another branch than `main`.
    pub fn to_branch(self, branch: &str) -> Self {
        Self(self.0.on_branch(branch))
    }
}

#[async_trait]
impl Change for Append {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        let removal = Removal::Nothing;
        self.0.updates(table, Operation::Append, &removal).await
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        self.0.unused(committed)
    }
}
