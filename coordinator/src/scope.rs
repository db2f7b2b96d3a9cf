//! Which common table expressions a query sees.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{Ident, Query};

/// The common table expressions in scope while the queries of a statement are visited, from the
/// outside in. One of them is seen by those after it and by the query they belong to; by itself
/// only when the list is recursive.
#[derive(Debug, Default)]
pub struct CteScopes {
    /// Names, each with the one before it in its scope.
    names: Vec<(String, Option<usize>)>,
    /// What the query of an expression sees, by the query's address: it is visited as part of the
    /// query it belongs to, after all names of that list are known.
    bodies: HashMap<usize, Option<usize>>,
    open: Vec<Option<usize>>,
}

impl CteScopes {
    /// Goes into a query.
    pub fn enter(&mut self, query: &Query) {
        let inherited = self.open.last().copied().flatten();
        let mut scope = self.bodies.remove(&address(query)).unwrap_or(inherited);
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let before = scope;
                self.names.push((normalized(&cte.alias.name), before));
                scope = Some(self.names.len() - 1);
                let seen = if with.recursive { scope } else { before };
                self.bodies.insert(address(&cte.query), seen);
            }
        }
        self.open.push(scope);
    }

    /// Leaves the query that was entered last.
    pub fn leave(&mut self) {
        self.open.pop();
    }

    /// Whether a query is open: a table outside is one that the statement changes.
    pub fn in_query(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether a table name of these parts stands for a common table expression.
    pub fn contains(&self, parts: &[String]) -> bool {
        let [name] = parts else {
            return false;
        };
        let mut scope = self.open.last().copied().flatten();
        while let Some((known, before)) = scope.and_then(|at| self.names.get(at)) {
            if known == name {
                return true;
            }
            scope = *before;
        }
        false
    }
}

fn address(query: &Query) -> usize {
    std::ptr::from_ref(query).addr()
}

/// SQL's folding of names: lower case unless quoted.
pub fn normalized(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::ControlFlow;

    use datafusion::sql::sqlparser::ast::{TableFactor, Visit, Visitor};
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[derive(Default)]
    struct Tables {
        scopes: CteScopes,
        found: Vec<String>,
    }

    impl Visitor for Tables {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            self.scopes.enter(query);
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.scopes.leave();
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, .. } = factor {
                let parts: Vec<String> = name
                    .0
                    .iter()
                    .map(|part| normalized(part.as_ident().unwrap()))
                    .collect();
                if !self.scopes.contains(&parts) {
                    self.found.push(parts.join("."));
                }
            }
            ControlFlow::Continue(())
        }
    }

    fn tables(sql: &str) -> Vec<String> {
        let mut tables = Tables::default();
        let _ = Parser::parse_sql(&GenericDialect {}, sql)
            .unwrap()
            .visit(&mut tables);
        tables.found
    }

    #[test]
    fn names_are_seen_where_they_should_be() {
        let sql = "with t as (select * from t) select * from t, n.t";
        assert_eq!(tables(sql), ["t", "n.t"]);
        let sql = "with a as (select 1), b as (select * from a) select * from A, b, \"B\", c";
        assert_eq!(tables(sql), ["B", "c"]);
        let sql = "with b as (select * from a), a as (select 1) select * from a, b";
        assert_eq!(tables(sql), ["a"]);
        let sql = "with recursive a as (select 1 union all select * from a) select * from a";
        assert!(tables(sql).is_empty());
        let sql = "select * from (with x as (select 1) select * from x) y, x";
        assert_eq!(tables(sql), ["x"]);
        let sql = "with x as (select 1) select * from y where exists (select * from x, z)";
        assert_eq!(tables(sql), ["y", "z"]);
    }
}
