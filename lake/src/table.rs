//! An Iceberg table as DataFusion sees it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as DfResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use iceberg::spec::{NameMapping, SnapshotRef};
use iceberg::table::Table;
use object_store::ObjectMeta;

use crate::plan::bounds::primitive_to_scalar;
use crate::plan::statistics::{file_statistics, scan_statistics};
use crate::plan::{DataFileEntry, DecodedManifest, FilePlan, ManifestCache, plan_files};
use crate::scan::mapping::NameRules;
use crate::scan::schema::{TableColumns, names_by_history};
use crate::scan::{IcebergSource, ScanFile, ScanInfo, ScanOptions, groups, piece_bytes, ranges};
use crate::store::address;
use crate::{Error, Result, TableName};

/// Property that says how columns are found in files without field ids.
const NAME_MAPPING: &str = "schema.name-mapping.default";

/// Property that is set on encrypted tables.
const ENCRYPTION_KEY: &str = "encryption.key-id";

/// The current snapshot of an Iceberg table.
#[derive(Debug)]
pub struct IcebergTable {
    name: TableName,
    table: Table,
    columns: Arc<TableColumns>,
    rules: NameRules,
    manifests: Arc<ManifestCache>,
}

impl IcebergTable {
    /// Makes a provider for the table as it stands in `table`'s metadata.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for encrypted tables and for types that cannot be read;
    /// [`Error::Corrupt`] for a name mapping that is not one.
    pub fn try_new(
        name: TableName,
        table: Table,
        manifests: Arc<ManifestCache>,
    ) -> Result<Arc<Self>> {
        let metadata = table.metadata();
        let full_name = name.to_string();
        if metadata.properties().contains_key(ENCRYPTION_KEY)
            || metadata.encryption_keys_iter().len() > 0
        {
            return Err(Error::Unsupported {
                table: full_name,
                what: "the data".to_string(),
                why: "the table is encrypted".to_string(),
            });
        }
        let mut columns = TableColumns::try_new(&full_name, metadata.current_schema())?;
        let rules = name_rules(&full_name, &table)?;
        if let NameRules::Mapping(mapping) = &rules {
            columns = columns.with_name_mapping(mapping);
        }
        Ok(Arc::new(Self {
            name,
            table,
            columns: Arc::new(columns),
            rules,
            manifests,
        }))
    }

    /// The table's full name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The table underneath.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The columns with their field ids.
    pub fn columns(&self) -> &Arc<TableColumns> {
        &self.columns
    }

    /// Statistics of the whole current snapshot, from the manifests.
    ///
    /// # Errors
    /// As a scan: see [`plan_files`].
    pub async fn snapshot_statistics(&self) -> Result<Statistics> {
        let plan = self.plan(None).await?;
        let all: Vec<usize> = (0..self.columns.fields.len()).collect();
        Ok(scan_statistics(&plan.files, &self.columns, &all))
    }

    async fn plan(&self, filter: Option<Arc<dyn PhysicalExpr>>) -> Result<FilePlan> {
        match self.snapshot() {
            None => Ok(FilePlan::default()),
            Some(snapshot) => {
                plan_files(
                    &self.name.to_string(),
                    &self.table,
                    snapshot,
                    &self.columns,
                    filter,
                    &self.manifests,
                )
                .await
            }
        }
    }

    fn snapshot(&self) -> Option<&SnapshotRef> {
        self.table.metadata().current_snapshot()
    }

