//! Metrics of the columns of data files, collected column by column while entries are read.
//!
//! Metrics only save work, so ones that would take too much memory are left out: a garbled manifest
//! with a million columns, or one with a million files and a column that only one of them has.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, BinaryArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};

use super::avro::{Cursor, Fault, Read};
use super::schema::{Node, NodeId, Schema};

/// Bytes that the metrics of one manifest may take.
const BYTES_MAX: usize = 1 << 30;

/// Bytes of all bounds of one column and side, by the offsets of a binary array.
const BOUNDS_MAX: usize = i32::MAX as usize;

/// Bytes that a column takes before it has any value.
const COLUMN_BYTES: usize = 1024;

/// Metrics of one column over all files of a manifest. Arrays have one value per file, NULL where
/// the writer gave none.
#[derive(Clone, Debug)]
pub struct ColumnMetrics {
    /// Lower bounds, serialized as the column's type when the file was written (specification,
    /// appendix D); see [`super::bounds::bounds_array`].
    pub lower: BinaryArray,
    /// Upper bounds; may be longer than any value, since long texts are cut.
    pub upper: BinaryArray,
    /// NULLs in the column.
    pub null_counts: UInt64Array,
    /// Values in the column, NULL and NaN included.
    pub value_counts: UInt64Array,
    /// NaNs in the column.
    pub nan_counts: UInt64Array,
    /// Bytes the column takes in the file.
    pub sizes: UInt64Array,
}

impl ColumnMetrics {
    /// Bytes this takes in memory, for a cache's weight. Arrays without any value are shared among
    /// the columns of a manifest and count nothing.
    pub fn memory_bytes(&self) -> usize {
        let arrays: [&dyn Array; 6] = [
            &self.lower,
            &self.upper,
            &self.null_counts,
            &self.value_counts,
            &self.nan_counts,
            &self.sizes,
        ];
        let known = arrays.into_iter().filter(|a| a.null_count() < a.len());
        size_of::<Self>() + known.map(|a| a.get_buffer_memory_size()).sum::<usize>()
    }
}

/// A count that writers give for columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// See [`ColumnMetrics::sizes`].
    Sizes,
    /// See [`ColumnMetrics::value_counts`].
    Values,
    /// See [`ColumnMetrics::null_counts`].
    Nulls,
    /// See [`ColumnMetrics::nan_counts`].
    Nans,
}

/// A map of Iceberg, which Avro has as an array of records of a key and a value.
#[derive(Debug)]
pub(super) struct MapReader {
    items: NodeId,
    record: NodeId,
    fields: Vec<(Part, NodeId)>,
    /// Whether items are a number and a value of the wanted type, neither of them nullable.
    plain: bool,
}

fn numeric(node: &Node) -> bool {
    matches!(node, Node::Int(_) | Node::Long(_))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Key,
    Value,
    Other,
}

impl MapReader {
    /// Prepares to read the type `node`; `None` when it is no map of numbers.
    pub fn of_counts(schema: &Schema, node: NodeId) -> Option<Self> {
        Self::new(schema, node, numeric)
    }

    /// Prepares to read the type `node`; `None` when it is no map of bytes.
    pub fn of_bounds(schema: &Schema, node: NodeId) -> Option<Self> {
        Self::new(schema, node, |node| *node == Node::Bytes)
    }

    fn new(schema: &Schema, node: NodeId, plain_value: fn(&Node) -> bool) -> Option<Self> {
        let items = schema
            .items(node)
            .filter(|items| !schema.is_empty(*items))?;
        let (record, fields) = schema.record(items)?;
        let part = |name: &str| match name {
            "key" => Part::Key,
            "value" => Part::Value,
            _ => Part::Other,
        };
        let fields: Vec<_> = fields.iter().map(|f| (part(&f.name), f.node)).collect();
        let has = |part| fields.iter().filter(|(p, _)| *p == part).count() == 1;
        if !has(Part::Key) || !has(Part::Value) {
            return None;
        }
        let plain = items == record
            && matches!(*fields, [(Part::Key, key), (Part::Value, value)]
                if numeric(schema.node(key)) && plain_value(schema.node(value)));
        Some(Self {
            items,
            record,
            fields,
            plain,
        })
    }

    /// Whether this reads the branch of a union that was met.
    pub fn reads(&self, schema: &Schema, branch: NodeId) -> bool {
        schema.items(branch) == Some(self.items)
    }

