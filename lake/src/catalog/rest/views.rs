//! Views of a REST catalog (Iceberg REST OpenAPI, `.../views`; view specification, version 1).

use std::collections::HashMap;

use iceberg::spec::Schema;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::session::{Failure, Settings, encode};
use super::{RestBackend, identifier, name_in};
use crate::catalog::view::{DIALECTS, View, no_views};
use crate::{Error, Result, TableName};

/// The operation that says that a service has views.
const LOAD_VIEW: &str = "GET /v1/{prefix}/namespaces/{namespace}/views/{view}";

/// Property that says so where the service does not list its operations.
const SUPPORTED: &str = "view-endpoints-supported";

/// Property with what a view is about.
const COMMENT: &str = "comment";

/// View metadata, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    view_uuid: String,
    current_version_id: i64,
    versions: Vec<Version>,
    #[serde(default)]
    schemas: Vec<Value>,
    #[serde(default)]
    properties: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Version {
    version_id: i64,
    schema_id: i64,
    default_catalog: Option<String>,
    #[serde(default)]
    default_namespace: Vec<String>,
    #[serde(default)]
    representations: Vec<Representation>,
}

#[derive(Deserialize)]
struct Representation {
    #[serde(default)]
    sql: String,
    #[serde(default)]
    dialect: String,
}

#[derive(Deserialize)]
struct Loaded {
    metadata: Metadata,
}

fn supported(settings: &Settings) -> bool {
    let property = settings.properties.get(SUPPORTED);
    settings
        .has(LOAD_VIEW)
        .unwrap_or_else(|| property.is_some_and(|value| value.eq_ignore_ascii_case("true")))
}

impl RestBackend {
    pub(super) async fn views_supported(&self) -> Result<bool> {
        Ok(supported(self.session.settings().await?))
    }

    /// The path of a namespace's views; none when there can be none.
    async fn views_path(&self, namespace: &str) -> Result<Option<String>> {
        if !self.views_supported().await? {
            return Ok(None);
        }
        let segment = self.session.namespace_segment(namespace).await?;
        Ok(segment.map(|segment| format!("namespaces/{segment}/views")))
    }

    pub(super) async fn list_views(&self, namespace: &str) -> Result<Vec<String>> {
        let Some(path) = self.views_path(namespace).await? else {
            return Ok(vec![]);
        };
        let found = self.list(&path, &[]).await?.unwrap_or_default();
        Ok(found.iter().filter_map(name_in).collect())
    }

