//! The times and snapshots that version clauses ask for.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, ExprWithAlias, Query, Spanned, Visit, Visitor,
};
use inshore_lake::version::TableVersion;

use crate::names::{Position, Version};
use crate::statement::describe;
use crate::versions::AsOf;
use crate::{Error, Result};

/// Time zone of texts without one, when the session has none.
const DEFAULT_ZONE: &str = "+00:00";

/// Finds out which states of tables one statement asks for. `now()` is the same for all of them.
pub struct Evaluator<'a> {
    state: &'a SessionState,
    simplifier: ExprSimplifier,
}

impl<'a> Evaluator<'a> {
    /// For a statement of a session with this state.
    pub fn new(state: &'a SessionState) -> Self {
        let context = SimplifyContext::builder()
            .with_config_options(state.config_options().clone())
            .with_current_time()
            .build();
        Self {
            state,
            simplifier: ExprSimplifier::new(context),
        }
    }

    /// The state of a table that a clause asks for.
    ///
    /// # Errors
    /// [`Error::Sql`], with the place in the text, when a time is no constant or no time.
    pub fn version(&self, version: &Version) -> Result<TableVersion> {
        Ok(match &version.at {
            AsOf::Snapshot(id) => TableVersion::Snapshot(*id),
            AsOf::Ref(name) => TableVersion::Ref(name.clone()),
            AsOf::Timestamp(at) => TableVersion::TimestampMs(self.millis(at, version.position)?),
        })
    }

    /// A time in milliseconds since 1970.
    fn millis(&self, at: &SqlExpr, clause: Position) -> Result<i64> {
        let start = at.span().start;
        let position = match start.line {
            0 => clause,
            line => Position {
                line,
                column: start.column,
            },
        };
        let refuse = |what: &str| {
            Error::Sql(format!(
                "TIMESTAMP AS OF wants a constant time, not {what}, at {position}"
            ))
        };
        if let ControlFlow::Break(what) = at.visit(&mut NotConstant) {
            return Err(refuse(&what));
        }
        let value = self
            .value(at)
            .map_err(|error| Error::Sql(format!("{} at {position}", describe(&error))))?
            .ok_or_else(|| refuse(&at.to_string()))?;
        let shown = value.to_string();
        let failed = |why: String| refuse(&format!("{shown} ({why})"));
        let millis = self.instant(value).map_err(failed)?;
        millis.ok_or_else(|| refuse("NULL"))
    }

    fn value(&self, at: &SqlExpr) -> datafusion::error::Result<Option<ScalarValue>> {
        let empty = DFSchema::empty();
        let aliased = ExprWithAlias {
            expr: at.clone(),
            alias: None,
        };
        let expr = self
            .state
            .create_logical_expr_from_sql_expr(aliased, &empty)?;
        let expr = self.simplifier.coerce(expr, &empty)?;
        Ok(match self.simplifier.simplify(expr)? {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        })
    }

    fn instant(&self, value: ScalarValue) -> Result<Option<i64>, String> {
        let options = &self.state.config_options().execution;
        let zone = options.time_zone.as_deref().unwrap_or(DEFAULT_ZONE);
        let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some(zone.into()));
        let cast = |value: &ScalarValue, to: &DataType| {
            let cast = value.cast_to(to);
            cast.map_err(|error| error.strip_backtrace())
        };
        if value.is_null() {
            return Ok(None);
        }
        let instant = match value.data_type() {
            integer if integer.is_integer() => {
                // Seconds since 1970, as in Spark.
                let ScalarValue::Int64(Some(seconds)) = cast(&value, &DataType::Int64)? else {
                    return Ok(None);
                };
                let millis = seconds.checked_mul(1_000);
                return millis.map(Some).ok_or_else(|| "out of range".to_owned());
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(&value, &zoned)?,
            DataType::Date32 | DataType::Date64 => {
                let naive = DataType::Timestamp(TimeUnit::Millisecond, None);
                cast(&cast(&value, &naive)?, &zoned)?
            }
            DataType::Timestamp(..) => cast(&value, &zoned)?,
            other => return Err(format!("of type {other}")),
        };
        match instant {
            ScalarValue::TimestampMillisecond(millis, _) => Ok(millis),
            other => Err(format!("of type {}", other.data_type())),
        }
    }
}

