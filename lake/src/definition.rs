//! A table as the statement that would create it: `SHOW CREATE TABLE`.

use std::fmt::Write;

use iceberg::spec::{
    NestedField, NullOrder, PrimitiveType, Schema, SortDirection, SortOrder, TableMetadata,
    Transform, Type,
};

use crate::TableName;
use crate::name::Quoted;

/// Properties of this engine's own, which say nothing to a reader.
const OWN_PROPERTIES: &str = "inshore.";

/// Property that sets the format version when a table is created (Iceberg's reserved table
/// properties); metadata keeps it elsewhere.
const FORMAT_VERSION: &str = "format-version";

/// The `CREATE TABLE` statement of a table with `schema`, in this engine's dialect.
pub fn create_table(name: &TableName, metadata: &TableMetadata, schema: &Schema) -> String {
    let fields = schema.as_struct().fields();
    let columns: Vec<String> = fields.iter().map(|field| column(field)).collect();
    let mut text = format!("CREATE TABLE {name} (\n  {}\n)", columns.join(",\n  "));
    let partitions: Vec<String> = metadata
        .default_partition_spec()
        .fields()
        .iter()
        .filter_map(|field| transformed(&field.transform, field.source_id, schema))
        .collect();
    if !partitions.is_empty() {
        let _ = write!(text, "\nPARTITIONED BY ({})", partitions.join(", "));
    }
    let order = order(metadata.default_sort_order(), schema);
    if !order.is_empty() {
        let _ = write!(text, "\nORDER BY ({})", order.join(", "));
    }
    let _ = write!(text, "\nLOCATION {}", literal(metadata.location()));
    let version = (metadata.format_version() as u8).to_string();
    let mut properties: Vec<(&str, &str)> = metadata
        .properties()
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| !key.starts_with(OWN_PROPERTIES) && *key != FORMAT_VERSION)
        .chain([(FORMAT_VERSION, version.as_str())])
        .collect();
    properties.sort_unstable();
    let properties: Vec<String> = properties
        .into_iter()
        .map(|(key, value)| format!("{} = {}", literal(key), literal(value)))
        .collect();
    let _ = write!(text, "\nTBLPROPERTIES (\n  {}\n)", properties.join(",\n  "));
    text
}

fn column(field: &NestedField) -> String {
    let mut text = format!("{} {}", Quoted(&field.name), type_name(&field.field_type));
    if field.required {
        text.push_str(" NOT NULL");
    }
    if let Some(comment) = &field.doc {
        let _ = write!(text, " COMMENT {}", literal(comment));
    }
    text
}

