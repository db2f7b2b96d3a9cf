//! Iceberg values as Arrow scalars, and the range of source values behind a partition value.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit};
use datafusion::common::ScalarValue;
use iceberg::spec::{PrimitiveLiteral, PrimitiveType, Transform, Type};
use uuid::Uuid;

use crate::manifest::bounds::{Side, widened_f32, widened_f64};
use crate::scan::schema::{UTC, primitive_type};

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const HOURS_PER_DAY: i64 = 24;

/// Converts a value of Iceberg type `ty` to an Arrow scalar of type `target`, where `target` is the
/// type itself or one it may be promoted to. `None` when the value does not fit the type.
pub fn literal_to_scalar(
    literal: &PrimitiveLiteral,
    ty: &Type,
    target: &DataType,
) -> Option<ScalarValue> {
    let Type::Primitive(primitive) = ty else {
        return None;
    };
    let scalar = primitive_to_scalar(literal, primitive)?;
    if &scalar.data_type() == target {
        return Some(scalar);
    }
    scalar.cast_to(target).ok()
}

/// Converts a value to the Arrow type that [`primitive_type`] gives at top level.
pub fn primitive_to_scalar(literal: &PrimitiveLiteral, ty: &PrimitiveType) -> Option<ScalarValue> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let utc = || Some(Arc::from(UTC));
    Some(match (ty, literal) {
        (T::Boolean, L::Boolean(v)) => ScalarValue::Boolean(Some(*v)),
        (T::Int, L::Int(v)) => ScalarValue::Int32(Some(*v)),
        (T::Long, L::Long(v)) => ScalarValue::Int64(Some(*v)),
        (T::Long, L::Int(v)) => ScalarValue::Int64(Some(i64::from(*v))),
        (T::Float, L::Float(v)) => ScalarValue::Float32(Some(v.0)),
        (T::Double, L::Double(v)) => ScalarValue::Float64(Some(v.0)),
        (T::Double, L::Float(v)) => ScalarValue::Float64(Some(f64::from(v.0))),
        (T::Decimal { precision, scale }, L::Int128(v)) => {
            let (precision, scale) = (u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?);
            ScalarValue::Decimal128(Some(*v), precision, scale)
        }
        (T::Date, L::Int(v)) => ScalarValue::Date32(Some(*v)),
        (T::Time, L::Long(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (T::Timestamp, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), None),
        (T::Timestamptz, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), utc()),
        (T::TimestampNs, L::Long(v)) => ScalarValue::TimestampNanosecond(Some(*v), None),
        (T::TimestamptzNs, L::Long(v)) => ScalarValue::TimestampNanosecond(Some(*v), utc()),
        (T::String, L::String(v)) => ScalarValue::Utf8View(Some(v.clone())),
        (T::Uuid, L::UInt128(v)) => {
            ScalarValue::Utf8View(Some(Uuid::from_u128(*v).hyphenated().to_string()))
        }
        (T::Fixed(length), L::Binary(v)) if v.len() as u64 == *length => {
            match primitive_type(ty, true) {
                DataType::FixedSizeBinary(n) => ScalarValue::FixedSizeBinary(n, Some(v.clone())),
                _ => ScalarValue::BinaryView(Some(v.clone())),
            }
        }
        (T::Binary, L::Binary(v)) => ScalarValue::BinaryView(Some(v.clone())),
        _ => return None,
    })
}

/// The smallest and the largest source value that a partition value can stand for; `None` where
/// nothing is known. Both ends are inclusive and may be wider than the truth, never narrower.
pub fn source_range(
    transform: Transform,
    partition_value: &PrimitiveLiteral,
    partition_type: &PrimitiveType,
    source_type: &DataType,
) -> (Option<ScalarValue>, Option<ScalarValue>) {
    match transform {
        Transform::Identity => {
            let value = primitive_to_scalar(partition_value, partition_type);
            (
                value
                    .as_ref()
                    .and_then(|v| bound(v, source_type, Side::Lower)),
                value
                    .as_ref()
                    .and_then(|v| bound(v, source_type, Side::Upper)),
            )
        }
        Transform::Truncate(width) => truncated_range(width, partition_value, source_type),
        Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
            let ordinal = match partition_value {
                PrimitiveLiteral::Int(v) => i64::from(*v),
                _ => return (None, None),
            };
            time_range(transform, ordinal, source_type)
        }
        Transform::Bucket(_) | Transform::Void | Transform::Unknown => (None, None),
    }
}

/// A value as a bound of a column: cast to its type, zero widened (see [`Side`]), NaN dropped.
fn bound(value: &ScalarValue, target: &DataType, side: Side) -> Option<ScalarValue> {
    Some(match cast_bound(value, target)? {
        ScalarValue::Float32(Some(v)) => ScalarValue::Float32(Some(widened_f32(v, side)?)),
        ScalarValue::Float64(Some(v)) => ScalarValue::Float64(Some(widened_f64(v, side)?)),
        other => other,
    })
}

