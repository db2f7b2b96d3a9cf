//! ORC's run-length encodings of bytes, bits and integers.
//!
//! ORC specification v1, section "Run Length Encoding".

use super::super::MAX_PREALLOCATED;
use super::stream::ByteStream;

/// Bytes in runs.
#[derive(Debug)]
pub struct ByteRuns {
    bytes: ByteStream,
    /// Values left of the current run.
    left: usize,
    /// The repeated byte; `None` when each is written out.
    repeated: Option<u8>,
}

impl ByteRuns {
    /// The runs in `bytes`.
    pub fn new(bytes: ByteStream) -> Self {
        Self {
            bytes,
            left: 0,
            repeated: None,
        }
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, String> {
        if self.left == 0 {
            let control = self.bytes.byte()?.cast_signed();
            if control < 0 {
                self.left = usize::from(control.unsigned_abs());
                self.repeated = None;
            } else {
                self.left = usize::from(control.unsigned_abs()) + 3;
                self.repeated = Some(self.bytes.byte()?);
            }
        }
        self.left -= 1;
        match self.repeated {
            Some(byte) => Ok(byte),
            None => self.bytes.byte(),
        }
    }

    /// The next `count` bytes.
    pub fn read(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(count.min(MAX_PREALLOCATED));
        for _ in 0..count {
            bytes.push(self.byte()?);
        }
        Ok(bytes)
    }
}

/// Bits, eight to a byte, the highest first.
#[derive(Debug)]
pub struct BitRuns {
    bytes: ByteRuns,
    byte: u8,
    left: u8,
}

impl BitRuns {
    /// The bits in `bytes`.
    pub fn new(bytes: ByteStream) -> Self {
        Self {
            bytes: ByteRuns::new(bytes),
            byte: 0,
            left: 0,
        }
    }

    /// The next `count` bits.
    pub fn read(&mut self, count: usize) -> Result<Vec<bool>, String> {
        let mut bits = Vec::with_capacity(count.min(MAX_PREALLOCATED));
        for _ in 0..count {
            if self.left == 0 {
                self.byte = self.bytes.byte()?;
                self.left = 8;
            }
            self.left -= 1;
            bits.push(self.byte >> self.left & 1 == 1);
        }
        Ok(bits)
    }
}

/// Integers in runs, of either version of the encoding.
#[derive(Debug)]
pub struct IntRuns {
    bytes: ByteStream,
    second_version: bool,
    signed: bool,
    run: Vec<i64>,
    at: usize,
}

impl IntRuns {
    /// The integers in `bytes`. Unsigned ones beyond the range of `i64` come out negative.
    pub fn new(bytes: ByteStream, second_version: bool, signed: bool) -> Self {
        Self {
            bytes,
            second_version,
            signed,
            run: Vec::new(),
            at: 0,
        }
    }

    /// The next `count` integers.
    pub fn read(&mut self, count: usize) -> Result<Vec<i64>, String> {
        let mut values = Vec::with_capacity(count.min(MAX_PREALLOCATED));
        while values.len() < count {
            if self.at == self.run.len() {
                self.run.clear();
                self.at = 0;
                if self.second_version {
                    self.second_version_run()?;
                } else {
                    self.first_version_run()?;
                }
            }
            let run = self.run.get(self.at..).unwrap_or_default();
            let run = run.get(..count - values.len()).unwrap_or(run);
            values.extend_from_slice(run);
            self.at += run.len();
        }
        Ok(values)
    }

    fn first_version_run(&mut self) -> Result<(), String> {
        let control = self.bytes.byte()?.cast_signed();
        if control < 0 {
            for _ in 0..control.unsigned_abs() {
                let value = self.number()?;
                self.run.push(value);
            }
            return Ok(());
        }
        let delta = i64::from(self.bytes.byte()?.cast_signed());
        let mut value = self.number()?;
        for _ in 0..usize::from(control.unsigned_abs()) + 3 {
            self.run.push(value);
            value = value.wrapping_add(delta);
        }
        Ok(())
    }

    fn second_version_run(&mut self) -> Result<(), String> {
        let first = self.bytes.byte()?;
        match first >> 6 {
            0 => self.short_repeat(first),
            1 => self.direct(first),
            2 => self.patched_base(first),
            _ => self.delta(first),
        }
    }

