//! CSV as RFC 4180 has it, with a header. NULL is an empty field and an empty text is `""`, as
//! PostgreSQL's COPY has it, so that the two can be told apart. Nested values are written as text.

use std::io::Write;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;

use super::destination::Out;
use super::{ResultWriter, TextColumn};

/// One result as CSV.
pub struct Csv {
    out: Out,
}

impl Csv {
    /// Begins a result: writes the header.
    ///
    /// # Errors
    /// When the destination refuses it.
    pub fn new(mut out: Out, schema: &SchemaRef) -> anyhow::Result<Self> {
        let mut line = String::new();
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            push_field(&mut line, field.name());
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        Ok(Self { out })
    }
}

impl ResultWriter for Csv {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let columns = TextColumn::of(batch, &FormatOptions::default())?;
        let mut line = String::new();
        for row in 0..batch.num_rows() {
            line.clear();
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    line.push(',');
                }
                if let Some(text) = column.text(row)? {
                    push_field(&mut line, &text);
                }
            }
            line.push('\n');
            self.out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}

/// Appends a field, quoted when it must be.
fn push_field(line: &mut String, text: &str) {
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        line.push_str(text);
        return;
    }
    line.push('"');
    line.push_str(&text.replace('"', "\"\""));
    line.push('"');
}
