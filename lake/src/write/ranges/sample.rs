//! Some keys of a query's rows.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{internal_err, not_impl_err};
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::TryStreamExt;

use super::keys::{KEY_BYTES_MAX, KeyEncoder};
use crate::write::target::WriteTarget;

/// Keys that are kept of one partition of the input.
const KEPT: usize = 2_000;

/// Keeps some keys of its input, and how many rows each stands for.
#[derive(Clone, Debug)]
pub struct SampleExec {
    target: Arc<WriteTarget>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

fn schema() -> SchemaRef {
    let key = Field::new("key", DataType::Binary, false);
    let rows = Field::new("rows", DataType::Float64, false);
    Arc::new(Schema::new(vec![key, rows]))
}

/// Keys and the rows that each stands for, as [`super::Ranges::of`] takes them.
pub(super) fn batch(keys: Vec<&[u8]>, rows: Vec<f64>) -> DfResult<RecordBatch> {
    let keys: ArrayRef = Arc::new(BinaryArray::from_vec(keys));
    let rows: ArrayRef = Arc::new(Float64Array::from(rows));
    Ok(RecordBatch::try_new(schema(), vec![keys, rows])?)
}

impl SampleExec {
    /// Samples rows with all columns of the table in their order.
    pub fn new(target: Arc<WriteTarget>, input: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            target,
            input,
            properties: Arc::new(properties),
        }
    }

    /// The table whose keys are sampled.
    pub fn target(&self) -> &Arc<WriteTarget> {
        &self.target
    }
}

impl DisplayAs for SampleExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = &self.target.table;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "{}: iceberg: table={table}", self.name())
            }
            DisplayFormatType::TreeRender => writeln!(f, "table={table}"),
        }
    }
}

impl ExecutionPlan for SampleExec {
    fn name(&self) -> &str {
        "SampleExec"
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
        let new = Self::new(Arc::clone(&self.target), Arc::clone(input));
        Ok(Arc::new(new))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let keys = KeyEncoder::new(&self.target, &rows.schema())?;
        let sample = Reservoir::new(partition).fill(keys, rows);
        let stream = futures::stream::once(sample);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), stream)))
    }
}

/// A sample in which each row is as likely as any other (Vitter 1985, "Random Sampling with a
/// Reservoir", algorithm R).
struct Reservoir {
    keys: Vec<Vec<u8>>,
    seen: u64,
    random: u64,
}

impl Reservoir {
    fn new(seed: usize) -> Self {
        Self {
            keys: vec![],
            seen: 0,
            random: seed as u64,
        }
    }

    async fn fill(
        mut self,
        encoder: KeyEncoder,
        mut rows: SendableRecordBatchStream,
    ) -> DfResult<RecordBatch> {
        while let Some(batch) = rows.try_next().await? {
            let places = self.places(batch.num_rows());
            if places.is_empty() {
                continue;
            }
            let chosen = places.iter().map(|(row, _)| *row);
            let chosen = UInt32Array::from_iter_values(chosen);
            let keys = encoder.encode(&take_record_batch(&batch, &chosen)?)?;
            for (key, (_, place)) in keys.iter().zip(places) {
                let key = key.as_ref();
                let key = key.get(..KEY_BYTES_MAX).unwrap_or(key).to_vec();
                match self.keys.get_mut(place) {
                    Some(old) => *old = key,
                    None => self.keys.push(key),
                }
            }
        }
        let each = self.seen as f64 / self.keys.len().max(1) as f64;
        let keys: Vec<&[u8]> = self.keys.iter().map(Vec::as_slice).collect();
        let rows = vec![each; keys.len()];
        batch(keys, rows)
    }

    /// The rows that are kept of the next ones, each with its place among those kept.
    fn places(&mut self, rows: usize) -> Vec<(u32, usize)> {
        let mut places = vec![];
        for row in 0..u32::try_from(rows).unwrap_or(u32::MAX) {
            self.seen += 1;
            let place = match self.seen <= KEPT as u64 {
                true => self.seen - 1,
                false => self.next() % self.seen,
            };
            if place < KEPT as u64 {
                places.push((row, place as usize));
            }
        }
        places
    }

    /// SplitMix64 (Steele, Lea and Flood 2014): the same numbers in every run.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Plans an "insertion" that gives a sample of the rows' keys instead of writing them.
#[derive(Debug)]
pub struct SampleProvider {
    target: Arc<WriteTarget>,
    schema: SchemaRef,
}

impl SampleProvider {
    /// For rows with the columns of `schema`.
    pub fn new(target: Arc<WriteTarget>, schema: SchemaRef) -> Self {
        Self { target, schema }
    }
}

#[async_trait]
impl TableProvider for SampleProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        not_impl_err!("a sample is not read")
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let sample = SampleExec::new(Arc::clone(&self.target), input);
        Ok(Arc::new(CoalescePartitionsExec::new(Arc::new(sample))))
    }
}
