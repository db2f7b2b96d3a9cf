//! The configuration of catalogs and lakes, as it stands in the owner's file.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that must not be shown: passwords, tokens, keys.
///
/// It has no `Display`, its `Debug` hides the value, and it serialises to a placeholder, so that
/// it cannot reach a log, a plan or an error by accident.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

/// Which protocol a catalog speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogKind {
    /// Tables in SQLite or Postgres, shared with PyIceberg's `SqlCatalog`.
    Sql,
    /// The Iceberg REST catalog protocol.
    Rest,
    /// In this process only; gone when it ends.
    Memory,
}

/// One `[catalogs.<key>]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    /// The protocol.
    #[serde(rename = "type")]
    pub kind: CatalogKind,
    /// `sqlite:///path/catalog.db`, `postgresql://user@host/db` or the REST service's address. It
    /// may hold a password, hence a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<Secret>,
    /// Where new tables go (`file:///…`, `s3://…`); for REST the warehouse's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<String>,
    /// The catalog's name inside its database; the section's key by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// REST: a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// REST: `client_id:client_secret` for the OAuth2 client credentials flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Secret>,
    /// REST: the OAuth2 token endpoint; the catalog's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2_server_uri: Option<String>,
    /// REST: the OAuth2 scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Further properties, handed to the catalog client as they are (`header.*` for REST).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Secret>,
}

impl CatalogConfig {
    /// A catalog of this kind, with nothing else said about it.
    pub fn new(kind: CatalogKind) -> Self {
        Self {
            kind,
            uri: None,
            warehouse: None,
            name: None,
            token: None,
            credential: None,
            oauth2_server_uri: None,
            scope: None,
            properties: BTreeMap::new(),
        }
    }
}

/// One `[lakes.<key>]` section: where files may be read, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeConfig {
    /// URL prefix under which every file of this lake lies: `file:///data`, `s3://bucket/prefix`,
    /// `abfss://container@account.dfs.core.windows.net/`, `gs://bucket/`.
    pub root: String,
    /// Options of the object store, named as the `object_store` crate names them
    /// (`aws_access_key_id`, `aws_endpoint`, `azure_storage_account_key`, …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Secret>,
    /// For tables whose metadata names an old place: what locations begin with, and the location
    /// that stands there now. The longest prefix of all lakes counts. One that ends with `/`
    /// matches every location that begins with it, any other only whole segments of the path.
    /// Targets must lie below the root of some lake.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, String>,
    /// The folder below which relative locations lie that no prefix matches. One lake can have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl LakeConfig {
    /// The lake below `root`, with nothing else said about it.
    pub fn new(root: impl Into<String>) -> Self {
        Self {
            root: root.into(),
            properties: BTreeMap::new(),
            map: BTreeMap::new(),
            base: None,
        }
    }
}
