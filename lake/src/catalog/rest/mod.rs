//! Catalogs behind the Iceberg REST protocol.
//!
//! `session` sends requests, `commit` has what changes tables, `views` has views. A table's metadata comes in the
//! answer itself, so it is always fresh and no file is read.

mod commit;
mod session;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use iceberg::spec::{Schema, TableMetadata};
use iceberg::table::Table;
use iceberg::{CatalogBuilder, NamespaceIdent, TableCreation};
use iceberg_catalog_rest::{
    REST_CATALOG_PROP_URI, REST_CATALOG_PROP_WAREHOUSE, RestCatalogBuilder,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use self::session::{Answer, Session, encode, plain_separator};
use super::backend::{Backend, Levels, Shared, Writer, walk_namespaces};
use super::view::View;
use super::{files, metadata, scrub::Service};
use crate::config::{CatalogConfig, Secret};
use crate::store::LakeStorageFactory;
use crate::{Error, Result, TableName};

/// Namespaces whose tables are listed at once.
const CONCURRENT_LISTINGS: usize = 8;

/// Table property that chooses the format version in a request, and is none afterwards (Iceberg's
/// reserved table properties).
const FORMAT_VERSION: &str = "format-version";

pub(super) struct RestBackend {
    shared: Arc<Shared>,
    session: Session,
    key: String,
    uri: String,
    warehouse: Option<String>,
}

impl RestBackend {
    /// Checks the configuration. The service is asked by the first call.
    pub fn new(
        key: &str,
        config: &CatalogConfig,
        service: Service,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let uri = config.uri.as_ref().map(Secret::reveal).unwrap_or_default();
        Ok(Self {
            session: Session::new(config, service, shared.call_deadline)?,
            shared,
            key: key.to_owned(),
            uri: uri.trim_end_matches('/').to_owned(),
            warehouse: config.warehouse.clone(),
        })
    }

    /// All pages of a listing; none when what is listed does not exist.
    async fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<Vec<Value>>> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.extend(next.as_deref().map(|token| ("pageToken", token)));
            let answer = self.session.send(Method::GET, path, &query, None).await?;
            if answer.status == 404 {
                return Ok(None);
            }
            if !answer.is_ok() {
                return Err(self.session.refused(&answer));
            }
            let page: Page = self.session.parse(&answer)?;
            found.extend(page.identifiers);
            match page.next_page_token.filter(|token| !token.is_empty()) {
                Some(token) => next = Some(token),
                None => return Ok(Some(found)),
            }
        }
    }

    /// The path of a table; none for a name that no catalog has.
    async fn table_path(&self, name: &TableName) -> Result<Option<String>> {
        if name.table.is_empty() {
            return Ok(None);
        }
        let namespace = self.session.namespace_segment(&name.namespace).await?;
        let table = encode(&name.table);
        Ok(namespace.map(|namespace| format!("namespaces/{namespace}/tables/{table}")))
    }

    /// The answer to loading a table; none when there is no such table.
    async fn loaded(&self, name: &TableName) -> Result<Option<Answer>> {
        let Some(path) = self.table_path(name).await? else {
            return Ok(None);
        };
        let answer = self.session.send(Method::GET, &path, &[], None).await?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_ok() => Ok(Some(answer)),
            _ => Err(self.session.refused(&answer)),
        }
    }

    /// A table over our stores: the answer may carry secrets of the catalog.
    fn table(
        &self,
        name: &TableName,
        metadata: TableMetadata,
        location: Option<&str>,
    ) -> Result<Table> {
        let file_io = &self.shared.file_io;
        metadata::table(name.to_ident()?, Arc::new(metadata), location, file_io)
    }

    /// The table in an answer; `exactly` refuses what could not be written back.
    async fn table_in(&self, name: &TableName, answer: Answer, exactly: bool) -> Result<Table> {
        let shown = name.to_string();
        // Off the runtime's threads: the text may be long, and a panic in the parser stays there.
        let parsed = tokio::task::spawn_blocking(move || parse(&shown, &answer.body, exactly));
        let parsed = parsed.await.unwrap_or_else(|_| {
            Err(Error::Corrupt {
                path: format!("metadata of table {name}"),
                why: "its content makes the parser fail".to_owned(),
            })
        });
        let (metadata, location) = parsed?;
        self.table(name, metadata, location.as_deref())
    }

    /// Sends a request whose answer has no content; false for the status `missing`.
    async fn done(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        missing: u16,
    ) -> Result<bool> {
        let answer = self.session.send(method, path, &[], body).await?;
        match answer.status {
            status if status == missing => Ok(false),
            _ if answer.is_ok() => Ok(true),
            _ => Err(self.session.refused(&answer)),
        }
    }
}

#[async_trait]
impl Backend for RestBackend {
    async fn namespaces(&self) -> Result<Vec<String>> {
        walk_namespaces(self).await
    }

    async fn tables(&self, namespace: &str) -> Result<Option<Vec<String>>> {
        let Some(segment) = self.session.namespace_segment(namespace).await? else {
            return Ok(None);
        };
        let path = format!("namespaces/{segment}/tables");
        let found = self.list(&path, &[]).await?;
        Ok(found.map(|found| found.iter().filter_map(name_in).collect()))
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
        match self.loaded(name).await? {
            Some(answer) => self.table_in(name, answer, false).await.map(Some),
            None => Ok(None),
        }
    }

