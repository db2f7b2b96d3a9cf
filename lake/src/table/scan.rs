//! The physical plan of one scan of a table.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::Array;
use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as DfResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use iceberg::spec::{DataFileFormat, NestedFieldRef};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::IcebergTable;
use crate::deletes::{DeleteIndex, FileDeletes, key_path};
use crate::manifest::{DataFileEntry, DecodedManifest, FileFormat};
use crate::plan::bounds::primitive_to_scalar;
use crate::plan::statistics::{FileStatistics, scan_statistics};
use crate::plan::{FilePlan, PlanCounts};
use crate::scan::metadata_columns::{FILE_ID, PARTITION_ID, PartitionStruct, SPEC_ID_ID};
use crate::scan::schema::{TableColumns, TableField, relaxed, translated};
use crate::scan::{
    IcebergSource, ScanEnv, ScanFile, ScanInfo, ScanOptions, groups, piece_bytes, ranges,
};
use crate::{Error, Result};

/// A file of a manifest.
type ManifestEntry = (Arc<DecodedManifest>, usize);

/// A file to read, with what deletes rows of it.
struct PlannedFile {
    manifest: Arc<DecodedManifest>,
    index: usize,
    deletes: FileDeletes,
    path: Path,
}

impl PlannedFile {
    fn entry(&self) -> &DataFileEntry {
        &self.manifest.entries[self.index]
    }
}

/// Makes the physical plan of one scan.
pub struct Scan<'a> {
    table: &'a IcebergTable,
    state: &'a dyn Session,
    options: ScanOptions,
    projection: Vec<usize>,
    wanted: Vec<usize>,
    limit: Option<usize>,
    /// The table's columns, and behind them key columns of deletes that the table has no more.
    columns: Arc<TableColumns>,
    partition: Option<PartitionStruct>,
    deletes: DeleteIndex,
    files: Vec<ManifestEntry>,
    counts: PlanCounts,
}

impl<'a> Scan<'a> {
    /// `wanted` are the columns that are projected or filtered.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::Corrupt`] for delete files that cannot be applied.
    pub fn new(
        table: &'a IcebergTable,
        state: &'a dyn Session,
        options: ScanOptions,
        projection: Option<&Vec<usize>>,
        wanted: Vec<usize>,
        limit: Option<usize>,
        mut plan: FilePlan,
    ) -> Result<Self> {
        let name = table.name.to_string();
        let address = |location: &str| table.stores.address(location);
        let deletes = DeleteIndex::new(&name, &plan.deletes, &plan.unpartitioned, &address)?;
        if let Some(limit) = limit.filter(|_| deletes.is_empty()) {
            keep_enough(&mut plan, limit as u64);
        }
        let all = table.columns.fields.len();
        let shows_partition = wanted
            .iter()
            .any(|place| table.columns.fields[*place].id == PARTITION_ID);
        Ok(Self {
            columns: columns_with_keys(table, &deletes.key_ids())?,
            partition: shows_partition.then(|| PartitionStruct::of(table.table.metadata())),
            projection: projection.map_or_else(|| (0..all).collect(), Vec::clone),
            table,
            state,
            options,
            wanted,
            limit,
            deletes,
            files: plan.files,
            counts: plan.counts,
        })
    }

    /// The plan.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for files that no store can address.
    pub fn build(mut self) -> DfResult<Arc<dyn ExecutionPlan>> {
        let files = std::mem::take(&mut self.files);
        self.counts.delete_files = self.deletes.count();
        let stores = self.by_store(files)?;
        let info = Arc::new(ScanInfo {
            table: self.table.name.to_string(),
            snapshot_id: self.table.snapshot().map(|snapshot| snapshot.snapshot_id()),
            columns: Arc::clone(&self.columns),
            rules: self.table.rules.clone(),
            counts: self.counts,
        });
        let mut plans = vec![];
        for (url, files) in stores {
            plans.push(self.exec(url, &files, &info)?);
        }
        match plans.len() {
            // The scan asks for its store all the same, and there may be no local file system.
            0 => {
                let location = self.table.table.metadata().location();
                let home = self.table.stores.address(location);
                let home = home.map_or_else(|_| ObjectStoreUrl::local_filesystem(), |(url, _)| url);
                self.exec(home, &[], &info)
            }
            1 => Ok(plans.remove(0)),
            // A table may have files in several buckets; one scan reads from one store.
            _ => UnionExec::try_new(plans),
        }
    }

    fn by_store(
        &self,
        files: Vec<ManifestEntry>,
    ) -> Result<Vec<(ObjectStoreUrl, Vec<PlannedFile>)>> {
        let mut stores: BTreeMap<String, (ObjectStoreUrl, Vec<PlannedFile>)> = BTreeMap::new();
        for (manifest, index) in files {
            let (url, path) = self.table.stores.address(&manifest.entries[index].path)?;
            let file = PlannedFile {
                deletes: self.deletes.of_file(&manifest, index),
                manifest,
                index,
                path,
            };
            if let Some((_, files)) = stores.get_mut(url.as_str()) {
                files.push(file);
            } else {
                stores.insert(url.as_str().to_owned(), (url, vec![file]));
            }
        }
        Ok(stores.into_values().collect())
    }

