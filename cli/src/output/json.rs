//! JSON: an array of objects per result, or an object per line. NULL is written as `null`.

use std::io::Write;

use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, LineDelimited, Writer};
use arrow::record_batch::RecordBatch;

use super::ResultWriter;
use super::destination::Out;

/// One array of objects.
pub struct Array {
    writer: Writer<Out, JsonArray>,
    out: Out,
}

impl Array {
    /// Begins a result.
    pub fn new(out: Out) -> Self {
        let writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build(out.clone());
        Self { writer, out }
    }
}

impl ResultWriter for Array {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.writer.finish()?;
        self.out.write_all(b"\n")?;
        Ok(self.out.flush()?)
    }
}

/// An object per line.
pub struct Lines {
    writer: Writer<Out, LineDelimited>,
    out: Out,
}

impl Lines {
    /// Begins a result.
    pub fn new(out: Out) -> Self {
        let writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build(out.clone());
        Self { writer, out }
    }
}

impl ResultWriter for Lines {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.writer.write(batch)?;
        // Whoever reads lines wants each as soon as it is there.
        Ok(self.out.flush()?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.writer.finish()?;
        Ok(self.out.flush()?)
    }
}
