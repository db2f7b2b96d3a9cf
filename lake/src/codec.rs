//! Encodes scans, so that a worker can run what the coordinator planned.
//!
//! DataFusion's own codec knows only its own file sources, and drops what they are extended with.
//! This one carries everything a worker needs and nothing it must not have: files are named by
//! location, and the worker finds the object store, and with it the credentials, in its own
//! configuration.
//!
//! Dynamic filters are shared between operators of one process. They are sent as they stand at the
//! moment, which is what planning knows: usually nothing.

mod decode;
mod encode;
mod message;

use std::sync::Arc;

use datafusion::common::not_impl_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;

use crate::scan::{RowCountExec, scan_config};

/// Version of the encoding. Coordinator and workers check their protocol version when they meet;
/// this catches what slips through.
pub const VERSION: u32 = 2;

/// First bytes of every encoded scan, so that other codecs' bytes are refused at once.
const MAGIC: &[u8; 8] = b"inshsc02";

/// First bytes of every encoded [`RowCountExec`].
const ROW_COUNT_MAGIC: &[u8; 8] = b"inshrc01";

/// Encodes and decodes Iceberg scans and row counts; answers with an error for every other plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct IcebergCodec;

impl PhysicalExtensionCodec for IcebergCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !inputs.is_empty() {
            return not_impl_err!("an Iceberg scan has no inputs");
        }
        if let Some(message) = buf.strip_prefix(MAGIC) {
            decode::scan(message, self, ctx)
        } else if let Some(message) = buf.strip_prefix(ROW_COUNT_MAGIC) {
            decode::row_count(message)
        } else {
            not_impl_err!("not an Iceberg scan")
        }
    }

    fn try_encode(&self, node: Arc<dyn ExecutionPlan>, buf: &mut Vec<u8>) -> Result<()> {
        if let Some(count) = node.downcast_ref::<RowCountExec>() {
            buf.extend_from_slice(ROW_COUNT_MAGIC);
            return encode::row_count(count, buf);
        }
        let Some((config, source)) = scan_config(node.as_ref()) else {
            return not_impl_err!("{} is not an Iceberg scan", node.name());
        };
        buf.extend_from_slice(MAGIC);
        encode::scan(config, source, self, buf)
    }
}