    /// The filters as one physical expression over the table's columns. A filter that has no
    /// physical form is left out: it prunes nothing, and is applied above the scan anyway.
    fn physical_filter(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Option<Arc<dyn PhysicalExpr>> {
        let schema = DFSchema::try_from(Arc::clone(&self.columns.arrow)).ok()?;
        let usable: Vec<Expr> = filters
            .iter()
            .filter(|filter| {
                state
                    .create_physical_expr((*filter).clone(), &schema)
                    .is_ok()
            })
            .cloned()
            .collect();
        state
            .create_physical_expr(conjunction(usable)?, &schema)
            .ok()
    }
}

fn name_rules(full_name: &str, table: &Table) -> Result<NameRules> {
    let metadata = table.metadata();
    match metadata.properties().get(NAME_MAPPING) {
        Some(json) => serde_json::from_str::<NameMapping>(json)
            .map(|mapping| NameRules::Mapping(Arc::new(mapping)))
            .map_err(|error| Error::Corrupt {
                path: table.metadata_location().unwrap_or(full_name).to_string(),
                why: format!("property {NAME_MAPPING}: {error}"),
            }),
        None => {
            let mut schemas: Vec<_> = metadata.schemas_iter().collect();
            schemas.sort_by_key(|schema| schema.schema_id());
            let names = names_by_history(schemas.into_iter().map(AsRef::as_ref));
            Ok(NameRules::History(Arc::new(names)))
        }
    }
}

#[async_trait]
impl TableProvider for IcebergTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.arrow)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// All filters prune, none is applied completely: bounds and partitions rule files out, and
    /// what is left has to be filtered row by row.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| {
                if filter.is_volatile() {
                    TableProviderFilterPushDown::Unsupported
                } else {
                    TableProviderFilterPushDown::Inexact
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let options = ScanOptions::of(state.config_options());
        let filter = options
            .prune
            .then(|| self.physical_filter(state, filters))
            .flatten();
        let mut plan = self.plan(filter).await?;
        // Filters apply after the limit would, so a limit counts only without them.
        let limit = limit.filter(|_| filters.is_empty());
        if let Some(limit) = limit {
            keep_enough(&mut plan, limit as u64);
        }
        let scan = Scan {
            table: self,
            state,
            options,
            projection,
            wanted: self.wanted_columns(projection, filters),
            limit,
        };
        scan.build(plan)
    }
}

impl IcebergTable {
    /// Columns whose statistics may be asked for: those projected or filtered.
    fn wanted_columns(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> Vec<usize> {
        let count = self.columns.fields.len();
        let mut wanted: Vec<usize> = match projection {
            Some(indices) => indices.clone(),
            None => (0..count).collect(),
        };
        for column in filters.iter().flat_map(|filter| filter.column_refs()) {
            wanted.extend(self.columns.arrow.index_of(column.name()).ok());
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|index| *index < count);
        wanted
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
            .sum();
    }
}

/// Makes the physical plan of one scan.
struct Scan<'a> {
    table: &'a IcebergTable,
    state: &'a dyn Session,
    options: ScanOptions,
    projection: Option<&'a Vec<usize>>,
    wanted: Vec<usize>,
    limit: Option<usize>,
}

type PlannedFile = (Arc<DecodedManifest>, usize);

