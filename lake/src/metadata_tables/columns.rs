//! Building the columns of metadata tables.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, Int64Builder, ListBuilder, MapBuilder,
    RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef, TimeUnit};

use crate::scan::schema::UTC;
use crate::{Error, Result};

/// An instant in milliseconds, as metadata files keep time.
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()))
}

/// `map(key, value)`.
pub fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", key, false),
        Field::new("value", value, true),
    ]);
    let entries = Field::new("key_value", DataType::Struct(entries), false);
    DataType::Map(Arc::new(entries), false)
}

/// `array(element)`.
pub fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

pub fn longs(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values))
}

pub fn ints(values: impl IntoIterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(Int32Array::from_iter(values))
}

pub fn booleans(values: impl IntoIterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(values))
}

pub fn texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

pub fn instants(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter(values).with_timezone(UTC))
}

/// Arrays of numbers; NULL for none.
pub fn long_lists<'a>(values: impl IntoIterator<Item = &'a [i64]>) -> ArrayRef {
    let element = Field::new("element", DataType::Int64, true);
    let mut builder = ListBuilder::new(Int64Builder::new()).with_field(element);
    for list in values {
        builder.values().append_slice(list);
        builder.append(!list.is_empty());
    }
    Arc::new(builder.finish())
}

/// Maps of texts.
pub fn text_maps<'a, M>(values: impl IntoIterator<Item = M>) -> Result<ArrayRef>
where
    M: IntoIterator<Item = (&'a String, &'a String)>,
{
    let mut builder = MapBuilder::new(
        Some(arrow::array::MapFieldNames {
            entry: "key_value".to_owned(),
            key: "key".to_owned(),
            value: "value".to_owned(),
        }),
        StringBuilder::new(),
        StringBuilder::new(),
    );
    for map in values {
        let mut pairs: Vec<_> = map.into_iter().collect();
        pairs.sort();
        for (key, value) in pairs {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true).map_err(internal)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// A batch of these columns.
pub fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(internal)
}

/// A count of the metadata as SQL's number.
pub fn count(value: u64) -> Option<i64> {
    i64::try_from(value).ok()
}

pub fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("a metadata table: {error}"))
}
