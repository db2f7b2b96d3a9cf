//! Changing the definition of a table: its columns and properties, by the rules of the
//! specification's section "Schema Evolution".

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::ScalarValue;
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, ListType, MapType, NestedField, NestedFieldRef, NullOrder, PrimitiveType,
    Schema, SortDirection, SortField, SortOrder, StructType, TableMetadata, Transform, Type,
};
use iceberg::table::Table;
use serde_json::{Value, json};

use crate::catalog::Change;
use crate::defaults::{self, promoted};
use crate::{Error, Result};

/// The name mapping, which has to know new names (specification, "Column Projection").
pub(crate) const NAME_MAPPING: &str = "schema.name-mapping.default";

/// Property that raises the format version and is none afterwards.
const FORMAT_VERSION: &str = "format-version";

/// The id that stands for the schema just added.
const LAST_ADDED: i32 = -1;

/// One change of a definition.
#[derive(Clone, Debug)]
pub enum Alteration {
    /// Sets properties; `format-version` raises the version.
    SetProperties(HashMap<String, String>),
    /// Adds a column. Field ids of its type are given anew.
    AddColumn {
        /// The column.
        field: NestedField,
        /// Whether a column of that name may be there.
        if_not_exists: bool,
        /// Where; at the end by default.
        place: Option<Place>,
    },
    /// Drops a column.
    DropColumn {
        /// Its name.
        name: String,
        /// Whether it may be missing.
        if_exists: bool,
    },
    /// Renames a column.
    RenameColumn {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Gives a column a wider type.
    Promote {
        /// Its name.
        name: String,
        /// The type.
        ty: Type,
    },
    /// Lets a column be NULL.
    DropNotNull {
        /// Its name.
        name: String,
    },
    /// Sets what rows get that are added without a value for a column.
    SetDefault {
        /// Its name.
        name: String,
        /// A constant; NULL for no default.
        value: ScalarValue,
    },
    /// Sets or removes a column's comment.
    Comment {
        /// Its name.
        name: String,
        /// The comment.
        text: Option<String>,
    },
    /// Sorts the rows of files that are written from now on; not at all without keys.
    SetSortOrder(Vec<SortKey>),
}

/// A key of a sort order.
#[derive(Clone, Debug)]
pub struct SortKey {
    /// The column's full name.
    pub column: String,
    /// What of its values is sorted.
    pub transform: Transform,
    /// Smallest or largest first.
    pub direction: SortDirection,
    /// Where NULLs are.
    pub nulls: NullOrder,
}

/// Where a column goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// Behind the one of this name.
    After(String),
}

/// Changes of a definition, made one after another and all at once.
#[derive(Clone, Debug)]
pub struct Alterations(pub Vec<Alteration>);

