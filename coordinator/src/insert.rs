//! `INSERT INTO`: the rows of a query become data files of a table, and one commit.
//!
//! The query runs where queries run; its rows are written by the coordinator.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use iceberg::table::Table;
use inshore_lake::TableName;
use inshore_lake::catalog::Catalogs;
use inshore_lake::table::IcebergTable;
use inshore_lake::write::{Append, TableWriter};

use crate::{Error, Result};

/// Rows to be added to a table.
pub struct Insert {
    name: TableName,
    table: Table,
    /// Gives the rows, with all columns of the table in their order.
    pub input: LogicalPlan,
}

/// The result: how many rows were added.
pub fn schema() -> SchemaRef {
    let count = Field::new("count", DataType::Int64, false);
    Arc::new(Schema::new(vec![count]))
}

impl Insert {
    /// Takes over a planned statement.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other changes of rows, and for what is no table of a catalog.
    pub fn of(dml: DmlStatement) -> Result<Self> {
        if !matches!(dml.op, WriteOp::Insert(InsertOp::Append)) {
            return Err(Error::Unsupported(format!(
                "{} is not supported yet",
                dml.op.name()
            )));
        }
        let provider = source_as_provider(&dml.target)?;
        let Some(target) = provider.downcast_ref::<IcebergTable>() else {
            return Err(Error::Unsupported(format!(
                "{} is no Iceberg table; rows can be added to those of a catalog only",
                dml.table_name
            )));
        };
        Ok(Self {
            name: target.name().clone(),
            table: target.table().clone(),
            input: Arc::unwrap_or_clone(dml.input),
        })
    }

    /// The table.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// Writes `rows` and commits them, as the stream is asked for its one batch. Before the commit
    /// it can be dropped, and nothing stays.
    pub fn run(
        self,
        catalogs: Arc<Catalogs>,
        rows: SendableRecordBatchStream,
    ) -> SendableRecordBatchStream {
        let counted = async move {
            let count = self.write(catalogs, rows).await?;
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let count: ArrayRef = Arc::new(Int64Array::from(vec![count]));
            Ok(RecordBatch::try_new(schema(), vec![count])?)
        };
        let stream = futures::stream::once(counted);
        Box::pin(RecordBatchStreamAdapter::new(schema(), stream))
    }

    async fn write(
        self,
        catalogs: Arc<Catalogs>,
        mut rows: SendableRecordBatchStream,
    ) -> DfResult<u64> {
        let name = self.name.to_string();
        let mut writer = TableWriter::new(&name, &self.table).await?;
        while let Some(batch) = rows.try_next().await? {
            writer.write(&batch).await?;
        }
        let (files, count, written) = writer.finish().await?;
        let spec_id = self.table.metadata().default_partition_spec_id();
        let append = Append::new(&name, spec_id, files);
        // A commit that has begun goes on to its end, whoever waits for it.
        let commit = tokio::spawn(async move {
            match catalogs.change_table(&self.name, &append).await {
                Ok(Some(_)) => {
                    written.keep();
                    Ok(())
                }
                Ok(None) => {
                    written.remove().await;
                    Err(catalogs.not_found(&self.name).await)
                }
                // They may belong to the table.
                Err(error @ inshore_lake::Error::CommitUnknown { .. }) => {
                    written.keep();
                    Err(error)
                }
                Err(error) => {
                    written.remove().await;
                    Err(error)
                }
            }
        });
        match commit.await {
            Ok(done) => done?,
            Err(error) => {
                let why = error.to_string();
                return Err(inshore_lake::Error::CommitUnknown { table: name, why }.into());
            }
        }
        Ok(count)
    }
}
