//! Bounds as manifests have them (bytes), and as pruning needs them (values of the column's type).
//!
//! Source: Iceberg specification, appendix D, "Binary single-value serialization", and "Schema
//! Evolution" for columns that had a narrower type when the bound was written: an `int` that is a
//! `long` today, a `float` that is a `double`, a `date` that is a timestamp, a shorter decimal.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryViewArray, BinaryViewBuilder,
    BooleanArray, FixedSizeBinaryBuilder, PrimitiveArray, StringViewBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use iceberg::spec::{PrimitiveLiteral, PrimitiveType};
use uuid::Uuid;

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// Which end of a range a bound is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// No value is smaller.
    Lower,
    /// No value is larger.
    Upper,
}

/// Bounds of a column of Iceberg type `ty` and Arrow type `data_type`, both of today. NULL where
/// bytes are missing or are no value of the type: nothing is known then. Zeroes of floats are
/// widened to the one that lies outside (-0.0 below, 0.0 above), and NaN bounds nothing.
///
/// `None` when no bound is known, or when the two types do not belong together.
pub fn bounds_array(
    bytes: &BinaryArray,
    ty: &PrimitiveType,
    data_type: &DataType,
    side: Side,
) -> Option<ArrayRef> {
    use PrimitiveType as T;
    if bytes.null_count() == bytes.len() {
        return None;
    }
    let array: ArrayRef = match (ty, data_type) {
        (T::Boolean, DataType::Boolean) => Arc::new(
            bytes
                .iter()
                .map(|v| v.and_then(truth))
                .collect::<BooleanArray>(),
        ),
        (T::Int, DataType::Int32) => numbers::<Int32Type>(bytes, int),
        (T::Long, DataType::Int64) => numbers::<Int64Type>(bytes, long),
        (T::Float, DataType::Float32) => {
            numbers::<Float32Type>(bytes, |v| widened_f32(float(v)?, side))
        }
        (T::Double, DataType::Float64) => {
            numbers::<Float64Type>(bytes, |v| widened_f64(double(v)?, side))
        }
        (T::Decimal { .. }, DataType::Decimal128(precision, scale)) => Arc::new(
            numbers_of::<Decimal128Type>(bytes, decimal)
                .with_precision_and_scale(*precision, *scale)
                .ok()?,
        ),
        (T::Date, DataType::Date32) => numbers::<Date32Type>(bytes, int),
        (T::Time, DataType::Time64(TimeUnit::Microsecond)) => {
            numbers::<Time64MicrosecondType>(bytes, eight)
        }
        (T::Timestamp | T::Timestamptz, DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            Arc::new(
                numbers_of::<TimestampMicrosecondType>(bytes, |v| instant(v, 1))
                    .with_timezone_opt(zone.clone()),
            )
        }
        (T::TimestampNs | T::TimestamptzNs, DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            Arc::new(
                numbers_of::<TimestampNanosecondType>(bytes, |v| instant(v, 1000))
                    .with_timezone_opt(zone.clone()),
            )
        }
        (T::String, DataType::Utf8View) => texts(bytes),
        (T::Uuid, DataType::Utf8View) => uuids(bytes),
        (T::Fixed(length), DataType::FixedSizeBinary(_)) => fixed(bytes, *length)?,
        (T::Fixed(length), DataType::BinaryView) => {
            let values = bytes.iter();
            let right = values.map(|v| v.filter(|v| v.len() as u64 == *length));
            Arc::new(right.collect::<BinaryViewArray>())
        }
        (T::Binary, DataType::BinaryView) => binaries(bytes),
        _ => return None,
    };
    (array.null_count() < array.len()).then_some(array)
}

/// A bound as a value of Iceberg type `ty`; `None` when the bytes are no such value.
pub fn bound_literal(bytes: &[u8], ty: &PrimitiveType) -> Option<PrimitiveLiteral> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    Some(match ty {
        T::Boolean => L::Boolean(truth(bytes)?),
        T::Int | T::Date => L::Int(int(bytes)?),
        T::Long => L::Long(long(bytes)?),
        T::Float => L::Float(float(bytes)?.into()),
        T::Double => L::Double(double(bytes)?.into()),
        T::Decimal { .. } => L::Int128(decimal(bytes)?),
        T::Time => L::Long(eight(bytes)?),
        T::Timestamp | T::Timestamptz => L::Long(instant(bytes, 1)?),
        T::TimestampNs | T::TimestamptzNs => L::Long(instant(bytes, 1000)?),
        T::String => L::String(std::str::from_utf8(bytes).ok()?.to_string()),
        T::Uuid => L::UInt128(u128::from_be_bytes(bytes.try_into().ok()?)),
        T::Fixed(length) if bytes.len() as u64 == *length => L::Binary(bytes.to_vec()),
        T::Fixed(_) => return None,
        T::Binary => L::Binary(bytes.to_vec()),
    })
}

