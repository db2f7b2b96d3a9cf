//! The names of one statement: DataFusion's catalog traits over what was loaded for it.
//!
//! DataFusion asks for names without `async`, and a statement must see one snapshot of a table
//! however often it names it. So the tables a statement refers to are loaded before it is planned,
//! each once, and the whole catalog is listed only for statements that list.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::TableType;
use futures::stream::{self, StreamExt};
use iceberg::table::Table;
use indexmap::{IndexMap, IndexSet};
use parking_lot::RwLock;
use tokio::sync::OnceCell;

use super::Catalogs;
use crate::{Error, Result, TableName};

/// Tables that are loaded at once for one statement.
const CONCURRENT_LOADS: usize = 16;

/// DataFusion resolves this schema itself in every catalog.
const INFORMATION_SCHEMA: &str = "information_schema";

/// Makes DataFusion's table from Iceberg's.
pub type MakeProvider =
    Arc<dyn Fn(TableName, Table) -> Result<Arc<dyn TableProvider>> + Send + Sync>;

impl Catalogs {
    /// Loads the tables that a statement refers to, at once and each once. Names that do not
    /// exist are left out. An error of a catalog or a table is kept and returned by
    /// [`SchemaProvider::table`] for that name. With `listing`, all namespaces and tables are
    /// listed too; what is only listed loads when it is asked for.
    pub async fn resolve(
        self: &Arc<Self>,
        references: &[TableName],
        listing: bool,
        make: MakeProvider,
    ) -> Arc<StatementCatalogs> {
        let statement = Arc::new(StatementCatalogs::new(self));
        if listing {
            self.list_into(&statement, &make).await;
        }
        let names: IndexSet<TableName> = references
            .iter()
            .filter(|name| name.namespace != INFORMATION_SCHEMA)
            .cloned()
            .collect();
        let loads = names.into_iter().map(|name| {
            let make = Arc::clone(&make);
            async move {
                let loaded = self.provide(&name, &make).await;
                (name, loaded)
            }
        });
        let mut loads = stream::iter(loads).buffer_unordered(CONCURRENT_LOADS);
        while let Some((name, loaded)) = loads.next().await {
            let slot = match loaded {
                Ok(Some(provider)) => Slot::Ready(provider),
                Ok(None) => continue,
                Err(error) => Slot::Failed(error),
            };
            statement.put(&name, slot);
        }
        statement
    }

    async fn provide(
        &self,
        name: &TableName,
        make: &MakeProvider,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.load(name).await? {
            Some(table) => make(name.clone(), table).map(Some),
            None => Ok(None),
        }
    }

    /// Lists every catalog. One that cannot be listed is left out, so that browsing the others
    /// still works.
    async fn list_into(self: &Arc<Self>, statement: &StatementCatalogs, make: &MakeProvider) {
        let listings = self.names().into_iter().map(|catalog| async move {
            let listed = self.all_tables(&catalog).await;
            (catalog, listed)
        });
        let listings: Vec<_> = stream::iter(listings)
            .buffered(CONCURRENT_LOADS)
            .collect()
            .await;
        for (catalog, listed) in listings {
            let listed = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    tracing::warn!(catalog, %error, "catalog left out of a listing");
                    statement.unlisted.write().push((catalog, error));
                    continue;
                }
            };
            for (namespace, tables) in listed {
                statement.schema(&catalog, &namespace);
                for table in tables {
                    let name = TableName::new(&catalog, &namespace, table);
                    let lazy = Lazy {
                        name: name.clone(),
                        catalogs: Arc::clone(self),
                        make: Arc::clone(make),
                        cell: OnceCell::new(),
                    };
                    statement.put(&name, Slot::Listed(Arc::new(lazy)));
                }
            }
        }
    }
}

/// The catalogs, schemas and tables that one statement may see.
pub struct StatementCatalogs {
    catalogs: RwLock<IndexMap<String, Arc<StatementCatalog>>>,
    unlisted: RwLock<Vec<(String, Error)>>,
}

impl StatementCatalogs {
    fn new(catalogs: &Catalogs) -> Self {
        let named = catalogs.names().into_iter();
        let empty = named.map(|name| (name, Arc::new(StatementCatalog::default())));
        Self {
            catalogs: RwLock::new(empty.collect()),
            unlisted: RwLock::default(),
        }
    }

