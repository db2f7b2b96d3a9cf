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

use super::{alter, order};
use crate::Result;
use crate::statement::syntax;

/// Reads one clause from its first word on. One that is none of its own leaves the parser where it
/// is and gives nothing.
type Reader = fn(&mut Parser<'_>) -> Result<Option<Vec<Alteration>>>;

const READERS: [Reader; 1] = [order::clause];

/// A clause as far as it is read.
enum Clause {
    Ours(Vec<Alteration>),
    Parsers(AlterTableOperation),
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
    parser.expect_token(&Token::EOF).map_err(syntax)?;
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
                Ok(operation) => found.push(Clause::Parsers(operation)),
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

/// Whether the next tokens are these words; only then they are taken.
pub fn words(parser: &mut Parser<'_>, wanted: &[&str]) -> bool {
    let found = wanted.iter().enumerate().all(|(at, text)| {
        matches!(&parser.peek_nth_token_ref(at).token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
    });
    if found {
        wanted.iter().for_each(|_| parser.advance_token());
    }
    found
}
