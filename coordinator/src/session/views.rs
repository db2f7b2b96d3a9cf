//! Views: queries under a name, planned where they are used.
//!
//! A catalog that keeps views keeps them for everybody; in the others a view lasts as long as the
//! session. All views of a statement see the same state of a table.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use datafusion::datasource::ViewTable;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions,
    Statement as SqlStatement,
};
use inshore_lake::TableName;
use inshore_lake::catalog::{Reference, StatementCatalogs, View};

use super::Session;
use super::resolve::{Unit, exists};
use crate::ddl::view::{NewView, query_text};
use crate::listing::information_schema;
use crate::{Error, Result, ddl, describe, names, statement, system};

/// Views that one session may have.
const SESSION_VIEWS_MAX: usize = 1_000;

/// Views that one statement may use, those that its views use among them.
const STATEMENT_VIEWS_MAX: usize = 256;

/// How deep views may use views.
const VIEW_DEPTH_MAX: usize = 32;

/// A view of a statement.
struct Found {
    view: View,
    unit: Unit,
}

type FoundViews = BTreeMap<TableName, Found>;

impl Session {
    /// Puts the views that a statement uses into its catalogs. `own` is the view that the statement
    /// makes, which must not use itself. Gives whether anything names metadata columns.
    pub(super) async fn expand_views(
        &self,
        main: &Unit,
        catalogs: &Arc<StatementCatalogs>,
        own: Option<&TableName>,
    ) -> Result<bool> {
        let mut found = self.find_views(main, catalogs, own).await?;
        let units = found.values().map(|found| &found.unit);
        let hide = main.names_metadata() || units.into_iter().any(Unit::names_metadata);
        for name in in_order(&found, &main.references)? {
            let Some(Found { view, unit }) = found.remove(&name) else {
                continue;
            };
            let plan = self.plan_unit(unit, catalogs, hide).await;
            let plan = plan.and_then(|plan| with_columns(plan, &view.columns));
            let plan = plan.map_err(|error| Error::Sql(format!("view {name}: {error}")))?;
            let table = Arc::new(ViewTable::new(plan, Some(view.sql)));
            catalogs.register(&name.catalog, &name.namespace, &name.table, table);
        }
        Ok(hide)
    }

    async fn find_views(
        &self,
        main: &Unit,
        catalogs: &StatementCatalogs,
        own: Option<&TableName>,
    ) -> Result<FoundViews> {
        let mut found = FoundViews::new();
        let mut columns = BTreeMap::<TableName, Vec<String>>::new();
        let mut queue = VecDeque::from([self.tables_of(main)]);
        while let Some(references) = queue.pop_front() {
            for reference in &references {
                let known = columns.entry(reference.name.clone()).or_default();
                known.extend(reference.metadata_columns.iter().cloned());
            }
            for Reference { name, version, .. } in references {
                if own == Some(&name) {
                    return Err(Error::Sql(format!("view {name} would use itself")));
                }
                if version.is_some() || found.contains_key(&name) {
                    continue;
                }
                let Some(view) = self.find_view(&name, catalogs).await? else {
                    continue;
                };
                if found.len() >= STATEMENT_VIEWS_MAX {
                    return Err(Error::ResourceExhausted(format!(
                        "a statement may use {STATEMENT_VIEWS_MAX} views"
                    )));
                }
                let unit = self.unit_of_view(&view, main.config.clone());
                let unit = unit.map_err(|error| Error::Sql(format!("view {name}: {error}")))?;
                let mut wanted = self.tables_of(&unit);
                for reference in &mut wanted {
                    // A table has the metadata columns that anything in the statement names.
                    let known = columns.entry(reference.name.clone()).or_default();
                    known.extend(reference.metadata_columns.iter().cloned());
                    known.sort();
                    known.dedup();
                    reference.metadata_columns.clone_from(known);
                }
                self.resolve_into(catalogs, &wanted).await?;
                queue.push_back(self.tables_of(&unit));
                found.insert(name, Found { view, unit });
            }
        }
        Ok(found)
    }

