//! What the footer of a Parquet file says about it, as a manifest has it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DataType, FieldRef, Schema as ArrowSchema};
use datafusion::common::ScalarValue;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{Datum, NestedField, PrimitiveType, Schema, Type};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use crate::scan::mapping::FileField;

/// Characters or bytes of texts and binaries that bounds keep (Iceberg, "truncate(16)").
const BOUND_LENGTH: usize = 16;

/// The metrics of a file's columns, by field id.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub sizes: HashMap<i32, u64>,
    pub values: HashMap<i32, u64>,
    pub nulls: HashMap<i32, u64>,
    /// Whole values; see [`Metrics::cut`].
    pub lower: HashMap<i32, Datum>,
    pub upper: HashMap<i32, Datum>,
}

impl Metrics {
    /// Adds the metrics of a footer up over its row groups. `fields` are the columns with the ids
    /// that `ids` gives them.
    pub fn of(
        footer: &ParquetMetaData,
        file: &ArrowSchema,
        ids: &[FileField],
        schema: &Schema,
    ) -> Self {
        let mut found = Self::default();
        let mut leaves = Vec::new();
        for (field, ids) in file.fields().iter().zip(ids) {
            collect_leaves(field, ids, &mut leaves);
        }
        let mut unknown: Vec<i32> = Vec::new();
        for group in footer.row_groups() {
            for (column, id) in group.columns().iter().zip(&leaves) {
                let Some(id) = *id else { continue };
                let bytes = u64::try_from(column.compressed_size()).unwrap_or_default();
                let values = u64::try_from(column.num_values()).unwrap_or_default();
                *found.sizes.entry(id).or_default() += bytes;
                *found.values.entry(id).or_default() += values;
                match column.statistics().and_then(|s| s.null_count_opt()) {
                    Some(nulls) => *found.nulls.entry(id).or_default() += nulls,
                    None => unknown.push(id),
                }
            }
        }
        for id in unknown {
            found.nulls.remove(&id);
        }
        found.add_bounds(footer, file, ids, schema);
        found
    }

    /// Bounds of columns at top level; those of nested ones are left out, as they may be.
    fn add_bounds(
        &mut self,
        footer: &ParquetMetaData,
        file: &ArrowSchema,
        ids: &[FileField],
        schema: &Schema,
    ) {
        let Ok(arrow) = schema_to_arrow_schema(schema) else {
            return;
        };
        for (field, ids) in file.fields().iter().zip(ids) {
            let column = ids.id.and_then(|id| {
                let columns = schema.as_struct().fields().iter().zip(arrow.fields());
                columns.into_iter().find(|(column, _)| column.id == id)
            });
            let Some((column, target)) = column else {
                continue;
            };
            let Some((lower, upper)) = bounds(footer, file, field, column, target.data_type())
            else {
                continue;
            };
            self.lower.insert(column.id, lower);
            self.upper.insert(column.id, upper);
        }
    }

    /// Cuts long bounds.
    pub fn cut(&mut self) {
        for lower in self.lower.values_mut() {
            if let Some(shorter) = cut(lower, false) {
                *lower = shorter;
            }
        }
        self.upper.retain(|_, upper| match is_long(upper) {
            false => true,
            true => match cut(upper, true) {
                Some(shorter) => {
                    *upper = shorter;
                    true
                }
                None => false,
            },
        });
    }
}

/// The field ids of the leaves of a column, in the order in which Parquet has them.
fn collect_leaves(field: &FieldRef, ids: &FileField, leaves: &mut Vec<Option<i32>>) {
    let children: Vec<&FieldRef> = match field.data_type() {
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => vec![element],
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().collect(),
            _ => vec![],
        },
        _ => {
            leaves.push(ids.id);
            return;
        }
    };
    for (at, child) in children.into_iter().enumerate() {
        let none = FileField {
            id: None,
            children: vec![],
        };
        collect_leaves(child, ids.children.get(at).unwrap_or(&none), leaves);
    }
}

