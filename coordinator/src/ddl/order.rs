//! `ALTER TABLE t WRITE ORDERED BY day(ts), id DESC NULLS LAST`, as Spark's Iceberg extensions have it.

use datafusion::sql::sqlparser::ast::OrderByExpr;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use iceberg::spec::{NullOrder, SortDirection};
use inshore_lake::evolution::{Alteration, SortKey};

use super::clauses::words;
use super::partitions::transformed;
use crate::statement::syntax;
use crate::{Error, Result};

/// Property that says how rows are dealt out to writers.
pub(super) const DISTRIBUTION_MODE: &str = "write.distribution-mode";

/// The mode that a sort order over all writers asks for.
pub(super) const BY_RANGE: &str = "range";

/// How the rows of a table are to be written.
#[derive(Debug)]
struct WriteOrder {
    fields: Vec<OrderByExpr>,
    /// The table's `write.distribution-mode`.
    distribution: &'static str,
}

/// Reads the clause from `WRITE` on.
///
/// # Errors
/// What does not follow the form; [`Error::Sql`] for a key that is no transform of a column.
pub fn clause(parser: &mut Parser<'_>) -> Result<Option<Vec<Alteration>>> {
    if !words(parser, &["write"]) {
        return Ok(None);
    }
    let order = order(parser).map_err(syntax)?;
    alterations(&order).map(Some)
}

fn order(parser: &mut Parser<'_>) -> Result<WriteOrder, ParserError> {
    if words(parser, &["unordered"]) {
        let (fields, distribution) = (vec![], "none");
        return Ok(WriteOrder {
            fields,
            distribution,
        });
    }
    let by_partition = words(parser, &["distributed"]);
    if by_partition {
        parser.expect_keywords(&[Keyword::BY, Keyword::PARTITION])?;
    }
    let locally = words(parser, &["locally"]);
    let fields = match words(parser, &["ordered"]) {
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

fn alterations(order: &WriteOrder) -> Result<Vec<Alteration>> {
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
