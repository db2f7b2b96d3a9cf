//! Comparisons of a function of a column with a constant, as ranges of the column.
//!
//! `date_trunc('month', ts) = TIMESTAMP '2024-01-01'` tells bounds nothing: they know `ts`. The same
//! condition as `ts >= '2024-01-01' AND ts < '2024-02-01'` prunes partitions, files, row groups and
//! pages, and is cheaper per row. [`ColumnRanges`] makes it so wherever the function never decreases
//! (`steps`), and does the like for how strings begin (`prefix`).
//!
//! The new condition gives the same truth value as the old one for every row, NULL included, with
//! one freedom: a row for which the old one failed (a date that no nanosecond timestamp can hold, a
//! `date_trunc` outside the years 1678 to 2261, calendar fields of years that the calendar library
//! does not reach) gets the value that arithmetic gives.
//!
//! It runs before DataFusion's own simplifications, which take some of these comparisons apart
//! wrongly: `CAST(ts AS TIMESTAMP(0)) = …` loses the fractions of the second, and a year that
//! nanoseconds cannot hold becomes NULL.

mod prefix;
mod steps;

use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use self::prefix::{Condition, Prefix, Text};
use self::steps::{Chain, Cuts};

/// Longest list of `IN` that is turned into ranges; a longer one costs more than it prunes.
const LIST_MAX: usize = 32;

/// The optimizer rule: filters, join filters and filters of scans are put in terms of columns.
#[derive(Debug, Default)]
pub struct ColumnRanges;

impl OptimizerRule for ColumnRanges {
    fn name(&self) -> &str {
        "column_ranges"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        // Only conditions: elsewhere an expression is a value to be shown, under its own name.
        let schema = match &plan {
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => merge_schema(&plan.inputs()),
            // The scan's own schema leaves out what is filtered but not projected.
            LogicalPlan::TableScan(scan) if !scan.filters.is_empty() => {
                DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?
            }
            _ => return Ok(Transformed::no(plan)),
        };
        let context = SimplifyContext::builder()
            .with_config_options(config.options())
            .with_query_execution_start_time(config.query_execution_start_time())
            .build();
        let rewriter = Rewriter {
            schema: &schema,
            context,
        };
        rewriter.conditions(plan)
    }
}

struct Rewriter<'a> {
    schema: &'a DFSchema,
    context: SimplifyContext,
}

