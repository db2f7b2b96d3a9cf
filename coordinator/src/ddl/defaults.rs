//! `DEFAULT 5` of a column: the constants in a definition, worked out as it is read.
//!
//! What a default becomes in the column's type is for the lake to say: see
//! [`inshore_lake::defaults`].

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias, Visit};

use crate::as_of::NotConstant;
use crate::statement::describe;
use crate::{Error, Result};

/// Works out default expressions of one statement.
#[derive(Clone, Copy, Default)]
pub struct Defaults<'a>(Option<&'a dyn Fn() -> SessionState>);

impl<'a> Defaults<'a> {
    /// For the expressions of a session; `state` is asked for only if there are any.
    pub fn of(state: &'a dyn Fn() -> SessionState) -> Self {
        Self(Some(state))
    }

    /// The value of a default expression.
    ///
    /// # Errors
    /// [`Error::Sql`] for one that is no constant, [`Error::Unsupported`] without a session.
    pub fn value(&self, expression: &SqlExpr) -> Result<ScalarValue> {
        match self.0 {
            Some(state) => value(expression, &state()),
            None => Err(Error::Unsupported(format!(
                "DEFAULT {expression} is not supported here"
            ))),
        }
    }
}

fn value(expression: &SqlExpr, state: &SessionState) -> Result<ScalarValue> {
    let refuse = |what: &str| {
        Error::Sql(format!(
            "DEFAULT wants a constant, which is the same whenever it is looked at, not {what}"
        ))
    };
    if let ControlFlow::Break(what) = expression.visit(&mut NotConstant) {
        return Err(refuse(&what));
    }
    let folded = folded(expression, state)
        .map_err(|error| Error::Sql(format!("DEFAULT {expression}: {}", describe(&error))))?;
    folded.ok_or_else(|| refuse(&expression.to_string()))
}

/// The value of an expression; none for one that is no constant.
fn folded(expression: &SqlExpr, state: &SessionState) -> DfResult<Option<ScalarValue>> {
    let empty = DFSchema::empty();
    let aliased = ExprWithAlias {
        expr: expression.clone(),
        alias: None,
    };
    let expr = state.create_logical_expr_from_sql_expr(aliased, &empty)?;
    let mut changes = false;
    expr.apply(|part| {
        if let Expr::ScalarFunction(call) = part {
            // now() is stable: the same within a statement, and another one in the next.
            changes |= call.func.signature().volatility != Volatility::Immutable;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if changes {
        return Ok(None);
    }
    let context = SimplifyContext::builder()
        .with_config_options(state.config_options().clone())
        .build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.coerce(expr, &empty)?;
    Ok(match simplifier.simplify(expr)? {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    })
}
