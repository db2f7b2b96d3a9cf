//! Catalogs behind the Iceberg REST protocol.
//!
//! iceberg-catalog-rest speaks it; this module encodes the names it puts into addresses as they
//! are, renews an expired OAuth2 token, and turns its errors into ours. A table's metadata comes
//! in the answer itself, so it is always fresh and no file is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{Catalog, CatalogBuilder, ErrorKind, NamespaceIdent, TableCreation, TableIdent};
use iceberg_catalog_rest::{
    REST_CATALOG_PROP_URI, REST_CATALOG_PROP_WAREHOUSE, RestCatalog, RestCatalogBuilder,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::backend::{Backend, Shared, Writer, unless, walk_namespaces};
use super::{files, metadata, scrub::Service};
use crate::config::{CatalogConfig, Secret};
use crate::error::innermost;
use crate::store::LakeStorageFactory;
use crate::{Error, Result, TableName};

/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Namespaces whose tables are listed at once.
const CONCURRENT_LISTINGS: usize = 8;

/// What a path segment may hold as it is (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub(super) struct RestBackend {
    service: Service,
    shared: Arc<Shared>,
    catalog: Arc<RestCatalog>,
    /// Whether a new token can be had.
    renewable: bool,
}

impl RestBackend {
    pub async fn open(
        key: &str,
        config: &CatalogConfig,
        service: Service,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let properties = properties(config, &service)?;
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(shared.call_deadline)
            .build()
            .map_err(|error| service.misconfigured(&error.to_string()))?;
        let factory = LakeStorageFactory::new(Arc::clone(&shared.stores));
        let catalog = RestCatalogBuilder::default()
            .with_client(client)
            .with_storage_factory(Arc::new(factory))
            .load(key, properties)
            .await
            .map_err(|error| service.misconfigured(error.message()))?;
        Ok(Self {
            service,
            shared,
            catalog: Arc::new(catalog),
            renewable: config.credential.is_some(),
        })
    }

    /// Runs a call, once more with a new token when the old one is no longer taken.
    async fn call<T, F>(&self, run: impl Fn() -> F) -> iceberg::Result<T>
    where
        F: Future<Output = iceberg::Result<T>>,
    {
        match run().await {
            Err(error) if self.renewable && matches!(status(&error), Some(401 | 419)) => {
                self.catalog.regenerate_token().await?;
                run().await
            }
            result => result,
        }
    }

    fn no_commits(&self) -> Error {
        let label = self.service.label();
        Error::Refused(format!(
            "{label}: tables of REST catalogs cannot be changed yet"
        ))
    }

    fn failed(&self, error: &iceberg::Error) -> Error {
        if let Some(error) = Error::in_chain(error) {
            return error;
        }
        let mut why = match status(error) {
            Some(code) => format!("HTTP status {code}"),
            None => error.message().to_owned(),
        };
        if let Some(detail) = server_message(error).or_else(|| innermost(error)) {
            why = format!("{why}: {detail}");
        }
        match status(error) {
            Some(401 | 403) => {
                let hint = "it refused us; check token, credential and scope";
                self.service.misconfigured(&format!("{hint} ({why})"))
            }
            _ => self.service.unavailable(&why),
        }
    }
}

#[async_trait]
impl Backend for RestBackend {
    async fn namespaces(&self) -> Result<Vec<String>> {
        let found = self
            .call(|| walk_namespaces(self.catalog.as_ref(), is_flat))
            .await;
        let found = found.map_err(|error| self.failed(&error))?;
        Ok(found.iter().map(|namespace| namespace.join(".")).collect())
    }

