//! Everything that a table's metadata refers to.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use iceberg::spec::{SnapshotRef, StatisticsFile};
use iceberg::table::Table;

use crate::manifest::{
    DecodedManifest, EMBEDDED_LIST_PREFIX, Entries, ManifestFile, PartitionSpecs,
};
use crate::plan::ManifestCache;
use crate::store::Stores;
use crate::{Error, Result};

/// The files that a table refers to, by hashes of where they lie: of two files with one hash, both
/// count as referred to, which at worst keeps a file.
pub(super) struct Reachable {
    hasher: RandomState,
    files: HashSet<u64>,
}

impl Reachable {
    /// All files of a table: its metadata files, and of all its snapshots the manifest lists, the
    /// manifests, and the files in these, removed ones too; statistics.
    ///
    /// # Errors
    /// As for reading manifests; [`Error::Refused`] for a location that cannot be compared with
    /// those in a listing, since it is in no store.
    pub async fn of(name: &str, table: &Table, stores: &Stores) -> Result<Self> {
        let mut found = Self {
            hasher: RandomState::new(),
            files: HashSet::new(),
        };
        let walk = Walk::new(name, table);
        let add = |found: &mut Self, location: &str| found.add(name, stores, location);
        for location in walk.named() {
            add(&mut found, &location)?;
        }
        let mut read = HashSet::new();
        for snapshot in table.metadata().snapshots() {
            if let Some(list) = list_of(snapshot) {
                add(&mut found, list)?;
            }
            for manifest in walk.manifests(snapshot).await?.iter() {
                add(&mut found, &manifest.path)?;
                if !read.insert(found.hasher.hash_one(&manifest.path)) {
                    continue;
                }
                for entry in &walk.files(manifest).await?.entries {
                    add(&mut found, &entry.path)?;
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, name: &str, stores: &Stores, location: &str) -> Result<()> {
        let place = stores.address(location).map_err(|error| {
            Error::Refused(format!(
                "table {name} refers to {location}, which cannot be compared with the files that \
                 are there: {error}"
            ))
        })?;
        self.files.insert(self.hash(&place));
        Ok(())
    }

    fn hash(&self, (url, path): &Address) -> u64 {
        self.hasher.hash_one((url.as_str(), path.as_ref()))
    }

    /// Whether the table refers to a file.
    pub fn contains(&self, place: &Address) -> bool {
        self.files.contains(&self.hash(place))
    }
}

/// A store's key, and a path in it.
pub(super) type Address = (
    datafusion::execution::object_store::ObjectStoreUrl,
    object_store::path::Path,
);

/// Reads what the metadata of a table refers to, level by level.
pub(super) struct Walk<'a> {
    name: &'a str,
    table: &'a Table,
    specs: PartitionSpecs,
    /// Keeps nothing: no file is wanted twice.
    cache: ManifestCache,
}

impl<'a> Walk<'a> {
    pub fn new(name: &'a str, table: &'a Table) -> Self {
        Self {
            name,
            table,
            specs: PartitionSpecs::of(table.metadata()),
            cache: ManifestCache::new(0),
        }
    }

    /// What the metadata file names itself, apart from manifest lists: statistics, older metadata
    /// files and, last, where it lies itself.
    pub fn named(&self) -> Vec<String> {
        let metadata = self.table.metadata();
        let statistics = metadata.statistics_iter();
        let partitions = metadata.partition_statistics_iter();
        let log = metadata.metadata_log().iter();
        statistics
            .map(|file: &StatisticsFile| file.statistics_path.clone())
            .chain(partitions.map(|file| file.statistics_path.clone()))
            .chain(log.map(|entry| entry.metadata_file.clone()))
            .chain(self.table.metadata_location().map(str::to_owned))
            .collect()
    }

    /// The manifests of a snapshot.
    pub async fn manifests(&self, snapshot: &SnapshotRef) -> Result<Arc<[ManifestFile]>> {
        self.cache.manifest_list(self.table, snapshot).await
    }

    /// The files in a manifest, removed ones too.
    pub async fn files(&self, manifest: &ManifestFile) -> Result<Arc<DecodedManifest>> {
        let spec = self.specs.of_manifest(self.name, manifest)?;
        let file_io = self.table.file_io();
        self.cache
            .manifest_with(file_io, manifest, spec, Entries::All)
            .await
    }
}

/// Where the manifest list of a snapshot lies; none where the snapshot names its manifests itself.
pub(super) fn list_of(snapshot: &SnapshotRef) -> Option<&str> {
    let list = snapshot.manifest_list();
    (!list.starts_with(EMBEDDED_LIST_PREFIX)).then_some(list)
}
