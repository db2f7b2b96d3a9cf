//! Comparisons with floating-point numbers, as SQL means them.
//!
//! - A decimal compared with a float is compared as a float. DataFusion turns the float into a
//!   decimal, which fails for NaN and for large numbers.
//! - `-0.0 = 0.0`. Arrow compares floats by IEEE 754's total order, where negative zero is smaller;
//!   comparisons with the literal zero are written so that they hold for both.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast,
};
use datafusion::optimizer::AnalyzerRule;

/// Has decimals that meet floats compared as floats; before types are coerced.
#[derive(Debug, Default)]
pub struct DecimalsAsFloats;

/// Has comparisons with zero hold for both zeroes; after types are coerced.
#[derive(Debug, Default)]
pub struct BothZeroes;

impl AnalyzerRule for DecimalsAsFloats {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite(plan, &|expr, schema| decimals_as_floats(expr, schema))
    }

    fn name(&self) -> &str {
        "decimals_as_floats"
    }
}

impl AnalyzerRule for BothZeroes {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite(plan, &|expr, _| Ok(both_zeroes(expr)))
    }

    fn name(&self) -> &str {
        "both_zeroes"
    }
}

/// Rewrites all expressions of a plan, those of subqueries too.
fn rewrite(
    plan: LogicalPlan,
    with: &dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let schema = match &plan {
            LogicalPlan::TableScan(scan) => scan.projected_schema.as_ref().clone(),
            plan => merge_schema(&plan.inputs()),
        };
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| with(expr, &schema))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(rewritten.data)
}

fn decimals_as_floats(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    // An expression whose type is not known here (of an outer query) is left to coercion.
    let type_of = |expr: &Expr| expr.get_type(schema).unwrap_or(DataType::Null);
    let meets = |sides: &[&Expr]| {
        let types: Vec<DataType> = sides.iter().map(|side| type_of(side)).collect();
        types.iter().any(DataType::is_floating) && types.iter().any(DataType::is_decimal)
    };
    let as_float = |expr: Box<Expr>| match type_of(&expr).is_decimal() {
        true => Box::new(cast(*expr, DataType::Float64)),
        false => expr,
    };
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if op.supports_propagation() && meets(&[&left, &right]) =>
        {
            let (left, right) = (as_float(left), as_float(right));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(between) if meets(&[&between.expr, &between.low, &between.high]) => {
            Transformed::yes(Expr::Between(Between {
                expr: as_float(between.expr),
                negated: between.negated,
                low: as_float(between.low),
                high: as_float(between.high),
            }))
        }
        Expr::InList(list) => {
            let sides: Vec<&Expr> = std::iter::once(&*list.expr).chain(&list.list).collect();
            match meets(&sides) {
                false => Transformed::no(Expr::InList(list)),
                true => Transformed::yes(Expr::InList(InList {
                    expr: as_float(list.expr),
                    list: list
                        .list
                        .into_iter()
                        .map(|e| *as_float(Box::new(e)))
                        .collect(),
                    negated: list.negated,
                })),
            }
        }
        expr => Transformed::no(expr),
    })
}

/// The literal zero of a floating-point type, casts and all; none for other expressions.
fn zero(expr: &Expr) -> Option<DataType> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) if *value == 0.0 => {
            Some(DataType::Float64)
        }
        Expr::Literal(ScalarValue::Float32(Some(value)), _) if *value == 0.0 => {
            Some(DataType::Float32)
        }
        // Coercion casts `0` to the column's type; it is folded only later.
        Expr::Cast(inner) if inner.field.data_type().is_floating() => {
            let is_zero = match inner.expr.as_ref() {
                Expr::Literal(value, _) => matches!(
                    value.cast_to(&DataType::Float64),
                    Ok(ScalarValue::Float64(Some(value))) if value == 0.0
                ),
                _ => false,
            };
            is_zero.then(|| inner.field.data_type().clone())
        }
        _ => None,
    }
}

fn literal(ty: &DataType, negative: bool) -> Box<Expr> {
    let value = match ty {
        DataType::Float32 => ScalarValue::Float32(Some(if negative { -0.0 } else { 0.0 })),
        _ => ScalarValue::Float64(Some(if negative { -0.0 } else { 0.0 })),
    };
    Box::new(Expr::Literal(value, None))
}

fn both_zeroes(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (value, op, ty) = match (zero(&left), zero(&right)) {
                (None, Some(ty)) => (left, op, ty),
                (Some(ty), None) => match op.swap() {
                    Some(op) => (right, op, ty),
                    None => {
                        return Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }));
                    }
                },
                _ => return Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            };
            let between = |expr: Box<Expr>, negated: bool| {
                Expr::Between(Between {
                    expr,
                    negated,
                    low: literal(&ty, true),
                    high: literal(&ty, false),
                })
            };
            let compared = |negative: bool, value: Box<Expr>| {
                Expr::BinaryExpr(BinaryExpr {
                    left: value,
                    op,
                    right: literal(&ty, negative),
                })
            };
            match op {
                Operator::Eq => Transformed::yes(between(value, false)),
                Operator::NotEq => Transformed::yes(between(value, true)),
                Operator::Lt | Operator::GtEq => Transformed::yes(compared(true, value)),
                Operator::Gt | Operator::LtEq => Transformed::yes(compared(false, value)),
                _ => Transformed::no(Expr::BinaryExpr(BinaryExpr {
                    left: value,
                    op,
                    right: literal(&ty, false),
                })),
            }
        }
        Expr::Between(mut between) => {
            if let Some(ty) = zero(&between.low) {
                between.low = literal(&ty, true);
            }
            if let Some(ty) = zero(&between.high) {
                between.high = literal(&ty, false);
            }
            Transformed::yes(Expr::Between(between))
        }
        expr => Transformed::no(expr),
    }
}

/// The rules in their places: `analyzer` are those that DataFusion begins with.
pub fn with_float_rules(
    analyzer: Vec<Arc<dyn AnalyzerRule + Send + Sync>>,
) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(DecimalsAsFloats)];
    rules.extend(analyzer);
    rules.push(Arc::new(BothZeroes));
    rules
}
