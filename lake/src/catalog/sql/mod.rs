//! Catalogs in a SQLite or Postgres database, with the tables that PyIceberg's `SqlCatalog` and
//! Iceberg's JDBC catalog (schema version 1) share.
//!
//! Reading is our own: one query for the pointer to a table's metadata file, and the file only
//! when it is not in the cache. iceberg-catalog-sql takes two queries and parses the file each
//! time (its `load_table`), lists `ab` below `a`, and cannot list all tables at once. It is used
//! to create the tables of an empty database, and by whoever writes.

mod changes;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::CatalogBuilder;
use iceberg::table::Table;
use iceberg_catalog_sql::{
    SQL_CATALOG_PROP_BIND_STYLE, SQL_CATALOG_PROP_URI, SQL_CATALOG_PROP_WAREHOUSE, SqlBindStyle,
    SqlCatalogBuilder,
};
use percent_encoding::percent_decode_str;
use sqlx::any::{AnyPoolOptions, AnyRow, install_default_drivers};
use sqlx::{AnyPool, Row};
use tokio::sync::OnceCell;

use super::backend::{Backend, Shared, Writer};
use super::pointer::Pointers;
use super::{metadata, scrub::Service};
use crate::config::CatalogConfig;
use crate::store::LakeStorageFactory;
use crate::{Error, Result, TableName};

/// Connections to one database at most.
const MAX_CONNECTIONS: u32 = 8;

/// How long to wait for a connection.
const ACQUIRE_DEADLINE: Duration = Duration::from_secs(10);

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Rows of `iceberg_tables` that are tables; the other type is `VIEW`. No type means a table, as
/// PyIceberg wrote it before it knew views.
const IS_TABLE: &str = "(iceberg_type = 'TABLE' OR iceberg_type IS NULL)";

pub(super) struct SqlBackend {
    service: Service,
    shared: Arc<Shared>,
    /// The name inside the database.
    name: String,
    /// Where new tables go; without a slash at its end.
    warehouse: Option<String>,
    pool: AnyPool,
    /// Properties for the writing client.
    properties: HashMap<String, String>,
    prepared: OnceCell<()>,
    writer: OnceCell<Writer>,
}

impl SqlBackend {
    /// Checks the configuration. The database is opened by the first call.
    pub fn new(
        key: &str,
        config: &CatalogConfig,
        service: Service,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let uri = config.uri.as_ref().ok_or_else(|| {
            service.misconfigured(
                "a catalog of type \"sql\" needs a uri, such as sqlite:///path/catalog.db",
            )
        })?;
        let uri = database_uri(uri.reveal(), &service)?;
        let name = config.name.clone().unwrap_or_else(|| key.to_owned());
        if name.trim().is_empty() {
            return Err(service.misconfigured("its name is empty"));
        }
        let mut properties: HashMap<String, String> = config
            .properties
            .iter()
            .map(|(key, value)| (key.clone(), value.reveal().to_owned()))
            .collect();
        check_pool_properties(&properties, &service)?;
        let warehouse = config.warehouse.as_deref();
        let warehouse = warehouse.map(|location| location.trim_end_matches('/').to_owned());
        properties.extend([
            (SQL_CATALOG_PROP_URI.to_owned(), uri.clone()),
            // Joined with '/' by the client, and an empty path segment would be another place.
            (
                SQL_CATALOG_PROP_WAREHOUSE.to_owned(),
                warehouse.clone().unwrap_or_default(),
            ),
            // SQLite understands `$1` too.
            (
                SQL_CATALOG_PROP_BIND_STYLE.to_owned(),
                SqlBindStyle::DollarNumeric.to_string(),
            ),
        ]);
        install_default_drivers();
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_DEADLINE)
            .idle_timeout(IDLE_TIMEOUT)
            .connect_lazy(&uri)
            .map_err(|error| service.misconfigured(&error.to_string()))?;
        Ok(Self {
            service,
            shared,
            name,
            warehouse,
            pool,
            properties,
            prepared: OnceCell::new(),
            writer: OnceCell::new(),
        })
    }

    /// Looks once whether the catalog's tables are there, and creates them when none is.
    async fn prepare(&self) -> Result<()> {
        let prepare = async || {
            let probes = [
                "SELECT namespace FROM iceberg_namespace_properties WHERE 1 = 0",
                "SELECT iceberg_type FROM iceberg_tables WHERE 1 = 0",
            ];
            for probe in probes {
                match self.fetch(probe, &[]).await {
                    Ok(_) => {}
                    Err(error) if is_missing_table(&error) => {
                        self.writer().await?;
                    }
                    Err(error) => return Err(self.failed(&error)),
                }
            }
            Ok(())
        };
        self.prepared.get_or_try_init(prepare).await.copied()
    }

    async fn fetch(&self, query: &str, arguments: &[&str]) -> sqlx::Result<Vec<AnyRow>> {
        let mut query = sqlx::query(query);
        for argument in arguments {
            query = query.bind((*argument).to_owned());
        }
        query.fetch_all(&self.pool).await
    }

    /// The rows of a query, as texts (none for NULL).
    async fn rows(&self, query: &str, arguments: &[&str]) -> Result<Vec<Vec<Option<String>>>> {
        self.prepare().await?;
        let rows = self.fetch(query, arguments).await;
        rows.and_then(|rows| {
            let texts = |row: &AnyRow| (0..row.len()).map(|column| row.try_get(column)).collect();
            rows.iter().map(texts).collect()
        })
        .map_err(|error| self.failed(&error))
    }

    /// Where the metadata of a table lies; none when there is no such table.
    async fn location(&self, name: &TableName) -> Result<Option<String>> {
        let query = format!(
            "SELECT metadata_location FROM iceberg_tables \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3 AND {IS_TABLE}"
        );
        let arguments = [&*self.name, &*name.namespace, &*name.table];
        let Some(row) = self.rows(&query, &arguments).await?.into_iter().next() else {
            return Ok(None);
        };
        let location = row.into_iter().next().flatten();
        location.map(Some).ok_or_else(|| Error::Corrupt {
            path: self.service.label().to_owned(),
            why: format!("it holds no metadata location for table {name}"),
        })
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::PoolTimedOut => self.service.unavailable("no answer in time"),
                sqlx::Error::Configuration(_) => self.service.misconfigured(&error.to_string()),
                _ => self.service.unavailable(&error.to_string()),
            };
        };
        let said = database.message();
        if said.contains("iceberg_type") {
            return self.service.misconfigured(
                "its table iceberg_tables has an old layout without the column iceberg_type; \
                 add it with: ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)",
            );
        }
        match database.code().as_deref() {
            // SQLite: https://www.sqlite.org/rescode.html (CORRUPT, NOTADB).
            Some("11" | "26") => Error::Corrupt {
                path: self.service.label().to_owned(),
                why: said.to_owned(),
            },
            // Postgres: classes 28 (authorization) and 3D (no such database), 42501 (privilege).
            Some(code) if code.starts_with("28") || code.starts_with("3D") || code == "42501" => {
                self.service.misconfigured(said)
            }
            _ => self.service.unavailable(said),
        }
    }
}

