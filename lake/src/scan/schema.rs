//! The Arrow schema of an Iceberg table, and the field ids beside it.
//!
//! Ids stay out of the Arrow schema on purpose: field metadata takes part in type equality, so two
//! tables with the same nested column would no longer be comparable, and clients would see it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use datafusion::common::ScalarValue;
use iceberg::spec::{Literal, NameMapping, NestedField, PrimitiveType, Schema, StructType, Type};

use crate::plan::bounds::literal_to_scalar;
use crate::{Error, Result};

/// Time zone of every `timestamptz`: the one Parquet readers give to instants.
pub const UTC: &str = "UTC";

/// What Iceberg knows about a column that Arrow has no place for; mirrors the Arrow field's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct TableField {
    /// The Iceberg field id.
    pub id: i32,
    /// Value of rows in files written before the column was added.
    pub initial_default: Option<ScalarValue>,
    /// Struct: one for each child. List: the element. Map: key and value. Else empty.
    pub children: Vec<TableField>,
}

/// A table's columns, as DataFusion and as Iceberg see them.
#[derive(Clone, Debug)]
pub struct TableColumns {
    /// Types and names; strings and binaries are views at top level.
    pub arrow: SchemaRef,
    /// One for each Arrow field, in the same order.
    pub fields: Vec<TableField>,
    /// Field ids of columns that the table's name mapping leaves out. Files without field ids read
    /// as NULL there whatever the manifest counts, so its metrics say nothing about them.
    pub unmapped: HashSet<i32>,
}

impl TableColumns {
    /// Translates an Iceberg schema.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names the column and the type that cannot be read.
    pub fn try_new(table: &str, schema: &Schema) -> Result<Self> {
        let mut arrow = Vec::new();
        let mut fields = Vec::new();
        for field in schema.as_struct().fields() {
            let (arrow_field, table_field) = translated(table, field)?;
            arrow.push(arrow_field);
            fields.push(table_field);
        }
        Ok(Self {
            arrow: Arc::new(ArrowSchema::new(arrow)),
            fields,
            unmapped: HashSet::new(),
        })
    }

    /// Notes the columns that a name mapping leaves out; see [`Self::unmapped`]. They may hold NULL
    /// even where the table says they are required.
    pub fn with_name_mapping(mut self, mapping: &NameMapping) -> Self {
        let mapped: HashSet<i32> = mapping
            .fields()
            .iter()
            .filter_map(|field| field.field_id())
            .collect();
        let ids = self.fields.iter().map(|field| field.id);
        self.unmapped = ids.filter(|id| !mapped.contains(id)).collect();
        let arrow: Vec<FieldRef> = self
            .arrow
            .fields()
            .iter()
            .zip(&self.fields)
            .map(|(field, ids)| {
                let nullable = field.is_nullable() || self.unmapped.contains(&ids.id);
                Arc::new(field.as_ref().clone().with_nullable(nullable))
            })
            .collect();
        self.arrow = Arc::new(ArrowSchema::new(arrow));
        self
    }

    /// The same columns without anything required, at any depth: delete files hold only the keys.
    pub fn relaxed(&self) -> Self {
        let fields = self.arrow.fields().iter().map(|field| relaxed(field));
        Self {
            arrow: Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())),
            ..self.clone()
        }
    }

    /// Adds a column behind the others.
    pub fn push(&mut self, arrow: FieldRef, field: TableField) {
        let fields = self.arrow.fields().iter().cloned().chain([arrow]);
        self.arrow = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        self.fields.push(field);
    }

    /// Index of the top-level column with this field id.
    pub fn index_of_id(&self, id: i32) -> Option<usize> {
        self.fields.iter().position(|field| field.id == id)
    }

    /// Field id of a top-level column.
    pub fn id_of(&self, name: &str) -> Option<i32> {
        let index = self.arrow.index_of(name).ok()?;
        self.fields.get(index).map(|field| field.id)
    }
}

/// The field without anything required in it, but for what Arrow demands of maps.
pub fn relaxed(field: &Field) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(children) => {
            DataType::Struct(children.iter().map(|child| relaxed(child)).collect())
        }
        DataType::List(element) => DataType::List(relaxed(element)),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, true))
}

