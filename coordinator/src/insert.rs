//! `INSERT INTO`, `INSERT OVERWRITE` and `CREATE TABLE ... AS`: the rows of a query become data files of a table, and
//! one commit.
//!
//! ```text
//! statement -> target: the table as it is, or a staged one -> plan that writes files where its
//! last stage runs -> files -> snapshot -> commit, here
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Values, WriteOp, lit,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use iceberg::TableCreation;
use iceberg::spec::DataFile;
use iceberg::table::Table;
use inshore_lake::TableName;
use inshore_lake::catalog::{Catalogs, Change, Replacement, ReplacementWithRows};
use inshore_lake::table::IcebergTable;
use inshore_lake::version::TableVersion;
use inshore_lake::write::{
    Append, Overwrite, Ranges, SampleProvider, StatementFiles, WriteProvider, WriteTarget,
    data_files, row_bytes,
};
use tokio_util::sync::CancellationToken;

use crate::ddl::NewTableAs;
use crate::{Error, Result, ddl, rows};

/// Where rows go.
enum Target {
    /// A table that is there, and a branch of it if not `main`.
    Table(Box<Table>, Option<String>),
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
    Add(Option<String>),
    Overwrite(Option<String>),
    Create,
    Replace(Box<Replacement>),
}

/// Rows to be added to a table.
pub struct Insert {
    name: TableName,
    target: Target,
    /// Whether they replace others.
    overwrite: bool,
    /// Gives the rows, with all columns of the table in their order.
    input: LogicalPlan,
}

/// An insertion whose table is known as it is now.
pub struct Prepared {
    name: TableName,
    table: Table,
    commit: Commit,
    target: Arc<WriteTarget>,
    input: LogicalPlan,
    /// Writes the rows, and gives the files.
    pub plan: LogicalPlan,
}

/// The result: how many rows were added.
pub fn schema() -> SchemaRef {
    let count = Field::new("count", DataType::Int64, false);
    Arc::new(Schema::new(vec![count]))
}

/// The result for `rows` added.
fn counted(rows: u64) -> DfResult<RecordBatch> {
    let count = i64::try_from(rows).unwrap_or(i64::MAX);
    let count: ArrayRef = Arc::new(Int64Array::from(vec![count]));
    Ok(RecordBatch::try_new(schema(), vec![count])?)
}

/// The result of an insertion into a table that is there already, and may be.
pub fn nothing() -> SendableRecordBatchStream {
    let stream = futures::stream::once(async { counted(0) });
    Box::pin(RecordBatchStreamAdapter::new(schema(), stream))
}

