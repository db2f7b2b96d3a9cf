//! The deleted rows of one data file.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use roaring::RoaringTreemap;

/// Positions of deleted rows. Where they are many, also as plain bits, which are quicker to go
/// through than the compressed form.
#[derive(Debug, Default)]
pub struct DeletedRows {
    positions: RoaringTreemap,
    /// Set for every row that is left, up to the last deleted one.
    live: Option<BooleanBuffer>,
}

/// One row in so many has to be deleted for plain bits to be kept: they take no more memory then
/// than the compressed form could.
const PLAIN_STEP: u64 = 64;

impl DeletedRows {
    /// Takes the positions in.
    pub fn new(positions: RoaringTreemap) -> Self {
        let end = positions.max().map_or(0, |last| last.saturating_add(1));
        let plain = positions.len().saturating_mul(PLAIN_STEP) >= end;
        let live = usize::try_from(end).ok().filter(|end| plain && *end > 0);
        let live = live.map(|end| live_bits(&positions, end));
        Self { positions, live }
    }

    /// The positions, compressed.
    pub fn positions(&self) -> &RoaringTreemap {
        &self.positions
    }

    /// Bytes this takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let plain = self.live.as_ref().map_or(0, |live| live.inner().len());
        size_of::<Self>() + self.positions.serialized_size() + plain
    }

    /// For `count` rows from `start` on, whether each is left; `None` where so few rows of the file
    /// are deleted that no plain bits are kept.
    pub fn live(&self, start: usize, count: usize) -> Option<BooleanBuffer> {
        let live = self.live.as_ref()?;
        let known = live.len().saturating_sub(start).min(count);
        let mut bits = BooleanBufferBuilder::new(count);
        if known > 0 {
            bits.append_buffer(&live.slice(start, known));
        }
        bits.append_n(count - known, true);
        Some(bits.finish())
    }
}

impl From<RoaringTreemap> for DeletedRows {
    fn from(positions: RoaringTreemap) -> Self {
        Self::new(positions)
    }
}

fn live_bits(deleted: &RoaringTreemap, end: usize) -> BooleanBuffer {
    const WORD: usize = u64::BITS as usize;
    let mut words = vec![u64::MAX; end.div_ceil(WORD)];
    for position in deleted {
        let row = usize::try_from(position).unwrap_or(usize::MAX);
        if let Some(word) = words.get_mut(row / WORD) {
            *word &= !(1 << (row % WORD));
        }
    }
    BooleanBuffer::new(words.into(), 0, end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bits_say_what_positions_say() {
        let rows = DeletedRows::new((3..1000).step_by(7).collect());
        for (start, count) in [(0, 1000), (5, 64), (63, 130), (900, 500), (2000, 10)] {
            let live = rows.live(start, count).unwrap();
            assert_eq!(live.len(), count);
            for row in 0..count {
                let deleted = rows.positions().contains((start + row) as u64);
                assert_eq!(live.value(row), !deleted, "row {row} from {start}");
            }
        }
    }

    #[test]
    fn few_positions_are_kept_compressed_only() {
        let rows = DeletedRows::new([5, 100_000].into_iter().collect());
        assert_eq!(rows.live(0, 10), None);
        let far = DeletedRows::new([u64::MAX].into_iter().collect());
        assert_eq!(far.live(0, 10), None);
        assert!(DeletedRows::default().live(0, 0).is_none());
    }
}
