//! iceberg-rust's storage traits over [`Stores`]: its metadata, manifests and writes go through
//! the same clients and the same check of roots as our own reads.
//!
//! The traits ask for serde, so that plans of other engines can carry a storage. Ours must never
//! travel (it stands for credentials): the stores are left out, and a storage that was
//! deserialised refuses every call.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage,
    StorageConfig, StorageFactory,
};
use iceberg::{Error as IcebergError, ErrorKind, Result as IcebergResult};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::Stores;
use crate::Error;

/// How many parts of one file are uploaded at once.
const CONCURRENT_PARTS: usize = 4;

/// How many deletions run at once.
const CONCURRENT_DELETES: usize = 16;

/// Makes [`LakeStorage`]s; hand it to a catalog's builder.
#[derive(Clone, Serialize, Deserialize)]
pub struct LakeStorageFactory {
    #[serde(skip)]
    stores: Option<Arc<Stores>>,
}

impl LakeStorageFactory {
    /// A factory over these stores.
    pub fn new(stores: Arc<Stores>) -> Self {
        Self {
            stores: Some(stores),
        }
    }

    /// A `FileIO` over these stores, without properties and so without secrets.
    pub fn file_io(stores: Arc<Stores>) -> FileIO {
        FileIOBuilder::new(Arc::new(Self::new(stores))).build()
    }
}

impl fmt::Debug for LakeStorageFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LakeStorageFactory")
    }
}

#[typetag::serde(name = "InshoreLakeStorageFactory")]
impl StorageFactory for LakeStorageFactory {
    fn build(&self, _config: &StorageConfig) -> IcebergResult<Arc<dyn Storage>> {
        Ok(Arc::new(LakeStorage {
            stores: self.stores.clone(),
        }))
    }
}

/// iceberg-rust's view of the lakes.
#[derive(Clone, Serialize, Deserialize)]
pub struct LakeStorage {
    #[serde(skip)]
    stores: Option<Arc<Stores>>,
}

impl fmt::Debug for LakeStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LakeStorage")
    }
}

impl LakeStorage {
    fn locate(&self, location: &str) -> IcebergResult<(Arc<dyn ObjectStore>, Path)> {
        let stores = self.stores.as_ref().ok_or_else(|| {
            IcebergError::new(
                ErrorKind::Unexpected,
                "this storage came out of serialised data and has no stores",
            )
        })?;
        let (store, path, _) = stores.resolve(location).map_err(to_iceberg)?;
        Ok((store, path))
    }
}

#[async_trait]
#[typetag::serde(name = "InshoreLakeStorage")]
impl Storage for LakeStorage {
    async fn exists(&self, path: &str) -> IcebergResult<bool> {
        let (store, key) = self.locate(path)?;
        match store.head(&key).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(path, error)),
        }
    }

    async fn metadata(&self, path: &str) -> IcebergResult<FileMetadata> {
        let (store, key) = self.locate(path)?;
        let meta = store.head(&key).await.map_err(|e| failed(path, e))?;
        Ok(FileMetadata { size: meta.size })
    }

    async fn read(&self, path: &str) -> IcebergResult<Bytes> {
        let (store, key) = self.locate(path)?;
        let bytes = async { store.get(&key).await?.bytes().await };
        bytes.await.map_err(|e| failed(path, e))
    }

    async fn reader(&self, path: &str) -> IcebergResult<Box<dyn FileRead>> {
        let (store, key) = self.locate(path)?;
        Ok(Box::new(Reader {
            location: path.to_owned(),
            store,
            key,
        }))
    }

    async fn write(&self, path: &str, bs: Bytes) -> IcebergResult<()> {
        let (store, key) = self.locate(path)?;
        let put = store.put(&key, bs.into()).await;
        put.map(|_| ()).map_err(|e| failed(path, e))
    }

    async fn writer(&self, path: &str) -> IcebergResult<Box<dyn FileWrite>> {
        let (store, key) = self.locate(path)?;
        Ok(Box::new(Writer {
            location: path.to_owned(),
            inner: BufWriter::new(store, key).with_max_concurrency(CONCURRENT_PARTS),
        }))
    }

    async fn delete(&self, path: &str) -> IcebergResult<()> {
        let (store, key) = self.locate(path)?;
        match store.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(path, error)),
        }
    }

    async fn delete_prefix(&self, path: &str) -> IcebergResult<()> {
        let (store, key) = self.locate(path)?;
        let found = store.list(Some(&key)).map_ok(|meta| meta.location).boxed();
        let deleted = store.delete_stream(found).try_for_each(async |_| Ok(()));
        deleted.await.map_err(|e| failed(path, e))
    }

    async fn delete_stream(&self, paths: BoxStream<'static, String>) -> IcebergResult<()> {
        paths
            .map(Ok)
            .try_for_each_concurrent(CONCURRENT_DELETES, async |path| self.delete(&path).await)
            .await
    }

    fn new_input(&self, path: &str) -> IcebergResult<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> IcebergResult<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct Reader {
    location: String,
    store: Arc<dyn ObjectStore>,
    key: Path,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> IcebergResult<Bytes> {
        let bytes = self.store.get_range(&self.key, range).await;
        bytes.map_err(|e| failed(&self.location, e))
    }
}

/// The file appears under its name when it is closed, not before: an object store ends the
/// upload, the local file system renames.
struct Writer {
    location: String,
    inner: BufWriter,
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bs: Bytes) -> IcebergResult<()> {
        let put = self.inner.put(bs).await;
        put.map_err(|e| failed(&self.location, e))
    }

    async fn close(&mut self) -> IcebergResult<()> {
        self.inner.shutdown().await.map_err(|error| {
            IcebergError::new(
                ErrorKind::Unexpected,
                format!("cannot write {}", self.location),
            )
            .with_source(error)
        })
    }
}

fn failed(location: &str, error: object_store::Error) -> IcebergError {
    to_iceberg(Error::store(location, error))
}

/// Our error as iceberg-rust's, with ours as its cause for [`Error::from_iceberg`].
fn to_iceberg(error: Error) -> IcebergError {
    IcebergError::new(ErrorKind::Unexpected, error.to_string())
        .with_retryable(error.is_retryable())
        .with_source(error)
}