/// An Iceberg type as this engine's SQL writes it.
pub fn type_name(ty: &Type) -> String {
    match ty {
        Type::Primitive(primitive) => primitive_name(primitive),
        Type::Struct(fields) => {
            let fields: Vec<String> = fields.fields().iter().map(|field| column(field)).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        Type::List(list) => format!("ARRAY<{}>", element(&list.element_field)),
        Type::Map(map) => format!(
            "MAP({}, {})",
            type_name(&map.key_field.field_type),
            element(&map.value_field)
        ),
    }
}

/// An element of a list, or a value of a map.
fn element(field: &NestedField) -> String {
    let not_null = if field.required { " NOT NULL" } else { "" };
    format!("{}{not_null}", type_name(&field.field_type))
}

fn primitive_name(ty: &PrimitiveType) -> String {
    let name = match ty {
        PrimitiveType::Boolean => "boolean",
        PrimitiveType::Int => "int",
        PrimitiveType::Long => "bigint",
        PrimitiveType::Float => "real",
        PrimitiveType::Double => "double",
        PrimitiveType::Decimal { precision, scale } => {
            return format!("decimal({precision}, {scale})");
        }
        PrimitiveType::Date => "date",
        PrimitiveType::Time => "time",
        PrimitiveType::Timestamp => "timestamp",
        PrimitiveType::Timestamptz => "timestamp with time zone",
        PrimitiveType::TimestampNs => "timestamp(9)",
        PrimitiveType::TimestamptzNs => "timestamp(9) with time zone",
        PrimitiveType::String => "varchar",
        PrimitiveType::Uuid => "uuid",
        PrimitiveType::Fixed(length) => return format!("fixed({length})"),
        PrimitiveType::Binary => "varbinary",
    };
    name.to_owned()
}

/// A partition or sort field: `day(ts)`, `bucket(16, id)`, `category`. None for a field that was
/// removed from the spec of a v1 table (transform `void`).
fn transformed(transform: &Transform, source_id: i32, schema: &Schema) -> Option<String> {
    let source = match schema.name_by_field_id(source_id) {
        // Dots stand between the levels of a nested column, and may be part of a name too.
        Some(path) => match schema.as_struct().field_by_name(path) {
            Some(_) => Quoted(path).to_string(),
            None => {
                let parts = path.split('.').map(|part| Quoted(part).to_string());
                parts.collect::<Vec<_>>().join(".")
            }
        },
        // The column is gone from the schema, as it may be with an older state of the table.
        None => format!("/* column {source_id} */"),
    };
    Some(match transform {
        Transform::Identity => source,
        Transform::Bucket(count) => format!("bucket({count}, {source})"),
        Transform::Truncate(width) => format!("truncate({width}, {source})"),
        Transform::Year => format!("year({source})"),
        Transform::Month => format!("month({source})"),
        Transform::Day => format!("day({source})"),
        Transform::Hour => format!("hour({source})"),
        Transform::Void => return None,
        Transform::Unknown => format!("unknown({source})"),
    })
}

fn order(order: &SortOrder, schema: &Schema) -> Vec<String> {
    let field = |field: &iceberg::spec::SortField| {
        let source = transformed(&field.transform, field.source_id, schema)?;
        let direction = match field.direction {
            SortDirection::Ascending => "ASC",
            SortDirection::Descending => "DESC",
        };
        let nulls = match field.null_order {
            NullOrder::First => "NULLS FIRST",
            NullOrder::Last => "NULLS LAST",
        };
        Some(format!("{source} {direction} {nulls}"))
    };
    order.fields.iter().filter_map(field).collect()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use serde_json::json;

    fn metadata() -> TableMetadata {
        serde_json::from_value(json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "file:///it's/t", "last-sequence-number": 0, "last-updated-ms": 0,
            "last-column-id": 12, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [
                {"id": 1, "name": "id", "required": true, "type": "long", "doc": "the key's"},
                {"id": 2, "name": "ts", "required": false, "type": "timestamptz"},
                {"id": 3, "name": "Odd Name", "required": false, "type": "string"},
                {"id": 4, "name": "price", "required": false, "type": "decimal(15, 2)"},
                {"id": 5, "name": "s", "required": false, "type": {"type": "struct", "fields": [
                    {"id": 6, "name": "a", "required": false, "type": "int"},
                    {"id": 7, "name": "tags", "required": false, "type": {
                        "type": "list", "element-id": 8, "element": "fixed[4]",
                        "element-required": false}},
                ]}},
                {"id": 9, "name": "m", "required": false, "type": {
                    "type": "map", "key-id": 10, "key": "string", "value-id": 11,
                    "value": "uuid", "value-required": false}},
                {"id": 12, "name": "category", "required": false, "type": "string"},
            ]}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": [
                {"name": "d", "transform": "day", "source-id": 2, "field-id": 1000},
                {"name": "b", "transform": "bucket[16]", "source-id": 1, "field-id": 1001},
                {"name": "t", "transform": "truncate[4]", "source-id": 3, "field-id": 1002},
                {"name": "gone", "transform": "void", "source-id": 4, "field-id": 1003},
                {"name": "category", "transform": "identity", "source-id": 12, "field-id": 1004},
                {"name": "n", "transform": "identity", "source-id": 6, "field-id": 1005},
            ]}],
            "last-partition-id": 1005, "default-sort-order-id": 1,
            "sort-orders": [{"order-id": 1, "fields": [
                {"transform": "identity", "source-id": 1, "direction": "desc",
                 "null-order": "nulls-last"},
            ]}],
            "properties": {"k": "v", "inshore.secret": "x", "a": "it's"},
        }))
        .unwrap()
    }

    #[test]
    fn the_statement_has_everything() {
        let metadata = metadata();
        let name = TableName::new("lake", "n", "t");
        let text = create_table(&name, &metadata, metadata.current_schema());
        let expected = "CREATE TABLE lake.n.t (
  id bigint NOT NULL COMMENT 'the key''s',
  ts timestamp with time zone,
  \"Odd Name\" varchar,
  price decimal(15, 2),
  s STRUCT<a int, tags ARRAY<fixed(4)>>,
  m MAP(varchar, uuid),
  category varchar
)
PARTITIONED BY (day(ts), bucket(16, id), truncate(4, \"Odd Name\"), category, s.a)
ORDER BY (id DESC NULLS LAST)
LOCATION 'file:///it''s/t'
TBLPROPERTIES (
  'a' = 'it''s',
  'format-version' = '2',
  'k' = 'v'
)";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_parser_takes_the_types() {
        for ty in [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "decimal(38, 10)",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "timestamp_ns",
            "timestamptz_ns",
            "string",
            "uuid",
            "fixed[16]",
            "binary",
        ] {
            let ty: Type = serde_json::from_value(json!(ty)).unwrap();
            let names = [
                type_name(&ty),
                format!("ARRAY<{}>", type_name(&ty)),
                format!("STRUCT<a {}, b ARRAY<int>>", type_name(&ty)),
            ];
            for name in names {
                let sql = format!("CREATE TABLE t (c {name})");
                let parsed = Parser::parse_sql(&GenericDialect {}, &sql);
                assert!(parsed.is_ok(), "{name}: {parsed:?}");
            }
        }
    }
}
