//! Column metrics of a file, as writers of several habits would give them.

use std::collections::BTreeMap;

use crate::model::leaf_of;
use crate::types::{Leaf, Prim};
use crate::values::Value;

/// Metrics by field id. Bounds are in their binary form, with the type they were written in.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub sizes: BTreeMap<i32, u64>,
    pub values: BTreeMap<i32, u64>,
    pub nulls: BTreeMap<i32, u64>,
    pub nans: BTreeMap<i32, u64>,
    pub lower: BTreeMap<i32, (Prim, Vec<u8>)>,
    pub upper: BTreeMap<i32, (Prim, Vec<u8>)>,
}

/// What a writer says about one column.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    None,
    Counts,
    /// Bounds cut to so many characters or bytes.
    Truncate(usize),
    Full,
}

impl Mode {
    fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(0..8) {
            0 => Mode::None,
            1 => Mode::Counts,
            2 => Mode::Full,
            3 => Mode::Truncate(16),
            _ => Mode::Truncate(rng.usize(1..6)),
        }
    }
}

/// Habits of one writer.
struct Habits {
    sizes: bool,
    counts: bool,
    nans: bool,
    /// -0.0 as lower and 0.0 as upper bound where a zero is one.
    wide_zeroes: bool,
}

/// Metrics of these leaves over all rows.
pub fn metrics(rng: &mut fastrand::Rng, leaves: &[Leaf], rows: &[BTreeMap<i32, Value>]) -> Metrics {
    let habits = Habits {
        sizes: rng.u8(0..3) > 0,
        counts: rng.u8(0..8) > 0,
        nans: rng.u8(0..3) > 0,
        wide_zeroes: rng.bool(),
    };
    let mut metrics = Metrics::default();
    for leaf in leaves {
        let values: Vec<Value> = rows
            .iter()
            .map(|row| leaf_of(row, leaf.column, leaf.child))
            .collect();
        let mode = Mode::random(rng);
        if habits.sizes {
            metrics.sizes.insert(leaf.id(), rng.u64(10..1000));
        }
        if !matches!(mode, Mode::None) {
            add(&mut metrics, leaf, &values, mode, &habits);
        }
    }
    metrics
}

fn add(metrics: &mut Metrics, leaf: &Leaf, values: &[Value], mode: Mode, habits: &Habits) {
    let id = leaf.id();
    let count = |test: fn(&Value) -> bool| values.iter().filter(|v| test(v)).count() as u64;
    if habits.counts {
        metrics.values.insert(id, values.len() as u64);
        metrics.nulls.insert(id, count(Value::is_null));
    }
    if habits.nans && leaf.prim.is_float() {
        metrics.nans.insert(id, count(Value::is_nan));
    }
    let known = || values.iter().filter(|v| !v.is_null() && !v.is_nan());
    let (Some(least), Some(greatest)) = (known().min(), known().max()) else {
        return;
    };
    let (mut least, mut greatest) = (least.clone(), greatest.clone());
    if habits.wide_zeroes && least.is_zero_float() {
        least = zero_like(&least, true);
    }
    if habits.wide_zeroes && greatest.is_zero_float() {
        greatest = zero_like(&greatest, false);
    }
    let (lower, upper) = match mode {
        Mode::None | Mode::Counts => return,
        Mode::Full => (Some(least), Some(greatest)),
        Mode::Truncate(length) => (Some(cut(&least, length)), cut_up(&greatest, length)),
    };
    if let Some(lower) = lower {
        metrics.lower.insert(id, (leaf.prim, lower.bytes()));
    }
    if let Some(upper) = upper {
        metrics.upper.insert(id, (leaf.prim, upper.bytes()));
    }
}

fn zero_like(value: &Value, negative: bool) -> Value {
    match (value, negative) {
        (Value::Float(_), true) => Value::Float(-0.0),
        (Value::Float(_), false) => Value::Float(0.0),
        (_, true) => Value::Double(-0.0),
        (_, false) => Value::Double(0.0),
    }
}

fn cut(value: &Value, length: usize) -> Value {
    match value {
        Value::Text(text) => Value::Text(text.chars().take(length).collect()),
        Value::Bytes(bytes) => Value::Bytes(bytes.iter().take(length).copied().collect()),
        other => other.clone(),
    }
}

/// A value that is not below any with the same beginning; `None` where there is none.
fn cut_up(value: &Value, length: usize) -> Option<Value> {
    match value {
        Value::Text(text) if text.chars().count() > length => {
            let mut chars: Vec<char> = text.chars().take(length).collect();
            while let Some(last) = chars.pop() {
                let next = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32);
                if let Some(next) = next {
                    chars.push(next);
                    return Some(Value::Text(chars.into_iter().collect()));
                }
            }
            None
        }
        Value::Bytes(bytes) if bytes.len() > length => {
            let mut bytes = bytes[..length].to_vec();
            while let Some(last) = bytes.pop() {
                if last < u8::MAX {
                    bytes.push(last + 1);
                    return Some(Value::Bytes(bytes));
                }
            }
            None
        }
        other => Some(other.clone()),
    }
}
