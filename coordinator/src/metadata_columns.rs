//! Metadata columns (`_file`, `_pos`, ...) in SQL: which tables have to have them, and what `*`
//! leaves out.
//!
//! A table gets the metadata columns that the statement names, and these then look like its own.
//! So a statement that names none of them is not touched, and in one that does, wildcards are
//! written so that they leave them out.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Query, TableAlias, TableFactor, Visit, Visitor};

use crate::names::parts;
use crate::scope::{CteScopes, normalized};

mod wildcards;

pub use wildcards::{Metadata, hide};

/// The metadata columns (Iceberg specification, "Reserved Field IDs").
pub const NAMES: [&str; 6] = [
    "_file",
    "_pos",
    "_partition",
    "_spec_id",
    "_row_id",
    "_last_updated_sequence_number",
];

/// The tables of a folded statement that have to have metadata columns: the parts of each table's
/// name, and a column. A name without a qualifier is one of the tables beside it, or, if there are
/// none, of those of the query around it.
pub fn uses(statement: &Statement) -> BTreeSet<(Vec<String>, &'static str)> {
    let mut uses = Uses {
        frames: vec![Frame::default()],
        ..Uses::default()
    };
    uses.statement(statement);
    while !uses.frames.is_empty() {
        uses.close();
    }
    uses.found
}

#[derive(Default)]
struct Uses {
    scopes: CteScopes,
    frames: Vec<Frame>,
    found: BTreeSet<(Vec<String>, &'static str)>,
}

/// One query: the tables its `FROM` names, and the metadata columns it names itself.
#[derive(Default)]
struct Frame {
    /// Each with the name by which columns are qualified.
    tables: Vec<(Vec<String>, String)>,
    columns: BTreeSet<(Option<String>, &'static str)>,
}

impl Uses {
    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Statement(sql) => {
                let _ = sql.visit(self);
            }
            Statement::Explain(explain) => self.statement(&explain.statement),
            Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
        }
    }

    /// Gives the columns of the innermost query to its tables, and those that fit none of them to
    /// the query around it: it may be a correlated one.
    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else {
            return;
        };
        for (qualifier, column) in frame.columns {
            let mut fits = false;
            for (table, known_as) in &frame.tables {
                if qualifier.as_ref().is_none_or(|q| q == known_as) {
                    fits = true;
                    self.found.insert((table.clone(), column));
                }
            }
            if !fits && let Some(outer) = self.frames.last_mut() {
                outer.columns.insert((qualifier, column));
            }
        }
    }
}

impl Visitor for Uses {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.scopes.enter(query);
        self.frames.push(Frame::default());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.scopes.leave();
        self.close();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let Some((table, alias)) = named_table(factor, &self.scopes)
            && let Some(frame) = self.frames.last_mut()
            && let Some(last) = table.last()
        {
            let known_as = alias.map_or_else(|| last.clone(), |alias| normalized(&alias.name));
            frame.tables.push((table, known_as));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let idents = match expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => return ControlFlow::Continue(()),
        };
        let mut qualifier = None;
        for ident in idents {
            let name = normalized(ident);
            if let Some(column) = metadata_column(&name) {
                if let Some(frame) = self.frames.last_mut() {
                    frame.columns.insert((qualifier, column));
                }
                break;
            }
            qualifier = Some(name);
        }
        ControlFlow::Continue(())
    }
}

/// The metadata column of this name.
fn metadata_column(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// The parts of a table's name and its alias, when it is neither a common table expression nor a
/// function.
fn named_table<'a>(
    factor: &'a TableFactor,
    scopes: &CteScopes,
) -> Option<(Vec<String>, Option<&'a TableAlias>)> {
    let TableFactor::Table {
        name,
        alias,
        args: None,
        ..
    } = factor
    else {
        return None;
    };
    let parts = parts(name)?;
    (!scopes.contains(&parts)).then_some((parts, alias.as_ref()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statement::parse;

    fn used(sql: &str) -> Vec<String> {
        let found = uses(&parse(sql).unwrap().statement);
        found
            .into_iter()
            .map(|(table, column)| format!("{}.{column}", table.join(".")))
            .collect()
    }

    #[test]
    fn a_column_belongs_to_the_tables_beside_it() {
        for (sql, tables) in [
            ("select * from t", vec![]),
            ("select _other, file from t", vec![]),
            ("select _file from t", vec!["t._file"]),
            (
                "select _FILE, \"_pos\" from N.t",
                vec!["n.t._file", "n.t._pos"],
            ),
            ("select \"_FILE\" from t", vec![]),
            ("select 1 from t order by _pos", vec!["t._pos"]),
            ("select _partition.x from t", vec!["t._partition"]),
            (
                "select a from t, u where _file = ''",
                vec!["t._file", "u._file"],
            ),
            ("select a from t, u where u._file = ''", vec!["u._file"]),
            (
                "select a from t, n.u x where x._file = ''",
                vec!["n.u._file"],
            ),
            ("select a from t, n.u x where n.u._file = ''", vec![]),
            (
                "select a from t join u on t._row_id = u._pos",
                vec!["t._row_id", "u._pos"],
            ),
            ("select d._file from (select 1 as _file from t) d", vec![]),
            (
                "select d._file from (select _file from t) d, u",
                vec!["t._file"],
            ),
            ("with t as (select 1) select _file from t", vec![]),
            (
                "with t as (select _file from t) select * from t",
                vec!["t._file"],
            ),
            (
                "select a from t where exists (select 1 from u where t._pos = u.a)",
                vec!["t._pos"],
            ),
            ("select a from t where exists (select _pos)", vec!["t._pos"]),
            ("explain select _file from t", vec!["t._file"]),
            ("select 1 as _file from t", vec![]),
        ] {
            assert_eq!(used(sql), tables, "{sql}");
        }
    }
}
