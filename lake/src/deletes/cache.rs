//! The process-wide cache of delete files, and reading through it.
//!
//! Delete files never change, so their location is the key. Concurrent readers of one wait for the
//! first.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreRegistry;
use moka::future::Cache;
use object_store::ObjectStore;
use roaring::RoaringTreemap;

use super::equality::EqualityIndex;
use super::positions::{Positions, read_positions, read_vector};
use super::{DeleteFile, DeleteKind, DeletedRows, EqualityGroup};
use crate::scan::mapping::NameRules;
use crate::scan::schema::TableColumns;
use crate::{Error, Result};

/// Default bound of the cache.
pub const DEFAULT_CAPACITY_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes that an entry costs besides its content.
const ENTRY_BYTES: usize = 128;

/// What was read of a delete file, or of a group of them.
#[derive(Clone)]
enum Content {
    Positions(Arc<Positions>),
    Vector(Arc<DeletedRows>),
    Equality(Arc<EqualityIndex>),
}

/// Deleted positions and keys, bounded by the memory they take.
#[derive(Clone)]
pub struct DeleteCache {
    cache: Cache<String, (Content, u32)>,
}

impl std::fmt::Debug for DeleteCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeleteCache({} entries)", self.cache.entry_count())
    }
}

impl Default for DeleteCache {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY_BYTES)
    }
}

impl DeleteCache {
    /// A cache that holds at most about `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(|key: &String, (_, weight): &(Content, u32)| {
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

    async fn get_or_read(
        &self,
        key: String,
        read: impl Future<Output = Result<(Content, usize)>>,
    ) -> Result<Content> {
        let loaded = self
            .cache
            .try_get_with(key, async {
                let (content, bytes) = read.await?;
                let weight = u32::try_from(bytes.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX);
                Ok::<_, Error>((content, weight))
            })
            .await;
        let (content, _) = loaded.map_err(|error| Error::clone(&error))?;
        Ok(content)
    }
}

/// Reads delete files from their stores, through the cache.
#[derive(Clone)]
pub struct DeleteReader {
    cache: Arc<DeleteCache>,
    stores: Arc<dyn ObjectStoreRegistry>,
}

impl std::fmt::Debug for DeleteReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DeleteReader").field(&self.cache).finish()
    }
}

impl DeleteReader {
    /// Reads from `stores` and keeps what it read in `cache`.
    pub fn new(cache: Arc<DeleteCache>, stores: Arc<dyn ObjectStoreRegistry>) -> Self {
        Self { cache, stores }
    }

    /// The deleted positions of the data file at `location`; none when the files name none in it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Store`] or [`Error::Unsupported`] naming the delete file.
    pub async fn positions(
        &self,
        location: &str,
        files: &[Arc<DeleteFile>],
    ) -> Result<Option<Arc<DeletedRows>>> {
        let mut found: Vec<Arc<DeletedRows>> = vec![];
        for file in files {
            match self.positions_of(file).await? {
                Content::Vector(rows) => found.push(rows),
                Content::Positions(positions) => {
                    found.extend(positions.get(location).map(Arc::clone));
                }
                Content::Equality(_) => {
                    return Err(Error::Internal(format!("{} has no rows", file.location)));
                }
            }
        }
        Ok(match found.len() {
            0 => None,
            1 => found.pop(),
            _ => {
                let mut all = RoaringTreemap::new();
                found.iter().for_each(|rows| all |= rows.positions());
                Some(Arc::new(all.into()))
            }
        })
    }

    async fn positions_of(&self, file: &DeleteFile) -> Result<Content> {
        match &file.kind {
            DeleteKind::Vector { offset, .. } => {
                let key = format!("vector:{}@{offset}", file.location);
                let read = async {
                    let rows = read_vector(self.store_of(file)?, file).await?;
                    let rows = DeletedRows::new(rows);
                    let bytes = rows.memory_bytes();
                    Ok((Content::Vector(Arc::new(rows)), bytes))
                };
                self.cache.get_or_read(key, read).await
            }
            DeleteKind::Positions { only } => {
                let key = format!("positions:{}", file.location);
                let read = async {
                    let positions =
                        read_positions(self.store_of(file)?, file, only.as_ref()).await?;
                    let bytes = positions
                        .iter()
                        .map(|(path, rows)| path.len() + ENTRY_BYTES + rows.memory_bytes())
                        .sum();
                    Ok((Content::Positions(Arc::new(positions)), bytes))
                };
                self.cache.get_or_read(key, read).await
            }
            DeleteKind::Equality => Err(Error::Internal(format!(
                "{} names keys, not positions",
                file.location
            ))),
        }
    }

    /// The keys that a group deletes.
    ///
    /// # Errors
    /// As [`EqualityIndex::read`].
    pub async fn keys(
        &self,
        group: &EqualityGroup,
        columns: &Arc<TableColumns>,
        rules: &NameRules,
    ) -> Result<Arc<EqualityIndex>> {
        let read = async {
            let store_of = |file: &DeleteFile| self.store_of(file);
            let index = EqualityIndex::read(group, store_of, columns, rules).await?;
            let bytes = index.memory_bytes();
            Ok((Content::Equality(Arc::new(index)), bytes))
        };
        match self
            .cache
            .get_or_read(group_key(group, columns), read)
            .await?
        {
            Content::Equality(index) => Ok(index),
            _ => Err(Error::Internal("a group of keys became rows".to_owned())),
        }
    }

    fn store_of(&self, file: &DeleteFile) -> Result<Arc<dyn ObjectStore>> {
        self.stores
            .get_store(file.store.as_ref())
            .map_err(|_| Error::OutsideLakes {
                location: file.location.to_string(),
                roots: "no store is configured for it".to_owned(),
            })
    }
}

/// Name of a group: its files, their sequence numbers, and the types of its keys, which change when
/// a key column is promoted.
fn group_key(group: &EqualityGroup, columns: &TableColumns) -> String {
    let hash = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        group.ids.hash(&mut hasher);
        for file in &group.files {
            (file.location.as_ref(), file.sequence_number).hash(&mut hasher);
        }
        for id in &group.ids {
            if let Some(path) = super::key_path(columns, *id) {
                path.children.hash(&mut hasher);
                if let Some(field) = columns.arrow.fields().get(path.column) {
                    field.data_type().hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    };
    let first = group.files.first().map_or("", |file| &file.location);
    format!(
        "keys:{first}+{}:{:016x}{:016x}",
        group.files.len(),
        hash(0),
        hash(1)
    )
}
