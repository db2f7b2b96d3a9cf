//! The object stores behind the lakes: one stack for data, metadata and writes.
//!
//! - A location belongs to the lake whose root lies above it; outside every root it is refused
//!   ([`crate::Error::OutsideLakes`]), here and again in the store itself, so that a plan fragment
//!   cannot reach further than a table name can. The check is lexical: a symbolic link inside a
//!   root is followed.
//! - Locations are literal; nothing is URL-decoded or encoded.
//! - A location that names an old place is led to the new one first, by the lakes' maps; everything
//!   above holds for the place it leads to.
//! - [`LakeStorageFactory`] gives iceberg-rust the same stores.

mod location;
mod moves;
mod open;
mod rooted;
mod storage;
mod unfinished;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use self::location::{Location, Problem, Scheme, StoreKey};
use self::moves::Moves;
use self::rooted::{Mount, RootedStore};
use crate::config::LakeConfig;
use crate::files::unpack::register_unpacking;
use crate::{Error, Result};

pub use self::storage::{LakeStorage, LakeStorageFactory};
pub(crate) use self::unfinished::is_unfinished;

/// The longest file that [`Stores::read`] takes into memory. Real metadata files reach some
/// hundred MB.
pub const MAX_READ_BYTES: u64 = 1 << 30;

/// What a configured place must look like.
const PLACES: &str =
    "it must begin with file:///, s3://<bucket>, abfss://<container>@<host> or gs://<bucket>";

/// A store, the path in it, and the key under which DataFusion knows the store.
pub type Resolved = (Arc<dyn ObjectStore>, Path, ObjectStoreUrl);

/// Every configured lake's store.
pub struct Stores {
    buckets: BTreeMap<StoreKey, Bucket>,
    moves: Moves,
}

struct Bucket {
    store: Arc<RootedStore>,
    url: ObjectStoreUrl,
}

impl Stores {
    /// Makes the clients. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`Error::Config`] names the lake and the key that is wrong.
    pub fn new(lakes: &BTreeMap<String, LakeConfig>) -> Result<Arc<Self>> {
        let mut mounts: BTreeMap<StoreKey, Vec<Mount>> = BTreeMap::new();
        for (name, lake) in lakes {
            let Location { key, path: root } = parse_root(name, &lake.root)?;
            let store = open::open(name, &key, lake)?;
            mounts.entry(key).or_default().push(Mount { root, store });
        }
        let buckets = mounts
            .into_iter()
            .map(|(key, mounts)| {
                let url = key.url()?;
                let store = Arc::new(RootedStore::new(key.clone(), mounts));
                Ok((key, Bucket { store, url }))
            })
            .collect::<Result<_>>()?;
        let moves = Moves::new(lakes)?;
        let stores = Self { buckets, moves };
        stores.check_targets()?;
        Ok(Arc::new(stores))
    }

    /// Every place that a map or the base leads to must be one that is served.
    fn check_targets(&self) -> Result<()> {
        for entry in self.moves.entries() {
            let target = Location::parse(&entry.target).map_err(|problem| match problem {
                Problem::Foreign => entry.wrong(PLACES),
                Problem::Unaddressable(why) => entry.wrong(&why),
            })?;
            if self.bucket_of(&target).is_none() {
                return Err(entry.wrong(&format!(
                    "it lies outside the configured lakes ({})",
                    self.roots_text()
                )));
            }
        }
        Ok(())
    }

    /// The whole local file system and nothing else, for embedded use by the user who owns it.
    ///
    /// # Errors
    /// None in practice; the type is that of [`Stores::new`].
    pub fn for_local_files() -> Result<Arc<Self>> {
        Self::new(&local_files())
    }

    /// The store and path of a location, after the lakes' maps.
    ///
    /// # Errors
    /// [`Error::OutsideLakes`] when no root lies above it, [`Error::Unsupported`] when the path
    /// holds what no store can address (control characters, empty segments in an object's key).
    /// Both name the location, and the place that a map leads it to.
    pub fn resolve(&self, location: &str) -> Result<Resolved> {
        let place = self.moves.apply(location);
        let parsed = Location::parse(&place).map_err(|problem| match problem {
            Problem::Foreign => self.outside(location, &place),
            Problem::Unaddressable(why) => unaddressable(location, &place, why),
        })?;
        let bucket = self
            .bucket_of(&parsed)
            .ok_or_else(|| self.outside(location, &place))?;
        let store: Arc<dyn ObjectStore> = Arc::<RootedStore>::clone(&bucket.store);
        Ok((store, parsed.path, bucket.url.clone()))
    }

    /// The key of a location's store in DataFusion's registry, and the path in that store, after
    /// the lakes' maps. Whether the place lies inside a lake is checked by the store itself, when
    /// it is read.
    pub(crate) fn address(&self, location: &str) -> Result<(ObjectStoreUrl, Path)> {
        let place = self.moves.apply(location);
        let parsed = Location::parse(&place).map_err(|problem| match problem {
            Problem::Foreign => {
                unaddressable(location, &place, "no object store serves it".to_owned())
            }
            Problem::Unaddressable(why) => unaddressable(location, &place, why),
        })?;
        // The address of a store that is configured is known; a scan may have 100,000 files.
        let url = match self.buckets.get(&parsed.key) {
            Some(bucket) => bucket.url.clone(),
            None => parsed.key.url()?,
        };
        Ok((url, parsed.path))
    }

