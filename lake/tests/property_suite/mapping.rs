//! The property `schema.name-mapping.default` of tables with files without field ids.

use serde_json::{Value as Json, json};

use crate::types::{Field, Ty};

/// Names of one field and of the fields inside it.
#[derive(Clone, Debug)]
struct Mapped {
    id: i32,
    names: Vec<String>,
    fields: Vec<Mapped>,
}

/// By which names files without field ids call the table's fields.
#[derive(Clone, Debug)]
pub struct NameMapping {
    fields: Vec<Mapped>,
}

impl NameMapping {
    pub fn new(fields: &[Field]) -> Self {
        Self {
            fields: fields.iter().map(|f| mapped(f, &f.name)).collect(),
        }
    }

    pub fn json(&self) -> Json {
        list(&self.fields)
    }

    /// Follows a change of the schema. New fields are taken in when `wanted`; a name that another
    /// field of the same struct has stays with that one.
    pub fn follow(&mut self, fields: &[Field], wanted: bool) {
        follow(&mut self.fields, fields, wanted);
    }

    /// The fields that a file without ids can have, under the names that they have there. `None`
    /// when it cannot have a required one, or none at all.
    pub fn in_file(&self, rng: &mut fastrand::Rng, fields: &[Field]) -> Option<Vec<Field>> {
        in_file(rng, &self.fields, fields)
    }
}

fn mapped(field: &Field, name: &str) -> Mapped {
    let fields = match &field.ty {
        Ty::Prim(_) => vec![],
        Ty::Struct(fields) => fields.iter().map(|f| mapped(f, &f.name)).collect(),
        Ty::List(element) => vec![mapped(element, "element")],
        Ty::Map(key, value) => vec![mapped(key, "key"), mapped(value, "value")],
    };
    Mapped {
        id: field.id,
        names: vec![name.to_string()],
        fields,
    }
}

fn list(fields: &[Mapped]) -> Json {
    fields
        .iter()
        .map(|field| {
            let mut json = json!({"field-id": field.id, "names": field.names});
            if !field.fields.is_empty() {
                json["fields"] = list(&field.fields);
            }
            json
        })
        .collect::<Vec<_>>()
        .into()
}

fn follow(known: &mut Vec<Mapped>, fields: &[Field], wanted: bool) {
    for field in fields {
        let taken = known.iter().any(|m| m.names.contains(&field.name));
        match known.iter_mut().find(|m| m.id == field.id) {
            Some(mapped) => {
                if !taken {
                    mapped.names.push(field.name.clone());
                }
                if let Ty::Struct(children) = &field.ty {
                    follow(&mut mapped.fields, children, wanted);
                }
            }
            None if wanted && !taken => known.push(mapped(field, &field.name)),
            None => {}
        }
    }
}

fn in_file(rng: &mut fastrand::Rng, known: &[Mapped], fields: &[Field]) -> Option<Vec<Field>> {
    let mut kept = vec![];
    for field in fields {
        let Some(mapped) = known.iter().find(|m| m.id == field.id) else {
            if field.required {
                return None;
            }
            continue;
        };
        let mut field = field.clone();
        field
            .name
            .clone_from(&mapped.names[rng.usize(0..mapped.names.len())]);
        if let Ty::Struct(children) = &field.ty {
            field.ty = Ty::Struct(in_file(rng, &mapped.fields, children)?);
        }
        kept.push(field);
    }
    (!kept.is_empty()).then_some(kept)
}
