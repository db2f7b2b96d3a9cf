//! What deleted positions leave of a Parquet file.
//!
//! The Parquet reader skips rows by a list of runs. Where deletes are scattered, the list is nearly
//! as long as the rows, and the reader decodes everything all the same and then drops rows by a
//! mask made of the list (`RowSelectionPolicy::Auto`). For such row groups the mask is made here,
//! straight from the positions, and put on the rows behind the reader. That needs to know each
//! row's position, so the row group is read by itself and whole.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use datafusion::datasource::listing::FileRange;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::error::{DataFusionError, Result};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use roaring::RoaringTreemap;

/// Below this many rows in a run, on average, the Parquet reader decodes all rows and masks them.
const SHORT_RUN_ROWS: u64 = 32;

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
    rows: &RoaringTreemap,
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
            true if mask && is_scattered(rows, start, count) => {
                masks.push((place, LiveMask::new(rows, start, count)));
                RowGroupAccess::Skip
            }
            true => access(rows, start, count),
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

/// Whether so many rows of a row group are deleted, here and there, that it is better masked.
fn is_scattered(rows: &RoaringTreemap, start: u64, count: u64) -> bool {
    let end = start + count;
    let deleted = rows.range_cardinality(start..end);
    if count < LEAST_GROUP_ROWS || deleted >= count || deleted * 2 * SHORT_RUN_ROWS < count {
        return false;
    }
    let mut positions = rows.iter();
    positions.advance_to(start);
    let mut last = None;
    let runs = positions
        .take_while(|position| *position < end)
        .filter(|position| {
            last.replace(*position)
                .is_none_or(|last| last + 1 != *position)
        })
        .count() as u64;
    runs * 2 * SHORT_RUN_ROWS >= count
}

/// The rows of a row group that are left, in their order.
#[derive(Clone, Debug)]
pub struct LiveMask {
    rows: BooleanBuffer,
    next: usize,
}

impl LiveMask {
    /// `deleted` are positions in the file, of which the row group has `count` from `start` on.
    fn new(deleted: &RoaringTreemap, start: u64, count: u64) -> Self {
        const WORD: u64 = u64::BITS as u64;
        let words = usize::try_from(count.div_ceil(WORD)).unwrap_or(usize::MAX);
        let mut words = vec![u64::MAX; words];
        let mut positions = deleted.iter();
        positions.advance_to(start);
        for position in positions.take_while(|position| *position < start + count) {
            let row = position - start;
            if let Some(word) = words.get_mut((row / WORD) as usize) {
                *word &= !(1 << (row % WORD));
            }
        }
        let length = usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            rows: BooleanBuffer::new(words.into(), 0, length),
            next: 0,
        }
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
        let mask = BooleanArray::new(self.rows.slice(self.next, count), None);
        self.next += count;
        Ok(filter_record_batch(batch, &mask)?)
    }
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
    use std::sync::Arc;

    use arrow::array::AsArray;

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

    #[test]
    fn scattered_deletes_are_masked() {
        let count = LEAST_GROUP_ROWS;
        let every =
            |step: u64| -> RoaringTreemap { (100..100 + count).step_by(step as usize).collect() };
        assert!(is_scattered(&every(10), 100, count));
        assert!(!is_scattered(&every(100), 100, count));
        assert!(!is_scattered(&every(10), 100, count - 1));
        assert!(!is_scattered(&every(1), 100, count));
        let together: RoaringTreemap = (100..100 + count / 2).collect();
        assert!(!is_scattered(&together, 100, count));

        let mut mask = LiveMask::new(&every(10), 100, count);
        let numbers: Vec<u64> = (0..count).collect();
        let mut left = vec![];
        for part in numbers.chunks(999) {
            let column = arrow::array::UInt64Array::from(part.to_vec());
            let batch = RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).unwrap();
            let batch = mask.apply(&batch).unwrap();
            let column = batch
                .column(0)
                .as_primitive::<arrow::datatypes::UInt64Type>();
            left.extend(column.values().iter().copied());
        }
        assert!(left.into_iter().eq((0..count).filter(|n| n % 10 != 0)));
        let more = arrow::array::UInt64Array::from(vec![1]);
        let more = RecordBatch::try_from_iter([("n", Arc::new(more) as _)]).unwrap();
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
