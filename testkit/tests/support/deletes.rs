//! Commits of delete files as other writers make them: deleted positions in Parquet files and in
//! deletion vectors, deleted keys.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, MAIN_BRANCH,
    ManifestListWriter, ManifestWriterBuilder, Operation, Snapshot, SnapshotReference,
    SnapshotRetention, Summary,
};
use iceberg::table::Table;
use inshore_lake::catalog::Change;
use inshore_lake::deletes::vector;
use inshore_lake::{Result, TableName};
use inshore_testkit::Lake;
use parquet::arrow::ArrowWriter;
use roaring::RoaringTreemap;

/// Reserved field ids of position delete files (specification, "Reserved Field IDs").
const DELETE_PATH: i32 = 2_147_483_546;
const DELETE_POSITION: i32 = 2_147_483_545;

/// Delete files to be added in one commit.
struct AddDeletes(Vec<DataFile>);

/// Adds delete files to a table of schema `s`.
pub async fn commit(lake: &Lake, table: &str, files: Vec<DataFile>) {
    let catalogs = lake.catalogs();
    let catalog = catalogs.default_name().unwrap();
    let name = TableName::new(catalog, "s", table);
    let changed = catalogs.change_table(&name, &AddDeletes(files)).await;
    changed.unwrap().unwrap();
}

#[async_trait]
impl Change for AddDeletes {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        let metadata = table.metadata();
        let version = metadata.format_version();
        let id = (uuid::Uuid::new_v4().as_u128() as i64) & i64::MAX;
        let at = format!("{}/metadata/{id}", metadata.location());
        let spec = metadata.default_partition_spec().as_ref().clone();
        let output = table.file_io().new_output(format!("{at}-m0.avro")).unwrap();
        let schema = Arc::clone(metadata.current_schema());
        let builder = ManifestWriterBuilder::new(output, Some(id), schema, spec);
        let mut manifest = match version {
            FormatVersion::V3 => builder.build_v3_deletes(),
            _ => builder.build_v2_deletes(),
        };
        for file in &self.0 {
            manifest.add_file(file.clone(), -1).unwrap();
        }
        let added = manifest.write_manifest_file().await.unwrap();
        let current = metadata.current_snapshot().unwrap();
        let list = table.manifest_list_reader(current).load().await.unwrap();
        let location = format!("{at}-list.avro");
        let output = table.file_io().new_output(&location).unwrap();
        let output = output.writer().await.unwrap();
        let parent = metadata.current_snapshot_id();
        let sequence = metadata.last_sequence_number() + 1;
        let row_id = metadata.next_row_id();
        let mut writer = match version {
            FormatVersion::V3 => ManifestListWriter::v3(output, id, parent, sequence, Some(row_id)),
            _ => ManifestListWriter::v2(output, id, parent, sequence),
        };
        let all = list.entries().iter().cloned().chain([added]);
        writer.add_manifests(all).unwrap();
        writer.close().await.unwrap();
        let snapshot = Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(sequence)
            .with_timestamp_ms(metadata.last_updated_ms() + 1)
            .with_manifest_list(location)
            .with_summary(summary(current, &self.0))
            .with_schema_id(metadata.current_schema_id());
        let snapshot = match version {
            FormatVersion::V3 => snapshot.with_row_range(row_id, 0).build(),
            _ => snapshot.build(),
        };
        let retention = SnapshotRetention::branch(None, None, None);
        Ok(vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference: SnapshotReference::new(id, retention),
            },
        ])
    }
}

/// What a file counts in summaries: of a Puffin file its own vector only.
pub fn size_bytes(file: &DataFile) -> u64 {
    let vector = file.content_size_in_bytes().map(|size| size as u64);
    vector.unwrap_or(file.file_size_in_bytes())
}