/// The smallest and the largest value of a column, where every row group that has values knows
/// them exactly.
fn bounds(
    footer: &ParquetMetaData,
    file: &ArrowSchema,
    field: &FieldRef,
    column: &NestedField,
    target: &DataType,
) -> Option<(Datum, Datum)> {
    let Type::Primitive(ty) = column.field_type.as_ref() else {
        return None;
    };
    let descriptor = footer.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(field.name(), file, descriptor).ok()?;
    let groups = || footer.row_groups().iter();
    let nulls = converter.row_group_null_counts(groups()).ok()?;
    let mins = converter.row_group_mins(groups()).ok()?;
    let maxes = converter.row_group_maxes(groups()).ok()?;
    let min_exact = converter.row_group_is_min_value_exact(groups()).ok()?;
    let max_exact = converter.row_group_is_max_value_exact(groups()).ok()?;
    let (mut lower, mut upper): (Option<ScalarValue>, Option<ScalarValue>) = (None, None);
    for (at, group) in groups().enumerate() {
        let rows = u64::try_from(group.num_rows()).unwrap_or_default();
        if nulls.is_valid(at) && nulls.value(at) == rows {
            continue;
        }
        let inexact = |exact: &arrow::array::BooleanArray| exact.is_valid(at) && !exact.value(at);
        if mins.is_null(at) || maxes.is_null(at) || inexact(&min_exact) || inexact(&max_exact) {
            return None;
        }
        let min = ScalarValue::try_from_array(&mins, at).ok()?;
        let max = ScalarValue::try_from_array(&maxes, at).ok()?;
        lower = Some(match lower {
            Some(before) if before <= min => before,
            _ => min,
        });
        upper = Some(match upper {
            Some(before) if before >= max => before,
            _ => max,
        });
    }
    Some((
        datum(&lower?.cast_to(target).ok()?, ty)?,
        datum(&upper?.cast_to(target).ok()?, ty)?,
    ))
}

/// A value as Iceberg's.
pub(super) fn datum(value: &ScalarValue, ty: &PrimitiveType) -> Option<Datum> {
    use PrimitiveType as P;
    use ScalarValue as S;
    Some(match (ty, value) {
        (P::Boolean, S::Boolean(Some(value))) => Datum::bool(*value),
        (P::Int, S::Int32(Some(value))) => Datum::int(*value),
        (P::Long, S::Int64(Some(value))) => Datum::long(*value),
        (P::Float, S::Float32(Some(value))) => Datum::float(*value),
        (P::Double, S::Float64(Some(value))) => Datum::double(*value),
        (P::Date, S::Date32(Some(value))) => Datum::date(*value),
        (P::Time, S::Time64Microsecond(Some(value))) => Datum::time_micros(*value).ok()?,
        (P::Timestamp, S::TimestampMicrosecond(Some(value), _)) => Datum::timestamp_micros(*value),
        (P::Timestamptz, S::TimestampMicrosecond(Some(value), _)) => {
            Datum::timestamptz_micros(*value)
        }
        (P::TimestampNs, S::TimestampNanosecond(Some(value), _)) => Datum::timestamp_nanos(*value),
        (P::TimestamptzNs, S::TimestampNanosecond(Some(value), _)) => {
            Datum::timestamptz_nanos(*value)
        }
        (P::Decimal { .. }, S::Decimal128(Some(value), ..)) => {
            // As the specification serializes it: big-endian two's complement, of least length.
            Datum::try_from_bytes(&least_bytes(*value), ty.clone()).ok()?
        }
        (
            P::String,
            S::Utf8(Some(value)) | S::LargeUtf8(Some(value)) | S::Utf8View(Some(value)),
        ) => Datum::string(value),
        (
            P::Binary,
            S::Binary(Some(value)) | S::LargeBinary(Some(value)) | S::BinaryView(Some(value)),
        ) => Datum::binary(value.iter().copied()),
        (P::Fixed(_), S::FixedSizeBinary(_, Some(value))) => Datum::fixed(value.iter().copied()),
        (P::Uuid, S::FixedSizeBinary(16, Some(value))) => {
            Datum::uuid(uuid::Uuid::from_slice(value).ok()?)
        }
        _ => return None,
    })
}

