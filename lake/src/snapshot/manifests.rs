//! Writing manifests: new ones, and those of others without the files that are removed.

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, FormatVersion, Manifest, ManifestContentType,
    ManifestEntry, ManifestFile, ManifestStatus, ManifestWriter, ManifestWriterBuilder,
    PartitionSpec, SchemaRef,
};
use iceberg::table::Table;

use super::removal::Removal;
use super::summary::Counts;
use crate::catalog::metadata_folder;
use crate::{Error, Result};

/// Manifests that are read at once.
pub(super) const CONCURRENT_READS: usize = 8;

/// An entry of a manifest, with everything that it inherits from its list.
pub(super) struct Entry {
    pub status: ManifestStatus,
    snapshot_id: i64,
    sequence: i64,
    file_sequence: i64,
    file: DataFile,
}

/// What one attempt writes its manifests with.
pub(super) struct Manifests<'a> {
    pub name: &'a str,
    pub table: &'a Table,
    pub snapshot_id: i64,
    /// What the names of its files begin with.
    pub prefix: String,
    /// Where it wrote, or was about to.
    pub written: Vec<String>,
}

impl Manifests<'_> {
    /// The manifests without the files of `removal`, which are counted in `removed`. A manifest that
    /// loses none stays as it is; one that has no file left is left out.
    pub async fn filtered(
        &mut self,
        manifests: Vec<ManifestFile>,
        removal: &Removal,
        removed: &mut Counts,
    ) -> Result<Vec<ManifestFile>> {
        let live = manifests.into_iter().filter(is_live);
        let (name, file_io) = (self.name, self.table.file_io().clone());
        let mut read = futures::stream::iter(live)
            .map(|file| {
                let file_io = file_io.clone();
                async move {
                    if !removal.may_touch(&file) {
                        return Ok((file, None));
                    }
                    let manifest = file.load_manifest(&file_io).await;
                    let manifest = manifest.map_err(|error| failed(name, &error))?;
                    Ok::<_, Error>((file, Some(manifest)))
                }
            })
            .buffered(CONCURRENT_READS);
        let mut kept = vec![];
        while let Some((file, manifest)) = read.try_next().await? {
            let Some(manifest) = manifest else {
                kept.push(file);
                continue;
            };
            let spec_id = file.partition_spec_id;
            let takes = |entry: &ManifestEntry| entry.is_alive() && removal.takes(spec_id, entry);
            if !manifest.entries().iter().any(|entry| takes(entry)) {
                kept.push(file);
                continue;
            }
            let mut entries = entries(name, &file, &manifest)?;
            entries.retain(|entry| entry.status != ManifestStatus::Deleted);
            let live = manifest.entries().iter().filter(|entry| entry.is_alive());
            for (entry, old) in entries.iter_mut().zip(live) {
                entry.status = match takes(old) {
                    true => {
                        removed.add(spec_id, &entry.file);
                        ManifestStatus::Deleted
                    }
                    false => ManifestStatus::Existing,
                };
            }
            let schema = manifest.metadata().schema().clone();
            let spec = manifest.metadata().partition_spec().clone();
            let written = self.write(schema, spec, file.content, entries);
            kept.push(written.await?);
        }
        Ok(kept)
    }

    /// Writes one manifest.
    pub async fn write(
        &mut self,
        schema: SchemaRef,
        spec: PartitionSpec,
        content: ManifestContentType,
        entries: Vec<Entry>,
    ) -> Result<ManifestFile> {
        let folder = metadata_folder(self.table.metadata());
        let location = format!("{folder}/{}-m{}.avro", self.prefix, self.written.len() + 1);
        self.written.push(location.clone());
        let (name, id) = (self.name, self.snapshot_id);
        let failed = |error: iceberg::Error| failed(name, &error);
        let mut writer =
            writer(self.table, &location, id, schema, spec, content).map_err(failed)?;
        for entry in entries {
            let Entry {
                snapshot_id,
                sequence,
                file_sequence,
                file,
                ..
            } = entry;
            match entry.status {
                // Inherited from the manifest, which gets it from its list.
                ManifestStatus::Added => writer.add_file(file, -1),
                ManifestStatus::Existing => {
                    writer.add_existing_file(file, snapshot_id, sequence, Some(file_sequence))
                }
                ManifestStatus::Deleted => {
                    writer.add_delete_file(file, sequence, Some(file_sequence))
                }
            }
            .map_err(failed)?;
        }
        writer.write_manifest_file().await.map_err(failed)
    }

    /// All entries of a manifest as they stand in one that takes its place: what this snapshot added
    /// or removed stays so, what others added exists, what others removed is gone.
    pub fn carried(&self, file: &ManifestFile, manifest: &Manifest) -> Result<Vec<Entry>> {
        let mut entries = entries(self.name, file, manifest)?;
        let id = self.snapshot_id;
        entries.retain(|entry| entry.status != ManifestStatus::Deleted || entry.snapshot_id == id);
        for entry in &mut entries {
            if entry.status == ManifestStatus::Added && entry.snapshot_id != id {
                entry.status = ManifestStatus::Existing;
            }
        }
        Ok(entries)
    }
}

