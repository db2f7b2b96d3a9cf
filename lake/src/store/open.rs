//! Clients for the configured lakes.
//!
//! Credentials come from the lake's properties; what they do not say comes from the environment,
//! as `object_store` reads it (`AWS_*`, `AZURE_*`, `GOOGLE_*`).

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, RetryConfig};

use super::location::{Scheme, StoreKey};
use crate::config::LakeConfig;
use crate::{Error, Result};

/// How often a request is tried again.
const MAX_RETRIES: usize = 6;

/// How long one request may take with its retries.
const RETRY_DEADLINE: Duration = Duration::from_secs(60);

/// The client for one lake.
pub(super) fn open(name: &str, key: &StoreKey, lake: &LakeConfig) -> Result<Arc<dyn ObjectStore>> {
    match key.scheme {
        Scheme::File | Scheme::Memory => match lake.properties.keys().next() {
            Some(property) => Err(unknown(
                name,
                property,
                "this kind of lake has no properties",
            )),
            None if key.scheme == Scheme::File => Ok(Arc::new(LocalFileSystem::new())),
            None => Ok(Arc::new(InMemory::new())),
        },
        Scheme::S3 => open_s3(name, key, lake),
        Scheme::Azure => open_azure(name, key, lake),
        Scheme::Gcs => open_gcs(name, key, lake),
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_DEADLINE,
        ..RetryConfig::default()
    }
}

fn open_s3(name: &str, key: &StoreKey, lake: &LakeConfig) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env()
        .with_retry(retry())
        .with_bucket_name(&key.authority);
    for (property, value) in options::<AmazonS3ConfigKey>(name, lake)? {
        // An endpoint written with http:// says by itself that plain HTTP is meant.
        if property == AmazonS3ConfigKey::Endpoint && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(property, value);
    }
    Ok(Arc::new(builder.build().map_err(|e| refused(name, &e))?))
}

fn open_azure(name: &str, key: &StoreKey, lake: &LakeConfig) -> Result<Arc<dyn ObjectStore>> {
    let (container, host) = key.authority.split_once('@').ok_or_else(|| {
        Error::Config(format!(
            "lakes.{name}.root: {key} must read abfss://<container>@<account>.dfs.core.windows.net"
        ))
    })?;
    let account = host.split('.').next().unwrap_or(host);
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_retry(retry())
        .with_account(account)
        .with_container_name(container);
    for (property, value) in options::<AzureConfigKey>(name, lake)? {
        if property == AzureConfigKey::Endpoint && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(property, value);
    }
    Ok(Arc::new(builder.build().map_err(|e| refused(name, &e))?))
}

fn open_gcs(name: &str, key: &StoreKey, lake: &LakeConfig) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_retry(retry())
        .with_bucket_name(&key.authority);
    for (property, value) in options::<GoogleConfigKey>(name, lake)? {
        builder = builder.with_config(property, value);
    }
    Ok(Arc::new(builder.build().map_err(|e| refused(name, &e))?))
}

/// The lake's properties as the builder's keys.
fn options<'a, K: FromStr>(name: &str, lake: &'a LakeConfig) -> Result<Vec<(K, &'a str)>> {
    lake.properties
        .iter()
        .map(|(property, value)| {
            K::from_str(&property.to_ascii_lowercase())
                .map(|key| (key, value.reveal()))
                .map_err(|_| unknown(name, property, "the object store has no such option"))
        })
        .collect()
}

fn unknown(name: &str, property: &str, why: &str) -> Error {
    Error::Config(format!("lakes.{name}.properties.{property}: {why}"))
}

/// A builder's error with every property value taken out: it may quote the one it rejects.
fn refused(name: &str, error: &object_store::Error) -> Error {
    let source = std::error::Error::source(error);
    let class = source.map_or_else(|| "wrong configuration".to_owned(), kind_of);
    Error::Config(format!(
        "lakes.{name}: the object store's client could not be made ({class}); check its \
         properties and the environment"
    ))
}

/// The variant name of an error, without its fields.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> String {
    let debug = format!("{error:?}");
    debug
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric())
        .collect()
}
