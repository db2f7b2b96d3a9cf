//! Values of rows: their order, their forms in SQL, JSON and manifests, and random ones.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta};
use serde_json::Value as Json;

use crate::types::{Prim, quoted};

/// One value. Structs go by field id.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Unscaled.
    Decimal(i128),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, with and without a zone.
    Micros(i64),
    Text(String),
    Bytes(Vec<u8>),
    Uuid(u128),
    Struct(BTreeMap<i32, Value>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

use Value as V;

/// Total: NULL first, NaN last among floats, -0.0 before 0.0.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (V::Null, V::Null) => Ordering::Equal,
            (V::Null, _) => Ordering::Less,
            (_, V::Null) => Ordering::Greater,
            (V::Boolean(a), V::Boolean(b)) => a.cmp(b),
            (V::Int(a), V::Int(b)) | (V::Date(a), V::Date(b)) => a.cmp(b),
            (V::Long(a), V::Long(b)) | (V::Micros(a), V::Micros(b)) => a.cmp(b),
            (V::Float(a), V::Float(b)) => a.total_cmp(b),
            (V::Double(a), V::Double(b)) => a.total_cmp(b),
            (V::Decimal(a), V::Decimal(b)) => a.cmp(b),
            (V::Text(a), V::Text(b)) => a.cmp(b),
            (V::Bytes(a), V::Bytes(b)) => a.cmp(b),
            (V::Uuid(a), V::Uuid(b)) => a.cmp(b),
            (V::Struct(a), V::Struct(b)) => a.cmp(b),
            (V::List(a), V::List(b)) => a.cmp(b),
            (V::Map(a), V::Map(b)) => a.cmp(b),
            (a, b) => panic!("{a:?} and {b:?} have different types"),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, V::Null)
    }

    pub fn is_nan(&self) -> bool {
        match self {
            V::Float(v) => v.is_nan(),
            V::Double(v) => v.is_nan(),
            _ => false,
        }
    }

    pub fn is_zero_float(&self) -> bool {
        match self {
            V::Float(v) => *v == 0.0,
            V::Double(v) => *v == 0.0,
            _ => false,
        }
    }

    /// The same value in a type that its own may be promoted to.
    pub fn promoted(&self, to: Prim) -> Value {
        match (self, to) {
            (V::Int(v), Prim::Long) => V::Long(i64::from(*v)),
            (V::Float(v), Prim::Double) => V::Double(f64::from(*v)),
            (other, _) => other.clone(),
        }
    }

    /// As an SQL expression of exactly the column's type.
    pub fn sql(&self, prim: Prim) -> String {
        match (self, prim) {
            (V::Null, _) => "NULL".into(),
            (V::Boolean(v), _) => if *v { "TRUE" } else { "FALSE" }.into(),
            (V::Int(v), _) => v.to_string(),
            (V::Long(v), _) => v.to_string(),
            (V::Float(v), _) => format!("CAST('{v:?}' AS REAL)"),
            (V::Double(v), _) => format!("CAST('{v:?}' AS DOUBLE)"),
            (V::Decimal(v), Prim::Decimal(precision, scale)) => {
                let digits = decimal_text(*v, scale);
                format!("CAST('{digits}' AS DECIMAL({precision}, {scale}))")
            }
            (V::Date(v), _) => format!("DATE '{}'", date_text(*v)),
            (V::Micros(v), Prim::Timestamptz) => {
                let text = micros_text(*v, 'T');
                format!("CAST('{text}Z' AS TIMESTAMP WITH TIME ZONE)")
            }
            (V::Micros(v), _) => format!("TIMESTAMP '{}'", micros_text(*v, ' ')),
            (V::Text(v), _) => quoted(v, '\''),
            (V::Bytes(v), _) => format!("X'{}'", hex(v)),
            (V::Uuid(v), _) => quoted(&uuid_text(*v), '\''),
            (other, prim) => panic!("{other:?} is no {prim:?}"),
        }
    }

    /// By the specification's section "JSON single-value serialization".
    pub fn json(&self, prim: Prim) -> Json {
        match (self, prim) {
            (V::Boolean(v), _) => Json::from(*v),
            (V::Int(v), _) => Json::from(*v),
            (V::Long(v), _) => Json::from(*v),
            (V::Float(v), _) => Json::from(f64::from(*v)),
            (V::Double(v), _) => Json::from(*v),
            (V::Decimal(v), Prim::Decimal(_, scale)) => Json::from(decimal_text(*v, scale)),
            (V::Date(v), _) => Json::from(date_text(*v)),
            (V::Micros(v), Prim::Timestamptz) => {
                Json::from(format!("{}+00:00", micros_text(*v, 'T')))
            }
            (V::Micros(v), _) => Json::from(micros_text(*v, 'T')),
            (V::Text(v), _) => Json::from(v.as_str()),
            (V::Bytes(v), _) => Json::from(hex(v)),
            (V::Uuid(v), _) => Json::from(uuid_text(*v)),
            (other, prim) => panic!("{other:?} is no {prim:?}"),
        }
    }

    /// By the specification's section "Binary single-value serialization".
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            V::Boolean(v) => vec![u8::from(*v)],
            V::Int(v) | V::Date(v) => v.to_le_bytes().to_vec(),
            V::Long(v) | V::Micros(v) => v.to_le_bytes().to_vec(),
            V::Float(v) => v.to_le_bytes().to_vec(),
            V::Double(v) => v.to_le_bytes().to_vec(),
            V::Decimal(v) => decimal_bytes(*v),
            V::Text(v) => v.clone().into_bytes(),
            V::Bytes(v) => v.clone(),
            V::Uuid(v) => v.to_be_bytes().to_vec(),
            other => panic!("{other:?} has no binary form"),
        }
    }
}

