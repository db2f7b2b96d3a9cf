//! `ALTER TABLE t CREATE BRANCH b AS OF VERSION 1 RETAIN 7 DAYS`, `REPLACE TAG`, `DROP BRANCH` and so
//! on, as Spark's Iceberg extensions have them.
//!
//! The parser does not know these: they are read from the tokens, and what is left is an `ALTER
//! TABLE` without operations.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{AlterTable, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use inshore_lake::snapshot::{Mode, RefAction, RefChange, RefKind, Retention};

use super::words::word;
use crate::scope::normalized;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Reads the statement; none when it is another one.
///
/// # Errors
/// What does not follow the form.
pub fn parse(
    tokens: &[TokenWithSpan],
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<Option<(Statement, RefChange)>, ParserError> {
    let mut parser = Parser::new(dialect)
        .with_recursion_limit(recursion_limit)
        .with_tokens_with_locations(tokens.to_vec());
    if !parser.parse_keywords(&[Keyword::ALTER, Keyword::TABLE]) {
        return Ok(None);
    }
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let Ok(name) = parser.parse_object_name(false) else {
        return Ok(None);
    };
    let Some((verb, kind)) = verb_and_kind(&mut parser) else {
        return Ok(None);
    };
    let change = change(&mut parser, verb, kind)?;
    let _ = parser.consume_token(&Token::SemiColon);
    parser.expect_token(&Token::EOF)?;
    let alter = AlterTable {
        name,
        if_exists,
        only: false,
        operations: vec![],
        location: None,
        on_cluster: None,
        table_type: None,
        end_token: AttachedToken::empty(),
    };
    let statement = Statement::Statement(Box::new(SqlStatement::AlterTable(alter)));
    Ok(Some((statement, change)))
}

#[derive(Clone, Copy)]
enum Verb {
    Create,
    CreateOrReplace,
    Replace,
    Drop,
}

fn verb_and_kind(parser: &mut Parser<'_>) -> Option<(Verb, RefKind)> {
    let verb = if word(parser, "create") {
        match parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]) {
            true => Verb::CreateOrReplace,
            false => Verb::Create,
        }
    } else if word(parser, "replace") {
        Verb::Replace
    } else if word(parser, "drop") {
        Verb::Drop
    } else {
        return None;
    };
    let kind = if word(parser, "branch") {
        RefKind::Branch
    } else if word(parser, "tag") {
        RefKind::Tag
    } else {
        return None;
    };
    // `DROP branch` drops a column of that name.
    let is_column = matches!(verb, Verb::Drop)
        && matches!(
            parser.peek_token_ref().token,
            Token::EOF | Token::SemiColon | Token::Comma
        );
    (!is_column).then_some((verb, kind))
}

fn change(parser: &mut Parser<'_>, verb: Verb, kind: RefKind) -> Result<RefChange, ParserError> {
    let conditional = match verb {
        Verb::Create => parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]),
        Verb::Drop => parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]),
        Verb::CreateOrReplace | Verb::Replace => false,
    };
    let at = parser.peek_token();
    let name = normalized(&parser.parse_identifier()?);
    if name.is_empty() {
        return parser.expected("a name that is not empty", at);
    }
    let mode = match verb {
        Verb::Drop => {
            let action = RefAction::Drop {
                if_exists: conditional,
            };
            return Ok(RefChange { kind, name, action });
        }
        Verb::Create if conditional => Mode::CreateIfNotExists,
        Verb::Create => Mode::Create,
        Verb::CreateOrReplace => Mode::CreateOrReplace,
        Verb::Replace => Mode::Replace,
    };
    let snapshot = match word(parser, "as") {
        true => {
            expect(parser, "of")?;
            expect(parser, "version")?;
            Some(positive(parser, "a snapshot id")?)
        }
        false => None,
    };
    let mut retention = Retention::default();
    if word(parser, "retain") {
        let at = parser.peek_token();
        let number = positive(parser, "a number of DAYS, HOURS or MINUTES")?;
        retention.max_ref_age_ms = Some(age(parser, number, &at)?);
    }
    if word(parser, "with") {
        snapshot_retention(parser, kind, &mut retention)?;
    }
    let action = RefAction::Put {
        mode,
        snapshot,
        retention,
    };
    Ok(RefChange { kind, name, action })
}

