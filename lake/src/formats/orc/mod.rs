//! ORC files: stripe by stripe.
//!
//! - `proto`: the messages of the format.
//! - `tail`: the end of the file, and what it says.
//! - `schema`: ORC types, and the Arrow fields they become.
//! - `stream`, `rle`: bytes, and the numbers in them.
//! - `decode`, `timestamp`: values into Arrow arrays.
//!
//! The decoder is our own. The `orc-rust` crate allocates what lengths in the file say, so that a
//! flipped bit ends the process, takes columns whose NULLs it cannot read for columns without, and
//! does not show the attributes that hold field ids.

mod decode;
mod proto;
mod rle;
mod schema;
mod stream;
mod tail;
mod timestamp;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion::error::Result;
use futures::{StreamExt, stream as streams};
use object_store::ObjectStoreExt;
use prost::Message;

use self::decode::{Column, Streams};
use self::proto::{StripeFooter, StripeInformation, stream as stream_kind};
use self::rle::BitRuns;
use self::schema::OrcField;
use self::stream::ByteStream;
use self::tail::{MAX_FOOTER_BYTES, Tail};
use self::timestamp::Zone;
use super::{
    MAX_BYTES, RowReader, Rows, Source, chosen, corrupt, reads_whole, store_error, unsupported,
};

/// Opens a file; see [`super::open`].
pub(super) async fn open(
    source: &Source,
    range: Option<Range<u64>>,
    batch_size: usize,
    columns: impl FnOnce(&Schema) -> Vec<usize>,
) -> Result<RowReader> {
    let tail = tail::load(source).await?;
    let fields = schema::parse(&tail.footer.types).map_err(|why| corrupt(source, why))?;
    let full = Schema::new(fields.iter().map(OrcField::arrow).collect::<Vec<_>>());
    let wanted = chosen(source, &full, columns)?;
    let schema: SchemaRef = Arc::new(full.project(&wanted)?);
    let fields: Vec<OrcField> = wanted
        .iter()
        .filter_map(|index| fields.get(*index).cloned())
        .collect();
    if let Some((column, why)) = fields.iter().find_map(OrcField::unreadable) {
        return Err(unsupported(source, format!("column {column}"), why));
    }
    if !reads_whole(range.as_ref()) {
        return Ok(RowReader {
            schema,
            batches: streams::empty().boxed(),
        });
    }
    let reader = Reader {
        source: source.clone(),
        stripes: tail.footer.stripes.clone().into_iter(),
        tail,
        fields,
        schema: Arc::clone(&schema),
        stripe: None,
        position: 0,
        batch_size,
    };
    let batches = streams::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|rows| (rows, reader)))
    });
    Ok(RowReader {
        schema,
        batches: batches.boxed(),
    })
}

struct Reader {
    source: Source,
    tail: Tail,
    stripes: std::vec::IntoIter<StripeInformation>,
    /// The columns that are read.
    fields: Vec<OrcField>,
    schema: SchemaRef,
    stripe: Option<Stripe>,
    /// Position of the next row.
    position: u64,
    batch_size: usize,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Rows>> {
        loop {
            if let Some(stripe) = self.stripe.as_mut().filter(|stripe| stripe.rows_left > 0) {
                let count = usize::try_from(stripe.rows_left)
                    .map_or(self.batch_size, |left| left.min(self.batch_size));
                let columns = stripe
                    .read(&self.fields, count)
                    .map_err(|why| corrupt(&self.source, why))?;
                let options = RecordBatchOptions::new().with_row_count(Some(count));
                let schema = Arc::clone(&self.schema);
                let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
                let start = self.position;
                self.position = start.saturating_add(count as u64);
                return Ok(Some((start, batch)));
            }
            match self.stripes.next() {
                None => return Ok(None),
                Some(stripe) => self.stripe = Some(self.load(&stripe).await?),
            }
        }
    }

