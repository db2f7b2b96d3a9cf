//! One snapshot: what it adds, what it removes, and the files that say so.

use std::collections::HashSet;

use iceberg::TableUpdate;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, ManifestContentType, ManifestFile, ManifestListWriter,
    NestedFieldRef, Operation, Snapshot, SnapshotRef, SnapshotReference, SnapshotRetention,
    Summary, TableMetadata,
};
use iceberg::table::Table;
use parking_lot::Mutex;
use uuid::Uuid;

use super::manifests::{Manifests, failed, writer};
use super::merge::merged;
use super::removal::Removal;
use super::summary::{Counts, summary};
use crate::catalog::metadata_folder;
use crate::version::refs;
use crate::{Error, Result};

/// Attempts that merge manifests. Merging reads many, and takes so long that a writer who always did
/// would be too late every time on a busy table; who commits next merges instead.
const MERGING_ATTEMPTS: usize = 1;

/// Makes the snapshot of one change, for as many attempts as it takes.
#[derive(Debug)]
pub(super) struct Producer {
    name: String,
    /// Of the table that the files were written for.
    table_uuid: Uuid,
    /// The top-level columns that the files have, by field id.
    columns: HashSet<i32>,
    /// The fields that may be NULL in the files, at any depth.
    optional: HashSet<i32>,
    spec_id: i32,
    files: Vec<DataFile>,
    /// The branch that goes on.
    branch: String,
    /// The retention of a branch that is made with the snapshot.
    new_branch: Option<SnapshotRetention>,
    snapshot_id: i64,
    id: Uuid,
    /// Of the added files.
    manifest: tokio::sync::OnceCell<ManifestFile>,
    attempts: Mutex<Vec<Written>>,
}

/// What one attempt wrote.
#[derive(Debug, Default)]
struct Written {
    used: Vec<String>,
    /// Merged into others right away.
    unused: Vec<String>,
}

impl Producer {
    /// For `files`, which were written for `table` as it was then.
    pub fn new(name: &str, table: &Table, files: Vec<DataFile>) -> Self {
        let id = Uuid::new_v4();
        // Positive, as Java's longs in other writers' metadata are.
        let snapshot_id = (id.as_u64_pair().0 & (i64::MAX as u64)) as i64;
        Self {
            name: name.to_owned(),
            table_uuid: table.metadata().uuid(),
            columns: columns(table.metadata()).map(|field| field.id).collect(),
            optional: fields(table.metadata(), false).collect(),
            spec_id: table.metadata().default_partition_spec_id(),
            files,
            branch: MAIN_BRANCH.to_owned(),
            new_branch: None,
            snapshot_id,
            id,
            manifest: tokio::sync::OnceCell::new(),
            attempts: Mutex::default(),
        }
    }

    /// On top of another branch than `main`.
    pub fn on_branch(self, branch: &str) -> Self {
        Self {
            branch: branch.to_owned(),
            ..self
        }
    }

    /// As the first snapshot of a branch.
    pub fn for_new_branch(self, branch: &str, retention: SnapshotRetention) -> Self {
        Self {
            new_branch: Some(retention),
            ..self.on_branch(branch)
        }
    }