    /// Gives every pair to `pair`, its value read by `plain` or, where it may be null, by `read`.
    /// Pairs that lack one of the two are passed over.
    fn read<'a, V>(
        &self,
        cursor: &mut Cursor<'a>,
        schema: &Schema,
        plain: impl Fn(&mut Cursor<'a>) -> Read<V>,
        read: impl Fn(&mut Cursor<'a>, NodeId) -> Read<Option<V>>,
        mut pair: impl FnMut(i32, V),
    ) -> Read<()> {
        const KEY: Fault = Fault::new("a column id has more than 32 bits");
        loop {
            let count = cursor.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                if self.plain {
                    let key = i32::try_from(cursor.number()?).map_err(|_| KEY)?;
                    pair(key, plain(cursor)?);
                    continue;
                }
                let item = cursor.branch(schema, self.items)?;
                if item != self.record {
                    cursor.skip(schema, item)?;
                    continue;
                }
                let (mut key, mut value) = (None, None);
                for (part, node) in &self.fields {
                    match part {
                        Part::Key => key = cursor.int(schema, *node)?,
                        Part::Value => value = read(cursor, *node)?,
                        Part::Other => cursor.skip(schema, *node)?,
                    }
                }
                if let (Some(key), Some(value)) = (key, value) {
                    pair(key, value);
                }
            }
        }
    }
}

/// Builds [`ColumnMetrics`].
#[derive(Debug, Default)]
pub(super) struct MetricsBuilder {
    columns: Vec<ColumnBuilder>,
    places: HashMap<i32, usize>,
    bytes: usize,
}

#[derive(Debug)]
struct ColumnBuilder {
    id: i32,
    counts: [CountBuilder; 4],
    bounds: [BoundBuilder; 2],
}

/// Counts by file, and [`NO_COUNT`] where there is none. Simpler than what Arrow has for building
/// arrays, since this is most of the work of reading a manifest.
#[derive(Debug, Default)]
struct CountBuilder {
    values: Vec<u64>,
}

/// No count: writers have signed ones.
const NO_COUNT: u64 = u64::MAX;

impl CountBuilder {
    /// NULL for all files of a column that has no counts.
    fn finish(mut self, rows: usize, none: &UInt64Array) -> UInt64Array {
        if self.values.is_empty() {
            return none.clone();
        }
        self.values.resize(rows, NO_COUNT);
        let known = self.values.iter().map(|value| *value != NO_COUNT);
        let known = NullBuffer::from_iter(known);
        self.values.shrink_to_fit();
        // The lengths are equal.
        UInt64Array::try_new(self.values.into(), Some(known)).unwrap_or_else(|_| none.clone())
    }
}

/// Bounds by file: their bytes, and their lengths, [`NO_BOUND`] where there is none.
#[derive(Debug, Default)]
struct BoundBuilder {
    lengths: Vec<i32>,
    bytes: Vec<u8>,
}

const NO_BOUND: i32 = -1;

impl BoundBuilder {
    fn finish(mut self, rows: usize, none: &BinaryArray) -> BinaryArray {
        if self.lengths.is_empty() {
            return none.clone();
        }
        self.lengths.resize(rows, NO_BOUND);
        let known = NullBuffer::from_iter(self.lengths.iter().map(|length| *length >= 0));
        let lengths = self.lengths.iter();
        let lengths = lengths.map(|length| usize::try_from(*length).unwrap_or(0));
        // At most BOUNDS_MAX in all.
        let offsets = OffsetBuffer::from_lengths(lengths);
        self.bytes.shrink_to_fit();
        BinaryArray::try_new(offsets, self.bytes.into(), Some(known))
            .unwrap_or_else(|_| none.clone())
    }
}

impl MetricsBuilder {
    /// Reads a map of counts of file `row`; negative ones are unknown.
    pub fn read_counts(
        &mut self,
        cursor: &mut Cursor<'_>,
        schema: &Schema,
        map: &MapReader,
        count: Count,
        row: usize,
    ) -> Read<()> {
        let mut hint = 0;
        map.read(
            cursor,
            schema,
            Cursor::number,
            |cursor, node| cursor.long(schema, node),
            |id, value| {
                if let (Ok(value), Some(place)) = (u64::try_from(value), self.place(id, hint)) {
                    hint = place + 1;
                    self.add_count(place, count, row, value);
                }
            },
        )
    }

    /// Reads a map of bounds of file `row`.
    pub fn read_bounds(
        &mut self,
        cursor: &mut Cursor<'_>,
        schema: &Schema,
        map: &MapReader,
        upper: bool,
        row: usize,
    ) -> Read<()> {
        let mut hint = 0;
        map.read(
            cursor,
            schema,
            Cursor::bytes,
            |cursor, node| cursor.binary(schema, node),
            |id, value| {
                if let Some(place) = self.place(id, hint) {
                    hint = place + 1;
                    self.add_bound(place, upper, row, value);
                }
            },
        )
    }

    /// The column of an id. Maps have their columns in the same order as a rule, so the one after
    /// the last is tried first.
    #[inline]
    fn place(&mut self, id: i32, hint: usize) -> Option<usize> {
        if self.columns.get(hint).is_some_and(|column| column.id == id) {
            return Some(hint);
        }
        if let Some(place) = self.places.get(&id) {
            return Some(*place);
        }
        if !self.spend(COLUMN_BYTES) {
            return None;
        }
        self.columns.push(ColumnBuilder {
            id,
            counts: Default::default(),
            bounds: Default::default(),
        });
        self.places.insert(id, self.columns.len() - 1);
        Some(self.columns.len() - 1)
    }

