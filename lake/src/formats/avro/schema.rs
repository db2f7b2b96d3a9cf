//! Avro schemas, with the field ids and types that Iceberg puts into them.
//!
//! Iceberg specification, appendix A, "Avro": ids are `field-id` of a record's field, `element-id`
//! of an array, `key-id` and `value-id` of a map. A map whose keys are not strings is an array of
//! key-value records with the logical type `map`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Map, Value};

use super::super::{MAX_DEPTH, field_with_id};
use crate::scan::schema::UTC;

/// Named types may be used again and again inside each other; a schema beyond this many types
/// written out is refused.
const MAX_TYPES: usize = 100_000;

/// A fixed type beyond this many bytes is not read: a NULL takes as much.
const MAX_FIXED_BYTES: usize = 1 << 20;

/// A type as it is written, with what its logical type makes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum AvroType {
    /// Takes no bytes.
    Null,
    /// One byte.
    Boolean,
    /// An `int`: Int32, Date32 or Time32.
    Int(DataType),
    /// A `long`: Int64, Time64 or Timestamp.
    Long(DataType),
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// Bytes with their length before them.
    Bytes,
    /// The same, as text.
    String,
    /// This many bytes.
    Fixed(usize),
    /// A number in `bytes`, or in a `fixed` of `size` bytes: big-endian two's complement.
    Decimal {
        /// Bytes of a `fixed`.
        size: Option<usize>,
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// The index of one of these texts.
    Enum(Arc<[String]>),
    /// One value after the other.
    Record(Vec<AvroField>),
    /// Any number of values.
    Array(Box<AvroField>),
    /// Any number of keys, always strings, and values.
    Map(Box<AvroField>, Box<AvroField>),
    /// An array of records that stands for a map.
    Pairs(Box<AvroField>, Box<AvroField>),
    /// A union of a type with null, which is the branch of this index.
    Optional(Box<AvroType>, i64),
    /// Any other union: no column can be of it, but it can be read past.
    Union(Vec<AvroType>),
}

/// A value with a name and an id: a record's field, an array's element, a map's key or value.
#[derive(Clone, Debug, PartialEq)]
pub struct AvroField {
    /// Its name; `element`, `key` and `value` for the parts of arrays and maps.
    pub name: String,
    /// Its Iceberg field id.
    pub id: Option<i32>,
    /// Its type.
    pub avro_type: AvroType,
}

impl AvroField {
    /// The Arrow field. Its type is NULL when [`unreadable`] has something to say.
    pub fn arrow(&self) -> Field {
        let data_type = self.avro_type.arrow().unwrap_or(DataType::Null);
        let nullable =
            data_type == DataType::Null || matches!(self.avro_type, AvroType::Optional(_, _));
        field_with_id(&self.name, data_type, nullable, self.id)
    }
}

impl AvroType {
    /// The Arrow type, or why there is none.
    pub fn arrow(&self) -> Result<DataType, String> {
        Ok(match self {
            Self::Null => DataType::Null,
            Self::Boolean => DataType::Boolean,
            Self::Int(data_type) | Self::Long(data_type) => data_type.clone(),
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Bytes => DataType::Binary,
            Self::String | Self::Enum(_) => DataType::Utf8,
            Self::Fixed(size) if *size == 0 || *size > MAX_FIXED_BYTES => {
                return Err(format!("its values have {size} bytes"));
            }
            Self::Fixed(size) => DataType::FixedSizeBinary(*size as i32),
            Self::Decimal {
                precision, scale, ..
            } => DataType::Decimal128(*precision, *scale),
            Self::Record(fields) if fields.is_empty() => {
                return Err("it is a record without fields".to_string());
            }
            Self::Record(fields) => DataType::Struct(fields.iter().map(AvroField::arrow).collect()),
            Self::Array(element) => DataType::List(Arc::new(element.arrow())),
            Self::Map(key, value) | Self::Pairs(key, value) => {
                let entries = Fields::from(vec![key.arrow(), value.arrow()]);
                let entries = Field::new("key_value", DataType::Struct(entries), false);
                DataType::Map(Arc::new(entries), false)
            }
            Self::Optional(inner, _) => inner.arrow()?,
            Self::Union(_) => {
                return Err("it is a union of several types".to_string());
            }
        })
    }

