//! One client's session: its settings, its own tables, and how its statements run.
//!
//! ```text
//! SQL -> parse -> fold names -> resolve against fresh catalogs -> logical plan   (plan)
//!     -> workers -> physical plan -> stages -> stream                            (run)
//! ```

mod client;
mod commands;
mod defaults;
mod files;
mod ingest;
mod own;
mod parameters;
mod resolve;
mod show;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{
    Function as SqlFunction, Query as SqlQuery, Statement as SqlStatement,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use inshore_engine::distribute::{PlacementOptions, QueryWorkers};
use inshore_engine::{interrupt, metrics};
use inshore_lake::catalog::View;
use inshore_lake::files::FilesTable;
use inshore_lake::name::TableName;
use inshore_lake::table::IcebergTable;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::copy::{self, Copy};
use crate::ddl::NewTableAs;
use crate::ddl::defaults::Defaults;
use crate::insert::{self, Insert};
use crate::names::{self, Mention};
use crate::node::{Coordinator, Topology};
use crate::procedures::{self, Procedure};
use crate::query::{Execution, Query, ResultStream, State, TimeLimit};
use crate::result::ResultShape;
use crate::statement::{self, Kind};
use crate::{Error, Result, ddl, explain, plans, truncate};

pub use self::ingest::{IfMissing, IfThere, Ingest};
pub use self::parameters::Preparation;
use self::parameters::Values;
use crate::parameters::Bound;
pub use client::Client;

/// Tables that one session may have opened by their files.
const SESSION_TABLES_MAX: usize = 1_000;

/// A client's session.
pub struct Session {
    /// Unique over coordinators and time.
    pub id: Uuid,
    /// When it began.
    pub opened: SystemTime,
    /// Who opened it.
    pub client: Client,
    statements: AtomicU64,
    node: Arc<Coordinator>,
    settings: Mutex<SessionConfig>,
    tables: Mutex<BTreeMap<TableName, Arc<IcebergTable>>>,
    views: Mutex<BTreeMap<TableName, View>>,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It gives rows, and changes nothing.
    Query,
    /// It changes something; its result, if any, is the number of rows.
    Changes,
    /// It changes something, and gives rows.
    Call,
}

/// A statement that is ready to run. Dropping it forgets the query.
pub struct Planned {
    /// The registered query.
    pub query: Arc<Query>,
    shape: ResultShape,
    limit: Option<TimeLimit>,
    body: Option<Body>,
    node: Arc<Coordinator>,
}

enum Body {
    /// A query.
    Plan {
        plan: LogicalPlan,
        config: SessionConfig,
    },
    /// A query for several rows of parameters.
    Plans {
        plans: Vec<LogicalPlan>,
        config: SessionConfig,
    },
    /// `EXPLAIN` of a query.
    Explain {
        plan: LogicalPlan,
        config: SessionConfig,
        analyze: Option<explain::Analyze>,
    },
    /// Rows to be added.
    Insert {
        insert: Box<Insert>,
        config: SessionConfig,
    },
    /// Rows to be written into files.
    Copy {
        copy: Copy,
        plan: LogicalPlan,
        config: SessionConfig,
    },
    /// A call of a procedure.
    Call(Procedure),
    /// All rows to be removed.
    Truncate { name: TableName, if_exists: bool },
    /// A command that is done already.
    Done,
}

impl Planned {
    /// The schema its result will have.
    pub fn schema(&self) -> &SchemaRef {
        self.shape.schema()
    }

    /// Whether it was carried out while it was planned, as definitions are.
    pub fn has_run(&self) -> bool {
        matches!(self.body, Some(Body::Done) | None)
    }