    fn exec(
        &self,
        url: ObjectStoreUrl,
        files: &[PlannedFile],
        info: &Arc<ScanInfo>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let partitions = self.state.config().target_partitions();
        let least = self.options.min_partitions;
        let pieces = self.pieces(&url, files, partitions)?;
        let env = ScanEnv::of(self.state.config(), self.state.runtime_env());
        let source = IcebergSource::new(self.parquet_source(), Arc::clone(info), env);
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups(pieces, partitions, least))
            .with_statistics(self.statistics(files))
            .with_limit(self.limit)
            .with_projection_indices(Some(self.projection.clone()))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn statistics(&self, files: &[PlannedFile]) -> Statistics {
        let deletes = files.iter().any(|file| !file.deletes.is_empty());
        let files: Vec<ManifestEntry> = files
            .iter()
            .map(|file| (Arc::clone(&file.manifest), file.index))
            .collect();
        let schema = &self.table.schema;
        let statistics = scan_statistics(&files, &self.columns, schema, &self.wanted);
        // A limit ends the scan somewhere.
        match deletes || self.limit.is_some() {
            true => statistics.to_inexact(),
            false => statistics,
        }
    }

    fn parquet_source(&self) -> ParquetSource {
        let mut global = self.state.config_options().execution.parquet.clone();
        // Timestamps of old Spark and Hive files. As nanoseconds they would end in the year 2262.
        global.coerce_int96 = Some("us".to_string());
        let options = TableParquetOptions {
            global,
            ..TableParquetOptions::default()
        };
        let schema = Arc::clone(&self.columns.arrow);
        ParquetSource::new(TableSchema::from_file_schema(schema))
            .with_table_parquet_options(options)
    }

    fn pieces(
        &self,
        url: &ObjectStoreUrl,
        files: &[PlannedFile],
        partitions: usize,
    ) -> DfResult<Vec<PartitionedFile>> {
        let total: u64 = files
            .iter()
            .map(|file| file.entry().size_bytes)
            .fold(0, u64::saturating_add);
        let target = piece_bytes(
            total,
            partitions,
            self.options.target_piece_bytes,
            self.options.least_piece_bytes,
        );
        // They have a place for every column, wanted or not.
        let values = files.len().saturating_mul(self.columns.fields.len());
        let with_statistics = (1..=self.options.file_statistics_max).contains(&values);
        let schema = &self.table.schema;
        let mut statistics = FileStatistics::new(&self.columns, schema, &self.wanted);
        let mut pieces = vec![];
        for file in files {
            let entry = file.entry();
            let mut whole = PartitionedFile::new_from_meta(object_meta(url, file))
                .with_extension(Arc::new(self.scan_file(file)?));
            if with_statistics {
                whole.statistics = Some(Arc::new(statistics.of(&file.manifest, file.index)));
            }
            let ranges = match entry.format == DataFileFormat::Parquet {
                true => ranges(entry.size_bytes, &entry.split_offsets, target),
                false => vec![],
            };
            if ranges.len() < 2 {
                pieces.push(whole);
                continue;
            }
            for (start, end) in ranges {
                let start = i64::try_from(start).unwrap_or(i64::MAX);
                let end = i64::try_from(end).unwrap_or(i64::MAX);
                pieces.push(whole.clone().with_range(start, end));
            }
        }
        Ok(pieces)
    }

    fn scan_file(&self, file: &PlannedFile) -> Result<ScanFile> {
        let entry = file.entry();
        let FileFormat::Known(format) = entry.format else {
            return Err(Error::Internal(format!("{} has no format", entry.path)));
        };
        Ok(ScanFile {
            location: Arc::clone(&entry.path),
            format,
            spec_id: file.manifest.spec_id,
            sequence_number: entry.sequence_number,
            record_count: entry.record_count,
            first_row_id: entry.first_row_id,
            projected_bytes: self.projected_bytes(&file.manifest, file.index),
            constants: self.constants(file),
            without_nan: self.without_nan(&file.manifest, file.index),
            deletes: file.deletes.clone(),
        })
    }

