//! Encodes scans and writers, so that a worker can run what the coordinator planned.
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
use crate::write::{RangeExec, SampleExec, WriteExec, WriteTarget};

/// Version of the encoding. Coordinator and workers check their protocol version when they meet;
/// this catches what slips through.
pub const VERSION: u32 = 2;

/// First bytes of every encoded scan, so that other codecs' bytes are refused at once.
const MAGIC: &[u8; 8] = b"inshsc02";

/// First bytes of every encoded [`RowCountExec`].
const ROW_COUNT_MAGIC: &[u8; 8] = b"inshrc01";

/// First bytes of every encoded [`WriteExec`].
const WRITE_MAGIC: &[u8; 8] = b"inshwr02";

/// First bytes of every encoded [`RangeExec`] and [`SampleExec`].
const RANGE_MAGIC: &[u8; 8] = b"inshra01";
const SAMPLE_MAGIC: &[u8; 8] = b"inshsa01";

/// Encodes and decodes Iceberg scans, row counts and writers; answers with an error for every other plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct IcebergCodec;

impl PhysicalExtensionCodec for IcebergCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(message) = buf.strip_prefix(WRITE_MAGIC) {
            let [input] = inputs else {
                return not_impl_err!("a writer of an Iceberg table has one input");
            };
            let target = Arc::new(WriteTarget::decode(message)?);
            return Ok(Arc::new(WriteExec::try_new(target, Arc::clone(input))?));
        }
        if let Some(message) = buf.strip_prefix(RANGE_MAGIC) {
            let [input] = inputs else {
                return not_impl_err!("ranges of rows have one input");
            };
            return Ok(Arc::new(RangeExec::decode(message, Arc::clone(input))?));
        }
        if let Some(message) = buf.strip_prefix(SAMPLE_MAGIC) {
            let [input] = inputs else {
                return not_impl_err!("a sample of rows has one input");
            };
            let target = Arc::new(WriteTarget::decode(message)?);
            return Ok(Arc::new(SampleExec::new(target, Arc::clone(input))));
        }
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
        if let Some(write) = node.downcast_ref::<WriteExec>() {
            buf.extend_from_slice(WRITE_MAGIC);
            buf.extend(write.target().encode()?);
            return Ok(());
        }
        if let Some(range) = node.downcast_ref::<RangeExec>() {
            buf.extend_from_slice(RANGE_MAGIC);
            buf.extend(range.encode()?);
            return Ok(());
        }
        if let Some(sample) = node.downcast_ref::<SampleExec>() {
            buf.extend_from_slice(SAMPLE_MAGIC);
            buf.extend(sample.target().encode()?);
            return Ok(());
        }
        let Some((config, source)) = scan_config(node.as_ref()) else {
            return not_impl_err!("{} is not an Iceberg scan", node.name());
        };
        buf.extend_from_slice(MAGIC);
        encode::scan(config, source, self, buf)
    }
}