/// Translates one top-level field of an Iceberg schema.
///
/// # Errors
/// As [`TableColumns::try_new`].
pub fn translated(table: &str, field: &NestedField) -> Result<(FieldRef, TableField)> {
    column(table, &field.name, field, true)
}

fn column(
    table: &str,
    path: &str,
    field: &NestedField,
    top_level: bool,
) -> Result<(FieldRef, TableField)> {
    let (data_type, children) = column_type(table, path, &field.field_type, top_level)?;
    let initial_default = match &field.initial_default {
        None => None,
        Some(Literal::Primitive(literal)) => {
            literal_to_scalar(literal, &field.field_type, &data_type)
        }
        Some(_) => None,
    };
    if field.initial_default.is_some() && initial_default.is_none() {
        return Err(Error::Unsupported {
            table: table.to_string(),
            what: format!("column {path}"),
            why: format!(
                "its initial default is not a value of type {}",
                field.field_type
            ),
        });
    }
    let arrow = Arc::new(Field::new(&field.name, data_type, !field.required));
    Ok((
        arrow,
        TableField {
            id: field.id,
            initial_default,
            children,
        },
    ))
}

fn column_type(
    table: &str,
    path: &str,
    ty: &Type,
    top_level: bool,
) -> Result<(DataType, Vec<TableField>)> {
    match ty {
        Type::Primitive(primitive) => Ok((primitive_type(primitive, top_level), vec![])),
        Type::Struct(fields) => struct_type(table, path, fields),
        Type::List(list) => {
            let element = &list.element_field;
            let (field, ids) = column(table, &format!("{path}.element"), element, false)?;
            let field = Field::new("element", field.data_type().clone(), !element.required);
            Ok((DataType::List(Arc::new(field)), vec![ids]))
        }
        Type::Map(map) => {
            let (key, key_ids) = column(table, &format!("{path}.key"), &map.key_field, false)?;
            let (value, value_ids) =
                column(table, &format!("{path}.value"), &map.value_field, false)?;
            let entries = Fields::from(vec![
                Field::new("key", key.data_type().clone(), false),
                Field::new(
                    "value",
                    value.data_type().clone(),
                    !map.value_field.required,
                ),
            ]);
            let entries = Field::new("key_value", DataType::Struct(entries), false);
            Ok((
                DataType::Map(Arc::new(entries), false),
                vec![key_ids, value_ids],
            ))
        }
    }
}

fn struct_type(
    table: &str,
    path: &str,
    fields: &StructType,
) -> Result<(DataType, Vec<TableField>)> {
    let mut arrow = Vec::new();
    let mut ids = Vec::new();
    for field in fields.fields() {
        let (arrow_field, table_field) =
            column(table, &format!("{path}.{}", field.name), field, false)?;
        arrow.push(arrow_field);
        ids.push(table_field);
    }
    Ok((DataType::Struct(Fields::from(arrow)), ids))
}

/// Arrow type of a primitive column. Inside nested columns strings stay plain, because that is what
/// the Parquet reader produces there and a conversion would copy them.
pub fn primitive_type(ty: &PrimitiveType, top_level: bool) -> DataType {
    let (string, binary) = if top_level {
        (DataType::Utf8View, DataType::BinaryView)
    } else {
        (DataType::Utf8, DataType::Binary)
    };
    match ty {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision as u8, *scale as i8)
        }
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        // Arrow has no UUID type. The canonical text compares like the bytes do, and a UUID literal
        // in SQL is a text.
        PrimitiveType::String | PrimitiveType::Uuid => string,
        PrimitiveType::Fixed(length) => i32::try_from(*length)
            .map(DataType::FixedSizeBinary)
            .unwrap_or(binary),
        PrimitiveType::Binary => binary,
    }
}

/// Names by which columns of files without field ids are found, when the table says nothing.
///
/// The specification's fallback gives ids by position in the table's first schema; the names of
/// that schema, then those of later ones, come to the same for the files such tables hold, and
/// cannot confuse two columns whose positions differ from file to file.
pub fn names_by_history<'a>(schemas: impl Iterator<Item = &'a Schema>) -> HashMap<String, i32> {
    let mut names = HashMap::new();
    for schema in schemas {
        for field in schema.as_struct().fields() {
            names.entry(field.name.clone()).or_insert(field.id);
        }
    }
    names
}
