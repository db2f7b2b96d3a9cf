//! The name mapping, by which files without field ids are read (specification, "Column Projection").
//!
//! What a name in old files means never changes: a column that takes the name of one that was dropped
//! or renamed gets no name in the mapping, so that it is NULL in those files. Files that are written
//! from now on have ids.

use iceberg::spec::NestedField;
use serde_json::{Value, json};

use super::Draft;
use super::tree::children;
use crate::{Error, Result};

/// The property that holds it.
pub(crate) const NAME_MAPPING: &str = "schema.name-mapping.default";

impl Draft<'_> {
    /// Enters a new field of `parent`.
    pub(super) fn map_new(&mut self, parent: Option<i32>, field: &NestedField) -> Result<()> {
        self.map_names(parent, |level| {
            let mut entry = mapped(field);
            if is_taken(level, &field.name) {
                entry["names"] = json!([]);
            }
            level.push(entry);
        })
    }

    /// Enters another name of the field `id` of `parent`.
    pub(super) fn map_renamed(&mut self, parent: Option<i32>, id: i32, to: &str) -> Result<()> {
        self.map_names(parent, |level| {
            if is_taken(level, to) {
                return;
            }
            let entry = level.iter_mut().find(|entry| is_of(entry, id));
            let names = entry.and_then(|entry| entry.get_mut("names"));
            if let Some(Value::Array(names)) = names {
                names.push(json!(to));
            }
        })
    }

    /// Changes the names of one level, if the table has a mapping and that knows the level.
    fn map_names(
        &mut self,
        parent: Option<i32>,
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Result<()> {
        let Some(text) = self.property(NAME_MAPPING) else {
            return Ok(());
        };
        let wrong = |why: &dyn std::fmt::Display| {
            Error::Conflict(format!(
                "the table's property {NAME_MAPPING} is wrong: {why}"
            ))
        };
        let mapping = serde_json::from_str(text).map_err(|error| wrong(&error))?;
        let Value::Array(mut fields) = mapping else {
            return Err(wrong(&"it is no list"));
        };
        let level = match parent {
            None => Some(&mut fields),
            Some(id) => level_of(&mut fields, id),
        };
        if let Some(level) = level {
            change(level);
            self.set_property(NAME_MAPPING, Value::Array(fields).to_string());
        }
        Ok(())
    }
}

/// The entries inside that of the field `id`.
fn level_of(fields: &mut [Value], id: i32) -> Option<&mut Vec<Value>> {
    for entry in fields {
        let found = is_of(entry, id);
        let Some(entry) = entry.as_object_mut() else {
            continue;
        };
        if found {
            let inner = entry.entry("fields").or_insert_with(|| json!([]));
            return inner.as_array_mut();
        }
        let inner = entry.get_mut("fields").and_then(Value::as_array_mut);
        if let Some(level) = inner.and_then(|inner| level_of(inner, id)) {
            return Some(level);
        }
    }
    None
}

fn is_of(entry: &Value, id: i32) -> bool {
    entry.get("field-id") == Some(&json!(id))
}

fn is_taken(level: &[Value], name: &str) -> bool {
    let mut names = level
        .iter()
        .filter_map(|entry| entry.get("names")?.as_array());
    names.any(|names| names.contains(&json!(name)))
}

/// A field as the name mapping has it.
pub(crate) fn mapped(field: &NestedField) -> Value {
    let children: Vec<Value> = children(&field.field_type)
        .into_iter()
        .map(|child| mapped(child))
        .collect();
    let mut value = json!({"field-id": field.id, "names": [field.name]});
    if !children.is_empty() {
        value["fields"] = Value::Array(children);
    }
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Alteration, FieldPath, updates};
    use super::*;
    use iceberg::TableUpdate;
    use iceberg::spec::{PrimitiveType, TableMetadata, Type};

    fn table() -> TableMetadata {
        let mapping = json!([
            {"field-id": 1, "names": ["id"]},
            {"field-id": 2, "names": ["items", "things"], "fields": [
                {"field-id": 3, "names": ["element"], "fields": [
                    {"field-id": 4, "names": ["x"]},
                    {"field-id": 5, "names": ["y"]},
                ]},
            ]},
        ]);
        let element = json!({"type": "struct", "fields": [
            {"id": 4, "name": "x", "required": false, "type": "int"},
            {"id": 5, "name": "y", "required": false, "type": "int"},
        ]});
        serde_json::from_value(json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "file:///t", "last-sequence-number": 0, "last-updated-ms": 0,
            "last-column-id": 5, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [
                {"id": 1, "name": "id", "required": false, "type": "long"},
                {"id": 2, "name": "items", "required": false, "type": {
                    "type": "list", "element-id": 3, "element": element,
                    "element-required": false}},
            ]}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}],
            "last-partition-id": 999, "default-sort-order-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}],
            "properties": {NAME_MAPPING: mapping.to_string()},
        }))
        .unwrap()
    }

    fn path(name: &str) -> FieldPath {
        FieldPath::new(name.split('.').map(str::to_owned).collect())
    }

    fn add(parent: &str, name: &str) -> Alteration {
        Alteration::AddColumn {
            parent: path(parent),
            field: NestedField::optional(1, name, Type::Primitive(PrimitiveType::String)),
            if_not_exists: false,
            place: None,
        }
    }

    #[test]
    fn names_are_entered_at_their_level() {
        let rename = |from: &str, to: &str| Alteration::RenameColumn {
            from: path(from),
            to: to.to_owned(),
        };
        let drop = Alteration::DropColumn {
            name: path("items.element.y"),
            if_exists: false,
        };
        let changes = [
            rename("items.element.x", "z"),
            add("items", "x"),
            drop,
            add("items.element", "y"),
            rename("id", "things"),
            rename("items", "list"),
        ];
        let updates = updates(&table(), &changes).unwrap();
        let set = updates.iter().find_map(|update| match update {
            TableUpdate::SetProperties { updates } => updates.get(NAME_MAPPING),
            _ => None,
        });
        let mapping: Value = serde_json::from_str(set.unwrap()).unwrap();
        let expected = json!([
            {"field-id": 1, "names": ["id"]},
            {"field-id": 2, "names": ["items", "things", "list"], "fields": [
                {"field-id": 3, "names": ["element"], "fields": [
                    {"field-id": 4, "names": ["x", "z"]},
                    {"field-id": 5, "names": ["y"]},
                    {"field-id": 6, "names": []},
                    {"field-id": 7, "names": []},
                ]},
            ]},
        ]);
        assert_eq!(mapping, expected);
    }
}
