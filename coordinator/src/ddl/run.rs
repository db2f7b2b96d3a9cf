//! Carrying definitions out in the catalogs.

use inshore_lake::TableName;
use inshore_lake::catalog::{Catalogs, Change, Replacement};
use inshore_lake::evolution::Alterations;
use inshore_lake::snapshot::ChangeRef;

use super::Definition;
use crate::{Error, Result};

/// Carries a definition out. `defaults` are the session's catalog and schema.
///
/// # Errors
/// As the catalog's; [`Error::Lake`] with the code `already_exists` or `not_found` unless the
/// statement allows it.
pub async fn run(
    catalogs: &Catalogs,
    defaults: &(String, String),
    definition: Definition,
) -> Result<()> {
    match definition {
        Definition::CreateSchema {
            name,
            if_not_exists,
            properties,
        } => {
            let (catalog, schema) = schema_name(catalogs, defaults, &name);
            let made = catalogs.create_namespace_with(&catalog, &schema, &properties);
            match made.await? {
                false if !if_not_exists => exists(format!("schema {catalog}.{schema}")),
                _ => Ok(()),
            }
        }
        Definition::DropSchemas { names, if_exists } => {
            for name in names {
                let (catalog, schema) = schema_name(catalogs, defaults, &name);
                if !catalogs.drop_namespace(&catalog, &schema).await? && !if_exists {
                    // The catalog knows near names.
                    catalogs.tables(&catalog, &schema).await?;
                }
            }
            Ok(())
        }
        Definition::CreateTable(table) => {
            let name = table_name(catalogs, defaults, &table.name);
            if table.or_replace {
                let replacement = Replacement::new(name, table.creation, table.format_version);
                catalogs.create_or_replace_table(&replacement).await?;
                return Ok(());
            }
            match catalogs.create_table(&name, table.creation).await? {
                None if !table.if_not_exists => exists(format!("table {name}")),
                _ => Ok(()),
            }
        }
        Definition::AlterTable {
            name,
            if_exists,
            alterations,
        } => {
            let name = table_name(catalogs, defaults, &name);
            changed(catalogs, &name, if_exists, &Alterations(alterations)).await
        }
        Definition::ChangeRef {
            name,
            if_exists,
            change,
        } => {
            let name = table_name(catalogs, defaults, &name);
            let change = ChangeRef::new(&name.to_string(), change);
            changed(catalogs, &name, if_exists, &change).await
        }
        Definition::RenameTable {
            from,
            to,
            if_exists,
        } => {
            let from = table_name(catalogs, defaults, &from);
            let to = match to.as_slice() {
                [table] => TableName {
                    table: table.clone(),
                    ..from.clone()
                },
                parts => table_name(catalogs, defaults, parts),
            };
            if !catalogs.rename_table(&from, &to).await? && !if_exists {
                return Err(catalogs.not_found(&from).await.into());
            }
            Ok(())
        }
    }
}

async fn changed(
    catalogs: &Catalogs,
    name: &TableName,
    if_exists: bool,
    change: &dyn Change,
) -> Result<()> {
    match catalogs.change_table(name, change).await? {
        None if !if_exists => Err(catalogs.not_found(name).await.into()),
        _ => Ok(()),
    }
}

/// Drops tables of catalogs.
///
/// # Errors
/// As the catalog's; `not_found` unless the statement allows it.
pub async fn drop_table(catalogs: &Catalogs, name: &TableName, if_exists: bool) -> Result<()> {
    let dropped = match catalogs.contains(&name.catalog) {
        true => catalogs.drop_table(name).await?,
        false => false,
    };
    if !dropped && !if_exists {
        return Err(catalogs.not_found(name).await.into());
    }
    Ok(())
}

fn exists(what: String) -> Result<()> {
    let message = format!("{what} exists already");
    Err(Error::Lake(inshore_lake::Error::Exists(message)))
}

/// `schema` or `catalog.schema`; levels of nested schemas follow each other.
pub fn schema_name(
    catalogs: &Catalogs,
    defaults: &(String, String),
    parts: &[String],
) -> (String, String) {
    match parts {
        [catalog, rest @ ..] if !rest.is_empty() && catalogs.contains(catalog) => {
            (catalog.clone(), rest.join("."))
        }
        parts => (defaults.0.clone(), parts.join(".")),
    }
}

/// `table`, `schema.table` or `catalog.schema.table`.
pub fn table_name(catalogs: &Catalogs, defaults: &(String, String), parts: &[String]) -> TableName {
    match parts {
        [] => TableName::new(&defaults.0, &defaults.1, ""),
        [table] => TableName::new(&defaults.0, &defaults.1, table),
        [schema @ .., table] => {
            let (catalog, schema) = schema_name(catalogs, defaults, schema);
            TableName::new(catalog, schema, table)
        }
    }
}
