//! Clauses of `ALTER TABLE` that the parser does not know: those of Spark's Iceberg extensions.
//!
//! ```text
//! ALTER TABLE [IF EXISTS] t clause {, clause}
//!                           one of READERS, else the parser's own -> alterations
//! ```
//!
//! A statement without any of them is left to the parser.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{AlterTable, AlterTableOperation, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use inshore_lake::evolution::Alteration;

use super::{alter, columns, order, partition_fields, properties};
use crate::Result;
use crate::statement::syntax;

/// Reads one clause from its first word on. One that is none of its own leaves the parser where it
/// is and gives nothing.
type Reader = fn(&mut Parser<'_>) -> Result<Option<Vec<Alteration>>>;

const READERS: [Reader; 4] = [
    order::clause,
    partition_fields::clause,
    properties::clause,
    columns::clause,
];

/// A clause as far as it is read.
enum Clause {
    Ours(Vec<Alteration>),
    Parsers(Box<AlterTableOperation>),
}

/// Reads the statement; none when it is another one, or has only what the parser knows. What is left
/// of it has no operations.
///
/// # Errors
/// What does not follow the form of its clause.
pub fn parse(
    tokens: &[TokenWithSpan],
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<Option<(Statement, Vec<Alteration>)>> {
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
    let Some(clauses) = clauses(&mut parser)? else {
        return Ok(None);
    };
    let _ = parser.consume_token(&Token::SemiColon);
    if parser.peek_token_ref().token != Token::EOF {
        return unexpected(&parser, "end of statement");
    }
    let alterations = clauses.into_iter().map(|clause| match clause {
        Clause::Ours(alterations) => Ok(alterations),
        Clause::Parsers(operation) => alter::alterations(&operation),
    });
    let alterations = alterations.collect::<Result<Vec<_>>>()?;
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
    Ok(Some((statement, alterations.concat())))
}

/// All clauses; none when the parser knows them all.
fn clauses(parser: &mut Parser<'_>) -> Result<Option<Vec<Clause>>> {
    let (mut found, mut any_ours) = (vec![], false);
    loop {
        if let Some(alterations) = clause(parser)? {
            any_ours = true;
            found.push(Clause::Ours(alterations));
        } else {
            match parser.parse_alter_table_operation() {
                Ok(operation) => found.push(Clause::Parsers(Box::new(operation))),
                Err(error) if any_ours => return Err(syntax(error)),
                Err(_) => return Ok(None),
            }
        }
        if !parser.consume_token(&Token::Comma) {
            return Ok(any_ours.then_some(found));
        }
    }
}

fn clause(parser: &mut Parser<'_>) -> Result<Option<Vec<Alteration>>> {
    for reader in READERS {
        if let Some(alterations) = reader(parser)? {
            return Ok(Some(alterations));
        }
    }
    Ok(None)
}

/// Whether the tokens behind the next `skip` ones are these words.
pub fn ahead(parser: &Parser<'_>, skip: usize, wanted: &[&str]) -> bool {
    wanted.iter().enumerate().all(|(at, text)| {
        matches!(&parser.peek_nth_token_ref(skip + at).token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
    })
}

/// Whether the next tokens are these words; only then they are taken.
pub fn words(parser: &mut Parser<'_>, wanted: &[&str]) -> bool {
    let found = ahead(parser, 0, wanted);
    if found {
        wanted.iter().for_each(|_| parser.advance_token());
    }
    found
}

/// The error of another token than those that are `wanted`.
pub fn unexpected<T>(parser: &Parser<'_>, wanted: &str) -> Result<T> {
    let found = parser.peek_token();
    parser.expected(wanted, found).map_err(syntax)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn read(sql: &str) -> Result<Option<String>> {
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location();
        let found = parse(&tokens.unwrap(), &dialect, 50)?;
        Ok(found.map(|(_, alterations)| {
            let kinds = alterations.iter().map(|alteration| {
                let text = format!("{alteration:?}");
                let end = text.find(|c: char| !c.is_alphanumeric());
                text[..end.unwrap_or(text.len())].to_owned()
            });
            kinds.collect::<Vec<_>>().join(" ")
        }))
    }

    #[test]
    fn clauses_are_told_apart() {
        for (clauses, expected) in [
            ("ADD COLUMN a int", None),
            ("DROP a", None),
            ("RENAME TO b", None),
            ("ALTER COLUMN a TYPE bigint", None),
            ("ALTER COLUMN a SET NOT NULL", None),
            ("ALTER COLUMN a SET DEFAULT 5", None),
            ("ADD PARTITION (a = 1)", None),
            (
                "ADD COLUMN a int, DROP COLUMN b",
                Some("AddColumn DropColumn"),
            ),
            ("ADD COLUMN s.a int AFTER s.b", Some("AddColumn")),
            ("ADD COLUMN IF NOT EXISTS s.a int", Some("AddColumn")),
            (
                "ADD COLUMNS (a int COMMENT 'x' AFTER b, s.c varchar), DROP COLUMN d",
                Some("AddColumn AddColumn DropColumn"),
            ),
            ("ADD COLUMN (a int)", Some("AddColumn")),
            (
                "DROP COLUMNS a, s.b, \"add\"",
                Some("DropColumn DropColumn DropColumn"),
            ),
            ("DROP COLUMN (a, b)", Some("DropColumn DropColumn")),
            (
                "DROP COLUMN a, add, DROP COLUMN b",
                Some("DropColumn DropColumn DropColumn"),
            ),
            ("RENAME COLUMN s.a TO b", Some("RenameColumn")),
            (
                "ALTER COLUMN a FIRST, ALTER b AFTER a",
                Some("MoveColumn MoveColumn"),
            ),
            ("ALTER COLUMN l.element TYPE bigint", Some("Promote")),
            ("ALTER s.a DROP NOT NULL", Some("DropNotNull")),
            ("ALTER COLUMN a COMMENT 'x'", Some("Comment")),
            (
                "ADD PARTITION FIELD bucket(16, id) AS b, DROP PARTITION FIELD day(ts)",
                Some("AddPartitionField DropPartitionField"),
            ),
            (
                "REPLACE PARTITION FIELD a WITH hours(ts)",
                Some("ReplacePartitionField"),
            ),
            (
                "UNSET TBLPROPERTIES IF EXISTS ('a', b.c)",
                Some("UnsetProperties"),
            ),
            (
                "SET PROPERTIES format_version = 3, \"a.b\" = DEFAULT, DROP COLUMN a",
                Some("SetProperties UnsetProperties DropColumn"),
            ),
            (
                "SET IDENTIFIER FIELDS a, s.b, WRITE UNORDERED",
                Some("SetIdentifierFields SetSortOrder SetProperties"),
            ),
            ("DROP IDENTIFIER FIELDS a;", Some("DropIdentifierFields")),
        ] {
            let found = read(&format!("ALTER TABLE IF EXISTS n.t {clauses}")).unwrap();
            assert_eq!(found.as_deref(), expected, "{clauses}");
        }
        assert_eq!(read("SELECT 1").unwrap(), None);
    }

    #[test]
    fn what_does_not_follow_the_form_is_an_error() {
        for (clauses, part) in [
            ("ADD PARTITION FIELD month(ts) FOR", "end of statement"),
            ("ADD PARTITION FIELD minute(ts)", "a field is a column"),
            ("REPLACE PARTITION FIELD a", "WITH"),
            (
                "ALTER COLUMN s.a SET DEFAULT 5",
                "after ALTER COLUMN and a name",
            ),
            ("ALTER COLUMN s.a AFTER q.b", "the fields of s"),
            ("DROP COLUMNS (a", "Expected: )"),
            (
                "SET PROPERTIES partitioning = 1",
                "ADD, DROP or REPLACE PARTITION FIELD",
            ),
            ("UNSET TBLPROPERTIES a", "Expected: ("),
        ] {
            let error = read(&format!("ALTER TABLE t {clauses}")).unwrap_err();
            assert!(error.to_string().contains(part), "{clauses}: {error}");
        }
    }
}
