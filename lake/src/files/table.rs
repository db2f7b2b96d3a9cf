//! Files as DataFusion's table.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, project_schema};
use datafusion_datasource::compute_all_files_statistics;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStore;

/// Footers that are read at once.
const CONCURRENT_FOOTERS: usize = 16;

/// Files of one format and schema in one store.
pub struct FilesTable {
    url: ObjectStoreUrl,
    store: Arc<dyn ObjectStore>,
    format: Arc<dyn FileFormat>,
    file_schema: SchemaRef,
    partition_fields: Vec<FieldRef>,
    schema: SchemaRef,
    files: Vec<PartitionedFile>,
    /// Whether a scan may begin in the middle of a file.
    splits: bool,
    in_lake: bool,
}

impl fmt::Debug for FilesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesTable")
            .field("url", &self.url)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl FilesTable {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        url: ObjectStoreUrl,
        store: Arc<dyn ObjectStore>,
        format: Arc<dyn FileFormat>,
        file_schema: SchemaRef,
        partition_fields: Vec<FieldRef>,
        files: Vec<PartitionedFile>,
        splits: bool,
        in_lake: bool,
    ) -> Self {
        let fields = file_schema.fields().iter().chain(&partition_fields);
        let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        Self {
            url,
            store,
            format,
            file_schema,
            partition_fields,
            schema,
            files,
            splits,
            in_lake,
        }
    }

    /// Whether every node of a cluster can read the files.
    pub fn is_in_lake(&self) -> bool {
        self.in_lake
    }

    /// The files whose partitions can have rows that match.
    fn pruned(&self, state: &dyn Session, filters: &[Expr]) -> DfResult<Vec<PartitionedFile>> {
        let is_partition = |name: &str| self.partition_fields.iter().any(|f| f.name() == name);
        let usable: Vec<&Expr> = filters
            .iter()
            .filter(|filter| {
                let columns = filter.column_refs();
                !columns.is_empty()
                    && columns.iter().all(|column| is_partition(&column.name))
                    && !filter.is_volatile()
            })
            .collect();
        let mut kept = vec![true; self.files.len()];
        if !usable.is_empty() && !self.files.is_empty() {
            let schema = Arc::new(Schema::new(self.partition_fields.clone()));
            let columns = (0..self.partition_fields.len()).map(|at| {
                let values = self.files.iter().map(|file| {
                    let value = file.partition_values.get(at).cloned();
                    value.unwrap_or(ScalarValue::Null)
                });
                ScalarValue::iter_to_array(values)
            });
            let columns = columns.collect::<DfResult<Vec<ArrayRef>>>()?;
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            let df_schema = DFSchema::try_from(schema)?;
            for filter in usable {
                let filter = state.create_physical_expr(filter.clone(), &df_schema)?;
                let passes = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
                let Some(passes) = passes.as_boolean_opt() else {
                    continue;
                };
                for (kept, passes) in kept.iter_mut().zip(passes) {
                    *kept &= passes == Some(true);
                }
            }
        }
        let files = self.files.iter().zip(kept).filter(|(_, kept)| *kept);
        Ok(files.map(|(file, _)| file.clone()).collect())
    }

    /// The files with their row counts and bounds, where the format has them.
    async fn with_statistics(
        &self,
        state: &dyn Session,
        files: Vec<PartitionedFile>,
    ) -> DfResult<Vec<PartitionedFile>> {
        let measured = files.into_iter().map(|file| async move {
            let schema = Arc::clone(&self.file_schema);
            let object = &file.object_meta;
            let statistics = self.format.infer_stats(state, &self.store, schema, object);
            let statistics = statistics.await?;
            Ok::<_, DataFusionError>(file.with_statistics(Arc::new(statistics)))
        });
        stream::iter(measured)
            .buffered(CONCURRENT_FOOTERS)
            .try_collect()
            .await
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let files = self.pruned(state, filters)?;
        if files.is_empty() {
            let schema = project_schema(&self.schema, projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let files = self.with_statistics(state, files).await?;
        let partitions = state.config().target_partitions().max(1);
        let groups = FileGroup::new(files).split_files(partitions);
        let (groups, statistics) =
            compute_all_files_statistics(groups, self.schema(), true, false)?;
        let statistics = match statistics.column_statistics.len() == self.schema.fields().len() {
            true => statistics,
            false => Statistics::new_unknown(&self.schema),
        };
        let table_schema =
            TableSchema::new(Arc::clone(&self.file_schema), self.partition_fields.clone());
        let source = self.format.file_source(table_schema);
        let config = FileScanConfigBuilder::new(self.url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        let plan = self.format.create_physical_plan(state, config).await?;
        if !self.splits {
            return Ok(plan);
        }
        // The session's setting is about Iceberg's scans, which split themselves.
        let split = plan.repartitioned(partitions, state.config_options())?;
        Ok(split.unwrap_or(plan))
    }
}