    /// Whether its values take no bytes, so that any number of them may follow each other.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null | Self::Fixed(0) => true,
            Self::Decimal { size, .. } => *size == Some(0),
            Self::Record(fields) => fields.iter().all(|field| field.avro_type.is_empty()),
            _ => false,
        }
    }
}

/// The part of a column that cannot be read, by its path, and why; `None` when all of it can.
pub fn unreadable(field: &AvroField) -> Option<(String, String)> {
    unreadable_at(&field.name, &field.avro_type)
}

fn unreadable_at(path: &str, avro_type: &AvroType) -> Option<(String, String)> {
    if let Err(why) = avro_type.arrow() {
        return Some((path.to_string(), why));
    }
    let below =
        |field: &AvroField| unreadable_at(&format!("{path}.{}", field.name), &field.avro_type);
    match avro_type {
        AvroType::Optional(inner, _) => unreadable_at(path, inner),
        AvroType::Record(fields) => fields.iter().find_map(below),
        AvroType::Array(element) if element.avro_type.is_empty() => {
            Some((path.to_string(), "its elements have no values".to_string()))
        }
        AvroType::Array(element) => below(element),
        AvroType::Map(key, value) | AvroType::Pairs(key, value) => {
            if key.avro_type.is_empty() || matches!(key.avro_type, AvroType::Optional(_, _)) {
                return Some((path.to_string(), "its keys may be NULL".to_string()));
            }
            below(key).or_else(|| below(value))
        }
        _ => None,
    }
}

/// The fields of a file's rows.
///
/// # Errors
/// A sentence saying what is wrong with the schema.
pub fn parse(json: &str) -> Result<Vec<AvroField>, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let mut parser = Parser::default();
    match parser.parse(&value, &Place::default())? {
        AvroType::Record(fields) => Ok(fields),
        _ => Err("its rows are not records".to_string()),
    }
}

/// Where in the schema a type stands.
#[derive(Clone, Debug, Default)]
struct Place {
    namespace: Option<String>,
    depth: usize,
}

#[derive(Debug, Default)]
struct Parser {
    /// Named types by their full names, once they are complete.
    named: HashMap<String, AvroType>,
    types: usize,
}

impl Parser {
    fn parse(&mut self, value: &Value, place: &Place) -> Result<AvroType, String> {
        if place.depth > MAX_DEPTH {
            return Err(format!("types are nested more than {MAX_DEPTH} deep"));
        }
        self.count(1)?;
        match value {
            Value::String(name) => self.by_name(name, place),
            Value::Array(branches) => self.union(branches, place),
            Value::Object(object) => self.complex(object, place),
            _ => Err(format!("{value} is not a type")),
        }
    }

    fn count(&mut self, types: usize) -> Result<(), String> {
        self.types += types;
        if self.types > MAX_TYPES {
            return Err(format!("it has more than {MAX_TYPES} types"));
        }
        Ok(())
    }

    fn by_name(&mut self, name: &str, place: &Place) -> Result<AvroType, String> {
        Ok(match name {
            "null" => AvroType::Null,
            "boolean" => AvroType::Boolean,
            "int" => AvroType::Int(DataType::Int32),
            "long" => AvroType::Long(DataType::Int64),
            "float" => AvroType::Float,
            "double" => AvroType::Double,
            "bytes" => AvroType::Bytes,
            "string" => AvroType::String,
            _ => {
                let full = full_name(name, place.namespace.as_deref());
                // Not found also inside itself: a type without end.
                let found = self
                    .named
                    .get(&full)
                    .or_else(|| self.named.get(name))
                    .ok_or_else(|| format!("type {name} is not defined"))?
                    .clone();
                if place.depth + depth(&found) > MAX_DEPTH {
                    return Err(format!("types are nested more than {MAX_DEPTH} deep"));
                }
                self.count(size(&found))?;
                found
            }
        })
    }