/// `SNAPSHOT RETENTION 3 SNAPSHOTS 2 DAYS`, or one of the two.
fn snapshot_retention(
    parser: &mut Parser<'_>,
    kind: RefKind,
    retention: &mut Retention,
) -> Result<(), ParserError> {
    let found = parser.peek_token();
    expect(parser, "snapshot")?;
    expect(parser, "retention")?;
    if kind == RefKind::Tag {
        let what = "the end: a tag has one snapshot, and SNAPSHOT RETENTION is for branches";
        return parser.expected(what, found);
    }
    let at = parser.peek_token();
    let number = positive(parser, "a number of SNAPSHOTS, DAYS, HOURS or MINUTES")?;
    if !word(parser, "snapshots") && !word(parser, "snapshot") {
        retention.max_snapshot_age_ms = Some(age(parser, number, &at)?);
        return Ok(());
    }
    let Ok(number) = i32::try_from(number) else {
        return parser.expected("a smaller number of snapshots", at);
    };
    retention.min_snapshots = Some(number);
    let at = parser.peek_token();
    if matches!(at.token, Token::Number(..)) {
        let number = positive(parser, "a number of DAYS, HOURS or MINUTES")?;
        retention.max_snapshot_age_ms = Some(age(parser, number, &at)?);
    }
    Ok(())
}

/// The unit after a number, and both in milliseconds.
fn age(parser: &mut Parser<'_>, number: i64, at: &TokenWithSpan) -> Result<i64, ParserError> {
    let units = [
        ("days", DAY_MS),
        ("day", DAY_MS),
        ("hours", HOUR_MS),
        ("hour", HOUR_MS),
        ("minutes", MINUTE_MS),
        ("minute", MINUTE_MS),
    ];
    let unit = units.iter().find(|(name, _)| word(parser, name));
    let Some((_, unit)) = unit else {
        let found = parser.peek_token();
        return parser.expected("DAYS, HOURS or MINUTES", found);
    };
    match number.checked_mul(*unit) {
        Some(age) => Ok(age),
        None => parser.expected("a shorter time", at.clone()),
    }
}

fn positive(parser: &mut Parser<'_>, what: &str) -> Result<i64, ParserError> {
    let token = parser.next_token();
    let number = match &token.token {
        Token::Number(digits, _) => digits.parse::<i64>().ok().filter(|number| *number > 0),
        _ => None,
    };
    match number {
        Some(number) => Ok(number),
        None => parser.expected(&format!("{what}, which is positive"), token),
    }
}

