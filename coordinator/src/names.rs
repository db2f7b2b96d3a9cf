//! Table names in statements: nested namespaces, and where in the text each name stands.
//!
//! DataFusion knows names of up to three parts. An Iceberg namespace may have several levels, so
//! `lake.a.b.t` becomes `lake."a.b".t` before planning, and `a.b.t` becomes `"a.b".t` unless `a` is
//! a catalog.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, ShowCreateObject, Spanned, Statement as SqlStatement,
    TableAlias, TableFactor, TableFunctionArgs, VisitMut, VisitorMut,
};

use inshore_lake::files::FileRequest;

use crate::files;
use crate::scope::{CteScopes, normalized};
use crate::versions::{AsOf, Clause};
use crate::{Error, Result};

/// A place in a statement's text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A table name of a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// The parts after folding: `[table]`, `[schema, table]` or `[catalog, schema, table]`. With a
    /// version, the last part ends with it, so that each state of a table has a name of its own.
    pub parts: Vec<String>,
    /// Where the name begins.
    pub position: Option<Position>,
    /// What the name stands for when it has a version.
    pub version: Option<Version>,
    /// The files that it stands for.
    pub file: Option<FileRequest>,
}

impl Mention {
    /// The parts of the table's name without its version.
    pub fn base(&self) -> &[String] {
        match &self.version {
            Some(version) => &version.base,
            None => &self.parts,
        }
    }
}

/// The version of a mentioned table.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// The parts of the table's name.
    pub base: Vec<String>,
    /// The state that is read.
    pub at: AsOf,
    /// Where the clause begins.
    pub position: Position,
}

/// Folds every table name of the statement to at most three parts, and returns them. Each of
/// `clauses` goes to the table before it.
///
/// # Errors
/// A clause stands after something that has no versions.
pub fn fold(
    statement: &mut Statement,
    clauses: Vec<Clause>,
    is_catalog: impl Fn(&str) -> bool,
) -> Result<Vec<Mention>> {
    let clauses = clauses.into_iter().map(|clause| (clause.table, clause));
    let mut fold = Fold {
        is_catalog,
        clauses: clauses.collect(),
        taken: HashMap::new(),
        scopes: CteScopes::default(),
        files: HashMap::new(),
        mentions: Vec::new(),
    };
    if let ControlFlow::Break(error) = fold.statement(statement) {
        return Err(error);
    }
    let left = fold.clauses.into_values();
    match left.min_by_key(|clause| (clause.position.line, clause.position.column)) {
        None => Ok(fold.mentions),
        Some(clause) => Err(Error::Sql(format!(
            "only a table in a query has versions; there is none before {} at {}",
            clause.at, clause.position
        ))),
    }
}

struct Fold<F> {
    is_catalog: F,
    /// By where the table's name begins.
    clauses: HashMap<Position, Clause>,
    /// Those whose table was found.
    taken: HashMap<Position, Clause>,
    scopes: CteScopes,
    /// What table functions read, by the name that stands for the call.
    files: HashMap<String, FileRequest>,
    mentions: Vec<Mention>,
}

impl<F: Fn(&str) -> bool> Fold<F> {
    fn statement(&mut self, statement: &mut Statement) -> ControlFlow<Error> {
        match statement {
            Statement::Statement(sql) => {
                sql.visit(self)?;
                // Names that the AST does not mark as relations.
                match sql.as_mut() {
                    SqlStatement::ExplainTable { table_name, .. } => self.name(table_name),
                    SqlStatement::ShowCreate {
                        obj_type: ShowCreateObject::Table | ShowCreateObject::View,
                        obj_name,
                    } => self.name(obj_name),
                    SqlStatement::Drop { names, .. } => {
                        names.iter_mut().for_each(|name| self.name(name));
                    }
                    _ => {}
                }
            }
            Statement::Explain(explain) => self.statement(&mut explain.statement)?,
            Statement::CreateExternalTable(create) => self.name(&mut create.name),
            Statement::CopyTo(copy) => match &mut copy.source {
                CopyToSource::Query(query) => query.visit(self)?,
                CopyToSource::Relation(name) => self.name(name),
            },
            Statement::Reset(_) => {}
        }
        ControlFlow::Continue(())
    }

    fn name(&mut self, name: &mut ObjectName) {
        let position = position(name);
        let file = files::of_name(name);
        let Some(parts) = fold_name(name, &self.is_catalog) else {
            return;
        };
        let clause = position.and_then(|position| self.taken.remove(&position));
        let (parts, version) = match clause {
            None => (parts, None),
            Some(clause) => {
                let mut versioned = parts.clone();
                if let Some(table) = versioned.last_mut() {
                    // As it stands in the statement, which is also what EXPLAIN shows.
                    *table = format!("{table} {}", clause.at);
                }
                name.0 = quoted(&versioned);
                let version = Version {
                    base: parts,
                    at: clause.at,
                    position: clause.position,
                };
                (versioned, Some(version))
            }
        };
        let file = file.or_else(|| match parts.as_slice() {
            [part] => self.files.get(part).cloned(),
            _ => None,
        });
        self.mentions.push(Mention {
            parts,
            position,
            version,
            file,
        });
    }

