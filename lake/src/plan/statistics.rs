//! Statistics for the optimizer, from the manifests: of single files, and of all files of a scan.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, UInt64Array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, nullif, take};
use arrow::datatypes::DataType;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use iceberg::spec::Schema;

use super::bounds::bound_array;
use super::metrics::{column_type, entry_bounds};
use crate::manifest::DecodedManifest;
use crate::manifest::bounds::Side;
use crate::scan::schema::TableColumns;

/// Factor between the size of a text column on disk and in memory, where nothing better is known.
const TEXT_EXPANSION: u64 = 3;

/// Makes the statistics of single files for the given columns (all others are unknown).
///
/// Bounds are marked exact although they may be wider than the values: for a single file DataFusion
/// uses them only to rule the file out, and ignores inexact ones. They never reach an aggregate,
/// which looks at the statistics of the whole scan.
#[derive(Debug)]
pub struct FileStatistics<'a> {
    columns: &'a TableColumns,
    schema: &'a Schema,
    wanted: &'a [usize],
    /// The manifest asked for last, and what it says of each wanted column: files of one manifest
    /// come one after another.
    last: Option<(Arc<DecodedManifest>, Vec<ColumnRanges>)>,
}

impl<'a> FileStatistics<'a> {
    /// Prepares for the columns at the places `wanted`; `schema` is the one `columns` stand for.
    pub fn new(columns: &'a TableColumns, schema: &'a Schema, wanted: &'a [usize]) -> Self {
        Self {
            columns,
            schema,
            wanted,
            last: None,
        }
    }

    /// Statistics of one file.
    pub fn of(&mut self, manifest: &Arc<DecodedManifest>, entry: usize) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.columns.arrow);
        let Some(file) = manifest.entries.get(entry) else {
            return statistics;
        };
        statistics.num_rows = exact(Some(file.record_count));
        for (&index, ranges) in self.wanted.iter().zip(self.ranges(manifest)) {
            if let Some(slot) = statistics.column_statistics.get_mut(index) {
                slot.min_value = exact_value(&ranges.lower, entry);
                slot.max_value = exact_value(&ranges.upper, entry);
                slot.null_count = exact(ranges.nulls.as_ref().and_then(|n| count(n, entry)));
            }
        }
        statistics
    }

    fn ranges(&mut self, manifest: &Arc<DecodedManifest>) -> &[ColumnRanges] {
        let known = self
            .last
            .take()
            .filter(|(last, _)| Arc::ptr_eq(last, manifest));
        let (_, ranges) = self.last.insert(known.unwrap_or_else(|| {
            let wanted = self.wanted.iter();
            let ranges = wanted.map(|i| ColumnRanges::of(manifest, self.columns, self.schema, *i));
            (Arc::clone(manifest), ranges.collect())
        }));
        ranges
    }
}

fn exact_value(array: &Option<ArrayRef>, row: usize) -> Precision<ScalarValue> {
    let value = array
        .as_ref()
        .and_then(|array| ScalarValue::try_from_array(array, row).ok());
    value
        .filter(|value| !value.is_null())
        .map_or(Precision::Absent, Precision::Exact)
}

/// What a manifest says of one column, file by file.
#[derive(Debug, Default)]
struct ColumnRanges {
    lower: Option<ArrayRef>,
    upper: Option<ArrayRef>,
    nulls: Option<UInt64Array>,
    sizes: Option<UInt64Array>,
    /// Whether a bound came from a partition, which may be wider than the values.
    widened: bool,
}

impl ColumnRanges {
    fn of(
        manifest: &DecodedManifest,
        columns: &TableColumns,
        schema: &Schema,
        index: usize,
    ) -> Self {
        let mut ranges = Self::default();
        let Some(field) = columns.fields.get(index) else {
            return ranges;
        };
        let data_type = columns.arrow.field(index).data_type();
        let metrics = manifest.columns.get(&field.id);
        if let Some(metrics) = metrics.filter(|_| !columns.unmapped.contains(&field.id)) {
            ranges.nulls = Some(metrics.null_counts.clone());
            ranges.sizes = Some(metrics.sizes.clone());
            if let Some(ty) = column_type(schema, field.id) {
                ranges.lower = entry_bounds(metrics, ty, data_type, Side::Lower);
                ranges.upper = entry_bounds(metrics, ty, data_type, Side::Upper);
            }
        }
        let known = |array: &Option<ArrayRef>| {
            array
                .as_ref()
                .map_or(0, |array| array.len() - array.null_count())
        };
        let before = known(&ranges.lower) + known(&ranges.upper);
        for partition in &manifest.partitions {
            if partition.source_id == field.id {
                let bound =
                    |array: &Option<ArrayRef>, side| bound_array(array.as_ref()?, data_type, side);
                let (lower, upper) = (&partition.lower, &partition.upper);
                ranges.lower = first_known(ranges.lower, || bound(lower, Side::Lower));
                ranges.upper = first_known(ranges.upper, || bound(upper, Side::Upper));
            }
        }
        ranges.widened = known(&ranges.lower) + known(&ranges.upper) > before;
        ranges
    }