    fn union(&mut self, branches: &[Value], place: &Place) -> Result<AvroType, String> {
        let below = place.below();
        let mut types: Vec<AvroType> = branches
            .iter()
            .map(|branch| self.parse(branch, &below))
            .collect::<Result<_, _>>()?;
        match types.as_slice() {
            [AvroType::Null, AvroType::Null] => {}
            [AvroType::Null, _] => {
                return Ok(AvroType::Optional(Box::new(types.swap_remove(1)), 0));
            }
            [_, AvroType::Null] => {
                return Ok(AvroType::Optional(Box::new(types.swap_remove(0)), 1));
            }
            _ => {}
        }
        Ok(AvroType::Union(types))
    }

    fn complex(&mut self, object: &Map<String, Value>, place: &Place) -> Result<AvroType, String> {
        let logical = object.get("logicalType").and_then(Value::as_str);
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(nested) => return self.parse(nested, &place.below()),
            None => return Err("a type has no name".to_string()),
        };
        match kind {
            "record" | "error" => self.record(object, place),
            "enum" => {
                let symbols = object.get("symbols").and_then(Value::as_array);
                let symbols: Option<Vec<String>> = symbols
                    .into_iter()
                    .flatten()
                    .map(|symbol| symbol.as_str().map(str::to_string))
                    .collect();
                let symbols = symbols.ok_or("an enum has no symbols")?;
                Ok(self.define(object, place, AvroType::Enum(symbols.into())))
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64);
                let size = size
                    .and_then(|size| usize::try_from(size).ok())
                    .ok_or("a fixed type has no size")?;
                let fixed = match (logical, decimal(object)) {
                    (Some("decimal"), Some((precision, scale))) => AvroType::Decimal {
                        size: Some(size),
                        precision,
                        scale,
                    },
                    // A UUID is a fixed of 16 bytes.
                    _ => AvroType::Fixed(size),
                };
                Ok(self.define(object, place, fixed))
            }
            "array" => self.array(object, logical, place),
            "map" => {
                let value = object.get("values").ok_or("a map has no values")?;
                let value = self.parse(value, &place.below())?;
                let key = part("key", id(object, "key-id"), AvroType::String);
                let value = part("value", id(object, "value-id"), value);
                Ok(AvroType::Map(Box::new(key), Box::new(value)))
            }
            "int" => Ok(AvroType::Int(match logical {
                Some("date") => DataType::Date32,
                Some("time-millis") => DataType::Time32(TimeUnit::Millisecond),
                _ => DataType::Int32,
            })),
            "long" => Ok(AvroType::Long(long_type(object, logical))),
            "bytes" => Ok(match (logical, decimal(object)) {
                (Some("decimal"), Some((precision, scale))) => AvroType::Decimal {
                    size: None,
                    precision,
                    scale,
                },
                _ => AvroType::Bytes,
            }),
            other => self.by_name(other, place),
        }
    }

    fn record(&mut self, object: &Map<String, Value>, place: &Place) -> Result<AvroType, String> {
        let inside = Place {
            namespace: namespace(object, place),
            depth: place.depth + 1,
        };
        let fields = object
            .get("fields")
            .and_then(Value::as_array)
            .ok_or("a record has no fields")?;
        let fields: Vec<AvroField> = fields
            .iter()
            .map(|field| {
                let field = field.as_object().ok_or("a field is not an object")?;
                let name = field.get("name").and_then(Value::as_str);
                let name = name.ok_or("a field has no name")?;
                let avro_type = field.get("type").ok_or("a field has no type")?;
                // Avro allows few characters in names; Iceberg notes the name it had to change.
                let original = field.get("iceberg-field-name").and_then(Value::as_str);
                Ok(AvroField {
                    name: original.unwrap_or(name).to_string(),
                    id: id(field, "field-id"),
                    avro_type: self.parse(avro_type, &inside)?,
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(self.define(object, place, AvroType::Record(fields)))
    }

    fn array(
        &mut self,
        object: &Map<String, Value>,
        logical: Option<&str>,
        place: &Place,
    ) -> Result<AvroType, String> {
        let items = object.get("items").ok_or("an array has no items")?;
        let items = self.parse(items, &place.below())?;
        if logical == Some("map") {
            let AvroType::Record(parts) = items else {
                return Err("a map is not an array of records".to_string());
            };
            let Ok([key, value]) = <[AvroField; 2]>::try_from(parts) else {
                return Err("a map is not an array of keys and values".to_string());
            };
            let key = part("key", key.id, key.avro_type);
            let value = part("value", value.id, value.avro_type);
            return Ok(AvroType::Pairs(Box::new(key), Box::new(value)));
        }
        let element = part("element", id(object, "element-id"), items);
        Ok(AvroType::Array(Box::new(element)))
    }

    fn define(
        &mut self,
        object: &Map<String, Value>,
        place: &Place,
        avro_type: AvroType,
    ) -> AvroType {
        if let Some(name) = object.get("name").and_then(Value::as_str) {
            let full = full_name(name, namespace(object, place).as_deref());
            self.named.insert(full, avro_type.clone());
        }
        avro_type
    }
}

impl Place {
    fn below(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            depth: self.depth + 1,
        }
    }
}

fn part(name: &str, id: Option<i32>, avro_type: AvroType) -> AvroField {
    AvroField {
        name: name.to_string(),
        id,
        avro_type,
    }
}

fn id(object: &Map<String, Value>, key: &str) -> Option<i32> {
    object.get(key)?.as_i64()?.try_into().ok()
}

/// Namespace of a named type, which is also that of the names inside it.
fn namespace(object: &Map<String, Value>, place: &Place) -> Option<String> {
    let name = object.get("name").and_then(Value::as_str);
    if let Some((namespace, _)) = name.and_then(|name| name.rsplit_once('.')) {
        return Some(namespace.to_string());
    }
    match object.get("namespace").and_then(Value::as_str) {
        Some(namespace) => Some(namespace.to_string()),
        None => place.namespace.clone(),
    }
}

fn full_name(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !namespace.is_empty() && !name.contains('.') => {
            format!("{namespace}.{name}")
        }
        _ => name.to_string(),
    }
}

fn decimal(object: &Map<String, Value>) -> Option<(u8, i8)> {
    let precision = object.get("precision")?.as_u64()?;
    let scale = match object.get("scale") {
        None => 0,
        Some(scale) => scale.as_u64()?,
    };
    (1..=38).contains(&precision).then_some(())?;
    (scale <= precision).then_some(())?;
    Some((precision as u8, scale as i8))
}

fn long_type(object: &Map<String, Value>, logical: Option<&str>) -> DataType {
    // Without the property a timestamp has no zone, as Iceberg's other readers see it.
    let zone = match object.get("adjust-to-utc") {
        Some(Value::Bool(true)) => Some(UTC.into()),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(UTC.into()),
        _ => None,
    };
    match logical {
        Some("time-micros") => DataType::Time64(TimeUnit::Microsecond),
        Some("timestamp-millis") => DataType::Timestamp(TimeUnit::Millisecond, zone),
        Some("timestamp-micros") => DataType::Timestamp(TimeUnit::Microsecond, zone),
        Some("timestamp-nanos") => DataType::Timestamp(TimeUnit::Nanosecond, zone),
        Some("local-timestamp-millis") => DataType::Timestamp(TimeUnit::Millisecond, None),
        Some("local-timestamp-micros") => DataType::Timestamp(TimeUnit::Microsecond, None),
        Some("local-timestamp-nanos") => DataType::Timestamp(TimeUnit::Nanosecond, None),
        _ => DataType::Int64,
    }
}

fn children(avro_type: &AvroType) -> Vec<&AvroType> {
    match avro_type {
        AvroType::Record(fields) => fields.iter().map(|field| &field.avro_type).collect(),
        AvroType::Array(element) => vec![&element.avro_type],
        AvroType::Map(key, value) | AvroType::Pairs(key, value) => {
            vec![&key.avro_type, &value.avro_type]
        }
        AvroType::Optional(inner, _) => vec![inner.as_ref()],
        AvroType::Union(branches) => branches.iter().collect(),
        _ => vec![],
    }
}

fn size(avro_type: &AvroType) -> usize {
    1 + children(avro_type).into_iter().map(size).sum::<usize>()
}

fn depth(avro_type: &AvroType) -> usize {
    let below = children(avro_type).into_iter().map(depth).max();
    1 + below.unwrap_or(0)
}