/// Two's complement, big-endian, in as few bytes as hold the sign.
pub fn decimal_bytes(unscaled: i128) -> Vec<u8> {
    let bytes = unscaled.to_be_bytes();
    let filler = if unscaled < 0 { 0xff } else { 0 };
    let mut from = 0;
    while from < 15 && bytes[from] == filler && (bytes[from + 1] ^ filler) & 0x80 == 0 {
        from += 1;
    }
    bytes[from..].to_vec()
}

fn decimal_text(unscaled: i128, scale: u32) -> String {
    let scale = scale as usize;
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    format!("{sign}{whole}.{part}")
}

fn date_text(days: i32) -> String {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
    let date = epoch + TimeDelta::days(i64::from(days));
    date.format("%Y-%m-%d").to_string()
}

fn micros_text(micros: i64, between: char) -> String {
    let time = DateTime::from_timestamp_micros(micros).unwrap();
    time.format(&format!("%Y-%m-%d{between}%H:%M:%S%.6f"))
        .to_string()
}

pub fn uuid_text(value: u128) -> String {
    uuid::Uuid::from_u128(value).hyphenated().to_string()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const DAY_MICROS: i64 = 86_400_000_000;
/// The first and the last day that SQL literals can write.
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;

/// Beginnings of texts: several lengths of UTF-8, ends that cannot be incremented, and more than
/// the sixteen characters that bounds usually keep.
const STEMS: [&str; 12] = [
    "",
    "a",
    "ab",
    "b\u{10FFFF}",
    "ä",
    "日本",
    "🦀crab",
    "a prefix that many long texts share, past every bound ",
    "\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\
     \u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}\u{10FFFF}",
    "\u{D7FF}",
    "it's 100% _\\",
    "Zz",
];

/// A value around `base`: values of one base lie near each other, and a few bases overlap.
pub fn random(rng: &mut fastrand::Rng, prim: Prim, base: i64) -> Value {
    if rng.u8(..) < 6 {
        return extreme(rng, prim);
    }
    let step = rng.i64(0..7);
    let near = base * 5 + step;
    match prim {
        Prim::Boolean => V::Boolean((base + i64::from(rng.u8(0..4) == 0)) % 2 != 0),
        Prim::Int => V::Int(near as i32),
        Prim::Long if base % 3 == 0 => V::Long(near * 10_000_000_000 + step),
        Prim::Long => V::Long(near),
        Prim::Float => V::Float(float(rng, near) as f32),
        Prim::Double => V::Double(float(rng, near)),
        Prim::Decimal(_, scale) => V::Decimal(i128::from(near) * 10_i128.pow(scale) / 4),
        Prim::Date => V::Date((base * 150 + step * 11) as i32),
        Prim::Timestamp | Prim::Timestamptz => {
            V::Micros(base * 40 * DAY_MICROS + step * 7 * 3_600_000_000 + rng.i64(-1..=1))
        }
        Prim::String => {
            let stem = STEMS[base.rem_euclid(STEMS.len() as i64) as usize];
            let tail = ["", "x", "é", "\u{10FFFF}", "7", "zebra", "日"][step as usize];
            V::Text(format!("{stem}{tail}"))
        }
        Prim::Binary => {
            let mut bytes = vec![[0x00, 0x41, 0xff][base.rem_euclid(3) as usize]; 3];
            bytes.extend((0..rng.usize(0..20)).map(|_| [0, 1, 0xff][rng.usize(0..3)]));
            V::Bytes(bytes)
        }
        Prim::Fixed(length) => {
            let bytes = near.to_be_bytes();
            V::Bytes(
                bytes
                    .iter()
                    .cycle()
                    .skip(8 - length)
                    .take(length)
                    .copied()
                    .collect(),
            )
        }
        Prim::Uuid => V::Uuid(((base.rem_euclid(16) as u128) << 124) + (step as u128)),
    }
}

fn float(rng: &mut fastrand::Rng, near: i64) -> f64 {
    match rng.u8(0..24) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        4 => 0.0,
        _ => near as f64 / 4.0,
    }
}

