//! `*` without metadata columns.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ExceptSelectItem, ExcludeSelectItem, Ident, JoinConstraint, JoinOperator, ObjectName, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, TableAliasColumnDef, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::named_table;
use crate::names::parts;
use crate::scope::{CteScopes, normalized};
use crate::{Error, Result};

/// The metadata columns of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Those it was given for this statement, after its own columns.
    pub hidden: Vec<String>,
    /// Those of the same names as metadata columns that are its own: columns like any other.
    pub shown: Vec<String>,
}

/// Writes the wildcards of a statement so that they leave metadata columns out. `metadata` tells
/// what the table with a name of these parts has.
///
/// # Errors
/// [`Error::Unsupported`] for joins that would match on metadata columns, and for the few wildcards
/// that cannot be written so.
pub fn hide(statement: &mut Statement, metadata: impl Fn(&[String]) -> Metadata) -> Result<()> {
    let mut hide = Hide {
        metadata,
        scopes: CteScopes::default(),
    };
    match hide.statement(statement) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Hide<F> {
    metadata: F,
    scopes: CteScopes,
}

impl<F: Fn(&[String]) -> Metadata> Hide<F> {
    fn statement(&mut self, statement: &mut Statement) -> ControlFlow<Error> {
        match statement {
            Statement::Statement(sql) => sql.visit(self),
            Statement::Explain(explain) => self.statement(&mut explain.statement),
            _ => ControlFlow::Continue(()),
        }
    }

    fn select(&self, select: &mut Select) -> Result<()> {
        let mut from = From::default();
        for tables in &mut select.from {
            let mut joined = self.joined(tables, &mut from)?;
            from.relations.append(&mut joined);
        }
        if from.relations.iter().all(|r| r.metadata.hidden.is_empty()) {
            return Ok(());
        }
        let mut projection = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(options) => projection.extend(from.star(options)?),
                SelectItem::QualifiedWildcard(kind, options) => {
                    let options = from.qualified_star(&kind, options);
                    projection.push(SelectItem::QualifiedWildcard(kind, options));
                }
                other => projection.push(other),
            }
        }
        select.projection = projection;
        Ok(())
    }

    /// The relations whose columns a tree of joins has, from left to right.
    fn joined(&self, tables: &mut TableWithJoins, from: &mut From) -> Result<Vec<Relation>> {
        let mut relations = self.relation(&mut tables.relation, from)?;
        for join in &mut tables.joins {
            let mut right = self.relation(&mut join.relation, from)?;
            let (constraint, output) = kind(&join.join_operator);
            let mut sides = relations.iter().chain(&right);
            match constraint {
                Some(JoinConstraint::Natural) => {
                    if let Some(column) = sides.find_map(|r| r.metadata.hidden.first()) {
                        return Err(Error::Unsupported(format!(
                            "NATURAL JOIN together with metadata column {column} is not \
                             supported; write the join with ON or USING"
                        )));
                    }
                }
                Some(JoinConstraint::Using(columns)) => {
                    from.using = true;
                    let named: Vec<_> = columns.iter().filter_map(parts).flatten().collect();
                    let mut hidden = sides.flat_map(|r| &r.metadata.hidden);
                    if let Some(column) = hidden.find(|column| named.contains(column)) {
                        return Err(Error::Unsupported(format!(
                            "USING with metadata column {column} is not supported; write the \
                             join with ON"
                        )));
                    }
                }
                _ => {}
            }
            match output {
                Output::Both => relations.append(&mut right),
                Output::Left => {}
                Output::Right => relations = right,
            }
        }
        Ok(relations)
    }

    fn relation(&self, factor: &mut TableFactor, from: &mut From) -> Result<Vec<Relation>> {
        if let Some((table, _)) = named_table(factor, &self.scopes) {
            let metadata = (self.metadata)(&table);
            return Ok(vec![table_relation(factor, metadata)]);
        }
        let alias = match factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let inner = self.joined(table_with_joins, from)?;
                let Some(alias) = alias else {
                    return Ok(inner);
                };
                let mut outer = Relation {
                    qualifier: Some(ObjectName::from(vec![alias.name.clone()])),
                    ..Relation::default()
                };
                for relation in inner {
                    outer.opaque |= relation.opaque;
                    outer.metadata.hidden.extend(relation.metadata.hidden);
                    outer.metadata.shown.extend(relation.metadata.shown);
                }
                return Ok(vec![outer]);
            }
            // A common table expression, or a function.
            TableFactor::Table {
                name, alias, args, ..
            } => match (alias, args) {
                (None, None) => Some(name.clone()),
                (alias, _) => alias
                    .as_ref()
                    .map(|a| ObjectName::from(vec![a.name.clone()])),
            },
            TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::UNNEST { alias, .. } => alias
                .as_ref()
                .map(|a| ObjectName::from(vec![a.name.clone()])),
            _ => None,
        };
        Ok(vec![Relation {
            qualifier: alias,
            metadata: Metadata::default(),
            opaque: true,
        }])
    }
}

