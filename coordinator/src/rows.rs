//! Rows that a client sends, as a table that is read once, as fast as they are wanted.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use crate::plans;

/// Batches as they arrive.
pub type Batches = BoxStream<'static, Result<RecordBatch>>;

/// A table of rows with this schema.
///
/// # Errors
/// In practice none.
pub fn table(schema: SchemaRef, batches: Batches) -> Result<Arc<dyn TableProvider>> {
    let batches = RecordBatchStreamAdapter::new(Arc::clone(&schema), batches);
    let rows = Once {
        schema: Arc::clone(&schema),
        batches: Mutex::new(Some(Box::pin(batches))),
    };
    let table = StreamingTable::try_new(schema, vec![Arc::new(rows)])?;
    Ok(Arc::new(table))
}

/// Whether a plan reads rows that cannot be read again.
///
/// # Errors
/// In practice none.
pub fn reads_once(plan: &LogicalPlan) -> Result<bool> {
    plans::reads(plan, |table| table.is::<StreamingTable>())
}

struct Once {
    schema: SchemaRef,
    batches: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows of a client")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches.lock().take();
        batches.unwrap_or_else(|| {
            let error = DataFusionError::Internal("rows of a client are read twice".to_owned());
            let stream = futures::stream::once(async { Err(error) });
            Box::pin(RecordBatchStreamAdapter::new(
                Arc::clone(&self.schema),
                stream,
            ))
        })
    }
}
