//! Defaults of columns that iceberg-rust 0.10 leaves out, without an error, where it cannot read them:
//! those of timestamps in nanoseconds, and any that are spelled in an unusual way.
//!
//! Without its default a column would be NULL in old rows, which is wrong. So such a column is treated
//! like one of a type that cannot be read: see [`COLUMN_TYPE_PROPERTY`].

use iceberg::spec::{FormatVersion, TableMetadata};
use serde_json::{Map, Value};

use super::repair::COLUMN_TYPE_PROPERTY;

/// How the keys of defaults end.
const KEY_END: &[u8] = b"-default\"";

/// Keys of defaults in a field.
const KEYS: [&str; 2] = ["initial-default", "write-default"];

/// Whether there may be any: metadata may be long, and most of it has no defaults.
pub fn may_have_lost(text: &[u8], parsed: &TableMetadata) -> bool {
    parsed.format_version() >= FormatVersion::V3
        && text.windows(KEY_END.len()).any(|part| part == KEY_END)
}

/// Marks the columns whose defaults are not in what was `parsed` of the metadata; gives their names.
pub fn mark(metadata: &mut Value, parsed: &TableMetadata) -> Vec<String> {
    let mut found = vec![];
    let schemas = metadata.get("schemas").and_then(Value::as_array);
    for schema in schemas.into_iter().flatten() {
        let id = schema.get("schema-id").and_then(Value::as_i64);
        let id = id.and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        let known = |field: i32, key: &str| {
            let field = parsed.schema_by_id(id).and_then(|s| s.field_by_id(field));
            field.is_some_and(|field| match key {
                "initial-default" => field.initial_default.is_some(),
                _ => field.write_default.is_some(),
            })
        };
        let fields = schema.get("fields").and_then(Value::as_array);
        for field in fields.into_iter().flatten() {
            if has_lost(field, &known) {
                found.push((
                    field["id"].clone(),
                    field["name"].clone(),
                    field["type"].clone(),
                ));
            }
        }
    }
    let properties = metadata.as_object_mut().map(|root| {
        root.entry("properties")
            .or_insert(Value::Object(Map::new()))
    });
    let mut names = vec![];
    if let Some(properties) = properties.and_then(Value::as_object_mut) {
        for (id, name, ty) in found {
            let ty = ty.as_str().unwrap_or("nested");
            let ty = Value::from(format!("{ty} with its default value"));
            properties.insert(format!("{COLUMN_TYPE_PROPERTY}{id}"), ty);
            names.extend(name.as_str().map(str::to_owned));
        }
    }
    names.dedup();
    names
}

/// Whether a field, or one inside it, has a default that is not `known` by field id and key.
fn has_lost(node: &Value, known: &dyn Fn(i32, &str) -> bool) -> bool {
    match node {
        Value::Object(object) => {
            let id = object.get("id").and_then(Value::as_i64);
            let id = id.and_then(|id| i32::try_from(id).ok());
            let lost = |key: &&str| {
                let has = object.get(*key).is_some_and(|value| !value.is_null());
                has && !id.is_some_and(|id| known(id, key))
            };
            KEYS.iter().any(lost)
                || object
                    .iter()
                    .filter(|(key, _)| !KEYS.contains(&key.as_str()))
                    .any(|(_, value)| has_lost(value, known))
        }
        Value::Array(values) => values.iter().any(|value| has_lost(value, known)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn metadata(columns: Value) -> Value {
        json!({
            "format-version": 3, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "file:///t", "last-sequence-number": 0, "last-updated-ms": 0,
            "last-column-id": 9, "current-schema-id": 0, "next-row-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": columns}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}],
            "last-partition-id": 999, "default-sort-order-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}],
        })
    }

    fn marked(columns: Value) -> (Vec<String>, Value) {
        let mut value = metadata(columns);
        let text = value.to_string();
        let parsed: TableMetadata = serde_json::from_str(&text).unwrap();
        if !may_have_lost(text.as_bytes(), &parsed) {
            return (vec![], value);
        }
        (mark(&mut value, &parsed), value)
    }

    #[test]
    fn only_defaults_that_are_not_read_are_marked() {
        let plain = json!({"id": 1, "name": "a", "required": false, "type": "int"});
        let kept = json!({"id": 2, "name": "b", "required": false, "type": "int",
            "initial-default": 5, "write-default": null});
        let lost = json!({"id": 3, "name": "c", "required": false, "type": "timestamp_ns",
            "initial-default": "2020-01-01T00:00:00.000000001"});
        let inside = json!({"id": 4, "name": "d", "required": false, "type": {"type": "struct",
            "fields": [{"id": 5, "name": "x", "required": false, "type": "timestamp_ns",
                "write-default": "2020-01-01T00:00:00"}]}});
        let none: [&str; 0] = [];
        assert_eq!(marked(json!([plain])).0, none);
        assert_eq!(marked(json!([plain, kept])).0, none);
        let (names, value) = marked(json!([plain, kept, lost, inside]));
        assert_eq!(names, ["c", "d"]);
        assert_eq!(
            value["properties"],
            json!({
                "inshore.column-type.3": "timestamp_ns with its default value",
                "inshore.column-type.4": "nested with its default value",
            })
        );
    }
}
