//! What deleted positions leave of a Parquet file.
//!
//! The Parquet reader skips rows by a list of runs. Where deletes are scattered, the list is nearly
//! as long as the rows, and the reader decodes everything all the same and then drops rows by a
//! mask made of the list (`RowSelectionPolicy::Auto`). For such row groups the mask is made here,
//! straight from the positions, and put on the rows behind the reader. That needs to know each
//! row's position, so the row group is read by itself and whole.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, downcast_primitive_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::FilterBuilder;
use datafusion::datasource::listing::FileRange;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::error::{DataFusionError, Result};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use roaring::RoaringTreemap;

use super::DeletedRows;

/// Below this many rows in a run, on average, the Parquet reader decodes all rows and masks them.
const SHORT_RUN_ROWS: usize = 32;

/// Row groups below this are not read by themselves: opening them costs more than it saves.
const LEAST_GROUP_ROWS: u64 = 16 * 1024;

/// What deletes leave of a file.
#[derive(Debug)]
pub struct Live {
    /// The row groups of which the Parquet reader skips the deleted rows; `None` for no row group.
    pub skipping: Option<ParquetAccessPlan>,
    /// Row groups that are read whole and masked.
    pub masked: Vec<MaskedGroup>,
}

/// A row group that is read by itself and whole.
#[derive(Debug)]
pub struct MaskedGroup {
    /// Reads this row group and no other.
    pub plan: ParquetAccessPlan,
    /// Its rows; those that are set are left.
    pub mask: LiveMask,
}

/// What is left of a Parquet file of which `rows` are deleted. Row groups outside `range` are left
/// out: they belong to other pieces of the file. `mask` says whether row groups may be masked: only
/// where the reader is sure to give all rows of a row group that it does not leave out.
pub fn live(
    rows: &DeletedRows,
    metadata: &ParquetMetaData,
    range: Option<&FileRange>,
    mask: bool,
) -> Live {
    let mut first = 0_u64;
    let mut masks = vec![];
    let mut groups = vec![];
    for (place, group) in metadata.row_groups().iter().enumerate() {
        let count = u64::try_from(group.num_rows()).unwrap_or(0);
        let start = first;
        first += count;
        let inside = range.is_none_or(|range| begins_in(group, range));
        groups.push(match inside {
            false => RowGroupAccess::Skip,
            true => match mask.then(|| LiveMask::new(rows, start, count)).flatten() {
                Some(mask) => {
                    masks.push((place, mask));
                    RowGroupAccess::Skip
                }
                None => access(rows.positions(), start, count),
            },
        });
    }
    let total = groups.len();
    let skipped = groups.iter().all(|access| *access == RowGroupAccess::Skip);
    Live {
        // Without any other row group the plan that reads nothing still has to be opened.
        skipping: (masks.is_empty() || !skipped).then(|| ParquetAccessPlan::new(groups)),
        masked: masks
            .into_iter()
            .map(|(place, mask)| {
                let mut plan = ParquetAccessPlan::new_none(total);
                plan.scan(place);
                MaskedGroup { plan, mask }
            })
            .collect(),
    }
}

/// The rule by which DataFusion gives row groups to ranges: where the first page lies.
pub fn begins_in(group: &RowGroupMetaData, range: &FileRange) -> bool {
    let Some(column) = group.columns().first() else {
        return false;
    };
    let offset = column
        .dictionary_page_offset()
        .unwrap_or_else(|| column.data_page_offset());
    (range.start..range.end).contains(&offset)
}

/// The rows of a row group that are left, in their order.
#[derive(Clone, Debug)]
pub struct LiveMask {
    rows: BooleanBuffer,
    next: usize,
}

impl LiveMask {
    /// The rows left of a row group of `count` rows from `start` on, where they are better masked
    /// than skipped: so many are deleted, here and there.
    fn new(deleted: &DeletedRows, start: u64, count: u64) -> Option<Self> {
        if count < LEAST_GROUP_ROWS {
            return None;
        }
        let count = usize::try_from(count).ok()?;
        let rows = deleted.live(usize::try_from(start).ok()?, count)?;
        let scattered = rows.count_set_bits() > 0
            && deleted_runs(&rows).saturating_mul(2 * SHORT_RUN_ROWS) >= count;
        scattered.then_some(Self { rows, next: 0 })
    }

    /// What is left of the next rows of the row group.
    ///
    /// # Errors
    /// [`DataFusionError::Internal`] for more rows than the row group has.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let count = batch.num_rows();
        if count > self.rows.len() - self.next {
            return Err(DataFusionError::Internal(
                "a row group has more rows than its footer says".to_owned(),
            ));
        }
        let mask = self.rows.slice(self.next, count);
        self.next += count;
        keep(batch, mask)
    }
}