impl Rewriter<'_> {
    fn conditions(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(mut filter) => {
                let new = self.condition(filter.predicate)?;
                filter.predicate = new.data;
                Ok(Transformed::new_transformed(
                    LogicalPlan::Filter(filter),
                    new.transformed,
                ))
            }
            LogicalPlan::TableScan(mut scan) => {
                let mut changed = false;
                for filter in &mut scan.filters {
                    let new = self.condition(std::mem::take(filter))?;
                    changed |= new.transformed;
                    *filter = new.data;
                }
                Ok(Transformed::new_transformed(
                    LogicalPlan::TableScan(scan),
                    changed,
                ))
            }
            LogicalPlan::Join(mut join) => {
                let Some(filter) = join.filter.take() else {
                    return Ok(Transformed::no(LogicalPlan::Join(join)));
                };
                let new = self.condition(filter)?;
                join.filter = Some(new.data);
                Ok(Transformed::new_transformed(
                    LogicalPlan::Join(join),
                    new.transformed,
                ))
            }
            other => Ok(Transformed::no(other)),
        }
    }

    /// Rewrites a condition for which NULL is as good as false, as are its parts joined by AND and
    /// OR. What lies deeper keeps its NULLs.
    fn condition(&self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform_down(|expr| {
            if let Expr::BinaryExpr(BinaryExpr {
                op: Operator::And | Operator::Or,
                ..
            }) = &expr
            {
                return Ok(Transformed::no(expr));
            }
            let new = match self.comparison(&expr, Nulls::AreFalse) {
                Some(new) => Transformed::yes(new),
                None => expr.map_children(|child| {
                    child.transform_up(|expr| {
                        Ok(match self.comparison(&expr, Nulls::Kept) {
                            Some(new) => Transformed::yes(new),
                            None => Transformed::no(expr),
                        })
                    })
                })?,
            };
            Ok(Transformed::new(
                new.data,
                new.transformed,
                TreeNodeRecursion::Jump,
            ))
        })
    }

    /// The condition on the column that one comparison stands for; `None` leaves it alone.
    fn comparison(&self, expr: &Expr, nulls: Nulls) -> Option<Expr> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self
                .ordered(left, *op, right, nulls)
                .or_else(|| self.ordered(right, op.swap()?, left, nulls)),
            Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            }) => {
                let chain = Chain::of(expr, self.schema)?;
                let low = self.cuts(&chain, low)?;
                let high = self.cuts(&chain, high)?;
                let inside = vec![(low.reaches, high.exceeds)];
                self.ranges(&chain, inside, *negated, nulls)
            }
            Expr::InList(InList {
                expr,
                list,
                negated,
            }) if list.len() <= LIST_MAX => match Chain::of(expr, self.schema) {
                Some(chain) => {
                    let inside = list
                        .iter()
                        .map(|item| self.cuts(&chain, item).map(|cuts| cuts.equal()))
                        .collect::<Option<Vec<_>>>()?;
                    self.ranges(&chain, inside, *negated, nulls)
                }
                None => self.prefixes(expr, list.iter(), *negated, nulls),
            },
            Expr::Like(like) => {
                let (text, condition) =
                    prefix::like(like, self.schema, |expr| self.constant(expr))?;
                Some(nulls.truth_of(condition, &text))
            }
            Expr::ScalarFunction(call) => {
                let (text, condition) =
                    prefix::starts_with(call, self.schema, |expr| self.constant(expr))?;
                Some(nulls.truth_of(condition, &text))
            }
            _ => None,
        }
    }

    fn ordered(&self, left: &Expr, op: Operator, right: &Expr, nulls: Nulls) -> Option<Expr> {
        let Some(chain) = Chain::of(left, self.schema) else {
            return match op {
                Operator::Eq | Operator::NotEq => {
                    self.prefixes(left, std::iter::once(right), op == Operator::NotEq, nulls)
                }
                _ => None,
            };
        };
        let cuts = self.cuts(&chain, right)?;
        let (inside, negated) = match op {
            Operator::Eq => (cuts.equal(), false),
            Operator::NotEq => (cuts.equal(), true),
            Operator::GtEq => ((cuts.reaches, i128::MAX), false),
            Operator::Lt => ((cuts.reaches, i128::MAX), true),
            Operator::Gt => ((cuts.exceeds, i128::MAX), false),
            Operator::LtEq => ((cuts.exceeds, i128::MAX), true),
            _ => return None,
        };
        self.ranges(&chain, vec![inside], negated, nulls)
    }

    fn cuts(&self, chain: &Chain, constant: &Expr) -> Option<Cuts> {
        chain.cuts(&self.constant(constant)?)
    }

    /// The value of an expression without columns. DataFusion has not folded constants yet.
    fn constant(&self, expr: &Expr) -> Option<ScalarValue> {
        if let Expr::Literal(value, _) = expr {
            return Some(value.clone());
        }
        let foreign = expr.exists(|part| {
            Ok(match part {
                Expr::ScalarFunction(_) => part.is_volatile(),
                Expr::Literal(..)
                | Expr::Cast(_)
                | Expr::BinaryExpr(_)
                | Expr::Negative(_)
                | Expr::Alias(_) => false,
                _ => true,
            })
        });
        if foreign.ok()? {
            return None;
        }
        let value = ExprSimplifier::new(self.context.clone())
            .simplify(expr.clone())
            .ok()?;
        value.as_literal().cloned()
    }

    /// That the column lies in one of the half-open ranges, or, negated, in none of them.
    fn ranges(
        &self,
        chain: &Chain,
        ranges: Vec<(i128, i128)>,
        negated: bool,
        nulls: Nulls,
    ) -> Option<Expr> {
        let domain = domain(&chain.column_type)?;
        let mut ranges = disjoint(ranges, domain);
        let column = || Expr::Column(chain.column.clone());
        if negated {
            // One value left out is pruned as well by `<>`, and reads better.
            if let [(low, high)] = ranges[..]
                && high - low == 1
            {
                return Some(column().not_eq(value(&chain.column_type, low)?));
            }
            ranges = complement(&ranges, domain);
        }
        if ranges.is_empty() {
            return Some(nulls.never(column()));
        }
        let mut any: Option<Expr> = None;
        for (low, high) in ranges {
            let above = (low > domain.0)
                .then(|| value(&chain.column_type, low).map(|low| column().gt_eq(low)));
            let below = (high < domain.1)
                .then(|| value(&chain.column_type, high).map(|high| column().lt(high)));
            let range = match (above, below) {
                (None, None) => nulls.always(column()),
                _ if high - low == 1 => column().eq(value(&chain.column_type, low)?),
                (Some(above), None) => above?,
                (None, Some(below)) => below?,
                (Some(above), Some(below)) => above?.and(below?),
            };
            any = Some(match any {
                None => range,
                Some(others) => others.or(range),
            });
        }
        any
    }

    /// That a string begins with, or is, one of the constants, or, negated, none of them.
    fn prefixes<'e>(
        &self,
        expr: &Expr,
        constants: impl Iterator<Item = &'e Expr>,
        negated: bool,
        nulls: Nulls,
    ) -> Option<Expr> {
        let prefix = Prefix::of(expr, self.schema, |expr| self.constant(expr))?;
        let mut all: Option<Expr> = None;
        for constant in constants {
            let constant = self.constant(constant)?;
            let condition = prefix.equals(constant.try_as_str().flatten()?, negated)?;
            let part = nulls.truth_of(condition, &prefix.text);
            all = Some(match all {
                None => part,
                Some(others) if negated => others.and(part),
                Some(others) => others.or(part),
            });
        }
        all
    }
}

