//! Borders between ranges of keys, and which range goes where.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::Float64Type;
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result as DfResult;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use serde::{Deserialize, Serialize};

/// Most ranges of one statement.
const RANGES_MAX: usize = 1_000;

/// Rows for which another writer is worth its files, and ranges up to which that counts: more come
/// of large files only.
const ROWS_PER_RANGE: f64 = 250_000.0;
const RANGES_FOR_WRITERS: f64 = 32.0;

/// Ranges are spread evenly over any number of writers that divides this.
const SPREAD: u64 = 32 * 9 * 5 * 7;

/// Numbers that are tried as labels; one in [`SPREAD`] fits each range.
const LABELS_TRIED: i32 = 1 << 22;

/// Ranges of keys, in order and without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// The first key of each range but the first, cut to a length.
    borders: Vec<Vec<u8>>,
    /// What stands for each range: numbers whose hashes, by which the exchange deals rows out,
    /// spread.
    labels: Vec<i32>,
}

impl Ranges {
    /// Ranges of about the same number of rows, from batches of a sample.
    ///
    /// `row_bytes` is what a row takes in a file, `file_bytes` how large a file is to be.
    ///
    /// # Errors
    /// Batches that are none of a sample.
    pub fn of(sample: &[RecordBatch], row_bytes: f64, file_bytes: usize) -> DfResult<Self> {
        let mut keys: Vec<(&[u8], f64)> = vec![];
        for batch in sample {
            let weights = batch.column(1).as_primitive::<Float64Type>();
            let bytes = batch.column(0).as_binary::<i32>();
            keys.extend(bytes.iter().flatten().zip(weights.values().iter().copied()));
        }
        keys.sort_by(|a, b| a.0.cmp(b.0));
        let rows: f64 = keys.iter().map(|(_, weight)| weight).sum();
        let by_size = rows * row_bytes / file_bytes.max(1) as f64;
        let by_rows = (rows / ROWS_PER_RANGE).min(RANGES_FOR_WRITERS);
        let count = by_size.max(by_rows).clamp(1.0, RANGES_MAX as f64).ceil();
        let mut borders: Vec<Vec<u8>> = vec![];
        let mut before = 0.0;
        for (key, weight) in keys {
            let next = (borders.len() + 1) as f64 * rows / count;
            if before >= next && borders.last().is_none_or(|last| last.as_slice() < key) {
                borders.push(key.to_vec());
            }
            before += weight;
        }
        let labels = labels(borders.len() + 1)?;
        Ok(Self { borders, labels })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// What stands for the range of a key.
    pub fn label(&self, key: &[u8]) -> i32 {
        let range = self
            .borders
            .partition_point(|border| border.as_slice() <= key);
        self.labels.get(range).copied().unwrap_or_default()
    }
}

/// Numbers for `count` ranges, each found by its hash: neighbours go to different writers, and no
/// writer gets two more than another.
fn labels(count: usize) -> DfResult<Vec<i32>> {
    const AT_ONCE: i32 = 1 << 14;
    let mut found: Vec<Option<i32>> = vec![None; count];
    let mut missing = count;
    let mut first = 0;
    while missing > 0 && first < LABELS_TRIED {
        let tried: Vec<i32> = (first..first + AT_ONCE).collect();
        let array: ArrayRef = Arc::new(Int32Array::from(tried.clone()));
        let mut hashes = vec![0; tried.len()];
        create_hashes(
            &[array],
            REPARTITION_RANDOM_STATE.random_state(),
            &mut hashes,
        )?;
        for (label, hash) in tried.into_iter().zip(hashes) {
            let class = usize::try_from(hash % SPREAD).unwrap_or_default();
            if let Some(slot) = found.get_mut(class)
                && slot.is_none()
            {
                *slot = Some(label);
                missing -= 1;
            }
        }
        first += AT_ONCE;
    }
    // Labels have to differ; those that were not found are none of the tried.
    let rest = found.into_iter().zip(LABELS_TRIED..);
    Ok(rest.map(|(label, own)| label.unwrap_or(own)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::write::ranges::sample;

    fn ranges(keys: &[(&[u8], f64)], row_bytes: f64, file_bytes: usize) -> Ranges {
        let (keys, weights) = keys.iter().copied().unzip();
        let batch = sample::batch(keys, weights).unwrap();
        Ranges::of(&[batch], row_bytes, file_bytes).unwrap()
    }

    #[test]
    fn ranges_hold_equal_numbers_of_rows() {
        let keys: Vec<[u8; 2]> = (0..1_000_u16).map(u16::to_be_bytes).collect();
        let weighted: Vec<(&[u8], f64)> = keys.iter().map(|key| (key.as_slice(), 10.0)).collect();
        let ranges = ranges(&weighted, 100.0, 100_000);
        assert_eq!(ranges.count(), 10);
        let mut rows = std::collections::BTreeMap::new();
        for key in &keys {
            *rows.entry(ranges.label(key)).or_insert(0) += 1;
        }
        assert_eq!(rows.len(), 10);
        assert!(
            rows.values().all(|rows| (95..=105).contains(rows)),
            "{rows:?}"
        );
    }

    #[test]
    fn few_rows_are_one_range() {
        assert_eq!(ranges(&[], 100.0, 1).count(), 1);
        assert_eq!(ranges(&[(b"a", 1.0), (b"b", 1.0)], 100.0, 1_000).count(), 1);
    }

    #[test]
    fn one_key_is_one_range() {
        let keys = vec![(b"same".as_slice(), 1e6); 100];
        assert!(ranges(&keys, 1e3, 1_000).count() <= 2);
    }

    #[test]
    fn any_number_of_writers_has_its_share() {
        let labels = labels(96).unwrap();
        for writers in [2_u64, 3, 4, 6, 8, 12, 16, 32] {
            let array: ArrayRef = Arc::new(Int32Array::from(labels.clone()));
            let mut hashes = vec![0; labels.len()];
            let state = REPARTITION_RANDOM_STATE.random_state();
            create_hashes(&[array], state, &mut hashes).unwrap();
            let mut shares = std::collections::BTreeMap::new();
            for hash in hashes {
                *shares.entry(hash % writers).or_insert(0) += 1;
            }
            let share = 96 / writers;
            assert!(
                shares.values().all(|s| *s == share),
                "{writers}: {shares:?}"
            );
        }
    }
}
