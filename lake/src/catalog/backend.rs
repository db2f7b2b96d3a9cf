//! What every kind of catalog answers, and what all of them share.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::spec::Schema;
use iceberg::table::Table;
use iceberg::{Catalog, ErrorKind, NamespaceIdent, TableCreation, TableUpdate};

use super::metadata::MetadataCache;
use super::view::{View, no_views};
use crate::store::Stores;
use crate::{Result, TableName};

/// A catalog as iceberg-rust's writers want it.
pub type Writer = Arc<dyn Catalog>;

/// Property of a namespace with the folder of its tables, as PyIceberg and others know it.
pub(super) const LOCATION: &str = "location";

/// Levels of nested namespaces that are looked into.
const MAX_LEVELS: usize = 32;

/// What the catalogs of one process share.
pub(super) struct Shared {
    pub stores: Arc<Stores>,
    /// Over `stores`, without properties: no secret can be read from a table.
    pub file_io: FileIO,
    pub cache: MetadataCache,
    /// How long one call may take.
    pub call_deadline: Duration,
}

/// One opened catalog. Namespaces are named by their levels joined with `.`.
#[async_trait]
pub(super) trait Backend: Commits {
    /// All namespaces, nested ones included.
    async fn namespaces(&self) -> Result<Vec<String>>;

    /// The tables of a namespace; none when it does not exist.
    async fn tables(&self, namespace: &str) -> Result<Option<Vec<String>>>;

    /// All namespaces with their tables.
    async fn all_tables(&self) -> Result<BTreeMap<String, Vec<String>>>;

    /// The table as it is now; none when it does not exist.
    async fn load(&self, name: &TableName) -> Result<Option<Table>>;

    /// The client for writers.
    async fn writer(&self) -> Result<Writer>;

    /// Makes a namespace; false when there is one of that name.
    async fn create_namespace(
        &self,
        namespace: &str,
        properties: &HashMap<String, String>,
    ) -> Result<bool>;

    /// Removes an empty namespace; false when there is none.
    async fn drop_namespace(&self, namespace: &str) -> Result<bool>;

    /// Makes a table without rows; none when there is one of that name.
    async fn create_table(
        &self,
        name: &TableName,
        creation: TableCreation,
    ) -> Result<Option<Table>> {
        match self.stage(name, creation).await? {
            Some(staged) => self.enter(name, &staged, vec![]).await,
            None => Ok(None),
        }
    }

    /// Takes a table out of the catalog, and leaves its files; false when there is none.
    async fn drop_table(&self, name: &TableName) -> Result<bool>;

    /// Gives a table another name in the same catalog; false when there is none.
    async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<bool>;

    /// Whether the catalog keeps views.
    async fn has_views(&self) -> Result<bool> {
        Ok(false)
    }

    /// The view as it is now; none when it does not exist.
    async fn view(&self, _: &TableName) -> Result<Option<View>> {
        Ok(None)
    }

    /// The views of a namespace.
    async fn views(&self, _: &str) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Makes a view, or replaces one; false when there is something of that name.
    async fn put_view(&self, name: &TableName, _: &View, _: &Schema, _: bool) -> Result<bool> {
        Err(no_views(name))
    }

    /// Removes a view; false when there is none.
    async fn drop_view(&self, _: &TableName) -> Result<bool> {
        Ok(false)
    }
}

/// How a catalog takes changes of its tables: each happens once and as a whole, or not at all.
#[async_trait]
pub(super) trait Commits: Send + Sync {
    /// The table as it is now, to be changed: nothing of its metadata is repaired or left out.
    async fn newest(&self, name: &TableName) -> Result<Option<Table>>;

    /// Makes `updates` of a table that is still as `base` is, as far as they depend on it; none
    /// when another writer was quicker.
    ///
    /// # Errors
    /// [`crate::Error::CommitUnknown`] when it may have happened; after any other error it has not.
    async fn commit(
        &self,
        name: &TableName,
        base: &Table,
        updates: Vec<TableUpdate>,
    ) -> Result<Option<Table>>;

    /// A table that is not there yet; none when there is one of that name.
    async fn stage(&self, name: &TableName, creation: TableCreation) -> Result<Option<Table>>;

    /// Makes a staged table, with `updates` made to it; none when there is one of that name by now.
    ///
    /// # Errors
    /// As [`Commits::commit`].
    async fn enter(
        &self,
        name: &TableName,
        staged: &Table,
        updates: Vec<TableUpdate>,
    ) -> Result<Option<Table>>;
}

/// A catalog that lists one level of namespaces at a time.
#[async_trait]
pub(super) trait Levels: Send + Sync {
    /// The namespaces below one, or the first level.
    async fn below(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>>;
}

/// What came of a change through iceberg-rust: false, or none, for the kinds of error given.
pub(super) fn unless<T>(
    result: iceberg::Result<T>,
    kinds: &[ErrorKind],
) -> iceberg::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if kinds.contains(&error.kind()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All namespaces of a catalog, nested ones included.
pub(super) async fn walk_namespaces(catalog: &dyn Levels) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut queue = VecDeque::from([None::<NamespaceIdent>]);
    while let Some(parent) = queue.pop_front() {
        let level = parent.as_ref().map_or(0, |parent| parent.len());
        for child in catalog.below(parent.as_ref()).await? {
            // A service that does not know nested namespaces may list the first level again.
            let below = parent
                .as_ref()
                .is_none_or(|p| child.as_ref().starts_with(p.as_ref()));
            if below
                && child.len() > level
                && child.len() <= MAX_LEVELS
                && found.insert(child.clone())
            {
                queue.push_back(Some(child));
            }
        }
    }
    Ok(found.iter().map(|namespace| namespace.join(".")).collect())
}
