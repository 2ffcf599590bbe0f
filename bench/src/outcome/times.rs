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
            mean: histogram.mean(),
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