/// A writer for the table's format version.
pub(super) fn writer(
    table: &Table,
    location: &str,
    snapshot_id: i64,
    schema: SchemaRef,
    spec: PartitionSpec,
    content: ManifestContentType,
) -> iceberg::Result<ManifestWriter> {
    let output = table.file_io().new_output(location)?;
    let builder = ManifestWriterBuilder::new(output, Some(snapshot_id), schema, spec);
    Ok(match (table.metadata().format_version(), content) {
        (FormatVersion::V1, _) => builder.build_v1(),
        (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
        (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
        (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
        (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
    })
}

/// Whether any file of the manifest is part of the table; one that does not say may have some.
fn is_live(manifest: &ManifestFile) -> bool {
    manifest.has_added_files() || manifest.has_existing_files()
}

/// The entries of a manifest. Row ids that data files inherit in a live entry become their own,
/// since the manifest that they move to has others (Iceberg specification, "First Row ID
/// Inheritance").
fn entries(name: &str, list: &ManifestFile, manifest: &Manifest) -> Result<Vec<Entry>> {
    let mut next = list.first_row_id;
    let mut entries = vec![];
    for entry in manifest.entries() {
        let mut file = entry.data_file().clone();
        if let Some(first) = next
            && entry.is_alive()
            && file.content_type() == DataContentType::Data
            && file.first_row_id().is_none()
        {
            next = first.checked_add(file.record_count());
            // What is added by the snapshot at hand has none yet, so this one is older.
            file =
                numbered(&file, list.partition_spec_id, first).map_err(|why| Error::Corrupt {
                    path: list.manifest_path.clone(),
                    why: format!("{} of table {name}: {why}", file.file_path()),
                })?;
        }
        let sequence = entry.sequence_number().unwrap_or(list.sequence_number);
        entries.push(Entry {
            status: entry.status(),
            snapshot_id: entry.snapshot_id().unwrap_or(list.added_snapshot_id),
            sequence,
            file_sequence: entry.file_sequence_number.unwrap_or(sequence),
            file,
        });
    }
    Ok(entries)
}

/// The file with row ids of its own.
fn numbered(file: &DataFile, spec_id: i32, first: u64) -> std::result::Result<DataFile, String> {
    let first = i64::try_from(first).map_err(|_| "row ids have more than 63 bits".to_owned())?;
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(Some(first))
        .partition_spec_id(spec_id)
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(id) = file.sort_order_id() {
        builder.sort_order_id(id);
    }
    builder.build().map_err(|error| error.to_string())
}

/// An error of iceberg-rust in ours.
pub(super) fn failed(name: &str, error: &iceberg::Error) -> Error {
    Error::in_chain(error).unwrap_or_else(|| Error::Unavailable {
        service: format!("committing to table {name}"),
        why: error.to_string(),
    })
}
