//! `TRUNCATE TABLE`: all rows of a table are removed in one commit.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::Truncate as Statement;
use inshore_lake::TableName;
use inshore_lake::catalog::Catalogs;
use inshore_lake::snapshot::Truncate;

use crate::{Error, Result};

/// The result: how many rows were removed, NULL where the metadata does not tell.
pub fn schema() -> SchemaRef {
    let count = Field::new("count", DataType::Int64, true);
    Arc::new(Schema::new(vec![count]))
}

/// # Errors
/// [`Error::Unsupported`] for clauses that other databases have.
pub fn check(statement: &Statement) -> Result<()> {
    let other = statement.partitions.is_some()
        || statement.identity.is_some()
        || statement.cascade.is_some()
        || statement.on_cluster.is_some()
        || statement.table_names.len() != 1;
    match other {
        true => Err(Error::Unsupported(format!(
            "{statement} is not supported; TRUNCATE TABLE takes one table and nothing else"
        ))),
        false => Ok(()),
    }
}

/// Empties a table when the stream is asked for its one batch.
pub fn run(catalogs: Arc<Catalogs>, name: TableName, if_exists: bool) -> SendableRecordBatchStream {
    let counted = async move {
        // A commit that has begun goes on to its end, whoever waits for it.
        let table = name.to_string();
        let commit = tokio::spawn(async move { truncate(&catalogs, &name, if_exists).await });
        let rows = match commit.await {
            Ok(done) => done?,
            Err(error) => {
                let why = error.to_string();
                return Err(inshore_lake::Error::CommitUnknown { table, why }.into());
            }
        };
        let rows = rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
        let count: ArrayRef = Arc::new(Int64Array::from(vec![rows]));
        Ok::<_, DataFusionError>(RecordBatch::try_new(schema(), vec![count])?)
    };
    let stream = futures::stream::once(counted);
    Box::pin(RecordBatchStreamAdapter::new(schema(), stream))
}

async fn truncate(
    catalogs: &Catalogs,
    name: &TableName,
    if_exists: bool,
) -> inshore_lake::Result<Option<u64>> {
    if let Some(table) = catalogs.load(name).await? {
        let change = Truncate::new(&name.to_string(), &table);
        if catalogs.change_table(name, &change).await?.is_some() {
            return Ok(change.rows());
        }
    }
    match if_exists {
        true => Ok(Some(0)),
        false => Err(catalogs.not_found(name).await),
    }
}
