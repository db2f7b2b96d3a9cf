//! The file source of a scan: DataFusion's Parquet source, told how Iceberg files differ.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::file_stream::FileOpener;
use datafusion_datasource::morsel::{MorselPlanner, Morselizer};
use object_store::ObjectStore;

use super::adapter::FieldIdAdapterFactory;
use super::mapping::NameRules;
use super::morsel::{NamedPlanner, name_file};
use super::reader::FileReaderFactory;
use super::schema::TableColumns;
use crate::plan::PlanCounts;

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

/// What Iceberg says about one file of a scan; attached to each of its pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanFile {
    /// The location as the manifest spells it.
    pub location: Arc<str>,
    /// Partition spec it was written with.
    pub spec_id: i32,
    /// Data sequence number.
    pub sequence_number: i64,
    /// Rows in the whole file.
    pub record_count: u64,
    /// Estimated bytes of the projected columns in the whole file.
    pub projected_bytes: u64,
    /// Values of identity partition columns by field id, for files that leave them out.
    pub constants: Arc<HashMap<i32, ScalarValue>>,
    /// Field ids of floating-point columns that hold no NaN, as the writer counted.
    pub without_nan: Arc<[i32]>,
}

/// Reads the Parquet files of an Iceberg table.
#[derive(Clone)]
pub struct IcebergSource {
    inner: ParquetSource,
    info: Arc<ScanInfo>,
    footers: Arc<dyn FileMetadataCache>,
    /// The order asked for by a sort above, as a hint to read promising row groups first. Kept here
    /// because it is private to the Parquet source and has to travel to workers.
    sort_hint: Vec<PhysicalSortExpr>,
}

impl IcebergSource {
    /// A source over `inner`, whose schema is that of `info`; footers are kept in `footers`.
    pub fn new(
        inner: ParquetSource,
        info: Arc<ScanInfo>,
        footers: Arc<dyn FileMetadataCache>,
    ) -> Self {
        Self {
            inner,
            info,
            footers,
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
        let reader = FileReaderFactory::new(Arc::clone(&store), Arc::clone(&self.footers));
        let opener = FileOpening {
            source: self
                .inner
                .clone()
                .with_parquet_file_reader_factory(Arc::new(reader)),
            info: Arc::clone(&self.info),
            store,
            url: config.object_store_url.clone(),
            limit: config.limit,
            preserve_order: config.preserve_order,
            partition,
        };
        let plain = opener.morselizer(Arc::default(), Arc::default())?;
        Ok(Box::new(IcebergMorselizer { opener, plain }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let inner = FileSource::with_batch_size(&self.inner, batch_size);
        // The Parquet source always answers with one of its kind.
        self.wrap(&inner).unwrap_or_else(|_| Arc::new(self.clone()))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
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
                    ", manifests={}/{}, files={}/{}, bytes={}",
                    counts.manifests_read,
                    counts.manifests_total,
                    counts.files_read,
                    counts.files_total,
                    counts.bytes_read
                )?;
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
        self.inner
            .try_pushdown_projection(projection)?
            .map(|inner| self.wrap(&inner))
            .transpose()
    }
}

/// Everything needed to open files of one partition.
struct FileOpening {
    source: ParquetSource,
    info: Arc<ScanInfo>,
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    limit: Option<usize>,
    preserve_order: bool,
    partition: usize,
}

impl FileOpening {
    /// The Parquet morselizer for files with these properties; see [`ScanFile`].
    fn morselizer(
        &self,
        constants: Arc<HashMap<i32, ScalarValue>>,
        without_nan: Arc<[i32]>,
    ) -> Result<Box<dyn Morselizer>> {
        let adapter = FieldIdAdapterFactory::new(
            Arc::clone(&self.info.columns),
            self.info.rules.clone(),
            constants,
            without_nan,
        );
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(self.source.clone()))
            .with_limit(self.limit)
            .with_preserve_order(self.preserve_order)
            .with_expr_adapter(Some(Arc::new(adapter)))
            .build();
        self.source
            .create_morselizer(Arc::clone(&self.store), &config, self.partition)
    }
}

struct IcebergMorselizer {
    opener: FileOpening,
    /// Serves every file that has no properties of its own.
    plain: Box<dyn Morselizer>,
}

impl fmt::Debug for IcebergMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcebergMorselizer({})", self.opener.info.table)
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
        let path = Arc::clone(&scan_file.location);
        let planned = if scan_file.constants.is_empty() && scan_file.without_nan.is_empty() {
            self.plain.plan_file(file)
        } else {
            self.opener
                .morselizer(
                    Arc::clone(&scan_file.constants),
                    Arc::clone(&scan_file.without_nan),
                )
                .and_then(|morselizer| morselizer.plan_file(file))
        };
        let planner = planned.map_err(|error| name_file(&path, error))?;
        Ok(Box::new(NamedPlanner::new(planner, path)))
    }
}
