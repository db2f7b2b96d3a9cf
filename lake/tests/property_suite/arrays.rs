//! Rows as Arrow arrays, and query results as values.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field as ArrowField, Fields, Float32Type, Float64Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

use crate::types::{Field, Prim, Ty};
use crate::values::Value;

/// How a writer of Parquet spells what the specification leaves open.
#[derive(Clone, Copy, Debug)]
pub struct Spelling {
    /// Whether fields have ids.
    pub ids: bool,
    pub element: &'static str,
    pub entries: &'static str,
    /// 64-bit offsets in the embedded Arrow schema.
    pub large: bool,
}

impl Spelling {
    pub fn random(rng: &mut fastrand::Rng, ids: bool) -> Self {
        Self {
            ids,
            element: ["element", "item", "array"][rng.usize(0..3)],
            entries: ["key_value", "entries"][rng.usize(0..2)],
            large: rng.u8(0..4) == 0,
        }
    }

    pub fn field(&self, field: &Field) -> ArrowField {
        self.spelled(field, &field.name)
    }

    fn spelled(&self, field: &Field, name: &str) -> ArrowField {
        let arrow = ArrowField::new(name, self.data_type(&field.ty), !field.required);
        if !self.ids {
            return arrow;
        }
        let id = ("PARQUET:field_id".to_string(), field.id.to_string());
        arrow.with_metadata(HashMap::from([id]))
    }

    fn data_type(&self, ty: &Ty) -> DataType {
        match ty {
            Ty::Prim(prim) => self.prim(*prim),
            Ty::Struct(fields) => DataType::Struct(fields.iter().map(|f| self.field(f)).collect()),
            Ty::List(element) => DataType::List(Arc::new(self.spelled(element, self.element))),
            Ty::Map(key, value) => {
                let pair =
                    Fields::from(vec![self.spelled(key, "key"), self.spelled(value, "value")]);
                let entries = ArrowField::new(self.entries, DataType::Struct(pair), false);
                DataType::Map(Arc::new(entries), false)
            }
        }
    }

    fn prim(&self, prim: Prim) -> DataType {
        match prim {
            Prim::Boolean => DataType::Boolean,
            Prim::Int => DataType::Int32,
            Prim::Long => DataType::Int64,
            Prim::Float => DataType::Float32,
            Prim::Double => DataType::Float64,
            Prim::Decimal(precision, scale) => DataType::Decimal128(precision as u8, scale as i8),
            Prim::Date => DataType::Date32,
            Prim::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Prim::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Prim::String if self.large => DataType::LargeUtf8,
            Prim::String => DataType::Utf8,
            Prim::Binary if self.large => DataType::LargeBinary,
            Prim::Binary => DataType::Binary,
            Prim::Fixed(length) => DataType::FixedSizeBinary(length as i32),
            Prim::Uuid => DataType::FixedSizeBinary(16),
        }
    }
}

/// The values as an array of `data_type`, which spells `ty`.
pub fn array(ty: &Ty, data_type: &DataType, values: &[&Value]) -> ArrayRef {
    let nulls = || NullBuffer::from_iter(values.iter().map(|value| !value.is_null()));
    match (ty, data_type) {
        (Ty::Struct(fields), DataType::Struct(arrow)) => {
            let columns: Vec<ArrayRef> = fields
                .iter()
                .zip(arrow)
                .map(|(field, arrow)| {
                    let children: Vec<&Value> = values
                        .iter()
                        .map(|value| match value {
                            Value::Struct(children) => &children[&field.id],
                            _ => &Value::Null,
                        })
                        .collect();
                    array(&field.ty, arrow.data_type(), &children)
                })
                .collect();
            Arc::new(StructArray::try_new(arrow.clone(), columns, Some(nulls())).unwrap())
        }
        (Ty::List(element), DataType::List(arrow)) => {
            let lengths = values.iter().map(|value| match value {
                Value::List(items) => items.len(),
                _ => 0,
            });
            let offsets = OffsetBuffer::from_lengths(lengths);
            let items: Vec<&Value> = values
                .iter()
                .flat_map(|value| match value {
                    Value::List(items) => items.iter().collect(),
                    _ => vec![],
                })
                .collect();
            let items = array(&element.ty, arrow.data_type(), &items);
            let list = ListArray::try_new(Arc::clone(arrow), offsets, items, Some(nulls()));
            Arc::new(list.unwrap())
        }
        (Ty::Map(key, value), DataType::Map(arrow, _)) => {
            let DataType::Struct(pair) = arrow.data_type() else {
                panic!("{arrow} are no entries");
            };
            let pairs: Vec<&[(Value, Value)]> = values
                .iter()
                .map(|value| match value {
                    Value::Map(pairs) => pairs.as_slice(),
                    _ => &[],
                })
                .collect();
            let offsets = OffsetBuffer::from_lengths(pairs.iter().map(|pairs| pairs.len()));
            let keys: Vec<&Value> = pairs
                .iter()
                .flat_map(|p| p.iter().map(|(k, _)| k))
                .collect();
            let items: Vec<&Value> = pairs
                .iter()
                .flat_map(|p| p.iter().map(|(_, v)| v))
                .collect();
            let columns = vec![
                array(&key.ty, pair[0].data_type(), &keys),
                array(&value.ty, pair[1].data_type(), &items),
            ];
            let entries = StructArray::try_new(pair.clone(), columns, None).unwrap();
            let map = MapArray::try_new(Arc::clone(arrow), offsets, entries, Some(nulls()), false);
            Arc::new(map.unwrap())
        }
        (Ty::Prim(prim), _) => {
            let array = prim_array(*prim, values);
            arrow::compute::cast(&array, data_type).unwrap()
        }
        (ty, data_type) => panic!("{data_type} does not spell {ty:?}"),
    }
}