/// The same for an array of values; `None` when the column cannot have had their type.
pub fn bound_array(array: &ArrayRef, target: &DataType, side: Side) -> Option<ArrayRef> {
    let from = array.data_type();
    let cast = if from == target {
        Arc::clone(array)
    } else if promotes(from, target) {
        cast_with_options(array, target, &CastOptions::default()).ok()?
    } else {
        return None;
    };
    Some(match target {
        DataType::Float32 => {
            let values = cast.as_primitive::<Float32Type>();
            Arc::new(values.unary_opt::<_, Float32Type>(|v| widened_f32(v, side)))
        }
        DataType::Float64 => {
            let values = cast.as_primitive::<Float64Type>();
            Arc::new(values.unary_opt::<_, Float64Type>(|v| widened_f64(v, side)))
        }
        _ => cast,
    })
}

/// Builds an array of `data_type`; `None` when no value is known.
pub fn scalars_to_array(
    values: impl Iterator<Item = Option<ScalarValue>>,
    data_type: &DataType,
) -> Option<ArrayRef> {
    let null = ScalarValue::try_from(data_type).ok()?;
    let mut known = false;
    let scalars: Vec<ScalarValue> = values
        .map(|value| match value {
            Some(value) if &value.data_type() == data_type => {
                known = true;
                value
            }
            _ => null.clone(),
        })
        .collect();
    if !known {
        return None;
    }
    ScalarValue::iter_to_array(scalars).ok()
}

fn cast_bound(value: &ScalarValue, target: &DataType) -> Option<ScalarValue> {
    let from = value.data_type();
    if &from == target {
        return Some(value.clone());
    }
    promotes(&from, target)
        .then(|| value.cast_to(target).ok())
        .flatten()
}

/// Whether Iceberg lets a column of Arrow type `from` become one of type `to`, order being kept.
pub fn promotes(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Int32, DataType::Int64) | (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)) => s1 == s2 && p1 <= p2,
        (DataType::Date32, DataType::Timestamp(_, None)) => true,
        _ => from == to,
    }
}

fn truncated_range(
    width: u32,
    value: &PrimitiveLiteral,
    source_type: &DataType,
) -> (Option<ScalarValue>, Option<ScalarValue>) {
    let width_minus_one = i128::from(width).saturating_sub(1);
    match (value, source_type) {
        (PrimitiveLiteral::Int(v), DataType::Int32) => (
            Some(ScalarValue::Int32(Some(*v))),
            Some(ScalarValue::Int32(Some(v.saturating_add(
                i32::try_from(width_minus_one).unwrap_or(i32::MAX),
            )))),
        ),
        (PrimitiveLiteral::Int(_) | PrimitiveLiteral::Long(_), DataType::Int64) => {
            let v = match value {
                PrimitiveLiteral::Int(v) => i64::from(*v),
                PrimitiveLiteral::Long(v) => *v,
                _ => return (None, None),
            };
            (
                Some(ScalarValue::Int64(Some(v))),
                Some(ScalarValue::Int64(Some(
                    v.saturating_add(i64::from(width).saturating_sub(1)),
                ))),
            )
        }
        (PrimitiveLiteral::Int128(v), DataType::Decimal128(precision, scale)) => (
            Some(ScalarValue::Decimal128(Some(*v), *precision, *scale)),
            Some(ScalarValue::Decimal128(
                Some(v.saturating_add(width_minus_one)),
                *precision,
                *scale,
            )),
        ),
        (PrimitiveLiteral::String(v), DataType::Utf8View) => {
            // Fewer characters than the width: nothing was cut off.
            let upper = if v.chars().count() < width as usize {
                Some(v.clone())
            } else {
                next_string(v)
            };
            (
                Some(ScalarValue::Utf8View(Some(v.clone()))),
                upper.map(|v| ScalarValue::Utf8View(Some(v))),
            )
        }
        (PrimitiveLiteral::Binary(v), DataType::BinaryView) => {
            let upper = if v.len() < width as usize {
                Some(v.clone())
            } else {
                next_bytes(v)
            };
            (
                Some(ScalarValue::BinaryView(Some(v.clone()))),
                upper.map(|v| ScalarValue::BinaryView(Some(v))),
            )
        }
        _ => (None, None),
    }
}

