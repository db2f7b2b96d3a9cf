//! Results written as they stream, in six formats.

mod columnar;
mod csv;
mod destination;
mod json;
mod progress;
mod table;

use std::path::Path;

use anyhow::bail;
use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

pub use self::destination::Destination;
pub use self::progress::Progress;
pub use self::table::{Expanded, TableStyle};
use crate::args::Format;

/// Writes one result.
pub trait ResultWriter: Send {
    /// Writes further rows.
    ///
    /// # Errors
    /// When the destination or the format refuses them.
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()>;

    /// Ends the result.
    ///
    /// # Errors
    /// When the destination refuses what was held back.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// A column with what turns its values into text.
pub struct TextColumn<'a> {
    nulls: Option<NullBuffer>,
    formatter: ArrayFormatter<'a>,
}

impl<'a> TextColumn<'a> {
    /// The columns of a batch.
    ///
    /// # Errors
    /// When a type has no text form.
    pub fn of(batch: &'a RecordBatch, options: &FormatOptions<'a>) -> anyhow::Result<Vec<Self>> {
        let column = |array: &'a ArrayRef| {
            // Logical: a dictionary's or a null array's own bitmap does not tell.
            let nulls = array.logical_nulls();
            let formatter = ArrayFormatter::try_new(array.as_ref(), options)?;
            Ok(Self { nulls, formatter })
        };
        batch.columns().iter().map(column).collect()
    }

    /// The value of a row; `None` for NULL.
    ///
    /// # Errors
    /// When the value has no text form, as a date far outside the calendar.
    pub fn text(&self, row: usize) -> anyhow::Result<Option<String>> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        Ok(Some(self.formatter.value(row).try_to_string()?))
    }
}

/// Where results go, and how.
pub struct Output {
    destination: Destination,
    /// The format of the next result.
    pub format: Format,
    /// Whether the table format shows a row per line or a column per line.
    pub expanded: Expanded,
    results: usize,
}

impl Output {
    /// Writes to a file, or to stdout without one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(path: Option<&Path>, format: Format) -> anyhow::Result<Self> {
        let destination = match path {
            Some(path) => Destination::file(path)?,
            None => Destination::stdout(),
        };
        Ok(Self {
            destination,
            format,
            expanded: Expanded::Auto,
            results: 0,
        })
    }

    /// Sends what follows elsewhere; what was written to a file so far is kept.
    ///
    /// # Errors
    /// When one of the two files cannot be written.
    pub fn redirect(&mut self, path: Option<&Path>) -> anyhow::Result<()> {
        let next = Self::open(path, self.format)?;
        std::mem::replace(&mut self.destination, next.destination).commit()?;
        self.results = 0;
        Ok(())
    }

    /// Begins a result.
    ///
    /// # Errors
    /// When the format holds one result only and there was one before.
    pub fn begin(&mut self, schema: &SchemaRef) -> anyhow::Result<Box<dyn ResultWriter>> {
        let out = self.destination.writer();
        let single = matches!(self.format, Format::Arrow | Format::Parquet);
        if single && self.results > 0 {
            bail!(
                "the formats arrow and parquet hold one result, and this is a second one; run the \
                 statements one by one, each with an --output of its own"
            );
        }
        self.results += 1;
        Ok(match self.format {
            Format::Table => {
                let style = TableStyle::of(&self.destination, self.expanded);
                Box::new(table::Table::new(out, schema, style))
            }
            Format::Csv => Box::new(csv::Csv::new(out, schema)?),
            Format::Json => Box::new(json::Array::new(out)),
            Format::Ndjson => Box::new(json::Lines::new(out)),
            Format::Arrow => Box::new(columnar::Arrow::new(out, schema)?),
            Format::Parquet => Box::new(columnar::Parquet::new(out, schema)?),
        })
    }

    /// Where results go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Puts a finished file in its place.
    ///
    /// # Errors
    /// When that fails.
    pub fn commit(self) -> anyhow::Result<()> {
        self.destination.commit()
    }
}

#[cfg(test)]
mod tests;
