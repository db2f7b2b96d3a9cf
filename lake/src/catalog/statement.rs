//! The names of one statement: DataFusion's catalog traits over what was loaded for it.
//!
//! DataFusion asks for names without `async`, and a statement must see one snapshot of a table
//! however often it names it. So the tables a statement refers to are loaded before it is planned,
//! each once. What else there is, it does not see.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::TableType;
use futures::stream::{self, StreamExt};
use iceberg::table::Table;
use indexmap::{IndexMap, IndexSet};
use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;

use super::Catalogs;
use crate::table::IcebergTable;
use crate::version::TableVersion;
use crate::{Error, Result, TableName, metadata_tables};

/// Tables that are loaded at once for one statement.
const CONCURRENT_LOADS: usize = 16;

/// DataFusion resolves this schema itself in every catalog.
const INFORMATION_SCHEMA: &str = "information_schema";

/// Makes DataFusion's table from Iceberg's.
pub type MakeProvider = Arc<dyn Fn(TableName, Table) -> Result<Arc<IcebergTable>> + Send + Sync>;

/// A table as a statement refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The name by which the statement will ask for it.
    pub name: TableName,
    /// The table it stands for, as the catalog names it: the same name, unless there is a version.
    /// May end in the suffix of a metadata table.
    pub base: TableName,
    /// The state that is read; the current one when absent.
    pub version: Option<TableVersion>,
    /// What the name stands for when there is no table of it: a branch or tag of another table.
    pub selected: Option<(TableName, TableVersion)>,
    /// Metadata columns to add, as far as the table has no columns of these names.
    pub metadata_columns: Vec<String>,
}

impl From<TableName> for Reference {
    fn from(name: TableName) -> Self {
        Self {
            base: name.clone(),
            name,
            version: None,
            selected: None,
            metadata_columns: Vec::new(),
        }
    }
}

/// The tables that were loaded for one statement: each once, so that all references see one state.
struct Loads {
    make: MakeProvider,
    tables: Mutex<HashMap<TableName, Loaded>>,
}

type Loaded = Arc<OnceCell<Result<Option<Arc<IcebergTable>>>>>;

impl Loads {
    /// Begins with tables that are open already and lie over those of the catalogs.
    fn new(make: MakeProvider, open: BTreeMap<TableName, Arc<IcebergTable>>) -> Self {
        let tables = open.into_iter().map(|(name, table)| {
            let loaded = OnceCell::new_with(Some(Ok(Some(table))));
            (name, Arc::new(loaded))
        });
        Self {
            make,
            tables: Mutex::new(tables.collect()),
        }
    }

    async fn table(
        &self,
        catalogs: &Catalogs,
        name: &TableName,
    ) -> Result<Option<Arc<IcebergTable>>> {
        let cell = Arc::clone(self.tables.lock().entry(name.clone()).or_default());
        let load = || async { provide(catalogs, name, &self.make).await };
        cell.get_or_init(load).await.clone()
    }

    /// The provider a reference asks for; none when there is no such table.
    async fn provide(
        &self,
        catalogs: &Catalogs,
        reference: &Reference,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let at = |table: Arc<IcebergTable>| match &reference.version {
            Some(version) => table.at(version),
            None => Ok(table),
        };
        let found = match self.table(catalogs, &reference.base).await? {
            Some(table) => Some(at(table)?),
            None => self.selected(catalogs, reference).await?,
        };
        if let Some(table) = found {
            let schema = table.iceberg_schema().as_struct();
            let added = reference.metadata_columns.iter();
            let added = added.filter(|name| schema.field_by_name(name).is_none());
            let added: Vec<String> = added.cloned().collect();
            return Ok(Some(table.with_metadata_columns(&added)?));
        }
        let Some((table, suffix)) = metadata_tables::split(&reference.base.table) else {
            return Ok(None);
        };
        let base = TableName::new(&reference.base.catalog, &reference.base.namespace, table);
        match self.table(catalogs, &base).await? {
            Some(table) => metadata_tables::open(&at(table)?, suffix).map(Some),
            None => Ok(None),
        }
    }
}

impl Loads {
    /// The branch or tag that a name stands for when there is no table of it.
    async fn selected(
        &self,
        catalogs: &Catalogs,
        reference: &Reference,
    ) -> Result<Option<Arc<IcebergTable>>> {
        let (Some((base, version)), None) = (&reference.selected, &reference.version) else {
            return Ok(None);
        };
        match self.table(catalogs, base).await? {
            Some(table) => table.at(version).map(Some),
            None => Ok(None),
        }
    }
}

async fn provide(
    catalogs: &Catalogs,
    name: &TableName,
    make: &MakeProvider,
) -> Result<Option<Arc<IcebergTable>>> {
    match catalogs.load(name).await? {
        Some(table) => make(name.clone(), table).map(Some),
        None => Ok(None),
    }
}

impl Catalogs {
    /// Loads the tables that a statement refers to, at once and each once. Names that do not
    /// exist are left out. An error of a catalog or a table is kept and returned by
    /// [`SchemaProvider::table`] for that name. The tables in `open` lie over those of the catalogs.
    pub async fn resolve(
        self: &Arc<Self>,
        references: &[Reference],
        open: BTreeMap<TableName, Arc<IcebergTable>>,
        make: MakeProvider,
    ) -> Arc<StatementCatalogs> {
        let statement = Arc::new(StatementCatalogs::new(self));
        for (name, table) in &open {
            statement.put(
                name,
                Slot::Ready(Arc::clone(table) as Arc<dyn TableProvider>),
            );
        }
        *statement.loads.lock() = Some(Arc::new(Loads::new(make, open)));
        self.resolve_into(&statement, references).await;
        statement
    }

    /// Loads further tables for a statement, as [`Catalogs::resolve`] does: those that its views
    /// refer to. A table that is there already is not loaded again.
    pub async fn resolve_into(
        self: &Arc<Self>,
        statement: &StatementCatalogs,
        references: &[Reference],
    ) {
        let Some(loads) = statement.loads.lock().clone() else {
            return;
        };
        let wanted: IndexSet<Reference> = references
            .iter()
            .filter(|reference| reference.base.namespace != INFORMATION_SCHEMA)
            .cloned()
            .collect();
        let provided = wanted.into_iter().map(|reference| {
            let loads = Arc::clone(&loads);
            async move {
                let provided = loads.provide(self, &reference).await;
                (reference, provided)
            }
        });
        let mut provided = stream::iter(provided).buffer_unordered(CONCURRENT_LOADS);
        while let Some((reference, provided)) = provided.next().await {
            let slot = match provided {
                Ok(Some(provider)) => Slot::Ready(provider),
                Ok(None) => continue,
                Err(error) => Slot::Failed(error),
            };
            statement.put(&reference.name, slot);
        }
    }
}

/// The catalogs, schemas and tables that one statement may see.
pub struct StatementCatalogs {
    catalogs: RwLock<IndexMap<String, Arc<StatementCatalog>>>,
    loads: Mutex<Option<Arc<Loads>>>,
}

impl StatementCatalogs {
    fn new(catalogs: &Catalogs) -> Self {
        let named = catalogs.names().into_iter();
        let empty = named.map(|name| (name, Arc::new(StatementCatalog::default())));
        Self {
            catalogs: RwLock::new(empty.collect()),
            loads: Mutex::default(),
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
        }
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        Ok(self.slot(name).map(|slot| match slot {
            Slot::Ready(provider) => provider.table_type(),
            Slot::Failed(_) => TableType::Base,
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
        Slot::Failed(_) => None,
    }
}
