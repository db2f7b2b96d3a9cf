//! Reading a file in order, row by row as it were: for formats that DataFusion's Parquet source does
//! not read, and where the position of each row in its file is asked for.
//!
//! Files are still ruled out by their partitions and bounds; inside a file everything is read and
//! then filtered.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use super::adapter::FieldIdAdapterFactory;
use super::mapping::file_fields;
use super::opening::FileOpening;
use super::source::ScanFile;
use crate::deletes::{DeletedRows, KeyFilter};
use crate::formats::{self, RowReader, Source};

/// Name of the position column behind the file's own.
const POSITION: &str = "position in the file";

/// One file, not opened yet.
pub struct FileRows {
    opening: Arc<FileOpening>,
    scan_file: Arc<ScanFile>,
    file: PartitionedFile,
}

impl FileRows {
    /// `file` is the piece to read, `scan_file` what the table says of it.
    pub fn new(opening: Arc<FileOpening>, scan_file: Arc<ScanFile>, file: PartitionedFile) -> Self {
        Self {
            opening,
            scan_file,
            file,
        }
    }

    async fn open(self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let Self {
            opening,
            scan_file,
            file,
        } = self;
        let deleted = opening
            .deletes
            .positions(&scan_file.location, &scan_file.deletes.positions)
            .await?;
        let (keys, roots) = match opening.key_filter(&scan_file).await? {
            Some((filter, roots)) => (Some(filter), roots),
            None => (None, vec![]),
        };
        let source = Source {
            store: Arc::clone(&opening.store),
            path: file.object_meta.location.clone(),
            size_bytes: file.object_meta.size,
            format: scan_file.format,
            record_count: Some(scan_file.record_count),
        };
        let range = match &file.range {
            None => None,
            Some(range) => {
                let bound = |value: i64| {
                    u64::try_from(value).map_err(|_| internal_datafusion_err!("range {value}"))
                };
                Some(bound(range.start)?..bound(range.end)?)
            }
        };
        let projection = opening.projection_with(&roots);
        let exprs: Vec<Arc<dyn PhysicalExpr>> = projection
            .iter()
            .map(|column| Arc::clone(&column.expr))
            .collect();
        let filter = opening.source.filter();
        let used = used_ids(&opening, exprs.iter().chain(&filter));
        let rules = opening.info.rules.clone();
        let wanted = move |schema: &Schema| -> Vec<usize> {
            let fields = file_fields(schema, &rules);
            let is_used = |(_, field): &(usize, _)| {
                let field: &super::mapping::FileField = field;
                field.id.is_some_and(|id| used.contains(&id))
            };
            let chosen = fields.into_iter().enumerate().filter(is_used);
            chosen.map(|(place, _)| place).collect()
        };
        let RowReader { schema, batches } =
            formats::open(&source, range, opening.batch_size, wanted).await?;
        let shape = with_position(&schema);
        let adapter = FieldIdAdapterFactory::new(
            Arc::clone(&opening.info.columns),
            opening.info.rules.clone(),
            Some(scan_file),
        )
        .with_position()
        .create(Arc::clone(&opening.info.columns.arrow), Arc::clone(&shape))?;
        let rewrite = |expr: Arc<dyn PhysicalExpr>| adapter.rewrite(expr);
        let steps = Steps {
            output: Arc::new(projection.project_schema(&opening.info.columns.arrow)?),
            exprs: exprs.into_iter().map(rewrite).collect::<Result<_>>()?,
            filter: filter.map(rewrite).transpose()?,
            shape,
            deleted,
            keys,
        };
        Ok(batches
            .map(move |batch| {
                let (first, batch) = batch?;
                steps.apply(first, &batch)
            })
            .boxed())
    }
}

/// Field ids of the table columns that expressions use.
fn used_ids<'a>(
    opening: &FileOpening,
    exprs: impl Iterator<Item = &'a Arc<dyn PhysicalExpr>>,
) -> Vec<i32> {
    let columns = &opening.info.columns;
    exprs
        .flat_map(collect_columns)
        .filter_map(|column| columns.id_of(column.name()))
        .collect()
}

fn with_position(schema: &SchemaRef) -> SchemaRef {
    let position = Arc::new(Field::new(POSITION, DataType::Int64, false));
    let fields = schema.fields().iter().cloned().chain([position]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// What is done to each batch of a file.
struct Steps {
    /// The file's columns and the position.
    shape: SchemaRef,
    deleted: Option<Arc<DeletedRows>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// The projected columns, key columns behind them.
    output: SchemaRef,
    keys: Option<KeyFilter>,
}

impl Steps {
    /// `first` is the position of the batch's first row.
    fn apply(&self, first: u64, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        let start = i64::try_from(first)
            .ok()
            .filter(|start| start.checked_add(rows).is_some())
            .ok_or_else(|| internal_datafusion_err!("position {first}"))?;
        let positions: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + rows));
        let columns = batch.columns().iter().cloned().chain([positions]);
        let mut batch = RecordBatch::try_new(Arc::clone(&self.shape), columns.collect())?;
        if let Some(deleted) = &self.deleted {
            let deleted = deleted.positions();
            let end = first + batch.num_rows() as u64;
            if deleted.range_cardinality(first..end) > 0 {
                let kept: BooleanArray = (first..end)
                    .map(|position| Some(!deleted.contains(position)))
                    .collect();
                batch = filter_record_batch(&batch, &kept)?;
            }
        }
        if let Some(filter) = &self.filter {
            let passes = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
            let passes = passes
                .as_boolean_opt()
                .ok_or_else(|| DataFusionError::Internal(format!("{filter} is no condition")))?;
            batch = filter_record_batch(&batch, passes)?;
        }
        let columns = self
            .exprs
            .iter()
            .map(|expr| expr.evaluate(&batch)?.into_array(batch.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let projected =
            RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?;
        match &self.keys {
            Some(keys) => keys.apply(&projected),
            None => Ok(projected),
        }
    }
}

impl fmt::Debug for FileRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRows({})", self.scan_file.location)
    }
}

impl MorselPlanner for FileRows {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let morsel: Box<dyn Morsel> = self;
        Ok(Some(MorselPlan::new().with_morsels(vec![morsel])))
    }
}

impl Morsel for FileRows {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        stream::once(self.open()).try_flatten().boxed()
    }
}
