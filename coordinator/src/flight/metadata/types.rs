//! The types that columns of tables can have, as JDBC and ODBC want them described.

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode,
};
use datafusion::error::DataFusionError;

use super::put_together;
use crate::columns::Size;
use crate::{Error, Result};

/// Digits of a decimal, at most.
const DECIMAL_DIGITS: u8 = 38;

static TYPES: LazyLock<std::result::Result<XdbcTypeInfoData, String>> = LazyLock::new(|| {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    all().into_iter().for_each(|info| builder.append(info));
    builder.build().map_err(|error| error.to_string())
});

fn types() -> Result<&'static XdbcTypeInfoData> {
    TYPES
        .as_ref()
        .map_err(|error| Error::Execution(DataFusionError::Internal(error.clone())))
}

/// The schema of [`type_info`].
pub(super) fn schema() -> Result<SchemaRef> {
    Ok(types()?.schema())
}

/// All types, or those of one number of JDBC and ODBC.
pub(super) fn type_info(query: CommandGetXdbcTypeInfo) -> Result<RecordBatch> {
    put_together(query.into_builder(types()?).build())
}

fn all() -> Vec<XdbcTypeInfo> {
    use DataType as D;
    use XdbcDataType as X;
    let (micros, nanos) = (TimeUnit::Microsecond, TimeUnit::Nanosecond);
    vec![
        described("boolean", X::XdbcBit, &D::Boolean),
        number("integer", X::XdbcInteger, &D::Int32),
        number("bigint", X::XdbcBigint, &D::Int64),
        number("real", X::XdbcReal, &D::Float32),
        number("double", X::XdbcDouble, &D::Float64),
        XdbcTypeInfo {
            create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
            minimum_scale: Some(0),
            maximum_scale: Some(DECIMAL_DIGITS.into()),
            ..number("decimal", X::XdbcDecimal, &D::Decimal128(DECIMAL_DIGITS, 0))
        },
        XdbcTypeInfo {
            literal_prefix: Some("'".to_owned()),
            literal_suffix: Some("'".to_owned()),
            case_sensitive: true,
            searchable: Searchable::Full,
            ..described("varchar", X::XdbcVarchar, &D::Utf8)
        },
        XdbcTypeInfo {
            literal_prefix: Some("X'".to_owned()),
            literal_suffix: Some("'".to_owned()),
            ..described("varbinary", X::XdbcVarbinary, &D::Binary)
        },
        datetime("date", "DATE", X::XdbcDate, &D::Date32),
        datetime("time(6)", "TIME", X::XdbcTime, &D::Time64(micros)),
        datetime(
            "timestamp(6)",
            "TIMESTAMP",
            X::XdbcTimestamp,
            &D::Timestamp(micros, None),
        ),
        zoned(
            "timestamp(6) with time zone",
            "TIMESTAMP WITH TIME ZONE",
            micros,
        ),
        datetime(
            "timestamp(9)",
            "TIMESTAMP(9)",
            X::XdbcTimestamp,
            &D::Timestamp(nanos, None),
        ),
        zoned(
            "timestamp(9) with time zone",
            "TIMESTAMP(9) WITH TIME ZONE",
            nanos,
        ),
        nested("array", Searchable::Basic, &["element type"]),
        nested("map", Searchable::None, &["key type", "value type"]),
        nested("row", Searchable::Basic, &["fields"]),
    ]
}

/// A type that can be compared with `=` and `<`, and is neither a number nor a text.
fn described(name: &str, data_type: XdbcDataType, arrow: &DataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        column_size: Size::of(arrow).precision,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Basic,
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, arrow: &DataType) -> XdbcTypeInfo {
    let scale = Size::of(arrow).scale;
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        minimum_scale: scale,
        maximum_scale: scale,
        num_prec_radix: Some(10),
        ..described(name, data_type, arrow)
    }
}

fn datetime(name: &str, word: &str, data_type: XdbcDataType, arrow: &DataType) -> XdbcTypeInfo {
    let scale = Size::of(arrow).scale;
    let subcode = match data_type {
        // ODBC's SQL_CODE_DATE has this number.
        XdbcDataType::XdbcDate => XdbcDatetimeSubcode::XdbcSubcodeYear,
        XdbcDataType::XdbcTime => XdbcDatetimeSubcode::XdbcSubcodeTime,
        _ => XdbcDatetimeSubcode::XdbcSubcodeTimestamp,
    };
    XdbcTypeInfo {
        literal_prefix: Some(format!("{word} '")),
        literal_suffix: Some("'".to_owned()),
        minimum_scale: scale,
        maximum_scale: scale,
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        ..described(name, data_type, arrow)
    }
}

fn zoned(name: &str, word: &str, unit: TimeUnit) -> XdbcTypeInfo {
    let arrow = DataType::Timestamp(unit, Some("UTC".into()));
    XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone),
        ..datetime(name, word, XdbcDataType::XdbcTimestamp, &arrow)
    }
}

fn nested(name: &str, searchable: Searchable, parameters: &[&str]) -> XdbcTypeInfo {
    let parameters = parameters.iter().map(|parameter| (*parameter).to_owned());
    XdbcTypeInfo {
        searchable,
        create_params: Some(parameters.collect()),
        ..described(name, XdbcDataType::XdbcUnknownType, &DataType::Null)
    }
}
