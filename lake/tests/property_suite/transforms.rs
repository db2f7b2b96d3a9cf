//! Partition transforms, written from the specification's section "Partition Transforms" alone:
//! an independent check of the ones that the reader uses.

use crate::types::Prim;
use crate::values::{Value, decimal_bytes};

const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// How a partition value comes from a source value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    Identity,
    Bucket(u32),
    Truncate(u32),
    Year,
    Month,
    Day,
    Hour,
    Void,
}

use Transform as T;

impl Transform {
    /// The name in the table's metadata.
    pub fn name(self) -> String {
        match self {
            T::Identity => "identity".into(),
            T::Bucket(count) => format!("bucket[{count}]"),
            T::Truncate(width) => format!("truncate[{width}]"),
            T::Year => "year".into(),
            T::Month => "month".into(),
            T::Day => "day".into(),
            T::Hour => "hour".into(),
            T::Void => "void".into(),
        }
    }

    pub fn fits(self, source: Prim) -> bool {
        match self {
            T::Identity | T::Void => true,
            T::Bucket(_) => !source.is_float() && source != Prim::Boolean,
            T::Truncate(_) => matches!(
                source,
                Prim::Int | Prim::Long | Prim::Decimal(..) | Prim::String | Prim::Binary
            ),
            T::Year | T::Month | T::Day => {
                matches!(source, Prim::Date | Prim::Timestamp | Prim::Timestamptz)
            }
            T::Hour => matches!(source, Prim::Timestamp | Prim::Timestamptz),
        }
    }

    /// Type of the partition values.
    pub fn result(self, source: Prim) -> Prim {
        match self {
            T::Identity | T::Truncate(_) | T::Void => source,
            T::Bucket(_) | T::Year | T::Month | T::Hour => Prim::Int,
            T::Day => Prim::Date,
        }
    }

    pub fn apply(self, value: &Value) -> Value {
        if value.is_null() {
            return Value::Null;
        }
        match self {
            T::Identity => value.clone(),
            T::Void => Value::Null,
            T::Bucket(count) => {
                let hash = murmur3(&hashed_bytes(value));
                Value::Int(((hash & 0x7fff_ffff) % count) as i32)
            }
            T::Truncate(width) => truncate(value, width),
            T::Year => Value::Int(year_and_month(value).0 - 1970),
            T::Month => {
                let (year, month) = year_and_month(value);
                Value::Int((year - 1970) * 12 + month - 1)
            }
            T::Day => Value::Date(days(value) as i32),
            T::Hour => match value {
                Value::Micros(micros) => Value::Int(micros.div_euclid(MICROS_PER_HOUR) as i32),
                other => panic!("{other:?} has no hour"),
            },
        }
    }
}

fn truncate(value: &Value, width: u32) -> Value {
    match value {
        Value::Int(v) => Value::Int(v - v.rem_euclid(width as i32)),
        Value::Long(v) => Value::Long(v - v.rem_euclid(i64::from(width))),
        Value::Decimal(v) => Value::Decimal(v - v.rem_euclid(i128::from(width))),
        Value::Text(v) => Value::Text(v.chars().take(width as usize).collect()),
        Value::Bytes(v) => Value::Bytes(v.iter().take(width as usize).copied().collect()),
        other => panic!("{other:?} cannot be truncated"),
    }
}

fn days(value: &Value) -> i64 {
    match value {
        Value::Date(days) => i64::from(*days),
        Value::Micros(micros) => micros.div_euclid(24 * MICROS_PER_HOUR),
        other => panic!("{other:?} has no day"),
    }
}

/// Counts through the calendar: 400 years are 146,097 days.
fn year_and_month(value: &Value) -> (i32, i32) {
    let mut rest = days(value);
    let eras = rest.div_euclid(146_097);
    rest -= eras * 146_097;
    let mut year = 1970 + eras * 400;
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    loop {
        let length = 365 + i64::from(leap(year));
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year as i32, month)
}

/// Appendix B: what of a value is hashed.
fn hashed_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Int(v) | Value::Date(v) => i64::from(*v).to_le_bytes().to_vec(),
        Value::Long(v) | Value::Micros(v) => v.to_le_bytes().to_vec(),
        Value::Decimal(v) => decimal_bytes(*v),
        Value::Text(v) => v.as_bytes().to_vec(),
        Value::Bytes(v) => v.clone(),
        Value::Uuid(v) => v.to_be_bytes().to_vec(),
        other => panic!("{other:?} is not hashed"),
    }
}

/// MurmurHash3, the 32-bit variant for x86, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |word: u32| {
        word.wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let mut hash = 0_u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        hash ^= scramble(u32::from_le_bytes(word.try_into().unwrap()));
        hash = hash
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    let mut tail = [0; 4];
    tail[..words.remainder().len()].copy_from_slice(words.remainder());
    hash ^= scramble(u32::from_le_bytes(tail));
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// The specification's appendix B gives these hashes.
#[test]
fn hashes_are_those_of_the_specification() {
    let hash = |value: Value| murmur3(&hashed_bytes(&value)) as i32;
    assert_eq!(hash(Value::Int(34)), 2_017_239_379);
    assert_eq!(hash(Value::Long(34)), 2_017_239_379);
    assert_eq!(hash(Value::Decimal(1420)), -500_754_589);
    assert_eq!(hash(Value::Date(17_486)), -653_330_422);
    assert_eq!(hash(Value::Micros(1_510_871_468_000_000)), -2_047_944_441);
    assert_eq!(hash(Value::Text("iceberg".into())), 1_210_000_089);
    assert_eq!(hash(Value::Bytes(vec![0, 1, 2, 3])), -188_683_207);
    let uuid = 0xf79c_3e09_677c_4bbd_a479_3f34_9cb7_85e7;
    assert_eq!(hash(Value::Uuid(uuid)), 1_488_055_340);
}

#[test]
fn periods_before_1970_are_rounded_down() {
    let before = Value::Micros(-1);
    assert_eq!(T::Year.apply(&before), Value::Int(-1));
    assert_eq!(T::Month.apply(&before), Value::Int(-1));
    assert_eq!(T::Day.apply(&before), Value::Date(-1));
    assert_eq!(T::Hour.apply(&before), Value::Int(-1));
    // 2017-11-16, as in the specification.
    assert_eq!(T::Month.apply(&Value::Date(17_486)), Value::Int(574));
    assert_eq!(T::Truncate(10).apply(&Value::Int(-1)), Value::Int(-10));
}
