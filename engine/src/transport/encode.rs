//! Record batches into Flight messages of bounded size.
//!
//! A message may have at most [`MAX_MESSAGE_BYTES`], so batches are split: towards
//! [`TARGET_BATCH_BYTES`] by estimate, and further where the estimate was wrong. Batches often
//! refer to far more than they hold, because filters and joins share buffers; what they do not
//! hold is left out.

use std::sync::Arc;

use arrow_flight::FlightData;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_select::dictionary::garbage_collect_any_dictionary;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, GenericListArray, MapArray, OffsetSizeTrait,
    RecordBatch, RecordBatchOptions, StringViewArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::arrow::error::ArrowError;
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::{MAX_MESSAGE_BYTES, TARGET_BATCH_BYTES};
use prost::Message;

use crate::transport::error::wire_error;

/// What a message holds besides the encoded batch, at most, in bytes.
const ENVELOPE_BYTES: usize = 4 * 1024;

/// Reads the value of `distributed.compression`.
pub fn compression(name: &str) -> Result<Option<CompressionType>, WireError> {
    match name {
        "lz4" => Ok(Some(CompressionType::LZ4_FRAME)),
        "zstd" => Ok(Some(CompressionType::ZSTD)),
        "none" => Ok(None),
        other => Err(WireError::new(
            Code::InvalidArgument,
            RetryVerdict::Never,
            format!("distributed.compression is {other:?}; it can be lz4, zstd or none"),
        )),
    }
}

/// Encodes the batches of one partition. Holds which dictionaries the receiver has.
pub struct BatchEncoder {
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
    context: CompressionContext,
    max_message_bytes: usize,
    target_bytes: usize,
}

impl BatchEncoder {
    /// An encoder with the given compression.
    pub fn new(compression: Option<CompressionType>) -> Result<Self, WireError> {
        let options = IpcWriteOptions::default().try_with_compression(compression);
        Ok(Self {
            generator: IpcDataGenerator {},
            dictionaries: DictionaryTracker::new(false),
            options: options.map_err(encoding_error)?,
            context: CompressionContext::default(),
            max_message_bytes: MAX_MESSAGE_BYTES - ENVELOPE_BYTES,
            target_bytes: TARGET_BATCH_BYTES,
        })
    }

    /// The same with other sizes, for tests: the largest message and the target, in bytes.
    #[must_use]
    pub fn with_sizes(mut self, max_message_bytes: usize, target_bytes: usize) -> Self {
        self.max_message_bytes = max_message_bytes;
        self.target_bytes = target_bytes;
        self
    }

    /// The first message of a partition.
    pub fn encode_schema(&mut self, schema: &SchemaRef) -> FlightData {
        self.generator
            .schema_to_bytes_with_dictionary_tracker(schema, &mut self.dictionaries, &self.options)
            .into()
    }

    /// The messages of one batch, dictionaries first.
    pub fn encode(&mut self, batch: RecordBatch) -> Result<Vec<FlightData>, WireError> {
        let batch = compacted(batch).map_err(encoding_error)?;
        let pieces = size_bytes(&batch).div_ceil(self.target_bytes.max(1)).max(1);
        let mut messages = Vec::with_capacity(pieces);
        if pieces == 1 {
            self.encode_piece(batch, &mut messages)?;
            return Ok(messages);
        }
        let rows = batch.num_rows();
        let rows_per_piece = rows.div_ceil(pieces).max(1);
        for start in (0..rows).step_by(rows_per_piece) {
            let piece = batch.slice(start, rows_per_piece.min(rows - start));
            self.encode_piece(compacted(piece).map_err(encoding_error)?, &mut messages)?;
        }
        Ok(messages)
    }

    fn encode_piece(
        &mut self,
        batch: RecordBatch,
        messages: &mut Vec<FlightData>,
    ) -> Result<(), WireError> {
        let (dictionaries, data) = self
            .generator
            .encode(
                &batch,
                &mut self.dictionaries,
                &self.options,
                &mut self.context,
            )
            .map_err(encoding_error)?;
        for dictionary in dictionaries {
            let message = FlightData::from(dictionary);
            if message.encoded_len() > self.max_message_bytes {
                return Err(self.too_large("a dictionary", message.encoded_len()));
            }
            messages.push(message);
        }
        let message = FlightData::from(data);
        if message.encoded_len() <= self.max_message_bytes {
            messages.push(message);
            return Ok(());
        }
        let rows = batch.num_rows();
        if rows <= 1 {
            return Err(self.too_large("a single row", message.encoded_len()));
        }
        drop(message);
        for (start, length) in [(0, rows / 2), (rows / 2, rows - rows / 2)] {
            let half = compacted(batch.slice(start, length)).map_err(encoding_error)?;
            self.encode_piece(half, messages)?;
        }
        Ok(())
    }

    fn too_large(&self, what: &str, bytes: usize) -> WireError {
        WireError::new(
            Code::ResourceExhausted,
            RetryVerdict::Never,
            format!(
                "{what} of {bytes} bytes does not fit into a message between nodes, which holds \
                 at most {} bytes; select less of it, for instance with substr()",
                self.max_message_bytes
            ),
        )
    }
}

