//! Catalogs: which tables there are, and where their metadata lies.
//!
//! - A catalog is opened by the first statement that uses it. One that is down fails those
//!   statements and no others, and each call has a deadline.
//! - Tables are always fresh: the pointer to the metadata file is asked for anew, the file itself
//!   is read only when the pointer changed.
//! - A loaded table reads through [`Stores`] and holds no secret of its catalog.
//! - Names are exact, also in case. Nested namespaces are written with dots: `lake."a.b".t`.

mod backend;
mod change;
mod commit;
mod embedded;
mod files;
mod location;
mod lost;
mod memory;
mod metadata;
mod pointer;
mod removal;
mod repair;
mod replace;
mod rest;
mod scrub;
mod sql;
mod statement;
mod suggest;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use iceberg::table::Table;
use indexmap::IndexMap;
use tokio::sync::OnceCell;

use self::backend::{Backend, Shared};
use self::memory::MemoryBackend;
use self::metadata::MetadataCache;
use self::rest::RestBackend;
use self::scrub::Service;
use self::sql::SqlBackend;
use crate::config::{CatalogConfig, CatalogKind};
use crate::name::Quoted;
use crate::store::{LakeStorageFactory, Stores};
use crate::{Error, Result, TableName};

pub use self::backend::Writer;
pub use self::commit::Change;
pub use self::embedded::embedded_config;
pub(crate) use self::files::metadata_folder;
pub use self::location::open_location;
pub use self::removal::Removed;
pub use self::repair::COLUMN_TYPE_PROPERTY;
pub use self::replace::{Replacement, ReplacementWithRows};
pub use self::statement::{MakeProvider, Reference, StatementCatalogs};
pub use self::suggest::{hint, hint_of, suggest};
pub use self::view::View;

/// A listing of a whole catalog may take this many calls' time.
const CALLS_PER_LISTING: u32 = 4;

/// Limits of [`Catalogs`].
#[derive(Clone, Copy, Debug)]
pub struct CatalogLimits {
    /// How long one call to a catalog may take, reading a metadata file included.
    pub call_deadline: Duration,
    /// How many bytes of metadata files are kept parsed.
    pub metadata_cache_bytes: u64,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        Self {
            call_deadline: Duration::from_secs(30),
            metadata_cache_bytes: 64 << 20,
        }
    }
}

/// The configured catalogs, in the configuration's order; the first is the default one.
pub struct Catalogs {
    entries: IndexMap<String, Entry>,
    shared: Arc<Shared>,
}

struct Entry {
    config: CatalogConfig,
    service: Service,
    backend: OnceCell<Box<dyn Backend>>,
}

impl Catalogs {
    /// Takes the configuration in. Nothing is opened yet.
    ///
    /// # Errors
    /// None today: what is wrong with one catalog fails the statements that use it.
    pub fn open(
        configs: &IndexMap<String, CatalogConfig>,
        stores: Arc<Stores>,
    ) -> Result<Arc<Self>> {
        Self::open_with(configs, stores, CatalogLimits::default())
    }

    /// As [`Catalogs::open`], with other limits.
    ///
    /// # Errors
    /// As [`Catalogs::open`].
    pub fn open_with(
        configs: &IndexMap<String, CatalogConfig>,
        stores: Arc<Stores>,
        limits: CatalogLimits,
    ) -> Result<Arc<Self>> {
        let entries = configs
            .iter()
            .map(|(key, config)| {
                let entry = Entry {
                    config: config.clone(),
                    service: Service::new(key, config),
                    backend: OnceCell::new(),
                };
                (key.clone(), entry)
            })
            .collect();
        let shared = Arc::new(Shared {
            file_io: LakeStorageFactory::file_io(Arc::clone(&stores)),
            stores,
            cache: MetadataCache::new(limits.metadata_cache_bytes),
            call_deadline: limits.call_deadline,
        });
        Ok(Arc::new(Self { entries, shared }))
    }

    /// The catalogs' keys, the default one first.
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The first catalog's key; none without catalogs.
    pub fn default_name(&self) -> Option<&str> {
        self.entries.keys().next().map(String::as_str)
    }

    /// Whether a catalog of this name is configured.
    pub fn contains(&self, catalog: &str) -> bool {
        self.entries.contains_key(catalog)
    }

    /// The stores behind the catalogs' tables.
    pub fn stores(&self) -> &Arc<Stores> {
        &self.shared.stores
    }

    /// All namespaces of a catalog, sorted; levels of nested ones are joined with `.`.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a catalog, [`Error::Unavailable`] when it does not answer,
    /// [`Error::Config`] when its configuration or our credentials are wrong.
    pub async fn namespaces(&self, catalog: &str) -> Result<Vec<String>> {
        let call = async { self.backend(catalog).await?.namespaces().await };
        let mut namespaces = self.within(catalog, CALLS_PER_LISTING, call).await?;
        namespaces.sort();
        Ok(namespaces)
    }