    /// The same for some of the files.
    fn select(self, files: &UInt32Array) -> Self {
        let array = |array: Option<ArrayRef>| take(&array?, files, None).ok();
        let counts = |counts: Option<UInt64Array>| {
            let taken = take(&counts?, files, None).ok()?;
            taken.as_any().downcast_ref::<UInt64Array>().cloned()
        };
        Self {
            lower: array(self.lower),
            upper: array(self.upper),
            nulls: counts(self.nulls),
            sizes: counts(self.sizes),
            widened: self.widened,
        }
    }
}

/// `a`, and where it is NULL what `b` has.
fn first_known(a: Option<ArrayRef>, b: impl FnOnce() -> Option<ArrayRef>) -> Option<ArrayRef> {
    let Some(a) = a else {
        return b();
    };
    if a.null_count() == 0 {
        return Some(a);
    }
    match b() {
        Some(b) => is_not_null(&a).and_then(|known| zip(&known, &a, &b)).ok(),
        None => Some(a),
    }
}

fn count(array: &UInt64Array, row: usize) -> Option<u64> {
    (row < array.len() && array.is_valid(row)).then(|| array.value(row))
}

fn exact(value: Option<u64>) -> Precision<usize> {
    value
        .and_then(|v| usize::try_from(v).ok())
        .map_or(Precision::Absent, Precision::Exact)
}

fn inexact(value: u64) -> Precision<usize> {
    usize::try_from(value).map_or(Precision::Absent, Precision::Inexact)
}

/// Statistics of all files of a scan together. The row count is exact. So are the ends of columns
/// whose bounds cannot be cut (integers, decimals, dates and times) where every file has them;
/// other ends and sizes are not. `schema` is the one that `columns` stand for.
pub fn scan_statistics(
    files: &[(Arc<DecodedManifest>, usize)],
    columns: &TableColumns,
    schema: &Schema,
    wanted: &[usize],
) -> Statistics {
    let mut statistics = Statistics::new_unknown(&columns.arrow);
    let mut rows = 0_u64;
    let mut summaries: Vec<ColumnSummary> = wanted.iter().map(|_| ColumnSummary::new()).collect();
    for files in files.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
        let Some((manifest, _)) = files.first() else {
            continue;
        };
        let records: Vec<u64> = files
            .iter()
            .map(|(_, entry)| manifest.entries.get(*entry).map_or(0, |e| e.record_count))
            .collect();
        rows = records.iter().fold(rows, |sum, n| sum.saturating_add(*n));
        let selected = (files.len() < manifest.entries.len()).then(|| {
            let places = files.iter().map(|(_, entry)| u32::try_from(*entry).ok());
            places.collect::<UInt32Array>()
        });
        for (&index, summary) in wanted.iter().zip(&mut summaries) {
            let ranges = ColumnRanges::of(manifest, columns, schema, index);
            summary.add(
                match &selected {
                    Some(files) => ranges.select(files),
                    None => ranges,
                },
                &records,
            );
        }
    }
    statistics.num_rows = exact(Some(rows));
    let mut total_bytes = 0_u64;
    for (&index, summary) in wanted.iter().zip(summaries) {
        let Some(field) = columns.arrow.fields().get(index) else {
            continue;
        };
        let column = summary.finish(field.data_type(), rows);
        if let Some(bytes) = column.byte_size.get_value() {
            total_bytes = total_bytes.saturating_add(*bytes as u64);
        }
        if let Some(slot) = statistics.column_statistics.get_mut(index) {
            *slot = column;
        }
    }
    statistics.total_byte_size = inexact(total_bytes);
    statistics
}

/// What is known of one column over the files added so far.
struct ColumnSummary {
    min: Extreme<MinAccumulator>,
    max: Extreme<MaxAccumulator>,
    /// NULLs, unless a file does not say.
    nulls: Option<u64>,
    disk_bytes: u64,
    /// Whether a bound of any file may be wider than its values.
    widened: bool,
}

impl ColumnSummary {
    fn new() -> Self {
        Self {
            min: Extreme::new(MinAccumulator::try_new),
            max: Extreme::new(MaxAccumulator::try_new),
            nulls: Some(0),
            disk_bytes: 0,
            widened: false,
        }
    }