fn numbers<T: ArrowPrimitiveType>(
    bytes: &BinaryArray,
    value: impl Fn(&[u8]) -> Option<T::Native>,
) -> ArrayRef {
    Arc::new(numbers_of::<T>(bytes, value))
}

fn numbers_of<T: ArrowPrimitiveType>(
    bytes: &BinaryArray,
    value: impl Fn(&[u8]) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    bytes.iter().map(|v| v.and_then(&value)).collect()
}

fn texts(bytes: &BinaryArray) -> ArrayRef {
    let mut builder = StringViewBuilder::with_capacity(bytes.len());
    for value in bytes {
        // Cut inside a character it is no text, and what it bounds is unknown.
        builder.append_option(value.and_then(|value| std::str::from_utf8(value).ok()));
    }
    Arc::new(builder.finish())
}

fn binaries(bytes: &BinaryArray) -> ArrayRef {
    let mut builder = BinaryViewBuilder::with_capacity(bytes.len());
    for value in bytes {
        builder.append_option(value);
    }
    Arc::new(builder.finish())
}

fn uuids(bytes: &BinaryArray) -> ArrayRef {
    let mut builder = StringViewBuilder::with_capacity(bytes.len());
    let mut text = Uuid::encode_buffer();
    for value in bytes {
        let value = value.and_then(|value| Uuid::from_slice(value).ok());
        builder.append_option(value.map(|value| &*value.hyphenated().encode_lower(&mut text)));
    }
    Arc::new(builder.finish())
}

fn fixed(bytes: &BinaryArray, length: u64) -> Option<ArrayRef> {
    let mut builder =
        FixedSizeBinaryBuilder::with_capacity(bytes.len(), i32::try_from(length).ok()?);
    for value in bytes {
        match value.filter(|value| value.len() as u64 == length) {
            Some(value) => builder.append_value(value).ok()?,
            None => builder.append_null(),
        }
    }
    Some(Arc::new(builder.finish()))
}

fn truth(bytes: &[u8]) -> Option<bool> {
    (bytes.len() == 1).then(|| bytes != [0])
}

fn int(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_le_bytes)
}

fn eight(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_le_bytes)
}

fn long(bytes: &[u8]) -> Option<i64> {
    eight(bytes).or_else(|| int(bytes).map(i64::from))
}

fn float(bytes: &[u8]) -> Option<f32> {
    bytes.try_into().ok().map(f32::from_le_bytes)
}

fn double(bytes: &[u8]) -> Option<f64> {
    let eight = bytes.try_into().ok().map(f64::from_le_bytes);
    eight.or_else(|| float(bytes).map(f64::from))
}

/// An instant in units of which `per_micro` are a microsecond; four bytes are a date.
fn instant(bytes: &[u8], per_micro: i64) -> Option<i64> {
    eight(bytes).or_else(|| {
        i64::from(int(bytes)?)
            .checked_mul(DAY_MICROS)?
            .checked_mul(per_micro)
    })
}

/// A big-endian number in two's complement, of any length.
pub(super) fn decimal(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let sign = if first & 0x80 == 0 { 0 } else { 0xff };
    let extra = bytes.len().saturating_sub(16);
    let (padding, bytes) = bytes.split_at(extra);
    if padding.iter().any(|byte| *byte != sign) || (extra > 0 && (bytes[0] ^ sign) & 0x80 != 0) {
        return None;
    }
    let mut buffer = [sign; 16];
    buffer[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(buffer))
}

/// A float as a bound; see [`bounds_array`].
pub fn widened_f32(value: f32, side: Side) -> Option<f32> {
    match side {
        _ if value.is_nan() => None,
        Side::Lower if value == 0.0 => Some(-0.0),
        Side::Upper if value == 0.0 => Some(0.0),
        _ => Some(value),
    }
}

