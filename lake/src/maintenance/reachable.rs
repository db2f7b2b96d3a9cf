//! Everything that a table's metadata refers to.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use iceberg::spec::{StatisticsFile, TableMetadata};
use iceberg::table::Table;

use crate::manifest::{Entries, ManifestFile, PartitionSpecs};
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
        let metadata = table.metadata();
        let add = |found: &mut Self, location: &str| found.add(name, stores, location);
        for location in named_by(metadata, table.metadata_location()) {
            add(&mut found, &location)?;
        }
        let specs = PartitionSpecs::of(metadata);
        // Nothing is read twice.
        let cache = ManifestCache::new(0);
        let mut read = HashSet::new();
        for snapshot in metadata.snapshots() {
            let list = snapshot.manifest_list();
            if !list.starts_with(crate::manifest::EMBEDDED_LIST_PREFIX) {
                add(&mut found, list)?;
            }
            for manifest in cache.manifest_list(table, snapshot).await?.iter() {
                add(&mut found, &manifest.path)?;
                if !read.insert(found.hasher.hash_one(&manifest.path)) {
                    continue;
                }
                let manifest: &ManifestFile = manifest;
                let spec = specs.of_manifest(name, manifest)?;
                let decoded = cache
                    .manifest_with(table.file_io(), manifest, spec, Entries::All)
                    .await?;
                for entry in &decoded.entries {
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

/// What the metadata file names itself, apart from manifest lists.
fn named_by(metadata: &TableMetadata, own: Option<&str>) -> Vec<String> {
    let log = metadata.metadata_log().iter();
    let statistics = metadata.statistics_iter();
    let partitions = metadata.partition_statistics_iter();
    own.map(str::to_owned)
        .into_iter()
        .chain(log.map(|entry| entry.metadata_file.clone()))
        .chain(statistics.map(|file: &StatisticsFile| file.statistics_path.clone()))
        .chain(partitions.map(|file| file.statistics_path.clone()))
        .collect()
}
