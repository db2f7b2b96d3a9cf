//! Files in a table's folders that the table does not refer to: left by writers that were ended
//! before they committed.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::Utc;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::stream::{self, StreamExt, TryStreamExt};
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::reachable::{Address, Reachable};
use crate::catalog::{Catalogs, metadata_folder};
use crate::store::{Stores, is_unfinished};
use crate::{Error, Result, TableName};

/// Files younger than this belong to writers that may still commit, unless it is said otherwise.
const DEFAULT_AGE_MS: i64 = 3 * DAY_MS;
const LEAST_AGE_MS: i64 = DAY_MS;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Most orphans of one search.
const ORPHANS_MAX: usize = 1_000_000;

/// Tables of the catalog that are looked at, at once.
const CONCURRENT_LOADS: usize = 8;

/// Property without which files of a table may be deleted.
const GC: &str = "gc.enabled";

/// Which files are looked for.
#[derive(Clone, Debug, Default)]
pub struct OrphanSearch {
    /// Files last changed before this, in milliseconds since 1970; by default three days ago.
    pub older_than_ms: Option<i64>,
    /// Whether the time may lie within the last 24 hours.
    pub allow_recent: bool,
}

/// Files that a table does not refer to.
#[derive(Debug)]
pub struct Orphans {
    stores: Arc<Stores>,
    /// Their locations, sorted.
    pub locations: Vec<String>,
}

/// A folder of a table.
struct Folder {
    location: String,
    store: Arc<dyn ObjectStore>,
    place: Address,
}

impl Orphans {
    /// Looks through a table's folders: its location, and those that its properties name.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a table; [`Error::Refused`] when its files may not be deleted
    /// (`gc.enabled`), when another table lies in its folders, or the time is too late;
    /// [`Error::OutsideLakes`].
    pub async fn find(
        catalogs: &Catalogs,
        stores: &Arc<Stores>,
        name: &TableName,
        search: &OrphanSearch,
    ) -> Result<Self> {
        let before = search.before_ms()?;
        let Some(table) = catalogs.load(name).await? else {
            return Err(catalogs.not_found(name).await);
        };
        let gc = table.metadata().properties().get(GC);
        if gc.is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return Err(Error::Refused(format!(
                "files of table {name} must not be deleted: its property {GC} is false"
            )));
        }
        let folders = folders(stores, table.metadata())?;
        refuse_tables_inside(catalogs, stores, name, &folders).await?;
        let shown = name.to_string();
        let reachable = Reachable::of(&shown, &table, stores).await?;
        let mut found: Vec<(String, Address)> = Vec::new();
        for folder in &folders {
            let most = ORPHANS_MAX.saturating_sub(found.len());
            let more = folder.search(name, stores, &table, &reachable, before, most);
            found.extend(more.await?);
        }
        // What was committed meanwhile counts.
        let again = catalogs.load(name).await?;
        let again = again.filter(|now| now.metadata().uuid() == table.metadata().uuid());
        let Some(again) = again else {
            return Err(Error::Conflict(format!(
                "table {name} was dropped or replaced meanwhile"
            )));
        };
        if again.metadata_location() != table.metadata_location() {
            let reachable = Reachable::of(&shown, &again, stores).await?;
            found.retain(|(_, place)| !reachable.contains(place));
        }
        let mut locations: Vec<String> = found.into_iter().map(|(location, _)| location).collect();
        locations.sort();
        Ok(Self {
            stores: Arc::clone(stores),
            locations,
        })
    }

    /// Deletes some of them; one that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Store`] naming the file.
    pub async fn delete(&self, locations: &[String]) -> Result<()> {
        for location in locations {
            let (store, path, url) = self.stores.resolve(location)?;
            if is_local(&url) && path.filename().is_some_and(is_unfinished) {
                self.stores.remove_unfinished(&path).await?;
                continue;
            }
            let paths = stream::once(async { Ok(path) }).boxed();
            let deleted = store.delete_stream(paths).try_for_each(async |_| Ok(()));
            match deleted.await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(Error::store(location, error)),
            }
        }
        Ok(())
    }
}

