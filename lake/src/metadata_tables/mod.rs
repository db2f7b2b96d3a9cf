//! Tables over a table's metadata: `"t$snapshots"`, `"t$files"` and so on.
//!
//! Columns are named as Trino and Spark name them. They are made when they are scanned, from the
//! metadata file and, where it takes them, the manifests; they never open a data file.

mod columns;
mod files;
mod history;
mod manifests;
mod partitions;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::manifest::{DecodedManifest, Entries, ManifestFile, PartitionSpecs};
use crate::table::IcebergTable;
use crate::{Error, Result};

/// What may stand after the `$`.
pub const NAMES: [&str; 11] = [
    "snapshots",
    "history",
    "files",
    "data_files",
    "delete_files",
    "manifests",
    "partitions",
    "refs",
    "entries",
    "properties",
    "metadata_log_entries",
];

/// The table and the suffix that a name like `t$snapshots` is made of; none for other names.
pub fn split(name: &str) -> Option<(&str, &str)> {
    let (table, suffix) = name.rsplit_once('$')?;
    (!table.is_empty() && NAMES.contains(&suffix)).then_some((table, suffix))
}

/// The metadata table of `table` with this suffix, one of [`NAMES`].
///
/// # Errors
/// [`Error::NotFound`] for any other suffix.
pub fn open(table: &Arc<IcebergTable>, suffix: &str) -> Result<Arc<dyn TableProvider>> {
    let kind = Kind::of(suffix).ok_or_else(|| {
        Error::NotFound(format!(
            "table {} has no metadata table {suffix}; there are {}",
            table.name(),
            NAMES.join(", ")
        ))
    })?;
    Ok(Arc::new(MetadataTable {
        schema: kind.schema(table),
        table: Arc::clone(table),
        kind,
    }))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Snapshots,
    History,
    Files(files::Which),
    Manifests,
    Partitions,
    Refs,
    Entries,
    Properties,
    MetadataLog,
}

impl Kind {
    fn of(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "snapshots" => Self::Snapshots,
            "history" => Self::History,
            "files" => Self::Files(files::Which::All),
            "data_files" => Self::Files(files::Which::Data),
            "delete_files" => Self::Files(files::Which::Deletes),
            "manifests" => Self::Manifests,
            "partitions" => Self::Partitions,
            "refs" => Self::Refs,
            "entries" => Self::Entries,
            "properties" => Self::Properties,
            "metadata_log_entries" => Self::MetadataLog,
            _ => return None,
        })
    }

    fn schema(self, table: &IcebergTable) -> SchemaRef {
        match self {
            Self::Snapshots => history::snapshots_schema(),
            Self::History => history::history_schema(),
            Self::Files(_) => files::schema(table),
            Self::Manifests => manifests::schema(),
            Self::Partitions => partitions::schema(table),
            Self::Refs => history::refs_schema(),
            Self::Entries => files::entries_schema(table),
            Self::Properties => history::properties_schema(),
            Self::MetadataLog => history::metadata_log_schema(),
        }
    }
}

#[derive(Debug)]
struct MetadataTable {
    table: Arc<IcebergTable>,
    kind: Kind,
    schema: SchemaRef,
}

impl MetadataTable {
    async fn rows(&self) -> Result<RecordBatch> {
        let (table, schema) = (self.table.as_ref(), &self.schema);
        match self.kind {
            Kind::Snapshots => history::snapshots(table, schema),
            Kind::History => history::history(table, schema),
            Kind::Refs => history::refs(table, schema),
            Kind::Properties => history::properties(table, schema),
            Kind::MetadataLog => history::metadata_log(table, schema),
            Kind::Manifests => manifests::rows(table, &list(table).await?, schema),
            Kind::Files(which) => {
                files::rows(table, &read(table, Entries::Live).await?, which, schema)
            }
            Kind::Entries => files::entries(table, &read(table, Entries::All).await?, schema),
            Kind::Partitions => partitions::rows(table, &read(table, Entries::Live).await?, schema),
        }
    }
}

/// The manifests of the table's snapshot.
async fn list(table: &IcebergTable) -> Result<Arc<[ManifestFile]>> {
    match table.snapshot() {
        None => Ok(Arc::default()),
        Some(snapshot) => {
            table
                .manifests()
                .manifest_list(table.table(), snapshot)
                .await
        }
    }
}

/// The manifests of the table's snapshot with their entries.
async fn read(
    table: &IcebergTable,
    which: Entries,
) -> Result<Vec<(ManifestFile, Arc<DecodedManifest>)>> {
    let specs = PartitionSpecs::of(table.table().metadata());
    let name = table.name().to_string();
    let mut read = vec![];
    for file in list(table).await?.iter() {
        let spec = specs.of_manifest(&name, file)?;
        let manifest = table
            .manifests()
            .manifest_with(table.table().file_io(), file, spec, which)
            .await?;
        read.push((file.clone(), manifest));
    }
    Ok(read)
}

#[async_trait]
impl TableProvider for MetadataTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let rows = self.rows().await?;
        let schema = Arc::clone(&self.schema);
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], schema, projection.cloned())?;
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_suffixes_make_a_metadata_table() {
        assert_eq!(split("t$snapshots"), Some(("t", "snapshots")));
        assert_eq!(split("a$b$files"), Some(("a$b", "files")));
        assert_eq!(split("$files"), None);
        assert_eq!(split("t$nothing"), None);
        assert_eq!(split("t"), None);
        for name in NAMES {
            assert!(Kind::of(name).is_some(), "{name}");
        }
    }
}
