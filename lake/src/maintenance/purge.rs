//! `DROP TABLE … PURGE`: the table leaves its catalog, then every file that its metadata refers to
//! is deleted.
//!
//! ```text
//! catalog -> out, if it is still as it was seen -> lists -> manifests -> files   (read)
//! files -> manifests -> lists -> statistics -> metadata files                   (deleted)
//! ```
//!
//! What cannot be deleted does not bring the table back, so it is counted and logged. A manifest or
//! a list that cannot be read stays: it alone knows which files are left.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::mem::take;
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use futures::stream::{self, StreamExt};
use iceberg::table::Table;
use object_store::ObjectStore;
use object_store::path::Path;

use super::check_gc;
use super::reachable::{Walk, list_of};
use crate::catalog::Catalogs;
use crate::manifest::ManifestFile;
use crate::store::Stores;
use crate::{Error, Result, TableName};

/// Files that are deleted together.
const BATCH: usize = 1_000;

/// Manifests and lists that are read at once; each may hold hundreds of megabytes.
const CONCURRENT_READS: usize = 4;

/// What became of the files of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Files that are gone, those that were gone before among them. 0 where the catalog deletes
    /// them.
    pub deleted: u64,
    /// Files that could not be deleted, and manifests that could not be read.
    pub left: u64,
}

/// Takes a table out of its catalog and deletes its files, wherever in the lakes they lie; none when
/// there is no such table.
///
/// # Errors
/// [`Error::Refused`] when its files may not be deleted (`gc.enabled`) or it is encrypted; as
/// [`Catalogs::remove_table`]. After any error the files are all there.
pub async fn purge_table(catalogs: &Catalogs, name: &TableName) -> Result<Option<Purged>> {
    let shown = name.to_string();
    let check = |table: &Table| check(&shown, table);
    let Some(removed) = catalogs.remove_table(name, &check).await? else {
        return Ok(None);
    };
    if removed.catalog_deletes {
        return Ok(Some(Purged::default()));
    }
    let mut purge = Purge {
        walk: Walk::new(&shown, &removed.table),
        stores: catalogs.stores(),
        hasher: RandomState::new(),
        seen: HashSet::new(),
        done: Purged::default(),
        first_problem: None,
    };
    purge.run(&removed.table).await;
    let Purged { deleted, left } = purge.done;
    match purge.first_problem {
        None => tracing::info!(
            table = shown,
            deleted,
            "files of a dropped table are deleted"
        ),
        Some(why) => tracing::warn!(
            table = shown,
            deleted,
            left,
            why,
            "files of a dropped table could not be deleted"
        ),
    }
    Ok(Some(purge.done))
}

/// # Errors
/// [`Error::Refused`] for a table whose files may not be deleted, or cannot be known.
fn check(name: &str, table: &Table) -> Result<()> {
    let metadata = table.metadata();
    check_gc(name, metadata)?;
    let encrypted = metadata
        .snapshots()
        .any(|snapshot| snapshot.encryption_key_id().is_some());
    match encrypted {
        true => Err(Error::Refused(format!(
            "table {name} is encrypted, so its files cannot be listed; drop it without PURGE"
        ))),
        false => Ok(()),
    }
}

/// Files of one store.
type InStore = (Arc<dyn ObjectStore>, ObjectStoreUrl, Vec<Path>);

struct Purge<'a> {
    walk: Walk<'a>,
    stores: &'a Arc<Stores>,
    hasher: RandomState,
    /// Hashes of locations that were met: of two with one hash the second stays.
    seen: HashSet<u64>,
    done: Purged,
    first_problem: Option<String>,
}

