//! `CALL system.add_files('schema.table', 's3://lake/files/*.parquet')`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use inshore_lake::TableName;
use inshore_lake::maintenance::{Adopted, adopt_files};

use super::Context;
use super::arguments::Arguments;
use crate::Result;

/// How a call is written.
pub const SIGNATURE: &str = "system.add_files(table, source_table)";

/// A call.
#[derive(Debug)]
pub struct AddFiles {
    table: TableName,
    source: String,
}

/// How much was taken over.
pub fn schema() -> SchemaRef {
    let names = ["added_files_count", "added_rows_count"];
    let fields = names.map(|name| Field::new(name, DataType::Int64, false));
    Arc::new(Schema::new(fields.to_vec()))
}

impl AddFiles {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn of(arguments: Arguments<'_>) -> Result<Self> {
        Ok(Self {
            table: arguments.table("table")?,
            source: path_of(&arguments.required("source_table")?),
        })
    }

    /// Reads the files' footers and commits. A commit that has begun goes on to its end.
    pub fn run(self, context: Context) -> SendableRecordBatchStream {
        let counted = async move {
            let (catalogs, stores) = (&context.catalogs, &context.stores);
            let adopted = adopt_files(catalogs, stores, &self.table, &self.source).await?;
            let Adopted { files, rows } = adopted;
            let count = |n: u64| -> ArrayRef {
                Arc::new(Int64Array::from(vec![i64::try_from(n).unwrap_or(i64::MAX)]))
            };
            Ok(RecordBatch::try_new(
                schema(),
                vec![count(files), count(rows)],
            )?)
        };
        let stream = futures::stream::once(counted);
        Box::pin(RecordBatchStreamAdapter::new(schema(), stream))
    }
}

/// The path in Spark's way to write a source: `parquet`.`path`.
fn path_of(source: &str) -> String {
    let inner = ["`parquet`.`", "parquet.`"]
        .into_iter()
        .find_map(|begin| source.strip_prefix(begin)?.strip_suffix('`'));
    inner.unwrap_or(source).to_owned()
}
