//! Random queries, as SQL and as the model evaluates them.

use std::cmp::Ordering;

use crate::model::{Model, Row};
use crate::types::{Leaf, Prim, Ty, quoted};
use crate::values::{Value, near, random};

type Rng = fastrand::Rng;

/// A condition on a row.
#[derive(Clone, Debug)]
pub enum Filter {
    Compare(Leaf, &'static str, Value),
    /// Two columns of one type.
    Columns(Leaf, &'static str, Leaf),
    IsNull(Leaf, bool),
    /// A column that is no primitive one, with its quoted name.
    ColumnIsNull(i32, String, bool),
    In(Leaf, Vec<Value>, bool),
    Between(Leaf, Value, Value, bool),
    StartsWith(Leaf, String, bool),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
}

/// Equality counts most: only it looks at buckets and bloom filters.
const COMPARISONS: [&str; 8] = ["=", "=", "=", "<>", "<", "<=", ">", ">="];

impl Filter {
    /// A condition on some of `leaves`.
    fn random(rng: &mut Rng, model: &Model, leaves: &[Leaf], depth: u8) -> Option<Self> {
        if depth > 0 && rng.u8(0..5) < 3 {
            let mut inner = || Some(Box::new(Self::random(rng, model, leaves, depth - 1)?));
            let (a, b) = (inner()?, inner()?);
            return Some(match rng.u8(0..5) {
                0 | 1 => Self::And(a, b),
                2 | 3 => Self::Or(a, b),
                _ => Self::Not(a),
            });
        }
        if rng.u8(0..20) == 0 {
            return Self::on_nested(rng, model);
        }
        let leaf = leaves.get(rng.usize(0..leaves.len().max(1)))?.clone();
        let negated = rng.u8(0..4) == 0;
        Some(match rng.u8(0..14) {
            0 | 1 => Self::IsNull(leaf, negated),
            2 | 3 => {
                let count = rng.usize(1..6);
                let mut values: Vec<Value> =
                    (0..count).map(|_| literal(rng, model, &leaf)).collect();
                if rng.u8(0..6) == 0 {
                    values.push(Value::Null);
                }
                Self::In(leaf, values, negated)
            }
            4 | 5 => {
                let (a, b) = (literal(rng, model, &leaf), literal(rng, model, &leaf));
                let swapped = a > b && rng.u8(0..5) > 0;
                let (a, b) = if swapped { (b, a) } else { (a, b) };
                Self::Between(leaf, a, b, negated)
            }
            6 => {
                let same = |other: &&Leaf| other.prim == leaf.prim && other.id() != leaf.id();
                let other = leaves.iter().filter(same).max_by_key(|_| rng.u8(..))?;
                Self::Columns(leaf, COMPARISONS[rng.usize(0..8)], other.clone())
            }
            7 if leaf.prim == Prim::String => match literal(rng, model, &leaf) {
                Value::Text(text) if !text.contains(['%', '_', '\\']) => {
                    let length = rng.usize(0..=text.chars().count());
                    Self::StartsWith(leaf, text.chars().take(length).collect(), negated)
                }
                _ => return None,
            },
            _ => {
                let value = literal(rng, model, &leaf);
                Self::Compare(leaf, COMPARISONS[rng.usize(0..8)], value)
            }
        })
    }

    fn on_nested(rng: &mut Rng, model: &Model) -> Option<Self> {
        let fields = model.schema.fields.iter();
        let nested: Vec<_> = fields.filter(|f| !matches!(f.ty, Ty::Prim(_))).collect();
        let field = nested.get(rng.usize(0..nested.len().max(1)))?;
        let name = quoted(&field.name, '"');
        Some(Self::ColumnIsNull(field.id, name, rng.bool()))
    }

    pub fn sql(&self) -> String {
        let not = |negated: &bool| if *negated { " NOT" } else { "" };
        match self {
            Self::Compare(leaf, op, value) => {
                format!("{} {op} {}", leaf.sql, value.sql(leaf.prim))
            }
            Self::Columns(a, op, b) => format!("{} {op} {}", a.sql, b.sql),
            Self::IsNull(leaf, negated) => format!("{} IS{} NULL", leaf.sql, not(negated)),
            Self::ColumnIsNull(_, name, negated) => format!("{name} IS{} NULL", not(negated)),
            Self::In(leaf, values, negated) => {
                let values: Vec<String> = values.iter().map(|v| v.sql(leaf.prim)).collect();
                format!("{}{} IN ({})", leaf.sql, not(negated), values.join(", "))
            }
            Self::Between(leaf, a, b, negated) => format!(
                "{}{} BETWEEN {} AND {}",
                leaf.sql,
                not(negated),
                a.sql(leaf.prim),
                b.sql(leaf.prim)
            ),
            Self::StartsWith(leaf, text, negated) => {
                let pattern = quoted(&format!("{text}%"), '\'');
                format!("{}{} LIKE {pattern}", leaf.sql, not(negated))
            }
            Self::And(a, b) => format!("({} AND {})", a.sql(), b.sql()),
            Self::Or(a, b) => format!("({} OR {})", a.sql(), b.sql()),
            Self::Not(a) => format!("NOT ({})", a.sql()),
        }
    }

    fn leaves(&self) -> Vec<&Leaf> {
        match self {
            Self::Compare(leaf, _, _)
            | Self::IsNull(leaf, _)
            | Self::In(leaf, _, _)
            | Self::Between(leaf, _, _, _)
            | Self::StartsWith(leaf, _, _) => vec![leaf],
            Self::Columns(a, _, b) => vec![a, b],
            Self::ColumnIsNull(..) => vec![],
            Self::And(a, b) | Self::Or(a, b) => [a.leaves(), b.leaves()].concat(),
            Self::Not(a) => a.leaves(),
        }
    }

    /// By SQL's three-valued logic: `None` is unknown.
    pub fn holds(&self, row: &Row) -> Option<bool> {
        match self {
            Self::Compare(leaf, op, value) => compare(&row.leaf(leaf), op, value),
            Self::Columns(a, op, b) => compare(&row.leaf(a), op, &row.leaf(b)),
            Self::IsNull(leaf, negated) => Some(row.leaf(leaf).is_null() != *negated),
            Self::ColumnIsNull(id, _, negated) => Some(row.values[id].is_null() != *negated),
            Self::In(leaf, values, negated) => {
                let value = row.leaf(leaf);
                let mut any = Some(false);
                for other in values {
                    any = or(any, compare(&value, "=", other));
                }
                any.map(|any| any != *negated)
            }
            Self::Between(leaf, a, b, negated) => {
                let value = row.leaf(leaf);
                let between = and(compare(&value, ">=", a), compare(&value, "<=", b));
                between.map(|between| between != *negated)
            }
            Self::StartsWith(leaf, text, negated) => match row.leaf(leaf) {
                Value::Text(value) => Some(value.starts_with(text) != *negated),
                _ => None,
            },
            Self::And(a, b) => and(a.holds(row), b.holds(row)),
            Self::Or(a, b) => or(a.holds(row), b.holds(row)),
            Self::Not(a) => a.holds(row).map(|holds| !holds),
        }
    }
}

fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    and(a.map(|a| !a), b.map(|b| !b)).map(|neither| !neither)
}

fn compare(a: &Value, op: &str, b: &Value) -> Option<bool> {
    if a.is_null() || b.is_null() {
        return None;
    }
    let order = a.cmp(b);
    Some(match op {
        "=" => order == Ordering::Equal,
        "<>" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

/// A value to compare a column with: mostly one that occurs, or one next to it.
fn literal(rng: &mut Rng, model: &Model, leaf: &Leaf) -> Value {
    for _ in 0..20 {
        let mut value = Value::Null;
        if !model.rows.is_empty() && rng.u8(0..5) > 0 {
            let row = &model.rows[rng.usize(0..model.rows.len())];
            value = near(rng, &row.leaf(leaf));
        }
        if value.is_null() && rng.u8(0..30) > 0 {
            let base = rng.i64(-4..10);
            value = random(rng, leaf.prim, base);
        }
        // How zeroes compare is DataFusion's own: -0.0 < 0.0.
        if !value.is_zero_float() {
            return value;
        }
    }
    Value::Null
}

/// What is asked of the table.
#[derive(Clone, Debug)]
pub enum Query {
    /// All columns in order.
    Everything,
    /// Some columns, or parts of them, of some rows.
    Rows(Vec<Column>, Option<Filter>),
    /// `count(*)`, and `count`, `min` and `max` of a column.
    Aggregates(Leaf, Option<Filter>),
    /// How many rows come, at most so many.
    Limit(usize, Option<Filter>),
    /// The first values of a column in order; descending or not, NULL first or not.
    Top(Leaf, bool, bool, usize, Option<Filter>),
    /// The rows whose column is one of some values, found by a join.
    Join(Leaf, Vec<Value>),
}

/// A projected column or child of one.
#[derive(Clone, Debug)]
pub struct Column {
    pub sql: String,
    pub id: i32,
    pub child: Option<i32>,
    pub ty: Ty,
}

/// What a query gives.
pub enum Answer {
    /// Types of the columns, and the rows in any order.
    Rows(Vec<Ty>, Vec<Vec<Value>>),
    /// The same in order.
    Ordered(Vec<Ty>, Vec<Vec<Value>>),
    /// Counts, smallest and largest.
    Aggregates(Leaf, [i64; 2], [Value; 2]),
    Count(usize),
}

impl Query {
    /// A query that names no other primitive columns and children than `leaves`.
    pub fn random(rng: &mut Rng, model: &Model, leaves: &[Leaf]) -> Option<Self> {
        let depth = [0, 0, 1, 2, 3][rng.usize(0..5)];
        let filter = match rng.u8(0..8) {
            0 => None,
            _ => Some(Filter::random(rng, model, leaves, depth)?),
        };
        let leaf = leaves.get(rng.usize(0..leaves.len().max(1))).cloned();
        Some(match rng.u8(0..14) {
            0 | 1 => Self::Aggregates(leaf?, filter),
            2 => Self::Limit(rng.usize(0..40), filter.filter(|_| rng.bool())),
            3 => {
                let (descending, nulls_first) = (rng.bool(), rng.bool());
                Self::Top(leaf?, descending, nulls_first, rng.usize(1..8), filter)
            }
            4 => {
                let leaf = leaf?;
                let count = rng.usize(1..5);
                let mut values: Vec<Value> =
                    (0..count).map(|_| literal(rng, model, &leaf)).collect();
                values.sort();
                values.dedup();
                values.retain(|value| !value.is_null());
                if values.is_empty() {
                    return None;
                }
                Self::Join(leaf, values)
            }
            _ => Self::Rows(projection(rng, model, leaves), filter),
        })
    }

    pub fn sql(&self) -> String {
        let clause = |filter: &Option<Filter>| match filter {
            None => String::new(),
            Some(filter) => format!(" WHERE {}", filter.sql()),
        };
        match self {
            Self::Everything => "SELECT * FROM t".into(),
            Self::Rows(columns, filter) => {
                let columns: Vec<&str> = columns.iter().map(|c| c.sql.as_str()).collect();
                format!("SELECT {} FROM t{}", columns.join(", "), clause(filter))
            }
            Self::Aggregates(leaf, filter) => {
                let c = &leaf.sql;
                let filter = clause(filter);
                format!("SELECT count(*), count({c}), min({c}), max({c}) FROM t{filter}")
            }
            Self::Limit(count, filter) => {
                format!("SELECT * FROM t{} LIMIT {count}", clause(filter))
            }
            Self::Top(leaf, descending, nulls_first, count, filter) => format!(
                "SELECT {c} FROM t{} ORDER BY {c} {} NULLS {} LIMIT {count}",
                clause(filter),
                if *descending { "DESC" } else { "ASC" },
                if *nulls_first { "FIRST" } else { "LAST" },
                c = leaf.sql,
            ),
            Self::Join(leaf, values) => {
                let values: Vec<String> = values
                    .iter()
                    .map(|v| format!("({})", v.sql(leaf.prim)))
                    .collect();
                format!(
                    "SELECT {c} FROM t JOIN (VALUES {}) AS v(wanted) ON {c} = wanted",
                    values.join(", "),
                    c = leaf.sql
                )
            }
        }
    }

    /// Whether a child of a struct decides which rows come.
    pub fn filters_children(&self) -> bool {
        let (leaf, filter) = match self {
            Self::Everything => (None, None),
            Self::Rows(_, filter) | Self::Limit(_, filter) | Self::Aggregates(_, filter) => {
                (None, filter.as_ref())
            }
            Self::Top(leaf, _, _, _, filter) => (Some(leaf), filter.as_ref()),
            Self::Join(leaf, _) => (Some(leaf), None),
        };
        let mut leaves = filter.map(Filter::leaves).unwrap_or_default();
        leaves.extend(leaf);
        leaves.iter().any(|leaf| leaf.child.is_some())
    }

    pub fn answer(&self, model: &Model) -> Answer {
        let rows = |filter: &Option<Filter>| -> Vec<&Row> {
            let holds = |row: &&Row| filter.as_ref().is_none_or(|f| f.holds(row) == Some(true));
            model.rows.iter().filter(holds).collect()
        };
        match self {
            Self::Everything => {
                let types = model.schema.fields.iter().map(|f| f.ty.clone()).collect();
                let values = |row: &Row| {
                    let fields = model.schema.fields.iter();
                    fields.map(|f| row.values[&f.id].clone()).collect()
                };
                Answer::Rows(types, model.rows.iter().map(values).collect())
            }
            Self::Rows(columns, filter) => {
                let types = columns.iter().map(|column| column.ty.clone()).collect();
                let values = |row: &Row| {
                    let columns = columns.iter();
                    columns
                        .map(|c| crate::model::leaf_of(&row.values, c.id, c.child))
                        .collect()
                };
                Answer::Rows(types, rows(filter).into_iter().map(values).collect())
            }
            Self::Aggregates(leaf, filter) => {
                let rows = rows(filter);
                let values = rows.iter().map(|row| row.leaf(leaf));
                let values: Vec<Value> = values.filter(|value| !value.is_null()).collect();
                let edge = |value: Option<&Value>| value.cloned().unwrap_or(Value::Null);
                Answer::Aggregates(
                    leaf.clone(),
                    [rows.len() as i64, values.len() as i64],
                    [edge(values.iter().min()), edge(values.iter().max())],
                )
            }
            Self::Limit(count, filter) => Answer::Count(rows(filter).len().min(*count)),
            Self::Top(leaf, descending, nulls_first, count, filter) => {
                let values = rows(filter).into_iter().map(|row| row.leaf(leaf));
                let (mut nulls, mut values): (Vec<Value>, Vec<Value>) =
                    values.partition(Value::is_null);
                values.sort();
                if *descending {
                    values.reverse();
                }
                if *nulls_first {
                    nulls.append(&mut values);
                    values = nulls;
                } else {
                    values.append(&mut nulls);
                }
                values.truncate(*count);
                let values = values.into_iter().map(|value| vec![value]).collect();
                Answer::Ordered(vec![Ty::Prim(leaf.prim)], values)
            }
            Self::Join(leaf, wanted) => {
                let values = model.rows.iter().map(|row| row.leaf(leaf));
                let values = values.filter(|value| wanted.contains(value));
                let values = values.map(|value| vec![value]).collect();
                Answer::Rows(vec![Ty::Prim(leaf.prim)], values)
            }
        }
    }
}

fn projection(rng: &mut Rng, model: &Model, leaves: &[Leaf]) -> Vec<Column> {
    let mut columns: Vec<Column> = model
        .schema
        .fields
        .iter()
        .map(|field| Column {
            sql: quoted(&field.name, '"'),
            id: field.id,
            child: None,
            ty: field.ty.clone(),
        })
        .collect();
    for leaf in leaves {
        let known = |c: &Column| c.child.is_some() && c.child == leaf.child;
        if leaf.child.is_some() && !columns.iter().any(known) {
            columns.push(Column {
                sql: leaf.sql.clone(),
                id: leaf.column,
                child: leaf.child,
                ty: Ty::Prim(leaf.prim),
            });
        }
    }
    rng.shuffle(&mut columns);
    columns.truncate(rng.usize(1..5));
    columns
}