    async fn writer(&self) -> Result<Writer> {
        let mut properties = self.session.properties().clone();
        properties.insert(REST_CATALOG_PROP_URI.to_owned(), self.uri.clone());
        if let Some(warehouse) = &self.warehouse {
            properties.insert(REST_CATALOG_PROP_WAREHOUSE.to_owned(), warehouse.clone());
        }
        let factory = LakeStorageFactory::new(Arc::clone(&self.shared.stores));
        let catalog = RestCatalogBuilder::default()
            .with_storage_factory(Arc::new(factory))
            .load(&self.key, properties)
            .await
            .map_err(|error| self.session.service().misconfigured(error.message()))?;
        Ok(Arc::new(catalog))
    }

    async fn create_namespace(
        &self,
        namespace: &str,
        properties: &HashMap<String, String>,
    ) -> Result<bool> {
        let levels: Vec<&str> = namespace.split('.').collect();
        let body = json!({"namespace": levels, "properties": properties});
        self.done(Method::POST, "namespaces", Some(&body), 409)
            .await
    }

    async fn drop_namespace(&self, namespace: &str) -> Result<bool> {
        let Some(tables) = self.tables(namespace).await? else {
            return Ok(false);
        };
        let segment = self.session.namespace_segment(namespace).await?;
        let Some(segment) = segment.filter(|_| tables.is_empty()) else {
            return Err(files::not_empty(namespace));
        };
        let path = format!("namespaces/{segment}");
        let answer = self.session.send(Method::DELETE, &path, &[], None).await?;
        match answer.status {
            404 => Ok(false),
            409 => Err(files::not_empty(namespace)),
            _ if answer.is_ok() => Ok(true),
            _ => Err(self.session.refused(&answer)),
        }
    }

    async fn create_table(
        &self,
        name: &TableName,
        creation: TableCreation,
    ) -> Result<Option<Table>> {
        self.create(name, creation, false).await
    }

    async fn drop_table(&self, name: &TableName) -> Result<bool> {
        match self.table_path(name).await? {
            Some(path) => self.done(Method::DELETE, &path, None, 404).await,
            None => Ok(false),
        }
    }

    async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<bool> {
        let body = json!({"source": identifier(from), "destination": identifier(to)});
        let sent = self
            .session
            .send(Method::POST, "tables/rename", &[], Some(&body));
        let answer = sent.await?;
        match answer.status {
            404 => Ok(false),
            409 => Err(Error::Exists(format!("table {to} exists already"))),
            _ if answer.is_ok() => Ok(true),
            _ => Err(self.session.refused(&answer)),
        }
    }

    async fn has_views(&self) -> Result<bool> {
        self.views_supported().await
    }

    async fn view(&self, name: &TableName) -> Result<Option<View>> {
        self.load_view(name).await
    }

    async fn views(&self, namespace: &str) -> Result<Vec<String>> {
        self.list_views(namespace).await
    }

    async fn put_view(
        &self,
        name: &TableName,
        view: &View,
        schema: &Schema,
        replace: bool,
    ) -> Result<bool> {
        self.store_view(name, view, schema, replace).await
    }

    async fn drop_view(&self, name: &TableName) -> Result<bool> {
        self.remove_view(name).await
    }
}

#[async_trait]
impl Levels for RestBackend {
    async fn below(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        let parent_levels = match parent {
            Some(parent) => {
                let separator = plain_separator(self.session.settings().await?);
                Some(parent.as_ref().join(&separator))
            }
            None => None,
        };
        let query: Vec<(&str, &str)> = parent_levels
            .as_deref()
            .map(|levels| ("parent", levels))
            .into_iter()
            .collect();
        let found = match self.list("namespaces", &query).await {
            Ok(found) => found,
            // Services without nested namespaces refuse the parameter in several ways.
            Err(Error::Refused(_)) if parent.is_some() => None,
            Err(error) => return Err(error),
        };
        if found.is_none() && parent.is_none() {
            let why = "it knows no namespaces; check its uri (HTTP status 404)";
            return Err(self.session.service().unavailable(why));
        }
        let levels = |value: &Value| {
            let levels = serde_json::from_value::<Vec<String>>(value.clone()).ok()?;
            NamespaceIdent::from_vec(levels).ok()
        };
        Ok(found.iter().flatten().filter_map(levels).collect())
    }
}

/// One page of a listing of namespaces, tables or views.
#[derive(Deserialize)]
struct Page {
    #[serde(alias = "namespaces", default)]
    identifiers: Vec<Value>,
    #[serde(rename = "next-page-token")]
    next_page_token: Option<String>,
}

fn name_in(identifier: &Value) -> Option<String> {
    identifier.get("name")?.as_str().map(str::to_owned)
}

/// A table's or a view's name in the body of a request.
fn identifier(name: &TableName) -> Value {
    let levels: Vec<&str> = name.namespace.split('.').collect();
    json!({"namespace": levels, "name": name.table})
}

/// The protocol's `LoadTableResult`, without the configuration for the table.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Loaded {
    metadata_location: Option<String>,
    metadata: TableMetadata,
}

fn parse(name: &str, text: &Bytes, exactly: bool) -> Result<(TableMetadata, Option<String>)> {
    let refused = match serde_json::from_slice::<Loaded>(text) {
        Ok(loaded) => return Ok((loaded.metadata, loaded.metadata_location)),
        Err(refused) => refused.to_string(),
    };
    let mut body: Value = serde_json::from_slice(text).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let location = text(&body["metadata-location"]);
    let shown = location
        .clone()
        .or_else(|| text(&body["metadata"]["location"]));
    let shown = shown.unwrap_or_else(|| format!("of table {name}, in the catalog's answer"));
    let metadata = body.get_mut("metadata").map(Value::take);
    let metadata = metadata::repaired(&shown, metadata.unwrap_or_default(), &refused)?;
    match exactly {
        false => Ok((metadata, location)),
        true => Err(Error::Refused(format!(
            "table {name} can be read but not changed: {refused}"
        ))),
    }
}