    /// What it does beside giving rows.
    pub fn effect(&self) -> Effect {
        match &self.body {
            Some(Body::Insert { .. } | Body::Copy { .. } | Body::Truncate { .. })
            | Some(Body::Done)
            | None => Effect::Changes,
            Some(Body::Call(_)) => Effect::Call,
            Some(Body::Plan { .. } | Body::Plans { .. } | Body::Explain { .. }) => Effect::Query,
        }
    }
}

/// Ends a query whose planning or start was given up.
struct Begun {
    query: Arc<Query>,
    node: Arc<Coordinator>,
    over: bool,
}

impl Begun {
    fn new(query: Arc<Query>, node: Arc<Coordinator>) -> Self {
        Self {
            query,
            node,
            over: false,
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.over {
            self.node.queries.end_with(&self.query, &Error::Cancelled);
        }
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.node.queries.end(&self.query, State::Cancelled, None);
        }
    }
}

impl Session {
    pub(crate) fn new(node: Arc<Coordinator>, client: Client) -> Self {
        Self {
            id: Uuid::now_v7(),
            opened: SystemTime::now(),
            client,
            statements: AtomicU64::new(0),
            settings: Mutex::new(node.base_config()),
            tables: Mutex::default(),
            views: Mutex::default(),
            node,
        }
    }

    /// How many statements it was given.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Plans a statement and starts it.
    pub async fn execute(&self, sql: &str) -> Result<Execution> {
        let planned = self.plan(sql).await?;
        self.run(planned).await
    }

    /// The default catalog and schema.
    pub fn defaults(&self) -> (String, String) {
        let settings = self.settings.lock();
        let catalog = &settings.options().catalog;
        (
            catalog.default_catalog.clone(),
            catalog.default_schema.clone(),
        )
    }

    /// Sets the default catalog or schema without looking whether they exist.
    pub fn set_defaults(&self, catalog: Option<String>, schema: Option<String>) {
        let mut settings = self.settings.lock();
        let options = &mut settings.options_mut().catalog;
        if let Some(catalog) = catalog {
            options.default_catalog = catalog;
        }
        if let Some(schema) = schema {
            options.default_schema = schema;
        }
    }

    /// Plans a statement. Commands, which have no result, are carried out here.
    pub async fn plan(&self, sql: &str) -> Result<Planned> {
        self.plan_as(sql, self.plan_body(sql, None).boxed()).await
    }

    /// Registers a statement under its text, and plans it.
    async fn plan_as(
        &self,
        text: &str,
        // Boxed: it is large, and would be copied from frame to frame of the stack.
        body: BoxFuture<'_, Result<(ResultShape, Body)>>,
    ) -> Result<Planned> {
        let user = self.client.user.clone();
        let query = self.node.queries.begin(text, self.id, user);
        self.statements.fetch_add(1, Ordering::Relaxed);
        let limit = self.time_limit();
        // A client that goes away while its statement is planned leaves none behind.
        let mut begun = Begun::new(Arc::clone(&query), Arc::clone(&self.node));
        let planned = query.within(limit, body).await;
        begun.over = true;
        match planned {
            Ok((shape, body)) => Ok(Planned {
                query,
                shape,
                limit,
                body: Some(body),
                node: Arc::clone(&self.node),
            }),
            Err(error) => {
                self.node.queries.end_with(&query, &error);
                Err(error.of_query(&query.id))
            }
        }
    }

    /// The shorter of the times that the coordinator and the session allow a statement.
    fn time_limit(&self) -> Option<TimeLimit> {
        let settings = self.settings.lock();
        let own_s = PlacementOptions::of(settings.options()).statement_timeout_seconds;
        let own = (own_s > 0).then(|| TimeLimit {
            after: Duration::from_secs(own_s),
            setting: commands::STATEMENT_TIMEOUT,
        });
        let configured = self.node.options.statement_timeout.map(|after| TimeLimit {
            after,
            setting: "coordinator.statement_timeout_seconds",
        });
        own.into_iter().chain(configured).min_by_key(|l| l.after)
    }

    /// The schema of a statement's result, empty for one that changes something: a client tells by
    /// that what to ask for. Nothing is carried out.
    pub async fn describe(&self, sql: &str) -> Result<SchemaRef> {
        self.describe_with(sql, None).boxed().await
    }

