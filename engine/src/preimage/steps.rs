//! Functions that never decrease, between types whose values are integers in order.
//!
//! Timestamps, dates and years are integers; a chain of casts, truncations and years over a column
//! maps integers to integers and keeps their order. For such a function `f(x) >= y` holds from one
//! value on: the smallest `x` that reaches `y`. That value of the whole chain is found step by step,
//! from the outside in. The integers are wider than any type here, so that nothing overflows where a
//! type ends; the caller cuts them to what the column can hold.

use chrono::{Datelike, NaiveDate, Weekday};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::functions::datetime::date_part::DatePartFunc;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable};

const DAY_SECONDS: i128 = 86_400;
/// 1970-01-01 was a Thursday; weeks begin on Monday.
const FIRST_MONDAY: i128 = 4;
/// Days from 0001-01-01, counted as day 1, to 1970-01-01.
const EPOCH_FROM_CE: i128 = 719_163;

/// A column under at least one function that never decreases.
pub(super) struct Chain {
    pub column: Column,
    /// A date or a timestamp.
    pub column_type: DataType,
    /// What the outermost function gives.
    result: DataType,
    /// The outermost first.
    steps: Vec<Step>,
}

/// Where, going up the column, a function comes to a constant and where it goes beyond it.
pub(super) struct Cuts {
    /// Smallest value of the column for which `f(x) >= constant`.
    pub reaches: i128,
    /// Smallest value of the column for which `f(x) > constant`.
    pub exceeds: i128,
}

impl Cuts {
    /// Where the function equals the constant, half-open; empty where it never does.
    pub fn equal(&self) -> (i128, i128) {
        (self.reaches, self.exceeds)
    }
}

impl Chain {
    /// Takes an expression apart; `None` unless it is a known function over a date or a timestamp.
    pub fn of(expr: &Expr, schema: &DFSchema) -> Option<Self> {
        let mut steps = vec![];
        let mut inner = expr;
        let column = loop {
            inner = match inner {
                Expr::Column(column) => break column,
                Expr::Alias(alias) => &alias.expr,
                Expr::Cast(Cast { expr, field }) => {
                    let from = expr.get_type(schema).ok()?;
                    steps.push(Step::cast(&from, field.data_type())?);
                    expr
                }
                Expr::ScalarFunction(function) => {
                    let (step, argument) = Step::function(function, schema)?;
                    steps.push(step);
                    argument
                }
                _ => return None,
            };
        };
        let column_type = inner.get_type(schema).ok()?;
        let temporal = matches!(column_type, DataType::Date32 | DataType::Timestamp(..));
        if steps.is_empty() || !temporal {
            return None;
        }
        Some(Self {
            column: column.clone(),
            column_type,
            result: expr.get_type(schema).ok()?,
            steps,
        })
    }

    /// Where the function meets a constant; `None` for NULL and for what cannot be said.
    pub fn cuts(&self, constant: &ScalarValue) -> Option<Cuts> {
        let (reaches, exceeds) = self.neighbours(constant)?;
        let pull = |y| {
            self.steps
                .iter()
                .try_fold(y, |y, step| step.first_reaching(y))
        };
        Some(Cuts {
            reaches: pull(reaches)?,
            exceeds: pull(exceeds)?,
        })
    }

    /// The smallest integer that is not below the constant, and the smallest above it.
    fn neighbours(&self, constant: &ScalarValue) -> Option<(i128, i128)> {
        use ScalarValue as S;
        if !same_line(&self.result, &constant.data_type()) {
            return None;
        }
        let whole = match constant {
            S::Date32(Some(v)) | S::Int32(Some(v)) => i128::from(*v),
            S::Int64(Some(v))
            | S::TimestampSecond(Some(v), _)
            | S::TimestampMillisecond(Some(v), _)
            | S::TimestampMicrosecond(Some(v), _)
            | S::TimestampNanosecond(Some(v), _) => i128::from(*v),
            S::Decimal128(Some(v), ..) => *v,
            S::Float64(Some(v)) => return float_neighbours(*v),
            _ => return None,
        };
        Some((whole, whole.checked_add(1)?))
    }
}

/// Whether integers of the two types mean the same. Zones only say how instants are shown.
fn same_line(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Timestamp(a, a_zone), DataType::Timestamp(b, b_zone)) => {
            a == b && a_zone.is_some() == b_zone.is_some()
        }
        (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) => a == b,
        _ => a == b,
    }
}

/// Of whole floats only: those which a year can equal are exact. -0.0 is below 0.0 in Arrow's order
/// and NaN above everything, so they are no integers.
fn float_neighbours(value: f64) -> Option<(i128, i128)> {
    let small = value.abs() < 1e15;
    if !small || (value == 0.0 && value.is_sign_negative()) {
        return None;
    }
    Some((value.ceil() as i128, value.floor() as i128 + 1))
}

