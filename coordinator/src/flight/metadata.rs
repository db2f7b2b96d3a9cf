//! What Flight SQL clients ask about the server and its tables.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, SqlInfo, SqlNullOrdering,
    SqlSupportedCaseSensitivity, SqlSupportedTransaction,
};
use datafusion::catalog::TableProvider;
use inshore_lake::TableName;
use inshore_lake::table::IcebergTable;
use tracing::warn;

use crate::node::Coordinator;
use crate::result::ResultShape;
use crate::{Result, system};

/// The one kind of table there is.
pub(super) const TABLE_TYPE: &str = "TABLE";

static SQL_INFO: LazyLock<Result<SqlInfoData, ArrowError>> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Inshore");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(
        SqlInfo::SqlNullOrdering,
        SqlNullOrdering::SqlNullsSortedHigh as i32,
    );
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.build()
        .map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))
});

/// What the server can do.
pub(super) fn sql_info() -> Result<&'static SqlInfoData, ArrowError> {
    SQL_INFO
        .as_ref()
        .map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))
}

/// All catalogs.
pub(super) fn catalogs(
    node: &Coordinator,
    query: CommandGetCatalogs,
) -> Result<RecordBatch, crate::Error> {
    let mut builder = query.into_builder();
    for name in node.options.catalogs.names() {
        builder.append(name);
    }
    arrow(builder.build())
}

/// The namespaces that fit the filters. A catalog that does not answer is left out, so that it
/// does not hide the others.
pub(super) async fn schemas(node: &Coordinator, query: CommandGetDbSchemas) -> Result<RecordBatch> {
    let wanted = query.catalog.clone();
    let mut builder = query.into_builder();
    for (catalog, namespace) in namespaces(node, wanted.as_deref()).await {
        builder.append(catalog, namespace);
    }
    arrow(builder.build())
}

/// The tables that fit the filters, with their schemas where asked for.
pub(super) async fn tables(node: &Coordinator, query: CommandGetTables) -> Result<RecordBatch> {
    let include_schema = query.include_schema;
    let catalog_filter = query.catalog.clone();
    let schema_filter = query.db_schema_filter_pattern.clone();
    let table_filter = query.table_name_filter_pattern.clone();
    let mut builder = query.into_builder();
    for (catalog, namespace) in namespaces(node, catalog_filter.as_deref()).await {
        if !matches_pattern(&namespace, schema_filter.as_deref()) {
            continue;
        }
        if namespace == system::SCHEMA {
            for (name, provider) in node.system_tables()? {
                let schema = ResultShape::of_arrow(provider.schema().as_ref());
                arrow(builder.append(&catalog, &namespace, name, TABLE_TYPE, schema.schema()))?;
            }
            continue;
        }
        let names = match node.options.catalogs.tables(&catalog, &namespace).await {
            Ok(names) => names,
            Err(error) => {
                warn!(catalog, namespace, %error, "tables could not be listed");
                continue;
            }
        };
        for name in names {
            if !matches_pattern(&name, table_filter.as_deref()) {
                continue;
            }
            let schema = match include_schema {
                true => table_schema(node, &catalog, &namespace, &name).await,
                false => Schema::empty(),
            };
            arrow(builder.append(&catalog, &namespace, &name, TABLE_TYPE, &schema))?;
        }
    }
    arrow(builder.build())
}

/// The schema of one table towards clients; none where the table cannot be opened, so that one bad
/// table does not hide the others.
async fn table_schema(node: &Coordinator, catalog: &str, namespace: &str, table: &str) -> Schema {
    let name = TableName::new(catalog, namespace, table);
    let opened = node.options.catalogs.load(&name).await;
    let schema = opened.and_then(|table| match table {
        Some(table) => {
            let provider = IcebergTable::try_new(
                name,
                table,
                Arc::clone(&node.manifests),
                Arc::clone(&node.options.stores),
            )?;
            Ok(provider.schema())
        }
        None => Ok(Arc::new(Schema::empty())),
    });
    match schema {
        Ok(schema) => ResultShape::of_arrow(&schema).schema().as_ref().clone(),
        Err(error) => {
            warn!(catalog, namespace, table, %error, "table could not be opened");
            Schema::empty()
        }
    }
}

async fn namespaces(node: &Coordinator, catalog: Option<&str>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in node.options.catalogs.names() {
        if catalog.is_some_and(|wanted| wanted != name) {
            continue;
        }
        match node.options.catalogs.namespaces(&name).await {
            Ok(namespaces) => {
                found.extend(namespaces.into_iter().map(|space| (name.clone(), space)));
            }
            Err(error) => warn!(catalog = name, %error, "namespaces could not be listed"),
        }
        found.push((name, system::SCHEMA.to_owned()));
    }
    found
}

/// SQL's `LIKE` without an escape character, as Flight SQL's filter patterns are.
fn matches_pattern(text: &str, pattern: Option<&str>) -> bool {
    let Some(pattern) = pattern else { return true };
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    // matched[i]: the pattern so far matches the first i characters.
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    for symbol in pattern {
        let mut next = vec![false; text.len() + 1];
        next[0] = symbol == '%' && matched[0];
        for i in 0..text.len() {
            next[i + 1] = match symbol {
                '%' => next[i] || matched[i + 1],
                '_' => matched[i],
                c => matched[i] && text[i] == c,
            };
        }
        matched = next;
    }
    matched[text.len()]
}

fn arrow<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| {
        datafusion::error::DataFusionError::Internal(format!("metadata answer: {error}")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_sql() {
        for (text, pattern, expected) in [
            ("lineitem", "line%", true),
            ("lineitem", "%item", true),
            ("lineitem", "l_neitem", true),
            ("lineitem", "line", false),
            ("", "%", true),
            ("", "_", false),
            ("a%b", "a%b", true),
        ] {
            assert_eq!(
                matches_pattern(text, Some(pattern)),
                expected,
                "{text} LIKE {pattern}"
            );
        }
    }

    #[test]
    fn server_info_is_well_formed() {
        assert!(sql_info().is_ok());
    }
}