/// Runs of rows that are not set.
fn deleted_runs(live: &BooleanBuffer) -> usize {
    let mut before = 1;
    let mut runs = 0_usize;
    for word in live.bit_chunks().iter_padded() {
        // A run begins where a row is not set and the one before it is.
        runs += (!word & (word << 1 | before)).count_ones() as usize;
        before = word >> 63;
    }
    // Zeros follow the last row: a run of its own unless that row is deleted.
    let padded = live.iter().next_back() == Some(true);
    runs.saturating_sub(usize::from(padded))
}

/// The rows that are set. As `filter_record_batch`, but for short runs.
fn keep(batch: &RecordBatch, mask: BooleanBuffer) -> Result<RecordBatch> {
    let kept = mask.count_set_bits();
    if kept == batch.num_rows() {
        return Ok(batch.clone());
    }
    let mut other = None;
    let columns = batch.columns().iter().map(|column| -> Result<ArrayRef> {
        if let Some(array) = keep_primitive(column, &mask, kept) {
            return Ok(array);
        }
        let filter = other.get_or_insert_with(|| {
            let mask = BooleanArray::new(mask.clone(), None);
            FilterBuilder::new(&mask).optimize().build()
        });
        Ok(filter.filter(column)?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(kept));
    let schema = batch.schema();
    Ok(RecordBatch::try_new_with_options(
        schema, columns, &options,
    )?)
}

fn keep_primitive(column: &ArrayRef, mask: &BooleanBuffer, kept: usize) -> Option<ArrayRef> {
    if column.null_count() > 0 {
        return None;
    }
    downcast_primitive_array!(
        column => Some(compressed(column, mask, kept)),
        _ => None
    )
}

/// The values that are set, without branches on single rows: with short runs they would be
/// mispredicted most of the time.
fn compressed<T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    mask: &BooleanBuffer,
    kept: usize,
) -> ArrayRef {
    const WORD: usize = u64::BITS as usize;
    // Room for a whole word behind the last value.
    let mut values = vec![T::Native::default(); kept + WORD];
    let mut end = 0;
    let words = mask.bit_chunks();
    for (chunk, word) in column.values().chunks(WORD).zip(words.iter_padded()) {
        let Some(room) = values.get_mut(end..end + WORD) else {
            break;
        };
        let mut next = 0;
        for (row, value) in chunk.iter().enumerate() {
            if let Some(slot) = room.get_mut(next % WORD) {
                *slot = *value;
            }
            next += (word >> row & 1) as usize;
        }
        end += next;
    }
    values.truncate(kept);
    let array = PrimitiveArray::<T>::new(values.into(), None);
    Arc::new(array.with_data_type(column.data_type().clone()))
}

/// Whether the reader may leave out single pages of a file: what its footer says of page indexes.
pub fn has_page_index(metadata: &ParquetMetaData) -> bool {
    let columns = metadata.row_groups().iter().flat_map(|g| g.columns());
    columns.into_iter().any(|column| {
        column.column_index_offset().is_some() || column.offset_index_offset().is_some()
    })
}

/// How the Parquet reader reads a row group of which some rows are deleted.
fn access(rows: &RoaringTreemap, start: u64, count: u64) -> RowGroupAccess {
    let end = start + count;
    let deleted = rows.range_cardinality(start..end);
    if deleted == 0 {
        return RowGroupAccess::Scan;
    }
    if deleted >= count {
        return RowGroupAccess::Skip;
    }
    let mut selectors = vec![];
    let mut next = start;
    let mut run_start = None;
    let length = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
    let mut positions = rows.iter();
    positions.advance_to(start);
    for position in positions.take_while(|position| *position < end) {
        match run_start {
            Some(_) if position == next => next += 1,
            _ => {
                if let Some(run) = run_start {
                    selectors.push(RowSelector::skip(length(run, next)));
                }
                if position > next {
                    selectors.push(RowSelector::select(length(next, position)));
                }
                run_start = Some(position);
                next = position + 1;
            }
        }
    }
    if let Some(run) = run_start {
        selectors.push(RowSelector::skip(length(run, next)));
    }
    if next < end {
        selectors.push(RowSelector::select(length(next, end)));
    }
    RowGroupAccess::Selection(RowSelection::from(selectors))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{AsArray, StringArray, TimestampSecondArray, UInt64Array};
    use arrow::datatypes::{DataType, UInt64Type};

    use super::*;

    fn selected(rows: &[u64], start: u64, count: u64) -> Option<Vec<(usize, bool)>> {
        match access(&rows.iter().copied().collect(), start, count) {
            RowGroupAccess::Selection(selection) => Some(
                selection
                    .iter()
                    .map(|selector| (selector.row_count, selector.skip))
                    .collect(),
            ),
            _ => None,
        }
    }

    #[test]
    fn runs_of_deleted_rows_are_skipped() {
        assert_eq!(
            selected(&[10, 11, 15], 10, 10),
            Some(vec![(2, true), (3, false), (1, true), (4, false)])
        );
        assert_eq!(
            selected(&[5, 12, 19, 25], 10, 10),
            Some(vec![(2, false), (1, true), (6, false), (1, true)])
        );
    }

    fn every(step: u64, end: u64) -> DeletedRows {
        DeletedRows::new((0..end).step_by(step as usize).collect())
    }

    #[test]
    fn scattered_deletes_are_masked() {
        let count = LEAST_GROUP_ROWS;
        let masked = |rows: &DeletedRows, count| LiveMask::new(rows, 0, count).is_some();
        assert!(masked(&every(10, count), count));
        assert!(!masked(&every(100, count), count));
        assert!(!masked(&every(10, count), count - 1));
        assert!(!masked(&every(1, count), count));
        let together = DeletedRows::new((0..count / 2).collect());
        assert!(!masked(&together, count));
    }

    #[test]
    fn runs_are_counted() {
        for rows in [
            vec![],
            vec![0, 1, 2, 70],
            vec![5, 63, 64, 65, 128],
            vec![62, 63, 64, 99],
            vec![99],
            vec![63],
            (0..100).step_by(2).collect(),
            (0..100).collect(),
        ] {
            for length in [64, 65, 100, 128] {
                let live = BooleanBuffer::collect_bool(length, |row| !rows.contains(&row));
                let begins = |row: &usize| !live.value(*row) && (*row == 0 || live.value(row - 1));
                let expected = (0..length).filter(begins).count();
                assert_eq!(deleted_runs(&live), expected, "{rows:?} of {length}");
            }
        }
    }

    #[test]
    fn masked_rows_are_gone_from_every_column() {
        let count = LEAST_GROUP_ROWS;
        let start = 777;
        let rows = every(10, start + count - 5);
        let mut mask = LiveMask::new(&rows, start, count).unwrap();
        let numbers: Vec<u64> = (start..start + count).collect();
        let mut left: Vec<String> = vec![];
        for part in numbers.chunks(999) {
            let plain = UInt64Array::from(part.to_vec());
            let at = TimestampSecondArray::from_iter_values(part.iter().map(|n| *n as i64));
            let at = at.with_timezone("UTC");
            let nulls: UInt64Array = part.iter().map(|n| (n % 3 > 0).then_some(*n)).collect();
            let text: StringArray = part.iter().map(|n| Some(n.to_string())).collect();
            let batch = RecordBatch::try_from_iter([
                ("plain", Arc::new(plain) as ArrayRef),
                ("at", Arc::new(at)),
                ("nulls", Arc::new(nulls)),
                ("text", Arc::new(text)),
            ]);
            let batch = mask.apply(&batch.unwrap()).unwrap();
            for column in 1..3 {
                let column = arrow::compute::cast(batch.column(column), &DataType::UInt64).unwrap();
                let column = column.as_primitive::<UInt64Type>();
                let plain = batch.column(0).as_primitive::<UInt64Type>();
                assert!(column.iter().flatten().all(|n| plain.values().contains(&n)));
                assert_eq!(column.len(), plain.len());
            }
            let text = batch.column(3).as_string::<i32>();
            let plain = batch.column(0).as_primitive::<UInt64Type>();
            assert!(
                plain
                    .values()
                    .iter()
                    .zip(text)
                    .all(|(n, text)| text == Some(&n.to_string()))
            );
            left.extend(text.iter().flatten().map(str::to_owned));
        }
        let expected = numbers
            .iter()
            .filter(|n| **n >= start + count - 5 || *n % 10 != 0);
        assert!(left.into_iter().eq(expected.map(u64::to_string)));
        let more = UInt64Array::from(vec![1]);
        let more = RecordBatch::try_from_iter([("n", Arc::new(more) as ArrayRef)]).unwrap();
        assert!(mask.apply(&more).is_err());
    }

    #[test]
    fn whole_groups_are_read_or_skipped() {
        let rows: RoaringTreemap = (10..20).collect();
        assert_eq!(access(&rows, 10, 10), RowGroupAccess::Skip);
        assert_eq!(access(&rows, 0, 10), RowGroupAccess::Scan);
        assert_eq!(access(&rows, 20, 10), RowGroupAccess::Scan);
    }
}