/// What becomes of NULL.
#[derive(Clone, Copy)]
enum Nulls {
    /// Whoever asks takes NULL for false.
    AreFalse,
    /// NULL for a column that is NULL.
    Kept,
}

impl Nulls {
    /// False for every value of the column.
    fn never(self, column: Expr) -> Expr {
        match self {
            Self::AreFalse => lit(false),
            Self::Kept => column.is_null().and(lit(ScalarValue::Boolean(None))),
        }
    }

    fn truth_of(self, condition: Condition, text: &Text) -> Expr {
        match condition {
            Condition::Never => self.never(text.column.clone()),
            Condition::Always => self.always(text.column.clone()),
            Condition::When(expr) => expr,
        }
    }

    /// True for every value of the column.
    fn always(self, column: Expr) -> Expr {
        match self {
            Self::AreFalse => column.is_not_null(),
            Self::Kept => column.is_not_null().or(lit(ScalarValue::Boolean(None))),
        }
    }
}

/// The values of a type, as a half-open range.
fn domain(data_type: &DataType) -> Option<(i128, i128)> {
    match data_type {
        DataType::Date32 => Some((i128::from(i32::MIN), i128::from(i32::MAX) + 1)),
        DataType::Timestamp(..) => Some((i128::from(i64::MIN), i128::from(i64::MAX) + 1)),
        _ => None,
    }
}

/// A value of the column's type as a literal.
fn value(data_type: &DataType, value: i128) -> Option<Expr> {
    if data_type == &DataType::Date32 {
        return Some(lit(ScalarValue::Date32(Some(i32::try_from(value).ok()?))));
    }
    let DataType::Timestamp(unit, zone) = data_type else {
        return None;
    };
    let value = Some(i64::try_from(value).ok()?);
    let zone = zone.as_ref().map(Arc::clone);
    Some(lit(match unit {
        TimeUnit::Second => ScalarValue::new_timestamp::<TimestampSecondType>(value, zone),
        TimeUnit::Millisecond => {
            ScalarValue::new_timestamp::<TimestampMillisecondType>(value, zone)
        }
        TimeUnit::Microsecond => {
            ScalarValue::new_timestamp::<TimestampMicrosecondType>(value, zone)
        }
        TimeUnit::Nanosecond => ScalarValue::new_timestamp::<TimestampNanosecondType>(value, zone),
    }))
}

/// Half-open ranges within the domain, in order, those that touch joined, empty ones left out.
fn disjoint(mut ranges: Vec<(i128, i128)>, domain: (i128, i128)) -> Vec<(i128, i128)> {
    ranges.sort_unstable();
    let mut joined: Vec<(i128, i128)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        let (low, high) = (low.max(domain.0), high.min(domain.1));
        if low >= high {
            continue;
        }
        match joined.last_mut() {
            Some(last) if low <= last.1 => last.1 = last.1.max(high),
            _ => joined.push((low, high)),
        }
    }
    joined
}

/// What a domain holds besides disjoint ranges in order.
fn complement(ranges: &[(i128, i128)], domain: (i128, i128)) -> Vec<(i128, i128)> {
    let mut rest = Vec::with_capacity(ranges.len() + 1);
    let mut from = domain.0;
    for (low, high) in ranges {
        if from < *low {
            rest.push((from, *low));
        }
        from = *high;
    }
    if from < domain.1 {
        rest.push((from, domain.1));
    }
    rest
}
