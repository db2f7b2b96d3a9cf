//! Defaults of columns in statements: `DEFAULT` among the values of an `INSERT`, and what `DESCRIBE`
//! shows.
//!
//! Columns that an `INSERT` leaves out get theirs from the planner
//! ([`TableProvider::get_column_default`](datafusion::catalog::TableProvider::get_column_default)).

use std::collections::HashMap;

use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Insert, ObjectName, SetExpr, Statement as SqlStatement, TableObject,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use inshore_lake::catalog::StatementCatalogs;
use inshore_lake::defaults;
use inshore_lake::table::IcebergTable;

use super::Session;
use super::resolve::{reference_of, table_of};
use crate::scope::normalized;
use crate::{Error, Result, ddl};

/// The columns of a table, and their defaults as SQL.
struct Columns {
    names: Vec<String>,
    defaults: HashMap<String, String>,
}

impl Session {
    /// Puts the values of defaults where an `INSERT` says `DEFAULT`.
    pub(super) async fn fill_defaults(
        &self,
        statement: &mut Statement,
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<()> {
        let insert = match statement {
            Statement::Explain(explain) => inserted(&mut explain.statement),
            statement => inserted(statement),
        };
        let Some(insert) = insert.filter(|insert| names_default(insert)) else {
            return Ok(());
        };
        let TableObject::TableName(table) = &insert.table else {
            return Ok(());
        };
        let Some(columns) = self.columns_of(table, state, catalogs).await? else {
            return Ok(());
        };
        fill(insert, &columns)
    }

    /// The defaults of a described table's columns by name; none for other statements.
    pub(super) async fn described_defaults(
        &self,
        statement: &Statement,
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<HashMap<String, String>> {
        if let Statement::Statement(sql) = statement
            && let SqlStatement::ExplainTable { table_name, .. } = sql.as_ref()
            && let Some(columns) = self.columns_of(table_name, state, catalogs).await?
        {
            return Ok(columns.defaults);
        }
        Ok(HashMap::new())
    }

    async fn columns_of(
        &self,
        table: &ObjectName,
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<Option<Columns>> {
        let name = self.resolved(state, reference_of(&ddl::folded(table)?));
        let table = table_of(catalogs, &name).await?;
        let table = table
            .as_ref()
            .and_then(|t| t.downcast_ref::<IcebergTable>());
        Ok(table.map(|table| {
            let fields = table.iceberg_schema().as_struct().fields();
            let defaults = fields.iter().filter_map(|field| {
                let default = field.write_default.as_ref()?;
                Some((
                    field.name.clone(),
                    defaults::sql(default, &field.field_type),
                ))
            });
            Columns {
                names: fields.iter().map(|field| field.name.clone()).collect(),
                defaults: defaults.collect(),
            }
        }))
    }
}

fn inserted(statement: &mut Statement) -> Option<&mut Insert> {
    let Statement::Statement(sql) = statement else {
        return None;
    };
    match sql.as_mut() {
        SqlStatement::Insert(insert) => Some(insert),
        SqlStatement::Explain { statement, .. } => match statement.as_mut() {
            SqlStatement::Insert(insert) => Some(insert),
            _ => None,
        },
        _ => None,
    }
}

/// Whether it is `DEFAULT VALUES`, or `VALUES` with the word among them.
fn names_default(insert: &Insert) -> bool {
    match &insert.source {
        None => is_default_values(insert),
        Some(source) => match source.body.as_ref() {
            SetExpr::Values(values) => {
                let mut rows = values.rows.iter();
                rows.any(|row| row.content.iter().any(is_default))
            }
            _ => false,
        },
    }
}

fn is_default_values(insert: &Insert) -> bool {
    insert.columns.is_empty() && insert.assignments.is_empty() && insert.format_clause.is_none()
}

fn is_default(value: &Expr) -> bool {
    matches!(value, Expr::Identifier(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

fn fill(insert: &mut Insert, columns: &Columns) -> Result<()> {
    let Some(source) = &mut insert.source else {
        let values: Vec<&str> = columns.names.iter().map(|name| columns.sql(name)).collect();
        let query = format!("VALUES ({})", values.join(", "));
        insert.source = Some(parsed(&query, |parser| parser.parse_query())?);
        return Ok(());
    };
    let names: Vec<String> = match insert.columns.is_empty() {
        true => columns.names.clone(),
        false => {
            let parts = insert
                .columns
                .iter()
                .filter_map(|name| name.0.last()?.as_ident());
            parts.map(normalized).collect()
        }
    };
    let SetExpr::Values(values) = source.body.as_mut() else {
        return Ok(());
    };
    for row in &mut values.rows {
        // A row with too many values is refused by the planner.
        for (value, name) in row.content.iter_mut().zip(&names) {
            if is_default(value) {
                *value = parsed(columns.sql(name), |parser| parser.parse_expr())?;
            }
        }
    }
    Ok(())
}

impl Columns {
    fn sql(&self, name: &str) -> &str {
        self.defaults.get(name).map_or("NULL", String::as_str)
    }
}

fn parsed<T>(
    sql: &str,
    parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> Result<T> {
    let dialect = GenericDialect {};
    Parser::new(&dialect)
        .try_with_sql(sql)
        .and_then(|mut parser| parse(&mut parser))
        .map_err(|error| Error::Sql(format!("default {sql}: {error}")))
}
