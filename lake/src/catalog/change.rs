//! Changing what a catalog holds: namespaces, and tables without rows.

use iceberg::TableCreation;
use iceberg::table::Table;

use super::{CALLS_PER_LISTING, Catalogs};
use crate::{Error, Result, TableName};

impl Catalogs {
    /// Makes a namespace; false when there is one of that name already.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn create_namespace(&self, catalog: &str, namespace: &str) -> Result<bool> {
        check_namespace(namespace)?;
        let call = async {
            self.backend(catalog)
                .await?
                .create_namespace(namespace)
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
    /// As [`Catalogs::tables`]; [`Error::Conflict`] for a definition that is no table's;
    /// [`Error::OutsideLakes`] for a location that no lake covers.
    pub async fn create_table(
        &self,
        name: &TableName,
        creation: TableCreation,
    ) -> Result<Option<Table>> {
        if name.table.is_empty() {
            return Err(Error::Conflict("a table needs a name".to_owned()));
        }
        let namespaces = self.namespaces(&name.catalog).await?;
        if !namespaces.contains(&name.namespace) {
            return Err(self.no_namespace(&name.catalog, &name.namespace).await);
        }
        let call = async {
            self.backend(&name.catalog)
                .await?
                .create_table(name, creation)
                .await
        };
        self.within(&name.catalog, CALLS_PER_LISTING, call).await
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
