//! The types of a query's columns as Iceberg has them, for tables made from queries.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit};
use iceberg::spec::{ListType, MapType, NestedField, PrimitiveType, Schema, StructType, Type};

use super::types::Columns;
use crate::{Error, Result};

/// The schema of a table that holds the rows of a query. Nanoseconds become microseconds unless
/// `nanoseconds` are kept (format version 3).
///
/// # Errors
/// [`Error::Unsupported`] names a column whose type Iceberg does not have; [`Error::Sql`] two of one
/// name.
pub fn schema_of(arrow: &ArrowSchema, nanoseconds: bool) -> Result<Schema> {
    let mut columns = Columns::default();
    let fields = arrow.fields().iter().map(|field| {
        let refused = |ty: &DataType| {
            Error::Unsupported(format!(
                "column {} has type {ty}, which Iceberg does not have: cast it to another",
                field.name()
            ))
        };
        let ty = Types(nanoseconds).of(field.data_type(), &mut columns);
        let ty = ty.map_err(|ty| refused(&ty))?;
        let id = columns.next_id();
        Ok(Arc::new(NestedField::optional(id, field.name(), ty)))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    let schema = Schema::builder().with_fields(fields).build();
    schema.map_err(|error| Error::Sql(error.message().to_owned()))
}

/// Whether nanoseconds are kept.
#[derive(Clone, Copy)]
struct Types(bool);

impl Types {
    /// The type, or the one that there is none for.
    fn of(self, ty: &DataType, columns: &mut Columns) -> Result<Type, DataType> {
        use PrimitiveType as P;
        let primitive = match ty {
            DataType::Boolean => P::Boolean,
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16 => P::Int,
            DataType::Int64 | DataType::UInt32 => P::Long,
            DataType::Float16 | DataType::Float32 => P::Float,
            DataType::Float64 => P::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => {
                let scale = u32::try_from(*scale).map_err(|_| ty.clone())?;
                let precision = u32::from(*precision);
                P::Decimal { precision, scale }
            }
            DataType::Date32 | DataType::Date64 => P::Date,
            DataType::Time32(_) | DataType::Time64(_) => P::Time,
            DataType::Timestamp(unit, zone) => {
                match (self.0 && *unit == TimeUnit::Nanosecond, zone) {
                    (true, None) => P::TimestampNs,
                    (true, Some(_)) => P::TimestamptzNs,
                    (false, None) => P::Timestamp,
                    (false, Some(_)) => P::Timestamptz,
                }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => P::String,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => P::Binary,
            DataType::FixedSizeBinary(length) => {
                P::Fixed(u64::try_from(*length).map_err(|_| ty.clone())?)
            }
            DataType::Dictionary(_, value) => return self.of(value, columns),
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::FixedSizeList(element, _) => {
                let inner = self.of(element.data_type(), columns)?;
                let element = NestedField::list_element(columns.next_id(), inner, false);
                return Ok(Type::List(ListType::new(Arc::new(element))));
            }
            DataType::Map(entries, _) => return self.map(ty, entries, columns),
            DataType::Struct(fields) => {
                let fields = fields.iter().map(|field| {
                    let inner = self.of(field.data_type(), columns)?;
                    let id = columns.next_id();
                    Ok(Arc::new(NestedField::optional(id, field.name(), inner)))
                });
                let fields = fields.collect::<Result<Vec<_>, DataType>>()?;
                return Ok(Type::Struct(StructType::new(fields)));
            }
            _ => return Err(ty.clone()),
        };
        Ok(Type::Primitive(primitive))
    }

    fn map(self, ty: &DataType, entries: &Field, columns: &mut Columns) -> Result<Type, DataType> {
        let DataType::Struct(parts) = entries.data_type() else {
            return Err(ty.clone());
        };
        let [key, value] = parts.as_ref() else {
            return Err(ty.clone());
        };
        let key = self.of(key.data_type(), columns)?;
        let value = self.of(value.data_type(), columns)?;
        let key = NestedField::map_key_element(columns.next_id(), key);
        let value = NestedField::map_value_element(columns.next_id(), value, false);
        Ok(Type::Map(MapType::new(Arc::new(key), Arc::new(value))))
    }
}
