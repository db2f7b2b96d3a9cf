//! The operator that says to which range each row belongs.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::borders::Ranges;
use super::keys::KeyEncoder;
use crate::write::target::WriteTarget;
use crate::{Error, Result};

/// The name of the column that is added.
const COLUMN: &str = "inshore_range";

/// Adds a column behind those of its input: what stands for the range of the row's key.
#[derive(Clone, Debug)]
pub struct RangeExec {
    target: Arc<WriteTarget>,
    ranges: Arc<Ranges>,
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

/// What a worker has to know beside the input.
#[derive(Serialize, Deserialize)]
struct Message {
    target: Vec<u8>,
    ranges: Ranges,
}

impl RangeExec {
    /// For rows with all columns of the table in their order.
    pub fn new(
        target: Arc<WriteTarget>,
        ranges: Arc<Ranges>,
        input: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(COLUMN, DataType::Int32, false)));
        let schema = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self {
            target,
            ranges,
            input,
            schema,
            properties: Arc::new(properties),
        }
    }

    /// The operator for a worker.
    ///
    /// # Errors
    /// [`Error::Internal`] in practice never.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let message = Message {
            target: self.target.encode()?,
            ranges: self.ranges.as_ref().clone(),
        };
        serde_json::to_vec(&message).map_err(|error| invalid(&error))
    }

    /// What [`RangeExec::encode`] made, over an input.
    ///
    /// # Errors
    /// [`Error::Internal`] for other bytes.
    pub fn decode(bytes: &[u8], input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let message: Message = serde_json::from_slice(bytes).map_err(|error| invalid(&error))?;
        let target = WriteTarget::decode(&message.target)?;
        Ok(Self::new(Arc::new(target), Arc::new(message.ranges), input))
    }
}

fn invalid(error: &dyn fmt::Display) -> Error {
    Error::Internal(format!("ranges of rows do not travel: {error}"))
}

impl DisplayAs for RangeExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges.count();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "{}: ranges={ranges}", self.name())
            }
            DisplayFormatType::TreeRender => writeln!(f, "ranges={ranges}"),
        }
    }
}

impl ExecutionPlan for RangeExec {
    fn name(&self) -> &str {
        "RangeExec"
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
        let (target, ranges) = (Arc::clone(&self.target), Arc::clone(&self.ranges));
        Ok(Arc::new(Self::new(target, ranges, Arc::clone(input))))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let keys = KeyEncoder::new(&self.target, &rows.schema())?;
        let (ranges, schema) = (Arc::clone(&self.ranges), Arc::clone(&self.schema));
        let rows = rows.map(move |batch| {
            let batch = batch?;
            let labels = keys.encode(&batch)?;
            let labels = labels.iter().map(|key| ranges.label(key.as_ref()));
            let labels: ArrayRef = Arc::new(Int32Array::from_iter_values(labels));
            let mut columns = batch.columns().to_vec();
            columns.push(labels);
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