    /// The tables of a namespace, sorted.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`], and [`Error::NotFound`] without such a namespace.
    pub async fn tables(&self, catalog: &str, namespace: &str) -> Result<Vec<String>> {
        let call = async { self.backend(catalog).await?.tables(namespace).await };
        match self.within(catalog, 1, call).await? {
            Some(mut tables) => {
                tables.sort();
                Ok(tables)
            }
            None => Err(self.no_namespace(catalog, namespace).await),
        }
    }

    /// All namespaces of a catalog with their tables, both sorted.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn all_tables(&self, catalog: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let call = async { self.backend(catalog).await?.all_tables().await };
        let mut all = self.within(catalog, CALLS_PER_LISTING, call).await?;
        all.values_mut().for_each(|tables| tables.sort());
        Ok(all)
    }

    /// The table as it is now; none when it, its namespace or its catalog does not exist.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`], and for a metadata file that is away ([`Error::Store`]),
    /// broken ([`Error::Corrupt`]), not supported ([`Error::Unsupported`]) or outside the lakes
    /// ([`Error::OutsideLakes`]).
    pub async fn load(&self, name: &TableName) -> Result<Option<Table>> {
        if !self.contains(&name.catalog) || name.namespace.is_empty() || name.table.is_empty() {
            return Ok(None);
        }
        let call = async { self.backend(&name.catalog).await?.load(name).await };
        self.within(&name.catalog, 1, call).await
    }

    /// The catalog as iceberg-rust's writers want it, over the same stores.
    ///
    /// # Errors
    /// As [`Catalogs::namespaces`].
    pub async fn writer(&self, catalog: &str) -> Result<Writer> {
        let call = async { self.backend(catalog).await?.writer().await };
        self.within(catalog, 1, call).await
    }

    /// Why a name is not found, with near names of the part that is wrong.
    pub async fn not_found(&self, name: &TableName) -> Error {
        if !self.contains(&name.catalog) {
            return self.no_catalog(&name.catalog);
        }
        match self.tables(&name.catalog, &name.namespace).await {
            Ok(tables) => missing("table", &name.to_string(), &name.table, &tables),
            Err(error @ Error::NotFound(_)) => error,
            Err(_) => Error::NotFound(format!("table {name} not found")),
        }
    }

    fn no_catalog(&self, catalog: &str) -> Error {
        let shown = Quoted(catalog).to_string();
        missing("catalog", &shown, catalog, &self.names())
    }

    async fn no_namespace(&self, catalog: &str, namespace: &str) -> Error {
        let near = self.namespaces(catalog).await.unwrap_or_default();
        let shown = format!("{}.{}", Quoted(catalog), Quoted(namespace));
        missing("namespace", &shown, namespace, &near)
    }

    /// The catalog, opened by the first call.
    async fn backend(&self, catalog: &str) -> Result<&dyn Backend> {
        let (key, entry) = self
            .entries
            .get_key_value(catalog)
            .ok_or_else(|| self.no_catalog(catalog))?;
        let open = || entry.open(key, &self.shared);
        let backend = entry.backend.get_or_try_init(open).await?;
        Ok(backend.as_ref())
    }

    /// Ends a call after `calls` times the call deadline.
    async fn within<T>(
        &self,
        catalog: &str,
        calls: u32,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let deadline = self.shared.call_deadline * calls;
        let Ok(result) = tokio::time::timeout(deadline, call).await else {
            let why = format!("no answer within {} s", deadline.as_secs_f32());
            return Err(match self.entries.get(catalog) {
                Some(entry) => entry.service.unavailable(&why),
                None => self.no_catalog(catalog),
            });
        };
        result
    }
}

impl fmt::Debug for Catalogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Catalogs").field(&self.names()).finish()
    }
}

impl Entry {
    async fn open(&self, key: &str, shared: &Arc<Shared>) -> Result<Box<dyn Backend>> {
        let (config, service) = (&self.config, self.service.clone());
        let shared = Arc::clone(shared);
        Ok(match config.kind {
            CatalogKind::Sql => Box::new(SqlBackend::new(key, config, service, shared)?),
            CatalogKind::Rest => Box::new(RestBackend::new(key, config, service, shared)?),
            CatalogKind::Memory => {
                Box::new(MemoryBackend::open(key, config, service, shared).await?)
            }
        })
    }
}

/// `table lake.tpch.lineitm not found; did you mean lineitem?`
fn missing(what: &str, shown: &str, name: &str, candidates: &[String]) -> Error {
    let near: Vec<String> = suggest(name, candidates)
        .iter()
        .map(|candidate| Quoted(candidate).to_string())
        .collect();
    Error::NotFound(format!("{what} {shown} not found{}", hint_of(&near)))
}
