//! Arrow IPC streams and Parquet files: one result each.

use std::io::Write;

use anyhow::Context;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::ResultWriter;
use super::destination::Out;

/// Encoded size that ends a row group: the most that is held in memory.
const ROW_GROUP_BYTES_MAX: usize = 128 << 20;

/// One result as an Arrow IPC stream.
pub struct Arrow {
    writer: StreamWriter<Out>,
    out: Out,
}

impl Arrow {
    /// Begins the stream: writes the schema.
    ///
    /// # Errors
    /// When the destination refuses it.
    pub fn new(out: Out, schema: &SchemaRef) -> anyhow::Result<Self> {
        let writer = StreamWriter::try_new(out.clone(), schema)?;
        Ok(Self { writer, out })
    }
}

impl ResultWriter for Arrow {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.writer.finish()?;
        Ok(self.out.flush()?)
    }
}

/// One result as a Parquet file.
pub struct Parquet {
    writer: ArrowWriter<Out>,
    out: Out,
}

impl Parquet {
    /// Begins the file.
    ///
    /// # Errors
    /// When Parquet has no type for a column.
    pub fn new(out: Out, schema: &SchemaRef) -> anyhow::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
            .build();
        let writer = ArrowWriter::try_new(out.clone(), schema.clone(), Some(properties))
            .context("this result cannot be written as Parquet")?;
        Ok(Self { writer, out })
    }
}

impl ResultWriter for Parquet {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.writer.finish()?;
        Ok(self.out.flush()?)
    }
}
