//! Fields and those inside them.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, StructType, Type};

/// The field with new ids, its own before those inside.
pub(super) fn numbered(field: &NestedField, last_id: &mut i32) -> NestedField {
    *last_id += 1;
    NestedField {
        id: *last_id,
        field_type: Box::new(numbered_type(&field.field_type, last_id)),
        ..field.clone()
    }
}

fn numbered_type(ty: &Type, last_id: &mut i32) -> Type {
    let mut next = |field: &NestedFieldRef| Arc::new(numbered(field, last_id));
    match ty {
        Type::Primitive(primitive) => Type::Primitive(primitive.clone()),
        Type::Struct(fields) => {
            Type::Struct(StructType::new(fields.fields().iter().map(next).collect()))
        }
        Type::List(list) => Type::List(ListType::new(next(&list.element_field))),
        Type::Map(map) => {
            let (key, value) = (next(&map.key_field), next(&map.value_field));
            Type::Map(MapType::new(key, value))
        }
    }
}

/// The fields directly inside a type.
pub(super) fn children(ty: &Type) -> Vec<&NestedFieldRef> {
    match ty {
        Type::Primitive(_) => vec![],
        Type::Struct(fields) => fields.fields().iter().collect(),
        Type::List(list) => vec![&list.element_field],
        Type::Map(map) => vec![&map.key_field, &map.value_field],
    }
}

/// The id of a field and those of all fields inside it.
pub(super) fn collect_ids(field: &NestedField, ids: &mut Vec<i32>) {
    ids.push(field.id);
    for child in children(&field.field_type) {
        collect_ids(child, ids);
    }
}
