//! Bounds of a column, from a Parquet file's statistics or from values, to a manifest's bytes.

use std::cmp::Ordering;

use datafusion::common::ScalarValue;
use iceberg::spec::{Datum, PrimitiveType};
use parquet::data_type::AsBytes;
use parquet::file::statistics::Statistics;

/// A smallest or largest value, in an order that is that of its Iceberg type.
#[derive(Clone, Debug, PartialEq)]
pub enum Extreme {
    /// Booleans (0 and 1), integers, dates, times, and the digits of decimals.
    Whole(i128),
    /// Floating-point numbers, never NaN.
    Float(f64),
    /// Texts, bytes and UUIDs.
    Bytes(Vec<u8>),
}

impl Extreme {
    /// The smallest and the largest value of a piece of a column; none where they are not known.
    pub fn of(statistics: &Statistics, ty: &PrimitiveType) -> Option<(Self, Self)> {
        let whole = |min: i128, max: i128| (Self::Whole(min), Self::Whole(max));
        Some(match statistics {
            Statistics::Boolean(s) => whole((*s.min_opt()?).into(), (*s.max_opt()?).into()),
            Statistics::Int32(s) => whole((*s.min_opt()?).into(), (*s.max_opt()?).into()),
            Statistics::Int64(s) => whole((*s.min_opt()?).into(), (*s.max_opt()?).into()),
            Statistics::Float(s) => floats((*s.min_opt()?).into(), (*s.max_opt()?).into())?,
            Statistics::Double(s) => floats(*s.min_opt()?, *s.max_opt()?)?,
            Statistics::ByteArray(s) => {
                bytes(s.min_opt()?.as_bytes(), s.max_opt()?.as_bytes(), ty)?
            }
            Statistics::FixedLenByteArray(s) => {
                bytes(s.min_opt()?.as_bytes(), s.max_opt()?.as_bytes(), ty)?
            }
            Statistics::Int96(_) => return None,
        })
    }

    /// A value of the Arrow type that its Iceberg type has; none for NULL and for nested values.
    fn of_value(value: &ScalarValue) -> Option<Self> {
        use ScalarValue as S;
        Some(match value {
            S::Boolean(Some(value)) => Self::Whole(i128::from(*value)),
            S::Int32(Some(value)) | S::Date32(Some(value)) => Self::Whole(i128::from(*value)),
            S::Int64(Some(value))
            | S::Time64Microsecond(Some(value))
            | S::TimestampMicrosecond(Some(value), _)
            | S::TimestampNanosecond(Some(value), _) => Self::Whole(i128::from(*value)),
            S::Decimal128(Some(value), ..) => Self::Whole(*value),
            S::Float32(Some(value)) => Self::Float(f64::from(*value)),
            S::Float64(Some(value)) => Self::Float(*value),
            S::Utf8(Some(text)) | S::LargeUtf8(Some(text)) | S::Utf8View(Some(text)) => {
                Self::Bytes(text.as_bytes().to_vec())
            }
            S::Binary(Some(bytes))
            | S::LargeBinary(Some(bytes))
            | S::BinaryView(Some(bytes))
            | S::FixedSizeBinary(_, Some(bytes)) => Self::Bytes(bytes.clone()),
            _ => return None,
        })
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            // One column has one type.
            _ => Ordering::Equal,
        }
    }

    /// The smaller one.
    pub fn min(self, other: Self) -> Self {
        match self.order(&other) {
            Ordering::Greater => other,
            _ => self,
        }
    }

    /// The larger one.
    pub fn max(self, other: Self) -> Self {
        match self.order(&other) {
            Ordering::Less => other,
            _ => self,
        }
    }
}

/// Zeroes are equal, so a bound is the one that lies outside (Parquet format, `ColumnOrder`).
fn floats(min: f64, max: f64) -> Option<(Extreme, Extreme)> {
    if min.is_nan() || max.is_nan() {
        return None;
    }
    let min = if min == 0.0 { -0.0 } else { min };
    let max = if max == 0.0 { 0.0 } else { max };
    Some((Extreme::Float(min), Extreme::Float(max)))
}

