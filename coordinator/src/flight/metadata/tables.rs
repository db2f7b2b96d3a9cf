//! Catalogs, schemas, tables and their columns.

use std::pin::pin;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow_flight::sql::metadata::{GetDbSchemasBuilder, GetTablesBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables,
};
use futures::StreamExt;
use inshore_lake::TableName;

use super::put_together;
use crate::listing::details::{self, Column};
use crate::listing::{self, Kind, Pattern, Wanted};
use crate::result::client_type;
use crate::session::Session;
use crate::{Result, columns};

/// All catalogs.
pub(super) fn catalogs(session: &Session, query: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    for name in listing::catalogs(session) {
        builder.append(name);
    }
    put_together(builder.build())
}

/// The schemas that fit.
pub(super) async fn schemas(session: &Session, query: CommandGetDbSchemas) -> Result<RecordBatch> {
    let wanted = Wanted {
        catalog: Pattern::exactly_or_any(query.catalog),
        schema: Pattern::like_or_any(query.db_schema_filter_pattern.as_deref()),
        table: Pattern::Any,
    };
    // What does not fit is left out already.
    let mut builder = GetDbSchemasBuilder::new(None::<String>, None::<String>);
    for (catalog, schema) in listing::schemas(session, &wanted).await {
        builder.append(catalog, schema);
    }
    put_together(builder.build())
}

/// The kinds of tables.
pub(super) fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    for kind in Kind::ALL {
        builder.append(kind.table_type());
    }
    put_together(builder.build())
}

/// The tables and views that fit, with their columns where asked for; without columns those that
/// cannot be opened.
pub(super) async fn tables(session: &Session, query: CommandGetTables) -> Result<RecordBatch> {
    let types = &query.table_types;
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| types.is_empty() || types.iter().any(|wanted| wanted == kind.table_type()));
    let kinds: Vec<Kind> = kinds.collect();
    let wanted = Wanted {
        catalog: Pattern::exactly_or_any(query.catalog),
        schema: Pattern::like_or_any(query.db_schema_filter_pattern.as_deref()),
        table: Pattern::like_or_any(query.table_name_filter_pattern.as_deref()),
    };
    let found = listing::relations(session, &wanted, &kinds).await;
    // What does not fit is left out already.
    let none = None::<String>;
    let mut builder = GetTablesBuilder::new(
        none.clone(),
        none.clone(),
        none.clone(),
        none,
        query.include_schema,
    );
    if !query.include_schema {
        for (name, kind) in found {
            append(&mut builder, &name, kind, &Schema::empty())?;
        }
        return put_together(builder.build());
    }
    let own = session.own_tables();
    let mut opened = pin!(details::columns(session, found));
    while let Some((name, kind, columns)) = opened.next().await {
        // A table that was opened by its files belongs to somebody else.
        let is_writable = kind == Kind::Table && !own.contains_key(&name);
        let columns = columns.unwrap_or_default().into_iter();
        let fields = columns.map(|column| field(&name, is_writable, &column));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        append(&mut builder, &name, kind, &schema)?;
    }
    put_together(builder.build())
}

fn append(
    builder: &mut GetTablesBuilder,
    name: &TableName,
    kind: Kind,
    schema: &Schema,
) -> Result<()> {
    let (catalog, namespace, table) = (&name.catalog, &name.namespace, &name.table);
    put_together(builder.append(catalog, namespace, table, kind.table_type(), schema))
}

/// A column as clients are told of it. It may be declared as required here: unlike a result's, this
/// schema is that of no rows.
fn field(table: &TableName, is_writable: bool, column: &Column) -> Field {
    let data_type = client_type(column.field.data_type());
    let mut told = columns::of_result(&data_type);
    told.extend(columns::of_table(
        table,
        is_writable,
        column.comment.as_deref(),
    ));
    Field::new(column.field.name(), data_type, column.field.is_nullable()).with_metadata(told)
}
