//! `INSERT INTO` and `CREATE TABLE ... AS`: the rows of a query become data files of a table, and
//! one commit.
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
use iceberg::TableCreation;
use iceberg::table::Table;
use inshore_lake::TableName;
use inshore_lake::catalog::{Catalogs, Replacement, ReplacementWithRows};
use inshore_lake::table::IcebergTable;
use inshore_lake::write::{Append, TableWriter};

use crate::ddl::NewTableAs;
use crate::{Error, Result};

/// Where rows go.
enum Target {
    /// A table that is there.
    Table(Table),
    /// A table that is made with them.
    New {
        creation: Box<TableCreation>,
        if_not_exists: bool,
    },
    /// A table that gets a new definition with them, or is made.
    Replaced(Box<Replacement>),
}

/// How files become part of a table.
enum Commit {
    Change,
    Create,
    Replace(Box<Replacement>),
}

/// Rows to be added to a table.
pub struct Insert {
    name: TableName,
    target: Target,
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
            target: Target::Table(target.table().clone()),
            input: Arc::unwrap_or_clone(dml.input),
        })
    }

    /// A table of the rows of `input`.
    ///
    /// # Errors
    /// As [`NewTableAs::creation`].
    pub fn into_new(name: TableName, table: &NewTableAs, input: LogicalPlan) -> Result<Self> {
        let creation = table.creation(input.schema().as_arrow())?;
        let target = match table.or_replace {
            true => {
                let replacement = Replacement::new(name.clone(), creation, table.format_version);
                Target::Replaced(Box::new(replacement))
            }
            false => Target::New {
                creation: Box::new(creation),
                if_not_exists: table.if_not_exists,
            },
        };
        Ok(Self {
            name,
            target,
            input,
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
        let (table, commit) = match self.target {
            Target::Table(table) => (table, Commit::Change),
            Target::Replaced(replacement) => match catalogs.load(&self.name).await? {
                Some(table) => (replacement.staged(&table)?, Commit::Replace(replacement)),
                None => {
                    let staged = catalogs.stage_table(&self.name, replacement.creation());
                    let staged = staged.await?.ok_or_else(|| exists(&self.name))?;
                    (staged, Commit::Create)
                }
            },
            Target::New {
                creation,
                if_not_exists,
            } => match catalogs.stage_table(&self.name, *creation).await? {
                Some(staged) => (staged, Commit::Create),
                None if if_not_exists => return Ok(0),
                None => return Err(exists(&self.name).into()),
            },
        };
        let name = self.name.to_string();
        let mut writer = TableWriter::new(&name, &table).await?;
        while let Some(batch) = rows.try_next().await? {
            writer.write(&batch).await?;
        }
        let (files, count, written) = writer.finish().await?;
        let append = Append::new(&name, &table, files);
        // A commit that has begun goes on to its end, whoever waits for it.
        let committed = tokio::spawn(async move {
            let is_new = matches!(commit, Commit::Create);
            let done = match commit {
                Commit::Create => catalogs.create_staged(&self.name, &table, &append).await,
                Commit::Change => catalogs.change_table(&self.name, &append).await,
                Commit::Replace(replacement) => {
                    let rows = Box::new(append);
                    let change = ReplacementWithRows::new(*replacement, table, rows);
                    catalogs.change_table(&self.name, &change).await
                }
            };
            match done {
                Ok(Some(_)) => {
                    written.keep();
                    Ok(())
                }
                Ok(None) => {
                    written.remove().await;
                    Err(match is_new {
                        true => exists(&self.name),
                        false => catalogs.not_found(&self.name).await,
                    })
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
        match committed.await {
            Ok(done) => done?,
            Err(error) => {
                let why = error.to_string();
                return Err(inshore_lake::Error::CommitUnknown { table: name, why }.into());
            }
        }
        Ok(count)
    }
}

fn exists(name: &TableName) -> inshore_lake::Error {
    inshore_lake::Error::Exists(format!("table {name} exists already"))
}
