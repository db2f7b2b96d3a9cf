//! `DEFAULT 5` of a column: the constants in a definition, worked out before it is read.
//!
//! What a default becomes in the column's type is for the lake to say: see
//! [`inshore_lake::defaults`].

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, ColumnDef, ColumnOption, Expr as SqlExpr,
    ExprWithAlias, Statement as SqlStatement, Visit,
};

use crate::as_of::NotConstant;
use crate::statement::describe;
use crate::{Error, Result};

/// The values of the default expressions of one statement.
#[derive(Debug, Default)]
pub struct Defaults(HashMap<String, ScalarValue>);

impl Defaults {
    /// Works out the defaults in a definition; `state` is asked for only if there are any.
    ///
    /// # Errors
    /// [`Error::Sql`] for one that is no constant.
    pub fn of(statement: &Statement, state: impl FnOnce() -> SessionState) -> Result<Self> {
        let expressions = expressions(statement);
        if expressions.is_empty() {
            return Ok(Self::default());
        }
        let state = state();
        let values = expressions.into_iter().map(|expression| {
            let value = value(expression, &state)?;
            Ok((expression.to_string(), value))
        });
        Ok(Self(values.collect::<Result<_>>()?))
    }

    /// The value of a default expression of the statement.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for one in a place where none is looked for.
    pub fn value(&self, expression: &SqlExpr) -> Result<&ScalarValue> {
        let value = self.0.get(&expression.to_string());
        value.ok_or_else(|| {
            Error::Unsupported(format!("DEFAULT {expression} is not supported here"))
        })
    }
}

fn expressions(statement: &Statement) -> Vec<&SqlExpr> {
    let Statement::Statement(sql) = statement else {
        return vec![];
    };
    match sql.as_ref() {
        SqlStatement::CreateTable(create) => create.columns.iter().flat_map(of_column).collect(),
        SqlStatement::AlterTable(alter) => alter.operations.iter().flat_map(of_operation).collect(),
        _ => vec![],
    }
}

fn of_column(column: &ColumnDef) -> Vec<&SqlExpr> {
    let options = column.options.iter();
    let defaults = options.filter_map(|option| match &option.option {
        ColumnOption::Default(expression) => Some(expression),
        _ => None,
    });
    defaults.collect()
}

fn of_operation(operation: &AlterTableOperation) -> Vec<&SqlExpr> {
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } => of_column(column_def),
        AlterTableOperation::AlterColumn {
            op: AlterColumnOperation::SetDefault { value },
            ..
        } => vec![value],
        _ => vec![],
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