    /// Adds a table, over one of the same name: temporary and external tables, system views. Its
    /// catalog and schema are made when absent.
    pub fn register(
        &self,
        catalog: &str,
        schema: &str,
        table: &str,
        provider: Arc<dyn TableProvider>,
    ) {
        let name = TableName::new(catalog, schema, table);
        self.put(&name, Slot::Ready(provider));
    }

    /// The catalogs that could not be listed, and why.
    pub fn unlisted(&self) -> Vec<(String, Error)> {
        self.unlisted.read().clone()
    }

    fn put(&self, name: &TableName, slot: Slot) {
        let schema = self.schema(&name.catalog, &name.namespace);
        schema.slots.write().insert(name.table.clone(), slot);
    }

    /// The schema, made when absent.
    fn schema(&self, catalog: &str, schema: &str) -> Arc<StatementSchema> {
        let mut catalogs = self.catalogs.write();
        let catalog = catalogs.entry(catalog.to_owned()).or_default();
        let mut schemas = catalog.schemas.write();
        Arc::clone(schemas.entry(schema.to_owned()).or_default())
    }
}

impl fmt::Debug for StatementCatalogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.catalogs.read().iter()).finish()
    }
}

impl CatalogProviderList for StatementCatalogs {
    /// Ignored: catalogs come from the configuration.
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.catalogs.read().keys().cloned().collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let catalog = self.catalogs.read().get(name).cloned();
        catalog.map(|catalog| catalog as Arc<dyn CatalogProvider>)
    }
}

#[derive(Debug, Default)]
struct StatementCatalog {
    schemas: RwLock<BTreeMap<String, Arc<StatementSchema>>>,
}

impl CatalogProvider for StatementCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.read().keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schema = self.schemas.read().get(name).cloned();
        schema.map(|schema| schema as Arc<dyn SchemaProvider>)
    }
}

#[derive(Default)]
struct StatementSchema {
    slots: RwLock<BTreeMap<String, Slot>>,
}

/// What is known of a table.
#[derive(Clone)]
enum Slot {
    Ready(Arc<dyn TableProvider>),
    /// The statement names it, and it could not be loaded.
    Failed(Error),
    /// Listed and not loaded yet.
    Listed(Arc<Lazy>),
}

/// A table that loads when it is first asked for, once.
struct Lazy {
    name: TableName,
    catalogs: Arc<Catalogs>,
    make: MakeProvider,
    cell: OnceCell<Option<Arc<dyn TableProvider>>>,
}

impl Lazy {
    /// The table; none when it is gone since the listing or cannot be loaded. Such a table must
    /// not fail a statement that only looks around, like one on `information_schema.columns`.
    async fn load(&self) -> Option<Arc<dyn TableProvider>> {
        let load = async || match self.catalogs.provide(&self.name, &self.make).await {
            Ok(table) => table,
            Err(error) => {
                tracing::warn!(table = %self.name, %error, "table left out of a listing");
                None
            }
        };
        self.cell.get_or_init(load).await.clone()
    }
}

impl fmt::Debug for StatementSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.slots.read().keys()).finish()
    }
}

impl StatementSchema {
    fn slot(&self, name: &str) -> Option<Slot> {
        self.slots.read().get(name).cloned()
    }
}

#[async_trait]
impl SchemaProvider for StatementSchema {
    fn table_names(&self) -> Vec<String> {
        self.slots.read().keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        match self.slot(name) {
            None => Ok(None),
            Some(Slot::Ready(provider)) => Ok(Some(provider)),
            Some(Slot::Failed(error)) => Err(error.into()),
            Some(Slot::Listed(lazy)) => Ok(lazy.load().await),
        }
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        Ok(self.slot(name).map(|slot| match slot {
            Slot::Ready(provider) => provider.table_type(),
            // Catalogs list tables only; views have their own listing, which is not asked for.
            Slot::Failed(_) | Slot::Listed(_) => TableType::Base,
        }))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(ready(self.slots.write().insert(name, Slot::Ready(table))))
    }

    fn deregister_table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(ready(self.slots.write().remove(name)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.slots.read().contains_key(name)
    }
}

fn ready(slot: Option<Slot>) -> Option<Arc<dyn TableProvider>> {
    match slot? {
        Slot::Ready(provider) => Some(provider),
        Slot::Failed(_) | Slot::Listed(_) => None,
    }
}