    /// Reads a stripe's footer and the streams of the columns.
    async fn load(&self, stripe: &StripeInformation) -> Result<Stripe> {
        let source = &self.source;
        let broken = |why: String| corrupt(source, why);
        let (data, footer) = bounds(stripe, self.tail.size_bytes)
            .ok_or_else(|| broken("a stripe lies outside the file".to_string()))?;
        let footer = source
            .store
            .get_range(&source.path, footer)
            .await
            .map_err(|error| store_error(source, error))?;
        let footer = ByteStream::new(footer, self.tail.compression)
            .read_all(MAX_FOOTER_BYTES)
            .map_err(broken)?;
        let footer = StripeFooter::decode(footer.as_slice())
            .map_err(|error| broken(format!("a stripe's footer is broken: {error}")))?;
        let wanted = wanted_streams(&self.fields, &footer, data).map_err(broken)?;
        // Stores refuse to read nothing.
        let (wanted, empty): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(_, range)| !range.is_empty());
        let (keys, ranges): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if total > MAX_BYTES {
            let why = format!(
                "a stripe has {total} bytes in the columns that are read, and stripes are read up \
                 to {MAX_BYTES} bytes: rewrite the file with smaller ones"
            );
            return Err(unsupported(source, "the file".to_string(), why));
        }
        let bytes = source
            .store
            .get_ranges(&source.path, &ranges)
            .await
            .map_err(|error| store_error(source, error))?;
        let zone = footer.writer_timezone.as_str();
        let zone = Zone::parse(zone).ok_or_else(|| format!("time zone {zone} is not known"));
        let mut streams = Streams {
            bytes: keys
                .into_iter()
                .zip(bytes)
                .chain(empty.into_iter().map(|(key, _)| (key, Bytes::new())))
                .collect(),
            compression: self.tail.compression,
            encodings: footer.columns,
            zone,
        };
        Stripe::new(&self.fields, stripe.number_of_rows, &mut streams).map_err(|(column, why)| {
            match &streams.zone {
                Err(zone) if *zone == why => unsupported(source, format!("column {column}"), why),
                _ => broken(format!("column {column}: {why}")),
            }
        })
    }
}

/// Where the data of a stripe lies, with its indexes, and where its footer does.
fn bounds(stripe: &StripeInformation, size_bytes: u64) -> Option<(Range<u64>, Range<u64>)> {
    let length = stripe.index_length.checked_add(stripe.data_length)?;
    let end = stripe.offset.checked_add(length)?;
    let footer_end = end.checked_add(stripe.footer_length)?;
    (footer_end <= size_bytes && stripe.footer_length > 0)
        .then_some((stripe.offset..end, end..footer_end))
}

/// The streams to read, and where they lie: one after the other in the stripe's `data`.
fn wanted_streams(
    fields: &[OrcField],
    footer: &StripeFooter,
    data: Range<u64>,
) -> Result<HashMap<(usize, i32), Range<u64>>, String> {
    // The root has bits of its own, in theory.
    let mut indices = vec![0];
    for field in fields {
        field.indices(&mut indices);
    }
    indices.sort_unstable();
    let mut wanted = HashMap::new();
    let mut start = data.start;
    for stream in &footer.streams {
        let end = start.checked_add(stream.length);
        let end = end.filter(|end| *end <= data.end);
        let end = end.ok_or("a stream lies outside its stripe")?;
        let index = stream.column as usize;
        let has_values = matches!(
            stream.kind,
            stream_kind::PRESENT
                | stream_kind::DATA
                | stream_kind::LENGTH
                | stream_kind::DICTIONARY_DATA
                | stream_kind::SECONDARY
        );
        if has_values
            && indices.binary_search(&index).is_ok()
            && wanted.insert((index, stream.kind), start..end).is_some()
        {
            return Err("a stripe has a stream twice".to_string());
        }
        start = end;
    }
    Ok(wanted)
}

/// The rows of a stripe that are still to be read.
struct Stripe {
    root: Option<BitRuns>,
    columns: Vec<Column>,
    rows_left: u64,
}

impl Stripe {
    /// # Errors
    /// The name of a column, and a sentence saying what is wrong with it.
    fn new(
        fields: &[OrcField],
        rows: u64,
        streams: &mut Streams,
    ) -> Result<Self, (String, String)> {
        let columns: Result<_, _> = fields
            .iter()
            .map(|field| Column::new(field, streams).map_err(|why| (field.name.clone(), why)))
            .collect();
        Ok(Self {
            root: streams.present(0),
            columns: columns?,
            rows_left: rows,
        })
    }

    fn read(&mut self, fields: &[OrcField], count: usize) -> Result<Vec<ArrayRef>, String> {
        if let Some(root) = &mut self.root
            && root.read(count)?.contains(&false)
        {
            return Err("a row is NULL as a whole".to_string());
        }
        self.rows_left = self.rows_left.saturating_sub(count as u64);
        self.columns
            .iter_mut()
            .zip(fields)
            .map(|(column, field)| {
                let array = column.read(count, None);
                array.map_err(|why| format!("column {}: {why}", field.name))
            })
            .collect()
    }
}