    /// Adds files of the given numbers of rows.
    fn add(&mut self, ranges: ColumnRanges, records: &[u64]) {
        self.widened |= ranges.widened;
        let nulls = ranges.nulls.as_ref();
        let sizes = ranges.sizes.iter().flatten().flatten();
        self.disk_bytes = sizes.fold(self.disk_bytes, u64::saturating_add);
        let known = nulls.filter(|nulls| nulls.null_count() == 0);
        self.nulls = self.nulls.zip(known).map(|(sum, nulls)| {
            let counts = nulls.values().iter();
            counts.fold(sum, |sum, count| sum.saturating_add(*count))
        });
        // Files of NULLs have no bounds, and need none.
        let only_nulls = (0..records.len())
            .map(|file| nulls.and_then(|nulls| count(nulls, file)) == Some(records[file]));
        let only_nulls: BooleanArray = only_nulls.map(Some).collect();
        self.min.add(ranges.lower, &only_nulls);
        self.max.add(ranges.upper, &only_nulls);
    }

    fn finish(self, data_type: &DataType, rows: u64) -> ColumnStatistics {
        let (min, max) = (self.min.finish(), self.max.finish());
        // DataFusion counts the values between the bounds, and cannot count all of a 64-bit type.
        let ends = min.value.as_ref().zip(max.value.as_ref());
        let countable = ends.and_then(|(min, max)| max.distance(min)) != Some(usize::MAX);
        let exact_ends = !self.widened && bounds_are_values(data_type);
        let known = |end: End| match end.value {
            Some(value) if end.of_all && countable && exact_ends => Precision::Exact(value),
            Some(value) if end.of_all && countable => Precision::Inexact(value),
            _ => Precision::Absent,
        };
        ColumnStatistics {
            null_count: exact(self.nulls),
            min_value: known(min),
            max_value: known(max),
            sum_value: Precision::Absent,
            distinct_count: Precision::Absent,
            byte_size: inexact(memory_bytes(data_type, rows, self.disk_bytes)),
        }
    }
}

/// Whether bounds of this type are values of the column. Writers cut texts and binaries, and leave
/// NaN out of floats.
fn bounds_are_values(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(_, _)
            | DataType::Decimal128(_, _)
    )
}

/// One end of a column's values over many files.
struct Extreme<A> {
    make: fn(&DataType) -> datafusion::error::Result<A>,
    accumulator: Option<A>,
    /// Whether every file that has values has a bound.
    of_all: bool,
}

/// What came of it.
struct End {
    value: Option<ScalarValue>,
    of_all: bool,
}

impl<A: Accumulator> Extreme<A> {
    fn new(make: fn(&DataType) -> datafusion::error::Result<A>) -> Self {
        Self {
            make,
            accumulator: None,
            of_all: true,
        }
    }

    fn add(&mut self, bounds: Option<ArrayRef>, only_nulls: &BooleanArray) {
        let needed = only_nulls.false_count();
        if needed == 0 {
            return;
        }
        let bounds = if needed < only_nulls.len() {
            bounds.and_then(|bounds| nullif(&bounds, only_nulls).ok())
        } else {
            bounds
        };
        let Some(bounds) = bounds else {
            self.of_all = false;
            return;
        };
        self.of_all &= bounds.len() - bounds.null_count() == needed;
        if self.accumulator.is_none() {
            self.accumulator = (self.make)(bounds.data_type()).ok();
        }
        let added = match &mut self.accumulator {
            Some(accumulator) => accumulator.update_batch(&[bounds]).is_ok(),
            None => false,
        };
        self.of_all &= added;
    }

    fn finish(self) -> End {
        let value = self.accumulator.and_then(|mut a| a.evaluate().ok());
        End {
            value: value.filter(|value| !value.is_null()),
            of_all: self.of_all,
        }
    }
}

/// Bytes of a column once decoded.
fn memory_bytes(data_type: &DataType, rows: u64, disk_bytes: u64) -> u64 {
    match data_type.primitive_width() {
        Some(width) => rows.saturating_mul(width as u64),
        None => match data_type {
            DataType::Boolean => rows / 8,
            DataType::FixedSizeBinary(width) => {
                rows.saturating_mul(u64::try_from(*width).unwrap_or(16))
            }
            DataType::Utf8View | DataType::BinaryView => rows
                .saturating_mul(16)
                .max(disk_bytes.saturating_mul(TEXT_EXPANSION)),
            _ => disk_bytes.saturating_mul(TEXT_EXPANSION),
        },
    }
}