/// The values of one variant, as options.
macro_rules! options {
    ($values:expr, $variant:ident) => {
        $values.iter().map(|value| match value {
            Value::Null => None,
            Value::$variant(v) => Some(v.clone()),
            other => panic!("{other:?} is no {}", stringify!($variant)),
        })
    };
}

fn prim_array(prim: Prim, values: &[&Value]) -> ArrayRef {
    match prim {
        Prim::Boolean => Arc::new(BooleanArray::from_iter(options!(values, Boolean))),
        Prim::Int => Arc::new(Int32Array::from_iter(options!(values, Int))),
        Prim::Long => Arc::new(Int64Array::from_iter(options!(values, Long))),
        Prim::Float => Arc::new(Float32Array::from_iter(options!(values, Float))),
        Prim::Double => Arc::new(Float64Array::from_iter(options!(values, Double))),
        Prim::Decimal(precision, scale) => Arc::new(
            Decimal128Array::from_iter(options!(values, Decimal))
                .with_precision_and_scale(precision as u8, scale as i8)
                .unwrap(),
        ),
        Prim::Date => Arc::new(Date32Array::from_iter(options!(values, Date))),
        Prim::Timestamp => Arc::new(TimestampMicrosecondArray::from_iter(options!(
            values, Micros
        ))),
        Prim::Timestamptz => {
            let array = TimestampMicrosecondArray::from_iter(options!(values, Micros));
            Arc::new(array.with_timezone("UTC"))
        }
        Prim::String => Arc::new(StringArray::from_iter(options!(values, Text))),
        Prim::Binary => Arc::new(BinaryArray::from_iter(options!(values, Bytes))),
        Prim::Fixed(length) => fixed(options!(values, Bytes), length),
        Prim::Uuid => fixed(
            options!(values, Uuid).map(|v| v.map(|v: u128| v.to_be_bytes().to_vec())),
            16,
        ),
    }
}

fn fixed(values: impl Iterator<Item = Option<Vec<u8>>>, length: usize) -> ArrayRef {
    let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, length as i32);
    Arc::new(array.unwrap())
}

/// A value of a query's result; the array has to be of exactly the type that the column's has.
pub fn value(ty: &Ty, array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match ty {
        Ty::Prim(prim) => prim_value(*prim, array, row),
        Ty::Struct(fields) => {
            let array = array.as_struct();
            assert_eq!(array.num_columns(), fields.len(), "{:?}", array.data_type());
            let children = fields.iter().zip(array.columns()).zip(array.column_names());
            let children = children.map(|((field, column), name)| {
                assert_eq!(name, field.name);
                (field.id, value(&field.ty, column, row))
            });
            Value::Struct(children.collect::<BTreeMap<_, _>>())
        }
        Ty::List(element) => {
            let items = array.as_list::<i32>().value(row);
            let items = (0..items.len()).map(|at| value(&element.ty, &items, at));
            Value::List(items.collect())
        }
        Ty::Map(key, item) => {
            let entries = array.as_map().value(row);
            let pair = |at| {
                (
                    value(&key.ty, entries.column(0), at),
                    value(&item.ty, entries.column(1), at),
                )
            };
            Value::Map((0..entries.len()).map(pair).collect())
        }
    }
}

fn prim_value(prim: Prim, array: &ArrayRef, row: usize) -> Value {
    let text = || match array.data_type() {
        DataType::Utf8View => array.as_string_view().value(row).to_string(),
        _ => array.as_string::<i32>().value(row).to_string(),
    };
    match (prim, array.data_type()) {
        (Prim::Boolean, DataType::Boolean) => Value::Boolean(array.as_boolean().value(row)),
        (Prim::Int, DataType::Int32) => Value::Int(array.as_primitive::<Int32Type>().value(row)),
        (Prim::Long, DataType::Int64) => Value::Long(array.as_primitive::<Int64Type>().value(row)),
        (Prim::Float, DataType::Float32) => {
            Value::Float(array.as_primitive::<Float32Type>().value(row))
        }
        (Prim::Double, DataType::Float64) => {
            Value::Double(array.as_primitive::<Float64Type>().value(row))
        }
        (Prim::Decimal(precision, scale), DataType::Decimal128(p, s))
            if (precision, scale) == (u32::from(*p), *s as u32) =>
        {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        (Prim::Date, DataType::Date32) => {
            Value::Date(array.as_primitive::<Date32Type>().value(row))
        }
        (Prim::Timestamp, DataType::Timestamp(TimeUnit::Microsecond, None))
        | (Prim::Timestamptz, DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => {
            Value::Micros(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        (Prim::String, DataType::Utf8 | DataType::Utf8View) => Value::Text(text()),
        (Prim::Uuid, DataType::Utf8 | DataType::Utf8View) => {
            let text = text();
            let uuid = uuid::Uuid::parse_str(&text).unwrap();
            assert_eq!(text, uuid.hyphenated().to_string());
            Value::Uuid(uuid.as_u128())
        }
        (Prim::Binary, DataType::Binary) => {
            Value::Bytes(array.as_binary::<i32>().value(row).to_vec())
        }
        (Prim::Binary, DataType::BinaryView) => {
            Value::Bytes(array.as_binary_view().value(row).to_vec())
        }
        (Prim::Fixed(length), DataType::FixedSizeBinary(size)) if length as i32 == *size => {
            Value::Bytes(array.as_fixed_size_binary().value(row).to_vec())
        }
        (prim, data_type) => panic!("a column of type {prim:?} comes as {data_type}"),
    }
}