    async fn describe_with(&self, sql: &str, bound: Option<&Bound>) -> Result<SchemaRef> {
        let (kind, mentions, _) = self.read(sql, Values::of(bound))?;
        let kind = self.without_show(kind).await?;
        let config = self.config(bound);
        let (shape, _) = match kind {
            Kind::Plan(statement) => {
                let plan = self
                    .logical_plan(statement, &mentions, config.clone())
                    .await?;
                match plan {
                    LogicalPlan::Statement(_) | LogicalPlan::Dml(_) => {
                        return Ok(Arc::new(Schema::empty()));
                    }
                    plan => self.body_of(plan, config)?,
                }
            }
            Kind::ShowCreate(parts) => {
                let plan = self.show_create(&parts, &mentions, config.clone()).await?;
                self.body_of(plan, config)?
            }
            Kind::ShowViews(options) => {
                let plan = self.show_views(&options).await?;
                self.body_of(plan, config)?
            }
            Kind::ShowCreateView(parts) => {
                let plan = self.show_create_view(&parts).await?;
                self.body_of(plan, config)?
            }
            Kind::Rewritten(sql) => {
                return Box::pin(self.describe_with(&sql, None)).await;
            }
            Kind::Call(call) => {
                let schema = self.procedure(&call, config)?.schema();
                return Ok(Arc::clone(ResultShape::of_arrow(&schema).schema()));
            }
            Kind::CreateTableAs(table) if bound.is_some() => {
                // What is wrong with the types of parameters is told now.
                self.query_plan(table.query, &mentions, config).await?;
                return Ok(Arc::new(Schema::empty()));
            }
            _ => return Ok(Arc::new(Schema::empty())),
        };
        Ok(Arc::clone(shape.schema()))
    }

    /// A statement's kind, the tables that it names, and how many parameters it has.
    fn read(&self, sql: &str, values: Values<'_>) -> Result<(Kind, Vec<Mention>, usize)> {
        if let Some(query_id) = statement::killed(sql)? {
            return Ok((Kind::Kill(query_id), vec![], 0));
        }
        let state = || self.node.local_state(self.settings.lock().clone());
        let defaults = Defaults::of(&state);
        let mut parsed = statement::parse_with(sql, defaults)?;
        let catalogs = &self.node.options.catalogs;
        let in_catalog = |name: &str| catalogs.contains(name);
        let mentions = names::fold(&mut parsed.statement, parsed.clauses, in_catalog)?;
        let folded: Vec<_> = mentions.iter().map(|m| m.parts.clone()).collect();
        let count = crate::parameters::take(&mut parsed.statement, values.mode())?;
        let kind = statement::classify(parsed.statement, &parsed.definition, &folded, defaults)?;
        values.check(count, &kind)?;
        Ok((kind, mentions, count))
    }