/// A string that is greater than every string starting with `prefix`.
fn next_string(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            // Code points D800 to DFFF are no characters.
            '\u{D7FF}' => Some('\u{E000}'),
            other => char::from_u32(other as u32 + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn next_bytes(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

/// First and last instant of a year, month, day or hour counted from 1970.
fn time_range(
    transform: Transform,
    ordinal: i64,
    source_type: &DataType,
) -> (Option<ScalarValue>, Option<ScalarValue>) {
    let first = period_start_hours(transform, ordinal);
    let after = ordinal
        .checked_add(1)
        .and_then(|next| period_start_hours(transform, next));
    // Writers before Iceberg 0.12 rounded negative ordinals towards zero, which puts values of the
    // period before into this one (https://iceberg.apache.org/spec, Avro and transform notes).
    let first = if ordinal <= 0 {
        ordinal
            .checked_sub(1)
            .and_then(|previous| period_start_hours(transform, previous))
    } else {
        first
    };
    let low = first.and_then(|hours| hours_to_scalar(hours, false, source_type));
    let high = after.and_then(|hours| hours_to_scalar(hours, true, source_type));
    (low, high)
}

/// Hours from the epoch to the start of a period.
fn period_start_hours(transform: Transform, ordinal: i64) -> Option<i64> {
    let days = match transform {
        Transform::Hour => return Some(ordinal),
        Transform::Day => ordinal,
        Transform::Month => days_to_month(ordinal)?,
        Transform::Year => days_to_month(ordinal.checked_mul(12)?)?,
        _ => return None,
    };
    days.checked_mul(HOURS_PER_DAY)
}

/// Days from the epoch to the first of a month, by the proleptic Gregorian calendar.
fn days_to_month(months: i64) -> Option<i64> {
    let year = i32::try_from(1970_i64.checked_add(months.div_euclid(12))?).ok()?;
    let month = u32::try_from(months.rem_euclid(12)).ok()? + 1;
    let first = chrono::NaiveDate::from_ymd_opt(year, month, 1)?;
    let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1)?;
    Some(first.signed_duration_since(epoch).num_days())
}

/// An instant as a value of the source column; `before` gives the last value before it.
fn hours_to_scalar(hours: i64, before: bool, source_type: &DataType) -> Option<ScalarValue> {
    let step = i64::from(before);
    match source_type {
        DataType::Date32 => {
            let days = hours.div_euclid(HOURS_PER_DAY) - step;
            Some(ScalarValue::Date32(Some(i32::try_from(days).ok()?)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Some(ScalarValue::TimestampMicrosecond(
                Some(hours.checked_mul(MICROS_PER_HOUR)? - step),
                zone.clone(),
            ))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => Some(ScalarValue::TimestampNanosecond(
            Some(hours.checked_mul(MICROS_PER_HOUR)?.checked_mul(1000)? - step),
            zone.clone(),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn micros(scalar: Option<ScalarValue>) -> i64 {
        match scalar.unwrap() {
            ScalarValue::TimestampMicrosecond(Some(v), _) => v,
            other => unreachable!("{other}"),
        }
    }

    #[test]
    fn a_month_covers_its_first_and_last_microsecond() {
        let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
        let (low, high) = time_range(Transform::Month, 1, &ts);
        assert_eq!(micros(low), 31 * 86_400_000_000);
        assert_eq!(micros(high), 59 * 86_400_000_000 - 1);
    }

    #[test]
    fn a_period_before_1970_also_covers_the_one_before_it() {
        let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
        let (low, high) = time_range(Transform::Day, -1, &ts);
        assert_eq!(micros(low), -2 * 86_400_000_000);
        assert_eq!(micros(high), -1);
    }

    #[test]
    fn prefixes_grow_past_the_surrogate_gap_and_carry() {
        assert_eq!(next_string("ab"), Some("ac".to_string()));
        assert_eq!(next_string("a\u{10FFFF}"), Some("b".to_string()));
        assert_eq!(next_string("\u{D7FF}"), Some("\u{E000}".to_string()));
        assert_eq!(next_string("\u{10FFFF}"), None);
        assert_eq!(next_bytes(&[1, 255]), Some(vec![2]));
        assert_eq!(next_bytes(&[255]), None);
    }

    #[test]
    fn zero_bounds_cover_both_zeroes() {
        let zero = ScalarValue::Float64(Some(0.0));
        let low = bound(&zero, &DataType::Float64, Side::Lower).unwrap();
        assert_eq!(
            format!("{low:?}"),
            format!("{:?}", ScalarValue::Float64(Some(-0.0)))
        );
    }

    #[test]
    fn truncated_decimals_cover_the_width() {
        let ty = DataType::Decimal128(9, 2);
        let (low, high) = truncated_range(50, &PrimitiveLiteral::Int128(-50), &ty);
        assert_eq!(low, Some(ScalarValue::Decimal128(Some(-50), 9, 2)));
        assert_eq!(high, Some(ScalarValue::Decimal128(Some(-1), 9, 2)));
    }
}
