//! One data file on its way, and what is told of it once it is there.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, PrimitiveLiteral,
    PrimitiveType, Struct, Type,
};
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::bounds::{Extreme, encoded};
use super::metrics::{FileMetrics, NanCounts};
use super::target::WriteTarget;
use crate::{Error, Result};

/// Encoded bytes that are gathered before they go to the store: as few as object stores take, since
/// every open file gathers them.
const PART_BYTES: usize = 5 << 20;

/// Parts of one file that are sent at once.
const PARTS_IN_FLIGHT: usize = 2;

/// A file that rows are being written to.
pub struct OpenFile {
    writer: AsyncArrowWriter<BufWriter>,
    location: String,
    schema: SchemaRef,
    rows: u64,
    nans: NanCounts,
}

impl OpenFile {
    /// Begins a file; nothing is written yet.
    ///
    /// # Errors
    /// [`Error::Internal`] for a schema that has no Parquet form.
    pub fn new(
        store: &Arc<dyn ObjectStore>,
        path: Path,
        location: String,
        schema: &SchemaRef,
        properties: &WriterProperties,
    ) -> Result<Self> {
        let buffer = BufWriter::with_capacity(Arc::clone(store), path, PART_BYTES);
        let buffer = buffer.with_max_concurrency(PARTS_IN_FLIGHT);
        let options = ArrowWriterOptions::new()
            .with_properties(properties.clone())
            // The Arrow schema of the moment is nothing that other readers need.
            .with_skip_arrow_metadata(true)
            .with_schema_root("table".to_owned());
        let writer = AsyncArrowWriter::try_new_with_options(buffer, Arc::clone(schema), options);
        Ok(Self {
            writer: writer.map_err(|error| Error::Internal(error.to_string()))?,
            location,
            schema: Arc::clone(schema),
            rows: 0,
            nans: NanCounts::default(),
        })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`Error::Store`] and [`Error::Unavailable`] when the store does not take them.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.nans.add(&self.schema, batch.columns());
        self.rows += batch.num_rows() as u64;
        let written = self.writer.write(batch).await;
        written.map_err(|error| failed(&self.location, error))
    }

    /// Ends the row group at hand, which frees its memory.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub async fn flush(&mut self) -> Result<()> {
        let flushed = self.writer.flush().await;
        flushed.map_err(|error| failed(&self.location, error))
    }

    /// Bytes in memory: the row group at hand, and what waits to be sent.
    pub fn memory_bytes(&self) -> usize {
        // Whole parts are sent as soon as they are there.
        let waiting = self.writer.bytes_written() % PART_BYTES;
        self.writer.memory_size() + waiting
    }

    /// Bytes of the row group at hand.
    pub fn row_group_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    /// Bytes that the file would have if it ended now, roughly.
    pub fn file_bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub async fn finish(mut self, target: &WriteTarget, partition: &Struct) -> Result<WrittenFile> {
        let footer = self.writer.finish().await;
        let footer = footer.map_err(|error| failed(&self.location, error))?;
        Ok(WrittenFile {
            split_offsets: split_offsets(&footer),
            partition: partition_bytes(target, partition)?,
            metrics: FileMetrics::new(&footer, &target.options.metrics, &self.nans),
            bytes: self.writer.bytes_written() as u64,
            rows: self.rows,
            location: self.location,
        })
    }

    /// Gives the file up.
    pub async fn abort(self) {
        let location = self.location;
        if let Err(error) = self.writer.into_inner().abort().await {
            tracing::warn!(location, %error, "the upload of a file that is not needed was not ended");
        }
    }
}

/// Where the row groups of a file begin, ascending (specification, "Data File Fields", 132).
pub fn split_offsets(footer: &ParquetMetaData) -> Vec<i64> {
    let groups = footer.row_groups().iter();
    let offsets = groups.filter_map(|group| {
        let first = group.columns().first()?;
        let dictionary = first.dictionary_page_offset().filter(|offset| *offset > 0);
        let data = first.data_page_offset();
        Some(dictionary.map_or(data, |offset| offset.min(data)))
    });
    let mut offsets: Vec<i64> = offsets.collect();
    offsets.sort_unstable();
    offsets
}

fn failed(location: &str, error: ParquetError) -> Error {
    if let Some(ours) = Error::in_chain(&error) {
        return ours;
    }
    Error::Unavailable {
        service: format!("writing {location}"),
        why: error.to_string(),
    }
}

