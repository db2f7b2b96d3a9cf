//! Fields and those inside them.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, StructType, Type};

/// The place of a map's key among its parts.
const KEY: usize = 0;

/// Where a field is: its place in its parent, behind the places of all its ancestors.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    /// Of the ancestors, from the outside in.
    pub above: Vec<usize>,
    /// Among its siblings.
    pub at: usize,
    /// The field.
    pub field: NestedFieldRef,
    /// Its full name, with the names of all ancestors.
    pub name: String,
    /// The id of its parent; none for a column.
    pub parent: Option<i32>,
    /// Whether it is a column or a field of a struct, and no part of a list or map.
    pub is_member: bool,
    /// Whether it is a map's key, or inside one.
    pub in_key: bool,
}

impl Spot {
    /// The spot of a column.
    pub fn column(fields: &[NestedFieldRef], at: usize) -> Option<Self> {
        let field = fields.get(at)?;
        Some(Self {
            above: vec![],
            at,
            field: Arc::clone(field),
            name: field.name.clone(),
            parent: None,
            is_member: true,
            in_key: false,
        })
    }

    /// The spot of a field directly inside this one.
    pub fn inside(&self, at: usize) -> Option<Self> {
        let field = children(&self.field.field_type).get(at).copied()?;
        let is_map = matches!(self.field.field_type.as_ref(), Type::Map(_));
        Some(Self {
            above: self.places(),
            at,
            field: Arc::clone(field),
            name: format!("{}.{}", self.name, field.name),
            parent: Some(self.field.id),
            is_member: self.field.field_type.is_struct(),
            in_key: self.in_key || (is_map && at == KEY),
        })
    }

    /// All places down to the field.
    pub fn places(&self) -> Vec<usize> {
        let mut places = self.above.clone();
        places.push(self.at);
        places
    }
}

/// Changes the fields of one level.
pub(super) type Edit<'a> = &'a mut dyn FnMut(&mut Vec<NestedFieldRef>);

/// The fields with what `edit` makes of those at the end of `places`.
pub(super) fn edited(
    fields: &[NestedFieldRef],
    places: &[usize],
    edit: Edit<'_>,
) -> Vec<NestedFieldRef> {
    let mut fields = fields.to_vec();
    match places.split_first() {
        None => edit(&mut fields),
        Some((first, rest)) => {
            if let Some(field) = fields.get_mut(*first) {
                let inner: Vec<_> = children(&field.field_type).into_iter().cloned().collect();
                let ty = rebuilt(&field.field_type, edited(&inner, rest, edit));
                *field = Arc::new(NestedField {
                    field_type: Box::new(ty),
                    ..field.as_ref().clone()
                });
            }
        }
    }
    fields
}

/// A type with other parts.
fn rebuilt(ty: &Type, parts: Vec<NestedFieldRef>) -> Type {
    match (ty, parts.as_slice()) {
        (Type::Struct(_), _) => Type::Struct(StructType::new(parts)),
        (Type::List(_), [element]) => Type::List(ListType::new(Arc::clone(element))),
        (Type::Map(_), [key, value]) => Type::Map(MapType::new(Arc::clone(key), Arc::clone(value))),
        _ => ty.clone(),
    }
}

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
    let parts = children(ty).into_iter();
    let parts = parts.map(|field| Arc::new(numbered(field, last_id)));
    rebuilt(ty, parts.collect())
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
