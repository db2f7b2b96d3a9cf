//! Values as text, the same on every topology: NULL as `NULL`, an empty string as `(empty)`, floats
//! with 12 significant digits (sums of floats depend on the order of their rows beyond that).

use arrow::array::AsArray;
use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sqllogictest::{DBOutput, DefaultColumnType};

/// Significant digits of floats.
const FLOAT_DIGITS: usize = 12;

/// The answer to a statement.
pub(crate) fn output(batches: &[RecordBatch]) -> Result<DBOutput<DefaultColumnType>, ArrowError> {
    let Some(first) = batches.first().filter(|batch| batch.num_columns() > 0) else {
        return Ok(DBOutput::StatementComplete(0));
    };
    let types = first
        .schema()
        .fields()
        .iter()
        .map(|field| column_type(field.data_type()))
        .collect();
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| column_text(column.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| {
            columns
                .iter()
                .map(|column| column[row].clone())
                .collect::<Vec<String>>()
        }));
    }
    Ok(DBOutput::Rows { types, rows })
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        t if t.is_integer() => DefaultColumnType::Integer,
        t if t.is_numeric() => DefaultColumnType::FloatingPoint,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    }
}

fn column_text(column: &dyn Array) -> Result<Vec<String>, ArrowError> {
    if column.data_type().is_floating() {
        let floats = cast(column, &DataType::Float64)?;
        return Ok(floats
            .as_primitive::<Float64Type>()
            .iter()
            .map(|value| value.map_or_else(|| "NULL".to_owned(), float_text))
            .collect());
    }
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column, &options)?;
    (0..column.len())
        .map(|row| {
            let text = formatter.value(row).try_to_string()?;
            Ok(match text.is_empty() {
                true => "(empty)".to_owned(),
                false => text.replace('\n', "\\n"),
            })
        })
        .collect()
}

fn float_text(value: f64) -> String {
    if value == 0.0 {
        // Minus zero equals zero.
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let rounded: f64 = format!("{value:.*e}", FLOAT_DIGITS - 1)
        .parse()
        .unwrap_or(value);
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_cut_to_twelve_digits() {
        assert_eq!(float_text(0.1 + 0.2), "0.3");
        assert_eq!(float_text(-0.0), "0");
        assert_eq!(float_text(f64::NAN), "NaN");
        assert_eq!(float_text(1.0e300), format!("{}", 1.0e300));
    }
}