    /// A view of this session or, where there is no such table, of a catalog.
    async fn find_view(
        &self,
        name: &TableName,
        catalogs: &StatementCatalogs,
    ) -> Result<Option<View>> {
        if [system::SCHEMA, information_schema::SCHEMA].contains(&name.namespace.as_str()) {
            return Ok(None);
        }
        let own = self.views.lock().get(name).cloned();
        match own {
            Some(view) => Ok(Some(view)),
            None if exists(catalogs, name) => Ok(None),
            None => Ok(self.node.options.catalogs.view(name).await?),
        }
    }

    fn unit_of_view(&self, view: &View, mut config: SessionConfig) -> Result<Unit> {
        let catalogs = &self.node.options.catalogs;
        let mut parsed = statement::parse(&view.sql)?;
        let is_query = matches!(&parsed.statement, Statement::Statement(sql)
            if matches!(sql.as_ref(), SqlStatement::Query(_)));
        if !is_query {
            return Err(Error::Sql("it is no query".to_owned()));
        }
        let in_catalog = |name: &str| catalogs.contains(name);
        let mentions = names::fold(&mut parsed.statement, parsed.clauses, in_catalog)?;
        let defaults = &mut config.options_mut().catalog;
        defaults.default_catalog.clone_from(&view.catalog);
        defaults.default_schema.clone_from(&view.namespace);
        self.unit(parsed.statement, mentions, config)
    }

    /// `CREATE VIEW`.
    pub(super) async fn create_view(&self, new: NewView, sql: &str) -> Result<()> {
        let catalogs = &self.node.options.catalogs;
        let (catalog, namespace) = self.defaults();
        let name = ddl::table_name(catalogs, &self.defaults(), &new.name);
        let mut view = View {
            sql: query_text(sql)?,
            catalog,
            namespace,
            columns: new.columns,
            comment: new.comment,
        };
        let config = self.settings.lock().clone();
        let unit = self.unit_of_view(&view, config)?;
        let plan = self.planned(unit, Some(&name)).await?;
        let plan = with_columns(plan, &view.columns)?;
        let stored = !new.temporary
            && catalogs.contains(&name.catalog)
            && catalogs.has_views(&name.catalog).await?;
        let made = if stored {
            let schema = ddl::schema_of(plan.schema().as_arrow(), true)?;
            view.columns = column_names(&plan);
            let made = catalogs.create_view(&name, &view, &schema, new.or_replace);
            made.await?
        } else {
            self.keep_view(&name, view, new.or_replace).await?
        };
        match made || new.if_not_exists {
            true => Ok(()),
            false => Err(Error::Lake(inshore_lake::Error::Exists(format!(
                "there is a table or a view {name} already"
            )))),
        }
    }

    /// Keeps a view in this session; false when there is something of that name.
    async fn keep_view(&self, name: &TableName, view: View, replace: bool) -> Result<bool> {
        let is_table = self.tables.lock().contains_key(name)
            || self.node.options.catalogs.load(name).await?.is_some();
        let mut views = self.views.lock();
        if is_table || (views.contains_key(name) && !replace) {
            return Ok(false);
        }
        if views.len() >= SESSION_VIEWS_MAX && !views.contains_key(name) {
            return Err(Error::ResourceExhausted(format!(
                "a session may have {SESSION_VIEWS_MAX} views; drop some"
            )));
        }
        views.insert(name.clone(), view);
        Ok(true)
    }

    /// `DROP VIEW`. Views of this session hide those of the catalogs.
    pub(super) async fn drop_views(&self, names: &[Vec<String>], if_exists: bool) -> Result<()> {
        for parts in names {
            let name = self.own_name(parts);
            let own = self.views.lock().remove(&name).is_some();
            if !own && !self.node.options.catalogs.drop_view(&name).await? && !if_exists {
                return Err(Error::NotFound(format!("view {name} not found")));
            }
        }
        Ok(())
    }

    /// Whether a name stands for a view of this session or of a catalog.
    pub(super) async fn is_view(&self, name: &TableName) -> Result<bool> {
        if self.views.lock().contains_key(name) {
            return Ok(true);
        }
        let catalogs = &self.node.options.catalogs;
        let is_table = catalogs.load(name).await?.is_some();
        Ok(!is_table && catalogs.view(name).await?.is_some())
    }