impl Purge<'_> {
    async fn run(&mut self, table: &Table) {
        let (manifests, lists) = self.manifests(table).await;
        let manifests = self.delete_files(manifests).await;
        for locations in [manifests, lists, self.walk.named()] {
            for batch in locations.chunks(BATCH) {
                self.delete(batch.to_vec()).await;
            }
        }
    }

    /// The manifests of all snapshots, and the lists that could be read.
    async fn manifests(&mut self, table: &Table) -> (Vec<ManifestFile>, Vec<String>) {
        let (mut manifests, mut lists) = (vec![], vec![]);
        let walk = &self.walk;
        let reads = table.metadata().snapshots().map(|snapshot| async move {
            let found = walk.manifests(snapshot).await;
            (list_of(snapshot), found)
        });
        // Collected first: a stream over borrowing closures is not `Send` for every lifetime.
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffered(CONCURRENT_READS);
        let mut problems = vec![];
        while let Some((list, found)) = reads.next().await {
            match found {
                Ok(found) => {
                    lists.extend(list.map(str::to_owned));
                    for manifest in found.iter() {
                        if self.seen.insert(self.hasher.hash_one(&*manifest.path)) {
                            manifests.push(manifest.clone());
                        }
                    }
                }
                Err(error) => problems.push(error),
            }
        }
        drop(reads);
        for problem in problems {
            self.left(1, &problem);
        }
        (manifests, lists)
    }

    /// Deletes the data and delete files of manifests; gives the manifests that could be read.
    async fn delete_files(&mut self, manifests: Vec<ManifestFile>) -> Vec<String> {
        let mut read = vec![];
        let mut batch = vec![];
        for some in manifests.chunks(CONCURRENT_READS) {
            let walk = &self.walk;
            let reads = some.iter().map(|manifest| walk.files(manifest));
            let found = futures::future::join_all(reads).await;
            for (manifest, found) in some.iter().zip(found) {
                let found = match found {
                    Ok(found) => found,
                    Err(error) => {
                        self.left(1, &error);
                        continue;
                    }
                };
                read.push(manifest.path.to_string());
                for entry in &found.entries {
                    if self.seen.insert(self.hasher.hash_one(&*entry.path)) {
                        batch.push(entry.path.to_string());
                    }
                    if batch.len() >= BATCH {
                        self.delete(take(&mut batch)).await;
                    }
                }
            }
        }
        self.delete(batch).await;
        read
    }

    async fn delete(&mut self, locations: Vec<String>) {
        let mut places = BTreeMap::<String, InStore>::new();
        for location in locations {
            match self.stores.resolve(&location) {
                Ok((store, path, url)) => {
                    let key = url.as_str().to_owned();
                    let (_, _, paths) = places.entry(key).or_insert((store, url, vec![]));
                    paths.push(path);
                }
                Err(error) => self.left(1, &error),
            }
        }
        for (store, url, paths) in places.into_values() {
            self.delete_from(&store, &url, paths).await;
        }
    }

    async fn delete_from(
        &mut self,
        store: &Arc<dyn ObjectStore>,
        url: &ObjectStoreUrl,
        paths: Vec<Path>,
    ) {
        let paths = self.inside(url, paths).await;
        let wanted = paths.len() as u64;
        let mut gone = 0;
        let mut problem = None;
        let mut results = store.delete_stream(stream::iter(paths).map(Ok).boxed());
        while let Some(result) = results.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => gone += 1,
                Err(error) => problem = Some(Error::store(url.as_str(), error)),
            }
        }
        self.done.deleted += gone;
        if let Some(problem) = problem {
            // A request for many files may fail with one error.
            self.left(wanted.saturating_sub(gone), &problem);
        }
    }

    /// The paths that no symbolic link leads out of the lakes.
    async fn inside(&mut self, url: &ObjectStoreUrl, paths: Vec<Path>) -> Vec<Path> {
        if self.stores.check_links(url, paths.clone()).await.is_ok() {
            return paths;
        }
        let mut inside = vec![];
        for path in paths {
            match self.stores.check_links(url, vec![path.clone()]).await {
                Ok(()) => inside.push(path),
                Err(error) => self.left(1, &error),
            }
        }
        inside
    }

    fn left(&mut self, count: u64, why: &Error) {
        self.done.left += count;
        self.first_problem.get_or_insert_with(|| why.to_string());
    }
}
