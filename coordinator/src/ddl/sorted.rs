//! `ORDER BY (day(ts), id DESC)` of a `CREATE TABLE`: the table's sort order. `SORTED BY`, `ORDERED BY`
//! and `WRITE ORDERED BY` are the same, and the parentheses may be left out.
//!
//! The clause is taken out of the tokens before the statement is parsed, as that of
//! [`partitions`](super::partitions) is; the `ORDER BY` of a query behind `AS` stays.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::OrderByExpr;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use iceberg::spec::{Schema, SortOrder};
use inshore_lake::sort_order::sort_order;

use super::order::{BY_RANGE, DISTRIBUTION_MODE, keys};
use super::words::{is_any, is_word, without_space};
use crate::{Error, Result};

/// What errors call the clause.
const CLAUSE: &str = "ORDER BY";

/// Most keys of an order.
const KEYS_MAX: usize = 1_000;

/// Takes the sort order of a `CREATE TABLE` out of its tokens.
///
/// # Errors
/// What stands behind `BY` is no list of expressions, or there are two such clauses.
pub fn take(
    mut tokens: Vec<TokenWithSpan>,
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<(Vec<TokenWithSpan>, Option<Vec<OrderByExpr>>), ParserError> {
    let Some((begin, behind)) = clause(&tokens) else {
        return Ok((tokens, None));
    };
    let rest = tokens.get(behind..).unwrap_or_default().to_vec();
    let mut parser = Parser::new(dialect)
        .with_recursion_limit(recursion_limit)
        .with_tokens_with_locations(rest);
    let fields = match parser.consume_token(&Token::LParen) {
        true => {
            let fields = parser.parse_comma_separated(Parser::parse_order_by_expr)?;
            parser.expect_token(&Token::RParen)?;
            fields
        }
        false => parser.parse_comma_separated(Parser::parse_order_by_expr)?,
    };
    let end = behind + parser.get_current_index() + 1;
    tokens.drain(begin..end.min(tokens.len()));
    if let Some((second, _)) = clause(&tokens)
        && let Some(found) = tokens.get(second)
    {
        let parser = Parser::new(dialect);
        return parser.expected("one sort order", found.clone());
    }
    Ok((tokens, Some(fields)))
}

/// Where the clause begins, and where what follows its `BY` does.
fn clause(tokens: &[TokenWithSpan]) -> Option<(usize, usize)> {
    let words: Vec<(usize, &Token)> = without_space(tokens).collect();
    let at = |place: usize, text: &str| words.get(place).is_some_and(|(_, t)| is_word(t, text));
    let replaces = at(1, "or") && at(2, "replace");
    if !at(0, "create") || !at(if replaces { 3 } else { 1 }, "table") {
        return None;
    }
    let mut depth = 0_usize;
    for (place, (begin, token)) in words.iter().enumerate() {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            // Hive's buckets have an order of their own.
            token if is_any(token, &["as", "clustered"]) => return None,
            token if is_word(token, "write") && at(place + 1, "ordered") && at(place + 2, "by") => {
                return words.get(place + 3).map(|(behind, _)| (*begin, *behind));
            }
            token if is_any(token, &["order", "ordered", "sorted"]) && at(place + 1, "by") => {
                return words.get(place + 2).map(|(behind, _)| (*begin, *behind));
            }
            _ => {}
        }
    }
    None
}

/// The sort order that the fields describe; none without fields. Rows are dealt out for it as after
/// `ALTER TABLE ... WRITE ORDERED BY`, unless the properties say how.
///
/// # Errors
/// [`Error::Sql`] for a field that is no transform of a column, [`Error::Lake`] for a column that the
/// schema does not have or that cannot be sorted.
pub fn order_of(
    schema: &Schema,
    fields: &[OrderByExpr],
    properties: &mut HashMap<String, String>,
) -> Result<Option<SortOrder>> {
    if fields.is_empty() {
        return Ok(None);
    }
    if fields.len() > KEYS_MAX {
        return Err(Error::Sql(format!("more than {KEYS_MAX} sort keys")));
    }
    let order = sort_order(schema, &keys(CLAUSE, fields)?)?;
    let mode = properties.entry(DISTRIBUTION_MODE.to_owned());
    mode.or_insert_with(|| BY_RANGE.to_owned());
    Ok(Some(order))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    /// The rest of the statement with single spaces, and the fields.
    fn split(sql: &str) -> (String, Option<Vec<String>>) {
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, sql)
            .tokenize_with_location()
            .unwrap();
        let (kept, fields) = take(tokens, &dialect, 128).unwrap();
        let text: String = kept.iter().map(|token| token.token.to_string()).collect();
        let words: Vec<&str> = text.split_whitespace().collect();
        let fields = fields.map(|fields| fields.iter().map(ToString::to_string).collect());
        (words.join(" "), fields)
    }

    #[test]
    fn the_clause_is_taken_out_wherever_it_stands() {
        for clause in [
            "ORDER BY (a DESC NULLS LAST, day(ts))",
            "order by a desc nulls last, day(ts)",
            "SORTED BY (a DESC NULLS LAST, day(ts))",
            "ORDERED BY (a DESC NULLS LAST, day(ts))",
            "WRITE ORDERED BY a DESC NULLS LAST, day(ts)",
        ] {
            for (before, behind) in [
                ("CREATE TABLE t (a int, ts timestamp)", ""),
                ("create or replace table t", "AS SELECT 1 AS a ORDER BY a"),
                (
                    "CREATE TABLE t (a int)",
                    "LOCATION 'x' TBLPROPERTIES ('a' = 'b')",
                ),
                (
                    "CREATE TABLE IF NOT EXISTS t (a int) PARTITIONED BY (a)",
                    "WITH (x = 1)",
                ),
                ("CREATE TABLE t (a int) COMMENT 'c'", ";"),
            ] {
                let (rest, fields) = split(&format!("{before} {clause} {behind}"));
                assert_eq!(rest, format!("{before} {behind}").trim(), "{clause}");
                let fields = fields.unwrap();
                assert_eq!(
                    fields,
                    ["a DESC NULLS LAST", "day(ts)"],
                    "{clause} {behind}"
                );
            }
        }
    }

    #[test]
    fn the_order_of_a_query_stays() {
        for sql in [
            "CREATE TABLE t AS SELECT 1 AS a ORDER BY (a)",
            "CREATE VIEW v AS SELECT 1 AS a ORDER BY a",
            "CREATE TABLE t (\"order\" int, sorted int)",
            "SELECT a FROM t ORDER BY (a)",
            "CREATE TABLE t (a int) CLUSTERED BY (a) SORTED BY (a) INTO 4 BUCKETS",
            "CREATE EXTERNAL TABLE t STORED AS ICEBERG LOCATION 'x'",
        ] {
            assert_eq!(split(sql), (sql.to_owned(), None));
        }
    }
}