    async fn tables(&self, namespace: &str) -> Result<Option<Vec<String>>> {
        let Some(encoded) = encoded_namespace(namespace) else {
            return Ok(None);
        };
        match self.call(|| self.catalog.list_tables(&encoded)).await {
            Ok(tables) => Ok(Some(tables.into_iter().map(|table| table.name).collect())),
            Err(error) if error.kind() == ErrorKind::NamespaceNotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn all_tables(&self) -> Result<BTreeMap<String, Vec<String>>> {
        stream::iter(self.namespaces().await?)
            .map(|namespace| async move {
                let tables = self.tables(&namespace).await?.unwrap_or_default();
                Ok((namespace, tables))
            })
            .buffer_unordered(CONCURRENT_LISTINGS)
            .try_collect()
            .await
    }

    async fn load(&self, name: &TableName) -> Result<Option<Table>> {
        let Some(namespace) = encoded_namespace(&name.namespace) else {
            return Ok(None);
        };
        let encoded = TableIdent::new(namespace, encode(&name.table));
        let table = match self.call(|| self.catalog.load_table(&encoded)).await {
            Ok(table) => table,
            Err(error) if error.kind() == ErrorKind::TableNotFound => return Ok(None),
            Err(error) => {
                let Some(refused) = refused_table(&error) else {
                    return Err(self.failed(&error));
                };
                let (metadata, location) = refused?;
                let (ident, location) = (name.to_ident()?, location.as_deref());
                let (metadata, file_io) = (Arc::new(metadata), &self.shared.file_io);
                return metadata::table(ident, metadata, location, file_io).map(Some);
            }
        };
        // A new table over our stores: the one at hand carries the catalog's secrets.
        let (location, file_io) = (table.metadata_location(), &self.shared.file_io);
        metadata::table(name.to_ident()?, table.metadata_ref(), location, file_io).map(Some)
    }

    async fn writer(&self) -> Result<Writer> {
        Ok(Arc::<RestCatalog>::clone(&self.catalog))
    }

    async fn create_namespace(&self, namespace: &str) -> Result<bool> {
        // The name goes in the request's body here, as it is.
        let ident = NamespaceIdent::from_strs(namespace.split('.'))
            .map_err(|error| Error::NotFound(error.message().to_owned()))?;
        let made = self
            .call(|| self.catalog.create_namespace(&ident, HashMap::new()))
            .await;
        let made = unless(made, &[ErrorKind::NamespaceAlreadyExists]);
        Ok(made.map_err(|error| self.failed(&error))?.is_some())
    }

    async fn drop_namespace(&self, namespace: &str) -> Result<bool> {
        let Some(tables) = self.tables(namespace).await? else {
            return Ok(false);
        };
        let Some(ident) = encoded_namespace(namespace).filter(|_| tables.is_empty()) else {
            return Err(files::not_empty(namespace));
        };
        let dropped = self.call(|| self.catalog.drop_namespace(&ident)).await;
        if let Err(error) = &dropped
            && status(error) == Some(409)
        {
            return Err(files::not_empty(namespace));
        }
        let dropped = unless(dropped, &[ErrorKind::NamespaceNotFound]);
        Ok(dropped.map_err(|error| self.failed(&error))?.is_some())
    }

    async fn create_table(
        &self,
        name: &TableName,
        creation: TableCreation,
    ) -> Result<Option<Table>> {
        let Some(namespace) = encoded_namespace(&name.namespace) else {
            return Err(Error::NotFound(format!("table {name} not found")));
        };
        let made = self
            .call(|| self.catalog.create_table(&namespace, copy(&creation)))
            .await;
        let made = unless(made, &[ErrorKind::TableAlreadyExists]);
        match made.map_err(|error| self.failed(&error))? {
            Some(_) => self.load(name).await,
            None => Ok(None),
        }
    }

    async fn drop_table(&self, name: &TableName) -> Result<bool> {
        let Some(namespace) = encoded_namespace(&name.namespace) else {
            return Ok(false);
        };
        let ident = TableIdent::new(namespace, encode(&name.table));
        let dropped = self.call(|| self.catalog.drop_table(&ident)).await;
        let dropped = unless(dropped, &[ErrorKind::TableNotFound]);
        Ok(dropped.map_err(|error| self.failed(&error))?.is_some())
    }

    async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<bool> {
        // Both names go in the request's body, as they are.
        let (from, target) = (from.to_ident()?, to.to_ident()?);
        let renamed = self
            .call(|| self.catalog.rename_table(&from, &target))
            .await;
        if let Err(error) = &renamed
            && error.kind() == ErrorKind::TableAlreadyExists
        {
            return Err(Error::Exists(format!("table {to} exists already")));
        }
        let renamed = unless(renamed, &[ErrorKind::TableNotFound]);
        Ok(renamed.map_err(|error| self.failed(&error))?.is_some())
    }

    fn new_location(&self, _: &TableName) -> Result<Option<String>> {
        Ok(None)
    }

    async fn enter(&self, _: &TableName, _: &str) -> Result<bool> {
        Err(self.no_commits())
    }

    async fn pointer(&self, _: &TableName) -> Result<Option<String>> {
        Err(self.no_commits())
    }

    async fn swap(&self, _: &TableName, _: &str, _: &str) -> Result<bool> {
        Err(self.no_commits())
    }
}

/// The type has no `Clone`.
fn copy(creation: &TableCreation) -> TableCreation {
    TableCreation {
        name: creation.name.clone(),
        location: creation.location.clone(),
        schema: creation.schema.clone(),
        partition_spec: creation.partition_spec.clone(),
        sort_order: creation.sort_order.clone(),
        properties: creation.properties.clone(),
        format_version: creation.format_version,
    }
}

/// Services without nested namespaces refuse the `parent` parameter in several ways.
fn is_flat(error: &iceberg::Error) -> bool {
    error.kind() == ErrorKind::NamespaceNotFound
        || matches!(status(error), Some(400 | 404 | 405 | 406 | 422 | 501))
}

/// The client's properties, checked: its own message about a wrong header quotes the value.
fn properties(config: &CatalogConfig, service: &Service) -> Result<HashMap<String, String>> {
    let uri = config.uri.as_ref().map(Secret::reveal).unwrap_or_default();
    if !uri.starts_with("http://") && !uri.starts_with("https://") {
        return Err(service.misconfigured(
            "a catalog of type \"rest\" needs a uri that begins with https:// or http://",
        ));
    }
    for (key, value) in &config.properties {
        let Some(header) = key.strip_prefix("header.") else {
            continue;
        };
        if HeaderName::try_from(header).is_err() || HeaderValue::try_from(value.reveal()).is_err() {
            return Err(service.misconfigured(&format!("property {key} is not a valid header")));
        }
    }
    let given = config.properties.iter();
    let mut properties: HashMap<String, String> = given
        .map(|(key, value)| (key.clone(), value.reveal().to_owned()))
        .collect();
    let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| s.reveal().to_owned());
    let named = [
        (
            REST_CATALOG_PROP_URI,
            Some(uri.trim_end_matches('/').to_owned()),
        ),
        (REST_CATALOG_PROP_WAREHOUSE, config.warehouse.clone()),
        ("token", secret(&config.token)),
        ("credential", secret(&config.credential)),
        ("oauth2-server-uri", config.oauth2_server_uri.clone()),
        ("scope", config.scope.clone()),
    ];
    let named = named.into_iter();
    properties.extend(named.filter_map(|(key, value)| Some((key.to_owned(), value?))));
    Ok(properties)
}

/// The client joins names into an address as they are, so they are encoded before.
fn encode(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

fn encoded_namespace(namespace: &str) -> Option<NamespaceIdent> {
    if namespace.is_empty() {
        return None;
    }
    NamespaceIdent::from_vec(namespace.split('.').map(encode).collect()).ok()
}

/// The HTTP status of an error. The client keeps it only in the text of its context.
fn status(error: &iceberg::Error) -> Option<u16> {
    let text = error.to_string();
    let context = text.split(", headers: ").next().unwrap_or(&text);
    ["status: ", "code: "].iter().find_map(|label| {
        let (_, rest) = context.split_once(label)?;
        rest.get(..3)?.parse().ok()
    })
}

/// The answer's body, where the error's context holds it.
fn body(error: &iceberg::Error) -> Option<Value> {
    let text = error.to_string();
    let (_, rest) = text.split_once("json: ")?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    values.next()?.ok()
}

/// `error.message` of the protocol's error answer.
fn server_message(error: &iceberg::Error) -> Option<String> {
    let message = body(error)?
        .get("error")?
        .get("message")?
        .as_str()?
        .to_owned();
    Some(message)
}

/// The metadata, and its location, of a table that the client refuses. None when the error is
/// about something else.
fn refused_table(error: &iceberg::Error) -> Option<Result<(TableMetadata, Option<String>)>> {
    let mut body = body(error)?;
    let table = body.get_mut("metadata")?.take();
    let location = body
        .get("metadata-location")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let shown = location.clone().or_else(|| {
        let location = table.get("location").and_then(Value::as_str);
        location.map(str::to_owned)
    });
    let shown = shown.unwrap_or_else(|| "in the catalog's answer".to_owned());
    let why = innermost(error).unwrap_or_else(|| error.message().to_owned());
    let repaired = metadata::repaired(&shown, table, &why);
    Some(repaired.map(|metadata| (metadata, location)))
}