impl<F: Fn(&[String]) -> Metadata> VisitorMut for Hide<F> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        match self.select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// A table with metadata columns. The column names that its alias gives end with them, since there
/// must be as many as there are columns.
fn table_relation(factor: &mut TableFactor, metadata: Metadata) -> Relation {
    let TableFactor::Table { name, alias, .. } = factor else {
        return Relation::default();
    };
    let qualifier = match alias {
        None => name.clone(),
        Some(alias) => {
            if !alias.columns.is_empty() {
                let hidden = metadata.hidden.iter();
                alias
                    .columns
                    .extend(hidden.map(TableAliasColumnDef::from_name));
            }
            ObjectName::from(vec![alias.name.clone()])
        }
    };
    Relation {
        qualifier: Some(qualifier),
        metadata,
        opaque: false,
    }
}

/// What a `FROM` is made of.
#[derive(Default)]
struct From {
    relations: Vec<Relation>,
    /// Whether columns of several relations are one column of `*`.
    using: bool,
}

#[derive(Default)]
struct Relation {
    /// What stands before the dot of its columns.
    qualifier: Option<ObjectName>,
    metadata: Metadata,
    /// It is a query or a function: a column of its own may be called like a metadata column.
    opaque: bool,
}

impl From {
    /// What stands for `*`.
    fn star(&self, options: WildcardAdditionalOptions) -> Result<Vec<SelectItem>> {
        let mut hidden: Vec<&String> = self.all(|metadata| &metadata.hidden).collect();
        let count = hidden.len();
        hidden.sort();
        hidden.dedup();
        let twice = hidden.len() < count || self.all(|m| &m.shown).any(|c| hidden.contains(&c));
        let opaque = self.relations.iter().any(|relation| relation.opaque);
        if (twice || opaque)
            && !self.using
            && is_plain(&options)
            && let Some(items) = self.one_by_one()
        {
            return Ok(items);
        }
        // EXCEPT knows columns by their bare names.
        if twice {
            let columns: Vec<&str> = hidden.iter().map(|column| column.as_str()).collect();
            return Err(Error::Unsupported(format!(
                "SELECT * cannot leave out {} of several tables here; name the columns",
                columns.join(", ")
            )));
        }
        Ok(vec![SelectItem::Wildcard(without(options, &hidden))])
    }

    /// `a.* EXCEPT (_file), b.*` and so on; none when a relation has no name.
    fn one_by_one(&self) -> Option<Vec<SelectItem>> {
        let item = |relation: &Relation| {
            let kind = SelectItemQualifiedWildcardKind::ObjectName(relation.qualifier.clone()?);
            let hidden: Vec<&String> = relation.metadata.hidden.iter().collect();
            let options = without(WildcardAdditionalOptions::default(), &hidden);
            Some(SelectItem::QualifiedWildcard(kind, options))
        };
        self.relations.iter().map(item).collect()
    }

    fn qualified_star(
        &self,
        kind: &SelectItemQualifiedWildcardKind,
        options: WildcardAdditionalOptions,
    ) -> WildcardAdditionalOptions {
        let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
            return options;
        };
        let Some(wanted) = parts(name) else {
            return options;
        };
        let meant = self.relations.iter().find(|relation| {
            let qualifier = relation.qualifier.as_ref().and_then(parts);
            qualifier.is_some_and(|known| known.ends_with(&wanted))
        });
        match meant {
            Some(relation) => {
                let hidden: Vec<&String> = relation.metadata.hidden.iter().collect();
                without(options, &hidden)
            }
            None => options,
        }
    }

    fn all<'a>(
        &'a self,
        columns: impl Fn(&'a Metadata) -> &'a Vec<String>,
    ) -> impl Iterator<Item = &'a String> {
        self.relations
            .iter()
            .flat_map(move |relation| columns(&relation.metadata))
    }
}

/// Adds columns to those that a wildcard leaves out already.
fn without(
    mut options: WildcardAdditionalOptions,
    columns: &[&String],
) -> WildcardAdditionalOptions {
    let mut left_out: Vec<Ident> = match options.opt_except.take() {
        None => Vec::new(),
        Some(except) => {
            let mut all = vec![except.first_element];
            all.extend(except.additional_elements);
            all
        }
    };
    let excluded: Vec<String> = match &options.opt_exclude {
        None => Vec::new(),
        Some(ExcludeSelectItem::Single(name)) => parts(name).unwrap_or_default(),
        Some(ExcludeSelectItem::Multiple(names)) => {
            names.iter().filter_map(parts).flatten().collect()
        }
    };
    for column in columns {
        let known = left_out.iter().any(|ident| normalized(ident) == **column);
        if !known && !excluded.contains(column) {
            left_out.push(Ident::with_quote('"', column.as_str()));
        }
    }
    let mut left_out = left_out.into_iter();
    options.opt_except = left_out.next().map(|first_element| ExceptSelectItem {
        first_element,
        additional_elements: left_out.collect(),
    });
    options
}

fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// The sides of a join whose columns come out of it.
enum Output {
    Both,
    Left,
    Right,
}

