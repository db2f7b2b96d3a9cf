//! The operator that writes: rows in, complete files out.
//!
//! It stands on top of a plan, where the plan's last stage runs; what comes out of it goes to
//! whoever commits. Its requirements on its input have DataFusion deal the rows out by partition
//! and sort them, as the table wants it.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr,
    PhysicalSortRequirement,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::TryStreamExt;
use iceberg::spec::DataFile;

use super::file::WrittenFile;
use super::layout::{self, Keys};
use super::target::WriteTarget;
use super::writer::TableWriter;
use crate::{Error, Result};

/// Files that are told of in one row of the output: a row has to fit into one message.
const FILES_PER_ROW: usize = 64;

/// Writes its input into data files of a table. Each partition is a writer of its own; its output
/// is the files, encoded, for [`data_files`].
#[derive(Clone, Debug)]
pub struct WriteExec {
    target: Arc<WriteTarget>,
    input: Arc<dyn ExecutionPlan>,
    keys: Keys,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The output's schema.
fn schema() -> SchemaRef {
    let files = Field::new("data_files", DataType::Binary, false);
    Arc::new(Schema::new(vec![files]))
}

impl WriteExec {
    /// Writes the rows of `input`, which has all columns of the table in their order.
    ///
    /// # Errors
    /// A spec or sort order whose columns the input does not have.
    pub fn try_new(target: Arc<WriteTarget>, input: Arc<dyn ExecutionPlan>) -> DfResult<Self> {
        let keys = layout::keys(&target, &input.schema())?;
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            target,
            input,
            keys,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The table that is written.
    pub fn target(&self) -> &Arc<WriteTarget> {
        &self.target
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "{}: iceberg: table={}", self.name(), target.table)?;
                if target.is_distributed() || target.wants_ranges() {
                    write!(f, ", distribution={}", target.options.distribution)?;
                }
                if !target.sort_order.is_unsorted() {
                    write!(f, ", sort_order={}", target.sort_order.order_id)?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => writeln!(f, "table={}", target.table),
        }
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let [input] = children.as_slice() else {
            return internal_err!("{} has one input", self.name());
        };
        let new = Self::try_new(Arc::clone(&self.target), Arc::clone(input))?;
        Ok(Arc::new(new))
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        if self.target.is_ranged
            && let Some((place, field)) =
                self.input.schema().fields().iter().enumerate().next_back()
        {
            let range: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), place));
            return vec![Distribution::HashPartitioned(vec![range])];
        }
        let keys = &self.keys.partition;
        vec![match self.target.is_distributed() && !keys.is_empty() {
            true => Distribution::HashPartitioned(keys.clone()),
            false => Distribution::UnspecifiedDistribution,
        }]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let sort = self.keys.sort.iter().cloned();
        let sort = LexRequirement::new(sort.map(PhysicalSortRequirement::from));
        vec![sort.map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, _: Option<usize>) -> DfResult<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&schema())))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, Arc::clone(&context))?;
        let target = Arc::clone(&self.target);
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let bytes = MetricBuilder::new(&self.metrics).counter("bytes_written", partition);
        let files = MetricBuilder::new(&self.metrics).counter("files_written", partition);
        let written = async move {
            let written = write(target, rows, &context, partition).await?;
            files.add(written.len());
            let sizes = written.iter().map(|file| file.bytes);
            bytes.add(usize::try_from(sizes.sum::<u64>()).unwrap_or(usize::MAX));
            let batch = encoded(&written)?;
            baseline.record_output(batch.num_rows());
            baseline.done();
            Ok(batch)
        };
        let stream = futures::stream::once(written);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), stream)))
    }
}

async fn write(
    target: Arc<WriteTarget>,
    mut rows: SendableRecordBatchStream,
    context: &TaskContext,
    partition: usize,
) -> DfResult<Vec<WrittenFile>> {
    let store = context.runtime_env().object_store(&target.store)?;
    let memory = MemoryConsumer::new(format!("WriteExec[{partition}]"))
        .with_can_spill(true)
        .register(context.memory_pool());
    let mut writer = TableWriter::new(&target, &rows.schema(), store, memory)?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch).await?;
    }
    drop(rows);
    Ok(writer.finish().await?)
}

fn encoded(files: &[WrittenFile]) -> Result<RecordBatch> {
    let internal = |error: &dyn fmt::Display| Error::Internal(format!("written files: {error}"));
    let rows = files.chunks(FILES_PER_ROW).map(serde_json::to_vec);
    let rows = rows.collect::<Result<Vec<_>, _>>();
    let rows = rows.map_err(|error| internal(&error))?;
    let rows = BinaryArray::from_iter_values(rows);
    let rows: ArrayRef = Arc::new(rows);
    RecordBatch::try_new(schema(), vec![rows]).map_err(|error| internal(&error))
}

/// The files in a batch of a [`WriteExec`]'s output.
///
/// # Errors
/// [`Error::Internal`] for other batches.
pub fn data_files(batch: &RecordBatch, target: &WriteTarget) -> Result<Vec<DataFile>> {
    let internal = |error: &dyn fmt::Display| Error::Internal(format!("written files: {error}"));
    let column = batch.columns().first();
    let column = column.and_then(|column| column.as_any().downcast_ref::<BinaryArray>());
    let column = column.ok_or_else(|| internal(&"the column is missing"))?;
    let mut files = vec![];
    for bytes in column.iter().flatten() {
        let row: Vec<WrittenFile> =
            serde_json::from_slice(bytes).map_err(|error| internal(&error))?;
        for file in row {
            files.push(file.into_data_file(target)?);
        }
    }
    Ok(files)
}
