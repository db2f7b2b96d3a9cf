//! Where parameters stand in a statement.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::PARAMETERS_MAX;
use super::bind::function_name;
use crate::{Error, Result};

/// Turns each `?` into `$1`, `$2`, ... in their order. What stands in texts, comments and quoted
/// names is no token of its own.
///
/// # Errors
/// [`Error::Sql`] for both forms in one statement, and for what is no parameter.
pub fn number(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut asked = 0;
    let mut is_numbered = None;
    for token in &mut tokens {
        let at = token.span.start;
        let Token::Placeholder(text) = &mut token.token else {
            continue;
        };
        let numbered = text != "?";
        if is_numbered
            .replace(numbered)
            .is_some_and(|before| before != numbered)
        {
            return Err(Error::Sql(format!(
                "parameters are either all ? or all $1, $2, ...: {text}{} is of the other form",
                place(at)
            )));
        }
        asked += 1;
        let number = match numbered {
            true => given(text).ok_or_else(|| unknown(text, at))?,
            false => asked,
        };
        if number > PARAMETERS_MAX {
            return Err(Error::Sql(format!(
                "a statement may have {PARAMETERS_MAX} parameters"
            )));
        }
        *text = super::name(number);
    }
    Ok(tokens)
}

/// The number of `$1`.
fn given(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('$')?;
    let number = digits.parse::<usize>().ok()?;
    (number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

fn unknown(text: &str, at: Location) -> Error {
    Error::Sql(format!(
        "{text}{} is no parameter; ? is, and $1, $2, ...",
        place(at)
    ))
}

fn place(at: Location) -> String {
    match at.line {
        0 => String::new(),
        line => format!(" at line {line}, column {}", at.column),
    }
}

/// What is done with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They stay as they are.
    Keep,
    /// They become calls of the functions that stand for their values.
    Call,
}

/// Finds the parameters of a statement; returns the highest number.
///
/// # Errors
/// [`Error::Sql`] for other kinds of parameters, and for one where only a constant may stand.
pub fn take(statement: &mut Statement, mode: Mode) -> Result<usize> {
    let mut places = Places { mode, highest: 0 };
    match places.statement(statement) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(places.highest),
    }
}

struct Places {
    mode: Mode,
    highest: usize,
}

impl Places {
    fn statement(&mut self, statement: &mut Statement) -> ControlFlow<Error> {
        match statement {
            Statement::Statement(sql) => sql.visit(self),
            Statement::Explain(explain) => self.statement(&mut explain.statement),
            Statement::CopyTo(copy) => match &mut copy.source {
                CopyToSource::Query(query) => query.visit(self),
                CopyToSource::Relation(_) => ControlFlow::Continue(()),
            },
            Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
        }
    }

    fn number(&mut self, value: &ValueWithSpan) -> ControlFlow<Error, Option<usize>> {
        let Value::Placeholder(text) = &value.value else {
            return ControlFlow::Continue(None);
        };
        match given(text) {
            Some(number) => {
                self.highest = self.highest.max(number);
                ControlFlow::Continue(Some(number))
            }
            // `:name` and `@name`, which are several tokens.
            None => ControlFlow::Break(unknown(text, value.span.start)),
        }
    }
}

impl VisitorMut for Places {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Value(value) = expr
            && self.mode == Mode::Call
            && let Some(number) = self.number(value)?
        {
            *expr = call(number, value);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Error> {
        match (self.number(value)?, self.mode) {
            (Some(number), Mode::Call) => ControlFlow::Break(Error::Sql(format!(
                "parameter ${number}{} stands where only a constant may",
                place(value.span.start)
            ))),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn call(number: usize, value: &ValueWithSpan) -> Expr {
    let name = Ident::with_span(value.span, function_name(number));
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![],
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statement::parse;

    fn numbered(sql: &str) -> Result<String> {
        parse(sql).map(|parsed| parsed.statement.to_string())
    }

    #[test]
    fn question_marks_are_numbered_where_they_are_parameters() {
        for (sql, expected) in [
            ("select ?, ?", "SELECT $1, $2"),
            (
                "select '?', \"?\", ? -- ?\n /* ? */ from t",
                "SELECT '?', \"?\", $1 FROM t",
            ),
            ("select $2, $10, $2", "SELECT $2, $10, $2"),
            ("select $$?$$, ?", "SELECT $$?$$, $1"),
            ("select a limit ? offset ?", "SELECT a LIMIT $1 OFFSET $2"),
            (
                "insert into t values (?, ?), (?, 'it''s ?')",
                "INSERT INTO t VALUES ($1, $2), ($3, 'it''s ?')",
            ),
        ] {
            assert_eq!(numbered(sql).unwrap(), expected, "{sql}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for (sql, part) in [
            ("select ?, $1", "either all ? or all"),
            (
                "select $1, ?",
                "? at line 1, column 12 is of the other form",
            ),
            ("select $0", "$0 at line 1, column 8 is no parameter"),
            ("select $name", "$name"),
            ("select ?1", "?1"),
            ("select $99999", "10000 parameters"),
        ] {
            let error = numbered(sql).unwrap_err().to_string();
            assert!(error.contains(part), "{sql}: {error}");
        }
        let mut statement = parse("select :name").unwrap().statement;
        let error = take(&mut statement, Mode::Keep).unwrap_err().to_string();
        assert!(error.contains(":name"), "{error}");
    }

    #[test]
    fn the_highest_number_is_found_everywhere() {
        for (sql, highest) in [
            ("select 1", 0),
            ("select $2 + $10", 10),
            ("explain select $3", 3),
            ("copy (select $4) to 'x.csv'", 4),
            ("select (select max(a) from t where b = $5) limit $6", 6),
            ("with q as (select $7) select * from q", 7),
        ] {
            for mode in [Mode::Keep, Mode::Call] {
                let mut statement = parse(sql).unwrap().statement;
                assert_eq!(take(&mut statement, mode).unwrap(), highest, "{sql}");
            }
        }
    }
}
