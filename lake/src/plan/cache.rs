//! The process-wide cache of decoded manifests and manifest lists.
//!
//! Both kinds of file are immutable once written, so their path is the key and nothing ever has to
//! be invalidated. Loads of one path at a time: concurrent queries wait for the first.

use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{FormatVersion, Manifest, ManifestFile, ManifestList, SnapshotRef};
use iceberg::table::Table;
use moka::future::Cache;

use super::manifest::DecodedManifest;
use crate::{Error, Result};

/// Default bound of the cache.
pub const DEFAULT_CAPACITY_BYTES: u64 = 256 * 1024 * 1024;

/// Name of a field that manifest lists have since version 2.
const SEQUENCE_NUMBER: &[u8] = b"sequence_number";

#[derive(Clone, Debug)]
enum Cached {
    Manifest(Arc<DecodedManifest>),
    List(Arc<ManifestList>),
}

/// Decoded manifests and manifest lists, by path, bounded by the memory they take.
#[derive(Clone, Debug)]
pub struct ManifestCache {
    cache: Cache<Arc<str>, (Cached, u32)>,
}

impl Default for ManifestCache {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY_BYTES)
    }
}

impl ManifestCache {
    /// A cache that holds at most about `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(|key: &Arc<str>, (_, weight): &(Cached, u32)| {
                weight.saturating_add(u32::try_from(key.len()).unwrap_or(u32::MAX))
            })
            .build();
        Self { cache }
    }

    /// Bytes held at the moment, by the cache's own estimate.
    pub async fn size_bytes(&self) -> u64 {
        self.cache.run_pending_tasks().await;
        self.cache.weighted_size()
    }

    /// The manifests of a snapshot.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::NotFound`] naming the manifest list.
    pub async fn manifest_list(
        &self,
        table: &Table,
        snapshot: &SnapshotRef,
    ) -> Result<Arc<ManifestList>> {
        let path: Arc<str> = Arc::from(snapshot.manifest_list());
        // The same list reads differently under another format version (v1 lists have no sequence
        // numbers), and a table may be upgraded without a new snapshot.
        let version = table.metadata().format_version();
        let key: Arc<str> = Arc::from(format!("{version}:{path}"));
        let loaded = self
            .cache
            .try_get_with(key, async {
                let list = load_list(table.file_io(), snapshot, &path, version).await?;
                let weight: usize = list
                    .entries()
                    .iter()
                    .map(|m| size_of::<ManifestFile>() + m.manifest_path.len() + 64)
                    .sum();
                let weight = u32::try_from(weight).unwrap_or(u32::MAX);
                Ok::<_, Error>((Cached::List(Arc::new(list)), weight))
            })
            .await;
        match loaded.map_err(|error| Error::clone(&error))? {
            (Cached::List(list), _) => Ok(list),
            _ => Err(Error::Internal(format!("{path} is not a manifest list"))),
        }
    }

    /// A decoded manifest.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::NotFound`] naming the manifest.
    pub async fn manifest(
        &self,
        file_io: &FileIO,
        file: &ManifestFile,
    ) -> Result<Arc<DecodedManifest>> {
        let path: Arc<str> = Arc::from(file.manifest_path.as_str());
        let loaded = self
            .cache
            .try_get_with(Arc::clone(&path), async {
                let manifest = load_manifest(file_io, file, &path).await?;
                let decoded = Arc::new(manifest);
                let weight = u32::try_from(decoded.memory_bytes()).unwrap_or(u32::MAX);
                Ok::<_, Error>((Cached::Manifest(decoded), weight))
            })
            .await;
        match loaded.map_err(|error| Error::clone(&error))? {
            (Cached::Manifest(manifest), _) => Ok(manifest),
            _ => Err(Error::Internal(format!("{path} is not a manifest"))),
        }
    }
}

async fn load_manifest(
    file_io: &FileIO,
    file: &ManifestFile,
    path: &Arc<str>,
) -> Result<DecodedManifest> {
    if file.key_metadata.is_some() {
        return Err(encrypted(path, "manifest"));
    }
    let bytes = read(file_io, path).await?;
    let (file, path) = (file.clone(), Arc::clone(path));
    let name = Arc::clone(&path);
    // Decoding is work for a CPU, and on garbage it may panic: both are kept off this task.
    let decoded = tokio::task::spawn_blocking(move || {
        let manifest =
            Manifest::parse_avro(&bytes).map_err(|error| Error::from_iceberg(&path, &error))?;
        Ok(DecodedManifest::new(&file, manifest))
    })
    .await;
    decoded.map_err(|_| broken(&name))?
}

async fn load_list(
    file_io: &FileIO,
    snapshot: &SnapshotRef,
    path: &Arc<str>,
    table_version: FormatVersion,
) -> Result<ManifestList> {
    if snapshot.encryption_key_id().is_some() {
        return Err(encrypted(path, "manifest list"));
    }
    let bytes = read(file_io, path).await?;
    let name = Arc::clone(path);
    let decoded = tokio::task::spawn_blocking(move || {
        // A list written before the table was upgraded keeps the form of version 1, which has no
        // sequence numbers; the header holds the names of the fields as plain text.
        let sequence_numbers = bytes
            .windows(SEQUENCE_NUMBER.len())
            .any(|window| window == SEQUENCE_NUMBER);
        let version = if sequence_numbers {
            table_version
        } else {
            FormatVersion::V1
        };
        ManifestList::parse_with_version(&bytes, version)
            .map_err(|error| Error::from_iceberg(&name, &error))
    })
    .await;
    decoded.map_err(|_| broken(path))?
}

async fn read(file_io: &FileIO, path: &str) -> Result<Bytes> {
    let input = file_io
        .new_input(path)
        .map_err(|error| Error::from_iceberg(path, &error))?;
    input
        .read()
        .await
        .map_err(|error| Error::from_iceberg(path, &error))
}

fn encrypted(path: &str, what: &str) -> Error {
    Error::Unsupported {
        table: path.to_string(),
        what: format!("the encrypted {what}"),
        why: "encrypted tables are not supported".to_string(),
    }
}

fn broken(path: &Arc<str>) -> Error {
    Error::Corrupt {
        path: path.to_string(),
        why: "it cannot be decoded".to_string(),
    }
}
