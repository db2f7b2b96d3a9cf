//! Whole files in row order, whatever their format: Parquet, Avro or ORC.
//!
//! DataFusion's Parquet reader (see [`crate::scan`]) prunes and pushes down, but it knows one format
//! only and forgets where in the file a row stood. This module reads a file from its first row to
//! its last and says the position of each: for delete files, for data files that are not Parquet,
//! and wherever positions are asked for.
//!
//! Batches come in the file's own schema. Field ids are in the metadata of the Arrow fields at every
//! level, under [`PARQUET_FIELD_ID_META_KEY`], whichever way the format keeps them, so that
//! [`crate::scan::mapping`] finds columns by them.
//!
//! - `avro`, `orc`, `parquet`: one reader each.
//! - `decompress`: the block codecs that Avro and ORC share, with bounds on what comes out.

mod avro;
mod decompress;
mod orc;
mod parquet;

use std::collections::HashMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use ::parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use arrow::array::{Array, ArrayRef, RecordBatch, make_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use iceberg::spec::DataFileFormat;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::Error;
use crate::scan::{name_file, panicked};

/// Most bytes of a file, or of one part of it, that are held in memory at a time.
const MAX_BYTES: u64 = 1 << 30;

/// Structs, lists and maps may be nested this deep; decoding recurses.
const MAX_DEPTH: usize = 64;

/// Values are collected in buffers of at most this many values at first, however many the file
/// claims to have.
const MAX_PREALLOCATED: usize = 64 * 1024;

/// Rows of one file that follow each other: the position of the first in the whole file, counted
/// from 0, and the rows.
pub type Rows = (u64, RecordBatch);

/// A file being read in order.
pub struct RowReader {
    /// The columns that are read, in the order of the file, with field ids in their metadata.
    pub schema: SchemaRef,
    /// The rows, of [`Self::schema`]. Errors name the file; the stream ends after one.
    pub batches: BoxStream<'static, Result<Rows>>,
}

impl std::fmt::Debug for RowReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowReader")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// A file to read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it lies.
    pub store: Arc<dyn ObjectStore>,
    /// Its path in the store.
    pub path: Path,
    /// Its size as the manifest has it. Files that are read as a whole may have another.
    pub size_bytes: u64,
    /// Its format.
    pub format: DataFileFormat,
    /// Its rows as the manifest has them. An Avro file that was cut between two blocks looks whole,
    /// so it is checked against this. None where there is no manifest.
    pub record_count: Option<u64>,
}

/// For the `columns` of [`open`]: all of them.
pub fn all_columns(schema: &Schema) -> Vec<usize> {
    (0..schema.fields().len()).collect()
}

/// Opens a file.
///
/// `range` is a range of bytes: the rows of the Parquet row groups whose first page lies in it, as
/// DataFusion divides files. An Avro or ORC file is read by the range that starts at 0; all others
/// have no rows. Positions are those in the whole file in any case. `columns` is given the file's
/// full schema and returns the indices of the top-level columns to read; their order and
/// duplicates do not matter.
///
/// A column of the full schema whose type cannot be read has the type NULL there, and is an error
/// only when it is asked for.
///
/// # Errors
/// Every error names the file: [`Error::Corrupt`], [`Error::Unsupported`] and [`Error::Store`].
pub async fn open(
    source: &Source,
    range: Option<Range<u64>>,
    batch_size: usize,
    columns: impl FnOnce(&Schema) -> Vec<usize>,
) -> Result<RowReader> {
    let path: Arc<str> = source.path.as_ref().into();
    let batch_size = batch_size.max(1);
    // Panics of the decoders become errors, here and in the stream.
    let opened = AssertUnwindSafe(async {
        match source.format {
            DataFileFormat::Parquet => parquet::open(source, range, batch_size, columns).await,
            DataFileFormat::Avro => avro::open(source, range, batch_size, columns).await,
            DataFileFormat::Orc => orc::open(source, range, batch_size, columns).await,
            other => Err(unsupported(
                source,
                "the file".to_string(),
                format!("{other} files have no rows"),
            )),
        }
    })
    .catch_unwind()
    .await
    .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
    .map_err(|error| name_file(&path, error))?;
    let batches = AssertUnwindSafe(opened.batches)
        .catch_unwind()
        .map(move |batch| {
            batch
                .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
                .map_err(|error| name_file(&path, error))
        })
        .boxed();
    Ok(RowReader {
        schema: opened.schema,
        batches,
    })
}

/// Whether a range reads a file that is not divided.
fn reads_whole(range: Option<&Range<u64>>) -> bool {
    range.is_none_or(|range| range.start == 0)
}

/// The columns asked for: sorted, each once, and checked to exist.
fn chosen(
    source: &Source,
    schema: &Schema,
    columns: impl FnOnce(&Schema) -> Vec<usize>,
) -> Result<Vec<usize>> {
    let mut chosen = columns(schema);
    chosen.sort_unstable();
    chosen.dedup();
    match chosen.last() {
        Some(last) if *last >= schema.fields().len() => {
            Err(Error::Internal(format!("column {last} of {} does not exist", source.path)).into())
        }
        _ => Ok(chosen),
    }
}

fn corrupt(source: &Source, why: impl Into<String>) -> DataFusionError {
    Error::Corrupt {
        path: source.path.to_string(),
        why: why.into(),
    }
    .into()
}

fn unsupported(source: &Source, what: String, why: String) -> DataFusionError {
    Error::Unsupported {
        table: source.path.to_string(),
        what,
        why,
    }
    .into()
}

fn store_error(source: &Source, error: object_store::Error) -> DataFusionError {
    Error::store(source.path.to_string(), error).into()
}

/// The same values under another type of the same width.
fn retyped(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    let data = array.to_data().into_builder().data_type(data_type.clone());
    let data = data.build().map_err(|error| error.to_string())?;
    Ok(make_array(data))
}

/// A field with its Iceberg id, if it has one.
fn field_with_id(name: &str, data_type: DataType, nullable: bool, id: Option<i32>) -> Field {
    let field = Field::new(name, data_type, nullable);
    match id {
        None => field,
        Some(id) => field.with_metadata(HashMap::from([(
            PARQUET_FIELD_ID_META_KEY.to_string(),
            id.to_string(),
        )])),
    }
}