    fn spend(&mut self, bytes: usize) -> bool {
        let after = self.bytes.saturating_add(bytes);
        if after > BYTES_MAX {
            return false;
        }
        self.bytes = after;
        true
    }

    #[inline]
    fn add_count(&mut self, place: usize, count: Count, row: usize, value: u64) {
        let Some(column) = self.columns.get_mut(place) else {
            return;
        };
        let values = &mut column.counts[count as usize].values;
        let Some(gap) = row.checked_sub(values.len()) else {
            return;
        };
        let after = self
            .bytes
            .saturating_add((gap + 1).saturating_mul(size_of::<u64>()));
        if after > BYTES_MAX {
            return;
        }
        self.bytes = after;
        if gap > 0 {
            values.resize(row, NO_COUNT);
        }
        values.push(value);
    }

    #[inline]
    fn add_bound(&mut self, place: usize, upper: bool, row: usize, value: &[u8]) {
        let Some(column) = self.columns.get_mut(place) else {
            return;
        };
        let builder = &mut column.bounds[usize::from(upper)];
        let (Some(gap), Ok(length)) = (
            row.checked_sub(builder.lengths.len()),
            i32::try_from(value.len()),
        ) else {
            return;
        };
        let lengths = (gap + 1).saturating_mul(size_of::<i32>());
        let after = self
            .bytes
            .saturating_add(lengths)
            .saturating_add(value.len());
        if after > BYTES_MAX || builder.bytes.len() + value.len() > BOUNDS_MAX {
            return;
        }
        self.bytes = after;
        if gap > 0 {
            builder.lengths.resize(row, NO_BOUND);
        }
        builder.lengths.push(length);
        builder.bytes.extend_from_slice(value);
    }

    /// The metrics of `rows` files, by field id.
    pub fn finish(mut self, rows: usize) -> BTreeMap<i32, ColumnMetrics> {
        let no_counts = UInt64Array::new_null(rows);
        let no_bounds = BinaryArray::new_null(rows);
        let mut metrics = BTreeMap::new();
        for column in std::mem::take(&mut self.columns) {
            let id = column.id;
            let padding = column.padding_bytes(rows);
            if !self.spend(padding) {
                continue;
            }
            let [sizes, values, nulls, nans] =
                column.counts.map(|counts| counts.finish(rows, &no_counts));
            let [lower, upper] = column.bounds.map(|bounds| bounds.finish(rows, &no_bounds));
            let column_metrics = ColumnMetrics {
                lower,
                upper,
                null_counts: nulls,
                value_counts: values,
                nan_counts: nans,
                sizes,
            };
            metrics.insert(id, column_metrics);
        }
        metrics
    }
}

impl ColumnBuilder {
    /// Bytes that are still needed for a value for each of `rows` files.
    fn padding_bytes(&self, rows: usize) -> usize {
        let counts = self.counts.iter().map(|counts| counts.values.len());
        let counts = counts.map(|length| (length, size_of::<u64>()));
        let bounds = self.bounds.iter().map(|bounds| bounds.lengths.len());
        let bounds = bounds.map(|length| (length, size_of::<i32>()));
        counts
            .chain(bounds)
            .filter(|(length, _)| *length > 0)
            .map(|(length, width)| rows.saturating_sub(length).saturating_mul(width))
            .fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_that_files_lack_are_padded() {
        let mut builder = MetricsBuilder::default();
        for (row, id, value) in [(0, 1, 10), (2, 1, 30), (2, 2, 7), (2, 2, 8)] {
            let place = builder.place(id, 0).unwrap();
            builder.add_count(place, Count::Nulls, row, value);
            builder.add_bound(place, true, row, &value.to_le_bytes());
        }
        let metrics = builder.finish(4);
        let counts = |id: i32| metrics[&id].null_counts.iter().collect::<Vec<_>>();
        assert_eq!(counts(1), [Some(10), None, Some(30), None]);
        // What comes twice counts once.
        assert_eq!(counts(2), [None, None, Some(7), None]);
        assert_eq!(metrics[&2].upper.value(2), 7_u64.to_le_bytes());
        assert_eq!(metrics[&1].lower.null_count(), 4);
        assert_eq!(metrics[&1].sizes.len(), 4);
    }

    #[test]
    fn what_takes_too_much_memory_is_left_out() {
        let mut builder = MetricsBuilder::default();
        let place = builder.place(1, 0).unwrap();
        builder.add_count(place, Count::Sizes, BYTES_MAX, 1);
        assert_eq!(builder.bytes, COLUMN_BYTES);
        builder.add_count(place, Count::Sizes, 0, 1);
        let metrics = builder.finish(2);
        assert_eq!(metrics[&1].sizes.value(0), 1);
        let mut builder = MetricsBuilder::default();
        let found = (0..i32::MAX).find(|id| builder.place(*id, 0).is_none());
        assert!(found.unwrap() <= 1 << 20);
    }
}