    /// `SHOW VIEWS`.
    pub(super) async fn show_views(&self, options: &ShowStatementOptions) -> Result<LogicalPlan> {
        let catalogs = &self.node.options.catalogs;
        let parent = options.show_in.as_ref();
        let (catalog, namespace) = match parent.and_then(|parent| parent.parent_name.as_ref()) {
            Some(name) => ddl::schema_name(catalogs, &self.defaults(), &ddl::folded(name)?),
            None => self.defaults(),
        };
        let mut found = catalogs.views(&catalog, &namespace).await?;
        let own = self.views.lock();
        let own = own
            .keys()
            .filter(|name| (&name.catalog, &name.namespace) == (&catalog, &namespace));
        found.extend(own.map(|name| name.table.clone()));
        found.sort();
        found.dedup();
        let plan = describe::views(&catalog, &namespace, found)?;
        let like = match &options.filter_position {
            Some(
                ShowStatementFilterPosition::Infix(ShowStatementFilter::Like(pattern))
                | ShowStatementFilterPosition::Suffix(ShowStatementFilter::Like(pattern)),
            ) => col("table_name").like(lit(pattern.as_str())),
            None => return Ok(plan),
            Some(_) => return Err(Error::Unsupported("this filter of SHOW VIEWS".to_owned())),
        };
        Ok(LogicalPlanBuilder::from(plan).filter(like)?.build()?)
    }

    /// `SHOW CREATE VIEW`.
    pub(super) async fn show_create_view(&self, parts: &[String]) -> Result<LogicalPlan> {
        let name = self.own_name(parts);
        let view = self.view(&name).await?;
        let view = view.ok_or_else(|| Error::NotFound(format!("view {name} not found")))?;
        Ok(describe::definition(
            &name,
            describe::create_view(&name, &view),
        )?)
    }
}

/// The views in an order in which each comes after those that it uses.
fn in_order(found: &FoundViews, references: &[Reference]) -> Result<Vec<TableName>> {
    let mut order = Vec::new();
    let mut path = Vec::new();
    for reference in references {
        visit(found, &reference.name, &mut path, &mut order)?;
    }
    Ok(order)
}

fn visit(
    found: &FoundViews,
    name: &TableName,
    path: &mut Vec<TableName>,
    order: &mut Vec<TableName>,
) -> Result<()> {
    let Some(view) = found.get(name).filter(|_| !order.contains(name)) else {
        return Ok(());
    };
    if path.contains(name) || path.len() >= VIEW_DEPTH_MAX {
        let shown: Vec<String> = path.iter().chain([name]).map(ToString::to_string).collect();
        return Err(Error::Sql(match path.contains(name) {
            true => format!("view {name} uses itself: {}", shown.join(" uses ")),
            false => format!("views use views deeper than {VIEW_DEPTH_MAX} levels, at view {name}"),
        }));
    }
    path.push(name.clone());
    for reference in &view.unit.references {
        visit(found, &reference.name, path, order)?;
    }
    path.pop();
    order.push(name.clone());
    Ok(())
}

fn column_names(plan: &LogicalPlan) -> Vec<String> {
    let fields = plan.schema().fields().iter();
    fields.map(|field| field.name().clone()).collect()
}

/// The plan with the columns of a view: by their names where it has them, so that a table may get
/// more, else by their places.
fn with_columns(plan: LogicalPlan, columns: &[String]) -> Result<LogicalPlan> {
    let given = column_names(&plan);
    if columns.is_empty() || columns == given {
        return Ok(plan);
    }
    let fields = plan.schema().columns();
    let by_name = |name: &String| {
        let mut found = fields.iter().filter(|field| &field.name == name);
        found.next().cloned().filter(|_| found.next().is_none())
    };
    let named: Option<Vec<_>> = columns.iter().map(by_name).collect();
    let projected = match named {
        Some(named) => named
            .into_iter()
            .map(datafusion::logical_expr::Expr::Column)
            .collect::<Vec<_>>(),
        None if fields.len() == columns.len() => fields
            .into_iter()
            .zip(columns)
            .map(|(field, name)| datafusion::logical_expr::Expr::Column(field).alias(name))
            .collect(),
        None => {
            return Err(Error::Sql(format!(
                "it has the columns {}, and its query gives {}",
                columns.join(", "),
                given.join(", ")
            )));
        }
    };
    Ok(LogicalPlanBuilder::from(plan).project(projected)?.build()?)
}
