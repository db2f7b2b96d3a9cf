//! A file on its way into a store: it appears when it is complete, or not at all.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};

use super::access::Place;
use crate::{Error, Result};

/// Bytes of one part, and of what is sent in one piece.
const PART_BYTES: usize = 10 << 20;

/// Parts that are under way at once.
const PARTS_AHEAD: usize = 4;

/// A file that is being written. Dropped before it is finished, it leaves nothing.
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    name: String,
    begin: Vec<u8>,
    parts: Option<WriteMultipart>,
}

impl Upload {
    pub fn new(place: &Place, path: Path) -> Self {
        Self {
            store: Arc::clone(&place.store),
            name: place.name_of(&path),
            path,
            begin: Vec::new(),
            parts: None,
        }
    }

    fn failed(name: &str, error: object_store::Error) -> Error {
        Error::Unavailable {
            service: format!("writing {name}"),
            why: error.to_string(),
        }
    }

    /// Takes the next bytes of the file; waits for the store when it is behind.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<()> {
        if self.parts.is_none() && self.begin.len() + bytes.len() < PART_BYTES {
            self.begin.extend_from_slice(&bytes);
            return Ok(());
        }
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => {
                let upload = self.store.put_multipart(&self.path).await;
                let upload = upload.map_err(|error| Self::failed(&self.name, error))?;
                let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
                parts.put(std::mem::take(&mut self.begin).into());
                parts
            }
        };
        parts.put(bytes.into());
        let ready = parts.wait_for_capacity(PARTS_AHEAD).await;
        self.parts = Some(parts);
        ready.map_err(|error| Self::failed(&self.name, error))
    }

    /// Has the file appear.
    pub async fn finish(mut self) -> Result<()> {
        let done = match self.parts.take() {
            Some(parts) => parts.finish().await.map(|_| ()),
            None => {
                let bytes = std::mem::take(&mut self.begin);
                self.store.put(&self.path, bytes.into()).await.map(|_| ())
            }
        };
        done.map_err(|error| Self::failed(&self.name, error))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        let name = self.name.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = parts.abort().await {
                    tracing::warn!(name, %error, "an upload could not be ended");
                }
            });
        }
    }
}
