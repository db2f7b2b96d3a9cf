//! Changing what a catalog holds: namespaces, and tables without rows.

use std::collections::HashMap;

use iceberg::TableCreation;
use iceberg::table::Table;

use super::backend::{Backend, LOCATION};
use super::commit::{CALLS_PER_ATTEMPT, Change};
use super::{CALLS_PER_LISTING, Catalogs, files};
use crate::{Error, Result, TableName};

impl Catalogs {
    /// Makes a namespace; false when there is one of that name already.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn create_namespace(&self, catalog: &str, namespace: &str) -> Result<bool> {
        self.create_namespace_with(catalog, namespace, &HashMap::new())
            .await
    }

    /// Makes a namespace with properties; false when there is one of that name already. Its
    /// [`LOCATION`] is where the tables go that are made in it without a location of their own.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`]; [`Error::OutsideLakes`] for a location that no lake covers.
    pub async fn create_namespace_with(
        &self,
        catalog: &str,
        namespace: &str,
        properties: &HashMap<String, String>,
    ) -> Result<bool> {
        check_namespace(namespace)?;
        if let Some(location) = properties.get(LOCATION) {
            self.stores().resolve(location)?;
        }
        let call = async {
            self.backend(catalog)
                .await?
                .create_namespace(namespace, properties)
                .await
        };
        self.within(catalog, CALLS_PER_LISTING, call).await
    }

    /// Removes an empty namespace; false when there is none of that name.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`], and [`Error::Conflict`] for one that is not empty.
    pub async fn drop_namespace(&self, catalog: &str, namespace: &str) -> Result<bool> {
        let call = async { self.backend(catalog).await?.drop_namespace(namespace).await };
        self.within(catalog, CALLS_PER_LISTING, call).await
    }

    /// Makes a table without rows; none when there is one of that name already. Without a location
    /// the catalog chooses one.
    ///
    /// # Errors
    /// As [`Catalogs::stage_table`].
    pub async fn create_table(
        &self,
        name: &TableName,
        creation: TableCreation,
    ) -> Result<Option<Table>> {
        let backend = self.check_new(name).await?;
        let call = backend.create_table(name, creation);
        self.within(&name.catalog, CALLS_PER_LISTING, call).await
    }

    /// A table that is not there yet, so that its first rows can be written; none when there is one
    /// of that name already.
    ///
    /// # Errors
    /// As [`Catalogs::tables`]; [`Error::Conflict`] for a definition that is no table's.
    pub async fn stage_table(
        &self,
        name: &TableName,
        creation: TableCreation,
    ) -> Result<Option<Table>> {
        let backend = self.check_new(name).await?;
        let call = backend.stage(name, creation);
        self.within(&name.catalog, 1, call).await
    }

    /// Makes a staged table together with a change, at once; none when another one of that name was
    /// made meanwhile.
    ///
    /// # Errors
    /// What `change` gives; [`Error::OutsideLakes`] for a location that no lake covers;
    /// [`Error::CommitUnknown`] when the catalog's answer was lost.
    pub async fn create_staged(
        &self,
        name: &TableName,
        staged: &Table,
        change: &dyn Change,
    ) -> Result<Option<Table>> {
        let made = self.enter_staged(name, staged, change).await;
        let unused = match &made {
            Err(Error::CommitUnknown { .. }) => return made,
            Ok(Some(_)) => change.unused(true),
            Ok(None) | Err(_) => change.unused(false),
        };
        for location in unused {
            files::remove(&self.shared.file_io, &location).await;
        }
        made
    }

    async fn enter_staged(
        &self,
        name: &TableName,
        staged: &Table,
        change: &dyn Change,
    ) -> Result<Option<Table>> {
        let updates = change.updates(staged).await?;
        let backend = self.backend(&name.catalog).await?;
        let deadline = self.shared.call_deadline * CALLS_PER_ATTEMPT;
        let entered = tokio::time::timeout(deadline, backend.enter(name, staged, updates)).await;
        entered.unwrap_or_else(|_| {
            Err(Error::CommitUnknown {
                table: name.to_string(),
                why: format!("no answer within {} s", deadline.as_secs_f32()),
            })
        })
    }

    /// The catalog of a new table, whose namespace has to be there.
    async fn check_new(&self, name: &TableName) -> Result<&dyn Backend> {
        if name.table.is_empty() {
            return Err(Error::Conflict("a table needs a name".to_owned()));
        }
        let namespaces = self.namespaces(&name.catalog).await?;
        if !namespaces.contains(&name.namespace) {
            return Err(self.no_namespace(&name.catalog, &name.namespace).await);
        }
        self.backend(&name.catalog).await
    }

    /// Takes a table out of its catalog, and leaves its files where they are; false when there is
    /// none of that name.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn drop_table(&self, name: &TableName) -> Result<bool> {
        let call = async { self.backend(&name.catalog).await?.drop_table(name).await };
        self.within(&name.catalog, 1, call).await
    }

    /// Gives a table another name; false when there is no such table.
    ///
    /// # Errors
    /// As [`Catalogs::tables`]; [`Error::Exists`] when the new name is taken, [`Error::Conflict`]
    /// when it lies in another catalog.
    pub async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<bool> {
        if from.catalog != to.catalog {
            return Err(Error::Conflict(format!(
                "table {from} cannot become {to}: a table stays in its catalog"
            )));
        }
        let namespaces = self.namespaces(&to.catalog).await?;
        if !namespaces.contains(&to.namespace) {
            return Err(self.no_namespace(&to.catalog, &to.namespace).await);
        }
        let call = async {
            self.backend(&from.catalog)
                .await?
                .rename_table(from, to)
                .await
        };
        self.within(&from.catalog, CALLS_PER_LISTING, call).await
    }
}

/// Levels are joined with dots, so none may be empty.
fn check_namespace(namespace: &str) -> Result<()> {
    match namespace.split('.').any(str::is_empty) {
        true => Err(Error::Conflict(format!(
            "{namespace:?} is no name of a schema: a level of it is empty"
        ))),
        false => Ok(()),
    }
}
