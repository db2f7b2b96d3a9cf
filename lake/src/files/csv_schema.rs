//! The columns of CSV files, from their first rows.
//!
//! DataFusion cuts a file into pieces at ends of lines before it looks at them, also at those inside
//! of quotes. Here a sample ends where a row ends.

use std::sync::Arc;

use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::file_format::csv::CsvFormat;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::access::Place;
use crate::{Error, Result};

/// Most bytes of one file that are looked at.
const SAMPLE_BYTES: usize = 4 << 20;

/// How the values of a CSV file are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct CsvShape {
    pub header: bool,
    pub delimiter: u8,
    pub quote: u8,
    pub escape: Option<u8>,
    pub comment: Option<u8>,
    /// Whether values may hold ends of lines.
    pub newlines: bool,
    /// Rows that are looked at for the types.
    pub sample_rows: usize,
}

impl CsvShape {
    /// The format as DataFusion reads it.
    pub fn format(self) -> CsvFormat {
        CsvFormat::default()
            .with_has_header(self.header)
            .with_delimiter(self.delimiter)
            .with_quote(self.quote)
            .with_escape(self.escape)
            .with_comment(self.comment)
            .with_newlines_in_values(self.newlines)
    }

    fn sampled(self) -> Format {
        let mut format = Format::default()
            .with_header(self.header)
            .with_delimiter(self.delimiter)
            .with_quote(self.quote);
        if let Some(escape) = self.escape {
            format = format.with_escape(escape);
        }
        if let Some(comment) = self.comment {
            format = format.with_comment(comment);
        }
        format
    }

    /// The length of the whole rows at the beginning of `bytes`.
    fn whole_rows(self, bytes: &[u8]) -> usize {
        let (mut quoted, mut escaped, mut end) = (false, false, 0);
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                byte if Some(*byte) == self.escape => escaped = true,
                byte if *byte == self.quote => quoted = !quoted,
                b'\n' if !quoted => end = at + 1,
                _ => {}
            }
        }
        end
    }

    /// The schema of files, which must all have the same columns in one order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for what cannot be taken apart, [`Error::Refused`] for files with
    /// different columns, and those of the store.
    pub async fn schema(
        self,
        place: &Place,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<Schema> {
        let mut merged: Option<Schema> = None;
        let mut left = self.sample_rows;
        for object in objects {
            if left == 0 {
                break;
            }
            let name = place.name_of(&object.location);
            let sample = self.sample(store, object, &name).await?;
            let inferred = self.sampled().infer_schema(sample.as_slice(), Some(left));
            let (schema, rows) = inferred.map_err(|error| Error::Corrupt {
                path: name.clone(),
                why: error.to_string(),
            })?;
            left = left.saturating_sub(rows);
            merged = Some(match merged {
                None => schema,
                Some(before) => merge(&before, &schema, &name)?,
            });
        }
        let merged = merged.unwrap_or_else(Schema::empty);
        let fields = merged.fields().iter().map(|field| {
            // A column without any value.
            let data_type = match field.data_type() {
                DataType::Null => DataType::Utf8,
                other => other.clone(),
            };
            Field::new(field.name(), data_type, true)
        });
        Ok(Schema::new(fields.collect::<Vec<_>>()))
    }

    async fn sample(
        self,
        store: &Arc<dyn ObjectStore>,
        object: &ObjectMeta,
        name: &str,
    ) -> Result<Vec<u8>> {
        let failed = |error| Error::store(name, error);
        let found = store.get(&object.location).await.map_err(failed)?;
        let mut stream = found.into_stream();
        let mut sample = Vec::new();
        while sample.len() < SAMPLE_BYTES {
            match stream.try_next().await.map_err(failed)? {
                Some(bytes) => sample.extend_from_slice(&bytes),
                None => return Ok(sample),
            }
        }
        match self.whole_rows(&sample) {
            0 => Err(Error::Corrupt {
                path: name.to_owned(),
                why: format!(
                    "no row ends within {SAMPLE_BYTES} bytes; is a quote missing, or the option \
                     quote another?"
                ),
            }),
            end => {
                sample.truncate(end);
                Ok(sample)
            }
        }
    }
}

fn merge(before: &Schema, next: &Schema, name: &str) -> Result<Schema> {
    let names = |schema: &Schema| -> Vec<String> {
        schema.fields().iter().map(|f| f.name().clone()).collect()
    };
    if names(before) != names(next) {
        return Err(Error::Refused(format!(
            "file {name} has the columns {}, those before it {}; read them on their own",
            names(next).join(", "),
            names(before).join(", ")
        )));
    }
    let fields = before.fields().iter().zip(next.fields()).map(|(a, b)| {
        let data_type = match (a.data_type(), b.data_type()) {
            (a, b) if a == b => a.clone(),
            (DataType::Null, other) | (other, DataType::Null) => other.clone(),
            (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => {
                DataType::Float64
            }
            _ => DataType::Utf8,
        };
        Field::new(a.name(), data_type, true)
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_ends_outside_of_quotes() {
        let shape = CsvShape {
            header: true,
            delimiter: b',',
            quote: b'"',
            escape: Some(b'\\'),
            comment: None,
            newlines: true,
            sample_rows: 10,
        };
        for (text, end) in [
            ("a,b\n1,2", 4),
            ("\"a\nb\",c\n\"x\n", 8),
            ("\"a\\\"\nb\"\nx", 8),
            ("\"a\"\"\nb\"\nx", 8),
            ("\"a\n", 0),
        ] {
            assert_eq!(shape.whole_rows(text.as_bytes()), end, "{text}");
        }
    }
}