fn least_bytes(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let mut from = 0;
    while from + 1 < bytes.len() && bytes[from] == sign && (bytes[from + 1] & 0x80) == (sign & 0x80)
    {
        from += 1;
    }
    bytes.get(from..).unwrap_or_default().to_vec()
}

fn is_long(value: &Datum) -> bool {
    use iceberg::spec::PrimitiveLiteral as L;
    match value.literal() {
        L::String(text) => text.chars().nth(BOUND_LENGTH).is_some(),
        L::Binary(bytes) => {
            matches!(value.data_type(), PrimitiveType::Binary) && bytes.len() > BOUND_LENGTH
        }
        _ => false,
    }
}

/// A shorter bound; none when it is short, or when there is no shorter one above it.
fn cut(value: &Datum, up: bool) -> Option<Datum> {
    use iceberg::spec::PrimitiveLiteral as L;
    if !is_long(value) {
        return None;
    }
    match value.literal() {
        L::String(text) => {
            let mut kept: Vec<char> = text.chars().take(BOUND_LENGTH).collect();
            if up {
                let next = std::iter::from_fn(|| kept.pop()).find_map(next_char)?;
                kept.push(next);
            }
            Some(Datum::string(kept.into_iter().collect::<String>()))
        }
        L::Binary(bytes) => {
            let mut kept: Vec<u8> = bytes.iter().take(BOUND_LENGTH).copied().collect();
            if up {
                let next =
                    std::iter::from_fn(|| kept.pop()).find_map(|last| last.checked_add(1))?;
                kept.push(next);
            }
            Some(Datum::binary(kept))
        }
        _ => None,
    }
}

/// The character after another; surrogates are none.
fn next_char(last: char) -> Option<char> {
    (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32)
}

/// Where the row groups of a file begin.
pub(super) fn split_offsets(footer: &ParquetMetaData) -> Vec<i64> {
    let groups = footer.row_groups().iter();
    let offsets = groups.filter_map(|group| {
        let first = group.columns().first()?;
        let dictionary = first.dictionary_page_offset().filter(|offset| *offset > 0);
        let data = first.data_page_offset();
        Some(dictionary.map_or(data, |offset| offset.min(data)))
    });
    let mut offsets: Vec<i64> = offsets.collect();
    offsets.sort_unstable();
    offsets
}

/// The schema of a file, without what its writer says about Arrow.
pub(super) fn arrow_schema(footer: &ParquetMetaData) -> parquet::errors::Result<Arc<ArrowSchema>> {
    let descriptor = footer.file_metadata().schema_descr();
    parquet::arrow::parquet_to_arrow_schema(descriptor, None).map(Arc::new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn decimals_have_no_byte_too_many() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![0, 128]),
            (-1, vec![255]),
            (-128, vec![128]),
            (-129, vec![255, 127]),
        ] {
            assert_eq!(least_bytes(value), bytes, "{value}");
        }
    }

    #[test]
    fn long_bounds_are_cut_outwards() {
        let text = "a".repeat(15);
        let cases = [
            (format!("{text}zz"), Some(format!("{text}{{"))),
            (
                format!("{text}\u{10ffff}x"),
                Some(format!("{}b", "a".repeat(14))),
            ),
            ("\u{10ffff}".repeat(17), None),
            (text.clone(), None),
        ];
        for (long, short) in cases {
            let shorter = cut(&Datum::string(&long), true);
            assert_eq!(shorter, short.map(Datum::string), "{long}");
        }
        let lower = cut(&Datum::string(format!("{text}zz")), false);
        assert_eq!(lower, Some(Datum::string(format!("{text}z"))));
    }
}