    /// Puts a name in the place of a call that reads files.
    fn function(
        &mut self,
        name: &mut ObjectName,
        arguments: &mut Option<TableFunctionArgs>,
    ) -> ControlFlow<Error> {
        let called = arguments
            .as_ref()
            .map(|args| files::of_function(name, args));
        match called.transpose().map(Option::flatten) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some((request, own))) => {
                for part in own.0.iter().filter_map(ObjectNamePart::as_ident) {
                    self.files.insert(part.value.clone(), request.clone());
                }
                *name = own;
                *arguments = None;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }

    /// Gives a table its clause, and the name by which the rest of the statement knows it.
    fn versioned(
        &mut self,
        name: &ObjectName,
        alias: &mut Option<TableAlias>,
    ) -> ControlFlow<Error> {
        let clause = position(name).and_then(|position| self.clauses.remove_entry(&position));
        let Some((position, clause)) = clause else {
            return ControlFlow::Continue(());
        };
        let parts = parts(name).unwrap_or_default();
        if self.scopes.contains(&parts) {
            return ControlFlow::Break(Error::Unsupported(format!(
                "{name} is a common table expression and has no versions, at {}",
                clause.position
            )));
        }
        if alias.is_none()
            && let Some(table) = parts.last()
        {
            *alias = Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', table),
                columns: Vec::new(),
                at: None,
            });
        }
        self.taken.insert(position, clause);
        ControlFlow::Continue(())
    }
}

impl<F: Fn(&str) -> bool> VisitorMut for Fold<F> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } if self.scopes.in_query() => self.versioned(name, alias),
            TableFactor::Table {
                name,
                args: args @ Some(_),
                ..
            } => self.function(name, args),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<Error> {
        self.name(name);
        ControlFlow::Continue(())
    }
}

fn position(name: &ObjectName) -> Option<Position> {
    let start = name.span().start;
    (start.line > 0).then_some(Position {
        line: start.line,
        column: start.column,
    })
}

/// The parts of a name, each folded; none when one of them is no identifier.
pub fn parts(name: &ObjectName) -> Option<Vec<String>> {
    let idents = name.0.iter().map(|part| part.as_ident().map(normalized));
    idents.collect()
}

fn quoted(parts: &[String]) -> Vec<ObjectNamePart> {
    let ident = |part: &String| ObjectNamePart::Identifier(Ident::with_quote('"', part));
    parts.iter().map(ident).collect()
}

/// Folds a name to at most three parts, and returns them.
fn fold_name(name: &mut ObjectName, is_catalog: &impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let parts = parts(name)?;
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
        name.0 = quoted(&folded);
    }
    Some(folded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statement::parse;

    fn folded(sql: &str) -> Result<(String, Vec<Mention>)> {
        let mut parsed = parse(sql)?;
        let mentions = fold(&mut parsed.statement, parsed.clauses, |name| name == "lake")?;
        Ok((parsed.statement.to_string(), mentions))
    }

    fn mentions(sql: &str) -> Vec<(Vec<String>, (u64, u64))> {
        folded(sql)
            .unwrap()
            .1
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

    #[test]
    fn a_version_makes_a_name_of_its_own() {
        let sql = "select t.a from lake.x.y.T for version as of 1 join t version as of 'v' b on 1 \
                   join t on 2";
        let (text, mentions) = folded(sql).unwrap();
        assert_eq!(
            text,
            "SELECT t.a FROM \"lake\".\"x.y\".\"t FOR VERSION AS OF 1\" AS \"t\" \
             JOIN \"t FOR VERSION AS OF 'v'\" b ON 1 JOIN t ON 2"
        );
        let bases: Vec<_> = mentions.iter().map(|m| m.base().join("|")).collect();
        assert_eq!(bases, ["lake|x.y|t", "t", "t"]);
        assert_eq!(mentions[0].parts[2], "t FOR VERSION AS OF 1");
        assert_eq!(mentions[2].version, None);
        let version = mentions[1].version.as_ref().unwrap();
        assert_eq!(version.at, AsOf::Ref("v".to_owned()));
        assert_eq!(version.position.column, 55);
    }

    #[test]
    fn explain_and_expressions_have_versions_too() {
        for sql in [
            "explain select * from t version as of 1",
            "explain analyze select * from t version as of 1",
            "with t as (select * from t version as of 1) select * from t",
            "select (select max(a) from t version as of 1)",
            "select * from u where a in (select a from (t version as of 1))",
        ] {
            let (_, mentions) = folded(sql).unwrap();
            let versions = mentions.iter().filter(|m| m.version.is_some());
            assert_eq!(versions.count(), 1, "{sql}");
        }
    }

    #[test]
    fn what_has_no_versions_is_refused() {
        for (sql, part) in [
            (
                "with c as (select 1) select * from c version as of 1",
                "c is a common table expression and has no versions, at line 1, column 38",
            ),
            (
                "select a, b version as of 1 from t",
                "there is none before FOR VERSION AS OF 1 at line 1, column 13",
            ),
            (
                "delete from t version as of 1 where true",
                "there is none before FOR VERSION AS OF 1 at line 1, column 15",
            ),
        ] {
            let error = folded(sql).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