fn summary(before: &Snapshot, files: &[DataFile]) -> Summary {
    let mut totals = before.summary().additional_properties.clone();
    totals.retain(|key, _| key.starts_with("total-"));
    for file in files {
        let deletes = match file.content_type() {
            DataContentType::EqualityDeletes => "total-equality-deletes",
            _ => "total-position-deletes",
        };
        for (key, number) in [
            ("total-delete-files", 1),
            ("total-files-size", size_bytes(file)),
            (deletes, file.record_count()),
        ] {
            let total: u64 = totals[key].parse().unwrap();
            totals.insert(key.to_owned(), (total + number).to_string());
        }
    }
    Summary {
        operation: Operation::Delete,
        additional_properties: totals,
    }
}

fn place(table: &Table, name: &str) -> (String, std::path::PathBuf) {
    let id = uuid::Uuid::new_v4();
    let location = format!("{}/data/{id}-{name}", table.metadata().location());
    let path = Path::new(location.trim_start_matches("file://")).to_owned();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    (location, path)
}

fn column(name: &str, ty: DataType, id: i32) -> Field {
    let metadata = [("PARQUET:field_id".to_owned(), id.to_string())];
    Field::new(name, ty, false).with_metadata(metadata.into_iter().collect())
}

fn parquet(path: &Path, columns: Vec<(Field, ArrayRef)>) -> u64 {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    std::fs::metadata(path).unwrap().len()
}

/// A file of positions in data files of one partition, which is that of `like`.
pub fn positions(table: &Table, name: &str, like: &DataFile, rows: &[(String, i64)]) -> DataFile {
    let (location, path) = place(table, name);
    let mut rows = rows.to_vec();
    rows.sort();
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.0)));
    let places: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1)));
    let size = parquet(
        &path,
        vec![
            (column("file_path", DataType::Utf8, DELETE_PATH), paths),
            (column("pos", DataType::Int64, DELETE_POSITION), places),
        ],
    );
    let one = rows.iter().all(|row| row.0 == rows[0].0);
    DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(location)
        .file_format(DataFileFormat::Parquet)
        .partition(like.partition().clone())
        .partition_spec_id(table.metadata().default_partition_spec_id())
        .record_count(rows.len() as u64)
        .file_size_in_bytes(size)
        .referenced_data_file(one.then(|| rows[0].0.clone()))
        .build()
        .unwrap()
}

/// Deletion vectors of several data files, in one Puffin file.
pub fn vectors(table: &Table, name: &str, rows: &[(&DataFile, &[i64])]) -> Vec<DataFile> {
    let (location, path) = place(table, name);
    let mut content = b"PFA1".to_vec();
    let mut blobs = vec![];
    for (file, positions) in rows {
        let bitmap: RoaringTreemap = positions.iter().map(|at| *at as u64).collect();
        let blob = vector::encode(&bitmap).unwrap();
        blobs.push((*file, content.len(), blob.len(), positions.len()));
        content.extend(blob);
    }
    std::fs::write(path, &content).unwrap();
    let spec = table.metadata().default_partition_spec_id();
    let vector = |(file, offset, length, rows): (&DataFile, usize, usize, usize)| {
        DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(location.clone())
            .file_format(DataFileFormat::Puffin)
            .partition(file.partition().clone())
            .partition_spec_id(spec)
            .record_count(rows as u64)
            .file_size_in_bytes(content.len() as u64)
            .referenced_data_file(Some(file.file_path().to_owned()))
            .content_offset(Some(offset as i64))
            .content_size_in_bytes(Some(length as i64))
            .build()
            .unwrap()
    };
    blobs.into_iter().map(vector).collect()
}

/// A file of deleted values of column `id`, for the partition of `like`.
pub fn ids(table: &Table, name: &str, like: &DataFile, ids: &[i64]) -> DataFile {
    let (location, path) = place(table, name);
    let id = table.metadata().current_schema().field_id_by_name("id");
    let id = id.unwrap();
    let values: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let size = parquet(&path, vec![(column("id", DataType::Int64, id), values)]);
    DataFileBuilder::default()
        .content(DataContentType::EqualityDeletes)
        .file_path(location)
        .file_format(DataFileFormat::Parquet)
        .partition(like.partition().clone())
        .partition_spec_id(table.metadata().default_partition_spec_id())
        .record_count(ids.len() as u64)
        .file_size_in_bytes(size)
        .equality_ids(Some(vec![id]))
        .build()
        .unwrap()
}
