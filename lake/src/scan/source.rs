//! The file source of a scan: DataFusion's Parquet source, told how Iceberg files differ.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion::prelude::SessionConfig;
use datafusion_datasource::file_stream::FileOpener;
use datafusion_datasource::morsel::{MorselPlanner, Morselizer};
use iceberg::spec::DataFileFormat;
use object_store::ObjectStore;

use super::mapping::NameRules;
use super::metadata_columns::{LAST_UPDATED_ID, needs_position};
use super::morsel::{FileName, NamedPlanner, RowDeletes};
use super::opening::{DeletesPlanner, FileOpening};
use super::reader::FileReaderFactory;
use super::rows::FileRows;
use super::schema::TableColumns;
use crate::deletes::{DeleteCache, DeleteReader, FileDeletes};
use crate::plan::PlanCounts;

/// Rows in a batch where the session does not say.
const DEFAULT_BATCH_ROWS: usize = 8192;

/// What all files of a scan share.
#[derive(Clone, Debug)]
pub struct ScanInfo {
    /// The table's full name, for messages and `EXPLAIN`.
    pub table: String,
    /// The snapshot that is read; `None` for a table without one.
    pub snapshot_id: Option<i64>,
    /// The table's columns.
    pub columns: Arc<TableColumns>,
    /// How columns are found in files without field ids.
    pub rules: NameRules,
    /// What planning pruned.
    pub counts: PlanCounts,
}

/// What a scan shares with all others of its process.
#[derive(Clone, Debug)]
pub struct ScanEnv {
    /// Footers of Parquet files.
    pub footers: Arc<dyn FileMetadataCache>,
    /// Delete files.
    pub deletes: DeleteReader,
}

impl ScanEnv {
    /// The environment of a session: its runtime's stores and footers, and the delete cache that the
    /// node put into the configuration ([`SessionConfig::with_extension`]). Without one, a cache
    /// lives as long as the scan.
    pub fn of(config: &SessionConfig, runtime: &RuntimeEnv) -> Self {
        let cache = config.get_extension::<DeleteCache>().unwrap_or_default();
        Self {
            footers: runtime.cache_manager.get_file_metadata_cache(),
            deletes: DeleteReader::new(cache, Arc::clone(&runtime.object_store_registry)),
        }
    }
}

/// What Iceberg says about one file of a scan; attached to each of its pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanFile {
    /// The location as the manifest spells it.
    pub location: Arc<str>,
    /// The file's format.
    pub format: DataFileFormat,
    /// Partition spec it was written with.
    pub spec_id: i32,
    /// Data sequence number.
    pub sequence_number: i64,
    /// Rows in the whole file.
    pub record_count: u64,
    /// Row id of its first row, in tables with row lineage.
    pub first_row_id: Option<i64>,
    /// Estimated bytes of the projected columns in the whole file.
    pub projected_bytes: u64,
    /// Values by field id of columns that the file leaves out: identity partition columns, and
    /// what the table says of the file itself.
    pub constants: HashMap<i32, ScalarValue>,
    /// Field ids of floating-point columns that hold no NaN, as the writer counted.
    pub without_nan: Box<[i32]>,
    /// What deletes rows of it.
    pub deletes: FileDeletes,
}

impl ScanFile {
    /// Whether the file is read like any other: nothing about it has to be told to the reader.
    /// `lineage` says that a column is asked for that follows from where the file came from.
    fn is_plain(&self, lineage: bool) -> bool {
        self.constants.is_empty()
            && self.without_nan.is_empty()
            && self.deletes.is_empty()
            && !(lineage && self.first_row_id.is_some())
    }
}

/// Reads the files of an Iceberg table.
#[derive(Clone)]
pub struct IcebergSource {
    /// Reads all columns of the table; the projection is ours, because key columns of deletes have to
    /// be added to it for some files.
    inner: ParquetSource,
    projection: ProjectionExprs,
    info: Arc<ScanInfo>,
    env: ScanEnv,
    batch_size: Option<usize>,
    /// The order asked for by a sort above, as a hint to read promising row groups first. Kept here
    /// because it is private to the Parquet source and has to travel to workers.
    sort_hint: Vec<PhysicalSortExpr>,
}

impl IcebergSource {
    /// A source over `inner`, whose schema is that of `info`.
    pub fn new(inner: ParquetSource, info: Arc<ScanInfo>, env: ScanEnv) -> Self {
        let all: Vec<usize> = (0..info.columns.arrow.fields().len()).collect();
        Self {
            projection: ProjectionExprs::from_indices(&all, &info.columns.arrow),
            inner,
            info,
            env,
            batch_size: None,
            sort_hint: vec![],
        }
    }

