//! `CALL system.remove_orphan_files('schema.table')`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, StreamExt, TryStreamExt};
use inshore_lake::TableName;
use inshore_lake::maintenance::{OrphanSearch, Orphans};

use super::Context;
use super::arguments::Arguments;
use crate::Result;

/// How a call is written.
pub const SIGNATURE: &str =
    "system.remove_orphan_files(table [, older_than] [, dry_run] [, allow_recent])";

/// Files that are deleted before they are told.
const STEP: usize = 500;

/// A call.
#[derive(Debug)]
pub struct RemoveOrphanFiles {
    table: TableName,
    search: OrphanSearch,
    dry_run: bool,
}

/// One row for each file.
pub fn schema() -> SchemaRef {
    let location = Field::new("orphan_file_location", DataType::Utf8, false);
    Arc::new(Schema::new(vec![location]))
}

impl RemoveOrphanFiles {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn of(arguments: Arguments<'_>) -> Result<Self> {
        Ok(Self {
            table: arguments.table("table")?,
            search: OrphanSearch {
                older_than_ms: arguments.millis("older_than")?,
                allow_recent: arguments.flag("allow_recent")?,
            },
            dry_run: arguments.flag("dry_run")?,
        })
    }

    /// Deletes the files step by step; those of a step are told when they are gone.
    pub fn run(self, context: Context) -> SendableRecordBatchStream {
        let found = async move {
            let (catalogs, stores) = (&context.catalogs, &context.stores);
            let found = Orphans::find(catalogs, stores, &self.table, &self.search).await?;
            let steps = (0..found.locations.len()).step_by(STEP);
            let found = Arc::new(found);
            let dry_run = self.dry_run;
            Ok::<_, DataFusionError>(stream::iter(steps).then(move |from| {
                let found = Arc::clone(&found);
                async move {
                    let to = (from + STEP).min(found.locations.len());
                    let step = found.locations.get(from..to).unwrap_or_default();
                    if !dry_run {
                        found.delete(step).await?;
                    }
                    let step = step.iter().map(String::as_str);
                    let column: ArrayRef = Arc::new(StringArray::from_iter_values(step));
                    Ok(RecordBatch::try_new(schema(), vec![column])?)
                }
            }))
        };
        let batches = stream::once(found).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema(), batches))
    }
}