    async fn plan_body(&self, sql: &str, bound: Option<&Bound>) -> Result<(ResultShape, Body)> {
        let (kind, mentions, _) = self.read(sql, Values::of(bound))?;
        let kind = self.without_show(kind).await?;
        let done = || (ResultShape::of_arrow(&Schema::empty()), Body::Done);
        match kind {
            Kind::Plan(statement) => {
                match self.bound_body(statement, &mentions, bound).boxed().await? {
                    (
                        _,
                        Body::Plan {
                            plan: LogicalPlan::Statement(command),
                            ..
                        },
                    ) => {
                        self.apply(command)?;
                        Ok(done())
                    }
                    planned => Ok(planned),
                }
            }
            Kind::ShowCreate(parts) => {
                let config = self.settings.lock().clone();
                let plan = self.show_create(&parts, &mentions, config.clone()).await?;
                self.body_of(plan, config)
            }
            Kind::ShowViews(options) => {
                let config = self.settings.lock().clone();
                self.body_of(self.show_views(&options).await?, config)
            }
            Kind::ShowCreateView(parts) => {
                let config = self.settings.lock().clone();
                self.body_of(self.show_create_view(&parts).await?, config)
            }
            Kind::CreateView(view) => {
                self.create_view(*view, sql).await?;
                Ok(done())
            }
            Kind::DropViews { names, if_exists } => {
                self.drop_views(&names, if_exists).await?;
                Ok(done())
            }
            Kind::Rewritten(sql) => Box::pin(self.plan_body(&sql, None)).await,
            // There is a query in its place.
            Kind::Show(_) => Ok(done()),
            Kind::CreateTableAs(table) => {
                let config = self.config(bound);
                let insert = Box::new(self.create_table_as(*table, &mentions, bound).await?);
                let shape = ResultShape::of_arrow(&insert::schema());
                Ok((shape, Body::Insert { insert, config }))
            }
            Kind::Call(call) => {
                let config = self.settings.lock().clone();
                let procedure = self.procedure(&call, config)?;
                let shape = ResultShape::of_arrow(&procedure.schema());
                Ok((shape, Body::Call(procedure)))
            }
            Kind::Copy(statement) => {
                let config = self.config(bound);
                let copy = Copy::new(&statement)?;
                let query = as_statement(copy::query(&statement)?);
                let plan = self.bound_plan(query, &mentions, bound).await?;
                let shape = ResultShape::of_arrow(&insert::schema());
                Ok((shape, Body::Copy { copy, plan, config }))
            }
            Kind::Truncate { name, if_exists } => {
                let name = self.own_name(&name);
                self.check_catalog_table(&name)?;
                let shape = ResultShape::of_arrow(&truncate::schema());
                Ok((shape, Body::Truncate { name, if_exists }))
            }
            Kind::Use(parts) => {
                self.use_schema(&parts).await?;
                Ok(done())
            }
            Kind::Kill(query_id) => {
                self.node.queries.cancel(&query_id)?;
                Ok(done())
            }
            Kind::CreateExternalTable(create) => {
                self.create_external_table(&create, &mentions).await?;
                Ok(done())
            }
            Kind::DropTables {
                names,
                if_exists,
                purge,
            } => {
                match purge {
                    true => self.purge_tables(&names, if_exists).await?,
                    false => self.drop_tables(&names, if_exists).await?,
                }
                Ok(done())
            }
            Kind::Define(definition) => {
                ddl::run(&self.node.options.catalogs, &self.defaults(), definition).await?;
                Ok(done())
            }
        }
    }

    fn procedure(&self, call: &SqlFunction, config: SessionConfig) -> Result<Procedure> {
        let state = self.node.local_state(config);
        let catalogs = &self.node.options.catalogs;
        Procedure::of(call, catalogs, &self.defaults(), &state)
    }

    async fn create_table_as(
        &self,
        table: NewTableAs,
        mentions: &[Mention],
        bound: Option<&Bound>,
    ) -> Result<Insert> {
        let catalogs = &self.node.options.catalogs;
        let name = ddl::table_name(catalogs, &self.defaults(), &table.name);
        let query = as_statement(table.query.clone());
        let plan = self.bound_plan(query, mentions, bound).await?;
        Insert::into_new(name, &table, plan)
    }

    async fn query_plan(
        &self,
        query: Box<SqlQuery>,
        mentions: &[Mention],
        config: SessionConfig,
    ) -> Result<LogicalPlan> {
        self.logical_plan(as_statement(query), mentions, config)
            .await
    }

    /// # Errors
    /// [`Error::Unsupported`] for a table that was opened by its files.
    fn check_catalog_table(&self, name: &TableName) -> Result<()> {
        match self.tables.lock().contains_key(name) {
            true => Err(Error::Unsupported(format!(
                "{name} was opened by its files; rows can be added to a table of a catalog, and \
                 removed from it, only"
            ))),
            false => Ok(()),
        }
    }

