//! `SHOW CATALOGS`, `SCHEMAS`, `TABLES` and `COLUMNS`: short for queries on `information_schema`.

use datafusion::sql::sqlparser::ast::{
    ObjectName, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions,
};

use futures::future::BoxFuture;

use super::Session;
use crate::listing::{self, Pattern, Wanted};
use crate::statement::{Kind, Show, text_literal};
use crate::{Error, Result, ddl};

impl Session {
    /// A statement with a query in the place of a `SHOW`. In a box, because whoever plans a
    /// statement needs its stack for deep ones.
    pub(super) fn without_show(&self, kind: Kind) -> BoxFuture<'_, Result<Kind>> {
        match kind {
            Kind::Show(show) => {
                Box::pin(async move { self.shown(&show).await.map(Kind::Rewritten) })
            }
            kind => Box::pin(std::future::ready(Ok(kind))),
        }
    }

    async fn shown(&self, show: &Show) -> Result<String> {
        match show {
            Show::Catalogs(options) => shown_schemata(options, "catalog_name", "SHOW CATALOGS"),
            Show::Schemas(options) => shown_schemata(options, "schema_name", "SHOW SCHEMAS"),
            Show::Tables(options) => self.shown_tables(options).await,
            Show::Columns { all, options } => self.shown_columns(*all, options).await,
        }
    }

    async fn shown_tables(&self, options: &ShowStatementOptions) -> Result<String> {
        let mut conditions = Vec::new();
        if let Some(name) = parent(options) {
            let catalogs = &self.node.options.catalogs;
            let parts = ddl::folded(name)?;
            let (catalog, schema) = ddl::schema_name(catalogs, &self.defaults(), &parts);
            let wanted = Wanted {
                catalog: Pattern::Exactly(catalog.clone()),
                schema: Pattern::Exactly(schema.clone()),
                ..Wanted::default()
            };
            if listing::schemas(self, &wanted).await.is_empty() {
                return Err(Error::NotFound(format!(
                    "schema {schema} not found in catalog {catalog}; SHOW SCHEMAS lists them"
                )));
            }
            conditions.push(format!("table_catalog = {}", text_literal(&catalog)));
            conditions.push(format!("table_schema = {}", text_literal(&schema)));
        }
        conditions.extend(like(options, "table_name", "SHOW TABLES")?);
        Ok(query("*", "tables", &conditions, ""))
    }

    async fn shown_columns(&self, all: bool, options: &ShowStatementOptions) -> Result<String> {
        let name = parent(options).ok_or_else(|| {
            Error::Sql("SHOW COLUMNS wants a table: SHOW COLUMNS FROM its name".to_owned())
        })?;
        let catalogs = &self.node.options.catalogs;
        let name = ddl::table_name(catalogs, &self.defaults(), &ddl::folded(name)?);
        let found = listing::relations(self, &Wanted::only(&name), &listing::Kind::ALL).await;
        if found.is_empty() {
            return Err(Error::Lake(catalogs.not_found(&name).await));
        }
        let mut conditions = vec![
            format!("table_catalog = {}", text_literal(&name.catalog)),
            format!("table_schema = {}", text_literal(&name.namespace)),
            format!("table_name = {}", text_literal(&name.table)),
        ];
        conditions.extend(like(options, "column_name", "SHOW COLUMNS")?);
        let shown = match all {
            true => "*",
            false => "table_catalog, table_schema, table_name, column_name, data_type, is_nullable",
        };
        Ok(query(
            shown,
            "columns",
            &conditions,
            " ORDER BY ordinal_position",
        ))
    }
}

fn shown_schemata(options: &ShowStatementOptions, column: &str, statement: &str) -> Result<String> {
    let mut conditions = Vec::new();
    if let Some(catalog) = parent(options) {
        let catalog = ddl::folded(catalog)?.join(".");
        conditions.push(format!("catalog_name = {}", text_literal(&catalog)));
    }
    conditions.extend(like(options, column, statement)?);
    let distinct = format!("DISTINCT {column}");
    Ok(query(&distinct, "schemata", &conditions, " ORDER BY 1"))
}

fn query(columns: &str, table: &str, conditions: &[String], order: &str) -> String {
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    format!("SELECT {columns} FROM information_schema.{table}{filter}{order}")
}

/// The name after `FROM` or `IN`.
fn parent(options: &ShowStatementOptions) -> Option<&ObjectName> {
    options.show_in.as_ref()?.parent_name.as_ref()
}

/// The condition after `LIKE`.
fn like(options: &ShowStatementOptions, column: &str, statement: &str) -> Result<Option<String>> {
    let others = [
        options.starts_with.is_some(),
        options.limit.is_some(),
        options.limit_from.is_some(),
    ];
    match &options.filter_position {
        _ if others.contains(&true) => {}
        None => return Ok(None),
        Some(
            ShowStatementFilterPosition::Infix(ShowStatementFilter::Like(pattern))
            | ShowStatementFilterPosition::Suffix(ShowStatementFilter::Like(pattern)),
        ) => return Ok(Some(format!("{column} LIKE {}", text_literal(pattern)))),
        Some(_) => {}
    }
    Err(Error::Unsupported(format!(
        "{statement} takes FROM and LIKE only; information_schema can be queried with any condition"
    )))
}
