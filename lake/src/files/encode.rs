//! Batches as the bytes of a file.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::writer::{JsonArray, LineDelimited, Writer, WriterBuilder as JsonBuilder};
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::format::{FileKind, Options};
use super::unpack::Compression;
use crate::{Error, Result};

/// How rows become a file.
#[derive(Clone, Debug)]
pub(super) enum Encoding {
    Parquet(Box<WriterProperties>),
    Csv {
        header: bool,
        delimiter: u8,
        quote: u8,
        escape: Option<u8>,
        null: String,
        compression: Compression,
    },
    Json {
        array: bool,
        compression: Compression,
    },
}

impl Encoding {
    /// What the options say; what they leave open is as the file's name says.
    pub fn new(
        kind: FileKind,
        options: &mut Options,
        by_name: (Compression, bool),
    ) -> Result<Self> {
        let (compression, tabs) = by_name;
        Ok(match kind {
            FileKind::Parquet => {
                // Lists and maps are named as the format's specification asks for.
                let mut properties = WriterProperties::builder()
                    .set_compression(codec(options)?)
                    .set_coerce_types(true);
                if let Some(rows) = options.number(&["row_group_size", "max_row_group_size"])? {
                    properties = properties.set_max_row_group_row_count(Some(rows));
                }
                Self::Parquet(Box::new(properties.build()))
            }
            FileKind::Csv => Self::Csv {
                header: options.flag(&["header", "has_header"])?.unwrap_or(true),
                delimiter: options
                    .byte(&["delimiter", "delim", "sep"])?
                    .unwrap_or(if tabs { b'\t' } else { b',' }),
                quote: options.byte(&["quote"])?.unwrap_or(b'"'),
                escape: options.byte(&["escape"])?.filter(|escape| *escape != b'"'),
                null: options
                    .text(&["null", "nullstr", "null_value"])
                    .unwrap_or_default(),
                compression: options.compression()?.unwrap_or(compression),
            },
            FileKind::Json => Self::Json {
                array: options.flag(&["array"])?.unwrap_or(false),
                compression: options.compression()?.unwrap_or(compression),
            },
        })
    }

    /// Refuses columns that the format cannot hold.
    pub fn check(&self, schema: &SchemaRef) -> Result<()> {
        let nested = |ty: &DataType| ty.is_nested();
        let Self::Csv { .. } = self else {
            return Ok(());
        };
        match schema.fields().iter().find(|f| nested(f.data_type())) {
            None => Ok(()),
            Some(field) => Err(Error::Refused(format!(
                "column {} has type {}, which a csv file cannot hold; use parquet or json",
                field.name(),
                field.data_type()
            ))),
        }
    }

    /// The ending of names of files in a folder.
    pub fn ending(&self) -> &'static str {
        let packed = |compression: &Compression, endings: [&'static str; 3]| match compression {
            Compression::None => endings[0],
            Compression::Gzip => endings[1],
            Compression::Zstd => endings[2],
        };
        match self {
            Self::Parquet(_) => "parquet",
            Self::Csv { compression, .. } => packed(compression, ["csv", "csv.gz", "csv.zst"]),
            Self::Json { compression, .. } => packed(compression, ["json", "json.gz", "json.zst"]),
        }
    }
}

fn codec(options: &mut Options) -> Result<Codec> {
    let Some(name) = options.text(&["compression"]) else {
        return Ok(Codec::ZSTD(ZstdLevel::default()));
    };
    Ok(match name.to_ascii_lowercase().as_str() {
        "zstd" => Codec::ZSTD(ZstdLevel::default()),
        "snappy" => Codec::SNAPPY,
        "lz4" | "lz4_raw" => Codec::LZ4_RAW,
        "gzip" => Codec::GZIP(Default::default()),
        "brotli" => Codec::BROTLI(Default::default()),
        "none" | "uncompressed" => Codec::UNCOMPRESSED,
        _ => {
            return Err(Error::Refused(format!(
                "option compression = {name:?}: parquet files have zstd, snappy, lz4, gzip, brotli \
                 or uncompressed"
            )));
        }
    })
}

/// What was encoded and not yet taken.
#[derive(Clone, Debug, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A compressor that ends with its file.
enum Packed {
    Plain(Buffer),
    Gzip(Box<GzEncoder<Buffer>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Buffer>>),
}