fn expect(parser: &mut Parser<'_>, text: &str) -> Result<(), ParserError> {
    match word(parser, text) {
        true => Ok(()),
        false => {
            let found = parser.peek_token();
            parser.expected(&text.to_uppercase(), found)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn read(sql: &str) -> Result<Option<RefChange>, ParserError> {
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location()?;
        Ok(parse(&tokens, &dialect, 128)?.map(|(_, change)| change))
    }

    fn put(sql: &str) -> (RefKind, String, Mode, Option<i64>, [Option<i64>; 3]) {
        let change = read(&format!("ALTER TABLE a.t {sql}")).unwrap().unwrap();
        let RefAction::Put {
            mode,
            snapshot,
            retention,
        } = change.action
        else {
            return (change.kind, change.name, Mode::Create, None, [None; 3]);
        };
        let kept = [
            retention.max_ref_age_ms,
            retention.min_snapshots.map(i64::from),
            retention.max_snapshot_age_ms,
        ];
        (change.kind, change.name, mode, snapshot, kept)
    }

    #[test]
    fn every_form_is_read() {
        let (branch, tag) = (RefKind::Branch, RefKind::Tag);
        for (sql, kind, name, mode, snapshot, kept) in [
            (
                "create branch B",
                branch,
                "b",
                Mode::Create,
                None,
                [None; 3],
            ),
            (
                "CREATE BRANCH IF NOT EXISTS \"B-1\" AS OF VERSION 12;",
                branch,
                "B-1",
                Mode::CreateIfNotExists,
                Some(12),
                [None; 3],
            ),
            (
                "CREATE OR REPLACE TAG t RETAIN 2 HOURS",
                tag,
                "t",
                Mode::CreateOrReplace,
                None,
                [Some(7_200_000), None, None],
            ),
            (
                "REPLACE BRANCH b AS OF VERSION 9223372036854775807 RETAIN 1 DAYS \
                 WITH SNAPSHOT RETENTION 3 SNAPSHOTS 30 MINUTES",
                branch,
                "b",
                Mode::Replace,
                Some(i64::MAX),
                [Some(86_400_000), Some(3), Some(1_800_000)],
            ),
            (
                "REPLACE BRANCH b WITH SNAPSHOT RETENTION 3 SNAPSHOTS",
                branch,
                "b",
                Mode::Replace,
                None,
                [None, Some(3), None],
            ),
            (
                "CREATE BRANCH retain WITH SNAPSHOT RETENTION 2 DAYS",
                branch,
                "retain",
                Mode::Create,
                None,
                [None, None, Some(172_800_000)],
            ),
        ] {
            let expected = (kind, name.to_owned(), mode, snapshot, kept);
            assert_eq!(put(sql), expected, "{sql}");
        }
        for (sql, if_exists) in [("drop tag x", false), ("DROP BRANCH IF EXISTS x", true)] {
            let sql = format!("alter table if exists t {sql}");
            let change = read(&sql).unwrap().unwrap();
            assert_eq!(change.action, RefAction::Drop { if_exists }, "{sql}");
        }
    }

    #[test]
    fn other_statements_are_left_to_the_parser() {
        for sql in [
            "ALTER TABLE t DROP COLUMN branch",
            "ALTER TABLE t DROP branch",
            "ALTER TABLE t DROP tag, DROP COLUMN x",
            "ALTER TABLE t ADD COLUMN tag int",
            "ALTER TABLE create RENAME TO branch",
            "CREATE TABLE branch (a int)",
            "SELECT 1",
        ] {
            assert_eq!(read(sql), Ok(None), "{sql}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_place() {
        for (sql, part) in [
            ("CREATE BRANCH", "identifier"),
            ("CREATE TAG \"\"", "not empty"),
            ("CREATE BRANCH b AS OF 1", "VERSION"),
            ("CREATE BRANCH b AS OF VERSION 'x'", "a snapshot id"),
            ("CREATE BRANCH b AS OF VERSION 0", "positive"),
            ("CREATE BRANCH b RETAIN 0 DAYS", "positive"),
            ("CREATE BRANCH b RETAIN 5", "DAYS, HOURS or MINUTES"),
            ("CREATE BRANCH b RETAIN 5 YEARS", "DAYS, HOURS or MINUTES"),
            ("CREATE BRANCH b RETAIN 9223372036854775807 DAYS", "shorter"),
            (
                "CREATE TAG b WITH SNAPSHOT RETENTION 1 DAYS",
                "for branches",
            ),
            (
                "CREATE BRANCH b WITH SNAPSHOT RETENTION 3000000000 SNAPSHOTS",
                "smaller",
            ),
            ("CREATE BRANCH b WITH SNAPSHOT RETENTION", "a number of"),
            ("DROP BRANCH b AS OF VERSION 1", "Expected: EOF"),
            ("REPLACE TAG IF EXISTS b", "Expected: EOF"),
        ] {
            let error = read(&format!("ALTER TABLE t\n{sql}")).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(part), "{sql}: {error}");
        }
    }
}