    /// Values of columns that the file may leave out: its identity partition columns, and the
    /// metadata columns that are the same in all its rows.
    fn constants(&self, file: &PlannedFile) -> HashMap<i32, ScalarValue> {
        let columns = &self.columns;
        let mut constants = HashMap::new();
        for (id, (ty, literal)) in file.manifest.identity_values(file.index) {
            let column = columns.index_of_id(id).map(|at| columns.arrow.field(at));
            if let (Some(column), Some(value)) = (column, primitive_to_scalar(&literal, &ty))
                && let Ok(value) = value.cast_to(column.data_type())
            {
                constants.insert(id, value);
            }
        }
        for place in &self.wanted {
            let value = match columns.fields[*place].id {
                FILE_ID => Some(ScalarValue::Utf8View(Some(file.entry().path.to_string()))),
                SPEC_ID_ID => Some(ScalarValue::Int32(Some(file.manifest.spec_id))),
                PARTITION_ID => self
                    .partition
                    .as_ref()
                    .and_then(|shape| shape.value(&file.manifest.partition_scalars(file.index))),
                _ => None,
            };
            if let Some(value) = value {
                constants.insert(columns.fields[*place].id, value);
            }
        }
        constants
    }

    /// Floating-point columns of which the writer says that they hold no NaN.
    fn without_nan(&self, manifest: &DecodedManifest, index: usize) -> Box<[i32]> {
        let columns = &self.columns;
        self.wanted
            .iter()
            .filter(|column| columns.arrow.field(**column).data_type().is_floating())
            .map(|column| columns.fields[*column].id)
            .filter(|id| {
                manifest.columns.get(id).is_some_and(|metrics| {
                    metrics.nan_counts.is_valid(index) && metrics.nan_counts.value(index) == 0
                })
            })
            .collect()
    }

    /// Bytes of the wanted columns; the whole file where the manifest does not say.
    fn projected_bytes(&self, manifest: &DecodedManifest, index: usize) -> u64 {
        let entry = &manifest.entries[index];
        let size = |id: i32| {
            let sizes = &manifest.columns.get(&id)?.sizes;
            sizes.is_valid(index).then(|| sizes.value(index))
        };
        let mut bytes = 0_u64;
        for &column in &self.wanted {
            let Some(column_bytes) = field_bytes(&self.columns.fields[column], &size) else {
                return entry.size_bytes;
            };
            bytes = bytes.saturating_add(column_bytes);
        }
        bytes.min(entry.size_bytes)
    }
}

/// Keeps as many files as are needed for `limit` rows.
fn keep_enough(plan: &mut FilePlan, limit: u64) {
    let mut rows = 0_u64;
    let enough = plan.files.iter().position(|(manifest, entry)| {
        rows = rows.saturating_add(manifest.entries[*entry].record_count);
        rows >= limit
    });
    if let Some(last) = enough {
        plan.files.truncate(last + 1);
        plan.counts.files_read = plan.files.len() as u64;
        plan.counts.bytes_read = plan
            .files
            .iter()
            .map(|(manifest, entry)| manifest.entries[*entry].size_bytes)
            .fold(0, u64::saturating_add);
    }
}

/// The table's columns, and behind them those key columns of equality deletes that its schema does
/// not have: rows of older files are still looked up by them.
fn columns_with_keys(table: &IcebergTable, keys: &[i32]) -> Result<Arc<TableColumns>> {
    let mut columns = table.columns.as_ref().clone();
    for id in keys {
        if key_path(&columns, *id).is_some() {
            continue;
        }
        let metadata = table.table.metadata();
        let mut schemas: Vec<_> = metadata.schemas_iter().collect();
        schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        let root: Option<&NestedFieldRef> = schemas.iter().find_map(|schema| {
            let mut fields = schema.as_struct().fields().iter();
            fields.find(|field| translated("", field).is_ok_and(|(_, known)| has_id(&known, *id)))
        });
        if let Some(root) = root {
            let (arrow, field) = translated(&table.name.to_string(), root)?;
            let arrow = relaxed(&arrow.as_ref().clone().with_name(format!("key column {id}")));
            columns.push(arrow, field);
        }
    }
    Ok(Arc::new(columns))
}

fn has_id(field: &TableField, id: i32) -> bool {
    field.id == id || field.children.iter().any(|child| has_id(child, id))
}

/// Bytes of a column, the leaves of a nested one added up.
fn field_bytes(field: &TableField, size: &impl Fn(i32) -> Option<u64>) -> Option<u64> {
    if field.children.is_empty() {
        return size(field.id);
    }
    field
        .children
        .iter()
        .map(|child| field_bytes(child, size))
        .sum()
}

/// The object behind a file. Iceberg files never change, so no time of change is needed; it is
/// used instead to tell apart, in the footer cache, files of one path in different stores.
fn object_meta(url: &ObjectStoreUrl, file: &PlannedFile) -> ObjectMeta {
    let entry = file.entry();
    let mut hasher = DefaultHasher::new();
    (url.as_str(), entry.record_count, entry.sequence_number).hash(&mut hasher);
    let stamp = i64::try_from(hasher.finish() >> 2).unwrap_or(0);
    ObjectMeta {
        location: file.path.clone(),
        last_modified: DateTime::from_timestamp_nanos(stamp),
        size: entry.size_bytes,
        e_tag: None,
        version: None,
    }
}