impl OrphanSearch {
    fn before_ms(&self) -> Result<i64> {
        let now = Utc::now().timestamp_millis();
        let before = self.older_than_ms.unwrap_or(now - DEFAULT_AGE_MS);
        match before > now - LEAST_AGE_MS && !self.allow_recent {
            true => Err(Error::Refused(
                "older_than lies within the last 24 hours, where it would delete the files of \
                 writers that have not committed yet; say allow_recent => true if there are none"
                    .to_owned(),
            )),
            false => Ok(before),
        }
    }
}

impl Folder {
    fn new(stores: &Stores, location: String) -> Result<Self> {
        let (store, path, url) = stores.resolve(&location)?;
        Ok(Self {
            location,
            store,
            place: (url, path),
        })
    }

    fn contains(&self, (url, path): &Address) -> bool {
        *url == self.place.0 && path.prefix_matches(&self.place.1)
    }

    /// At most `most` files; the rest is found by the next call.
    async fn search(
        &self,
        name: &TableName,
        stores: &Stores,
        table: &Table,
        reachable: &Reachable,
        before_ms: i64,
        most: usize,
    ) -> Result<Vec<(String, Address)>> {
        let (url, folder) = &self.place;
        let metadata = stores.address(&metadata_folder(table.metadata()))?;
        let failed = |error| Error::store(&self.location, error);
        let unfinished = stores.unfinished(url, folder).await?.into_iter();
        let unfinished =
            unfinished.filter(|file| file.last_modified.timestamp_millis() < before_ms);
        let mut found: Vec<Path> = unfinished.map(|file| file.path).collect();
        let mut markers = Markers::default();
        let mut listing = self.store.list(Some(folder));
        while let Some(object) = listing.try_next().await.map_err(failed)? {
            let place = (url.clone(), object.location.clone());
            let file = object.location.filename().unwrap_or_default();
            let is_metadata = file.ends_with(".metadata.json") || file.contains(".metadata.json.");
            if is_metadata && !(place.0 == metadata.0 && is_child(&place.1, &metadata.1)) {
                return Err(Error::Refused(format!(
                    "another table seems to lie inside table {name}: {} is the metadata of one",
                    object.location
                )));
            }
            markers.see(&object);
            let young = object.last_modified.timestamp_millis() >= before_ms;
            if young || file == "version-hint.text" || reachable.contains(&place) {
                continue;
            }
            if found.len() >= most {
                break;
            }
            found.push(object.location);
        }
        let mut orphans = vec![];
        for path in found.into_iter().take(most) {
            let place = (url.clone(), path);
            let is_marker = !is_local(url) && markers.contain(&self.store, &place.1).await;
            if !is_marker && !reachable.contains(&place) {
                orphans.push(place);
            }
        }
        let paths = orphans.iter().map(|(_, path)| path.clone()).collect();
        stores.check_links(url, paths).await?;
        let named = |place: Address| (self.location_of(&place.1), place);
        Ok(orphans.into_iter().map(named).collect())
    }

    fn location_of(&self, path: &Path) -> String {
        let below = path.prefix_match(&self.place.1).into_iter().flatten();
        let below: Vec<String> = below.map(|part| part.as_ref().to_owned()).collect();
        format!("{}/{}", self.location, below.join("/"))
    }
}

/// Objects that stand for folders, as consoles and file system clients make them: empty ones whose keys
/// end with a slash, which a path does not tell. They are nobody's orphans, and to remove one is to
/// remove nothing, or everything below it.
#[derive(Debug, Default)]
struct Markers {
    empty: HashSet<Path>,
    folders: HashSet<String>,
}

impl Markers {
    /// Takes note of what a listing has.
    fn see(&mut self, object: &ObjectMeta) {
        if object.size == 0 {
            self.empty.insert(object.location.clone());
        }
        let mut path = object.location.as_ref();
        while let Some((parent, _)) = path.rsplit_once('/') {
            if self.folders.contains(parent) {
                break;
            }
            self.folders.insert(parent.to_owned());
            path = parent;
        }
    }

    /// Whether an object is one of them: something lies below it, or its key is not its path.
    async fn contain(&self, store: &Arc<dyn ObjectStore>, path: &Path) -> bool {
        let is_missing = async || {
            let found = store.head(path).await;
            matches!(found, Err(object_store::Error::NotFound { .. }))
        };
        self.empty.contains(path) && (self.folders.contains(path.as_ref()) || is_missing().await)
    }
}

