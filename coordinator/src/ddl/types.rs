//! SQL types as Iceberg has them.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType, ExactNumberInfo, TimezoneInfo};
use iceberg::spec::{ListType, NestedField, PrimitiveType, Type};

use super::folded;
use super::nested::{STAND_IN, stood_for};
use crate::{Error, Result};

/// What is known of the columns read so far.
#[derive(Debug, Default)]
pub struct Columns {
    /// Field ids given. The catalog gives them anew; until then they only have to differ.
    ids: i32,
    /// A type that only format version 3 has.
    pub of_version_3: Option<String>,
}

impl Columns {
    /// A field id that none has yet.
    pub fn next_id(&mut self) -> i32 {
        self.ids += 1;
        self.ids
    }
}

/// The Iceberg type that a column of this SQL type gets.
///
/// # Errors
/// [`Error::Unsupported`] for a type that Iceberg does not have; it names one to use instead where
/// there is one.
pub fn iceberg_type(ty: &DataType, columns: &mut Columns) -> Result<Type> {
    use PrimitiveType as P;
    let primitive = match ty {
        DataType::Boolean | DataType::Bool => P::Boolean,
        // The next wider one that Iceberg has, as with Spark.
        DataType::TinyInt(_)
        | DataType::SmallInt(_)
        | DataType::Int2(_)
        | DataType::Int(_)
        | DataType::Integer(_)
        | DataType::Int4(_) => P::Int,
        DataType::BigInt(_) | DataType::Int8(_) => P::Long,
        DataType::Real | DataType::Float4 => P::Float,
        DataType::Float(info) => float(info),
        DataType::Double(_) | DataType::DoublePrecision | DataType::Float8 => P::Double,
        DataType::Decimal(info) | DataType::Numeric(info) | DataType::Dec(info) => decimal(info)?,
        DataType::Date => P::Date,
        DataType::Time(None | Some(6), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            P::Time
        }
        DataType::Timestamp(digits, zone) => timestamp(ty, *digits, zone)?,
        // Iceberg knows no lengths; Trino and Spark leave them out too.
        DataType::Varchar(_) | DataType::Text | DataType::String(None) => P::String,
        DataType::Uuid => P::Uuid,
        DataType::TimestampNtz(digits) => timestamp(ty, *digits, &TimezoneInfo::None)?,
        DataType::Binary(Some(length)) => fixed(ty, &length.to_string())?,
        DataType::Varbinary(None)
        | DataType::Binary(None)
        | DataType::Blob(None)
        | DataType::Bytea => P::Binary,
        DataType::Custom(name, arguments) => match (folded(name)?.as_slice(), arguments.as_slice())
        {
            ([name], [text]) if name == STAND_IN => return stood_for(text, columns),
            (name, arguments) => custom(ty, name, arguments)?,
        },
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => {
            return list(element, columns);
        }
        _ => return refused(ty),
    };
    if matches!(primitive, P::TimestampNs | P::TimestamptzNs) {
        columns.of_version_3 = Some(ty.to_string());
    }
    Ok(Type::Primitive(primitive))
}

fn refused<T>(ty: &DataType) -> Result<T> {
    Err(Error::Unsupported(format!(
        "Iceberg has no type {ty} for a column"
    )))
}

fn instead<T>(ty: &DataType, other: &str) -> Result<T> {
    Err(Error::Unsupported(format!(
        "Iceberg has no type {ty} for a column; use {other}"
    )))
}

fn float(info: &ExactNumberInfo) -> PrimitiveType {
    // SQL: FLOAT(n) has at least n binary digits; a single has 24.
    match info {
        ExactNumberInfo::Precision(digits) if *digits > 24 => PrimitiveType::Double,
        _ => PrimitiveType::Float,
    }
}

fn decimal(info: &ExactNumberInfo) -> Result<PrimitiveType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (38, 0),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let scale = u32::try_from(scale).ok();
    match (u32::try_from(precision), scale) {
        (Ok(precision @ 1..=38), Some(scale)) if scale <= precision => {
            Ok(PrimitiveType::Decimal { precision, scale })
        }
        _ => Err(Error::Sql(
            "a decimal has 1 to 38 digits, and no more behind the point than in all".to_owned(),
        )),
    }
}

fn timestamp(ty: &DataType, digits: Option<u64>, zone: &TimezoneInfo) -> Result<PrimitiveType> {
    let zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
    Ok(match (digits, zoned) {
        (None | Some(6), false) => PrimitiveType::Timestamp,
        (None | Some(6), true) => PrimitiveType::Timestamptz,
        (Some(9), false) => PrimitiveType::TimestampNs,
        (Some(9), true) => PrimitiveType::TimestamptzNs,
        _ => return instead(ty, "timestamp(6) or timestamp(9)"),
    })
}

fn custom(ty: &DataType, name: &[String], arguments: &[String]) -> Result<PrimitiveType> {
    match (name, arguments) {
        ([name], [length]) if name == "fixed" => fixed(ty, length),
        ([name], []) => match name.as_str() {
            "long" => Ok(PrimitiveType::Long),
            "string" => Ok(PrimitiveType::String),
            // Spark's words, and the specification's.
            "timestamp_ntz" => Ok(PrimitiveType::Timestamp),
            "timestamptz" | "timestamp_ltz" => Ok(PrimitiveType::Timestamptz),
            "timestamp_ns" => Ok(PrimitiveType::TimestampNs),
            "timestamptz_ns" => Ok(PrimitiveType::TimestamptzNs),
            "byte" | "short" | "integer" => Ok(PrimitiveType::Int),
            _ => refused(ty),
        },
        _ => refused(ty),
    }
}

fn fixed(ty: &DataType, length: &str) -> Result<PrimitiveType> {
    match length.parse::<u64>() {
        Ok(length @ 1..=0x7fff_ffff) => Ok(PrimitiveType::Fixed(length)),
        _ => Err(Error::Sql(format!(
            "{ty} has no length that is a number of bytes"
        ))),
    }
}

fn list(element: &DataType, columns: &mut Columns) -> Result<Type> {
    let id = columns.next_id();
    let element = NestedField::list_element(id, iceberg_type(element, columns)?, false);
    Ok(Type::List(ListType::new(Arc::new(element))))
}
