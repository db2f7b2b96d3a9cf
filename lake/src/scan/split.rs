//! Cuts files into pieces at row groups, and deals the pieces out so that every partition and
//! every task gets about the same number of bytes.

use std::cmp::Reverse;
use std::sync::Arc;

use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::FileGroup;

use super::source::ScanFile;

/// Byte ranges of a file, together the whole file. DataFusion gives a row group to the range that
/// holds its first page; ranges therefore begin where row groups begin, as far as that is known.
///
/// `split_offsets` come from the manifest and are believed only when they are sorted and lie in the
/// file; a wrong offset costs balance, not correctness, since the ranges always cover the file.
pub fn ranges(size_bytes: u64, split_offsets: &[i64], target_bytes: u64) -> Vec<(u64, u64)> {
    let target = target_bytes.max(1);
    if size_bytes <= target {
        return vec![(0, size_bytes)];
    }
    let starts = match valid_starts(size_bytes, split_offsets) {
        Some(starts) => starts,
        None => (1..size_bytes.div_ceil(target))
            .map(|n| n * target)
            .collect(),
    };
    let mut ranges = vec![];
    let mut begin = 0;
    let mut end = 0;
    // The current range reaches from `begin` to `end`; add the next row group while it fits.
    for next in starts.into_iter().chain([size_bytes]) {
        if end > begin && next - begin > target {
            ranges.push((begin, end));
            begin = end;
        }
        end = next;
    }
    ranges.push((begin, end));
    ranges
}

/// Starts of all row groups but the first.
fn valid_starts(size_bytes: u64, split_offsets: &[i64]) -> Option<Vec<u64>> {
    let starts: Option<Vec<u64>> = split_offsets
        .iter()
        .map(|offset| {
            u64::try_from(*offset)
                .ok()
                .filter(|o| *o > 0 && *o < size_bytes)
        })
        .collect();
    let starts = starts.filter(|starts| !starts.is_empty())?;
    let sorted = starts.windows(2).all(|pair| pair[0] < pair[1]);
    sorted.then(|| starts.into_iter().skip(1).collect())
}

/// Size of pieces for a scan: small enough that every partition gets several, no larger than the
/// configured target, and not so small that opening a piece costs more than reading it.
pub fn piece_bytes(
    total_bytes: u64,
    partitions: usize,
    target_bytes: u64,
    least_bytes: u64,
) -> u64 {
    const PIECES_PER_PARTITION: u64 = 4;
    let share = total_bytes / (partitions.max(1) as u64 * PIECES_PER_PARTITION);
    share.clamp(least_bytes.min(target_bytes), target_bytes)
}

/// Estimated bytes to read for a piece: its share of the projected columns.
pub fn piece_weight(piece: &PartitionedFile) -> u64 {
    let size = piece.object_meta.size.max(1);
    let whole = piece
        .extension::<Arc<ScanFile>>()
        .map_or(size, |file| file.projected_bytes);
    match &piece.range {
        None => whole,
        Some(FileRange { start, end }) => {
            let length = u64::try_from(end.saturating_sub(*start)).unwrap_or(0);
            let share = u128::from(whole) * u128::from(length) / u128::from(size);
            u64::try_from(share).unwrap_or(u64::MAX)
        }
    }
}

/// Deals pieces out to `count` bins, the heaviest first, each to the lightest bin. Bins keep their
/// pieces in the order of the files. Some bins are empty when there are fewer pieces.
pub fn balance(pieces: Vec<PartitionedFile>, count: usize) -> Vec<Vec<PartitionedFile>> {
    let count = count.max(1);
    let mut order: Vec<(usize, u64)> = pieces.iter().map(piece_weight).enumerate().collect();
    order.sort_by_key(|(index, weight)| (Reverse(*weight), *index));
    let mut loads = vec![0_u64; count];
    let mut bin_of = vec![0_usize; pieces.len()];
    for (index, weight) in order {
        let lightest = (0..count)
            .min_by_key(|bin| (loads[*bin], *bin))
            .unwrap_or(0);
        // A piece costs something even when it is tiny.
        loads[lightest] = loads[lightest].saturating_add(weight.max(1));
        bin_of[index] = lightest;
    }
    let mut bins: Vec<Vec<PartitionedFile>> = vec![vec![]; count];
    for (piece, bin) in pieces.into_iter().zip(bin_of) {
        bins[bin].push(piece);
    }
    bins
}

/// File groups of a scan: one for each piece, up to `partitions`, but at least `least` (which
/// leaves some empty) and always one.
pub fn groups(pieces: Vec<PartitionedFile>, partitions: usize, least: usize) -> Vec<FileGroup> {
    let count = partitions.min(pieces.len()).max(least).max(1);
    balance(pieces, count)
        .into_iter()
        .map(FileGroup::new)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn covers(ranges: &[(u64, u64)], size: u64) {
        assert_eq!(ranges.first().unwrap().0, 0);
        assert_eq!(ranges.last().unwrap().1, size);
        assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert!(ranges.iter().all(|range| range.0 < range.1 || size == 0));
    }

    #[test]
    fn ranges_begin_at_row_groups() {
        let found = ranges(1000, &[4, 300, 600, 900], 350);
        covers(&found, 1000);
        assert_eq!(found, vec![(0, 300), (300, 600), (600, 900), (900, 1000)]);
        assert_eq!(
            ranges(1000, &[4, 300, 600, 900], 650),
            vec![(0, 600), (600, 1000)]
        );
    }

    #[test]
    fn unbelievable_offsets_are_ignored() {
        for offsets in [vec![], vec![4, 3], vec![4, 5000], vec![-4, 8], vec![4, 4]] {
            let found = ranges(1000, &offsets, 400);
            covers(&found, 1000);
            assert_eq!(found.len(), 3, "{offsets:?}");
        }
    }

    #[test]
    fn one_row_group_stays_whole() {
        assert_eq!(ranges(1000, &[4], 100), vec![(0, 1000)]);
        assert_eq!(ranges(0, &[], 100), vec![(0, 0)]);
    }

    #[test]
    fn bins_are_balanced_and_hold_every_piece_once() {
        let pieces: Vec<_> = [700_u64, 100, 300, 200, 400, 300]
            .iter()
            .enumerate()
            .map(|(n, size)| PartitionedFile::new(format!("f{n}"), *size))
            .collect();
        let bins = balance(pieces, 2);
        let sizes: Vec<u64> = bins
            .iter()
            .map(|bin| bin.iter().map(|piece| piece.object_meta.size).sum())
            .collect();
        assert_eq!(sizes, vec![1000, 1000]);
        assert_eq!(bins.iter().map(Vec::len).sum::<usize>(), 6);
    }

    #[test]
    fn pieces_shrink_with_the_scan_but_not_below_the_least() {
        assert_eq!(piece_bytes(1 << 30, 2, 64 << 20, 8 << 20), 64 << 20);
        assert_eq!(
            piece_bytes(100 << 20, 2, 64 << 20, 8 << 20),
            (100 << 20) / 8
        );
        assert_eq!(piece_bytes(1 << 20, 8, 64 << 20, 8 << 20), 8 << 20);
    }
}
