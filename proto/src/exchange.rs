//! What accompanies each exchanged batch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;

use crate::error::WireError;
use crate::{decode, pb, wire};

/// Application metadata of one `FlightData` of a multiplexed `DoGet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMetadata {
    /// The partition that the message belongs to.
    pub partition: usize,
    /// When the batch was encoded, by the sender's clock.
    pub created: SystemTime,
}

impl BatchMetadata {
    /// Metadata of a batch encoded now.
    pub fn now(partition: usize) -> Self {
        Self {
            partition,
            created: SystemTime::now(),
        }
    }

    /// The bytes for `FlightData::app_metadata`.
    pub fn encode(&self) -> Bytes {
        let since = self.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        let metadata = pb::BatchMetadata {
            partition: self.partition as u64,
            created_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        };
        Bytes::from(metadata.encode_to_vec())
    }

    /// Reads `FlightData::app_metadata`.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let metadata: pb::BatchMetadata = decode(bytes, "BatchMetadata")?;
        Ok(Self {
            partition: wire::index(metadata.partition, "BatchMetadata.partition")?,
            created: UNIX_EPOCH + Duration::from_nanos(metadata.created_ns),
        })
    }
}
