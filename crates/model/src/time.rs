//! A point in time, given by a caller: nothing here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Time(pub u64);

impl Time {
    /// The time `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, cut to 32 bits (good until 2106).
    pub const fn seconds32(self) -> u32 {
        (self.0 / 1000) as u32
    }

    /// RFC 3339 in UTC with milliseconds: `2025-08-19T20:00:00.000Z`.
    pub fn to_iso(self) -> String {
        let stamp = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        stamp.map_or_else(|| "1970-01-01T00:00:00.000Z".to_owned(), |t| format!("{t:.3}"))
    }

    /// Reads RFC 3339; a time without a zone is taken as UTC, one before 1970 as the first.
    pub fn parse_iso(text: &str) -> Option<Self> {
        let stamp = text.parse::<jiff::Timestamp>().or_else(|_| format!("{text}Z").parse()).ok()?;
        Some(Self(u64::try_from(stamp.as_millisecond()).unwrap_or(0)))
    }

    /// How long from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_has_milliseconds_and_reads_back() {
        for ms in [0, 1, 999, 1_755_633_600_000, 1_755_633_600_123] {
            let text = Time(ms).to_iso();
            assert!(text.ends_with('Z') && text.len() == 24, "{text}");
            assert_eq!(Time::parse_iso(&text), Some(Time(ms)));
        }
    }

    #[test]
    fn a_time_without_zone_is_utc() {
        assert_eq!(
            Time::parse_iso("2025-08-19T22:00:00.123456"),
            Time::parse_iso("2025-08-19T22:00:00.123Z")
        );
        assert_eq!(Time::parse_iso("0145-12-26T20:20:57Z"), Some(Time(0)));
        assert_eq!(Time::parse_iso("yesterday"), None);
    }
}
