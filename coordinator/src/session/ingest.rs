//! Rows that a client sends, into a table: made, added to or replaced in one commit.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    DmlStatement, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, WriteOp,
};
use futures::FutureExt;
use inshore_lake::TableName;
use inshore_lake::catalog::hint;
use inshore_lake::sql_types::type_name;
use inshore_lake::table::IcebergTable;

use super::{Body, Planned, Session};
use crate::insert::{self, Insert};
use crate::result::ResultShape;
use crate::rows::{self, Batches};
use crate::{Error, Result};

/// The name of the rows in a plan.
const ROWS: &str = "rows";

/// Where rows go.
#[derive(Clone, Debug)]
pub struct Ingest {
    /// The default one if none.
    pub catalog: Option<String>,
    /// The default one if none.
    pub schema: Option<String>,
    /// The table, exactly as it is called.
    pub table: String,
    /// What is done when it is not there.
    pub if_missing: IfMissing,
    /// What is done when it is there.
    pub if_there: IfThere,
}

/// What is done with rows for a table that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// It is made.
    Create,
    /// It is an error.
    Fail,
}

/// What is done with rows for a table that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfThere {
    /// It is an error.
    Fail,
    /// They are added.
    Append,
    /// They take the place of its rows and columns.
    Replace,
}

impl Session {
    /// Plans the writing of rows, which come with the columns of `schema`.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`inshore_lake::Error::Exists`] as is asked for; [`Error::Sql`] for
    /// columns that do not fit.
    pub async fn ingest(
        &self,
        ingest: &Ingest,
        schema: SchemaRef,
        rows: Batches,
    ) -> Result<Planned> {
        let (catalog, namespace) = self.defaults();
        let catalog = ingest.catalog.as_deref().unwrap_or(&catalog);
        let namespace = ingest.schema.as_deref().unwrap_or(&namespace);
        let name = TableName::new(catalog, namespace, &ingest.table);
        let text = format!("INGEST INTO {name}");
        let body = async move {
            let table = rows::table(schema, rows)?;
            let insert = Box::new(self.insertion(name, ingest, table).await?);
            let shape = ResultShape::of_arrow(&insert::schema());
            let config = self.config(None);
            Ok((shape, Body::Insert { insert, config }))
        };
        self.plan_as(&text, body.boxed()).await
    }

    async fn insertion(
        &self,
        name: TableName,
        ingest: &Ingest,
        rows: Arc<dyn TableProvider>,
    ) -> Result<Insert> {
        self.check_catalog_table(&name)?;
        check_columns(rows.schema().as_ref())?;
        let catalogs = &self.node.options.catalogs;
        if self.is_view(&name).await? {
            return Err(Error::Sql(format!("{name} is a view; rows go into tables")));
        }
        let scan = LogicalPlanBuilder::scan(ROWS, provider_as_source(rows), None)?;
        let scan = scan.build()?;
        match (
            catalogs.load(&name).await?,
            ingest.if_missing,
            ingest.if_there,
        ) {
            (None, IfMissing::Fail, _) => Err(catalogs.not_found(&name).await.into()),
            (None, IfMissing::Create, _) => Insert::into_plain(name, false, scan),
            (Some(_), _, IfThere::Fail) => {
                Err(inshore_lake::Error::Exists(format!("table {name} exists already")).into())
            }
            (Some(_), _, IfThere::Replace) => Insert::into_plain(name, true, scan),
            (Some(table), _, IfThere::Append) => {
                let manifests = Arc::clone(&self.node.manifests);
                let stores = Arc::clone(&self.node.options.stores);
                let table = IcebergTable::try_new(name.clone(), table, manifests, stores)?;
                Insert::of(appended(&name, table, scan)?)
            }
        }
    }
}

fn check_columns(schema: &Schema) -> Result<()> {
    let mut names = HashSet::new();
    match schema.fields().iter().find(|f| !names.insert(f.name())) {
        _ if schema.fields().is_empty() => Err(Error::Sql(
            "the rows to be written have no columns".to_owned(),
        )),
        Some(twice) => Err(Error::Sql(format!(
            "the rows to be written have two columns {}",
            twice.name()
        ))),
        None => Ok(()),
    }
}

/// Rows for a table, each column by its name. Columns that do not come get their defaults.
fn appended(name: &TableName, table: Arc<IcebergTable>, rows: LogicalPlan) -> Result<DmlStatement> {
    let wanted = table.schema();
    let known: Vec<String> = wanted.fields().iter().map(|f| f.name().clone()).collect();
    for field in rows.schema().fields() {
        if !known.contains(field.name()) {
            let hint = hint(field.name(), &known);
            return Err(Error::Sql(format!(
                "table {name} has no column {}{hint}",
                field.name()
            )));
        }
    }
    let columns = wanted.fields().iter().map(|field| {
        let target = field.data_type();
        let expr = match rows.schema().fields().find(field.name()) {
            None => {
                let default = table.get_column_default(field.name()).cloned();
                default.unwrap_or(Expr::Literal(ScalarValue::Null, None))
            }
            Some((_, given)) if can_cast_types(given.data_type(), target) => {
                Expr::Column(Column::new(Some(ROWS), field.name()))
            }
            Some((_, given)) => {
                return Err(Error::Sql(format!(
                    "column {} of table {name} is of type {}; values of type {} cannot be cast to it",
                    field.name(),
                    type_name(target),
                    type_name(given.data_type())
                )));
            }
        };
        Ok(expr.cast_to(target, rows.schema())?.alias(field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let rows = LogicalPlanBuilder::from(rows).project(columns)?.build()?;
    let reference = TableReference::full(&*name.catalog, &*name.namespace, &*name.table);
    Ok(DmlStatement::new(
        reference,
        provider_as_source(table),
        WriteOp::Insert(InsertOp::Append),
        Arc::new(rows),
    ))
}
