//! Metadata that iceberg-rust 0.10 refuses although the table can be read, made acceptable to it.
//!
//! Only done when a file cannot be parsed as it is:
//!
//! - snapshots of version 1 that list their manifests themselves get a made-up manifest list, see
//!   [`EMBEDDED_LIST_PREFIX`];
//! - types that cannot be represented become `binary`, and a property remembers what they were, so
//!   that a query that uses such a column is refused by name and all others run;
//! - snapshot ids above the range of a signed number are wrapped;
//! - snapshots from before an upgrade may lack a sequence number and a summary, tables of version 3
//!   `next-row-id`.

use serde_json::{Map, Value};

use crate::manifest::EMBEDDED_LIST_PREFIX;

/// Types of the specification that iceberg-rust 0.10 cannot represent.
const UNREADABLE_TYPES: [&str; 4] = ["variant", "geometry", "geography", "unknown"];

/// Properties that hold the real type of a column: this, and its field id. They exist in memory
/// only.
pub const COLUMN_TYPE_PROPERTY: &str = "inshore.column-type.";

/// Keys that hold snapshot ids.
const SNAPSHOT_IDS: [&str; 3] = ["snapshot-id", "parent-snapshot-id", "current-snapshot-id"];

/// Changes what is in the way of reading the metadata.
pub fn repair(metadata: &mut Value) {
    wrap_snapshot_ids(metadata);
    let Some(root) = metadata.as_object_mut() else {
        return;
    };
    if root.get("format-version").and_then(Value::as_u64) == Some(3) {
        root.entry("next-row-id").or_insert(Value::from(0));
    }
    let versions = root.get("format-version").and_then(Value::as_u64);
    for snapshot in items(root, "snapshots") {
        embed_manifests(snapshot);
        if let Some(snapshot) = snapshot.as_object_mut().filter(|_| versions >= Some(2)) {
            // Snapshots from before an upgrade may lack what their version did not ask for.
            snapshot.entry("sequence-number").or_insert(Value::from(0));
            snapshot
                .entry("summary")
                .or_insert_with(|| serde_json::json!({ "operation": "append" }));
        }
    }
    let mut found = vec![];
    for schema in items(root, "schemas") {
        replace_types(schema, None, &mut found);
    }
    if let Some(schema) = root.get_mut("schema") {
        replace_types(schema, None, &mut found);
    }
    if found.is_empty() {
        return;
    }
    let properties = root
        .entry("properties")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(properties) = properties.as_object_mut() {
        for (id, data_type) in found {
            properties.insert(format!("{COLUMN_TYPE_PROPERTY}{id}"), data_type.into());
        }
    }
}

fn items<'a>(object: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Value> {
    let array = object.get_mut(key).and_then(Value::as_array_mut);
    array.into_iter().flatten()
}

fn wrap_snapshot_ids(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let id = value.as_u64().filter(|id| i64::try_from(*id).is_err());
                match id {
                    Some(id) if SNAPSHOT_IDS.contains(&key.as_str()) => {
                        *value = Value::from(id.cast_signed());
                    }
                    _ => wrap_snapshot_ids(value),
                }
            }
        }
        Value::Array(array) => array.iter_mut().for_each(wrap_snapshot_ids),
        _ => {}
    }
}

fn embed_manifests(snapshot: &mut Value) {
    let Some(snapshot) = snapshot.as_object_mut() else {
        return;
    };
    let Some(manifests) = snapshot.remove("manifests") else {
        return;
    };
    snapshot
        .entry("manifest-list")
        .or_insert_with(|| Value::from(format!("{EMBEDDED_LIST_PREFIX}{manifests}")));
    snapshot
        .entry("summary")
        .or_insert_with(|| serde_json::json!({ "operation": "append" }));
}

/// Replaces types below `node` (a schema, a nested type or a field), and notes each as the id of
/// its top-level column and its name.
fn replace_types(node: &mut Value, column: Option<i64>, found: &mut Vec<(i64, String)>) {
    let Some(node) = node.as_object_mut() else {
        return;
    };
    for field in items(node, "fields") {
        let id = field.get("id").and_then(Value::as_i64);
        let before = found.len();
        replace_part(field, "type", column.or(id), found);
        if found.len() > before
            && let Some(field) = field.as_object_mut()
        {
            field.remove("initial-default");
            field.remove("write-default");
        }
    }
    let mut nested = Value::Object(std::mem::take(node));
    for part in ["element", "key", "value"] {
        replace_part(&mut nested, part, column, found);
    }
    if let Value::Object(nested) = nested {
        *node = nested;
    }
}

fn replace_part(
    parent: &mut Value,
    key: &str,
    column: Option<i64>,
    found: &mut Vec<(i64, String)>,
) {
    let Some(data_type) = parent.get_mut(key) else {
        return;
    };
    match (data_type.as_str().map(str::to_owned), column) {
        (Some(text), Some(column)) => {
            let base = text.split(['(', ' ']).next().unwrap_or(&text);
            if UNREADABLE_TYPES.contains(&base) {
                found.push((column, text));
                *data_type = Value::from("binary");
            }
        }
        _ => replace_types(data_type, column, found),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn unreadable_types_are_replaced_and_remembered() {
        let mut metadata = json!({
            "format-version": 3,
            "schemas": [{"type": "struct", "fields": [
                {"id": 1, "name": "a", "type": "int"},
                {"id": 2, "name": "v", "type": "variant", "initial-default": null},
                {"id": 3, "name": "s", "type": {"type": "struct", "fields": [
                    {"id": 4, "name": "g", "type": "geometry(EPSG:4326)"}]}},
                {"id": 5, "name": "l", "type": {"type": "list", "element-id": 6,
                    "element": "unknown", "element-required": false}},
            ]}],
        });
        repair(&mut metadata);
        let fields = &metadata["schemas"][0]["fields"];
        assert_eq!(fields[0]["type"], "int");
        assert_eq!(fields[1]["type"], "binary");
        assert_eq!(fields[2]["type"]["fields"][0]["type"], "binary");
        assert_eq!(fields[3]["type"]["element"], "binary");
        let properties = &metadata["properties"];
        assert_eq!(properties["inshore.column-type.2"], "variant");
        assert_eq!(properties["inshore.column-type.3"], "geometry(EPSG:4326)");
        assert_eq!(properties["inshore.column-type.5"], "unknown");
        assert_eq!(metadata["next-row-id"], 0);
    }

    #[test]
    fn ids_wrap_and_manifests_become_a_list() {
        let mut metadata = json!({
            "format-version": 1,
            "current-snapshot-id": 9876543210123456789_u64,
            "snapshots": [{"snapshot-id": 9876543210123456789_u64, "manifests": ["m1", "m2"]}],
        });
        repair(&mut metadata);
        let wrapped = 9876543210123456789_u64.cast_signed();
        assert_eq!(metadata["current-snapshot-id"], wrapped);
        let snapshot = &metadata["snapshots"][0];
        assert_eq!(snapshot["snapshot-id"], wrapped);
        let list = snapshot["manifest-list"].as_str().unwrap();
        assert_eq!(list, format!("{EMBEDDED_LIST_PREFIX}[\"m1\",\"m2\"]"));
    }
}