impl Packed {
    fn new(buffer: Buffer, compression: Compression) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(buffer),
            Compression::Gzip => Self::Gzip(Box::new(GzEncoder::new(buffer, Default::default()))),
            Compression::Zstd => {
                Self::Zstd(Box::new(zstd::stream::write::Encoder::new(buffer, 3)?))
            }
        })
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(encoder) => encoder.finish().map(|_| ()),
            Self::Zstd(encoder) => encoder.finish().map(|_| ()),
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(buffer) => buffer.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Form {
    Parquet(Box<ArrowWriter<Buffer>>),
    Csv(Box<arrow::csv::Writer<Packed>>),
    Lines(Box<Writer<Packed, LineDelimited>>),
    Array(Box<Writer<Packed, JsonArray>>),
}

/// Encodes one file.
pub(super) struct Encoder {
    form: Form,
    buffer: Buffer,
    /// Whether a csv file still lacks its header.
    header_only: Option<SchemaRef>,
}

impl Encoder {
    pub fn new(encoding: &Encoding, schema: &SchemaRef) -> Result<Self> {
        let buffer = Buffer::default();
        let packed = |compression: &Compression| {
            Packed::new(buffer.clone(), *compression).map_err(|error| failed(&error))
        };
        let mut header_only = None;
        let form = match encoding {
            Encoding::Parquet(properties) => {
                let properties = Some(properties.as_ref().clone());
                let writer = ArrowWriter::try_new(buffer.clone(), Arc::clone(schema), properties);
                Form::Parquet(Box::new(writer.map_err(|error| failed(&error))?))
            }
            Encoding::Csv {
                header,
                delimiter,
                quote,
                escape,
                null,
                compression,
            } => {
                header_only = header.then(|| Arc::clone(schema));
                let mut builder = CsvBuilder::new()
                    .with_header(*header)
                    .with_delimiter(*delimiter)
                    .with_quote(*quote)
                    .with_null(null.clone());
                if let Some(escape) = escape {
                    builder = builder.with_escape(*escape).with_double_quote(false);
                }
                Form::Csv(Box::new(builder.build(packed(compression)?)))
            }
            Encoding::Json { array, compression } => {
                // A missing key and NULL are not the same to every reader.
                let builder = JsonBuilder::new().with_explicit_nulls(true);
                let packed = packed(compression)?;
                match array {
                    true => Form::Array(Box::new(builder.build(packed))),
                    false => Form::Lines(Box::new(builder.build(packed))),
                }
            }
        };
        Ok(Self {
            form,
            buffer,
            header_only,
        })
    }

    /// Encodes a batch; gives the bytes that are ready.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        match &mut self.form {
            Form::Parquet(writer) => writer.write(batch).map_err(|error| failed(&error))?,
            Form::Csv(writer) => {
                self.header_only = None;
                writer.write(batch).map_err(|error| failed(&error))?;
            }
            Form::Lines(writer) => writer.write(batch).map_err(|error| failed(&error))?,
            Form::Array(writer) => writer.write(batch).map_err(|error| failed(&error))?,
        }
        Ok(std::mem::take(&mut *self.buffer.0.lock()))
    }

    /// Ends the file; gives its last bytes.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        if let Some(schema) = self.header_only.take() {
            // A file without rows has its header all the same.
            self.write(&RecordBatch::new_empty(schema)).map(|bytes| {
                self.buffer.0.lock().splice(0..0, bytes);
            })?;
        }
        match self.form {
            Form::Parquet(writer) => writer.close().map(|_| ()).map_err(|error| failed(&error))?,
            Form::Csv(writer) => writer
                .into_inner()
                .finish()
                .map_err(|error| failed(&error))?,
            Form::Lines(mut writer) => {
                writer.finish().map_err(|error| failed(&error))?;
                let packed = writer.into_inner();
                packed.finish().map_err(|error| failed(&error))?;
            }
            Form::Array(mut writer) => {
                writer.finish().map_err(|error| failed(&error))?;
                let packed = writer.into_inner();
                packed.finish().map_err(|error| failed(&error))?;
            }
        }
        Ok(std::mem::take(&mut *self.buffer.0.lock()))
    }
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::Refused(format!(
        "the rows cannot be written as this format: {error}"
    ))
}
