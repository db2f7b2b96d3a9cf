//! Avro files: block by block, row by row.
//!
//! - `container`: the file around the rows (header, blocks, checks).
//! - `schema`: Avro types, and the Arrow fields they become.
//! - `decode`: values into Arrow arrays.
//!
//! The decoder is our own. The `arrow-avro` crate takes a file that ends in the middle of a block
//! for one that ends there, does not look at the marks between blocks, and drops field ids: a cut
//! delete file would bring deleted rows back.

mod container;
mod decode;
mod schema;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion::error::Result;
use futures::{StreamExt, stream};
use object_store::ObjectStoreExt;

use self::container::{Block, Blocks, Header};
use self::decode::{Column, Cursor, skip};
use self::schema::{AvroField, unreadable};
use super::{
    MAX_BYTES, RowReader, Rows, Source, chosen, corrupt, reads_whole, store_error, unsupported,
};

/// Bytes of a file that are read at first when only its header is wanted.
const HEADER_READ_BYTES: u64 = 64 * 1024;

/// A batch is cut short when its rows took this many bytes of the file, decompressed.
const BATCH_BYTES: usize = 8 << 20;

/// Opens a file; see [`super::open`].
pub(super) async fn open(
    source: &Source,
    range: Option<Range<u64>>,
    batch_size: usize,
    columns: impl FnOnce(&Schema) -> Vec<usize>,
) -> Result<RowReader> {
    let whole = reads_whole(range.as_ref());
    let (file, header) = if whole {
        let file = load(source).await?;
        let header = Header::parse(&file).map_err(|why| corrupt(source, why))?;
        (file, header)
    } else {
        (Bytes::new(), load_header(source).await?)
    };
    let fields = schema::parse(&header.schema)
        .map_err(|why| corrupt(source, format!("its Avro schema is broken: {why}")))?;
    let full = Schema::new(fields.iter().map(AvroField::arrow).collect::<Vec<_>>());
    let wanted = chosen(source, &full, columns)?;
    for index in &wanted {
        if let Some((column, why)) = fields.get(*index).and_then(unreadable) {
            return Err(unsupported(source, format!("column {column}"), why));
        }
    }
    let schema: SchemaRef = Arc::new(full.project(&wanted)?);
    if !whole {
        return Ok(RowReader {
            schema,
            batches: stream::empty().boxed(),
        });
    }
    let blocks = Blocks::new(file, &header).map_err(|codec| {
        let why = format!("it is compressed with {codec}, which is not supported");
        unsupported(source, "the file".to_string(), why)
    })?;
    let reader = Reader {
        rows: RowDecoder::new(&fields, &wanted).map_err(|why| corrupt(source, why))?,
        schema: Arc::clone(&schema),
        blocks,
        block: None,
        position: 0,
        record_count: source.record_count,
        batch_size,
    };
    let source = source.clone();
    let batches = stream::try_unfold(reader, move |mut reader| {
        let next = reader.next().map_err(|why| corrupt(&source, why));
        async move { Ok(next?.map(|rows| (rows, reader))) }
    });
    Ok(RowReader {
        schema,
        batches: batches.boxed(),
    })
}

async fn load(source: &Source) -> Result<Bytes> {
    let found = source
        .store
        .get(&source.path)
        .await
        .map_err(|error| store_error(source, error))?;
    if found.meta.size > MAX_BYTES {
        let why = format!(
            "it has {} bytes, and Avro files are read up to {MAX_BYTES} bytes: rewrite it as \
             smaller files",
            found.meta.size
        );
        return Err(unsupported(source, "the file".to_string(), why));
    }
    found
        .bytes()
        .await
        .map_err(|error| store_error(source, error))
}

async fn load_header(source: &Source) -> Result<Header> {
    let start = source
        .store
        .get_range(
            &source.path,
            0..source.size_bytes.clamp(1, HEADER_READ_BYTES),
        )
        .await
        .map_err(|error| store_error(source, error))?;
    if let Ok(header) = Header::parse(&start) {
        return Ok(header);
    }
    // Perhaps only longer than expected.
    Header::parse(&load(source).await?).map_err(|why| corrupt(source, why))
}

struct Reader {
    rows: RowDecoder,
    schema: SchemaRef,
    blocks: Blocks,
    /// The block being read, and how far.
    block: Option<(Block, usize)>,
    /// Position of the next row.
    position: u64,
    /// Rows that the file has to have, where that is known.
    record_count: Option<u64>,
    batch_size: usize,
}

impl Reader {
    fn next(&mut self) -> Result<Option<Rows>, String> {
        let start = self.position;
        let mut count = 0;
        let mut bytes = 0;
        while count < self.batch_size && bytes < BATCH_BYTES {
            let Some((mut block, at)) = self.block.take() else {
                match self.blocks.next()? {
                    None => break,
                    next => self.block = next.map(|block| (block, 0)),
                }
                continue;
            };
            let rest = block.data.get(at..).unwrap_or_default();
            let mut cursor = Cursor::new(rest);
            while block.rows > 0 && count < self.batch_size && bytes + cursor.at() < BATCH_BYTES {
                self.rows.read(&mut cursor)?;
                block.rows -= 1;
                count += 1;
            }
            bytes += cursor.at();
            let at = at + cursor.at();
            if block.rows > 0 {
                self.block = Some((block, at));
            } else if at != block.data.len() {
                return Err("a block holds more than its rows".to_string());
            }
        }
        if count == 0 {
            return match self.record_count {
                Some(expected) if expected != self.position => Err(format!(
                    "it has {} rows, and the manifest says {expected}",
                    self.position
                )),
                _ => Ok(None),
            };
        }
        self.position = start.saturating_add(count as u64);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let columns = self.rows.finish()?;
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| error.to_string())?;
        Ok(Some((start, batch)))
    }
}

/// Reads whole rows: the values of the columns that are wanted, past all others.
struct RowDecoder {
    fields: Vec<(AvroField, Option<Column>)>,
}

impl RowDecoder {
    /// `wanted` are sorted indices of `fields`.
    fn new(fields: &[AvroField], wanted: &[usize]) -> Result<Self, String> {
        let fields: Result<Vec<_>, String> = fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let column = wanted
                    .binary_search(&index)
                    .is_ok()
                    .then(|| Column::new(&field.avro_type))
                    .transpose()?;
                Ok((field.clone(), column))
            })
            .collect();
        let fields = fields?;
        // Any number of them would fit in no bytes at all.
        if fields.iter().all(|(field, _)| field.avro_type.is_empty()) {
            return Err("its rows have no values".to_string());
        }
        Ok(Self { fields })
    }

    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), String> {
        for (field, column) in &mut self.fields {
            match column {
                Some(column) => column.read(cursor),
                None => skip(&field.avro_type, cursor),
            }
            .map_err(|why| format!("column {}: {why}", field.name))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<arrow::array::ArrayRef>, String> {
        self.fields
            .iter_mut()
            .filter_map(|(field, column)| {
                let array = column.as_mut()?.finish(None);
                Some(array.map_err(|why| format!("column {}: {why}", field.name)))
            })
            .collect()
    }
}
