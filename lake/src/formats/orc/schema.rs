//! ORC types, with the field ids and types that Iceberg adds as attributes.
//!
//! Iceberg specification, appendix A, "ORC".

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::super::{MAX_DEPTH, field_with_id};
use super::proto::{Type, kind};
use crate::scan::schema::UTC;

/// A column or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct OrcField {
    /// Its name; `element`, `key` and `value` for the parts of lists and maps.
    pub name: String,
    /// Its Iceberg field id.
    pub id: Option<i32>,
    /// Index of its type in the file.
    pub index: usize,
    /// One of [`kind`].
    pub kind: i32,
    /// The Arrow type, or why there is none.
    pub data_type: Result<DataType, String>,
    /// Struct: one for each child. List: the element. Map: key and value. Else empty.
    pub children: Vec<OrcField>,
}

impl OrcField {
    /// The Arrow field. Its type is NULL when [`unreadable`](Self::unreadable) has something to
    /// say. Only the keys of maps cannot be NULL: ORC knows no required columns.
    pub fn arrow(&self) -> Field {
        self.arrow_nullable(true)
    }

    fn arrow_nullable(&self, nullable: bool) -> Field {
        let data_type = self.data_type.clone().unwrap_or(DataType::Null);
        let nullable = nullable || data_type == DataType::Null;
        field_with_id(&self.name, data_type, nullable, self.id)
    }

    /// The part of the column that cannot be read, by its path, and why; `None` when all of it can.
    pub fn unreadable(&self) -> Option<(String, String)> {
        if let Err(why) = &self.data_type {
            return Some((self.name.clone(), why.clone()));
        }
        let (path, why) = self.children.iter().find_map(Self::unreadable)?;
        Some((format!("{}.{path}", self.name), why))
    }

    /// Adds the indices of its type and of all below to `indices`.
    pub fn indices(&self, indices: &mut Vec<usize>) {
        indices.push(self.index);
        for child in &self.children {
            child.indices(indices);
        }
    }
}

/// The columns of a file.
///
/// # Errors
/// A sentence saying what about the types is wrong.
pub fn parse(types: &[Type]) -> Result<Vec<OrcField>, String> {
    match types.first() {
        Some(root) if root.kind == kind::STRUCT => {}
        _ => return Err("its rows are not structs".to_string()),
    }
    let mut parser = Parser {
        types,
        used: vec![false; types.len()],
    };
    let root = parser.field("", 0, 0)?;
    Ok(root.children)
}

struct Parser<'a> {
    types: &'a [Type],
    /// Each type belongs to one place only.
    used: Vec<bool>,
}

impl Parser<'_> {
    fn field(&mut self, name: &str, index: usize, depth: usize) -> Result<OrcField, String> {
        if depth > MAX_DEPTH {
            return Err(format!("types are nested more than {MAX_DEPTH} deep"));
        }
        let types = self.types;
        let (Some(orc_type), Some(used)) = (types.get(index), self.used.get_mut(index)) else {
            return Err(format!("type {index} is not defined"));
        };
        if std::mem::replace(used, true) {
            return Err(format!("type {index} is used twice"));
        }
        let names: Vec<&str> = match (orc_type.kind, orc_type.subtypes.len()) {
            (kind::STRUCT, count) if count == orc_type.field_names.len() => {
                orc_type.field_names.iter().map(String::as_str).collect()
            }
            (kind::LIST, 1) => vec!["element"],
            (kind::MAP, 2) => vec!["key", "value"],
            (kind::STRUCT | kind::LIST | kind::MAP, _) => {
                return Err(format!(
                    "type {index} has another number of parts than it says"
                ));
            }
            // Unions and types yet to come are not looked into.
            _ => vec![],
        };
        let children: Vec<OrcField> = names
            .into_iter()
            .zip(&orc_type.subtypes)
            .map(|(name, child)| self.field(name, *child as usize, depth + 1))
            .collect::<Result<_, _>>()?;
        Ok(OrcField {
            name: name.to_string(),
            id: attribute(orc_type, "iceberg.id").and_then(|id| id.parse().ok()),
            index,
            kind: orc_type.kind,
            data_type: arrow_type(orc_type, &children),
            children,
        })
    }
}

fn attribute<'a>(orc_type: &'a Type, key: &str) -> Option<&'a str> {
    let found = orc_type.attributes.iter().find(|pair| pair.key == key)?;
    Some(&found.value)
}

fn arrow_type(orc_type: &Type, children: &[OrcField]) -> Result<DataType, String> {
    Ok(match (orc_type.kind, children) {
        (kind::BOOLEAN, _) => DataType::Boolean,
        (kind::BYTE, _) => DataType::Int8,
        (kind::SHORT, _) => DataType::Int16,
        (kind::INT, _) => DataType::Int32,
        (kind::LONG, _) => match attribute(orc_type, "iceberg.long-type") {
            Some("TIME") => DataType::Time64(TimeUnit::Microsecond),
            _ => DataType::Int64,
        },
        (kind::FLOAT, _) => DataType::Float32,
        (kind::DOUBLE, _) => DataType::Float64,
        (kind::STRING | kind::VARCHAR | kind::CHAR, _) => DataType::Utf8,
        (kind::BINARY, _) => binary_type(orc_type)?,
        (kind::TIMESTAMP, _) => DataType::Timestamp(timestamp_unit(orc_type), None),
        (kind::TIMESTAMP_INSTANT, _) => {
            DataType::Timestamp(timestamp_unit(orc_type), Some(UTC.into()))
        }
        (kind::DATE, _) => DataType::Date32,
        (kind::DECIMAL, _) => match (orc_type.precision, orc_type.scale) {
            (precision @ 1..=38, scale) if scale <= precision => {
                DataType::Decimal128(precision as u8, scale as i8)
            }
            (precision, scale) => {
                return Err(format!(
                    "it is a decimal of {precision} digits, {scale} of them after the point"
                ));
            }
        },
        (kind::STRUCT, []) => return Err("it is a struct without fields".to_string()),
        (kind::STRUCT, children) => {
            DataType::Struct(children.iter().map(OrcField::arrow).collect())
        }
        (kind::LIST, [element]) => DataType::List(Arc::new(element.arrow())),
        (kind::MAP, [key, value]) => {
            let entries = Fields::from(vec![key.arrow_nullable(false), value.arrow()]);
            let entries = Field::new("key_value", DataType::Struct(entries), false);
            DataType::Map(Arc::new(entries), false)
        }
        (other, _) => return Err(format!("its ORC type (number {other}) is not supported")),
    })
}

fn binary_type(orc_type: &Type) -> Result<DataType, String> {
    match attribute(orc_type, "iceberg.binary-type") {
        Some("UUID") => Ok(DataType::FixedSizeBinary(16)),
        Some("FIXED") => {
            let length = attribute(orc_type, "iceberg.length").and_then(|it| it.parse().ok());
            match length {
                Some(length @ 1..) => Ok(DataType::FixedSizeBinary(length)),
                _ => Err("it is a fixed type without length".to_string()),
            }
        }
        _ => Ok(DataType::Binary),
    }
}

fn timestamp_unit(orc_type: &Type) -> TimeUnit {
    match attribute(orc_type, "iceberg.timestamp-unit") {
        Some("NANOS") => TimeUnit::Nanosecond,
        _ => TimeUnit::Microsecond,
    }
}
