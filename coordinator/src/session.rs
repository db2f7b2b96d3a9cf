//! One client's session: its settings, its own tables, and how its statements run.
//!
//! ```text
//! SQL -> parse -> fold names -> resolve against fresh catalogs -> logical plan   (plan)
//!     -> workers -> physical plan -> stages -> stream                            (run)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProviderList, TableProvider};
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, Statement as PlanStatement};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use inshore_lake::catalog::{MakeProvider, Reference, StatementCatalogs, open_location};
use inshore_lake::metadata_tables;
use inshore_lake::name::TableName;
use inshore_lake::table::IcebergTable;
use parking_lot::Mutex;

use crate::ddl::NewTableAs;
use crate::insert::{self, Insert};
use crate::metadata_columns::{self, Metadata};
use crate::names::{self, Mention};
use crate::node::{Coordinator, Topology};
use crate::query::{Execution, Query, ResultStream, State};
use crate::result::ResultShape;
use crate::statement::{self, Kind};
use crate::{Error, Result, as_of, ddl, describe, explain, system};

/// Tables that one session may have opened by their files.
const SESSION_TABLES_MAX: usize = 1_000;

/// A client's session.
pub struct Session {
    node: Arc<Coordinator>,
    settings: Mutex<SessionConfig>,
    tables: Mutex<BTreeMap<TableName, Arc<IcebergTable>>>,
}

/// A statement that is ready to run. Dropping it forgets the query.
pub struct Planned {
    /// The registered query.
    pub query: Arc<Query>,
    shape: ResultShape,
    body: Option<Body>,
    node: Arc<Coordinator>,
}