/// A data file that is complete, as it is told of between processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Where it is, as the table spells it.
    pub location: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Where its row groups begin.
    pub split_offsets: Vec<i64>,
    /// The values of its partition, as binary single values.
    partition: Vec<Option<Vec<u8>>>,
    /// What is known of its columns.
    pub metrics: FileMetrics,
}

fn partition_types(target: &WriteTarget) -> Result<Vec<PrimitiveType>> {
    let fields = target.partition_type.fields().iter();
    let types = fields.map(|field| match field.field_type.as_ref() {
        Type::Primitive(primitive) => Ok(primitive.clone()),
        _ => Err(Error::Internal(
            "a partition that is no single value".to_owned(),
        )),
    });
    types.collect()
}

fn partition_bytes(target: &WriteTarget, partition: &Struct) -> Result<Vec<Option<Vec<u8>>>> {
    let types = partition_types(target)?;
    let values = partition.iter().zip(types).map(|(value, ty)| match value {
        Some(Literal::Primitive(value)) => literal_bytes(value, &ty).map(Some),
        _ => Ok(None),
    });
    values.collect()
}

/// The binary single value of a literal (Iceberg specification, appendix D).
fn literal_bytes(value: &PrimitiveLiteral, ty: &PrimitiveType) -> Result<Vec<u8>> {
    use PrimitiveLiteral as L;
    let bound = match value {
        L::Boolean(value) => Extreme::Whole(i128::from(*value)),
        L::Int(value) => Extreme::Whole(i128::from(*value)),
        L::Long(value) => Extreme::Whole(i128::from(*value)),
        L::Int128(value) => Extreme::Whole(*value),
        L::Float(value) => return Ok(value.to_le_bytes().to_vec()),
        L::Double(value) => return Ok(value.to_le_bytes().to_vec()),
        L::String(value) => Extreme::Bytes(value.as_bytes().to_vec()),
        L::Binary(value) => Extreme::Bytes(value.clone()),
        L::UInt128(value) => Extreme::Bytes(value.to_be_bytes().to_vec()),
        L::AboveMax | L::BelowMin => Extreme::Bytes(vec![]),
    };
    let bytes = encoded(bound, ty, None, false);
    bytes.ok_or_else(|| Error::Internal(format!("a partition's value is no {ty}")))
}

impl WrittenFile {
    /// The file as a manifest has it.
    ///
    /// # Errors
    /// [`Error::Internal`] when it was not written for this table.
    pub fn into_data_file(self, target: &WriteTarget) -> Result<DataFile> {
        let internal =
            |error: &dyn std::fmt::Display| Error::Internal(format!("a written file: {error}"));
        let datum = |bytes: &[u8], ty: &PrimitiveType| {
            Datum::try_from_bytes(bytes, ty.clone()).map_err(|error| internal(&error))
        };
        let types = partition_types(target)?;
        if types.len() != self.partition.len() {
            return Err(internal(&"its partition is another table's"));
        }
        let values = self.partition.iter().zip(&types).map(|(value, ty)| {
            let value = value.as_ref().map(|bytes| datum(bytes, ty)).transpose()?;
            Ok(value.map(Literal::from))
        });
        let partition: Vec<Option<Literal>> = values.collect::<Result<_>>()?;
        let bounds = |of: &HashMap<i32, Vec<u8>>| {
            let bounds = of.iter().map(|(id, bytes)| {
                let field = target.schema.field_by_id(*id);
                let ty = field.and_then(|field| field.field_type.as_primitive_type());
                let ty = ty.ok_or_else(|| internal(&"it has a column that the table has not"))?;
                Ok((*id, datum(bytes, ty)?))
            });
            bounds.collect::<Result<HashMap<_, _>>>()
        };
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::Data)
            .file_path(self.location)
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::from_iter(partition))
            .partition_spec_id(target.spec.spec_id())
            .record_count(self.rows)
            .file_size_in_bytes(self.bytes)
            .lower_bounds(bounds(&self.metrics.lower)?)
            .upper_bounds(bounds(&self.metrics.upper)?)
            .column_sizes(self.metrics.sizes)
            .value_counts(self.metrics.values)
            .null_value_counts(self.metrics.nulls)
            .nan_value_counts(self.metrics.nans)
            .split_offsets(Some(self.split_offsets));
        if !target.sort_order.is_unsorted() {
            let id = i32::try_from(target.sort_order.order_id);
            builder.sort_order_id(id.map_err(|error| internal(&error))?);
        }
        builder.build().map_err(|error| internal(&error))
    }
}
