//! Schemas of the tables made here, and their JSON form.

use serde_json::{Value as Json, json};

use crate::values::Value;

/// A primitive type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prim {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Decimal(u32, u32),
    Date,
    Timestamp,
    Timestamptz,
    String,
    Binary,
    Fixed(usize),
    Uuid,
}

/// Every primitive type that a column may begin with.
pub const PRIMS: [Prim; 14] = [
    Prim::Boolean,
    Prim::Int,
    Prim::Long,
    Prim::Float,
    Prim::Double,
    Prim::Decimal(9, 2),
    Prim::Decimal(20, 4),
    Prim::Date,
    Prim::Timestamp,
    Prim::Timestamptz,
    Prim::String,
    Prim::Binary,
    Prim::Fixed(4),
    Prim::Uuid,
];

impl Prim {
    /// The name in the table's metadata.
    pub fn name(self) -> String {
        match self {
            Prim::Boolean => "boolean".into(),
            Prim::Int => "int".into(),
            Prim::Long => "long".into(),
            Prim::Float => "float".into(),
            Prim::Double => "double".into(),
            Prim::Decimal(precision, scale) => format!("decimal({precision}, {scale})"),
            Prim::Date => "date".into(),
            Prim::Timestamp => "timestamp".into(),
            Prim::Timestamptz => "timestamptz".into(),
            Prim::String => "string".into(),
            Prim::Binary => "binary".into(),
            Prim::Fixed(length) => format!("fixed[{length}]"),
            Prim::Uuid => "uuid".into(),
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Prim::Float | Prim::Double)
    }

    /// A type that this one may be promoted to.
    pub fn promoted(self, rng: &mut fastrand::Rng) -> Option<Prim> {
        match self {
            Prim::Int => Some(Prim::Long),
            Prim::Float => Some(Prim::Double),
            Prim::Decimal(precision, scale) if precision < 38 => {
                Some(Prim::Decimal(rng.u32(precision + 1..=38), scale))
            }
            _ => None,
        }
    }
}

/// The type of a column or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Ty {
    Prim(Prim),
    Struct(Vec<Field>),
    List(Box<Field>),
    Map(Box<Field>, Box<Field>),
}

/// A column or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub id: i32,
    pub name: String,
    pub required: bool,
    pub ty: Ty,
    /// Value of rows written before the field was added.
    pub default: Option<Value>,
}

impl Field {
    pub fn prim(&self) -> Option<Prim> {
        match self.ty {
            Ty::Prim(prim) => Some(prim),
            _ => None,
        }
    }

    pub fn children(&self) -> Vec<&Field> {
        match &self.ty {
            Ty::Prim(_) => vec![],
            Ty::Struct(fields) => fields.iter().collect(),
            Ty::List(element) => vec![element],
            Ty::Map(key, value) => vec![key, value],
        }
    }

    /// What a row has that was written without this field.
    pub fn missing(&self) -> Value {
        self.default.clone().unwrap_or(Value::Null)
    }

    fn json(&self) -> Json {
        let mut json = json!({
            "id": self.id, "name": self.name, "required": self.required, "type": ty_json(&self.ty),
        });
        if let (Some(default), Ty::Prim(prim)) = (&self.default, &self.ty) {
            json["initial-default"] = default.json(*prim);
            json["write-default"] = default.json(*prim);
        }
        json
    }
}

fn ty_json(ty: &Ty) -> Json {
    match ty {
        Ty::Prim(prim) => Json::from(prim.name()),
        Ty::Struct(fields) => {
            json!({"type": "struct", "fields": fields.iter().map(Field::json).collect::<Vec<_>>()})
        }
        Ty::List(element) => json!({
            "type": "list", "element-id": element.id, "element-required": element.required,
            "element": ty_json(&element.ty),
        }),
        Ty::Map(key, value) => json!({
            "type": "map", "key-id": key.id, "key": ty_json(&key.ty),
            "value-id": value.id, "value-required": value.required, "value": ty_json(&value.ty),
        }),
    }
}

/// A primitive column, or a primitive child of a struct column.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Field id of the column.
    pub column: i32,
    /// Field id of the child, for one.
    pub child: Option<i32>,
    pub prim: Prim,
    /// As SQL writes it, without the table.
    pub sql: String,
}

impl Leaf {
    /// The leaf's own field id.
    pub fn id(&self) -> i32 {
        self.child.unwrap_or(self.column)
    }
}

/// The columns of a table at some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub id: i32,
    pub fields: Vec<Field>,
}

impl Schema {
    pub fn json(&self) -> Json {
        json!({
            "type": "struct", "schema-id": self.id,
            "fields": self.fields.iter().map(Field::json).collect::<Vec<_>>(),
        })
    }

    pub fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = vec![];
        for column in &self.fields {
            let name = quoted(&column.name, '"');
            match &column.ty {
                Ty::Prim(prim) => leaves.push(Leaf {
                    column: column.id,
                    child: None,
                    prim: *prim,
                    sql: name,
                }),
                Ty::Struct(children) => {
                    for child in children {
                        let Some(prim) = child.prim() else { continue };
                        leaves.push(Leaf {
                            column: column.id,
                            child: Some(child.id),
                            prim,
                            sql: format!("{name}[{}]", quoted(&child.name, '\'')),
                        });
                    }
                }
                _ => {}
            }
        }
        leaves
    }

    pub fn leaf(&self, id: i32) -> Option<Leaf> {
        self.leaves().into_iter().find(|leaf| leaf.id() == id)
    }

    /// The field with this id at any depth.
    pub fn field(&self, id: i32) -> Option<&Field> {
        fn find(fields: Vec<&Field>, id: i32) -> Option<&Field> {
            fields.into_iter().find_map(|field| {
                if field.id == id {
                    Some(field)
                } else {
                    find(field.children(), id)
                }
            })
        }
        find(self.fields.iter().collect(), id)
    }

    /// Changes one field, at any depth.
    pub fn change(&mut self, id: i32, change: &mut dyn FnMut(&mut Field)) {
        fn walk(field: &mut Field, id: i32, change: &mut dyn FnMut(&mut Field)) {
            if field.id == id {
                change(field);
                return;
            }
            match &mut field.ty {
                Ty::Prim(_) => {}
                Ty::Struct(fields) => fields.iter_mut().for_each(|f| walk(f, id, change)),
                Ty::List(element) => walk(element, id, change),
                Ty::Map(key, value) => {
                    walk(key, id, change);
                    walk(value, id, change);
                }
            }
        }
        for field in &mut self.fields {
            walk(field, id, change);
        }
    }

    /// The fields of a struct column, or the columns themselves.
    pub fn siblings(&mut self, parent: Option<i32>) -> &mut Vec<Field> {
        let Some(parent) = parent else {
            return &mut self.fields;
        };
        let column = self.fields.iter_mut().find(|f| f.id == parent).unwrap();
        match &mut column.ty {
            Ty::Struct(fields) => fields,
            other => panic!("{other:?} has no children by name"),
        }
    }
}

/// SQL's quotes around a name or a text.
pub fn quoted(text: &str, quote: char) -> String {
    let doubled = format!("{quote}{quote}");
    format!("{quote}{}{quote}", text.replace(quote, &doubled))
}
