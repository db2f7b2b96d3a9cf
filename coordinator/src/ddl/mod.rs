//! Statements that define: schemas, and tables without rows.
//!
//! ```text
//! tokens -> PARTITIONED BY, ORDER BY taken out (partitions, sorted) -> parser
//!        -> Definition (here, table, types)
//!        -> catalog (run)          ALTER TABLE: clauses, refs -^
//! ```

mod alter;
mod arrow_types;
pub mod clauses;
mod columns;
pub mod defaults;
pub mod namespaces;
pub mod nested;
mod order;
mod partition_fields;
pub mod partitions;
mod properties;
pub mod refs;
mod run;
pub mod sorted;
mod table;
mod types;
pub mod view;
mod with;
mod words;

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{
    AlterTableOperation, Expr, ObjectName, ObjectType, OrderByExpr, RenameTableNameKind,
    SchemaName, SqlOption, Statement as SqlStatement,
};
use inshore_lake::evolution::Alteration;
use inshore_lake::snapshot::RefChange;

pub use self::arrow_types::schema_of;
pub use self::run::{drop_table, purge_table, run, schema_name, table_name};
pub use self::table::{NewTable, NewTableAs, creation_of};
use crate::scope::normalized;
use crate::{Error, Result};

/// What a statement defines. Names are folded: words without quotes are in lower case.
#[derive(Debug)]
pub enum Definition {
    /// `CREATE SCHEMA`.
    CreateSchema {
        /// The schema.
        name: Vec<String>,
        /// Whether it may be there already.
        if_not_exists: bool,
        /// What is said of it.
        properties: HashMap<String, String>,
    },
    /// `DROP SCHEMA`.
    DropSchemas {
        /// The schemas.
        names: Vec<Vec<String>>,
        /// Whether they may be missing.
        if_exists: bool,
    },
    /// `CREATE TABLE`.
    CreateTable(Box<NewTable>),
    /// Other forms of `ALTER TABLE`, and `COMMENT ON`.
    AlterTable {
        /// The table.
        name: Vec<String>,
        /// Whether it may be missing.
        if_exists: bool,
        /// What to change, in this order.
        alterations: Vec<Alteration>,
    },
    /// `ALTER TABLE ... CREATE BRANCH` and its like.
    ChangeRef {
        /// The table.
        name: Vec<String>,
        /// Whether it may be missing.
        if_exists: bool,
        /// The branch or tag, and what becomes of it.
        change: RefChange,
    },
    /// `ALTER TABLE ... RENAME TO`.
    RenameTable {
        /// The table.
        from: Vec<String>,
        /// Its new name; a bare word stays in the schema.
        to: Vec<String>,
        /// Whether it may be missing.
        if_exists: bool,
    },
}

/// Clauses of a definition that the parser does not know.
#[derive(Debug, Default)]
pub struct Clauses {
    /// The fields of `PARTITIONED BY`: see [`partitions`].
    pub partitions: Option<Vec<Expr>>,
    /// What an `ALTER TABLE` whose operations are empty changes: see [`clauses`].
    pub alterations: Option<Vec<Alteration>>,
    /// The properties of a new schema: see [`namespaces`].
    pub namespace: Vec<SqlOption>,
    /// The keys of the sort order of a new table: see [`sorted`].
    pub sorted: Option<Vec<OrderByExpr>>,
    /// The `CREATE BRANCH ...` of an `ALTER TABLE` that has nothing else: see [`refs`].
    pub change_ref: Option<RefChange>,
}

/// The definition in a statement, or the statement again if it is none.
///
/// # Errors
/// [`Error::Unsupported`] for clauses that would be ignored, [`Error::Sql`] for a definition that
/// is wrong in itself.
pub fn of(
    statement: SqlStatement,
    clauses: &Clauses,
    defaults: defaults::Defaults<'_>,
) -> Result<Result<Definition, Box<SqlStatement>>> {
    if clauses.partitions.is_some() && !matches!(statement, SqlStatement::CreateTable(_)) {
        return Err(Error::Sql(
            "PARTITIONED BY belongs to CREATE TABLE".to_owned(),
        ));
    }
    if let (SqlStatement::AlterTable(alter), Some(change)) = (&statement, &clauses.change_ref) {
        return Ok(Ok(Definition::ChangeRef {
            name: folded(&alter.name)?,
            if_exists: alter.if_exists,
            change: change.clone(),
        }));
    }
    Ok(Ok(match statement {
        SqlStatement::CreateSchema {
            schema_name: SchemaName::Simple(name),
            if_not_exists,
            with: None,
            options: None,
            default_collate_spec: None,
            clone: None,
        } => Definition::CreateSchema {
            name: folded(&name)?,
            if_not_exists,
            properties: table::text_properties(&clauses.namespace)?,
        },
        SqlStatement::CreateSchema {
            schema_name: SchemaName::UnnamedAuthorization(_) | SchemaName::NamedAuthorization(..),
            ..
        } => return unsupported("CREATE SCHEMA ... AUTHORIZATION"),
        SqlStatement::CreateSchema { .. } => {
            return unsupported("CREATE SCHEMA with such options");
        }
        SqlStatement::Drop {
            object_type: ObjectType::Schema,
            cascade: true,
            ..
        } => return unsupported("DROP SCHEMA ... CASCADE"),
        SqlStatement::Drop {
            object_type: ObjectType::Schema,
            if_exists,
            names,
            purge: false,
            ..
        } => Definition::DropSchemas {
            names: names.iter().map(folded).collect::<Result<_>>()?,
            if_exists,
        },
        SqlStatement::CreateTable(create) => {
            Definition::CreateTable(Box::new(table::new_table(create, clauses, defaults)?))
        }
        SqlStatement::AlterTable(alter) => match alter.operations.as_slice() {
            _ if alter.on_cluster.is_some() || alter.location.is_some() => {
                return unsupported("ON CLUSTER or SET LOCATION in ALTER TABLE");
            }
            [AlterTableOperation::RenameTable { table_name }] => {
                let (RenameTableNameKind::To(to) | RenameTableNameKind::As(to)) = table_name;
                Definition::RenameTable {
                    from: folded(&alter.name)?,
                    to: folded(to)?,
                    if_exists: alter.if_exists,
                }
            }
            operations => {
                let changes = operations.iter();
                let changes = changes.map(|change| alter::alterations(change, defaults));
                let mut changes: Vec<_> = changes.collect::<Result<_>>()?;
                changes.extend(clauses.alterations.clone());
                Definition::AlterTable {
                    name: folded(&alter.name)?,
                    if_exists: alter.if_exists,
                    alterations: changes.into_iter().flatten().collect(),
                }
            }
        },
        SqlStatement::Comment {
            object_type,
            object_name,
            comment,
            if_exists,
            ..
        } => alter::comment(object_type, &object_name, comment, if_exists)?,
        other => return Ok(Err(Box::new(other))),
    }))
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(Error::Unsupported(format!("{what} is not supported yet")))
}

/// The parts of a name.
pub fn folded(name: &ObjectName) -> Result<Vec<String>> {
    let parts = name.0.iter().map(|part| part.as_ident().map(normalized));
    parts
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Sql(format!("{name} is no name")))
}
