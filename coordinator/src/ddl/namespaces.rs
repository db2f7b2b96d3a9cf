//! `CREATE NAMESPACE a.b COMMENT '…' LOCATION '…' WITH PROPERTIES ('k' = 'v')`: Spark's words for
//! schemas, and what may be said of a new one.
//!
//! The parser knows neither: `NAMESPACE` and `DATABASE` become `SCHEMA`, and the clauses are taken
//! out of the tokens before the statement is parsed. Trino's `WITH (location = '…')` is the same.

use datafusion::sql::sqlparser::ast::{Expr, Ident, SqlOption, Value};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::words::{is_any, is_word, quoted_text, without_space, word};

/// Properties that clauses of their own set, as Spark and Trino call them.
const COMMENT: &str = "comment";
const LOCATION: &str = "location";

/// Takes the clauses of a new schema out of the tokens; for `DROP` and `SHOW` only the words change.
///
/// # Errors
/// A clause does not follow its form.
pub fn take(
    mut tokens: Vec<TokenWithSpan>,
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<(Vec<TokenWithSpan>, Vec<SqlOption>), ParserError> {
    let first: Vec<(usize, &Token)> = without_space(&tokens).take(2).collect();
    let [(_, verb), (place, kind)] = first[..] else {
        return Ok((tokens, vec![]));
    };
    let creates = is_word(verb, "create");
    let is_schema = is_any(kind, &["schema", "namespace", "database"]);
    let renamed = if is_schema && (creates || is_word(verb, "drop")) {
        "SCHEMA"
    } else if is_word(verb, "show") && is_word(kind, "namespaces") {
        "SCHEMAS"
    } else {
        return Ok((tokens, vec![]));
    };
    if let Some(kind) = tokens.get_mut(place) {
        kind.token = Token::make_keyword(renamed);
    }
    if !creates {
        return Ok((tokens, vec![]));
    }
    let behind = place + 1;
    let rest = tokens.get(behind..).unwrap_or_default().to_vec();
    let mut parser = Parser::new(dialect)
        .with_recursion_limit(recursion_limit)
        .with_tokens_with_locations(rest);
    let _ = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    if parser.parse_object_name(false).is_err() {
        // The parser says what is wrong.
        return Ok((tokens, vec![]));
    }
    let begin = behind + parser.get_current_index() + 1;
    let properties = clauses(&mut parser)?;
    if !properties.is_empty() {
        let end = behind + parser.get_current_index() + 1;
        tokens.drain(begin..end.min(tokens.len()));
    }
    Ok((tokens, properties))
}

fn clauses(parser: &mut Parser<'_>) -> Result<Vec<SqlOption>, ParserError> {
    let mut properties = vec![];
    loop {
        if word(parser, COMMENT) {
            properties.push(text(parser, COMMENT)?);
        } else if word(parser, LOCATION) {
            properties.push(text(parser, LOCATION)?);
        } else if word(parser, "with") {
            let _ = word(parser, "properties") || word(parser, "dbproperties");
            parser.expect_token(&Token::LParen)?;
            properties.extend(parser.parse_comma_separated(property)?);
            parser.expect_token(&Token::RParen)?;
        } else {
            return Ok(properties);
        }
    }
}

fn text(parser: &mut Parser<'_>, name: &str) -> Result<SqlOption, ParserError> {
    let text = quoted_text(parser)?;
    let value = Value::SingleQuotedString(text).with_span(Span::empty());
    Ok(SqlOption::KeyValue {
        key: Ident::new(name),
        value: Expr::Value(value),
    })
}

fn property(parser: &mut Parser<'_>) -> Result<SqlOption, ParserError> {
    let key = parser.parse_identifier()?;
    parser.expect_token(&Token::Eq)?;
    let value = parser.parse_expr()?;
    Ok(SqlOption::KeyValue { key, value })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn split(sql: &str) -> Result<(String, Vec<String>), ParserError> {
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location()?;
        let (kept, properties) = take(tokens, &dialect, 128)?;
        let text: String = kept.iter().map(|token| token.token.to_string()).collect();
        let words: Vec<&str> = text.split_whitespace().collect();
        let properties = properties.iter().map(ToString::to_string).collect();
        Ok((words.join(" "), properties))
    }

    #[test]
    fn words_of_spark_are_words_for_schemas() {
        for (sql, rest, properties) in [
            ("CREATE NAMESPACE a.b", "CREATE SCHEMA a.b", vec![]),
            (
                "create database if not exists a;",
                "create SCHEMA if not exists a;",
                vec![],
            ),
            (
                "DROP NAMESPACE IF EXISTS a",
                "DROP SCHEMA IF EXISTS a",
                vec![],
            ),
            (
                "SHOW NAMESPACES LIKE 'a%'",
                "SHOW SCHEMAS LIKE 'a%'",
                vec![],
            ),
            (
                "CREATE SCHEMA a COMMENT 'it''s' LOCATION 's3://x' WITH DBPROPERTIES ('k.l' = 'v', n = 1) ;",
                "CREATE SCHEMA a ;",
                vec![
                    "comment = 'it''s'",
                    "location = 's3://x'",
                    "'k.l' = 'v'",
                    "n = 1",
                ],
            ),
            (
                "CREATE SCHEMA a WITH (location = 's3://x')",
                "CREATE SCHEMA a",
                vec!["location = 's3://x'"],
            ),
            (
                "CREATE SCHEMA AUTHORIZATION joe",
                "CREATE SCHEMA AUTHORIZATION joe",
                vec![],
            ),
            (
                "CREATE SCHEMA a AUTHORIZATION joe",
                "CREATE SCHEMA a AUTHORIZATION joe",
                vec![],
            ),
            (
                "SELECT namespace FROM database",
                "SELECT namespace FROM database",
                vec![],
            ),
        ] {
            let expected = (
                rest.to_owned(),
                properties.iter().map(|p| (*p).to_owned()).collect(),
            );
            assert_eq!(split(sql).unwrap(), expected, "{sql}");
        }
        for sql in [
            "CREATE SCHEMA a COMMENT b",
            "CREATE SCHEMA a WITH PROPERTIES",
            "CREATE SCHEMA a WITH ('a' 'b')",
        ] {
            assert!(split(sql).is_err(), "{sql}");
        }
    }
}
