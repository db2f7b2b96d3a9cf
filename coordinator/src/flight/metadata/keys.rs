//! Primary keys, which are Iceberg's identifier fields, and foreign keys, which Iceberg does not
//! have.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::CommandGetPrimaryKeys;
use iceberg::spec::{NestedField, Schema as IcebergSchema, Type};

use super::put_together;
use crate::Result;
use crate::listing::{self, Kind, Pattern, Wanted, details};
use crate::session::Session;

/// The schema of primary keys (Flight SQL, `CommandGetPrimaryKeys`).
pub(super) static PRIMARY: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

/// The schema of foreign keys (Flight SQL, `CommandGetExportedKeys`, `CommandGetImportedKeys` and
/// `CommandGetCrossReference`).
pub(super) static FOREIGN: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// No foreign keys.
pub(super) fn foreign() -> RecordBatch {
    RecordBatch::new_empty(Arc::clone(&FOREIGN))
}

/// The primary keys of the tables of a name: of one where catalog and schema are given. A key has
/// no name of its own.
pub(super) async fn primary(
    session: &Session,
    query: CommandGetPrimaryKeys,
) -> Result<RecordBatch> {
    let wanted = Wanted {
        catalog: Pattern::exactly_or_any(query.catalog),
        schema: Pattern::exactly_or_any(query.db_schema),
        table: Pattern::Exactly(query.table),
    };
    let found = listing::relations(session, &wanted, &[Kind::Table]).await;
    let mut rows = Vec::new();
    for (name, table) in details::tables(session, found.into_keys().collect()).await {
        let columns = identifiers(table.iceberg_schema()).into_iter();
        rows.extend(
            (1..)
                .zip(columns)
                .map(|(place, column)| (name.clone(), column, place)),
        );
    }
    let texts =
        |values: Vec<&String>| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
    let places = rows.iter().map(|(_, _, place)| *place);
    put_together(RecordBatch::try_new(
        Arc::clone(&PRIMARY),
        vec![
            texts(rows.iter().map(|(name, ..)| &name.catalog).collect()),
            texts(rows.iter().map(|(name, ..)| &name.namespace).collect()),
            texts(rows.iter().map(|(name, ..)| &name.table).collect()),
            texts(rows.iter().map(|(_, column, _)| column).collect()),
            Arc::new(StringArray::new_null(rows.len())),
            Arc::new(Int32Array::from_iter_values(places)),
        ],
    ))
}

/// The names of a schema's identifier fields in the order of its columns: what Iceberg keeps is a
/// set. A field of a struct has the names of both, with a dot between.
fn identifiers(schema: &IcebergSchema) -> Vec<String> {
    let mut ids: Vec<i32> = schema.identifier_field_ids().collect();
    if ids.is_empty() {
        return Vec::new();
    }
    let mut order = Vec::new();
    for field in schema.as_struct().fields() {
        note(field, &mut order);
    }
    ids.sort_by_key(|id| order.iter().position(|known| known == id));
    let names = ids.into_iter().filter_map(|id| schema.name_by_field_id(id));
    names.map(str::to_owned).collect()
}

fn note(field: &NestedField, order: &mut Vec<i32>) {
    order.push(field.id);
    if let Type::Struct(children) = field.field_type.as_ref() {
        for child in children.fields() {
            note(child, order);
        }
    }
}
