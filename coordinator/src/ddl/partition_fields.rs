//! `ALTER TABLE t ADD PARTITION FIELD bucket(16, id) AS shard`, `DROP PARTITION FIELD shard` and `REPLACE
//! PARTITION FIELD day(ts) WITH hour(ts)`, as Spark's Iceberg extensions have them.

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use inshore_lake::evolution::{Alteration, PartitionChoice, PartitionKey};

use super::clauses::words;
use super::partitions::{column, transformed};
use crate::Result;
use crate::scope::normalized;
use crate::statement::syntax;

/// Reads the clause from its first word on.
///
/// # Errors
/// What does not follow the form; [`crate::Error::Sql`] for what is no transform of a column.
pub fn clause(parser: &mut Parser<'_>) -> Result<Option<Vec<Alteration>>> {
    let alteration = if words(parser, &["add", "partition", "field"]) {
        let key = key("ADD PARTITION FIELD", &expression(parser)?)?;
        let name = name(parser)?;
        Alteration::AddPartitionField { key, name }
    } else if words(parser, &["drop", "partition", "field"]) {
        let field = expression(parser)?;
        Alteration::DropPartitionField(choice("DROP PARTITION FIELD", &field)?)
    } else if words(parser, &["replace", "partition", "field"]) {
        const CLAUSE: &str = "REPLACE PARTITION FIELD";
        let old = choice(CLAUSE, &expression(parser)?)?;
        parser.expect_keyword(Keyword::WITH).map_err(syntax)?;
        let key = key(CLAUSE, &expression(parser)?)?;
        let name = name(parser)?;
        Alteration::ReplacePartitionField { old, key, name }
    } else {
        return Ok(None);
    };
    Ok(Some(vec![alteration]))
}

fn expression(parser: &mut Parser<'_>) -> Result<Expr> {
    parser.parse_expr().map_err(syntax)
}

fn name(parser: &mut Parser<'_>) -> Result<Option<String>> {
    match words(parser, &["as"]) {
        true => {
            let name = parser.parse_identifier().map_err(syntax)?;
            Ok(Some(normalized(&name)))
        }
        false => Ok(None),
    }
}

fn key(clause: &str, field: &Expr) -> Result<PartitionKey> {
    let (column, transform) = transformed(clause, field)?;
    Ok(PartitionKey { column, transform })
}

fn choice(clause: &str, field: &Expr) -> Result<PartitionChoice> {
    match column(field) {
        Some(name) => Ok(PartitionChoice::Name(name)),
        None => key(clause, field).map(PartitionChoice::Key),
    }
}
