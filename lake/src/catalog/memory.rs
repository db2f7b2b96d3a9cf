//! Catalogs that live in this process only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::memory::{MEMORY_CATALOG_WAREHOUSE, MemoryCatalogBuilder};
use iceberg::table::Table;
use iceberg::{CatalogBuilder, ErrorKind, NamespaceIdent};
use tokio::sync::RwLock;

use super::backend::{Backend, LOCATION, Levels, Shared, Writer, unless, walk_namespaces};
use super::pointer::Pointers;
use super::{files, metadata, scrub::Service};
use crate::config::CatalogConfig;
use crate::store::LakeStorageFactory;
use crate::{Error, Result, TableName};

pub(super) struct MemoryBackend {
    service: Service,
    shared: Arc<Shared>,
    catalog: Writer,
    /// Where new tables go; without a slash at its end.
    warehouse: String,
    /// Held while a table is out of the catalog for a moment.
    swaps: RwLock<()>,
}

impl MemoryBackend {
    pub async fn open(
        key: &str,
        config: &CatalogConfig,
        service: Service,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let warehouse = config.warehouse.as_deref().ok_or_else(|| {
            service.misconfigured("a catalog of type \"memory\" needs a warehouse for its files")
        })?;
        let warehouse = warehouse.trim_end_matches('/').to_owned();
        let factory = LakeStorageFactory::new(Arc::clone(&shared.stores));
        let catalog = MemoryCatalogBuilder::default()
            .with_storage_factory(Arc::new(factory))
            .load(
                key,
                HashMap::from([(MEMORY_CATALOG_WAREHOUSE.to_owned(), warehouse.clone())]),
            )
            .await
            .map_err(|error| service.misconfigured(error.message()))?;
        Ok(Self {
            service,
            shared,
            catalog: Arc::new(catalog),
            warehouse,
            swaps: RwLock::default(),
        })
    }

