//! What `--lake DIR` means: `DIR/catalog.db` is an Iceberg SQL catalog on SQLite, `DIR/warehouse`
//! takes new tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use indexmap::IndexMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use crate::config::{CatalogConfig, CatalogKind, LakeConfig, Secret};
use crate::store::local_files;
use crate::{Error, Result};

/// The catalog of a lake that holds none yet.
const DEFAULT_NAME: &str = "lake";

/// What the database driver takes literally in a path.
const URI_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The catalogs found in `dir`, each under its own name, and the user's file system as the lake.
/// The directory, its database and its warehouse are created when absent.
///
/// # Errors
/// [`Error::Config`] when `dir` cannot be used as a lake, [`Error::Corrupt`] when its database is
/// not one.
pub async fn embedded_config(
    dir: &Path,
) -> Result<(
    IndexMap<String, CatalogConfig>,
    BTreeMap<String, LakeConfig>,
)> {
    let dir = prepare(dir)?;
    let database = format!("{dir}/catalog.db");
    let mut names = catalog_names(&database).await?;
    if names.is_empty() {
        names.insert(DEFAULT_NAME.to_owned());
    }
    let uri = format!("sqlite://{}", utf8_percent_encode(&database, URI_PATH));
    let catalogs = names
        .into_iter()
        .map(|name| {
            let config = CatalogConfig {
                uri: Some(Secret::new(uri.clone())),
                warehouse: Some(format!("file://{dir}/warehouse")),
                name: Some(name.clone()),
                ..CatalogConfig::new(CatalogKind::Sql)
            };
            (name, config)
        })
        .collect();
    Ok((catalogs, local_files()))
}

/// The absolute path of the lake's directory, which exists from now on.
fn prepare(dir: &Path) -> Result<String> {
    let unusable =
        |why: String| Error::Config(format!("{} cannot be used as a lake: {why}", dir.display()));
    // One call makes both; in a lake that is there it changes nothing.
    if !dir.join("catalog.db").exists() {
        std::fs::create_dir_all(dir.join("warehouse")).map_err(|e| unusable(e.to_string()))?;
    }
    // Locations of new tables begin with this path, so it must not hold `..`.
    let climbs = dir.components().any(|part| part == Component::ParentDir);
    let absolute = match climbs {
        true => dir.canonicalize(),
        false => std::path::absolute(dir),
    };
    let absolute = absolute.map_err(|e| unusable(e.to_string()))?;
    let absolute = absolute
        .to_str()
        .ok_or_else(|| unusable("its path is not UTF-8".to_owned()))?;
    Ok(absolute.trim_end_matches('/').to_owned())
}

/// The names of the catalogs in a database; none when it is absent or new.
async fn catalog_names(database: &str) -> Result<BTreeSet<String>> {
    if !Path::new(database).exists() {
        return Ok(BTreeSet::new());
    }
    let failed = |error: sqlx::Error| Error::Corrupt {
        path: database.to_owned(),
        why: match error.as_database_error() {
            Some(error) => error.message().to_owned(),
            None => error.to_string(),
        },
    };
    let options = SqliteConnectOptions::new()
        .filename(database)
        .read_only(true);
    let mut connection: SqliteConnection = options.connect().await.map_err(failed)?;
    let mut names = BTreeSet::new();
    for table in ["iceberg_tables", "iceberg_namespace_properties"] {
        let query = format!("SELECT DISTINCT catalog_name FROM {table}");
        match sqlx::query(&query).fetch_all(&mut connection).await {
            Ok(rows) => names.extend(rows.iter().filter_map(|row| row.try_get(0).ok())),
            Err(error) if error.to_string().contains("no such table") => {}
            Err(error) => return Err(failed(error)),
        }
    }
    // The answer is there; a failure to say goodbye changes nothing.
    let _ = connection.close().await;
    Ok(names)
}