#[async_trait]
impl Backend for SqlBackend {
    async fn namespaces(&self) -> Result<Vec<String>> {
        let query = "SELECT table_namespace FROM iceberg_tables WHERE catalog_name = $1 \
                     UNION SELECT namespace FROM iceberg_namespace_properties \
                     WHERE catalog_name = $1";
        let rows = self.rows(query, &[&self.name]).await?;
        Ok(rows.into_iter().flatten().flatten().collect())
    }

    async fn tables(&self, namespace: &str) -> Result<Option<Vec<String>>> {
        let query = format!(
            "SELECT table_name FROM iceberg_tables \
             WHERE catalog_name = $1 AND table_namespace = $2 AND {IS_TABLE}"
        );
        let rows = self.rows(&query, &[&self.name, namespace]).await?;
        if rows.is_empty() && !self.namespaces().await?.iter().any(|n| n == namespace) {
            return Ok(None);
        }
        Ok(Some(rows.into_iter().flatten().flatten().collect()))
    }

    async fn all_tables(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut all: BTreeMap<String, Vec<String>> = self
            .namespaces()
            .await?
            .into_iter()
            .map(|namespace| (namespace, Vec::new()))
            .collect();
        let query = format!(
            "SELECT table_namespace, table_name FROM iceberg_tables \
             WHERE catalog_name = $1 AND {IS_TABLE}"
        );
        for row in self.rows(&query, &[&self.name]).await? {
            if let [Some(namespace), Some(table)] = row.as_slice() {
                let tables = all.entry(namespace.clone()).or_default();
                tables.push(table.clone());
            }
        }
        Ok(all)
    }

    async fn load(&self, name: &TableName) -> Result<Option<Table>> {
        let Some(location) = self.location(name).await? else {
            return Ok(None);
        };
        let shared = &self.shared;
        let parsed = shared.cache.load(&shared.stores, &location).await?;
        metadata::table(name.to_ident()?, parsed, Some(&location), &shared.file_io).map(Some)
    }

    async fn writer(&self) -> Result<Writer> {
        let load = async || {
            let factory = LakeStorageFactory::new(Arc::clone(&self.shared.stores));
            let catalog = SqlCatalogBuilder::default()
                .with_storage_factory(Arc::new(factory))
                .load(self.name.clone(), self.properties.clone())
                .await
                .map_err(|error| self.opening_failed(&error))?;
            Ok::<Writer, Error>(Arc::new(catalog))
        };
        self.writer.get_or_try_init(load).await.map(Arc::clone)
    }

    async fn create_namespace(
        &self,
        namespace: &str,
        properties: &HashMap<String, String>,
    ) -> Result<bool> {
        self.insert_namespace(namespace, properties).await
    }

    async fn drop_namespace(&self, namespace: &str) -> Result<bool> {
        self.delete_namespace(namespace).await
    }

    async fn drop_table(&self, name: &TableName) -> Result<bool> {
        self.delete_table(name).await
    }