fn kind(operator: &JoinOperator) -> (Option<&JoinConstraint>, Output) {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::AsOf { constraint, .. }
        | JoinOperator::StraightJoin(constraint) => (Some(constraint), Output::Both),
        JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint) => (Some(constraint), Output::Left),
        JoinOperator::RightSemi(constraint) | JoinOperator::RightAnti(constraint) => {
            (Some(constraint), Output::Right)
        }
        _ => (None, Output::Both),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::statement::parse;

    /// `t` and `u` have metadata columns, `v` has a column of its own called `_file`.
    fn metadata(table: &[String]) -> Metadata {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match table.last().map(String::as_str) {
            Some("t") => Metadata {
                hidden: columns(&["_file", "_pos"]),
                shown: Vec::new(),
            },
            Some("u") => Metadata {
                hidden: columns(&["_file"]),
                shown: Vec::new(),
            },
            Some("v") => Metadata {
                hidden: Vec::new(),
                shown: columns(&["_file"]),
            },
            _ => Metadata::default(),
        }
    }

    async fn columns(sql: &str) -> Result<String> {
        let context = SessionContext::new();
        for (table, columns) in [
            ("t", &["id", "a", "_file", "_pos"][..]),
            ("u", &["id", "b", "_file"]),
            ("v", &["id", "_file"]),
            ("w", &["id", "c"]),
        ] {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
            let columns = columns.iter().map(|name| (*name, Arc::clone(&column)));
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let table_of = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            context.register_table(table, Arc::new(table_of)).unwrap();
        }
        let mut statement = parse(sql)?.statement;
        hide(&mut statement, metadata)?;
        let plan = context.state().statement_to_plan(statement).await?;
        // It can be run, too.
        let frame = context.execute_logical_plan(plan).await?;
        let names: Vec<String> = frame
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        frame.collect().await?;
        Ok(names.join(" "))
    }

    #[tokio::test]
    async fn wildcards_leave_metadata_columns_out() {
        let mut wrong = Vec::new();
        for (sql, expected) in [
            ("select * from t", "id a"),
            ("select * from w", "id c"),
            ("select * from v", "id _file"),
            ("select *, _file from t", "id a _file"),
            ("select t.*, _pos from t", "id a _pos"),
            ("select x.* from t x", "id a"),
            ("select * from public.t", "id a"),
            ("select public.t.* from public.t", "id a"),
            ("select * except (a) from t", "id"),
            ("select * exclude (a) from t", "id"),
            ("select * except (a, _file) from t", "id"),
            ("select * exclude _file from t", "id a"),
            ("select * replace (a + 1 as a) from t", "id a"),
            ("select * from t x(k, l)", "k l"),
            ("select *, x._pos from t as x(k, l)", "k l _pos"),
            ("select * from t, w", "id a id c"),
            ("select t.*, w.* from t, w", "id a id c"),
            ("select * from t join u on t.id = u.id", "id a id b"),
            (
                "select u.*, t._file from t join u on t._file = u._file",
                "id b _file",
            ),
            ("select * from t join v on t.id = v.id", "id a id _file"),
            ("select * from t a join t b on a._pos = b._pos", "id a id a"),
            ("select * from t join w using (id)", "id a c"),
            ("select * from (t join w using (id))", "id a c"),
            (
                "select * from t join (select id, _file from t) d on true",
                "id a id _file",
            ),
            (
                "select * from t join (select id, a from t) z using (id)",
                "id a a",
            ),
            ("select * from (select * from t) d", "id a"),
            ("select * from (select id, _file from t) d", "id _file"),
            ("with t as (select 1 as _file) select * from t", "_file"),
            ("with t as (select * from t) select * from t", "id a"),
            (
                "with c as (select _file from t) select * from c, t",
                "_file id a",
            ),
            ("select * from t left semi join u on t.id = u.id", "id a"),
            ("select * from u right semi join t on t.id = u.id", "id a"),
            (
                "select * from t left anti join u on t._file = u._file",
                "id a",
            ),
            ("select * from t union all select * from u", "id a"),
            ("select * from t, unnest([1, 2]) as n(x)", "id a x"),
            (
                "select id from t where exists (select * from u where u._file = t._file)",
                "id",
            ),
            ("select count(*) as n from t", "n"),
        ] {
            let found = columns(sql).await.unwrap_or_else(|error| error.to_string());
            if found != expected {
                wrong.push(format!("{sql}: {found}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[tokio::test]
    async fn what_would_match_on_metadata_columns_is_refused() {
        for (sql, part) in [
            ("select id from t natural join w", "NATURAL JOIN"),
            ("select id from w natural join t", "metadata column _file"),
            (
                "select 1 from t join u using (_file)",
                "USING with metadata column _file",
            ),
            ("select * from t join u using (id)", "name the columns"),
            (
                "select * except (a) from t join u on true",
                "name the columns",
            ),
        ] {
            let error = columns(sql).await.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(columns("select id from w natural join v").await.is_ok());
    }
}