/// A double as a bound; see [`bounds_array`].
pub fn widened_f64(value: f64, side: Side) -> Option<f64> {
    match side {
        _ if value.is_nan() => None,
        Side::Lower if value == 0.0 => Some(-0.0),
        Side::Upper if value == 0.0 => Some(0.0),
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::AsArray;

    use super::*;
    use crate::scan::schema::primitive_type;

    fn bounds(ty: PrimitiveType, values: &[&[u8]]) -> Option<ArrayRef> {
        let bytes = BinaryArray::from_iter_values(values);
        let data_type = primitive_type(&ty, true);
        let array = bounds_array(&bytes, &ty, &data_type, Side::Lower);
        if let Some(array) = &array {
            assert_eq!(array.data_type(), &data_type);
        }
        array
    }

    #[test]
    fn narrower_types_of_the_past_are_understood() {
        let array = bounds(
            PrimitiveType::Long,
            &[&5_i32.to_le_bytes(), &6_i64.to_le_bytes(), &[]],
        );
        let array = array.unwrap();
        let array = array.as_primitive::<Int64Type>();
        assert_eq!(array.iter().collect::<Vec<_>>(), [Some(5), Some(6), None]);

        let array = bounds(PrimitiveType::Double, &[&1.5_f32.to_le_bytes()]).unwrap();
        assert_eq!(array.as_primitive::<Float64Type>().value(0), 1.5);

        let day = (-1_i32).to_le_bytes();
        let array = bounds(PrimitiveType::Timestamp, &[&day]).unwrap();
        assert_eq!(
            array.as_primitive::<TimestampMicrosecondType>().value(0),
            -DAY_MICROS
        );
        let array = bounds(PrimitiveType::TimestampNs, &[&day, &i32::MAX.to_le_bytes()]).unwrap();
        let array = array.as_primitive::<TimestampNanosecondType>();
        assert_eq!(
            array.iter().collect::<Vec<_>>(),
            [Some(-DAY_MICROS * 1000), None]
        );

        // A long that is an int today cannot be.
        assert!(bounds(PrimitiveType::Int, &[&5_i64.to_le_bytes()]).is_none());
    }

    #[test]
    fn decimals_have_any_length() {
        let ty = PrimitiveType::Decimal {
            precision: 20,
            scale: 2,
        };
        let long = [&[0xff; 4][..], &(-7_i128).to_be_bytes()].concat();
        let broken = [&[0x01; 4][..], &7_i128.to_be_bytes()].concat();
        let cut = [&[0xff; 4][..], &7_i128.to_be_bytes()].concat();
        let array = bounds(ty, &[&[0x80], &[0x01, 0x00], &long, &broken, &cut, &[]]).unwrap();
        let array = array.as_primitive::<Decimal128Type>();
        let values: Vec<_> = array.iter().collect();
        assert_eq!(values, [Some(-128), Some(256), Some(-7), None, None, None]);
    }

    #[test]
    fn a_text_cut_inside_a_character_bounds_nothing() {
        let array = bounds(PrimitiveType::String, &["ä".as_bytes(), b"\xc3", b""]).unwrap();
        let array = array.as_string_view();
        let values: Vec<_> = array.iter().collect();
        assert_eq!(values, [Some("ä"), None, Some("")]);
    }

    #[test]
    fn uuids_are_text_and_fixed_values_keep_their_length() {
        let array = bounds(PrimitiveType::Uuid, &[&[0x11; 16], &[1; 15]]).unwrap();
        let array = array.as_string_view();
        assert_eq!(array.value(0), "11111111-1111-1111-1111-111111111111");
        assert!(array.is_null(1));
        let array = bounds(PrimitiveType::Fixed(2), &[b"ab", b"a"]).unwrap();
        let array = array.as_fixed_size_binary();
        assert_eq!((array.value(0), array.is_null(1)), (&b"ab"[..], true));
    }

    #[test]
    fn zeroes_are_widened_and_nan_is_dropped() {
        let zero = BinaryArray::from_iter_values([0.0_f64.to_le_bytes(), f64::NAN.to_le_bytes()]);
        for (side, sign) in [(Side::Lower, true), (Side::Upper, false)] {
            let array = bounds_array(&zero, &PrimitiveType::Double, &DataType::Float64, side);
            let array = array.unwrap();
            let array = array.as_primitive::<Float64Type>();
            assert_eq!(array.value(0).is_sign_negative(), sign);
            assert!(array.is_null(1));
        }
    }
}