fn encoding_error(error: ArrowError) -> WireError {
    wire_error(&error.into())
}

/// Bytes of what a batch holds, about.
fn size_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(array_bytes).sum()
}

fn array_bytes(array: &ArrayRef) -> usize {
    // Compacted views refer to nothing else, and this counts their views only.
    let views = view_bytes(array);
    views
        + array
            .to_data()
            .get_slice_memory_size()
            .unwrap_or_else(|_| array.get_array_memory_size())
}

fn view_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used(),
        DataType::Struct(_) => array.as_struct().columns().iter().map(view_bytes).sum(),
        DataType::List(_) => view_bytes(array.as_list::<i32>().values()),
        DataType::LargeList(_) => view_bytes(array.as_list::<i64>().values()),
        DataType::Map(..) => array
            .as_map()
            .entries()
            .columns()
            .iter()
            .map(view_bytes)
            .sum(),
        _ => 0,
    }
}

/// The batch without what it refers to but does not hold.
fn compacted(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let schema = batch.schema();
    let columns = batch.columns().iter().map(compacted_array);
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

fn compacted_array(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match array.data_type() {
        DataType::Utf8View => compacted_strings(array.as_string_view()),
        DataType::BinaryView => compacted_binaries(array.as_binary_view()),
        DataType::Dictionary(..) => return compacted_dictionary(array),
        DataType::Struct(fields) if !fields.is_empty() => {
            let array = array.as_struct();
            let columns = array.columns().iter().map(compacted_array);
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new(
                fields.clone(),
                columns,
                array.nulls().cloned(),
            )?)
        }
        DataType::List(field) if holds_views(field.data_type()) => {
            compacted_list(array.as_list::<i32>(), field)?
        }
        DataType::LargeList(field) if holds_views(field.data_type()) => {
            compacted_list(array.as_list::<i64>(), field)?
        }
        DataType::Map(field, ordered) if holds_views(field.data_type()) => {
            let array = array.as_map();
            let entries: ArrayRef = Arc::new(array.entries().clone());
            let (offsets, entries) = compacted_items(array.offsets(), &entries)?;
            let (entries, nulls) = (entries.as_struct().clone(), array.nulls().cloned());
            Arc::new(MapArray::try_new(
                field.clone(),
                offsets,
                entries,
                nulls,
                *ordered,
            )?)
        }
        _ => Arc::clone(array),
    })
}

fn compacted_list<O: OffsetSizeTrait>(
    array: &GenericListArray<O>,
    field: &FieldRef,
) -> Result<ArrayRef, ArrowError> {
    let (offsets, values) = compacted_items(array.offsets(), array.values())?;
    let nulls = array.nulls().cloned();
    Ok(Arc::new(GenericListArray::try_new(
        field.clone(),
        offsets,
        values,
        nulls,
    )?))
}

/// The items of lists without those of lists before and after, which a slice keeps.
fn compacted_items<O: OffsetSizeTrait>(
    offsets: &OffsetBuffer<O>,
    items: &ArrayRef,
) -> Result<(OffsetBuffer<O>, ArrayRef), ArrowError> {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return Ok((offsets.clone(), Arc::clone(items)));
    };
    let held = items.slice(first.as_usize(), last.as_usize() - first.as_usize());
    let shifted = offsets
        .iter()
        .map(|offset| *offset - *first)
        .collect::<Vec<_>>();
    Ok((OffsetBuffer::new(shifted.into()), compacted_array(&held)?))
}

fn holds_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|field| holds_views(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
            holds_views(field.data_type())
        }
        _ => false,
    }
}

/// Whether buffers are so much larger than what is used of them that copying that part is cheaper
/// than sending all.
fn worth_copying(used_bytes: usize, buffer_bytes: usize) -> bool {
    used_bytes < buffer_bytes - buffer_bytes / 8
}

fn compacted_strings(array: &StringViewArray) -> ArrayRef {
    let buffers = array.data_buffers().iter().map(|buffer| buffer.len()).sum();
    match worth_copying(array.total_buffer_bytes_used(), buffers) {
        true => Arc::new(array.gc()),
        false => Arc::new(array.clone()),
    }
}

fn compacted_binaries(array: &BinaryViewArray) -> ArrayRef {
    let buffers = array.data_buffers().iter().map(|buffer| buffer.len()).sum();
    match worth_copying(array.total_buffer_bytes_used(), buffers) {
        true => Arc::new(array.gc()),
        false => Arc::new(array.clone()),
    }
}

/// A dictionary that stays the same is sent once per partition, so it is left alone unless it is
/// larger than the rows that refer to it.
fn compacted_dictionary(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.as_any_dictionary_opt() {
        Some(dictionary) if dictionary.values().len() > dictionary.keys().len() => {
            garbage_collect_any_dictionary(dictionary)
        }
        _ => Ok(Arc::clone(array)),
    }
}
