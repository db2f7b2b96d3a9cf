//! A file on its way into a store: it appears when it is complete, or not at all.

use std::sync::Arc;

use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;

use super::access::Place;
use crate::{Error, Result};

/// Parts that are under way at once.
const PARTS_AHEAD: usize = 4;

/// A file that is being written. Dropped before it is finished, it leaves nothing.
pub(super) struct Upload {
    /// None once the file is finished.
    writer: Option<BufWriter>,
    name: String,
}

impl Upload {
    pub fn new(place: &Place, path: Path) -> Self {
        let name = place.name_of(&path);
        let writer = BufWriter::new(Arc::clone(&place.store), path);
        Self {
            writer: Some(writer.with_max_concurrency(PARTS_AHEAD)),
            name,
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Unavailable {
            service: format!("writing {}", self.name),
            why: error.to_string(),
        }
    }

    /// Takes the next bytes of the file; waits for the store when it is behind.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<()> {
        let Some(writer) = self.writer.as_mut() else {
            return Err(Error::Internal(format!("{} is finished", self.name)));
        };
        let written = writer.put(bytes.into()).await;
        written.map_err(|error| self.failed(&error))
    }

    /// Has the file appear.
    pub async fn finish(mut self) -> Result<()> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        let done = writer.shutdown().await;
        done.map_err(|error| self.failed(&error))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        let name = self.name.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = writer.abort().await {
                    tracing::warn!(name, %error, "an upload could not be ended");
                }
            });
        }
    }
}