enum Body {
    /// A query.
    Plan {
        plan: LogicalPlan,
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
    /// A command that is done already.
    Done,
}

impl Planned {
    /// The schema its result will have.
    pub fn schema(&self) -> &SchemaRef {
        self.shape.schema()
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
    pub(crate) fn new(node: Arc<Coordinator>) -> Self {
        Self {
            settings: Mutex::new(node.base_config()),
            tables: Mutex::default(),
            node,
        }
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
        let query = self.node.queries.begin(sql);
        match self.plan_body(sql).await {
            Ok((shape, body)) => Ok(Planned {
                query,
                shape,
                body: Some(body),
                node: Arc::clone(&self.node),
            }),
            Err(error) => {
                let text = error.to_string();
                self.node.queries.end(&query, State::Failed, Some(text));
                Err(error)
            }
        }
    }

    /// The schema of a statement's result; nothing is carried out.
    pub async fn describe(&self, sql: &str) -> Result<SchemaRef> {
        let (kind, mentions) = self.read(sql)?;
        let config = self.settings.lock().clone();
        let (shape, _) = match kind {
            Kind::Plan(statement) => {
                let plan = self
                    .logical_plan(statement, &mentions, config.clone())
                    .await?;
                match plan {
                    LogicalPlan::Statement(_) => return Ok(Arc::new(Schema::empty())),
                    plan => self.body_of(plan, config)?,
                }
            }
            Kind::ShowCreate(parts) => {
                let plan = self.show_create(&parts, &mentions, config.clone()).await?;
                self.body_of(plan, config)?
            }
            Kind::Rewritten(sql) => return Box::pin(self.describe(&sql)).await,
            Kind::CreateTableAs(_) => return Ok(insert::schema()),
            _ => return Ok(Arc::new(Schema::empty())),
        };
        Ok(Arc::clone(shape.schema()))
    }

    fn read(&self, sql: &str) -> Result<(Kind, Vec<Mention>)> {
        let mut parsed = statement::parse(sql)?;
        let catalogs = &self.node.options.catalogs;
        let in_catalog = |name: &str| catalogs.contains(name);
        let mentions = names::fold(&mut parsed.statement, parsed.clauses, in_catalog)?;
        let folded: Vec<_> = mentions.iter().map(|m| m.parts.clone()).collect();
        let partitions = parsed.partitions.as_deref();
        let kind = statement::classify(parsed.statement, partitions, &folded)?;
        Ok((kind, mentions))
    }

    async fn plan_body(&self, sql: &str) -> Result<(ResultShape, Body)> {
        let (kind, mentions) = self.read(sql)?;
        let done = || (ResultShape::of_arrow(&Schema::empty()), Body::Done);
        match kind {
            Kind::Plan(statement) => {
                let config = self.settings.lock().clone();
                let plan = self
                    .logical_plan(statement, &mentions, config.clone())
                    .await?;
                match plan {
                    LogicalPlan::Statement(command) => {
                        self.apply(command)?;
                        Ok(done())
                    }
                    plan => self.body_of(plan, config),
                }
            }
            Kind::ShowCreate(parts) => {
                let config = self.settings.lock().clone();
                let plan = self.show_create(&parts, &mentions, config.clone()).await?;
                self.body_of(plan, config)
            }
            Kind::Rewritten(sql) => Box::pin(self.plan_body(&sql)).await,
            Kind::CreateTableAs(table) => {
                let config = self.settings.lock().clone();
                let insert = self.create_table_as(&table, &mentions, config.clone());
                let insert = Box::new(insert.await?);
                let shape = ResultShape::of_arrow(&insert::schema());
                Ok((shape, Body::Insert { insert, config }))
            }
            Kind::Use(parts) => {
                self.use_schema(&parts).await?;
                Ok(done())
            }
            Kind::CreateExternalTable(create) => {
                self.create_external_table(&create, &mentions).await?;
                Ok(done())
            }
            Kind::DropTables { names, if_exists } => {
                self.drop_tables(&names, if_exists).await?;
                Ok(done())
            }
            Kind::Define(definition) => {
                ddl::run(&self.node.options.catalogs, &self.defaults(), definition).await?;
                Ok(done())
            }
        }
    }

    async fn create_table_as(
        &self,
        table: &NewTableAs,
        mentions: &[Mention],
        config: SessionConfig,
    ) -> Result<Insert> {
        let catalogs = &self.node.options.catalogs;
        let name = ddl::table_name(catalogs, &self.defaults(), &table.name);
        let query = SqlStatement::Query(table.query.clone());
        let query = datafusion::sql::parser::Statement::Statement(Box::new(query));
        let plan = self.logical_plan(query, mentions, config).await?;
        Insert::into_new(name, table, plan)
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
                if self.tables.lock().contains_key(insert.name()) {
                    return Err(Error::Unsupported(format!(
                        "{} was opened by its files; rows can be added to a table of a catalog only",
                        insert.name()
                    )));
                }
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
            Some(body) => self.start(body, &shape).await,
            None => Err(Error::Sql("the statement has run already".to_owned())),
        };
        let (plan, stream) = match started {
            Ok(started) => started,
            Err(error) => {
                let text = error.to_string();
                self.node.queries.end(&query, State::Failed, Some(text));
                return Err(error);
            }
        };
        let schema = Arc::clone(shape.schema());
        let result = ResultStream::new(
            stream,
            shape,
            plan,
            Arc::clone(&query),
            Arc::clone(&self.node.queries),
            self.node.options.statement_timeout,
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
    ) -> Result<(Arc<dyn ExecutionPlan>, SendableRecordBatchStream)> {
        match body {
            Body::Plan { plan, config } => {
                let (plan, state) = self.physical_plan(&plan, config).await?;
                let stream = execute_stream(Arc::clone(&plan), state.task_ctx())?;
                Ok((plan, stream))
            }
            Body::Insert { insert, config } => {
                let (plan, state) = self.physical_plan(&insert.input, config).await?;
                let rows = execute_stream(Arc::clone(&plan), state.task_ctx())?;
                let catalogs = Arc::clone(&self.node.options.catalogs);
                Ok((plan, insert.run(catalogs, rows)))
            }
            Body::Explain {
                plan,
                config,
                analyze,
            } => {
                let (physical, state) = self.physical_plan(&plan, config).await?;
                let stream = match analyze {
                    Some(analyze) => analyze.run(Arc::clone(&physical), &state)?,
                    None => explain::describe(&state.optimize(&plan)?, &physical)?,
                };
                Ok((physical, stream))
            }
            Body::Done => {
                let schema = Arc::clone(shape.schema());
                let plan = Arc::new(datafusion::physical_plan::empty::EmptyExec::new(
                    Arc::clone(&schema),
                ));
                let stream = RecordBatchStreamAdapter::new(schema, futures::stream::empty());
                Ok((plan, Box::pin(stream)))
            }
        }
    }

    async fn physical_plan(
        &self,
        plan: &LogicalPlan,
        config: SessionConfig,
    ) -> Result<(Arc<dyn ExecutionPlan>, SessionState)> {
        let state = match self.node.options.topology == Topology::Cluster && reads_a_lake(plan)? {
            true => self.node.cluster_state(config).await?,
            false => self.node.local_state(config),
        };
        let physical = state.create_physical_plan(plan).await?;
        Ok((physical, state))
    }

    /// Plans a statement against the catalogs as they are now.
    async fn logical_plan(
        &self,
        mut statement: datafusion::sql::parser::Statement,
        mentions: &[Mention],
        config: SessionConfig,
    ) -> Result<LogicalPlan> {
        let state = self.node.local_state(config);
        let mut references = self.references(&state, &statement, mentions)?;
        let uses = metadata_columns::uses(&statement);
        for (parts, column) in &uses {
            let name = self.resolved(&state, reference_of(parts));
            for reference in references.iter_mut().filter(|r| r.name == name) {
                reference.metadata_columns.push((*column).to_owned());
            }
        }
        let catalogs = self
            .catalogs_for(&references, wants_listing(&statement, &references))
            .await?;
        self.check_names(&references, mentions, &state, &catalogs)
            .await?;
        if !uses.is_empty() {
            let metadata = self.metadata_of(mentions, &state, &catalogs).await?;
            let of = |parts: &[String]| metadata.get(parts).cloned().unwrap_or_default();
            metadata_columns::hide(&mut statement, of)?;
        }
        let state = SessionStateBuilder::new_from_existing(state)
            .with_catalog_list(catalogs)
            .build();
        match state.statement_to_plan(statement).await? {
            LogicalPlan::DescribeTable(table) => Ok(describe::columns(&table.schema)?),
            plan => Ok(plan),
        }
    }

    /// The tables a statement refers to, and in which state.
    fn references(
        &self,
        state: &SessionState,
        statement: &datafusion::sql::parser::Statement,
        mentions: &[Mention],
    ) -> Result<Vec<Reference>> {
        let evaluator = as_of::Evaluator::new(state);
        let mut versioned = BTreeMap::new();
        for mention in mentions {
            let Some(version) = &mention.version else {
                continue;
            };
            let name = self.resolved(state, reference_of(&mention.parts));
            let base = self.resolved(state, reference_of(&version.base));
            if [system::SCHEMA, "information_schema"].contains(&base.namespace.as_str()) {
                return Err(Error::Unsupported(format!(
                    "{base} is no Iceberg table and has no versions, at {}",
                    version.position
                )));
            }
            versioned.insert(name, (base, evaluator.version(version)?));
        }
        let names = state.resolve_table_references(statement)?.into_iter();
        let references = names.map(|name| {
            let mut reference = Reference::from(self.resolved(state, name));
            if let Some((base, version)) = versioned.get(&reference.name) {
                reference.base = base.clone();
                reference.version = Some(version.clone());
            }
            reference
        });
        Ok(references.collect())
    }

    /// The metadata columns of all mentioned tables, by the parts of their names: one table may be
    /// mentioned in several ways.
    async fn metadata_of(
        &self,
        mentions: &[Mention],
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<BTreeMap<Vec<String>, Metadata>> {
        let mut found = BTreeMap::new();
        for Mention { parts, .. } in mentions {
            let name = self.resolved(state, reference_of(parts));
            let Some(table) = table_of(catalogs, &name).await? else {
                continue;
            };
            let Some(table) = table.downcast_ref::<IcebergTable>() else {
                continue;
            };
            let (schema, own) = (table.schema(), table.iceberg_schema().as_struct());
            let columns = schema.fields().iter().map(|field| field.name().clone());
            let (shown, hidden) = columns
                .filter(|column| metadata_columns::NAMES.contains(&column.as_str()))
                .partition(|column| own.field_by_name(column).is_some());
            found.insert(parts.clone(), Metadata { hidden, shown });
        }
        Ok(found)
    }

    /// `SHOW CREATE TABLE`.
    async fn show_create(
        &self,
        parts: &[String],
        mentions: &[Mention],
        config: SessionConfig,
    ) -> Result<LogicalPlan> {
        let state = self.node.local_state(config);
        let name = self.resolved(&state, reference_of(parts));
        let references = [Reference::from(name.clone())];
        let catalogs = self.catalogs_for(&references, false).await?;
        self.check_names(&references, mentions, &state, &catalogs)
            .await?;
        let table = table_of(&catalogs, &name).await?;
        let iceberg = table
            .as_ref()
            .and_then(|t| t.downcast_ref::<IcebergTable>());
        match iceberg {
            Some(table) => Ok(describe::definition(&name, table.definition())?),
            None => Err(Error::Unsupported(format!(
                "{name} is no Iceberg table and has no definition"
            ))),
        }
    }

    fn resolved(&self, state: &SessionState, reference: TableReference) -> TableName {
        let catalog = &state.config_options().catalog;
        let resolved = reference.resolve(&catalog.default_catalog, &catalog.default_schema);
        TableName {
            catalog: resolved.catalog.to_string(),
            namespace: resolved.schema.to_string(),
            table: resolved.table.to_string(),
        }
    }

    /// The catalogs one statement sees: its tables, loaded now, the session's own, and `system`.
    async fn catalogs_for(
        &self,
        references: &[Reference],
        listing: bool,
    ) -> Result<Arc<StatementCatalogs>> {
        let own = self.tables.lock().clone();
        let wanted: Vec<Reference> = references
            .iter()
            .filter(|reference| reference.base.namespace != system::SCHEMA)
            .cloned()
            .collect();
        let manifests = Arc::clone(&self.node.manifests);
        let catalogs = &self.node.options.catalogs;
        let stores = Arc::clone(&self.node.options.stores);
        let make: MakeProvider = Arc::new(move |name, table| {
            let (manifests, stores) = (Arc::clone(&manifests), Arc::clone(&stores));
            IcebergTable::try_new(name, table, manifests, stores)
        });
        let resolved = catalogs.resolve(&wanted, own, listing, make).await;
        let mut homes: Vec<String> = references
            .iter()
            .filter(|reference| reference.name.namespace == system::SCHEMA)
            .map(|reference| reference.name.catalog.clone())
            .collect();
        if listing {
            homes.push(self.defaults().0);
        }
        homes.sort();
        homes.dedup();
        for catalog in homes {
            for (table, provider) in self.node.system_tables()? {
                resolved.register(&catalog, system::SCHEMA, table, provider);
            }
        }
        Ok(resolved)
    }

    /// Refuses names that stand for nothing, with near ones and the place in the text.
    async fn check_names(
        &self,
        references: &[Reference],
        mentions: &[Mention],
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<()> {
        for Reference { name, base, .. } in references {
            // A table function stands where a table does, without a schema.
            let is_function = state.table_functions().contains_key(&name.table);
            if name.namespace == "information_schema" || is_function || exists(catalogs, name) {
                continue;
            }
            let position = mentions
                .iter()
                .find(|mention| self.resolved(state, reference_of(&mention.parts)) == *name)
                .and_then(|mention| mention.position);
            let mut base = base.clone();
            if let Some((table, _)) = metadata_tables::split(&base.table) {
                base.table = table.to_owned();
            }
            let mut message = self
                .node
                .options
                .catalogs
                .not_found(&base)
                .await
                .to_string();
            if let Some(at) = position {
                message.push_str(&format!(" at {at}"));
            }
            return Err(Error::NotFound(message));
        }
        Ok(())
    }

    fn apply(&self, command: PlanStatement) -> Result<()> {
        let mut settings = self.settings.lock();
        match command {
            PlanStatement::SetVariable(set) => {
                let key = set.variable.to_lowercase();
                check_setting(&key)?;
                settings.options_mut().set(&key, &set.value)?;
            }
            PlanStatement::ResetVariable(reset) => {
                let key = reset.variable.to_lowercase();
                check_setting(&key)?;
                let fresh = self.node.base_config();
                let value = fresh
                    .options()
                    .entries()
                    .into_iter()
                    .find(|entry| entry.key == key)
                    .ok_or_else(|| Error::NotFound(format!("there is no setting {key}")))?
                    .value;
                settings
                    .options_mut()
                    .set(&key, value.as_deref().unwrap_or_default())?;
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "{} is not supported yet",
                    other.name()
                )));
            }
        }
        Ok(())
    }