    fn short_repeat(&mut self, first: u8) -> Result<(), String> {
        let value = self.big_endian(usize::from(first >> 3 & 7) + 1)?;
        let value = self.decoded(value);
        for _ in 0..usize::from(first & 7) + 3 {
            self.run.push(value);
        }
        Ok(())
    }

    fn direct(&mut self, first: u8) -> Result<(), String> {
        let length = self.length(first)?;
        let values = self.packed(length, width(first >> 1 & 31))?;
        for value in values {
            let value = self.decoded(value);
            self.run.push(value);
        }
        Ok(())
    }

    fn patched_base(&mut self, first: u8) -> Result<(), String> {
        let length = self.length(first)?;
        let value_width = width(first >> 1 & 31);
        let [third, fourth] = self.bytes.array()?;
        let base_bytes = usize::from(third >> 5) + 1;
        let patch_width = width(third & 31);
        let gap_width = u32::from(fourth >> 5) + 1;
        let patches = usize::from(fourth & 31);

        // The base has its sign in the highest bit.
        let base = self.big_endian(base_bytes)?;
        let sign = 1_u64 << (base_bytes * 8 - 1);
        let magnitude = (base & !sign).cast_signed();
        let base = if base & sign == 0 {
            magnitude
        } else {
            magnitude.wrapping_neg()
        };

        let mut values = self.packed(length, value_width)?;
        if patch_width + gap_width > 64 {
            return Err("a run has patches that are too wide".to_string());
        }
        let patches = self.packed(patches, closest_width(patch_width + gap_width))?;
        let mut at = 0_usize;
        for patch in patches {
            at += usize::try_from(patch >> patch_width).unwrap_or(usize::MAX >> 1);
            let bits = patch & low_bits(patch_width);
            // A gap that is too long for one patch is continued by the next.
            if bits == 0 {
                continue;
            }
            let value = values
                .get_mut(at)
                .ok_or("a run has patches beyond its end")?;
            *value |= bits.checked_shl(value_width).unwrap_or(0);
        }
        for value in values {
            self.run.push(base.wrapping_add(value.cast_signed()));
        }
        Ok(())
    }

    fn delta(&mut self, first: u8) -> Result<(), String> {
        let length = self.length(first)?;
        let code = first >> 1 & 31;
        let mut value = self.number()?;
        let delta = zigzag(self.varint()?);
        self.run.push(value);
        if code == 0 {
            for _ in 1..length {
                value = value.wrapping_add(delta);
                self.run.push(value);
            }
            return Ok(());
        }
        if length < 2 {
            return Err("a run is too short for its deltas".to_string());
        }
        value = value.wrapping_add(delta);
        self.run.push(value);
        for step in self.packed(length - 2, width(code))? {
            let step = step.cast_signed();
            value = if delta < 0 {
                value.wrapping_sub(step)
            } else {
                value.wrapping_add(step)
            };
            self.run.push(value);
        }
        Ok(())
    }

    /// Length of a run: nine bits, less one.
    fn length(&mut self, first: u8) -> Result<usize, String> {
        let low = self.bytes.byte()?;
        Ok((usize::from(first & 1) << 8 | usize::from(low)) + 1)
    }

    fn big_endian(&mut self, bytes: usize) -> Result<u64, String> {
        let mut value = 0_u64;
        for _ in 0..bytes {
            value = value << 8 | u64::from(self.bytes.byte()?);
        }
        Ok(value)
    }

    /// Numbers of `width` bits end to end, the highest bit first, up to the end of a byte.
    fn packed(&mut self, count: usize, width: u32) -> Result<Vec<u64>, String> {
        let mut values = Vec::with_capacity(count);
        let mut bits = 0_u128;
        let mut left = 0_u32;
        for _ in 0..count {
            while left < width {
                bits = bits << 8 | u128::from(self.bytes.byte()?);
                left += 8;
            }
            left -= width;
            values.push((bits >> left) as u64 & low_bits(width));
        }
        Ok(values)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number has too many bytes".to_string())
    }

    fn number(&mut self) -> Result<i64, String> {
        let number = self.varint()?;
        Ok(self.decoded(number))
    }