fn bytes(min: &[u8], max: &[u8], ty: &PrimitiveType) -> Option<(Extreme, Extreme)> {
    if matches!(ty, PrimitiveType::Decimal { .. }) {
        return Some((Extreme::Whole(digits(min)?), Extreme::Whole(digits(max)?)));
    }
    Some((Extreme::Bytes(min.to_vec()), Extreme::Bytes(max.to_vec())))
}

/// A big-endian number in two's complement.
fn digits(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first()? & 0x80 != 0;
    let mut all = [if negative { 0xff } else { 0 }; 16];
    let begin = all.len().checked_sub(bytes.len())?;
    all.get_mut(begin..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(all))
}

/// The binary single value of a bound (Iceberg specification, appendix D), cut to `length` where
/// that is less; none where there is no such bound.
pub fn encoded(
    bound: Extreme,
    ty: &PrimitiveType,
    length: Option<usize>,
    upper: bool,
) -> Option<Vec<u8>> {
    use PrimitiveType as T;
    match (bound, ty) {
        (Extreme::Whole(value), T::Boolean) => Some(vec![u8::from(value != 0)]),
        (Extreme::Whole(value), T::Int | T::Date) => {
            Some(i32::try_from(value).ok()?.to_le_bytes().to_vec())
        }
        (
            Extreme::Whole(value),
            T::Long | T::Time | T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs,
        ) => Some(i64::try_from(value).ok()?.to_le_bytes().to_vec()),
        (Extreme::Whole(value), T::Decimal { .. }) => Some(shortest(value)),
        (Extreme::Float(value), T::Float) => Some((value as f32).to_le_bytes().to_vec()),
        (Extreme::Float(value), T::Double) => Some(value.to_le_bytes().to_vec()),
        (Extreme::Bytes(value), T::String) => text_bound(value, length, upper),
        (Extreme::Bytes(value), T::Binary) => bytes_bound(value, length, upper),
        (Extreme::Bytes(value), T::Fixed(_) | T::Uuid) => Some(value),
        _ => None,
    }
}

/// A value, of the Arrow type that `ty` has, as Iceberg's.
pub fn datum(value: &ScalarValue, ty: &PrimitiveType) -> Option<Datum> {
    let bytes = encoded(Extreme::of_value(value)?, ty, None, false)?;
    Datum::try_from_bytes(&bytes, ty.clone()).ok()
}

/// A bound cut to `length`; none where there is no such bound.
pub fn cut(bound: &Datum, length: Option<usize>, upper: bool) -> Option<Datum> {
    let ty = bound.data_type();
    let bytes = bound.to_bytes().ok()?.into_vec();
    let bytes = match ty {
        PrimitiveType::String => text_bound(bytes, length, upper)?,
        PrimitiveType::Binary => bytes_bound(bytes, length, upper)?,
        _ => return Some(bound.clone()),
    };
    Datum::try_from_bytes(&bytes, ty.clone()).ok()
}

/// The fewest bytes of a big-endian number in two's complement.
fn shortest(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let spare = bytes.windows(2).take_while(
        |pair| matches!(pair, [first, next] if *first == sign && (next & 0x80) == (sign & 0x80)),
    );
    let begin = spare.count();
    bytes.get(begin..).unwrap_or_default().to_vec()
}

/// The first `length` code points; for an upper bound the last of them is one more.
fn text_bound(value: Vec<u8>, length: Option<usize>, upper: bool) -> Option<Vec<u8>> {
    let text = match String::from_utf8(value) {
        Ok(text) => text,
        // The file's own statistics may be cut within a character; what is before it still bounds
        // from below.
        Err(_) if upper => return None,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let mut bytes = error.into_bytes();
            bytes.truncate(valid);
            String::from_utf8(bytes).ok()?
        }
    };
    let Some((end, _)) = length.and_then(|length| text.char_indices().nth(length)) else {
        return Some(text.into_bytes());
    };
    let mut kept: Vec<char> = text.get(..end)?.chars().collect();
    if !upper {
        return Some(String::from_iter(kept).into_bytes());
    }
    while let Some(last) = kept.pop() {
        if let Some(next) = following(last) {
            kept.push(next);
            return Some(String::from_iter(kept).into_bytes());
        }
    }
    None
}