/// Looks for what a constant cannot have.
pub(crate) struct NotConstant;

impl Visitor for NotConstant {
    type Break = String;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        ControlFlow::Break("a query".to_owned())
    }

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<String> {
        match expr {
            SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_) => {
                ControlFlow::Break(format!("column {expr}"))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionConfig;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use inshore_lake::sql_types::IcebergTypes;

    use super::*;

    fn millis_in(zone: Option<&str>, text: &str) -> Result<i64> {
        let mut config = SessionConfig::new();
        config.options_mut().execution.time_zone = zone.map(str::to_owned);
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_type_planner(std::sync::Arc::new(IcebergTypes))
            .build();
        let dialect = GenericDialect {};
        let mut parser = Parser::new(&dialect).try_with_sql(text).unwrap();
        let clause = Position { line: 9, column: 9 };
        Evaluator::new(&state).millis(&parser.parse_expr().unwrap(), clause)
    }

    fn millis(text: &str) -> Result<i64> {
        millis_in(None, text)
    }

    #[test]
    fn times_are_milliseconds() {
        for (text, expected) in [
            ("'1970-01-01'", 0),
            ("'1970-01-01 00:00:01'", 1_000),
            ("'1970-01-01T00:00:01.5'", 1_500),
            ("'1970-01-01T01:00:00+01:00'", 0),
            ("'1970-01-01T00:00:00.001Z'", 1),
            ("TIMESTAMP '1970-01-01 00:00:00.002'", 2),
            (
                "TIMESTAMP '1970-01-01 00:00:00' + interval '1 day'",
                86_400_000,
            ),
            ("DATE '1970-01-02'", 86_400_000),
            ("CAST('1970-01-02' AS DATE)", 86_400_000),
            ("CAST('1970-01-01 00:00:01' AS TIMESTAMP)", 1_000),
            ("TIMESTAMP '9999-12-31 00:00:00'", 253_402_214_400_000),
            ("1700000000", 1_700_000_000_000),
            ("60 * 60", 3_600_000),
            ("to_timestamp_millis(5)", 5),
        ] {
            assert_eq!(millis(text).unwrap(), expected, "{text}");
        }
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis() as i64;
        let yesterday = millis("now() - interval '1 day'").unwrap();
        assert!((now - 86_400_000 - yesterday).abs() < 60_000);
        let today = millis("current_timestamp").unwrap();
        assert!((now - today).abs() < 60_000);
    }

    #[test]
    fn a_text_without_a_zone_is_in_the_sessions_zone() {
        let zone = Some("+02:00");
        let hours = |text: &str| millis_in(zone, text).unwrap() / 3_600_000;
        assert_eq!(hours("'1970-01-01 03:00:00'"), 1);
        assert_eq!(hours("TIMESTAMP '1970-01-01 03:00:00'"), 1);
        assert_eq!(hours("DATE '1970-01-02'"), 22);
        assert_eq!(hours("'1970-01-01 03:00:00Z'"), 3);
        assert_eq!(hours("7200"), 2);
        let named = millis_in(Some("Europe/Berlin"), "'2026-07-01 02:00:00'");
        assert_eq!(named.unwrap(), millis("'2026-07-01 00:00:00'").unwrap());
    }

    #[test]
    fn what_is_no_constant_time_is_refused_with_its_place() {
        for (text, part) in [
            ("ts", "not column ts, at line 1, column 1"),
            ("t.ts", "column t.ts"),
            ("now() - x", "column x"),
            ("\"2026-01-01\"", "column \"2026-01-01\""),
            ("(select 1)", "a query"),
            ("NULL", "NULL"),
            ("'yesterday'", "yesterday"),
            ("1.5", "of type"),
            ("true", "of type Boolean"),
            ("interval '1 day'", "Interval"),
            ("9223372036854775807", "out of range"),
            ("nothing(1)", "nothing"),
        ] {
            let error = millis(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("at line"), "{error}");
        }
    }
}
