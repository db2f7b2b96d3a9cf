//! SQL type names as Iceberg understands them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast;

use crate::name::Quoted;
use crate::scan::schema::UTC;

/// Digits after the second that `TIMESTAMP` and `TIME` have in Iceberg.
const MICROSECOND_DIGITS: u64 = 6;

/// Gives `TIMESTAMP` and `TIME` microseconds, in casts, literals and column definitions.
///
/// DataFusion gives them nanoseconds: then `TIMESTAMP '9999-12-31 00:00:00'` is out of range, a
/// `TIME` literal cannot be compared with a column, and every timestamp column is cast before it is
/// compared. Set it with `SessionStateBuilder::with_type_planner`.
#[derive(Clone, Copy, Debug, Default)]
pub struct IcebergTypes;

impl TypePlanner for IcebergTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let micros = |digits: &Option<u64>| digits.is_none_or(|d| d == MICROSECOND_DIGITS);
        let data_type = match sql_type {
            ast::DataType::Timestamp(digits, zone) if micros(digits) => {
                let zone = match zone {
                    ast::TimezoneInfo::Tz | ast::TimezoneInfo::WithTimeZone => Some(UTC.into()),
                    ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone => None,
                };
                DataType::Timestamp(TimeUnit::Microsecond, zone)
            }
            ast::DataType::Time(
                digits,
                ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone,
            ) if micros(digits) => DataType::Time64(TimeUnit::Microsecond),
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

/// A type as SQL names it, for `DESCRIBE`: `varchar`, `decimal(15,2)`, `timestamp(6) with time zone`,
/// `array(bigint)`, `map(varchar, date)`, `row(a bigint, b varchar)`. The names are Trino's.
pub fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "unknown",
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::UInt8 => "tinyint unsigned",
        DataType::UInt16 => "smallint unsigned",
        DataType::UInt32 => "integer unsigned",
        DataType::UInt64 => "bigint unsigned",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "varbinary",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return format!("decimal({precision},{scale})"),
        DataType::Time32(unit) | DataType::Time64(unit) => {
            return format!("time({})", digits(*unit));
        }
        DataType::Timestamp(unit, None) => return format!("timestamp({})", digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => {
            return format!("timestamp({}) with time zone", digits(*unit));
        }
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => {
            return format!("array({})", type_name(element.data_type()));
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(parts) => {
                let parts: Vec<String> = parts.iter().map(|p| type_name(p.data_type())).collect();
                return format!("map({})", parts.join(", "));
            }
            _ => "map",
        },
        DataType::Struct(fields) => return row_name(fields),
        DataType::Dictionary(_, value) => return type_name(value),
        DataType::RunEndEncoded(_, values) => return type_name(values.data_type()),
        DataType::Union(..) => "union",
    };
    name.to_owned()
}

fn row_name(fields: &Fields) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|field| format!("{} {}", Quoted(field.name()), type_name(field.data_type())))
        .collect();
    format!("row({})", fields.join(", "))
}

/// Digits after the second.
fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_sql_names() {
        let field = |name: &str, ty: DataType| Arc::new(Field::new(name, ty, true));
        let micros =
            |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let entries = Fields::from(vec![
            field("key", DataType::Utf8),
            field("value", DataType::Date32),
        ]);
        let map = DataType::Map(field("key_value", DataType::Struct(entries)), false);
        let row = Fields::from(vec![
            field("a", DataType::List(field("element", DataType::Int64))),
            field("Odd Name", map),
        ]);
        for (ty, name) in [
            (DataType::Utf8View, "varchar"),
            (DataType::Int32, "integer"),
            (DataType::Decimal128(15, 2), "decimal(15,2)"),
            (micros(None), "timestamp(6)"),
            (micros(Some("UTC")), "timestamp(6) with time zone"),
            (DataType::Time64(TimeUnit::Microsecond), "time(6)"),
            (
                DataType::Struct(row),
                "row(a array(bigint), \"Odd Name\" map(varchar, date))",
            ),
        ] {
            assert_eq!(type_name(&ty), name);
        }
    }
}
