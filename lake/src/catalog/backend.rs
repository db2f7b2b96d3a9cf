//! What every kind of catalog answers, and what all of them share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::table::Table;
use iceberg::{Catalog, ErrorKind, NamespaceIdent, TableCreation};

use super::metadata::MetadataCache;
use crate::store::Stores;
use crate::{Error, Result, TableName};

/// A catalog as iceberg-rust's writers want it.
pub type Writer = Arc<dyn Catalog>;

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
pub(super) trait Backend: Send + Sync {
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
    async fn create_namespace(&self, namespace: &str) -> Result<bool>;

    /// Removes an empty namespace; false when there is none.
    async fn drop_namespace(&self, namespace: &str) -> Result<bool>;

    /// Makes a table without rows, in catalogs that write the metadata themselves; none when there
    /// is one of that name.
    async fn create_table(&self, name: &TableName, _: TableCreation) -> Result<Option<Table>> {
        Err(Error::Internal(format!(
            "the catalog does not make {name} itself"
        )))
    }

    /// Takes a table out of the catalog, and leaves its files; false when there is none.
    async fn drop_table(&self, name: &TableName) -> Result<bool>;

    /// Gives a table another name in the same catalog; false when there is none.
    async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<bool>;

    /// Where the files of a new table go, if the statement does not say; none for catalogs that
    /// write the metadata of new tables themselves.
    fn new_location(&self, name: &TableName) -> Result<Option<String>>;

    /// Enters a table whose metadata we wrote; false when there is one of that name. After an error
    /// it may have happened.
    async fn enter(&self, name: &TableName, metadata: &str) -> Result<bool>;

    /// Where the metadata of a table lies; none when there is no such table.
    async fn pointer(&self, name: &TableName) -> Result<Option<String>>;

    /// Points a table at other metadata, unless it points at something else than `from` by now:
    /// then false. After an error it may have happened.
    async fn swap(&self, name: &TableName, from: &str, to: &str) -> Result<bool>;
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

/// All namespaces of a catalog that lists one level at a time. `flat` says of an error that the
/// catalog has nothing below that namespace.
pub(super) async fn walk_namespaces(
    catalog: &dyn Catalog,
    flat: fn(&iceberg::Error) -> bool,
) -> iceberg::Result<BTreeSet<NamespaceIdent>> {
    let mut found = BTreeSet::new();
    let mut queue = VecDeque::from([None::<NamespaceIdent>]);
    while let Some(parent) = queue.pop_front() {
        let level = parent.as_ref().map_or(0, |parent| parent.len());
        let children = match catalog.list_namespaces(parent.as_ref()).await {
            Ok(children) => children,
            Err(error) if parent.is_some() && flat(&error) => continue,
            Err(error) => return Err(error),
        };
        for child in children {
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
    Ok(found)
}
