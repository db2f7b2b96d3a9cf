//! A scan of no columns: the metadata knows how many rows there are, so no data file is opened.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, assert_or_internal_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream;

/// Gives as many rows of no columns as a table has, for `count(*)`, `EXISTS` and the like.
#[derive(Clone, Debug)]
pub struct RowCountExec {
    table: String,
    snapshot_id: Option<i64>,
    rows: u64,
    properties: Arc<PlanProperties>,
}

impl RowCountExec {
    /// `rows` rows of `table`, which has them in snapshot `snapshot_id`; both are only shown.
    pub fn new(table: String, snapshot_id: Option<i64>, rows: u64) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(Schema::empty())),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            table,
            snapshot_id,
            rows,
            properties: Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative)),
        }
    }

    /// The table's full name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The snapshot that was counted.
    pub fn snapshot_id(&self) -> Option<i64> {
        self.snapshot_id
    }

    /// Rows given.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl DisplayAs for RowCountExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "{}: iceberg: table={}", self.name(), self.table)?;
                if let Some(snapshot) = self.snapshot_id {
                    write!(f, ", snapshot={snapshot}")?;
                }
                write!(f, ", rows={}, files=0", self.rows)
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", self.table)?;
                writeln!(f, "rows={}", self.rows)
            }
        }
    }
}

impl ExecutionPlan for RowCountExec {
    fn name(&self) -> &'static str {
        "RowCountExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        assert_or_internal_err!(partition == 0, "{} has one partition", self.name());
        let schema = self.schema();
        let most = context.session_config().batch_size().max(1);
        let batches = stream::iter(batches(Arc::clone(&schema), self.rows, most));
        let stream = RecordBatchStreamAdapter::new(schema, batches);
        Ok(Box::pin(cooperative(stream)))
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows =
            usize::try_from(self.rows).map_or(Precision::Absent, Precision::Exact);
        statistics.total_byte_size = Precision::Exact(0);
        Ok(Arc::new(statistics))
    }
}

/// Batches of no columns and `rows` rows in all, none with more than `most`.
fn batches(schema: SchemaRef, rows: u64, most: usize) -> impl Iterator<Item = Result<RecordBatch>> {
    let mut left = rows;
    std::iter::from_fn(move || {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        left -= next as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(next));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options);
        (next > 0).then(|| Ok(batch?))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn batches_hold_all_rows_and_none_too_many() {
        for (rows, sizes) in [
            (0, vec![]),
            (3, vec![3]),
            (10, vec![4, 4, 2]),
            (8, vec![4, 4]),
        ] {
            let batches = batches(Arc::new(Schema::empty()), rows, 4);
            let found: Vec<usize> = batches.map(|batch| batch.unwrap().num_rows()).collect();
            assert_eq!(found, sizes);
        }
    }
}