    /// The newest snapshot of the branch; none for `main` of a table without rows.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a branch that is gone by now.
    pub fn head<'a>(&self, metadata: &'a TableMetadata) -> Result<Option<&'a SnapshotRef>> {
        Ok(self.parent(metadata)?.0)
    }

    /// The newest snapshot of the branch, and how long its snapshots are kept.
    fn parent<'a>(
        &self,
        metadata: &'a TableMetadata,
    ) -> Result<(Option<&'a SnapshotRef>, SnapshotRetention)> {
        if let Some(retention) = &self.new_branch {
            return Ok((None, retention.clone()));
        }
        let found = refs(&self.name, metadata)?.remove(&self.branch);
        match found.filter(SnapshotReference::is_branch) {
            Some(found) => {
                let snapshot = metadata.snapshot_by_id(found.snapshot_id);
                Ok((snapshot, found.retention))
            }
            None if self.branch == MAIN_BRANCH => {
                let retention = SnapshotRetention::branch(None, None, None);
                Ok((metadata.current_snapshot(), retention))
            }
            None => Err(Error::Conflict(format!(
                "branch {} of table {} was dropped while rows were written to it",
                self.branch, self.name
            ))),
        }
    }

    /// The table's full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// # Errors
    /// [`Error::Conflict`] for another table of that name, or one that was defined anew: it has other
    /// columns than the files.
    pub fn check_table(&self, table: &Table) -> Result<()> {
        let metadata = table.metadata();
        let is_there = |field: &&NestedFieldRef| self.columns.contains(&field.id);
        let known = columns(metadata).any(|field| is_there(&field));
        let missing = columns(metadata).any(|field| field.required && !is_there(&field));
        let stricter = fields(metadata, true).any(|id| self.optional.contains(&id));
        let fits = self.files.is_empty() || (known && !missing && !stricter);
        match metadata.uuid() == self.table_uuid && fits {
            true => Ok(()),
            false => Err(Error::Conflict(format!(
                "table {} was replaced by another of its name, or defined anew, while rows were \
                 written; run the statement again",
                self.name
            ))),
        }
    }

    /// The updates of one attempt; none when there is nothing to add or to remove.
    ///
    /// # Errors
    /// As [`crate::catalog::Change::updates`].
    pub async fn updates(
        &self,
        table: &Table,
        operation: Operation,
        removal: &Removal,
    ) -> Result<Vec<TableUpdate>> {
        self.check_table(table)?;
        self.tried(table, operation, removal, false).await
    }

    /// The updates that add a snapshot which changes nothing.
    ///
    /// # Errors
    /// As [`Producer::updates`].
    pub async fn empty(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        self.check_table(table)?;
        let (operation, removal) = (Operation::Append, Removal::Nothing);
        self.tried(table, operation, &removal, true).await
    }

    async fn tried(
        &self,
        table: &Table,
        operation: Operation,
        removal: &Removal,
        even_empty: bool,
    ) -> Result<Vec<TableUpdate>> {
        let attempt = {
            let mut attempts = self.attempts.lock();
            attempts.push(Written::default());
            attempts.len() - 1
        };
        let mut manifests = Manifests {
            name: &self.name,
            table,
            snapshot_id: self.snapshot_id,
            prefix: format!("{}-{attempt}", self.id),
            written: vec![],
        };
        let merges = attempt < MERGING_ATTEMPTS;
        let done = self.attempt(&mut manifests, operation, removal, merges, even_empty);
        let done = done.await;
        let written = std::mem::take(&mut manifests.written);
        let listed = done.as_ref().map(|(_, listed)| listed.as_slice());
        self.note(attempt, written, listed.unwrap_or_default());
        done.map(|(updates, _)| updates)
    }

    /// The updates, and the locations of all manifests and of the list that they refer to.
    async fn attempt(
        &self,
        writer: &mut Manifests<'_>,
        operation: Operation,
        removal: &Removal,
        merges: bool,
        even_empty: bool,
    ) -> Result<(Vec<TableUpdate>, Vec<String>)> {
        let table = writer.table;
        let metadata = table.metadata();
        let (parent, retention) = self.parent(metadata)?;
        let mut current = vec![];
        if let Some(snapshot) = parent {
            let list = table.manifest_list_reader(snapshot).load().await;
            let list = list.map_err(|error| failed(&self.name, &error))?;
            current.extend(list.consume_entries());
        }
        removal.check(&self.name, &current)?;
        let mut removed = Counts::default();
        let current = writer.filtered(current, removal, &mut removed).await?;
        if self.files.is_empty() && removed.is_empty() && !even_empty {
            return Ok((vec![], vec![]));
        }
        let mut added = Counts::default();
        let mut manifests = vec![];
        if !self.files.is_empty() {
            self.files.iter().for_each(|f| added.add(self.spec_id, f));
            let manifest = self.manifest.get_or_try_init(|| self.write_added(table));
            manifests.push(manifest.await?.clone());
        }
        manifests.extend(current);
        if merges {
            manifests = merged(writer, manifests).await?;
        }
        let mut listed: Vec<_> = manifests.iter().map(|m| m.manifest_path.clone()).collect();
        let list = self.write_list(writer, manifests, parent).await?;
        listed.push(list.0.clone());
        let everything = matches!(removal, Removal::All);
        let summary = summary(parent, operation, &added, &removed, everything);
        let snapshot = self.snapshot(metadata, parent, list, summary);
        Ok((self.put(snapshot, retention), listed))
    }

    /// Makes a snapshot the newest one of the branch.
    fn put(&self, snapshot: Snapshot, retention: SnapshotRetention) -> Vec<TableUpdate> {
        vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef {
                ref_name: self.branch.clone(),
                reference: SnapshotReference::new(self.snapshot_id, retention),
            },
        ]
    }

    async fn write_added(&self, table: &Table) -> Result<ManifestFile> {
        let metadata = table.metadata();
        let failed = |error: iceberg::Error| failed(&self.name, &error);
        let location = format!("{}/{}-m0.avro", metadata_folder(metadata), self.id);
        let spec = metadata.partition_spec_by_id(self.spec_id).ok_or_else(|| {
            Error::Conflict(format!(
                "table {} lost its partition spec while rows were written",
                self.name
            ))
        })?;
        let schema = metadata.current_schema().clone();
        let (spec, content) = (spec.as_ref().clone(), ManifestContentType::Data);
        let mut writer =
            writer(table, &location, self.snapshot_id, schema, spec, content).map_err(failed)?;
        for file in &self.files {
            // Inherited from the manifest, which gets it from its list.
            writer.add_file(file.clone(), -1).map_err(failed)?;
        }
        writer.write_manifest_file().await.map_err(failed)
    }

    /// Writes the list of all manifests; gives its location and how many row ids it gave out.
    async fn write_list(
        &self,
        attempt: &mut Manifests<'_>,
        manifests: Vec<ManifestFile>,
        parent: Option<&SnapshotRef>,
    ) -> Result<(String, u64)> {
        let table = attempt.table;
        let metadata = table.metadata();
        let failed = |error: iceberg::Error| failed(&self.name, &error);
        let folder = metadata_folder(metadata);
        let (id, prefix) = (self.snapshot_id, &attempt.prefix);
        let location = format!("{folder}/snap-{id}-{prefix}.avro");
        attempt.written.push(location.clone());
        let output = table.file_io().new_output(&location).map_err(failed)?;
        let output = output.writer().await.map_err(failed)?;
        let parent = parent.map(|snapshot| snapshot.snapshot_id());
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

    fn snapshot(
        &self,
        metadata: &TableMetadata,
        parent: Option<&SnapshotRef>,
        (list, row_ids): (String, u64),
        summary: Summary,
    ) -> Snapshot {
        let now = chrono::Utc::now().timestamp_millis();
        let builder = Snapshot::builder()
            .with_snapshot_id(self.snapshot_id)
            .with_parent_snapshot_id(parent.map(|snapshot| snapshot.snapshot_id()))
            .with_sequence_number(next_sequence_number(metadata))
            // The clocks of writers differ; time goes on all the same.
            .with_timestamp_ms(now.max(metadata.last_updated_ms()))
            .with_manifest_list(list)
            .with_summary(summary)
            .with_schema_id(metadata.current_schema_id());
        match metadata.format_version() {
            FormatVersion::V3 => builder
                .with_row_range(metadata.next_row_id(), row_ids)
                .build(),
            _ => builder.build(),
        }
    }

    /// Remembers what an attempt wrote, and which of it the snapshot refers to.
    fn note(&self, attempt: usize, mut written: Vec<String>, listed: &[String]) {
        written.extend(self.manifest.get().map(|m| m.manifest_path.clone()));
        let (used, unused) = written.into_iter().partition(|file| listed.contains(file));
        if let Some(place) = self.attempts.lock().get_mut(attempt) {
            *place = Written { used, unused };
        }
    }

    /// As [`crate::catalog::Change::unused`].
    pub fn unused(&self, committed: bool) -> Vec<String> {
        let attempts = self.attempts.lock();
        let all = attempts.iter().flat_map(|w| w.used.iter().chain(&w.unused));
        let mut unused: Vec<String> = all.cloned().collect();
        unused.sort();
        unused.dedup();
        if committed && let Some(last) = attempts.last() {
            // The last attempt is the one that counts.
            unused.retain(|file| !last.used.contains(file));
        }
        unused
    }
}

fn columns(metadata: &TableMetadata) -> impl Iterator<Item = &NestedFieldRef> {
    metadata.current_schema().as_struct().fields().iter()
}

/// The ids of all fields, at any depth, that have to have a value, or of those that need not.
fn fields(metadata: &TableMetadata, required: bool) -> impl Iterator<Item = i32> {
    let schema = metadata.current_schema();
    let ids = schema.field_id_to_name_map().keys();
    let fields = ids.filter_map(|id| schema.field_by_id(*id));
    fields
        .filter(move |field| field.required == required)
        .map(|field| field.id)
}

fn next_sequence_number(metadata: &TableMetadata) -> i64 {
    match metadata.format_version() {
        FormatVersion::V1 => 0,
        _ => metadata.last_sequence_number() + 1,
    }
}