    async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<bool> {
        self.move_table(from, to).await
    }
}

#[async_trait]
impl Pointers for SqlBackend {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    async fn new_location(&self, name: &TableName) -> Result<String> {
        self.default_location(name).await
    }

    async fn insert(&self, name: &TableName, metadata: &str) -> Result<bool> {
        self.insert_table(name, metadata).await
    }

    async fn pointer(&self, name: &TableName) -> Result<Option<String>> {
        self.location(name).await
    }

    async fn swap(&self, name: &TableName, from: &str, to: &str) -> Result<bool> {
        self.swap_pointer(name, from, to).await
    }

    async fn remove(&self, name: &TableName, from: &str) -> Result<bool> {
        self.delete_pointer(name, from).await
    }
}

impl SqlBackend {
    fn opening_failed(&self, error: &iceberg::Error) -> Error {
        let source = std::error::Error::source(error);
        match source.and_then(|source| source.downcast_ref::<sqlx::Error>()) {
            Some(error) => self.failed(error),
            None => self.service.misconfigured(error.message()),
        }
    }
}

/// SQLite says `no such table`, Postgres has code 42P01.
fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|database| {
        database.code().as_deref() == Some("42P01")
            || database.message().starts_with("no such table")
    })
}

/// iceberg-catalog-sql unwraps these.
fn check_pool_properties(properties: &HashMap<String, String>, service: &Service) -> Result<()> {
    let valid = |key: &str, value: &str| match key {
        "pool.max-connections" => value.parse::<u32>().is_ok_and(|n| n > 0),
        "pool.idle-timeout" => value.parse::<u64>().is_ok(),
        "pool.test-before-acquire" => value.parse::<bool>().is_ok(),
        _ => true,
    };
    match properties.iter().find(|(key, value)| !valid(key, value)) {
        Some((key, _)) => Err(service.misconfigured(&format!("property {key} has a wrong value"))),
        None => Ok(()),
    }
}

/// The address as the driver wants it. A SQLite file that does not exist is to be created, its
/// directories here; Postgres addresses may carry SQLAlchemy's driver name, as PyIceberg's do.
fn database_uri(uri: &str, service: &Service) -> Result<String> {
    if let Some(rest) = uri.strip_prefix("sqlite:") {
        return sqlite_uri(rest.strip_prefix("//").unwrap_or(rest), service);
    }
    match uri.split_once("://") {
        Some((scheme, rest)) => match scheme.split('+').next() {
            Some("postgresql" | "postgres") => Ok(format!("postgresql://{rest}")),
            _ => Err(service.misconfigured("its uri must begin with sqlite:// or postgresql://")),
        },
        None => Err(service.misconfigured("its uri must begin with sqlite:// or postgresql://")),
    }
}

fn sqlite_uri(rest: &str, service: &Service) -> Result<String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() || path == ":memory:" {
        return Err(service.misconfigured(
            "its uri must name a file (sqlite:///path/catalog.db); for a catalog in memory use \
             type = \"memory\"",
        ));
    }
    if query.contains("mode=") {
        return Ok(format!("sqlite://{rest}"));
    }
    // As the driver does: %3F and %23 stand for '?' and '#'.
    let file = PathBuf::from(percent_decode_str(path).decode_utf8_lossy().as_ref());
    if let Some(parent) = file.parent()
        && !file.exists()
    {
        std::fs::create_dir_all(parent).map_err(|error| {
            service.unavailable(&format!("cannot create {}: {error}", parent.display()))
        })?;
    }
    let separator = if query.is_empty() { "" } else { "&" };
    Ok(format!("sqlite://{path}?{query}{separator}mode=rwc"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{CatalogKind, Secret};

    fn service() -> Service {
        let config = CatalogConfig {
            uri: Some(Secret::new("sqlite:///x")),
            ..CatalogConfig::new(CatalogKind::Sql)
        };
        Service::new("lake", &config)
    }

    #[test]
    fn addresses_of_other_clients_are_understood() {
        let uri = |text| database_uri(text, &service());
        assert_eq!(
            uri("postgresql+psycopg2://u@h/d").unwrap(),
            "postgresql://u@h/d"
        );
        assert_eq!(uri("postgres://u@h/d").unwrap(), "postgresql://u@h/d");
        assert_eq!(
            uri("sqlite:////tmp/x.db").unwrap(),
            "sqlite:////tmp/x.db?mode=rwc"
        );
        assert_eq!(
            uri("sqlite:///x.db?mode=ro").unwrap(),
            "sqlite:///x.db?mode=ro"
        );
        for wrong in ["mysql://u@h/d", "sqlite::memory:", "sqlite://", "/tmp/x.db"] {
            assert!(matches!(uri(wrong), Err(Error::Config(_))), "{wrong}");
        }
    }

    #[test]
    fn wrong_pool_settings_are_refused() {
        let set =
            |value: &str| HashMap::from([("pool.max-connections".to_owned(), value.to_owned())]);
        assert!(check_pool_properties(&set("4"), &service()).is_ok());
        assert!(check_pool_properties(&set("many"), &service()).is_err());
    }
}