    async fn use_schema(&self, parts: &[String]) -> Result<()> {
        let catalogs = &self.node.options.catalogs;
        let known = catalogs.names();
        let (catalog, namespace) = match parts {
            [catalog] if known.contains(catalog) => (catalog.clone(), None),
            [catalog, rest @ ..] if !rest.is_empty() && known.contains(catalog) => {
                (catalog.clone(), Some(rest.join(".")))
            }
            parts => (self.defaults().0, Some(parts.join("."))),
        };
        if let Some(namespace) = &namespace {
            let existing = catalogs.namespaces(&catalog).await?;
            if !existing.contains(namespace) {
                let near = inshore_lake::catalog::suggest(namespace, &existing);
                let hint = match near.is_empty() {
                    true => String::new(),
                    false => format!("; did you mean {}?", near.join(" or ")),
                };
                return Err(Error::NotFound(format!(
                    "schema {namespace} not found in catalog {catalog}{hint}"
                )));
            }
        }
        self.set_defaults(Some(catalog), namespace);
        Ok(())
    }

    async fn create_external_table(
        &self,
        create: &CreateExternalTable,
        mentions: &[Mention],
    ) -> Result<()> {
        if !create.file_type.eq_ignore_ascii_case("iceberg") {
            return Err(Error::Unsupported(format!(
                "STORED AS {} is not supported; STORED AS ICEBERG is",
                create.file_type
            )));
        }
        if !create.columns.is_empty() {
            return Err(Error::Sql(
                "an Iceberg table brings its own columns; leave the column list out".to_owned(),
            ));
        }
        let parts = mentions
            .first()
            .map(|mention| mention.parts.clone())
            .unwrap_or_default();
        let name = self.own_name(&parts);
        let exists = self.tables.lock().contains_key(&name);
        if exists && create.if_not_exists {
            return Ok(());
        }
        if exists && !create.or_replace {
            return Err(Error::Sql(format!(
                "table {name} exists in this session already"
            )));
        }
        let stores = &self.node.options.stores;
        let table = open_location(stores, &create.location, &name).await?;
        let manifests = Arc::clone(&self.node.manifests);
        let provider = IcebergTable::try_new(name.clone(), table, manifests, Arc::clone(stores))?;
        let mut tables = self.tables.lock();
        if tables.len() >= SESSION_TABLES_MAX {
            return Err(Error::ResourceExhausted(format!(
                "a session may open {SESSION_TABLES_MAX} tables by their files; drop some"
            )));
        }
        tables.insert(name, provider);
        Ok(())
    }