impl Scan<'_> {
    fn build(&self, plan: FilePlan) -> DfResult<Arc<dyn ExecutionPlan>> {
        let info = Arc::new(ScanInfo {
            table: self.table.name.to_string(),
            snapshot_id: self.table.snapshot().map(|snapshot| snapshot.snapshot_id()),
            columns: Arc::clone(&self.table.columns),
            rules: self.table.rules.clone(),
            counts: plan.counts,
        });
        let mut plans = vec![];
        for (url, files) in by_store(plan.files)? {
            plans.push(self.exec(url, &files, &info)?);
        }
        match plans.len() {
            0 => self.exec(ObjectStoreUrl::local_filesystem(), &[], &info),
            1 => Ok(plans.remove(0)),
            // A table may have files in several buckets; one scan reads from one store.
            _ => UnionExec::try_new(plans),
        }
    }

    fn exec(
        &self,
        url: ObjectStoreUrl,
        files: &[PlannedFile],
        info: &Arc<ScanInfo>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let partitions = self.state.config().target_partitions();
        let least = ScanOptions::of(self.state.config_options()).min_partitions;
        let pieces = self.pieces(&url, files, partitions)?;
        let statistics = scan_statistics(files, &self.table.columns, &self.wanted);
        let source = IcebergSource::new(
            self.parquet_source(),
            Arc::clone(info),
            self.state
                .runtime_env()
                .cache_manager
                .get_file_metadata_cache(),
        );
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups(pieces, partitions, least))
            .with_statistics(statistics)
            .with_limit(self.limit)
            .with_projection_indices(self.projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn parquet_source(&self) -> ParquetSource {
        let mut global = self.state.config_options().execution.parquet.clone();
        // Timestamps of old Spark and Hive files. As nanoseconds they would end in the year 2262.
        global.coerce_int96 = Some("us".to_string());
        let options = TableParquetOptions {
            global,
            ..TableParquetOptions::default()
        };
        ParquetSource::new(TableSchema::from_file_schema(self.table.schema()))
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
            .map(|(manifest, entry)| manifest.entries[*entry].size_bytes)
            .sum();
        let target = piece_bytes(
            total,
            partitions,
            self.options.target_piece_bytes,
            self.options.least_piece_bytes,
        );
        let with_statistics =
            files.len().saturating_mul(self.wanted.len()) <= self.options.file_statistics_max;
        let mut pieces = vec![];
        for (manifest, index) in files {
            let entry = &manifest.entries[*index];
            let mut whole = PartitionedFile::new_from_meta(object_meta(url, entry)?)
                .with_extension(Arc::new(self.scan_file(manifest, *index)));
            if with_statistics {
                let statistics =
                    file_statistics(manifest, *index, &self.table.columns, &self.wanted);
                whole.statistics = Some(Arc::new(statistics));
            }
            let ranges = ranges(entry.size_bytes, &entry.split_offsets, target);
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

    fn scan_file(&self, manifest: &DecodedManifest, index: usize) -> ScanFile {
        let entry = &manifest.entries[index];
        let columns = &self.table.columns;
        let mut constants: HashMap<i32, ScalarValue> = HashMap::new();
        for (id, (ty, literal)) in manifest.identity_values(index) {
            let column = columns
                .index_of_id(id)
                .map(|index| columns.arrow.field(index));
            if let (Some(column), Some(value)) = (column, primitive_to_scalar(&literal, &ty))
                && let Ok(value) = value.cast_to(column.data_type())
            {
                constants.insert(id, value);
            }
        }
        ScanFile {
            location: Arc::clone(&entry.path),
            spec_id: manifest.spec_id,
            sequence_number: entry.sequence_number,
            record_count: entry.record_count,
            projected_bytes: self.projected_bytes(manifest, index),
            constants: Arc::new(constants),
            without_nan: self.without_nan(manifest, index),
        }
    }

    /// Floating-point columns of which the writer says that they hold no NaN.
    fn without_nan(&self, manifest: &DecodedManifest, index: usize) -> Arc<[i32]> {
        let columns = &self.table.columns;
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
            let Some(column_bytes) = field_bytes(&self.table.columns.fields[column], &size) else {
                return entry.size_bytes;
            };
            bytes = bytes.saturating_add(column_bytes);
        }
        bytes.min(entry.size_bytes)
    }
}

/// Bytes of a column, the leaves of a nested one added up.
fn field_bytes(
    field: &crate::scan::schema::TableField,
    size: &impl Fn(i32) -> Option<u64>,
) -> Option<u64> {
    if field.children.is_empty() {
        return size(field.id);
    }
    field
        .children
        .iter()
        .map(|child| field_bytes(child, size))
        .sum()
}

fn by_store(files: Vec<PlannedFile>) -> Result<Vec<(ObjectStoreUrl, Vec<PlannedFile>)>> {
    let mut stores: BTreeMap<String, (ObjectStoreUrl, Vec<PlannedFile>)> = BTreeMap::new();
    for (manifest, index) in files {
        let (url, _) = address(&manifest.entries[index].path)?;
        stores
            .entry(url.as_str().to_string())
            .or_insert_with(|| (url, vec![]))
            .1
            .push((manifest, index));
    }
    Ok(stores.into_values().collect())
}

/// The object behind a file. Iceberg files never change, so no time of change is needed; it is
/// used instead to tell apart, in the footer cache, files of one path in different stores.
fn object_meta(url: &ObjectStoreUrl, entry: &DataFileEntry) -> Result<ObjectMeta> {
    let (_, location) = address(&entry.path)?;
    let mut hasher = DefaultHasher::new();
    (url.as_str(), entry.record_count, entry.sequence_number).hash(&mut hasher);
    let stamp = i64::try_from(hasher.finish() >> 2).unwrap_or(0);
    Ok(ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_nanos(stamp),
        size: entry.size_bytes,
        e_tag: None,
        version: None,
    })
}