/// A function from integers to integers that never decreases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// `x`: only the type changes.
    Same,
    /// `x * n`
    Times(i128),
    /// `x / n`, rounded to zero: Arrow's cast to a coarser timestamp.
    DivideToZero(i128),
    /// `x / n`, rounded down: Arrow's cast from timestamp to date.
    DivideDown(i128),
    /// The last multiple of `size`, counted from `from`, that is not above `x`.
    Floor { size: i128, from: i128 },
    /// The last begin of a span of so many months that is not after `x`.
    Months { months: u32, day: i128 },
    /// The year, with as many `x` to a day.
    Year { day: i128 },
    /// The year of the ISO week.
    IsoYear { day: i128 },
}

impl Step {
    fn cast(from: &DataType, to: &DataType) -> Option<Self> {
        use DataType as T;
        Some(match (from, to) {
            (T::Timestamp(_, None), T::Timestamp(_, Some(_))) if !is_utc(to) => return None,
            (T::Timestamp(from, _), T::Timestamp(to, _)) => {
                let (from, to) = (per_second(from), per_second(to));
                match from.cmp(&to) {
                    std::cmp::Ordering::Less => Self::Times(to / from),
                    std::cmp::Ordering::Equal => Self::Same,
                    std::cmp::Ordering::Greater => Self::DivideToZero(from / to),
                }
            }
            (T::Timestamp(..), T::Date32) => Self::DivideDown(per_day(from)?),
            (T::Date32, T::Timestamp(..)) => Self::Times(per_day(to)?),
            (T::Int32, T::Int64 | T::Float64) => Self::Same,
            (T::Int32, T::Decimal128(_, scale)) => {
                Self::Times(10_i128.checked_pow(u32::try_from(*scale).ok()?)?)
            }
            _ => return None,
        })
    }

    /// A call as a step, and what it is called with.
    fn function<'e>(call: &'e ScalarFunction, schema: &DFSchema) -> Option<(Self, &'e Expr)> {
        let [part, argument] = call.args.as_slice() else {
            return None;
        };
        let part = part.as_literal()?.try_as_str().flatten()?.to_lowercase();
        let data_type = argument.get_type(schema).ok()?;
        let function = call.func.inner();
        let step = if function.is::<DateTruncFunc>() {
            Self::truncate(&part, &data_type)?
        } else if function.is::<DatePartFunc>() {
            let day = per_day(&data_type)?;
            match part.trim_matches(['\'', '"']) {
                "y" | "yr" | "yrs" | "year" | "years" => Self::Year { day },
                "isoyear" => Self::IsoYear { day },
                _ => return None,
            }
        } else {
            return None;
        };
        Some((step, argument))
    }

    fn truncate(part: &str, data_type: &DataType) -> Option<Self> {
        let DataType::Timestamp(unit, _) = data_type else {
            return None;
        };
        let day = per_day(data_type)?;
        let second = per_second(unit);
        let floor = |size| Self::Floor { size, from: 0 };
        // A part finer than the type changes nothing.
        let fraction = |parts: i128| match second / parts {
            0 | 1 => Self::Same,
            size => floor(size),
        };
        Some(match part {
            "microsecond" => fraction(1_000_000),
            "millisecond" => fraction(1_000),
            "second" => fraction(1),
            "minute" => floor(second * 60),
            "hour" => floor(second * 3_600),
            "day" => floor(day),
            "week" => Self::Floor {
                size: day * 7,
                from: day * FIRST_MONDAY,
            },
            "month" => Self::Months { months: 1, day },
            "quarter" => Self::Months { months: 3, day },
            "year" => Self::Months { months: 12, day },
            _ => return None,
        })
    }

    /// The smallest `x` with `f(x) >= y`; `None` beyond the calendar.
    fn first_reaching(self, y: i128) -> Option<i128> {
        match self {
            Self::Same => Some(y),
            Self::Times(n) => divide_up(y, n),
            // For y <= 0 all x above (y - 1) * n round up to y at least.
            Self::DivideToZero(n) if y <= 0 => y.checked_sub(1)?.checked_mul(n)?.checked_add(1),
            Self::DivideToZero(n) | Self::DivideDown(n) => y.checked_mul(n),
            Self::Floor { size, from } => divide_up(y.checked_sub(from)?, size)?
                .checked_mul(size)?
                .checked_add(from),
            Self::Months { months, day } => {
                let date = date_of_day(y.div_euclid(day))?;
                let begin = first_of_span(date, months)?;
                let is_begin = begin == date && y.rem_euclid(day) == 0;
                let begin = match is_begin {
                    true => begin,
                    false => begin.checked_add_months(chrono::Months::new(months))?,
                };
                Some(day_of_date(begin) * day)
            }
            Self::Year { day } => {
                let begin = NaiveDate::from_ymd_opt(i32::try_from(y).ok()?, 1, 1)?;
                Some(day_of_date(begin) * day)
            }
            Self::IsoYear { day } => {
                let year = i32::try_from(y).ok()?;
                // ISO weeks of years beyond the calendar overflow inside chrono.
                NaiveDate::from_ymd_opt(year, 1, 1)?;
                let begin = NaiveDate::from_isoywd_opt(year, 1, Weekday::Mon)?;
                Some(day_of_date(begin) * day)
            }
        }
    }
}