    /// What all files share.
    pub fn info(&self) -> &Arc<ScanInfo> {
        &self.info
    }

    /// The Parquet source underneath.
    pub fn parquet(&self) -> &ParquetSource {
        &self.inner
    }

    /// The order in which row groups should be tried, if a sort above asked for one.
    pub fn sort_hint(&self) -> &[PhysicalSortExpr] {
        &self.sort_hint
    }

    /// Asks for row groups in a given order; see [`Self::sort_hint`].
    pub fn with_sort_hint(&self, order: &[PhysicalSortExpr]) -> Result<Self> {
        let schema = Arc::clone(self.inner.table_schema().table_schema());
        let properties = EquivalenceProperties::new(schema);
        match FileSource::try_pushdown_sort(&self.inner, order, &properties)? {
            SortOrderPushdownResult::Inexact { inner } => {
                let mut source = self.with_inner(&inner)?;
                source.sort_hint = order.to_vec();
                Ok(source)
            }
            _ => Ok(self.clone()),
        }
    }

    fn with_inner(&self, inner: &Arc<dyn FileSource>) -> Result<Self> {
        let inner = inner
            .downcast_ref::<ParquetSource>()
            .ok_or_else(|| internal_datafusion_err!("the Parquet source became something else"))?;
        Ok(Self {
            inner: inner.clone(),
            ..self.clone()
        })
    }

    fn wrap(&self, inner: &Arc<dyn FileSource>) -> Result<Arc<dyn FileSource>> {
        Ok(Arc::new(self.with_inner(inner)?))
    }
}

