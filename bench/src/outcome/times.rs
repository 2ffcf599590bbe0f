//! A distribution of latency: the percentiles people read, and the whole histogram for those who join and plot it.
//!
//! Owns: the encoding of histograms. Must not know: what was timed.

use std::io::Cursor;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// A distribution of latency in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// `us`.
    pub unit: String,
    /// How many were timed.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// The longest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
    /// Half were at most this.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// 99 of a hundred.
    pub p99: u64,
    /// 999 of a thousand.
    pub p999: u64,
    /// The whole histogram: HDR V2 with deflate, in base64, as other HDR tools read it.
    pub encoded: String,
}

impl Times {
    /// Writes a histogram of microseconds down.
    ///
    /// # Errors
    /// When the histogram cannot be written down.
    pub fn of(histogram: &Histogram<u64>) -> Result<Self> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(|error| anyhow!("{error}"))
            .context("writing a histogram")?;
        Ok(Self {
            unit: "us".to_owned(),
            count: histogram.len(),
            min: if histogram.is_empty() { 0 } else { histogram.min() },
            max: histogram.max(),
            // Nanoseconds are enough, and a short number is read back as it was written.
            mean: (histogram.mean() * 1000.0).round() / 1000.0,
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            encoded: STANDARD.encode(bytes),
        })
    }

    /// The whole histogram.
    ///
    /// # Errors
    /// When `encoded` is not one, or holds another number of values than `count` says.
    pub fn histogram(&self) -> Result<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.encoded).context("a histogram that is not base64")?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut Cursor::new(bytes))
            .map_err(|error| anyhow!("{error}"))
            .context("a histogram that cannot be read")?;
        ensure!(
            histogram.len() == self.count,
            "a histogram of {} values where {} were counted",
            histogram.len(),
            self.count
        );
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::Times;

    #[test]
    fn the_histogram_comes_back_whole() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).unwrap();
        for value in [1, 50, 50, 700, 1_000_000, 599_999_999] {
            histogram.record(value).unwrap();
        }
        let times = Times::of(&histogram).unwrap();
        assert_eq!(times.histogram().unwrap(), histogram);
        assert_eq!((times.count, times.min, times.p50), (6, 1, 50));
    }

    #[test]
    fn nothing_timed_is_zeros() {
        let times = Times::of(&Histogram::<u64>::new(3).unwrap()).unwrap();
        assert_eq!((times.count, times.min, times.max, times.p99), (0, 0, 0, 0));
        assert!(times.histogram().unwrap().is_empty());
    }

    #[test]
    fn other_tools_know_it_by_its_cookie() {
        let mut histogram = Histogram::<u64>::new(2).unwrap();
        histogram.record(42).unwrap();
        let encoded = Times::of(&histogram).unwrap().encoded;
        assert!(encoded.starts_with("HISTF"), "{encoded}");
    }

    #[test]
    fn a_wrong_count_or_text_is_refused() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        histogram.record(7).unwrap();
        let times = Times::of(&histogram).unwrap();
        assert!(Times { count: 2, ..times.clone() }.histogram().is_err());
        assert!(Times { encoded: "not base64!".to_owned(), ..times.clone() }.histogram().is_err());
        assert!(Times { encoded: "AAAA".to_owned(), ..times }.histogram().is_err());
    }
}
