//! The name mapping, by which files without field ids are read (specification, "Column Projection").

use iceberg::spec::NestedField;
use serde_json::{Value, json};

use super::Draft;
use super::tree::children;

/// The property that holds it.
pub(crate) const NAME_MAPPING: &str = "schema.name-mapping.default";

impl Draft<'_> {
    /// Changes the name mapping, if the table has one.
    pub(super) fn map_names(&mut self, change: impl FnOnce(&mut Vec<Value>)) {
        if let Some(Value::Array(fields)) = &mut self.mapping {
            change(fields);
            let text = Value::Array(fields.clone()).to_string();
            self.properties.insert(NAME_MAPPING.to_owned(), text);
        }
    }
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
