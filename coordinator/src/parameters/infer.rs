//! The types of parameters by how they are used.

use std::collections::HashMap;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, TryCast};

/// How the type of a parameter is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inferred {
    /// Values have to have it: those of `LIMIT` and `OFFSET`.
    Exact,
    /// What it is compared with, or stored in, has it.
    ByUse,
    /// It is not.
    Guessed,
}

/// The types of `count` parameters in a plan that still has them; none where nothing is known.
///
/// # Errors
/// In practice none.
pub fn infer(plan: &LogicalPlan, count: usize) -> DfResult<Vec<Option<(DataType, Inferred)>>> {
    let mut uses = Uses::default();
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Limit(limit) => {
                let limits = limit.skip.iter().chain(&limit.fetch);
                for expr in limits {
                    uses.limits(expr)?;
                }
            }
            LogicalPlan::Dml(dml) => uses.stored(&dml.input),
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                uses.expression(part);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let types = (1..=count).map(|number| uses.of(number));
    Ok(types.collect())
}

/// What is said of parameters, by their names.
#[derive(Default)]
struct Uses {
    exact: HashMap<String, DataType>,
    by_use: HashMap<String, DataType>,
    /// What they are cast to: heard where nothing else is said.
    casts: HashMap<String, DataType>,
}

impl Uses {
    fn of(&self, number: usize) -> Option<(DataType, Inferred)> {
        let name = super::name(number);
        if let Some(ty) = self.exact.get(&name) {
            return Some((ty.clone(), Inferred::Exact));
        }
        let used = self.by_use.get(&name).or_else(|| self.casts.get(&name));
        used.map(|ty| (ty.clone(), Inferred::ByUse))
    }

    fn limits(&mut self, expr: &Expr) -> DfResult<()> {
        expr.apply(|part| {
            if let Expr::Placeholder(parameter) = part {
                self.exact.insert(parameter.id.clone(), DataType::Int64);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }

    fn expression(&mut self, expr: &Expr) {
        match expr {
            Expr::Placeholder(Placeholder {
                id,
                field: Some(field),
            }) => add(&mut self.by_use, id, field),
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                if let Expr::Placeholder(Placeholder { id, .. }) = expr.as_ref() {
                    add(&mut self.casts, id, field);
                }
            }
            _ => {}
        }
    }

    /// `INSERT INTO t SELECT ?`: the columns of the table stand on top of the query's.
    fn stored(&mut self, rows: &LogicalPlan) {
        let LogicalPlan::Projection(columns) = rows else {
            return;
        };
        let LogicalPlan::Projection(query) = columns.input.as_ref() else {
            return;
        };
        for (column, field) in columns.expr.iter().zip(columns.schema.fields()) {
            let source = match bare(column) {
                Expr::Cast(cast) => bare(&cast.expr),
                other => other,
            };
            let Expr::Column(source) = source else {
                continue;
            };
            let place = query.schema.maybe_index_of_column(source);
            let expr = place.and_then(|place| query.expr.get(place));
            if let Some(Expr::Placeholder(Placeholder { id, .. })) = expr.map(bare) {
                add(&mut self.casts, id, field);
            }
        }
    }
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

/// Several uses of one parameter want a type that fits all, where there is one.
fn add(uses: &mut HashMap<String, DataType>, name: &str, field: &FieldRef) {
    let ty = field.data_type();
    if ty.is_null() {
        return;
    }
    let common = match uses.get(name) {
        Some(before) => type_union_resolution(&[before.clone(), ty.clone()]),
        None => Some(ty.clone()),
    };
    if let Some(common) = common {
        uses.insert(name.to_owned(), common);
    }
}
