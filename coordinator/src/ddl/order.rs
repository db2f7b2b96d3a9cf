//! `ALTER TABLE t WRITE ORDERED BY day(ts), id DESC NULLS LAST`, as Spark's Iceberg extensions have it.
//!
//! The parser does not know the clause: it is read from the tokens, and what is left is an `ALTER
//! TABLE` without operations.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{AlterTable, OrderByExpr, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use iceberg::spec::{NullOrder, SortDirection};
use inshore_lake::evolution::{Alteration, SortKey};

use super::partitions::transformed;
use crate::{Error, Result};

/// Property that says how rows are dealt out to writers.
pub(super) const DISTRIBUTION_MODE: &str = "write.distribution-mode";

/// The mode that a sort order over all writers asks for.
pub(super) const BY_RANGE: &str = "range";

/// How the rows of a table are to be written.
#[derive(Debug)]
pub struct WriteOrder {
    fields: Vec<OrderByExpr>,
    /// The table's `write.distribution-mode`.
    distribution: &'static str,
}

/// Reads the statement; none when it is another one.
///
/// # Errors
/// What does not follow the form.
pub fn parse(
    tokens: &[TokenWithSpan],
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<Option<(Statement, WriteOrder)>, ParserError> {
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
    if !word(&mut parser, "write") {
        return Ok(None);
    }
    let order = order(&mut parser)?;
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
    Ok(Some((statement, order)))
}

fn order(parser: &mut Parser<'_>) -> Result<WriteOrder, ParserError> {
    if word(parser, "unordered") {
        let (fields, distribution) = (vec![], "none");
        return Ok(WriteOrder {
            fields,
            distribution,
        });
    }
    let by_partition = word(parser, "distributed");
    if by_partition {
        parser.expect_keywords(&[Keyword::BY, Keyword::PARTITION])?;
    }
    let locally = word(parser, "locally");
    let fields = match word(parser, "ordered") {
        true => {
            parser.expect_keyword(Keyword::BY)?;
            parser.parse_comma_separated(Parser::parse_order_by_expr)?
        }
        false if by_partition && !locally => vec![],
        false => {
            let found = parser.peek_token();
            return parser.expected(
                "ORDERED BY, LOCALLY ORDERED BY, UNORDERED or DISTRIBUTED BY PARTITION after WRITE",
                found,
            );
        }
    };
    Ok(WriteOrder {
        fields,
        distribution: match (by_partition, locally) {
            (true, _) => "hash",
            (false, true) => "none",
            (false, false) => BY_RANGE,
        },
    })
}

fn word(parser: &mut Parser<'_>, text: &str) -> bool {
    let found = matches!(&parser.peek_token_ref().token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text));
    if found {
        parser.advance_token();
    }
    found
}

/// What the clause changes.
///
/// # Errors
/// As [`keys`].
pub fn alterations(order: &WriteOrder) -> Result<Vec<Alteration>> {
    let keys = keys("WRITE ORDERED BY", &order.fields)?;
    let mode = (DISTRIBUTION_MODE.to_owned(), order.distribution.to_owned());
    Ok(vec![
        Alteration::SetSortOrder(keys),
        Alteration::SetProperties([mode].into_iter().collect()),
    ])
}

/// The keys that the fields of a `clause` describe.
///
/// # Errors
/// [`Error::Sql`] for a key that is no transform of a column.
pub(super) fn keys(clause: &str, fields: &[OrderByExpr]) -> Result<Vec<SortKey>> {
    let keys = fields.iter().map(|field| {
        let (column, transform) = transformed(clause, &field.expr)?;
        if field.with_fill.is_some() {
            return Err(Error::Sql(
                "WITH FILL is no part of a sort order".to_owned(),
            ));
        }
        let descending = field.options.asc == Some(false);
        // As Spark and Trino have it: NULL is the smallest value.
        let nulls_first = field.options.nulls_first.unwrap_or(!descending);
        Ok(SortKey {
            column,
            transform,
            direction: match descending {
                true => SortDirection::Descending,
                false => SortDirection::Ascending,
            },
            nulls: match nulls_first {
                true => NullOrder::First,
                false => NullOrder::Last,
            },
        })
    });
    keys.collect()
}
