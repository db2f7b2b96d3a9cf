//! One store that serves several lake roots and nothing outside them.
//!
//! DataFusion's registry holds one store for each bucket, but an owner may give two prefixes of a
//! bucket different credentials, and wants reads kept to the configured roots whoever asks: the
//! planner, a plan fragment from the wire, or iceberg-rust.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::location::StoreKey;
use crate::Error;

/// How many single deletions run at once where they cannot be sent in bulk.
const CONCURRENT_DELETES: usize = 16;

/// A lake's root inside one bucket, and the client with that lake's credentials.
#[derive(Clone)]
pub(super) struct Mount {
    pub root: Path,
    pub store: Arc<dyn ObjectStore>,
}

/// The mounts of one bucket; a path goes to the mount with the longest root above it.
#[derive(Clone)]
pub(super) struct RootedStore {
    key: StoreKey,
    /// Longest root first.
    mounts: Arc<[Mount]>,
}

impl RootedStore {
    pub fn new(key: StoreKey, mut mounts: Vec<Mount>) -> Self {
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.root.as_ref().len()));
        Self {
            key,
            mounts: mounts.into(),
        }
    }

    /// Whether a root lies above `path`.
    pub fn covers(&self, path: &Path) -> bool {
        self.mounts.iter().any(|m| path.prefix_matches(&m.root))
    }

    /// The roots, as locations.
    pub fn roots(&self) -> impl Iterator<Item = String> + '_ {
        self.mounts
            .iter()
            .map(|m| format!("{}/{}", self.key, m.root))
    }

    fn route(&self, path: &Path) -> Result<&Arc<dyn ObjectStore>> {
        self.mounts
            .iter()
            .find(|mount| path.prefix_matches(&mount.root))
            .map(|mount| &mount.store)
            .ok_or_else(|| self.outside(path))
    }

    fn route_prefix(&self, prefix: Option<&Path>) -> Result<&Arc<dyn ObjectStore>> {
        self.route(prefix.unwrap_or(&Path::default()))
    }

    fn outside(&self, path: &Path) -> object_store::Error {
        let error = Error::OutsideLakes {
            location: format!("{}/{path}", self.key),
            roots: self.roots().collect::<Vec<_>>().join(", "),
        };
        object_store::Error::PermissionDenied {
            path: path.to_string(),
            source: Box::new(error),
        }
    }

    /// Both ends of a copy, and whether one client can reach both.
    fn same_mount(&self, from: &Path, to: &Path) -> Result<Option<&Arc<dyn ObjectStore>>> {
        let (source, target) = (self.route(from)?, self.route(to)?);
        Ok(Arc::ptr_eq(source, target).then_some(source))
    }
}

impl fmt::Debug for RootedStore {
    // Never the clients: their `Debug` may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.roots()).finish()
    }
}

impl fmt::Display for RootedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for RootedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.route(location)?
            .put_opts(location, payload, opts)
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.route(location)?
            .put_multipart_opts(location, opts)
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.route(location)?.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.route(location)?.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        if let [mount] = &*self.mounts {
            let checked = locations.map(move |path| {
                let path = path?;
                this.route(&path)?;
                Ok(path)
            });
            return mount.store.delete_stream(checked.boxed());
        }
        locations
            .map(move |path| {
                let this = this.clone();
                async move {
                    let path = path?;
                    this.route(&path)?.delete(&path).await?;
                    Ok(path)
                }
            })
            .buffered(CONCURRENT_DELETES)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.route_prefix(prefix) {
            Ok(store) => store.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.route_prefix(prefix) {
            Ok(store) => store.list_with_offset(prefix, offset),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.route_prefix(prefix)?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.same_mount(from, to)? {
            Some(store) => store.copy_opts(from, to, options).await,
            None => Err(across(from, to)),
        }
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        match self.same_mount(from, to)? {
            Some(store) => store.rename_opts(from, to, options).await,
            None => Err(across(from, to)),
        }
    }
}

/// Copies between lakes with different credentials are nobody's need.
fn across(from: &Path, to: &Path) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("{from} and {to} lie in different lakes").into(),
    }
}
