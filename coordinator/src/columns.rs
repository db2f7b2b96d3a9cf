//! What clients are told of a column beside its Arrow type: Flight SQL's column metadata.

use std::collections::HashMap;

use arrow::datatypes::{DataType, TimeUnit};
use inshore_lake::TableName;
use inshore_lake::sql_types::type_name;

/// The largest length of a text or of bytes in one value.
const VALUE_LENGTH_MAX: i32 = i32::MAX;

/// How large the values of a type can get, as JDBC and ODBC count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Decimal digits of a number, characters of a date or time as text, or the length of a text or
    /// of bytes.
    pub(crate) precision: Option<i32>,
    /// Digits after the point, or after the second.
    pub(crate) scale: Option<i32>,
}

impl Size {
    /// The size of a type; nothing of a nested one.
    pub(crate) fn of(data_type: &DataType) -> Self {
        let (precision, scale) = match data_type {
            DataType::Boolean => (1, None),
            DataType::Int8 | DataType::UInt8 => (3, Some(0)),
            DataType::Int16 | DataType::UInt16 => (5, Some(0)),
            DataType::Int32 | DataType::UInt32 => (10, Some(0)),
            DataType::Int64 => (19, Some(0)),
            DataType::UInt64 => (20, Some(0)),
            DataType::Float16 | DataType::Float32 => (7, None),
            DataType::Float64 => (15, None),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                (i32::from(*precision), Some((*scale).into()))
            }
            // 2000-01-01
            DataType::Date32 | DataType::Date64 => (10, None),
            // 00:00:00.000000
            DataType::Time32(unit) | DataType::Time64(unit) => with_fraction(8, *unit),
            DataType::Timestamp(unit, None) => with_fraction(19, *unit),
            // ... +00:00
            DataType::Timestamp(unit, Some(_)) => with_fraction(25, *unit),
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView => (VALUE_LENGTH_MAX, None),
            DataType::FixedSizeBinary(length) => (*length, None),
            DataType::Dictionary(_, values) => return Self::of(values),
            DataType::RunEndEncoded(_, values) => return Self::of(values.data_type()),
            _ => return Self::default(),
        };
        Self {
            precision: Some(precision),
            scale,
        }
    }
}

fn with_fraction(whole: i32, unit: TimeUnit) -> (i32, Option<i32>) {
    let digits = match unit {
        TimeUnit::Second => return (whole, Some(0)),
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    (whole + 1 + digits, Some(digits))
}

/// What the client of a result is told of a column of this type. Where the column comes from is
/// not, since a computed one comes from nowhere.
pub(crate) fn of_result(data_type: &DataType) -> HashMap<String, String> {
    let size = Size::of(data_type);
    let is_text = matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let told = [
        ("TYPE_NAME", Some(type_name(data_type))),
        ("PRECISION", size.precision.map(|digits| digits.to_string())),
        ("SCALE", size.scale.map(|digits| digits.to_string())),
        ("IS_AUTO_INCREMENT", Some(flag(false))),
        ("IS_CASE_SENSITIVE", Some(flag(is_text))),
        ("IS_SEARCHABLE", Some(flag(true))),
    ];
    let told = told.into_iter();
    told.filter_map(|(key, value)| Some((full(key), value?)))
        .collect()
}

/// What a client is told of a column of a table, beside [`of_result`].
pub(crate) fn of_table(
    table: &TableName,
    is_writable: bool,
    comment: Option<&str>,
) -> HashMap<String, String> {
    let mut told = HashMap::from([
        (full("CATALOG_NAME"), table.catalog.clone()),
        (full("SCHEMA_NAME"), table.namespace.clone()),
        (full("TABLE_NAME"), table.table.clone()),
        (full("IS_READ_ONLY"), flag(!is_writable)),
    ]);
    if let Some(comment) = comment {
        told.insert(full("REMARKS"), comment.to_owned());
    }
    told
}

fn full(key: &str) -> String {
    format!("ARROW:FLIGHT:SQL:{key}")
}

fn flag(is: bool) -> String {
    match is {
        true => "1",
        false => "0",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_text() {
        let micros = TimeUnit::Microsecond;
        for (data_type, text, scale) in [
            (DataType::Date32, "2000-01-01", None),
            (DataType::Time64(micros), "00:00:00.000000", Some(6)),
            (
                DataType::Timestamp(micros, None),
                "2000-01-01 00:00:00.000000",
                Some(6),
            ),
            (
                DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
                "2000-01-01 00:00:00.000000000+00:00",
                Some(9),
            ),
            (
                DataType::Timestamp(TimeUnit::Second, None),
                "2000-01-01 00:00:00",
                Some(0),
            ),
        ] {
            let precision = i32::try_from(text.len()).ok();
            assert_eq!(Size::of(&data_type), Size { precision, scale }, "{text}");
        }
    }

    #[test]
    fn a_column_of_a_result_is_described() {
        let told = of_result(&DataType::Decimal128(12, 2));
        let get = |key: &str| told.get(&full(key)).map(String::as_str);
        assert_eq!(get("TYPE_NAME"), Some("decimal(12,2)"));
        assert_eq!(get("PRECISION"), Some("12"));
        assert_eq!(get("SCALE"), Some("2"));
        assert_eq!(get("IS_CASE_SENSITIVE"), Some("0"));
        let nested = DataType::List(std::sync::Arc::new(arrow::datatypes::Field::new(
            "element",
            DataType::Int64,
            true,
        )));
        let told = of_result(&nested);
        assert_eq!(
            told.get(&full("TYPE_NAME")).map(String::as_str),
            Some("array(bigint)")
        );
        assert!(!told.contains_key(&full("PRECISION")));
    }
}