#[async_trait]
impl Change for Alterations {
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Exists`] name the column; [`Error::Conflict`] says why the
    /// table cannot be changed so.
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        let mut draft = Draft::of(table.metadata())?;
        for alteration in &self.0 {
            draft.apply(alteration)?;
        }
        draft.finish()
    }
}

/// A table's definition on the way.
struct Draft<'a> {
    metadata: &'a TableMetadata,
    fields: Vec<NestedFieldRef>,
    changed: bool,
    last_id: i32,
    properties: HashMap<String, String>,
    version: Option<FormatVersion>,
    mapping: Option<Value>,
    order: Option<SortOrder>,
}

impl<'a> Draft<'a> {
    fn of(metadata: &'a TableMetadata) -> Result<Self> {
        let mapping = metadata.properties().get(NAME_MAPPING);
        let mapping = mapping.map(|json| serde_json::from_str(json)).transpose();
        let mapping = mapping.map_err(|error| {
            Error::Conflict(format!(
                "the table's property {NAME_MAPPING} is wrong: {error}"
            ))
        })?;
        Ok(Self {
            metadata,
            fields: metadata.current_schema().as_struct().fields().to_vec(),
            changed: false,
            last_id: metadata.last_column_id(),
            properties: HashMap::new(),
            version: None,
            mapping,
            order: None,
        })
    }

    fn apply(&mut self, alteration: &Alteration) -> Result<()> {
        match alteration {
            Alteration::SetProperties(properties) => return self.set_properties(properties),
            Alteration::SetSortOrder(keys) => return self.set_order(keys),
            Alteration::AddColumn {
                field,
                if_not_exists,
                place,
            } => return self.add(field, *if_not_exists, place.as_ref()),
            Alteration::DropColumn { name, if_exists } => return self.drop(name, *if_exists),
            Alteration::RenameColumn { from, to } => return self.rename(from, to),
            Alteration::Promote { name, ty } => {
                let at = self.place_of(name)?;
                let field = self.fields[at].as_ref();
                check_promotion(field, ty)?;
                let unchanged = field.field_type.as_ref() == ty;
                if unchanged {
                    return Ok(());
                }
                self.change(at, |field| {
                    *field.field_type = ty.clone();
                    for default in [&mut field.initial_default, &mut field.write_default] {
                        *default = default.take().map(|value| promoted(value, ty));
                    }
                });
            }
            Alteration::DropNotNull { name } => {
                let at = self.place_of(name)?;
                let id = self.fields[at].id;
                let mut identifiers = self.metadata.current_schema().identifier_field_ids();
                if identifiers.any(|identifier| identifier == id) {
                    return Err(Error::Conflict(format!(
                        "column {name} identifies rows, so it cannot be NULL"
                    )));
                }
                self.change(at, |field| field.required = false);
            }
            Alteration::SetDefault { name, value } => {
                let at = self.place_of(name)?;
                let default = defaults::literal(name, value, &self.fields[at].field_type)?;
                self.change(at, |field| field.write_default = default);
            }
            Alteration::Comment { name, text } => {
                let at = self.place_of(name)?;
                self.change(at, |field| field.doc.clone_from(text));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    fn place_of(&self, name: &str) -> Result<usize> {
        self.find(name).ok_or_else(|| {
            let names: Vec<String> = self.fields.iter().map(|field| field.name.clone()).collect();
            let near = crate::catalog::suggest(name, &names);
            Error::NotFound(match near.is_empty() {
                true => format!("there is no column {name}"),
                false => format!(
                    "there is no column {name}; did you mean {}?",
                    near.join(" or ")
                ),
            })
        })
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut NestedField)) {
        let mut field = self.fields[at].as_ref().clone();
        change(&mut field);
        if self.fields[at].as_ref() != &field {
            self.fields[at] = Arc::new(field);
            self.changed = true;
        }
    }

    fn set_properties(&mut self, properties: &HashMap<String, String>) -> Result<()> {
        for (key, value) in properties {
            if key == FORMAT_VERSION {
                let version = match value.as_str() {
                    "1" => FormatVersion::V1,
                    "2" => FormatVersion::V2,
                    "3" => FormatVersion::V3,
                    other => {
                        return Err(Error::Conflict(format!(
                            "format version {other} is not known; 1, 2 and 3 are"
                        )));
                    }
                };
                self.version = Some(version);
            } else {
                self.properties.insert(key.clone(), value.clone());
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        field: &NestedField,
        if_not_exists: bool,
        place: Option<&Place>,
    ) -> Result<()> {
        if self.find(&field.name).is_some() {
            return match if_not_exists {
                true => Ok(()),
                false => Err(Error::Exists(format!(
                    "column {} exists already",
                    field.name
                ))),
            };
        }
        if field.required && field.initial_default.is_none() {
            return Err(Error::Conflict(format!(
                "column {} is new, so rows that are there have no value for it: it has to allow \
                 NULL or have a DEFAULT",
                field.name
            )));
        }
        let at = match place {
            None => self.fields.len(),
            Some(Place::First) => 0,
            Some(Place::After(name)) => self.place_of(name)? + 1,
        };
        let field = numbered(field, &mut self.last_id);
        self.map_names(|mapping| mapping.push(mapped(&field)));
        self.fields.insert(at, Arc::new(field));
        self.changed = true;
        Ok(())
    }

    fn drop(&mut self, name: &str, if_exists: bool) -> Result<()> {
        let at = match self.find(name) {
            None if if_exists => return Ok(()),
            _ => self.place_of(name)?,
        };
        let mut ids = vec![];
        collect_ids(&self.fields[at], &mut ids);
        let spec = self.metadata.default_partition_spec();
        if spec
            .fields()
            .iter()
            .any(|part| ids.contains(&part.source_id))
        {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: the table is partitioned by it"
            )));
        }
        let order = self.metadata.default_sort_order();
        if order
            .fields
            .iter()
            .any(|part| ids.contains(&part.source_id))
        {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: the table is sorted by it"
            )));
        }
        let mut identifiers = self.metadata.current_schema().identifier_field_ids();
        if identifiers.any(|id| ids.contains(&id)) {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: it identifies rows"
            )));
        }
        if self.fields.len() == 1 {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: it is the only one"
            )));
        }
        self.fields.remove(at);
        self.changed = true;
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let at = self.place_of(from)?;
        if from == to {
            return Ok(());
        }
        if self.find(to).is_some() {
            return Err(Error::Exists(format!("column {to} exists already")));
        }
        let id = self.fields[at].id;
        self.change(at, |field| field.name = to.to_owned());
        self.map_names(|mapping| {
            for field in mapping.iter_mut().filter(|f| f["field-id"] == json!(id)) {
                let names = field.get_mut("names").and_then(Value::as_array_mut);
                if let Some(names) = names.filter(|names| !names.contains(&json!(to))) {
                    names.push(json!(to));
                }
            }
        });
        Ok(())
    }

    /// Changes the name mapping, if the table has one.
    fn map_names(&mut self, change: impl FnOnce(&mut Vec<Value>)) {
        if let Some(Value::Array(fields)) = &mut self.mapping {
            change(fields);
            let text = Value::Array(fields.clone()).to_string();
            self.properties.insert(NAME_MAPPING.to_owned(), text);
        }
    }

    fn set_order(&mut self, keys: &[SortKey]) -> Result<()> {
        let schema = self.metadata.current_schema();
        let fields = keys.iter().map(|key| {
            let SortKey {
                column, transform, ..
            } = key;
            let source = schema
                .field_by_name(column)
                .ok_or_else(|| Error::NotFound(format!("there is no column {column}")))?;
            let ty = &source.field_type;
            let fits = ty.is_primitive() && transform.result_type(ty).is_ok();
            match fits && crate::write::path_of(schema, source.id).is_some() {
                true => Ok(SortField {
                    source_id: source.id,
                    transform: *transform,
                    direction: key.direction,
                    null_order: key.nulls,
                }),
                false => Err(Error::Conflict(format!(
                    "rows cannot be sorted by {transform} of column {column}, which is {ty}"
                ))),
            }
        });
        let fields = fields.collect::<Result<_>>()?;
        self.order = Some(SortOrder {
            order_id: 0,
            fields,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<TableUpdate>> {
        let mut updates = vec![];
        if let Some(format_version) = self.version {
            updates.push(TableUpdate::UpgradeFormatVersion { format_version });
        }
        let version = self.version.unwrap_or(self.metadata.format_version());
        if self.changed && version < FormatVersion::V3 {
            check_no_defaults(&self.fields)?;
        }
        if self.changed {
            let schema = Schema::builder()
                .with_fields(self.fields)
                .with_identifier_field_ids(self.metadata.current_schema().identifier_field_ids())
                .build()
                .map_err(|error| Error::Conflict(error.message().to_owned()))?;
            updates.push(TableUpdate::AddSchema { schema });
            updates.push(TableUpdate::SetCurrentSchema {
                schema_id: LAST_ADDED,
            });
        }
        if let Some(sort_order) = self.order
            && sort_order.fields != self.metadata.default_sort_order().fields
        {
            updates.push(TableUpdate::AddSortOrder { sort_order });
            updates.push(TableUpdate::SetDefaultSortOrder {
                sort_order_id: i64::from(LAST_ADDED),
            });
        }
        let known = self.metadata.properties();
        self.properties
            .retain(|key, value| known.get(key) != Some(value));
        if !self.properties.is_empty() {
            updates.push(TableUpdate::SetProperties {
                updates: self.properties,
            });
        }
        Ok(updates)
    }
}

/// Whether values of a primitive type may be read as `to` (specification, "Schema Evolution").
pub(crate) fn is_promotion(from: &Type, to: &Type) -> bool {
    use PrimitiveType as P;
    match (from, to) {
        (from, to) if from == to => true,
        (Type::Primitive(P::Int), Type::Primitive(P::Long))
        | (Type::Primitive(P::Float), Type::Primitive(P::Double)) => true,
        (
            Type::Primitive(P::Decimal { precision, scale }),
            Type::Primitive(P::Decimal {
                precision: wider,
                scale: same,
            }),
        ) => wider >= precision && scale == same,
        _ => false,
    }
}

/// # Errors
/// [`Error::Conflict`] for a column with a default, which format version 3 has only.
fn check_no_defaults(fields: &[NestedFieldRef]) -> Result<()> {
    let has_default =
        |f: &&NestedFieldRef| f.initial_default.is_some() || f.write_default.is_some();
    match fields.iter().find(has_default) {
        None => Ok(()),
        Some(field) => Err(Error::Conflict(format!(
            "column {} cannot have a default: the table needs format version 3; raise it with \
             ALTER TABLE ... SET TBLPROPERTIES ('{FORMAT_VERSION}' = '3')",
            field.name
        ))),
    }
}

fn check_promotion(field: &NestedField, ty: &Type) -> Result<()> {
    let allowed = is_promotion(&field.field_type, ty);
    match allowed {
        true => Ok(()),
        false => Err(Error::Conflict(format!(
            "column {} has type {} and cannot get type {ty}: int becomes bigint, real becomes \
             double, and a decimal one of more digits",
            field.name, field.field_type
        ))),
    }
}

/// The field with new ids, its own before those inside.
fn numbered(field: &NestedField, last_id: &mut i32) -> NestedField {
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

fn children(ty: &Type) -> Vec<&NestedFieldRef> {
    match ty {
        Type::Primitive(_) => vec![],
        Type::Struct(fields) => fields.fields().iter().collect(),
        Type::List(list) => vec![&list.element_field],
        Type::Map(map) => vec![&map.key_field, &map.value_field],
    }
}

fn collect_ids(field: &NestedField, ids: &mut Vec<i32>) {
    ids.push(field.id);
    for child in children(&field.field_type) {
        collect_ids(child, ids);
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