    fn failed(&self, error: &iceberg::Error) -> Error {
        Error::in_chain(error).unwrap_or_else(|| self.service.unavailable(error.message()))
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn namespaces(&self) -> Result<Vec<String>> {
        walk_namespaces(self).await
    }

    async fn tables(&self, namespace: &str) -> Result<Option<Vec<String>>> {
        let Ok(ident) = NamespaceIdent::from_strs(namespace.split('.')) else {
            return Ok(None);
        };
        match self.catalog.list_tables(&ident).await {
            Ok(tables) => Ok(Some(tables.into_iter().map(|table| table.name).collect())),
            Err(error) if error.kind() == ErrorKind::NamespaceNotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn all_tables(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut all = BTreeMap::new();
        for namespace in self.namespaces().await? {
            let tables = self.tables(&namespace).await?.unwrap_or_default();
            all.insert(namespace, tables);
        }
        Ok(all)
    }

    async fn load(&self, name: &TableName) -> Result<Option<Table>> {
        let _no_swap = self.swaps.read().await;
        let ident = name.to_ident()?;
        let table = match self.catalog.load_table(&ident).await {
            Ok(table) => table,
            Err(error) => {
                return match error.kind() {
                    ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound => Ok(None),
                    _ => Err(self.failed(&error)),
                };
            }
        };
        let location = table.metadata_location();
        metadata::table(ident, table.metadata_ref(), location, &self.shared.file_io).map(Some)
    }

    async fn writer(&self) -> Result<Writer> {
        Ok(Arc::clone(&self.catalog))
    }

    async fn create_namespace(
        &self,
        namespace: &str,
        properties: &HashMap<String, String>,
    ) -> Result<bool> {
        let ident = namespace_ident(namespace)?;
        let made = self.catalog.create_namespace(&ident, properties.clone());
        let made = made.await;
        let made = unless(made, &[ErrorKind::NamespaceAlreadyExists]);
        Ok(made.map_err(|error| self.failed(&error))?.is_some())
    }

    async fn drop_namespace(&self, namespace: &str) -> Result<bool> {
        let Some(tables) = self.tables(namespace).await? else {
            return Ok(false);
        };
        let ident = namespace_ident(namespace)?;
        let below = self.catalog.list_namespaces(Some(&ident)).await;
        let below = below.map_err(|error| self.failed(&error))?;
        if !tables.is_empty() || !below.is_empty() {
            return Err(files::not_empty(namespace));
        }
        let dropped = self.catalog.drop_namespace(&ident).await;
        let dropped = unless(dropped, &[ErrorKind::NamespaceNotFound]);
        Ok(dropped.map_err(|error| self.failed(&error))?.is_some())
    }

    async fn drop_table(&self, name: &TableName) -> Result<bool> {
        let dropped = self.catalog.drop_table(&name.to_ident()?).await;
        let dropped = unless(dropped, &[ErrorKind::TableNotFound]);
        Ok(dropped.map_err(|error| self.failed(&error))?.is_some())
    }

    async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<bool> {
        let idents = (from.to_ident()?, to.to_ident()?);
        let renamed = self.catalog.rename_table(&idents.0, &idents.1).await;
        if let Err(error) = &renamed
            && error.kind() == ErrorKind::TableAlreadyExists
        {
            return Err(Error::Exists(format!("table {to} exists already")));
        }
        let renamed = unless(renamed, &[ErrorKind::TableNotFound]);
        Ok(renamed.map_err(|error| self.failed(&error))?.is_some())
    }
}

#[async_trait]
impl Levels for MemoryBackend {
    async fn below(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        let listed = self.catalog.list_namespaces(parent).await;
        listed.map_err(|error| self.failed(&error))
    }
}

#[async_trait]
impl Pointers for MemoryBackend {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    async fn new_location(&self, name: &TableName) -> Result<String> {
        let ident = namespace_ident(&name.namespace)?;
        let found = self.catalog.get_namespace(&ident).await;
        let found = found.map_err(|error| self.failed(&error))?;
        if let Some(location) = found.properties().get(LOCATION) {
            return Ok(format!("{}/{}", location.trim_end_matches('/'), name.table));
        }
        let namespace = name.namespace.replace('.', "/");
        Ok(format!("{}/{namespace}/{}", self.warehouse, name.table))
    }

    async fn insert(&self, name: &TableName, metadata: &str) -> Result<bool> {
        let ident = name.to_ident()?;
        let made = self
            .catalog
            .register_table(&ident, metadata.to_owned())
            .await;
        let made = unless(made, &[ErrorKind::TableAlreadyExists]);
        Ok(made.map_err(|error| self.failed(&error))?.is_some())
    }

    async fn pointer(&self, name: &TableName) -> Result<Option<String>> {
        let table = self.load(name).await?;
        Ok(table.and_then(|table| table.metadata_location().map(str::to_owned)))
    }

    async fn swap(&self, name: &TableName, from: &str, to: &str) -> Result<bool> {
        // The catalog has no way to move a pointer: nobody may look between the two steps.
        let _alone = self.swaps.write().await;
        let ident = name.to_ident()?;
        let failed = |error: iceberg::Error| self.failed(&error);
        let table = self.catalog.load_table(&ident).await.map_err(failed)?;
        if table.metadata_location() != Some(from) {
            return Ok(false);
        }
        self.catalog.drop_table(&ident).await.map_err(failed)?;
        let registered = self.catalog.register_table(&ident, to.to_owned()).await;
        if let Err(error) = registered {
            let back = self.catalog.register_table(&ident, from.to_owned());
            back.await.map_err(failed)?;
            return Err(self.failed(&error));
        }
        Ok(true)
    }
}

fn namespace_ident(namespace: &str) -> Result<NamespaceIdent> {
    NamespaceIdent::from_strs(namespace.split('.'))
        .map_err(|error| Error::NotFound(error.message().to_owned()))
}
