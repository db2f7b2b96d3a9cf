//! Views: queries that a catalog keeps under a name (Iceberg view specification, version 1).

use iceberg::spec::Schema;

use super::Catalogs;
use crate::{Error, Result, TableName};

/// The dialect in which this engine stores views, and those of others that it reads as well as it
/// can.
pub(super) const DIALECTS: [&str; 3] = ["inshore", "trino", "spark"];

/// A view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its query.
    pub sql: String,
    /// The catalog of names without one.
    pub catalog: String,
    /// The namespace of names without one.
    pub namespace: String,
    /// Names of its columns; those of the query when empty.
    pub columns: Vec<String>,
    /// What it is about.
    pub comment: Option<String>,
}

impl Catalogs {
    /// Whether a catalog keeps views.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn has_views(&self, catalog: &str) -> Result<bool> {
        let call = async { self.backend(catalog).await?.has_views().await };
        self.within(catalog, 1, call).await
    }

    /// A view as it is now; none when there is no such view, or the catalog keeps none.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`]; [`Error::Unsupported`] for one in dialects that are not read.
    pub async fn view(&self, name: &TableName) -> Result<Option<View>> {
        if !self.contains(&name.catalog) || name.namespace.is_empty() || name.table.is_empty() {
            return Ok(None);
        }
        let call = async { self.backend(&name.catalog).await?.view(name).await };
        self.within(&name.catalog, 2, call).await
    }

    /// The views of a namespace, sorted.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn views(&self, catalog: &str, namespace: &str) -> Result<Vec<String>> {
        let call = async { self.backend(catalog).await?.views(namespace).await };
        let mut views = self.within(catalog, 2, call).await?;
        views.sort();
        Ok(views)
    }

    /// Makes a view whose query has the columns of `schema`, or replaces it with `replace`; false
    /// when there is a view or a table of that name.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`]; [`Error::Refused`] for catalogs that keep no views,
    /// [`Error::CommitUnknown`] when the catalog's answer was lost.
    pub async fn create_view(
        &self,
        name: &TableName,
        view: &View,
        schema: &Schema,
        replace: bool,
    ) -> Result<bool> {
        let call = async {
            let backend = self.backend(&name.catalog).await?;
            backend.put_view(name, view, schema, replace).await
        };
        self.within(&name.catalog, 4, call).await
    }

    /// Removes a view; false when there is none.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn drop_view(&self, name: &TableName) -> Result<bool> {
        if !self.contains(&name.catalog) || name.namespace.is_empty() || name.table.is_empty() {
            return Ok(false);
        }
        let call = async { self.backend(&name.catalog).await?.drop_view(name).await };
        self.within(&name.catalog, 2, call).await
    }
}

/// The refusal of a catalog that keeps no views.
pub(super) fn no_views(name: &TableName) -> Error {
    Error::Refused(format!("catalog {} keeps no views", name.catalog))
}