    /// Tables of this session hide those of the catalogs.
    async fn drop_tables(&self, names: &[Vec<String>], if_exists: bool) -> Result<()> {
        for parts in names {
            let name = self.own_name(parts);
            if self.tables.lock().remove(&name).is_none() {
                ddl::drop_table(&self.node.options.catalogs, &name, if_exists).await?;
            }
        }
        Ok(())
    }

    fn own_name(&self, parts: &[String]) -> TableName {
        let (catalog, schema) = self.defaults();
        let resolved = reference_of(parts).resolve(&catalog, &schema);
        TableName {
            catalog: resolved.catalog.to_string(),
            namespace: resolved.schema.to_string(),
            table: resolved.table.to_string(),
        }
    }
}

fn exists(catalogs: &StatementCatalogs, name: &TableName) -> bool {
    catalogs
        .catalog(&name.catalog)
        .and_then(|catalog| catalog.schema(&name.namespace))
        .is_some_and(|schema| schema.table_exist(&name.table))
}

/// The provider of a table of this statement.
async fn table_of(
    catalogs: &StatementCatalogs,
    name: &TableName,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let schema = catalogs
        .catalog(&name.catalog)
        .and_then(|catalog| catalog.schema(&name.namespace));
    match schema {
        Some(schema) => Ok(schema.table(&name.table).await?),
        None => Ok(None),
    }
}

fn reference_of(parts: &[String]) -> TableReference {
    match parts {
        [catalog, schema, table] => {
            TableReference::full(catalog.as_str(), schema.as_str(), table.as_str())
        }
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        [table] => TableReference::bare(table.as_str()),
        _ => TableReference::bare(""),
    }
}

/// Whether the plan reads a table of a lake; if not, no worker is needed.
fn reads_a_lake(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = datafusion::datasource::source_as_provider(&scan.source)
            && provider.as_ref().is::<IcebergTable>()
        {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Whether a statement looks at what exists rather than at named tables.
fn wants_listing(statement: &datafusion::sql::parser::Statement, references: &[Reference]) -> bool {
    use datafusion::sql::parser::Statement;
    use datafusion::sql::sqlparser::ast::Statement as Sql;
    references
        .iter()
        .any(|reference| reference.name.namespace == "information_schema")
        || matches!(
            statement,
            Statement::Statement(sql) if matches!(
                sql.as_ref(),
                Sql::ShowTables { .. } | Sql::ShowColumns { .. }
            )
        )
}

/// Settings that a client may change: those of the query engine. Everything else belongs to the
/// owner of the cluster.
fn check_setting(key: &str) -> Result<()> {
    const OPEN: [&str; 4] = [
        "datafusion.execution.",
        "datafusion.optimizer.",
        "datafusion.explain.",
        "datafusion.catalog.default_",
    ];
    match OPEN.iter().any(|prefix| key.starts_with(prefix))
        || key == "datafusion.sql_parser.dialect"
    {
        true => Ok(()),
        false => Err(Error::Sql(format!(
            "setting {key} cannot be changed in a session"
        ))),
    }
}