    async fn view_metadata(&self, name: &TableName) -> Result<Option<Metadata>> {
        let Some(path) = self.views_path(&name.namespace).await? else {
            return Ok(None);
        };
        let path = format!("{path}/{}", encode(&name.table));
        let answer = self.session.send(Method::GET, &path, &[], None).await?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_ok() => Ok(Some(self.session.parse::<Loaded>(&answer)?.metadata)),
            _ => Err(self.session.refused(&answer)),
        }
    }

    pub(super) async fn load_view(&self, name: &TableName) -> Result<Option<View>> {
        match self.view_metadata(name).await? {
            Some(metadata) => view_of(name, metadata).map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn remove_view(&self, name: &TableName) -> Result<bool> {
        let Some(path) = self.views_path(&name.namespace).await? else {
            return Ok(false);
        };
        let path = format!("{path}/{}", encode(&name.table));
        self.done(Method::DELETE, &path, None, 404).await
    }

    pub(super) async fn store_view(
        &self,
        name: &TableName,
        view: &View,
        schema: &Schema,
        replace: bool,
    ) -> Result<bool> {
        let Some(path) = self.views_path(&name.namespace).await? else {
            return Err(no_views(name));
        };
        let there = match replace {
            true => self.view_metadata(name).await?,
            false => None,
        };
        let (path, body) = match &there {
            None => (path, creation(name, view, schema)),
            Some(there) => (
                format!("{path}/{}", encode(&name.table)),
                replacement(name, view, schema, there),
            ),
        };
        let error = match self
            .session
            .send(Method::POST, &path, &[], Some(&body))
            .await
        {
            Ok(answer) if answer.is_ok() => return Ok(true),
            Ok(answer) if answer.status == 409 && there.is_none() => return Ok(false),
            Ok(answer) if answer.status == 409 => {
                return Err(Error::Conflict(format!(
                    "view {name} was changed by another writer meanwhile; run the statement again"
                )));
            }
            Ok(answer) if answer.status == 404 => {
                let why = answer.why();
                return Err(Error::NotFound(format!("view {name} not found ({why})")));
            }
            Ok(answer) if answer.status >= 500 && answer.status != 501 => {
                self.session.refused(&answer)
            }
            Ok(answer) => return Err(self.session.refused(&answer)),
            Err(Failure::NotSent(error)) => return Err(error),
            Err(Failure::Lost(error)) => error,
        };
        // An answer that was lost: the catalog knows whether the view is there.
        match self.load_view(name).await {
            Ok(Some(found)) if found.sql == view.sql => Ok(true),
            _ => Err(Error::CommitUnknown {
                table: name.to_string(),
                why: error.to_string(),
            }),
        }
    }
}

fn view_of(name: &TableName, metadata: Metadata) -> Result<View> {
    let broken = |why: String| Error::Corrupt {
        path: format!("metadata of view {name}"),
        why,
    };
    let current = metadata.current_version_id;
    let mut versions = metadata.versions.into_iter();
    let version = versions.find(|version| version.version_id == current);
    let version = version.ok_or_else(|| broken(format!("there is no version {current}")))?;
    let known = |dialect: &&str| {
        let mut found = version.representations.iter();
        found.find(|found| found.dialect.eq_ignore_ascii_case(dialect))
    };
    let Some(representation) = DIALECTS.iter().find_map(known) else {
        let found = version.representations.iter().map(|r| r.dialect.as_str());
        return Err(Error::Unsupported {
            table: name.to_string(),
            what: "the view".to_owned(),
            why: format!(
                "its query is there in the dialects ({}); read are {}",
                found.collect::<Vec<_>>().join(", "),
                DIALECTS.join(", ")
            ),
        });
    };
    let schema = metadata.schemas.iter();
    let mut schema = schema.filter(|schema| schema["schema-id"] == json!(version.schema_id));
    let fields = schema.next().and_then(|schema| schema["fields"].as_array());
    let columns = fields.into_iter().flatten();
    let columns = columns.filter_map(|field| field["name"].as_str().map(str::to_owned));
    Ok(View {
        sql: representation.sql.clone(),
        catalog: version
            .default_catalog
            .unwrap_or_else(|| name.catalog.clone()),
        namespace: match version.default_namespace.is_empty() {
            true => name.namespace.clone(),
            false => version.default_namespace.join("."),
        },
        columns: columns.collect(),
        comment: metadata.properties.get(COMMENT).cloned(),
    })
}

/// A version of a view, with a schema that is there or, by -1, the one just added.
fn version(name: &TableName, view: &View, id: i64, schema_id: i64) -> Value {
    let levels: Vec<&str> = view.namespace.split('.').collect();
    let mut version = json!({
        "version-id": id,
        "timestamp-ms": chrono::Utc::now().timestamp_millis(),
        "schema-id": schema_id,
        "summary": {"engine-name": "inshore", "engine-version": env!("CARGO_PKG_VERSION")},
        "representations": [{"type": "sql", "sql": view.sql, "dialect": DIALECTS[0]}],
        "default-namespace": levels,
    });
    // Without it, the view's own (specification, "Versions"): other systems call it otherwise.
    if view.catalog != name.catalog {
        version["default-catalog"] = json!(view.catalog);
    }
    version
}

fn properties(view: &View) -> HashMap<&str, &str> {
    let comment = view.comment.as_deref();
    comment.map(|text| (COMMENT, text)).into_iter().collect()
}

fn creation(name: &TableName, view: &View, schema: &Schema) -> Value {
    let schema = schema.clone().into_builder().with_schema_id(0).build();
    json!({
        "name": name.table,
        "schema": schema.ok(),
        "view-version": version(name, view, 1, 0),
        "properties": properties(view),
    })
}

fn replacement(name: &TableName, view: &View, schema: &Schema, there: &Metadata) -> Value {
    let last = there.versions.iter().map(|version| version.version_id);
    let next = last.max().unwrap_or(0) + 1;
    let mut updates = vec![
        json!({"action": "add-schema", "schema": schema}),
        json!({"action": "add-view-version", "view-version": version(name, view, next, -1)}),
        json!({"action": "set-current-view-version", "view-version-id": -1}),
    ];
    if view.comment.is_some() {
        updates.push(json!({"action": "set-properties", "updates": properties(view)}));
    }
    json!({
        "identifier": identifier(name),
        "requirements": [{"type": "assert-view-uuid", "uuid": there.view_uuid}],
        "updates": updates,
    })
}
