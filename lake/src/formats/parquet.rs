//! Parquet files: one row group after the other.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::schema::types::SchemaDescriptor;

use super::{RowReader, Source, chosen, store_error};
use crate::scan::check;

/// Bytes read from the end of a file at first: the footers of most files fit.
const FOOTER_READ_BYTES: usize = 64 * 1024;

/// Opens a file; see [`super::open`].
pub(super) async fn open(
    source: &Source,
    range: Option<Range<u64>>,
    batch_size: usize,
    columns: impl FnOnce(&Schema) -> Vec<usize>,
) -> Result<RowReader> {
    let footer = Arc::new(load(source, range.as_ref()).await?);
    let metadata = arrow_metadata(Arc::clone(&footer))?;
    let columns = chosen(source, metadata.schema(), columns)?;
    let schema: SchemaRef = Arc::new(metadata.schema().project(&columns)?);
    let mask = ProjectionMask::roots(metadata.parquet_schema(), columns);

    let groups = groups_in(&footer, range.as_ref());
    let reader = object_reader(source);
    // A stream for each row group: its position is known, whatever the order of the groups and
    // however the reader forms batches.
    let batches = stream::iter(groups)
        .map(Ok)
        .and_then(move |(group, start)| {
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(
                reader.clone(),
                metadata.clone(),
            );
            let rows = builder
                .with_row_groups(vec![group])
                .with_projection(mask.clone())
                .with_batch_size(batch_size)
                .build();
            async move {
                let mut next = start;
                let rows = rows?.map_err(DataFusionError::from).map_ok(move |batch| {
                    let start = next;
                    next += batch.num_rows() as u64;
                    (start, batch)
                });
                Ok::<_, DataFusionError>(rows)
            }
        });
    Ok(RowReader {
        schema,
        batches: batches.try_flatten().boxed(),
    })
}

fn object_reader(source: &Source) -> ParquetObjectReader {
    ParquetObjectReader::new(Arc::clone(&source.store), source.path.clone())
}

async fn load(source: &Source, range: Option<&Range<u64>>) -> Result<ParquetMetaData> {
    let error = match load_sized(source, source.size_bytes).await {
        Ok(footer) => return Ok(footer),
        Err(error) => error,
    };
    // Some writers put a wrong file size into the manifest. Ranges were cut by the wrong size, and
    // would miss row groups.
    let actual = match source.store.head(&source.path).await {
        Ok(actual) if actual.size != source.size_bytes => actual.size,
        Ok(_) => return Err(error.into()),
        Err(error) => return Err(store_error(source, error)),
    };
    if range.is_some() {
        return Err(ParquetError::General(format!(
            "it has {actual} bytes, but the manifest says {}",
            source.size_bytes
        ))
        .into());
    }
    Ok(load_sized(source, actual).await?)
}

async fn load_sized(source: &Source, size: u64) -> Result<ParquetMetaData, ParquetError> {
    let mut reader = object_reader(source).with_file_size(size);
    let footer = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Skip)
        .with_prefetch_hint(Some(FOOTER_READ_BYTES))
        .load_and_finish(&mut reader, size)
        .await?;
    check(&footer, size)?;
    Ok(footer)
}

/// The row groups that belong to a range, and the position of the first row of each.
fn groups_in(footer: &ParquetMetaData, range: Option<&Range<u64>>) -> Vec<(usize, u64)> {
    let mut start = 0_u64;
    let mut groups = Vec::new();
    for (number, group) in footer.row_groups().iter().enumerate() {
        if range.is_none_or(|range| range.contains(&first_page(group))) {
            groups.push((number, start));
        }
        start = start.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
    }
    groups
}

/// Where a row group begins, as DataFusion sees it when it divides a file.
fn first_page(group: &RowGroupMetaData) -> u64 {
    let offset = group.columns().first().map_or(0, |column| {
        column
            .dictionary_page_offset()
            .unwrap_or_else(|| column.data_page_offset())
    });
    u64::try_from(offset).unwrap_or(0)
}

/// The Arrow schema of the Parquet schema alone: the one that some writers embed may lack field
/// ids, and asks for types that would have to be converted back.
fn arrow_metadata(footer: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(&footer), options.clone())?;
    let Some(coerced) = int96_as_micros(metadata.schema(), metadata.parquet_schema()) else {
        return Ok(metadata);
    };
    let options = options.with_schema(Arc::new(coerced));
    Ok(ArrowReaderMetadata::try_new(footer, options)?)
}

/// The schema with INT96 timestamps, those of old Spark and Hive files, in microseconds: as
/// nanoseconds they would end in the year 2262. `None` when there are none.
///
/// DataFusion's function for this loses the field ids of nested columns.
fn int96_as_micros(schema: &Schema, parquet: &SchemaDescriptor) -> Option<Schema> {
    let leaves = parquet.columns();
    if !leaves
        .iter()
        .any(|leaf| leaf.physical_type() == PhysicalType::INT96)
    {
        return None;
    }
    let mut leaves = leaves.iter().map(|leaf| leaf.physical_type());
    let fields = coerced(schema.fields(), &mut leaves);
    Some(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The leaves of both schemas come in the same order.
fn coerced(fields: &Fields, leaves: &mut impl Iterator<Item = PhysicalType>) -> Fields {
    fields
        .iter()
        .map(|field| coerced_field(field, leaves))
        .collect()
}

fn coerced_field(field: &FieldRef, leaves: &mut impl Iterator<Item = PhysicalType>) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(children) => DataType::Struct(coerced(children, leaves)),
        DataType::List(element) => DataType::List(coerced_field(element, leaves)),
        DataType::Map(entries, sorted) => DataType::Map(coerced_field(entries, leaves), *sorted),
        other => match leaves.next() {
            Some(PhysicalType::INT96) => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => other.clone(),
        },
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}
