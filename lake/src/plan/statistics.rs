//! Statistics for the optimizer, from the manifests: of single files, and of all files of a scan.

use std::sync::Arc;

use arrow::array::{Array, UInt64Array};
use arrow::datatypes::DataType;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use super::bounds::{lower_bound, upper_bound};
use super::manifest::DecodedManifest;
use crate::scan::schema::TableColumns;

/// Factor between the size of a text column on disk and in memory, where nothing better is known.
const TEXT_EXPANSION: u64 = 3;

/// Statistics of one file for the given columns (all others unknown).
///
/// Bounds are marked exact although they may be wider than the values: for a single file DataFusion
/// uses them only to rule the file out, and ignores inexact ones. They never reach an aggregate,
/// which looks at the statistics of the whole scan.
pub fn file_statistics(
    manifest: &DecodedManifest,
    entry: usize,
    columns: &TableColumns,
    wanted: &[usize],
) -> Statistics {
    let mut statistics = Statistics::new_unknown(&columns.arrow);
    let Some(file) = manifest.entries.get(entry) else {
        return statistics;
    };
    statistics.num_rows = exact(Some(file.record_count));
    for &index in wanted {
        let metrics = column_range(manifest, entry, columns, index);
        if let Some(slot) = statistics.column_statistics.get_mut(index) {
            slot.min_value = metrics.min.map_or(Precision::Absent, Precision::Exact);
            slot.max_value = metrics.max.map_or(Precision::Absent, Precision::Exact);
            slot.null_count = exact(metrics.nulls);
        }
    }
    statistics
}

/// What is known of one column of one file.
struct ColumnRange {
    min: Option<ScalarValue>,
    max: Option<ScalarValue>,
    nulls: Option<u64>,
    disk_bytes: Option<u64>,
}

fn column_range(
    manifest: &DecodedManifest,
    entry: usize,
    columns: &TableColumns,
    index: usize,
) -> ColumnRange {
    let mut range = ColumnRange {
        min: None,
        max: None,
        nulls: None,
        disk_bytes: None,
    };
    let Some(field) = columns.fields.get(index) else {
        return range;
    };
    let data_type = columns.arrow.field(index).data_type();
    let value = |array: &Option<arrow::array::ArrayRef>| {
        let scalar = ScalarValue::try_from_array(array.as_ref()?, entry).ok()?;
        (!scalar.is_null()).then_some(scalar)
    };
    let metrics = manifest.columns.get(&field.id);
    if let Some(metrics) = metrics.filter(|_| !columns.unmapped.contains(&field.id)) {
        range.nulls = count(&metrics.null_counts, entry);
        range.disk_bytes = count(&metrics.sizes, entry);
        let may_hold_nan = data_type.is_floating() && count(&metrics.nan_counts, entry) != Some(0);
        if !may_hold_nan {
            range.min = value(&metrics.lower).and_then(|v| lower_bound(&v, data_type));
            range.max = value(&metrics.upper).and_then(|v| upper_bound(&v, data_type));
        }
    }
    for partition in &manifest.partitions {
        if partition.source_id == field.id {
            range.min = range
                .min
                .or_else(|| value(&partition.lower).and_then(|v| lower_bound(&v, data_type)));
            range.max = range
                .max
                .or_else(|| value(&partition.upper).and_then(|v| upper_bound(&v, data_type)));
        }
    }
    range
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

/// Statistics of all files of a scan together. The row count is exact; bounds are not, since they
/// may be cut or wide, and so are sizes.
pub fn scan_statistics(
    files: &[(Arc<DecodedManifest>, usize)],
    columns: &TableColumns,
    wanted: &[usize],
) -> Statistics {
    let mut statistics = Statistics::new_unknown(&columns.arrow);
    let rows: u64 = records(files).sum();
    statistics.num_rows = exact(Some(rows));
    let mut total_bytes = 0_u64;
    for &index in wanted {
        let column = column_statistics(files, columns, index, rows);
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

fn records(files: &[(Arc<DecodedManifest>, usize)]) -> impl Iterator<Item = u64> {
    files
        .iter()
        .filter_map(|(manifest, entry)| manifest.entries.get(*entry))
        .map(|file| file.record_count)
}

fn column_statistics(
    files: &[(Arc<DecodedManifest>, usize)],
    columns: &TableColumns,
    index: usize,
    rows: u64,
) -> ColumnStatistics {
    let data_type = columns.arrow.field(index).data_type();
    let mut min: Option<ScalarValue> = None;
    let mut max: Option<ScalarValue> = None;
    let (mut all_min, mut all_max, mut all_nulls) = (true, true, true);
    let (mut nulls, mut disk_bytes) = (0_u64, 0_u64);
    for (manifest, entry) in files {
        let file = manifest.entries.get(*entry);
        let file_rows = file.map_or(0, |file| file.record_count);
        let range = column_range(manifest, *entry, columns, index);
        let only_nulls = range.nulls == Some(file_rows);
        match range.nulls {
            Some(count) => nulls += count,
            None => all_nulls = false,
        }
        disk_bytes += range.disk_bytes.unwrap_or(0);
        if only_nulls {
            continue;
        }
        all_min &= range.min.is_some();
        all_max &= range.max.is_some();
        min = pick(min, range.min, std::cmp::Ordering::Less);
        max = pick(max, range.max, std::cmp::Ordering::Greater);
    }
    // DataFusion counts the values between the bounds, and cannot count all of a 64-bit type.
    let span = min
        .as_ref()
        .zip(max.as_ref())
        .and_then(|(min, max)| max.distance(min));
    if span == Some(usize::MAX) {
        (all_min, all_max) = (false, false);
    }
    let known = |all: bool, value: Option<ScalarValue>| match value {
        Some(value) if all => Precision::Inexact(value),
        _ => Precision::Absent,
    };
    ColumnStatistics {
        null_count: if all_nulls {
            exact(Some(nulls))
        } else {
            Precision::Absent
        },
        min_value: known(all_min, min),
        max_value: known(all_max, max),
        sum_value: Precision::Absent,
        distinct_count: Precision::Absent,
        byte_size: inexact(memory_bytes(data_type, rows, disk_bytes)),
    }
}

fn pick(
    a: Option<ScalarValue>,
    b: Option<ScalarValue>,
    wanted: std::cmp::Ordering,
) -> Option<ScalarValue> {
    match (a, b) {
        (Some(a), Some(b)) => {
            if b.partial_cmp(&a) == Some(wanted) {
                Some(b)
            } else {
                Some(a)
            }
        }
        (a, b) => a.or(b),
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