impl fmt::Debug for IcebergSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IcebergSource")
            .field("inner", &self.inner)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl FileSource for IcebergSource {
    fn create_file_opener(
        &self,
        _: Arc<dyn ObjectStore>,
        _: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        Err(internal_datafusion_err!(
            "an Iceberg scan is opened by its morselizer"
        ))
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let footers = Arc::clone(&self.env.footers);
        let readers = Arc::new(FileReaderFactory::new(Arc::clone(&store), footers));
        let readers_of_source = Arc::clone(&readers) as Arc<dyn ParquetFileReaderFactory>;
        let opening = FileOpening {
            source: self
                .inner
                .clone()
                .with_parquet_file_reader_factory(readers_of_source),
            projection: self.projection.clone(),
            batch_size: self.batch_size.unwrap_or(DEFAULT_BATCH_ROWS),
            info: Arc::clone(&self.info),
            deletes: self.env.deletes.clone(),
            readers,
            store,
            url: config.object_store_url.clone(),
            limit: config.limit,
            preserve_order: config.preserve_order,
            partition,
        };
        let plain = opening.morselizer(None, &[])?;
        let positions = self.reads(needs_position);
        let lineage = self.reads(|id| id == LAST_UPDATED_ID);
        Ok(Box::new(IcebergMorselizer {
            opening: Arc::new(opening),
            plain,
            positions,
            lineage,
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let inner = FileSource::with_batch_size(&self.inner, batch_size);
        // The Parquet source always answers with one of its kind.
        let mut source = self.with_inner(&inner).unwrap_or_else(|_| self.clone());
        source.batch_size = Some(batch_size);
        Arc::new(source)
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    /// DataFusion derives some metrics only for this name.
    fn file_type(&self) -> &str {
        "parquet"
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = &self.info;
        let counts = &info.counts;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, ", iceberg: table={}", info.table)?;
                if let Some(snapshot) = info.snapshot_id {
                    write!(f, ", snapshot={snapshot}")?;
                }
                write!(
                    f,
                    ", manifests={}/{}, files={}/{}, bytes={}/{}, row_groups={}",
                    counts.manifests_read,
                    counts.manifests_total,
                    counts.files_read,
                    counts.files_total,
                    counts.bytes_read,
                    counts.bytes_total,
                    counts.row_groups
                )?;
                if counts.delete_files > 0 {
                    write!(f, ", delete_files={}", counts.delete_files)?;
                }
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", info.table)?;
                writeln!(f, "files={}/{}", counts.files_read, counts.files_total)?;
            }
        }
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        false
    }

    /// Pieces are cut at row groups when the scan is planned; cutting them again by bytes would
    /// only make pieces without a row group.
    fn repartitioned(
        &self,
        _: usize,
        _: usize,
        _: Option<LexOrdering>,
        _: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        Ok(None)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        if self.inner.table_parquet_options().global.pushdown_filters
            || config.execution.parquet.pushdown_filters
        {
            return self.push_down_plain_filters(filters, config);
        }
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        let updated_node = pushed
            .updated_node
            .map(|inner| self.wrap(&inner))
            .transpose()?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node,
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        // The reader finds the statistics to order row groups by under the column's name, and takes
        // those of a nested column for it that has the same name in the file.
        if self.has_nested_columns() {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let hinted = |inner: Arc<dyn FileSource>| -> Result<Arc<dyn FileSource>> {
            let mut source = self.with_inner(&inner)?;
            source.sort_hint = order.to_vec();
            Ok(Arc::new(source))
        };
        Ok(
            match FileSource::try_pushdown_sort(&self.inner, order, properties)? {
                SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact {
                    inner: hinted(inner)?,
                },
                SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact {
                    inner: self.wrap(&inner)?,
                },
                SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
            },
        )
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        let mut source = self.clone();
        source.projection = self.projection.try_merge(projection)?;
        Ok(Some(Arc::new(source)))
    }
}

impl IcebergSource {
    /// With late materialisation the reader answers for the filters it takes. It cannot for those on
    /// nested columns: where a file lacks a child, it finds no way to filter by it and says nothing.
    fn push_down_plain_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let is_nested = |filter: &Arc<dyn PhysicalExpr>| {
            collect_columns(filter).iter().any(|column| {
                let field = self.info.columns.arrow.field_with_name(column.name());
                field.is_ok_and(|field| field.data_type().is_nested())
            })
        };
        let nested: Vec<bool> = filters.iter().map(is_nested).collect();
        let plain = filters.into_iter().zip(&nested);
        let plain = plain
            .filter(|(_, nested)| !**nested)
            .map(|(filter, _)| filter);
        let pushed = self.inner.try_pushdown_filters(plain.collect(), config)?;
        let mut answers = pushed.filters.into_iter();
        let filters = nested
            .iter()
            .map(|nested| match nested {
                true => PushedDown::No,
                false => answers.next().unwrap_or(PushedDown::No),
            })
            .collect();
        let updated_node = pushed.updated_node.map(|inner| self.wrap(&inner));
        Ok(FilterPushdownPropagation {
            filters,
            updated_node: updated_node.transpose()?,
        })
    }

    /// Whether any column of the table is nested.
    fn has_nested_columns(&self) -> bool {
        let mut fields = self.info.columns.arrow.fields().iter();
        fields.any(|field| field.data_type().is_nested())
    }

    /// Whether a column is projected or filtered whose field id is of some kind.
    fn reads(&self, kind: impl Fn(i32) -> bool) -> bool {
        let columns = &self.info.columns;
        let is_of_kind = |column: &Column| columns.id_of(column.name()).is_some_and(&kind);
        let projected = self
            .projection
            .iter()
            .map(|column| Arc::clone(&column.expr));
        projected
            .chain(self.inner.filter())
            .any(|expr| collect_columns(&expr).iter().any(is_of_kind))
    }
}

struct IcebergMorselizer {
    opening: Arc<FileOpening>,
    /// Serves every file that has no properties of its own.
    plain: Box<dyn Morselizer>,
    /// Whether positions of rows are asked for.
    positions: bool,
    /// Whether the sequence numbers of their last changes are.
    lineage: bool,
}

impl fmt::Debug for IcebergMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcebergMorselizer({})", self.opening.info.table)
    }
}

impl Morselizer for IcebergMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let Some(scan_file) = file.extension::<Arc<ScanFile>>().map(Arc::clone) else {
            return Err(internal_datafusion_err!(
                "{} is no file of an Iceberg scan",
                file.object_meta.location
            ));
        };
        let name = FileName {
            path: Arc::clone(&scan_file.location),
            info: Arc::clone(&self.opening.info),
        };
        let none = RowDeletes::default();
        if self.positions || scan_file.format != DataFileFormat::Parquet {
            let rows = FileRows::new(Arc::clone(&self.opening), scan_file, file);
            return Ok(Box::new(NamedPlanner::new(Box::new(rows), name, none)));
        }
        if !scan_file.deletes.is_empty() {
            let pending = DeletesPlanner::new(Arc::clone(&self.opening), scan_file, file);
            return Ok(Box::new(NamedPlanner::new(Box::new(pending), name, none)));
        }
        let planned = match scan_file.is_plain(self.lineage) {
            true => self.plain.plan_file(file),
            false => self
                .opening
                .morselizer(Some(scan_file), &[])
                .and_then(|morselizer| morselizer.plan_file(file)),
        };
        let planner = planned.map_err(|error| name.name(error))?;
        Ok(Box::new(NamedPlanner::new(planner, name, none)))
    }
}