fn divide_up(x: i128, n: i128) -> Option<i128> {
    let down = x.checked_div_euclid(n)?;
    match x.checked_rem_euclid(n)? {
        0 => Some(down),
        _ => down.checked_add(1),
    }
}

fn first_of_span(date: NaiveDate, months: u32) -> Option<NaiveDate> {
    let month = date.month0() / months * months;
    NaiveDate::from_ymd_opt(date.year(), month + 1, 1)
}

fn date_of_day(day: i128) -> Option<NaiveDate> {
    let from_ce = i32::try_from(day.checked_add(EPOCH_FROM_CE)?).ok()?;
    NaiveDate::from_num_days_from_ce_opt(from_ce)
}

fn day_of_date(date: NaiveDate) -> i128 {
    i128::from(date.num_days_from_ce()) - EPOCH_FROM_CE
}

fn per_second(unit: &TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// How many values make a day; `None` for types without days, and in zones whose days differ.
fn per_day(data_type: &DataType) -> Option<i128> {
    match data_type {
        DataType::Date32 => Some(1),
        DataType::Timestamp(unit, _) if is_utc(data_type) => Some(DAY_SECONDS * per_second(unit)),
        _ => None,
    }
}

fn is_utc(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, Some(zone)) => matches!(zone.as_ref(), "UTC" | "Etc/UTC" | "+00:00"),
        DataType::Timestamp(_, None) => true,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What a step does, from its definition, to check the inverse against.
    fn apply(step: Step, x: i128) -> i128 {
        match step {
            Step::Same => x,
            Step::Times(n) => x * n,
            Step::DivideToZero(n) => x / n,
            Step::DivideDown(n) => x.div_euclid(n),
            Step::Floor { size, from } => (x - from).div_euclid(size) * size + from,
            Step::Months { months, day } => {
                let date = date_of_day(x.div_euclid(day)).unwrap();
                day_of_date(first_of_span(date, months).unwrap()) * day
            }
            Step::Year { day } => date_of_day(x.div_euclid(day)).unwrap().year().into(),
            Step::IsoYear { day } => date_of_day(x.div_euclid(day))
                .unwrap()
                .iso_week()
                .year()
                .into(),
        }
    }

    #[test]
    fn the_first_value_that_reaches_is_the_first() {
        let steps = [
            Step::Same,
            Step::Times(3),
            Step::DivideToZero(4),
            Step::DivideDown(4),
            Step::Floor { size: 7, from: 4 },
            Step::Months { months: 1, day: 2 },
            Step::Months { months: 3, day: 1 },
            Step::Months { months: 12, day: 1 },
        ];
        for step in steps {
            for y in -1_500..1_500 {
                let x = step.first_reaching(y).unwrap();
                assert!(apply(step, x) >= y, "{step:?} {y}");
                assert!(apply(step, x - 1) < y, "{step:?} {y}");
            }
        }
        for step in [Step::Year { day: 3 }, Step::IsoYear { day: 3 }] {
            for y in -3_000..12_000 {
                let x = step.first_reaching(y).unwrap();
                assert_eq!(apply(step, x), y, "{step:?}");
                assert_eq!(apply(step, x - 1), y - 1, "{step:?}");
            }
        }
    }

    #[test]
    fn beyond_the_calendar_nothing_is_said() {
        for y in [i128::MIN, i128::from(i32::MIN), 300_000, i128::MAX] {
            assert_eq!(Step::Year { day: 1 }.first_reaching(y), None);
            assert_eq!(Step::IsoYear { day: 1 }.first_reaching(y), None);
        }
        for y in [i128::MIN, i128::MAX] {
            let months = Step::Months { months: 1, day: 1 };
            assert_eq!(months.first_reaching(y), None);
            assert_eq!(Step::DivideDown(2).first_reaching(y), None);
            assert_eq!(Step::DivideToZero(2).first_reaching(y), None);
        }
    }
}