/// The code point after this one; surrogates are none.
fn following(last: char) -> Option<char> {
    match u32::from(last) + 1 {
        0xd800 => Some('\u{e000}'),
        next => char::from_u32(next),
    }
}

fn bytes_bound(mut value: Vec<u8>, length: Option<usize>, upper: bool) -> Option<Vec<u8>> {
    let Some(length) = length.filter(|length| *length < value.len()) else {
        return Some(value);
    };
    value.truncate(length);
    if !upper {
        return Some(value);
    }
    while let Some(last) = value.pop() {
        if let Some(next) = last.checked_add(1) {
            value.push(next);
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(value: &str, length: usize, upper: bool) -> Option<String> {
        let bytes = text_bound(value.into(), Some(length), upper)?;
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn texts_are_cut_to_bounds() {
        assert_eq!(text("abc", 3, true).unwrap(), "abc");
        assert_eq!(text("abcd", 3, false).unwrap(), "abc");
        assert_eq!(text("abcd", 3, true).unwrap(), "abd");
        assert_eq!(text("ключи", 4, true).unwrap(), "клюш");
        assert_eq!(text("a\u{10ffff}b", 2, true).unwrap(), "b");
        assert_eq!(text("\u{10ffff}\u{10ffff}b", 2, true), None);
        assert_eq!(text("\u{d7ff}b", 1, true).unwrap(), "\u{e000}");
        assert_eq!(text_bound(vec![b'a', 0xff], None, true), None);
        assert_eq!(text_bound(vec![b'a', 0xc3], None, false).unwrap(), b"a");
    }

    #[test]
    fn bytes_are_cut_to_bounds() {
        assert_eq!(bytes_bound(vec![1, 2, 3], Some(2), false).unwrap(), [1, 2]);
        assert_eq!(bytes_bound(vec![1, 2, 3], Some(2), true).unwrap(), [1, 3]);
        assert_eq!(bytes_bound(vec![1, 0xff, 3], Some(2), true).unwrap(), [2]);
        assert_eq!(bytes_bound(vec![0xff, 0xff, 3], Some(2), true), None);
    }

    #[test]
    fn decimals_take_the_fewest_bytes() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0, 0x80]),
            (-1, &[0xff]),
            (-128, &[0x80]),
            (-129, &[0xff, 0x7f]),
            (1234, &[0x04, 0xd2]),
        ] {
            assert_eq!(shortest(value), bytes, "{value}");
            assert_eq!(digits(bytes), Some(value));
        }
        assert_eq!(shortest(i128::MIN).len(), 16);
        assert_eq!(digits(&shortest(i128::MIN)), Some(i128::MIN));
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
            (text.clone(), Some(text.clone())),
        ];
        for (long, short) in cases {
            let shorter = cut(&Datum::string(&long), Some(16), true);
            assert_eq!(shorter, short.map(Datum::string), "{long}");
        }
        let lower = cut(&Datum::string(format!("{text}zz")), Some(16), false);
        assert_eq!(lower, Some(Datum::string(format!("{text}z"))));
    }

    #[test]
    fn values_are_what_their_type_says() {
        let decimal = PrimitiveType::Decimal {
            precision: 20,
            scale: 1,
        };
        let value = ScalarValue::Decimal128(Some(-129), 20, 1);
        let found = datum(&value, &decimal).unwrap();
        assert_eq!(found.to_bytes().unwrap().into_vec(), [0xff, 0x7f]);
        let date = datum(&ScalarValue::Date32(Some(-1)), &PrimitiveType::Date);
        assert_eq!(date, Some(Datum::date(-1)));
        assert_eq!(datum(&ScalarValue::Int32(None), &PrimitiveType::Int), None);
    }

    #[test]
    fn zeroes_bound_each_other() {
        let (min, max) = floats(0.0, -0.0).unwrap();
        assert_eq!(
            encoded(min, &PrimitiveType::Float, None, false).unwrap(),
            (-0.0_f32).to_le_bytes()
        );
        assert_eq!(
            encoded(max, &PrimitiveType::Double, None, true).unwrap(),
            0.0_f64.to_le_bytes()
        );
    }
}