    fn bucket_of(&self, location: &Location) -> Option<&Bucket> {
        let bucket = self.buckets.get(&location.key)?;
        bucket.store.covers(&location.path).then_some(bucket)
    }

    /// Registers every store with DataFusion, so that a scan finds the one of its
    /// [`ObjectStoreUrl`]. Without a `file://` lake the local file system is taken out of the
    /// registry, where DataFusion puts it by default.
    pub fn register(&self, env: &RuntimeEnv) {
        let _ = env.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref());
        for bucket in self.buckets.values() {
            let store: Arc<dyn ObjectStore> = Arc::<RootedStore>::clone(&bucket.store);
            register_unpacking(env, &bucket.url, &store);
            env.register_object_store(bucket.url.as_ref(), store);
        }
    }

    /// The path of a location in the local file system, after the lakes' maps; none when it lies
    /// elsewhere.
    pub(crate) fn local_path(&self, location: &str) -> Option<Path> {
        let parsed = Location::parse(&self.moves.apply(location)).ok()?;
        (parsed.key.scheme == Scheme::File).then_some(parsed.path)
    }

    /// The location of a path in a store, as tables name it.
    ///
    /// # Errors
    /// [`Error::Internal`] for a store that is none of these.
    pub(crate) fn location_of(&self, url: &ObjectStoreUrl, path: &Path) -> Result<String> {
        let bucket = self.buckets.iter().find(|(_, bucket)| bucket.url == *url);
        let key = bucket.map(|(key, _)| key);
        let key = key.ok_or_else(|| Error::Internal(format!("{url} is no store of a lake")))?;
        Ok(format!("{key}/{path}"))
    }

    /// Refuses paths of a store that lead out of its roots by symbolic links. A path that does not
    /// exist yet is where its nearest folder is.
    ///
    /// # Errors
    /// [`Error::OutsideLakes`].
    pub(crate) async fn check_links(&self, url: &ObjectStoreUrl, paths: Vec<Path>) -> Result<()> {
        let Some((key, bucket)) = self.buckets.iter().find(|(_, bucket)| bucket.url == *url) else {
            return Ok(());
        };
        if key.scheme != Scheme::File {
            return Ok(());
        }
        let roots: Vec<String> = bucket.store.roots().collect();
        let check = move || {
            let real = |path: &str| std::fs::canonicalize(path).ok();
            let inside: Vec<_> = roots
                .iter()
                .filter_map(|root| real(root.trim_start_matches("file://")))
                .collect();
            paths.into_iter().find(|path| {
                let full = std::path::PathBuf::from(format!("/{path}"));
                let found = full.ancestors().find_map(|part| real(part.to_str()?));
                !found.is_some_and(|found| inside.iter().any(|root| found.starts_with(root)))
            })
        };
        match tokio::task::spawn_blocking(check).await {
            Ok(None) => Ok(()),
            Ok(Some(path)) => {
                let location = format!("/{path}");
                Err(self.outside(&location, "a place outside, by a symbolic link"))
            }
            Err(error) => Err(Error::Internal(error.to_string())),
        }
    }

    /// The whole of a metadata file or the like.
    ///
    /// # Errors
    /// As [`Stores::resolve`], [`Error::Store`] with the location when it cannot be read, and
    /// [`Error::Corrupt`] when it is longer than [`MAX_READ_BYTES`].
    pub async fn read(&self, location: &str) -> Result<Bytes> {
        let (store, path, _) = self.resolve(location)?;
        let failed = |error| Error::store(location, error);
        let found = store.get(&path).await.map_err(failed)?;
        if found.meta.size > MAX_READ_BYTES {
            return Err(Error::Corrupt {
                path: location.to_owned(),
                why: format!(
                    "{} bytes are more than the {MAX_READ_BYTES} that are read at once",
                    found.meta.size
                ),
            });
        }
        found.bytes().await.map_err(failed)
    }

    /// The configured roots, as locations.
    pub fn roots(&self) -> Vec<String> {
        let buckets = self.buckets.values();
        buckets.flat_map(|bucket| bucket.store.roots()).collect()
    }

    fn outside(&self, location: &str, place: &str) -> Error {
        Error::OutsideLakes {
            location: both(location, place),
            roots: self.roots_text(),
        }
    }

    fn roots_text(&self) -> String {
        let roots = self.roots();
        match roots.is_empty() {
            true => "none is configured".to_owned(),
            false => roots.join(", "),
        }
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stores").field(&self.roots()).finish()
    }
}

/// A location with the place that a map leads it to, for messages.
fn both(location: &str, place: &str) -> String {
    match place == location {
        true => location.to_owned(),
        false => format!("{location} (mapped to {place})"),
    }
}

fn unaddressable(location: &str, place: &str, why: String) -> Error {
    Error::Unsupported {
        table: both(location, place),
        what: "the location".to_owned(),
        why,
    }
}

/// The configuration that opens the whole local file system.
pub(crate) fn local_files() -> BTreeMap<String, LakeConfig> {
    BTreeMap::from([("files".to_owned(), LakeConfig::new("file:///"))])
}

fn parse_root(name: &str, root: &str) -> Result<Location> {
    Location::parse(root).map_err(|problem| {
        let why = match problem {
            Problem::Foreign => PLACES.to_owned(),
            Problem::Unaddressable(why) => why,
        };
        Error::Config(format!("lakes.{name}.root = {root:?}: {why}"))
    })
}
