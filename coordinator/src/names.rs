//! Table names in statements: nested namespaces, and where in the text each name stands.
//!
//! DataFusion knows names of up to three parts. An Iceberg namespace may have several levels, so
//! `lake.a.b.t` becomes `lake."a.b".t` before planning, and `a.b.t` becomes `"a.b".t` unless `a` is
//! a catalog.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Spanned, Statement as SqlStatement, visit_relations_mut,
};

/// A place in a statement's text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// A table name of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The parts after folding: `[table]`, `[schema, table]` or `[catalog, schema, table]`.
    pub parts: Vec<String>,
    /// Where the name begins.
    pub position: Option<Position>,
}

/// Folds every table name of the statement to at most three parts, and returns them.
pub fn fold(statement: &mut Statement, is_catalog: impl Fn(&str) -> bool) -> Vec<Mention> {
    let mut mentions = Vec::new();
    fold_into(statement, &is_catalog, &mut mentions);
    mentions
}

fn fold_into(
    statement: &mut Statement,
    is_catalog: &impl Fn(&str) -> bool,
    mentions: &mut Vec<Mention>,
) {
    let mut visit = |name: &mut ObjectName| {
        if let Some(mention) = fold_name(name, is_catalog) {
            mentions.push(mention);
        }
        ControlFlow::<()>::Continue(())
    };
    match statement {
        Statement::Statement(sql) => {
            let _ = visit_relations_mut(sql, &mut visit);
            // Names that the AST does not mark as relations.
            match sql.as_mut() {
                SqlStatement::ExplainTable { table_name, .. } => {
                    let _ = visit(table_name);
                }
                SqlStatement::Drop { names, .. } => names.iter_mut().for_each(|name| {
                    let _ = visit(name);
                }),
                _ => {}
            }
        }
        Statement::Explain(explain) => fold_into(&mut explain.statement, is_catalog, mentions),
        Statement::CreateExternalTable(create) => {
            let _ = visit(&mut create.name);
        }
        Statement::CopyTo(_) | Statement::Reset(_) => {}
    }
}

fn fold_name(name: &mut ObjectName, is_catalog: &impl Fn(&str) -> bool) -> Option<Mention> {
    let start = name.span().start;
    let position = (start.line > 0).then_some(Position {
        line: start.line,
        column: start.column,
    });
    let idents: Vec<Ident> = name
        .0
        .iter()
        .map(|part| part.as_ident().cloned())
        .collect::<Option<_>>()?;
    let parts: Vec<String> = idents.iter().map(normalized).collect();
    let (table, before) = parts.split_last()?;
    let catalogs = usize::from(before.len() > 1 && is_catalog(&before[0]));
    let folded = match before.len() {
        0 | 1 => parts.clone(),
        2 if catalogs == 1 => parts.clone(),
        _ => before[..catalogs]
            .iter()
            .cloned()
            .chain([before[catalogs..].join("."), table.clone()])
            .collect(),
    };
    if folded.len() != parts.len() {
        name.0 = folded
            .iter()
            .map(|part| ObjectNamePart::Identifier(Ident::with_quote('"', part.clone())))
            .collect();
    }
    Some(Mention {
        parts: folded,
        position,
    })
}

/// SQL's folding of names: lower case unless quoted.
fn normalized(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn mentions(sql: &str) -> Vec<(Vec<String>, (u64, u64))> {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        fold(&mut statement, |name| name == "lake")
            .into_iter()
            .map(|mention| {
                let position = mention.position.unwrap();
                (mention.parts, (position.line, position.column))
            })
            .collect()
    }

    #[test]
    fn names_fold_to_three_parts() {
        let parts = |sql: &str| mentions(sql).remove(0).0.join("|");
        assert_eq!(parts("select * from T"), "t");
        assert_eq!(parts("select * from a.t"), "a|t");
        assert_eq!(parts("select * from lake.a.t"), "lake|a|t");
        assert_eq!(parts("select * from a.b.t"), "a.b|t");
        assert_eq!(parts("select * from lake.a.\"B\".c.t"), "lake|a.B.c|t");
        assert_eq!(parts("explain select * from a.b.c.t"), "a.b.c|t");
    }

    #[test]
    fn positions_count_from_one() {
        let found = mentions("select *\nfrom a.t join lake.b.u on true");
        assert_eq!(found[0].1, (2, 6));
        assert_eq!(found[1].1, (2, 15));
    }
}