    fn decoded(&self, number: u64) -> i64 {
        if self.signed {
            zigzag(number)
        } else {
            number.cast_signed()
        }
    }
}

fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn low_bits(width: u32) -> u64 {
    u64::MAX.checked_shr(64 - width.min(64)).unwrap_or(0)
}

/// The width in bits that five bits stand for.
fn width(code: u8) -> u32 {
    match code {
        0..=23 => u32::from(code) + 1,
        24 => 26,
        25 => 28,
        26 => 30,
        27 => 32,
        28 => 40,
        29 => 48,
        30 => 56,
        _ => 64,
    }
}

/// The least of those widths that is enough for `bits`.
fn closest_width(bits: u32) -> u32 {
    (0..32_u8)
        .map(width)
        .find(|width| *width >= bits)
        .unwrap_or(64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stream(bytes: &[u8]) -> ByteStream {
        ByteStream::new(bytes.to_vec().into(), None)
    }

    fn ints(bytes: &[u8], second_version: bool, signed: bool, count: usize) -> Vec<i64> {
        let mut runs = IntRuns::new(stream(bytes), second_version, signed);
        let values = runs.read(count).unwrap();
        assert!(runs.read(1).is_err(), "all bytes are used");
        values
    }

    // The examples of the specification.

    #[test]
    fn byte_runs() {
        let mut runs = ByteRuns::new(stream(&[0x61, 0x00, 0xfe, 0x44, 0x45]));
        assert_eq!(runs.read(100).unwrap(), vec![0; 100]);
        assert_eq!(runs.read(2).unwrap(), vec![0x44, 0x45]);
        assert!(runs.read(1).is_err());
    }

    #[test]
    fn bit_runs() {
        let mut runs = BitRuns::new(stream(&[0xff, 0x80]));
        let mut bits = runs.read(3).unwrap();
        bits.extend(runs.read(5).unwrap());
        assert_eq!(
            bits,
            [true, false, false, false, false, false, false, false]
        );
    }

    #[test]
    fn first_version() {
        assert_eq!(ints(&[0x61, 0x00, 0x07], false, false, 100), vec![7; 100]);
        let down: Vec<i64> = (1..=100).rev().collect();
        assert_eq!(ints(&[0x61, 0xff, 0x64], false, false, 100), down);
        let literals = [0xfb, 0x02, 0x03, 0x06, 0x07, 0x0b];
        assert_eq!(ints(&literals, false, false, 5), [2, 3, 6, 7, 11]);
        assert_eq!(ints(&literals, false, true, 5), [1, -2, 3, -4, -6]);
    }

    #[test]
    fn short_repeat() {
        assert_eq!(ints(&[0x0a, 0x27, 0x10], true, false, 5), vec![10_000; 5]);
    }

    #[test]
    fn direct() {
        let bytes = [0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef];
        assert_eq!(
            ints(&bytes, true, false, 4),
            [23_713, 43_806, 57_005, 48_879]
        );
    }

    #[test]
    fn patched_base() {
        let bytes = [
            0x8e, 0x13, 0x2b, 0x21, 0x07, 0xd0, 0x1e, 0x00, 0x14, 0x70, 0x28, 0x32, 0x3c, 0x46,
            0x50, 0x5a, 0x64, 0x6e, 0x78, 0x82, 0x8c, 0x96, 0xa0, 0xaa, 0xb4, 0xbe, 0xfc, 0xe8,
        ];
        let mut expected = vec![2030, 2000, 2020, 1_000_000];
        expected.extend((2040..=2190).step_by(10));
        assert_eq!(ints(&bytes, true, false, 20), expected);
    }

    #[test]
    fn delta() {
        let bytes = [0xc6, 0x09, 0x02, 0x02, 0x22, 0x42, 0x42, 0x46];
        assert_eq!(
            ints(&bytes, true, false, 10),
            [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
        );
        // A fixed delta, downwards.
        assert_eq!(
            ints(&[0xc0, 0x04, 0x14, 0x03], true, true, 5),
            [10, 8, 6, 4, 2]
        );
    }

    #[test]
    fn any_bytes_end() {
        for seed in 0_u32..2000 {
            let bytes: Vec<u8> = (0..40_u32)
                .map(|n| (seed.wrapping_mul(2_654_435_761).wrapping_add(n * n * 97) >> 7) as u8)
                .collect();
            for second_version in [false, true] {
                let mut runs = IntRuns::new(stream(&bytes), second_version, seed % 2 == 0);
                assert!(runs.read(1 << 30).is_err());
            }
        }
    }
}
