//! Reading table metadata files.
//!
//! A metadata file never changes under its name (Iceberg specification, "Optimistic concurrency"),
//! so one that a catalog points to is parsed once and kept, weighed in bytes.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{MAIN_BRANCH, TableMetadata, TableMetadataRef};
use iceberg::table::Table;
use iceberg::{Runtime, TableIdent};
use serde::Deserialize;
use serde_json::Value;

use super::repair::repair;
use crate::store::{MAX_READ_BYTES, Stores};
use crate::{Error, Result};

/// First bytes of a gzip stream (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Parsed metadata by the location of its file.
#[derive(Clone)]
pub(super) struct MetadataCache {
    entries: moka::sync::Cache<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    metadata: TableMetadataRef,
    /// Length of the JSON text, which stands for the size in memory.
    bytes: u32,
}

impl MetadataCache {
    pub fn new(max_bytes: u64) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|location: &String, entry: &Entry| {
                let key = u32::try_from(location.len()).unwrap_or(u32::MAX);
                entry.bytes.saturating_add(key)
            })
            .build();
        Self { entries }
    }

    /// The metadata at `location`, from the cache or the file.
    pub async fn load(&self, stores: &Stores, location: &str) -> Result<TableMetadataRef> {
        if let Some(entry) = self.entries.get(location) {
            return Ok(entry.metadata);
        }
        let (metadata, bytes) = read(stores, location).await?;
        let entry = Entry {
            metadata: Arc::clone(&metadata),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        self.entries.insert(location.to_owned(), entry);
        Ok(metadata)
    }
}

/// Reads one metadata file, compressed or not, and the length of its JSON text in bytes.
pub(super) async fn read(stores: &Stores, location: &str) -> Result<(TableMetadataRef, usize)> {
    let content = stores.read(location).await?;
    let path = location.to_owned();
    // Off the runtime's threads: the text may be long, and a panic in the parser stays there.
    tokio::task::spawn_blocking(move || {
        let text = uncompressed(&path, content)?;
        Ok((Arc::new(parse(&path, &text)?), text.len()))
    })
    .await
    .unwrap_or_else(|_| Err(corrupt(location, "its content makes the parser fail")))
}

/// Reads one metadata file that is to be written anew, changed: nothing in it may be repaired or
/// left out.
///
/// # Errors
/// [`Error::Refused`] for metadata that can be read but not written again, else as [`read`].
pub(super) async fn read_exactly(stores: &Stores, location: &str) -> Result<TableMetadataRef> {
    let text = uncompressed(location, stores.read(location).await?)?;
    check_refs(location, &text)?;
    match serde_json::from_slice::<TableMetadata>(&text) {
        Ok(metadata) => Ok(Arc::new(metadata)),
        Err(refused) => {
            parse(location, &text)?;
            Err(Error::Refused(format!(
                "the table with metadata {location} can be read but not changed: {refused}"
            )))
        }
    }
}

/// Metadata of version 1 may have branches and tags, and iceberg-rust leaves them out of it.
///
/// # Errors
/// [`Error::Refused`] when some would be lost.
fn check_refs(location: &str, text: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Version1 {
        format_version: u64,
        refs: Option<HashMap<String, HashMap<String, Value>>>,
    }
    let Ok(found) = serde_json::from_slice::<Version1>(text) else {
        // What is wrong with it is said by whoever needs it.
        return Ok(());
    };
    let is_plain_main = |(name, fields): (&String, &HashMap<String, Value>)| {
        let set = fields.iter().filter(|(_, value)| !value.is_null());
        name == MAIN_BRANCH && set.count() <= 2
    };
    let mut refs = found.refs.iter().flatten();
    match found.format_version > 1 || refs.all(is_plain_main) {
        true => Ok(()),
        false => Err(Error::Refused(format!(
            "the table with metadata {location} can be read but not changed: its format version is \
             1, of which branches and tags would be lost; raise it with the writer that made them"
        ))),
    }
}

/// A table over its metadata.
pub(super) fn table(
    ident: TableIdent,
    metadata: TableMetadataRef,
    location: Option<&str>,
    file_io: &FileIO,
) -> Result<Table> {
    let path = location.unwrap_or_else(|| metadata.location()).to_owned();
    let runtime = Runtime::try_current().map_err(|e| Error::Internal(e.message().to_owned()))?;
    let mut builder = Table::builder()
        .identifier(ident)
        .metadata(metadata)
        .file_io(file_io.clone())
        // The object cache panics on snapshots without a schema id; our planner has its own.
        .disable_cache()
        .runtime(runtime);
    if let Some(location) = location {
        builder = builder.metadata_location(location);
    }
    builder.build().map_err(|error| Error::Unsupported {
        table: path,
        what: "the metadata".to_owned(),
        why: error.message().to_owned(),
    })
}

/// The JSON text. Some writers compress whatever the name says, so the content decides.
fn uncompressed(location: &str, content: Bytes) -> Result<Bytes> {
    if !content.starts_with(&GZIP_MAGIC) {
        return Ok(content);
    }
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(content.as_ref())
        .take(MAX_READ_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| corrupt(location, &format!("not readable as gzip: {error}")))?;
    if text.len() as u64 > MAX_READ_BYTES {
        let why = format!("longer than {MAX_READ_BYTES} bytes when unpacked");
        return Err(corrupt(location, &why));
    }
    Ok(text.into())
}

fn parse(location: &str, text: &[u8]) -> Result<TableMetadata> {
    let refused = match serde_json::from_slice::<TableMetadata>(text) {
        Ok(metadata) => return Ok(metadata),
        Err(refused) => refused,
    };
    let value: Value = serde_json::from_slice(text)
        .map_err(|error| corrupt(location, &format!("not JSON: {error}")))?;
    repaired(location, value, &refused.to_string())
}

/// Metadata that iceberg-rust refused, after [`repair`]. `refused` says why it did, for metadata
/// that cannot be saved.
///
/// # Errors
/// [`Error::Unsupported`] for an unknown format version, else [`Error::Corrupt`].
pub(super) fn repaired(location: &str, mut value: Value, refused: &str) -> Result<TableMetadata> {
    diagnose(location, &value)?;
    repair(&mut value);
    // What is still wrong then is better said of the file as it was.
    serde_json::from_value(value)
        .map_err(|_| corrupt(location, &format!("not Iceberg table metadata: {refused}")))
}

/// What metadata that iceberg-rust refuses is about, when it is a feature we know of.
fn diagnose(location: &str, metadata: &Value) -> Result<()> {
    let version = metadata.get("format-version").and_then(Value::as_u64);
    match version {
        Some(version) if !(1..=3).contains(&version) => Err(Error::Unsupported {
            table: location.to_owned(),
            what: format!("format version {version}"),
            why: "format versions 1 to 3 are known".to_owned(),
        }),
        _ => Ok(()),
    }
}

fn corrupt(location: &str, why: &str) -> Error {
    Error::Corrupt {
        path: location.to_owned(),
        why: why.to_owned(),
    }
}
