//! Dealing rows out by ranges of the order in which a table's files hold them
//! (`write.distribution-mode` = range).
//!
//! ```text
//! query -> SampleExec: some keys of each partition -> Ranges (borders), on the coordinator
//! query -> RangeExec: the range of each row -> exchange by range -> sort -> WriteExec
//! ```
//!
//! The query runs twice, the first time for the columns of the keys alone. Borders say who writes a
//! row and where a file ends, never what is written: a query that gives other rows the second time
//! is written right.

use iceberg::spec::{PrimitiveType, Schema, TableMetadata, Type};

mod borders;
mod exec;
mod keys;
mod sample;

pub use borders::Ranges;
pub use exec::RangeExec;
pub use sample::{SampleExec, SampleProvider};

/// Bytes of a text or another value of any length, where nothing is known of them.
const LONG_BYTES: f64 = 16.0;

/// How much smaller files are than their values, where nothing is known of them.
const PACKED: f64 = 0.5;

/// Bytes that a row of a table takes in its files: as it is now, or by the types of its columns.
pub fn row_bytes(metadata: &TableMetadata) -> f64 {
    let known = metadata.current_snapshot().and_then(|snapshot| {
        let figure = |name: &str| {
            let text = snapshot.summary().additional_properties.get(name);
            text.and_then(|text| text.parse::<f64>().ok())
        };
        Some((figure("total-files-size")?, figure("total-records")?))
    });
    match known {
        Some((bytes, rows)) if bytes > 0.0 && rows > 0.0 => bytes / rows,
        _ => PACKED * bytes_of_schema(metadata.current_schema()),
    }
}

fn bytes_of_schema(schema: &Schema) -> f64 {
    let fields = schema.as_struct().fields().iter();
    fields.map(|field| bytes_of(&field.field_type)).sum()
}

fn bytes_of(ty: &Type) -> f64 {
    match ty {
        Type::Primitive(PrimitiveType::Boolean) => 1.0,
        Type::Primitive(PrimitiveType::Int | PrimitiveType::Float | PrimitiveType::Date) => 4.0,
        Type::Primitive(
            PrimitiveType::String | PrimitiveType::Binary | PrimitiveType::Fixed(_),
        ) => LONG_BYTES,
        Type::Primitive(_) => 8.0,
        Type::Struct(fields) => {
            let fields = fields.fields().iter();
            fields.map(|field| bytes_of(&field.field_type)).sum()
        }
        Type::List(_) | Type::Map(_) => LONG_BYTES,
    }
}
