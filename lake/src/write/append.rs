//! The snapshot that adds data files to a table.
//!
//! The manifest of the new files is written once; the manifest list anew for each attempt, since it
//! lists what the attempt found.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, ManifestFile, ManifestListWriter, ManifestWriterBuilder,
    Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary, TableMetadata,
};
use iceberg::table::Table;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::catalog::{Change, metadata_folder};
use crate::version::branch_retention;
use crate::{Error, Result};

/// Adds data files.
#[derive(Debug)]
pub struct Append {
    name: String,
    /// Of the table that the files were written for.
    table_uuid: Uuid,
    spec_id: i32,
    files: Vec<DataFile>,
    snapshot_id: i64,
    id: Uuid,
    manifest: tokio::sync::OnceCell<ManifestFile>,
    /// Manifest lists of all attempts.
    lists: Mutex<Vec<String>>,
}

impl Append {
    /// The change that adds `files`, which were written for `table` as it was then.
    pub fn new(name: &str, table: &Table, files: Vec<DataFile>) -> Self {
        let id = Uuid::new_v4();
        // Positive, as Java's longs in other writers' metadata are.
        let snapshot_id = (id.as_u64_pair().0 & (i64::MAX as u64)) as i64;
        Self {
            name: name.to_owned(),
            table_uuid: table.metadata().uuid(),
            spec_id: table.metadata().default_partition_spec_id(),
            files,
            snapshot_id,
            id,
            manifest: tokio::sync::OnceCell::new(),
            lists: Mutex::default(),
        }
    }

    fn failed(&self, error: &iceberg::Error) -> Error {
        Error::in_chain(error).unwrap_or_else(|| Error::Unavailable {
            service: format!("committing to table {}", self.name),
            why: error.to_string(),
        })
    }

    async fn write_manifest(&self, table: &Table) -> Result<ManifestFile> {
        let metadata = table.metadata();
        let failed = |error: iceberg::Error| self.failed(&error);
        let location = format!("{}/{}-m0.avro", metadata_folder(metadata), self.id);
        let output = table.file_io().new_output(&location).map_err(failed)?;
        let spec = metadata.partition_spec_by_id(self.spec_id).ok_or_else(|| {
            Error::Conflict(format!(
                "table {} lost its partition spec while rows were written",
                self.name
            ))
        })?;
        let builder = ManifestWriterBuilder::new(
            output,
            Some(self.snapshot_id),
            metadata.current_schema().clone(),
            spec.as_ref().clone(),
        );
        let mut writer = match metadata.format_version() {
            FormatVersion::V1 => builder.build_v1(),
            FormatVersion::V2 => builder.build_v2_data(),
            FormatVersion::V3 => builder.build_v3_data(),
        };
        for file in &self.files {
            // Inherited from the manifest, which gets it from its list.
            writer.add_file(file.clone(), -1).map_err(failed)?;
        }
        writer.write_manifest_file().await.map_err(failed)
    }

    /// Writes the list of all manifests; gives its location and how many row ids it gave out.
    async fn write_list(&self, table: &Table, manifest: ManifestFile) -> Result<(String, u64)> {
        let metadata = table.metadata();
        let failed = |error: iceberg::Error| self.failed(&error);
        let attempt = self.lists.lock().len();
        let folder = metadata_folder(metadata);
        let location = format!(
            "{folder}/snap-{}-{attempt}-{}.avro",
            self.snapshot_id, self.id
        );
        self.lists.lock().push(location.clone());
        let mut manifests = vec![manifest];
        if let Some(current) = metadata.current_snapshot() {
            let list = table.manifest_list_reader(current).load().await;
            manifests.extend(list.map_err(failed)?.consume_entries());
        }
        let output = table.file_io().new_output(&location).map_err(failed)?;
        let output = output.writer().await.map_err(failed)?;
        let (id, parent) = (self.snapshot_id, metadata.current_snapshot_id());
        let sequence = next_sequence_number(metadata);
        let first_row_id = metadata.next_row_id();
        let mut writer = match metadata.format_version() {
            FormatVersion::V1 => ManifestListWriter::v1(output, id, parent),
            FormatVersion::V2 => ManifestListWriter::v2(output, id, parent, sequence),
            FormatVersion::V3 => {
                ManifestListWriter::v3(output, id, parent, sequence, Some(first_row_id))
            }
        };
        writer
            .add_manifests(manifests.into_iter())
            .map_err(failed)?;
        let next = writer.next_row_id().unwrap_or(first_row_id);
        writer.close().await.map_err(failed)?;
        Ok((location, next.saturating_sub(first_row_id)))
    }