    fn body_of(&self, plan: LogicalPlan, config: SessionConfig) -> Result<(ResultShape, Body)> {
        Ok(match plan {
            LogicalPlan::Explain(explain) if explain::is_ours(&explain) => (
                ResultShape::of_arrow(&explain::schema()),
                Body::Explain {
                    plan: explain.plan.as_ref().clone(),
                    config,
                    analyze: None,
                },
            ),
            LogicalPlan::Analyze(analyze) => (
                ResultShape::of_arrow(&explain::schema()),
                Body::Explain {
                    plan: analyze.input.as_ref().clone(),
                    config,
                    analyze: Some(explain::Analyze {
                        verbose: analyze.verbose,
                    }),
                },
            ),
            LogicalPlan::Dml(dml) => {
                let insert = Box::new(Insert::of(dml)?);
                self.check_catalog_table(insert.name())?;
                let shape = ResultShape::of_arrow(&insert::schema());
                (shape, Body::Insert { insert, config })
            }
            plan => (ResultShape::of(plan.schema()), Body::Plan { plan, config }),
        })
    }

    /// Starts a planned statement.
    pub async fn run(&self, mut planned: Planned) -> Result<Execution> {
        let query = Arc::clone(&planned.query);
        let shape = planned.shape.clone();
        let body = planned.body.take();
        let started = match body {
            Some(body) => {
                // As while planning.
                let mut begun = Begun::new(Arc::clone(&query), Arc::clone(&self.node));
                let start = Box::pin(self.start(body, &shape, &query));
                let started = query.within(planned.limit, start).await;
                begun.over = true;
                started
            }
            None => Err(Error::Sql("the statement has run already".to_owned())),
        };
        let (plan, stream) = match started {
            Ok(started) => started,
            Err(error) => {
                self.node.queries.end_with(&query, &error);
                return Err(error.of_query(&query.id));
            }
        };
        let schema = Arc::clone(shape.schema());
        let result = ResultStream::new(
            stream,
            shape,
            plan,
            Arc::clone(&query),
            Arc::clone(&self.node.queries),
            planned.limit,
        );
        Ok(Execution {
            query_id: query.id.clone(),
            stream: Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), result)),
            schema,
        })
    }

    async fn start(
        &self,
        body: Body,
        shape: &ResultShape,
        query: &Query,
    ) -> Result<(Arc<dyn ExecutionPlan>, SendableRecordBatchStream)> {
        match body {
            Body::Plan { plan, config } => {
                let (plan, state) = self.physical_plan(&plan, config, query).await?;
                let stream = execute_stream(Arc::clone(&plan), state.task_ctx())?;
                Ok((plan, stream))
            }
            Body::Plans { plans, config } => {
                parameters::run_in_turn(&self.node, plans, config, shape)
                    .boxed()
                    .await
            }
            Body::Insert { insert, config } => {
                let catalogs = Arc::clone(&self.node.options.catalogs);
                let Some(mut prepared) = insert.prepare(&catalogs).await? else {
                    let plan = Arc::new(EmptyExec::new(Arc::clone(shape.schema())));
                    return Ok((plan, insert::nothing()));
                };
                if let Some(sampling) = prepared.sampling()? {
                    let sample = self.sample(&sampling, config.clone(), query).await?;
                    prepared.by_ranges(&sample)?;
                }
                let (plan, state) = self.physical_plan(&prepared.plan, config, query).await?;
                let files = execute_stream(Arc::clone(&plan), state.task_ctx())?;
                Ok((
                    plan,
                    prepared.run(catalogs, files, query.cancelled().clone()),
                ))
            }
            Body::Copy { copy, plan, config } => {
                let names = ResultShape::plain(plan.schema().as_arrow());
                let (plan, state) = self.physical_plan(&plan, config, query).await?;
                let rows = execute_stream(Arc::clone(&plan), state.task_ctx())?;
                let shape = names.clone();
                let rows = rows.map(move |batch| batch.and_then(|batch| shape.apply(batch)));
                let schema = Arc::clone(names.schema());
                let rows = RecordBatchStreamAdapter::new(Arc::clone(&schema), rows);
                let access = Arc::clone(&self.node.files);
                Ok((plan, copy.run(access, schema, Box::pin(rows))))
            }
            Body::Explain {
                plan,
                config,
                analyze,
            } => {
                let plan = match plan {
                    LogicalPlan::Dml(_) if analyze.is_some() => {
                        return Err(Error::Unsupported(
                            "EXPLAIN ANALYZE of a statement that changes rows is not supported; \
                             EXPLAIN is"
                                .to_owned(),
                        ));
                    }
                    LogicalPlan::Dml(dml) => {
                        let catalogs = &self.node.options.catalogs;
                        Insert::of(dml)?.explained(catalogs).await?
                    }
                    plan => plan,
                };
                let (physical, state) = self.physical_plan(&plan, config, query).await?;
                let stream = match analyze {
                    Some(analyze) => analyze.run(Arc::clone(&physical), &state)?,
                    None => explain::describe(&state.optimize(&plan)?, &physical)?,
                };
                Ok((physical, stream))
            }
            Body::Call(procedure) => {
                let plan = Arc::new(EmptyExec::new(procedure.schema()));
                let context = procedures::Context {
                    catalogs: Arc::clone(&self.node.options.catalogs),
                    stores: Arc::clone(&self.node.options.stores),
                };
                Ok((plan, procedure.run(context)))
            }
            Body::Truncate { name, if_exists } => {
                let catalogs = Arc::clone(&self.node.options.catalogs);
                let plan = Arc::new(EmptyExec::new(Arc::clone(shape.schema())));
                Ok((plan, truncate::run(catalogs, name, if_exists)))
            }
            Body::Done => {
                let schema = Arc::clone(shape.schema());
                let plan = Arc::new(EmptyExec::new(Arc::clone(&schema)));
                let stream = RecordBatchStreamAdapter::new(schema, futures::stream::empty());
                Ok((plan, Box::pin(stream)))
            }
        }
    }

    /// Runs the plan of a sample to its end.
    async fn sample(
        &self,
        plan: &LogicalPlan,
        config: SessionConfig,
        query: &Query,
    ) -> Result<Vec<RecordBatch>> {
        let (plan, state) = self.physical_plan(plan, config, query).await?;
        Ok(datafusion::physical_plan::collect(plan, state.task_ctx()).await?)
    }

    async fn physical_plan(
        &self,
        plan: &LogicalPlan,
        config: SessionConfig,
        query: &Query,
    ) -> Result<(Arc<dyn ExecutionPlan>, SessionState)> {
        let (physical, state) = physical_plan(&self.node, plan, config).await?;
        let workers = state.config().get_extension::<QueryWorkers>();
        query.has_tasks(metrics::tasks(&physical, workers.as_deref())?);
        let physical = interrupt::interruptible(physical, query.cancelled())?;
        Ok((physical, state))
    }
}

async fn physical_plan(
    node: &Arc<Coordinator>,
    plan: &LogicalPlan,
    config: SessionConfig,
) -> Result<(Arc<dyn ExecutionPlan>, SessionState)> {
    let state = match node.options.topology == Topology::Cluster && reads_a_lake(plan)? {
        true => node.cluster_state(config).await?,
        false => node.local_state(config),
    };
    let physical = state.create_physical_plan(plan).await?;
    Ok((physical, state))
}

fn as_statement(query: Box<SqlQuery>) -> datafusion::sql::parser::Statement {
    datafusion::sql::parser::Statement::Statement(Box::new(SqlStatement::Query(query)))
}

/// Whether the plan reads a table of a lake; if not, no worker is needed.
fn reads_a_lake(plan: &LogicalPlan) -> Result<bool> {
    let is_in_lake = |table: &dyn TableProvider| {
        let files = table.downcast_ref::<FilesTable>();
        table.is::<IcebergTable>() || files.is_some_and(FilesTable::is_in_lake)
    };
    Ok(plans::reads(plan, is_in_lake)?)
}