impl Insert {
    /// Takes over a planned statement.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other changes of rows, and for what is no table of a catalog.
    pub fn of(dml: DmlStatement) -> Result<Self> {
        let overwrite = match dml.op {
            WriteOp::Insert(InsertOp::Append) => false,
            WriteOp::Insert(InsertOp::Overwrite) => true,
            other => {
                let what = other.name();
                return Err(Error::Unsupported(format!("{what} is not supported yet")));
            }
        };
        let provider = source_as_provider(&dml.target)?;
        let Some(target) = provider.downcast_ref::<IcebergTable>() else {
            return Err(Error::Unsupported(format!(
                "{} is no Iceberg table; rows can be added to those of a catalog only",
                dml.table_name
            )));
        };
        let branch = match target.version() {
            None => None,
            Some(TableVersion::Branch(branch)) => Some(branch.clone()),
            Some(_) => {
                return Err(Error::Unsupported(format!(
                    "{} is no branch; rows can be added to a branch of a table only",
                    dml.table_name
                )));
            }
        };
        Ok(Self {
            name: target.name().clone(),
            target: Target::Table(Box::new(target.table().clone()), branch),
            overwrite,
            input: with_nullable_values(Arc::unwrap_or_clone(dml.input))?,
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
        Ok(Self::to(name, target, input))
    }

    /// A table of the rows of `input`, as they are; with `replace` one that is there gets a new
    /// definition.
    ///
    /// # Errors
    /// As [`ddl::creation_of`].
    pub fn into_plain(name: TableName, replace: bool, input: LogicalPlan) -> Result<Self> {
        let creation = ddl::creation_of(&name.table, input.schema().as_arrow())?;
        let target = match replace {
            true => {
                let replacement = Replacement::new(name.clone(), creation, None);
                Target::Replaced(Box::new(replacement))
            }
            false => Target::New {
                creation: Box::new(creation),
                if_not_exists: false,
            },
        };
        Ok(Self::to(name, target, input))
    }

    fn to(name: TableName, target: Target, input: LogicalPlan) -> Self {
        Self {
            name,
            target,
            overwrite: false,
            input,
        }
    }

    /// The table.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// Looks the table up, or stages it. None when the table is there already and may be.
    ///
    /// # Errors
    /// As [`Catalogs::stage_table`] and [`WriteTarget::new`].
    pub async fn prepare(self, catalogs: &Catalogs) -> Result<Option<Prepared>> {
        let (table, commit) = match self.target {
            Target::Table(table, branch) if self.overwrite => (*table, Commit::Overwrite(branch)),
            Target::Table(table, branch) => (*table, Commit::Add(branch)),
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
                None if if_not_exists => return Ok(None),
                None => return Err(exists(&self.name).into()),
            },
        };
        let target = WriteTarget::new(&self.name.to_string(), table.metadata(), catalogs.stores())?;
        let target = Arc::new(target);
        Ok(Some(Prepared {
            plan: writing(&self.name, &target, &self.input, None),
            name: self.name,
            table,
            commit,
            target,
            input: self.input,
        }))
    }

    /// The plan that writes, for `EXPLAIN`: nothing is written by looking at it.
    ///
    /// # Errors
    /// As [`Insert::prepare`].
    pub async fn explained(self, catalogs: &Catalogs) -> Result<LogicalPlan> {
        let input = self.input.clone();
        Ok(self
            .prepare(catalogs)
            .await?
            .map_or(input, |prepared| prepared.plan))
    }
}

/// Rows of `VALUES` get the table's columns, and NULL in one that must not have it would be an error
/// that does not name it: the writer's does.
fn with_nullable_values(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut found = false;
    let plan = plan.transform_up(|node| match node {
        LogicalPlan::Values(Values { schema, values }) => {
            found = true;
            let fields = schema.iter().map(|(qualifier, field)| {
                let field = field.as_ref().clone().with_nullable(true);
                (qualifier.cloned(), Arc::new(field))
            });
            let metadata = schema.metadata().clone();
            let schema = DFSchema::new_with_metadata(fields.collect(), metadata)?;
            let schema = Arc::new(schema);
            Ok(Transformed::yes(LogicalPlan::Values(Values {
                schema,
                values,
            })))
        }
        // They say of their columns what the rows below them say.
        node if found => Ok(Transformed::yes(node.recompute_schema()?)),
        node => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

/// `input` as the rows of an insertion that writes `target`.
fn writing(
    name: &TableName,
    target: &Arc<WriteTarget>,
    input: &LogicalPlan,
    ranges: Option<Arc<Ranges>>,
) -> LogicalPlan {
    let columns = Arc::clone(input.schema().inner());
    let provider = WriteProvider::new(Arc::clone(target), columns, ranges);
    inserted(name, Arc::new(provider), input.clone())
}

/// `input` as the rows of an insertion into `provider`.
fn inserted(name: &TableName, provider: Arc<dyn TableProvider>, input: LogicalPlan) -> LogicalPlan {
    let table = TableReference::full(&*name.catalog, &*name.namespace, &*name.table);
    LogicalPlan::Dml(DmlStatement::new(
        table,
        provider_as_source(provider),
        WriteOp::Insert(InsertOp::Append),
        Arc::new(input),
    ))
}

impl Prepared {
    /// The plan of a sample of the rows, if the table wants them dealt out by ranges. Only columns
    /// that the order is made of are asked for.
    ///
    /// # Errors
    /// In practice none.
    pub fn sampling(&self) -> Result<Option<LogicalPlan>> {
        // Rows of a client come once: they are dealt out by hash.
        if !self.target.wants_ranges() || rows::reads_once(&self.input)? {
            return Ok(None);
        }
        let needed = self.target.order_columns();
        let columns = self.input.schema().iter().enumerate();
        let columns = columns.map(|(place, column)| {
            let value = match needed.contains(&place) {
                true => Expr::Column(column.into()),
                false => lit(ScalarValue::try_from(column.1.data_type())?),
            };
            Ok(value.alias(format!("c{place}")))
        });
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        let keys = LogicalPlanBuilder::from(self.input.clone()).project(columns)?;
        let keys = keys.build()?;
        let schema = Arc::clone(keys.schema().inner());
        let provider = SampleProvider::new(Arc::clone(&self.target), schema);
        Ok(Some(inserted(&self.name, Arc::new(provider), keys)))
    }

    /// Has the rows dealt out by the ranges that a sample shows.
    ///
    /// # Errors
    /// Batches that are no sample.
    pub fn by_ranges(&mut self, sample: &[RecordBatch]) -> Result<()> {
        let row_bytes = row_bytes(self.table.metadata());
        let ranges = Ranges::of(sample, row_bytes, self.target.options.target_bytes)?;
        self.plan = writing(
            &self.name,
            &self.target,
            &self.input,
            Some(Arc::new(ranges)),
        );
        Ok(())
    }

    /// Commits the files that come out of the plan, as the stream is asked for its one batch. Before
    /// the commit it can be dropped or cancelled, and nothing stays.
    pub fn run(
        self,
        catalogs: Arc<Catalogs>,
        files: SendableRecordBatchStream,
        cancelled: CancellationToken,
    ) -> SendableRecordBatchStream {
        let counted = async move { counted(self.write(catalogs, files, cancelled).await?) };
        let stream = futures::stream::once(counted);
        Box::pin(RecordBatchStreamAdapter::new(schema(), stream))
    }

    async fn write(
        self,
        catalogs: Arc<Catalogs>,
        mut stream: SendableRecordBatchStream,
        cancelled: CancellationToken,
    ) -> DfResult<u64> {
        let stores = Arc::clone(catalogs.stores());
        let written = StatementFiles::new(Arc::clone(&self.target), stores);
        let files = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(DataFusionError::External(Box::new(Error::Cancelled))),
            files = self.files(&mut stream) => files,
        };
        drop(stream);
        let files = match files {
            Ok(files) => files,
            Err(error) => {
                written.remove().await;
                return Err(error);
            }
        };
        let count = files.iter().map(DataFile::record_count).sum();
        let name = self.name.to_string();
        // A commit that has begun goes on to its end, whoever waits for it.
        let commit = tokio::spawn(self.commit(catalogs, files, written));
        match commit.await {
            Ok(done) => done?,
            Err(error) => {
                let why = error.to_string();
                return Err(inshore_lake::Error::CommitUnknown { table: name, why }.into());
            }
        }
        Ok(count)
    }

    async fn files(&self, stream: &mut SendableRecordBatchStream) -> DfResult<Vec<DataFile>> {
        let mut files = vec![];
        while let Some(batch) = stream.try_next().await? {
            files.extend(data_files(&batch, &self.target)?);
        }
        Ok(files)
    }

    async fn commit(
        self,
        catalogs: Arc<Catalogs>,
        files: Vec<DataFile>,
        mut written: StatementFiles,
    ) -> Result<(), inshore_lake::Error> {
        written.release();
        let full_name = self.name.to_string();
        let is_new = matches!(self.commit, Commit::Create);
        let done = match self.commit {
            Commit::Create => {
                let append = Append::new(&full_name, &self.table, files);
                let staged = &self.table;
                catalogs.create_staged(&self.name, staged, &append).await
            }
            Commit::Add(branch) => {
                let mut append = Append::new(&full_name, &self.table, files);
                if let Some(branch) = branch {
                    append = append.to_branch(&branch);
                }
                catalogs.change_table(&self.name, &append).await
            }
            Commit::Overwrite(branch) => {
                let change = Overwrite::new(&full_name, &self.table, files);
                let change = match &branch {
                    Some(branch) => change.to_branch(&self.table, branch),
                    None => Ok(change),
                };
                match change {
                    Ok(change) => catalogs.change_table(&self.name, &change).await,
                    Err(error) => Err(error),
                }
            }
            Commit::Replace(replacement) => {
                let rows: Box<dyn Change> = Box::new(Append::new(&full_name, &self.table, files));
                let change = ReplacementWithRows::new(*replacement, self.table, rows);
                catalogs.change_table(&self.name, &change).await
            }
        };
        match done {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                written.remove().await;
                Err(match is_new {
                    true => exists(&self.name),
                    false => catalogs.not_found(&self.name).await,
                })
            }
            // They may belong to the table.
            Err(error @ inshore_lake::Error::CommitUnknown { .. }) => Err(error),
            Err(error) => {
                written.remove().await;
                Err(error)
            }
        }
    }
}

fn exists(name: &TableName) -> inshore_lake::Error {
    inshore_lake::Error::Exists(format!("table {name} exists already"))
}