    fn snapshot(&self, metadata: &TableMetadata, list: String, row_ids: u64) -> Snapshot {
        let now = chrono::Utc::now().timestamp_millis();
        let builder = Snapshot::builder()
            .with_snapshot_id(self.snapshot_id)
            .with_parent_snapshot_id(metadata.current_snapshot_id())
            .with_sequence_number(next_sequence_number(metadata))
            // The clocks of writers differ; time goes on all the same.
            .with_timestamp_ms(now.max(metadata.last_updated_ms()))
            .with_manifest_list(list)
            .with_summary(self.summary(metadata))
            .with_schema_id(metadata.current_schema_id());
        match metadata.format_version() {
            FormatVersion::V3 => builder
                .with_row_range(metadata.next_row_id(), row_ids)
                .build(),
            _ => builder.build(),
        }
    }

    /// What the specification's appendix "Snapshot Summary" asks for.
    fn summary(&self, metadata: &TableMetadata) -> Summary {
        let files = self.files.len() as u64;
        let rows: u64 = self.files.iter().map(DataFile::record_count).sum();
        let bytes: u64 = self.files.iter().map(DataFile::file_size_in_bytes).sum();
        let partitions: HashSet<_> = self.files.iter().map(DataFile::partition).collect();
        let mut properties = HashMap::from([
            ("added-data-files", files),
            ("added-records", rows),
            ("added-files-size", bytes),
            ("changed-partition-count", partitions.len() as u64),
        ]);
        let before = metadata.current_snapshot().map(|s| s.summary());
        for (total, added) in [
            ("total-data-files", files),
            ("total-records", rows),
            ("total-files-size", bytes),
            ("total-delete-files", 0),
            ("total-position-deletes", 0),
            ("total-equality-deletes", 0),
        ] {
            let known = match before {
                None => Some(0),
                Some(summary) => {
                    let value = summary.additional_properties.get(total);
                    value.and_then(|text| text.parse::<u64>().ok())
                }
            };
            // A total that was not kept so far stays unknown.
            if let Some(known) = known {
                properties.insert(total, known.saturating_add(added));
            }
        }
        Summary {
            operation: Operation::Append,
            additional_properties: properties
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_string()))
                .collect(),
        }
    }
}

#[async_trait]
impl Change for Append {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        // Another table of that name has other field ids.
        if table.metadata().uuid() != self.table_uuid {
            return Err(Error::Conflict(format!(
                "table {} was replaced by another of its name while rows were written; run the \
                 statement again",
                self.name
            )));
        }
        if self.files.is_empty() {
            return Ok(vec![]);
        }
        let manifest = self.manifest.get_or_try_init(|| self.write_manifest(table));
        let manifest = manifest.await?.clone();
        let (list, row_ids) = self.write_list(table, manifest).await?;
        let metadata = table.metadata();
        let retention = branch_retention(metadata, MAIN_BRANCH)
            .unwrap_or_else(|| SnapshotRetention::branch(None, None, None));
        Ok(vec![
            TableUpdate::AddSnapshot {
                snapshot: self.snapshot(metadata, list, row_ids),
            },
            TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference: SnapshotReference::new(self.snapshot_id, retention),
            },
        ])
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        let mut lists = self.lists.lock().clone();
        if committed {
            // The last attempt is the one that counts.
            lists.pop();
            return lists;
        }
        let manifest = self.manifest.get();
        lists.extend(manifest.map(|manifest| manifest.manifest_path.clone()));
        lists
    }
}

fn next_sequence_number(metadata: &TableMetadata) -> i64 {
    match metadata.format_version() {
        FormatVersion::V1 => 0,
        _ => metadata.last_sequence_number() + 1,
    }
}