/// Values at the edges of a type, or of what the transforms and literals can do with it.
fn extreme(rng: &mut fastrand::Rng, prim: Prim) -> Value {
    let first = rng.bool();
    match prim {
        Prim::Boolean => V::Boolean(first),
        // Truncation to a multiple below the least value would wrap around.
        Prim::Int => V::Int(if first { i32::MIN + 2000 } else { i32::MAX }),
        Prim::Long => V::Long(if first { i64::MIN + 2000 } else { i64::MAX }),
        Prim::Float => V::Float(if first { f32::MIN } else { 1.5e-45 }),
        Prim::Double => V::Double(if first { f64::MAX } else { -5e-324 }),
        Prim::Decimal(precision, _) => {
            let large = 10_i128.pow(precision.min(20)) - 5_000_000;
            V::Decimal(if first { large } else { -large })
        }
        Prim::Date => V::Date(if first { FIRST_DAY } else { LAST_DAY }),
        Prim::Timestamp | Prim::Timestamptz => V::Micros(if first {
            i64::from(FIRST_DAY) * DAY_MICROS
        } else {
            i64::from(LAST_DAY + 1) * DAY_MICROS - 1
        }),
        Prim::String => V::Text(if first {
            "\u{1}".into()
        } else {
            "長い文字列 with a tail that is cut ".repeat(rng.usize(1..6))
        }),
        Prim::Binary => V::Bytes(if first { vec![] } else { vec![0xff; 40] }),
        Prim::Fixed(length) => V::Bytes(vec![if first { 0 } else { 0xff }; length]),
        Prim::Uuid => V::Uuid(if first { 0 } else { u128::MAX }),
    }
}

/// The value itself or one next to it, for filters.
pub fn near(rng: &mut fastrand::Rng, value: &Value) -> Value {
    let step = match rng.u8(0..6) {
        0 => -1_i8,
        1 => 1,
        _ => return value.clone(),
    };
    match value {
        V::Int(v) => V::Int(v.saturating_add(i32::from(step))),
        V::Long(v) => V::Long(v.saturating_add(i64::from(step))),
        V::Float(v) => V::Float(v + f32::from(step) / 8.0),
        V::Double(v) => V::Double(v + f64::from(step) / 8.0),
        V::Decimal(v) => V::Decimal(v + i128::from(step)),
        V::Date(v) => V::Date((v + i32::from(step)).clamp(FIRST_DAY, LAST_DAY)),
        V::Micros(v) if *v == 0 => V::Micros(i64::from(step)),
        V::Micros(v) => V::Micros(v - v % 3_600_000_000),
        V::Text(v) if step < 0 => V::Text(v.chars().take(v.chars().count() / 2).collect()),
        V::Text(v) => V::Text(format!("{v}!")),
        V::Bytes(v) => {
            let mut bytes = v.clone();
            if let Some(last) = bytes.last_mut() {
                *last = last.wrapping_add(step as u8);
            }
            V::Bytes(bytes)
        }
        V::Uuid(v) => V::Uuid(v.saturating_add_signed(i128::from(step))),
        other => other.clone(),
    }
}
