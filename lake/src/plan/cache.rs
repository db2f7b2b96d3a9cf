//! The process-wide cache of decoded manifests and manifest lists.
//!
//! Both kinds of file are immutable once written, so nothing ever has to be invalidated: the key is
//! the path, and for manifests also what entries inherit from the list and the types of their
//! partition values. Loads of one key at a time: concurrent queries wait for the first.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use iceberg::io::FileIO;
use iceberg::spec::SnapshotRef;
use iceberg::table::Table;
use moka::future::Cache;

use super::CONCURRENT_MANIFESTS;
use crate::manifest::list::{decode_list, describe_by_header, embedded_paths};
use crate::manifest::{DecodedManifest, Entries, ManifestFile, PartitionFields};
use crate::{Error, Result};

/// Default bound of the cache.
pub const DEFAULT_CAPACITY_BYTES: u64 = 256 * 1024 * 1024;

#[derive(Clone, Debug)]
enum Cached {
    Manifest(Arc<DecodedManifest>),
    List(Arc<[ManifestFile]>),
}

/// All that a decoded file depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    List(Arc<str>),
    Manifest {
        path: Arc<str>,
        spec_id: i32,
        sequence_number: i64,
        snapshot_id: Option<i64>,
        first_row_id: Option<i64>,
        spec: Arc<PartitionFields>,
        which: Entries,
    },
}

impl Key {
    fn len(&self) -> usize {
        let (Self::List(path) | Self::Manifest { path, .. }) = self;
        size_of::<Self>() + path.len()
    }
}

/// Decoded manifests and manifest lists, bounded by the memory they take.
#[derive(Clone, Debug)]
pub struct ManifestCache {
    cache: Cache<Key, (Cached, u32)>,
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
            .weigher(|key: &Key, (_, weight): &(Cached, u32)| {
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
    /// [`Error::Corrupt`] or [`Error::Store`] naming the manifest list.
    pub async fn manifest_list(
        &self,
        table: &Table,
        snapshot: &SnapshotRef,
    ) -> Result<Arc<[ManifestFile]>> {
        let path: Arc<str> = Arc::from(snapshot.manifest_list());
        let loaded = self
            .cache
            .try_get_with(Key::List(Arc::clone(&path)), async {
                let list = load_list(table.file_io(), snapshot, &path).await?;
                let weight: usize = list.iter().map(ManifestFile::memory_bytes).sum();
                let weight = u32::try_from(weight).unwrap_or(u32::MAX);
                Ok::<_, Error>((Cached::List(list.into()), weight))
            })
            .await;
        match loaded.map_err(|error| Error::clone(&error))? {
            (Cached::List(list), _) => Ok(list),
            _ => Err(Error::Internal(format!("{path} is not a manifest list"))),
        }
    }

    /// A decoded manifest with its live entries. `spec` is the partition spec that it names.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Store`] naming the manifest.
    pub async fn manifest(
        &self,
        file_io: &FileIO,
        file: &ManifestFile,
        spec: &Arc<PartitionFields>,
    ) -> Result<Arc<DecodedManifest>> {
        self.manifest_with(file_io, file, spec, Entries::Live).await
    }

    /// A decoded manifest with its live entries, or with all.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub async fn manifest_with(
        &self,
        file_io: &FileIO,
        file: &ManifestFile,
        spec: &Arc<PartitionFields>,
        which: Entries,
    ) -> Result<Arc<DecodedManifest>> {
        let key = Key::Manifest {
            path: Arc::clone(&file.path),
            spec_id: file.spec_id,
            sequence_number: file.sequence_number,
            snapshot_id: file.added_snapshot_id,
            first_row_id: file.first_row_id,
            spec: Arc::clone(spec),
            which,
        };
        let loaded = self
            .cache
            .try_get_with(key, async {
                let manifest = load_manifest(file_io, file, spec, which).await?;
                let decoded = Arc::new(manifest);
                let weight = u32::try_from(decoded.memory_bytes()).unwrap_or(u32::MAX);
                Ok::<_, Error>((Cached::Manifest(decoded), weight))
            })
            .await;
        match loaded.map_err(|error| Error::clone(&error))? {
            (Cached::Manifest(manifest), _) => Ok(manifest),
            _ => Err(Error::Internal(format!("{} is not a manifest", file.path))),
        }
    }
}

async fn load_manifest(
    file_io: &FileIO,
    file: &ManifestFile,
    spec: &Arc<PartitionFields>,
    which: Entries,
) -> Result<DecodedManifest> {
    if file.encrypted {
        return Err(encrypted(&file.path, "manifest"));
    }
    let bytes = read(file_io, &file.path).await?;
    let (owned, spec) = (file.clone(), Arc::clone(spec));
    decoded(&file.path, move || {
        DecodedManifest::decode(&owned, &bytes, &spec, which)
    })
    .await
}

async fn load_list(
    file_io: &FileIO,
    snapshot: &SnapshotRef,
    path: &Arc<str>,
) -> Result<Vec<ManifestFile>> {
    if snapshot.encryption_key_id().is_some() {
        return Err(encrypted(path, "manifest list"));
    }
    if let Some(paths) = embedded_paths(path)? {
        return describe_all(file_io, paths).await;
    }
    let bytes = read(file_io, path).await?;
    let name = Arc::clone(path);
    decoded(path, move || decode_list(&name, &bytes)).await
}

/// Makes up the list of a snapshot that only names its manifests.
async fn describe_all(file_io: &FileIO, paths: Vec<String>) -> Result<Vec<ManifestFile>> {
    let loads: Vec<_> = paths
        .into_iter()
        .map(|path| {
            async move {
                let path: Arc<str> = Arc::from(path);
                let bytes = read(file_io, &path).await?;
                describe_by_header(path, &bytes)
            }
            .boxed()
        })
        .collect();
    stream::iter(loads)
        .buffered(CONCURRENT_MANIFESTS)
        .try_collect()
        .await
}

/// Decoding is work for a CPU, and a defect in it must stay with its file: both are kept off this
/// task.
async fn decoded<T: Send + 'static>(
    path: &Arc<str>,
    decode: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let result = tokio::task::spawn_blocking(decode).await;
    result.map_err(|_| Error::Corrupt {
        path: path.to_string(),
        why: "it cannot be decoded".to_string(),
    })?
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
