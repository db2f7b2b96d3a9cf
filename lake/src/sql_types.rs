//! SQL type names as Iceberg understands them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast;

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
