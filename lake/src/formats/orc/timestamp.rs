//! ORC's timestamps: seconds since 2015, and nanoseconds without their trailing zeros.
//!
//! ORC specification v1, section "Timestamp Columns".

use arrow::array::timezone::Tz;
use arrow::datatypes::TimeUnit;
use chrono::{DateTime, Offset, TimeZone};

/// Seconds from 1970 to 2015, both at midnight in UTC.
const EPOCH: i64 = 1_420_070_400;

/// The zone of a writer: its wall clock showed the timestamps without zone.
#[derive(Clone, Copy, Debug)]
pub enum Zone {
    /// No difference.
    Utc,
    /// Any other.
    Other(Tz),
}

impl Zone {
    /// The zone of this name, if it is known.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "" | "UTC" | "GMT" | "Etc/UTC" | "Etc/GMT" | "Z" => Some(Self::Utc),
            other => other.parse().ok().map(Self::Other),
        }
    }

    /// What the wall clock shows, in seconds from 1970, `seconds` after it showed the start of 2015.
    fn wall_clock(self, seconds: i64) -> Option<i64> {
        let Self::Other(zone) = self else {
            return seconds.checked_add(EPOCH);
        };
        let epoch = DateTime::from_timestamp(EPOCH, 0)?.naive_utc();
        let at_epoch = zone.offset_from_local_datetime(&epoch).earliest()?.fix();
        let instant = seconds
            .checked_add(EPOCH)?
            .checked_sub(i64::from(at_epoch.local_minus_utc()))?;
        let utc = DateTime::from_timestamp(instant, 0)?.naive_utc();
        let offset = zone.offset_from_utc_datetime(&utc).fix();
        instant.checked_add(i64::from(offset.local_minus_utc()))
    }
}

/// A timestamp in `unit` from 1970. `seconds` and `nanos` are as the file has them.
///
/// # Errors
/// A sentence, when there is no such timestamp.
pub fn timestamp(zone: Zone, seconds: i64, nanos: i64, unit: TimeUnit) -> Result<i64, String> {
    let nanos = nanoseconds(nanos)?;
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let mut seconds = zone.wall_clock(seconds).ok_or_else(out_of_range)?;
    // Before 1970 the seconds were rounded up, unless there was less than a millisecond of
    // nanoseconds: a mistake of the first writer that all others repeat.
    if seconds < 0 && nanos > 999_999 {
        seconds = seconds.checked_sub(1).ok_or_else(out_of_range)?;
    }
    // Digits beyond the unit are cut, as other readers do.
    let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let value = nanos.div_euclid(1_000_000_000 / per_second);
    i64::try_from(value).map_err(|_| out_of_range())
}

fn out_of_range() -> String {
    "a timestamp is out of range".to_string()
}

/// The lowest three bits are the number of decimal zeros that were cut, less one.
fn nanoseconds(stored: i64) -> Result<i64, String> {
    let digits = stored >> 3;
    let nanos = match u32::try_from(stored & 7).unwrap_or(0) {
        0 => Some(digits),
        zeros => digits.checked_mul(10_i64.pow(zeros + 1)),
    };
    // Arrow's writer stores negative ones before 1970; other readers add them up all the same.
    nanos
        .filter(|nanos| nanos.unsigned_abs() < 1_000_000_000)
        .ok_or_else(|| "a timestamp has more than a second of nanoseconds".to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn micros(zone: &str, seconds: i64, nanos: i64) -> Result<i64, String> {
        let zone = Zone::parse(zone).unwrap();
        timestamp(zone, seconds, nanos, TimeUnit::Microsecond)
    }

    #[test]
    fn zeros_of_nanoseconds_come_back() {
        // The specification's examples: 1000 and 100000 nanoseconds.
        assert_eq!(nanoseconds(0x0a), Ok(1000));
        assert_eq!(nanoseconds(0x0c), Ok(100_000));
        assert_eq!(nanoseconds(123_456_789 << 3), Ok(123_456_789));
        assert!(nanoseconds(1_000_000_000 << 3).is_err());
        assert!(nanoseconds(i64::MAX).is_err());
    }

    #[test]
    fn the_epoch_is_the_start_of_2015_on_the_wall() {
        for zone in [
            "UTC",
            "",
            "GMT",
            "America/Los_Angeles",
            "Asia/Kolkata",
            "+03:00",
        ] {
            assert_eq!(micros(zone, 0, 0), Ok(EPOCH * 1_000_000), "{zone}");
        }
        // In July the clocks of Berlin are an hour ahead of where they were in January.
        let half_a_year = 181 * 86_400;
        assert_eq!(
            micros("Europe/Berlin", half_a_year, 0),
            Ok((EPOCH + half_a_year + 3600) * 1_000_000)
        );
        assert!(Zone::parse("Nowhere/At_All").is_none());
    }

    #[test]
    fn seconds_before_1970_were_rounded_up() {
        let half = (5 << 3) | 7;
        assert_eq!(micros("UTC", -EPOCH - 1, half), Ok(-1_500_000));
        assert_eq!(micros("UTC", -EPOCH - 1, 0x0a), Ok(-999_999));
        let minus_half = (-5 << 3) | 7;
        assert_eq!(micros("UTC", -EPOCH - 1, minus_half), Ok(-1_500_000));
    }

    #[test]
    fn extremes_are_no_panic() {
        for seconds in [i64::MIN, i64::MAX, 1 << 50] {
            for zone in ["UTC", "Europe/Berlin"] {
                assert!(micros(zone, seconds, 0).is_err(), "{zone} {seconds}");
            }
        }
        // Beyond what nanoseconds could hold.
        assert_eq!(
            micros("UTC", 1 << 38, 0),
            Ok(((1 << 38) + EPOCH) * 1_000_000)
        );
    }
}