fn is_local(url: &ObjectStoreUrl) -> bool {
    *url == ObjectStoreUrl::local_filesystem()
}

fn is_child(path: &Path, folder: &Path) -> bool {
    path.prefix_match(folder)
        .is_some_and(|parts| parts.count() == 1)
}

/// The folders of a table, none of them inside another.
fn folders(stores: &Stores, metadata: &TableMetadata) -> Result<Vec<Folder>> {
    let mut folders: Vec<Folder> = Vec::new();
    for location in locations(metadata) {
        let folder = Folder::new(stores, location)?;
        if folder.place.1.as_ref().is_empty() {
            return Err(Error::Refused(format!(
                "{} is the whole of a store, and no table's folder",
                folder.location
            )));
        }
        if !folders.iter().any(|other| other.contains(&folder.place)) {
            folders.retain(|other| !folder.contains(&other.place));
            folders.push(folder);
        }
    }
    Ok(folders)
}

fn locations(metadata: &TableMetadata) -> Vec<String> {
    let properties = [
        "write.data.path",
        "write.metadata.path",
        "write.object-storage.path",
        "write.folder-storage.path",
    ];
    let given = properties
        .iter()
        .filter_map(|key| metadata.properties().get(*key));
    let own = std::iter::once(metadata.location());
    own.chain(given.map(String::as_str))
        .map(|location| location.trim_end_matches('/').to_owned())
        .collect()
}

/// Tables whose files would be taken for orphans.
async fn refuse_tables_inside(
    catalogs: &Catalogs,
    stores: &Stores,
    name: &TableName,
    folders: &[Folder],
) -> Result<()> {
    let all = catalogs.all_tables(&name.catalog).await?;
    let others: Vec<TableName> = all
        .into_iter()
        .flat_map(|(namespace, tables)| {
            let of = move |table: String| TableName::new(&name.catalog, &namespace, table);
            tables.into_iter().map(of)
        })
        .filter(|other| other != name)
        .collect();
    let loads = others.into_iter().map(|other| async move {
        let table = catalogs.load(&other).await;
        (other, table)
    });
    let mut loads = stream::iter(loads).buffer_unordered(CONCURRENT_LOADS);
    while let Some((other, table)) = loads.next().await {
        let table = table.map_err(|error| {
            Error::Refused(format!(
                "table {other} cannot be opened, so it is not known whether its files lie in the \
                 folders of {name}: {error}"
            ))
        })?;
        let Some(table) = table else { continue };
        let inside = locations(table.metadata()).into_iter().find(|location| {
            let place = stores.address(location);
            place.is_ok_and(|place| folders.iter().any(|folder| folder.contains(&place)))
        });
        if let Some(inside) = inside {
            return Err(Error::Refused(format!(
                "table {other} lies inside the folders of table {name}: {inside}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn what_stands_for_a_folder_is_no_orphan() {
        let memory = InMemory::new();
        let objects = [
            ("t/metadata", ""),
            ("t/metadata/left.avro", "x"),
            ("t/data/empty.parquet", ""),
            ("t/data/p", "x"),
            ("t/data/p/left.parquet", "x"),
        ];
        for (path, content) in objects {
            memory.put(&Path::from(path), content.into()).await.unwrap();
        }
        let mut markers = Markers::default();
        let listed: Vec<ObjectMeta> = memory.list(None).try_collect().await.unwrap();
        for object in &listed {
            markers.see(object);
        }
        // Its key is "t/none/".
        let none = ObjectMeta {
            location: Path::from("t/none"),
            size: 0,
            ..listed.first().unwrap().clone()
        };
        markers.see(&none);
        let store: Arc<dyn ObjectStore> = Arc::new(memory);
        let mut found = vec![];
        for path in objects.map(|(path, _)| path).iter().chain(&["t/none"]) {
            if markers.contain(&store, &Path::from(*path)).await {
                found.push(*path);
            }
        }
        assert_eq!(found, ["t/metadata", "t/none"]);
    }
}
