//! Conditions on an outcome, as given on the command line: `p99_ms<=20`.
//!
//! Owns: their grammar, and the names under which the numbers of an outcome are found. Must not know: exit codes.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Outcome, Times};

/// A number of the outcome that must not pass a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Which number; see [`Outcome::number`].
    pub name: String,
    /// Which side of the limit is fine.
    pub side: Side,
    /// The limit, itself fine.
    pub limit: f64,
}

/// Which side of a limit is fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, side, limit) = match (text.split_once("<="), text.split_once(">=")) {
            (Some((name, limit)), None) => (name, Side::AtMost, limit),
            (None, Some((name, limit))) => (name, Side::AtLeast, limit),
            _ => return Err("write it as name<=number or name>=number".to_owned()),
        };
        let name = name.trim();
        if name.is_empty() {
            return Err("there is no name before the sign".to_owned());
        }
        match limit.trim().parse::<f64>() {
            Ok(limit) if limit.is_finite() => Ok(Self { name: name.to_owned(), side, limit }),
            _ => Err(format!("“{}” is not a number", limit.trim())),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.side {
            Side::AtMost => "<=",
            Side::AtLeast => ">=",
        };
        write!(out, "{}{sign}{}", self.name, self.limit)
    }
}

impl Threshold {
    /// What is wrong with the outcome by this threshold; nothing when it is kept.
    ///
    /// # Errors
    /// When the outcome has no such number.
    pub fn broken(&self, outcome: &Outcome) -> Result<Option<String>, Unknown> {
        let value = outcome.number(&self.name)?;
        let kept = match self.side {
            Side::AtMost => value <= self.limit,
            Side::AtLeast => value >= self.limit,
        };
        Ok((!kept).then(|| format!("{} is {value}, which breaks {self}", self.name)))
    }
}

/// The outcome has no number of that name.
#[derive(Debug, Error)]
#[error("there is no figure {name}; there are: {there}")]
pub struct Unknown {
    name: String,
    there: String,
}

/// What of a distribution has a name.
const STATISTICS: [&str; 8] = ["count", "min", "max", "mean", "p50", "p90", "p99", "p999"];
/// What the checker counts.
const CHECKS: [&str; 8] =
    ["sent", "acked", "delivered", "expected", "lost", "doubled", "disordered", "errors"];

impl Outcome {
    /// A number by its name: a figure; a count of the checker (`lost`, `errors`, …); or something of a distribution,
    /// `NAME.p99_ms` or `NAME.max_us`, where `NAME.` may be left out when there is only one distribution.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn number(&self, name: &str) -> Result<f64, Unknown> {
        let found = self.figures.get(name).map(|figure| figure.value);
        found
            .or_else(|| self.checks.number(name))
            .or_else(|| self.timed(name))
            .ok_or_else(|| Unknown { name: name.to_owned(), there: self.names().join(", ") })
    }

    fn timed(&self, name: &str) -> Option<f64> {
        if let Some((times, statistic)) = name.rsplit_once('.') {
            return self.times.get(times)?.number(statistic);
        }
        let mut all = self.times.values();
        match (all.next(), all.next()) {
            (Some(only), None) => only.number(name),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        let figures = self.figures.keys().cloned();
        let times = self.times.keys().flat_map(|times| {
            STATISTICS.iter().map(move |statistic| match *statistic {
                "count" => format!("{times}.count"),
                other => format!("{times}.{other}_ms"),
            })
        });
        figures.chain(times).chain(CHECKS.iter().map(|check| (*check).to_owned())).collect()
    }
}

impl super::Checks {
    /// A count by its name.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run fit well into 52 bits")]
    fn number(&self, name: &str) -> Option<f64> {
        let count = match name {
            "sent" => self.sent,
            "acked" => self.acked,
            "delivered" => self.delivered,
            "expected" => self.expected,
            "lost" => self.lost,
            "doubled" => self.doubled,
            "disordered" => self.disordered,
            "errors" => self.errors.values().sum(),
            _ => return None,
        };
        Some(count as f64)
    }
}

impl Times {
    /// `p99_ms`, `max_us`, `count`, …; without a unit in microseconds, as in the JSON.
    #[expect(clippy::cast_precision_loss, reason = "latencies of a run fit well into 52 bits")]
    fn number(&self, name: &str) -> Option<f64> {
        if name == "count" {
            return Some(self.count as f64);
        }
        let (statistic, unit) = name.rsplit_once('_').unwrap_or((name, "us"));
        let micros = match statistic {
            "min" => self.min as f64,
            "max" => self.max as f64,
            "mean" => self.mean,
            "p50" => self.p50 as f64,
            "p90" => self.p90 as f64,
            "p99" => self.p99 as f64,
            "p999" => self.p999 as f64,
            _ => return None,
        };
        match unit {
            "us" => Some(micros),
            "ms" => Some(micros / 1000.0),
            "s" => Some(micros / 1_000_000.0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Side, Threshold};
    use crate::outcome::sample;

    #[test]
    fn thresholds_are_read() {
        let threshold: Threshold = " p99_ms <= 20.5".parse().unwrap();
        assert_eq!(threshold, Threshold { name: "p99_ms".to_owned(), side: Side::AtMost, limit: 20.5 });
        let threshold: Threshold = "rate>=1e3".parse().unwrap();
        assert_eq!((threshold.side, threshold.limit), (Side::AtLeast, 1000.0));
        assert_eq!(threshold.to_string(), "rate>=1000");
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        for (text, reason) in [
            ("p99_ms=20", "name<=number"),
            ("p99_ms<20", "name<=number"),
            ("1<=p99_ms>=2", "name<=number"),
            ("<=20", "no name"),
            ("p99_ms<=", "not a number"),
            ("p99_ms<=20ms", "not a number"),
            ("p99_ms<=NaN", "not a number"),
            ("p99_ms<=inf", "not a number"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_limit_itself_is_fine_and_what_is_beyond_breaks() {
        let mut outcome = sample::outcome();
        outcome.figures.get_mut("deliveries_per_second").unwrap().value = 100.0;
        let broken = |text: &str| text.parse::<Threshold>().unwrap().broken(&outcome).unwrap();
        assert_eq!(broken("deliveries_per_second<=100"), None);
        assert_eq!(broken("deliveries_per_second>=100"), None);
        let said = broken("deliveries_per_second<=99.5").unwrap();
        assert!(said.contains("100") && said.contains("deliveries_per_second<=99.5"), "{said}");
        assert!(broken("deliveries_per_second>=100.5").is_some());
    }

    #[test]
    fn no_number_keeps_no_threshold() {
        let mut outcome = sample::outcome();
        outcome.figures.get_mut("deliveries_per_second").unwrap().value = f64::NAN;
        for text in ["deliveries_per_second<=1", "deliveries_per_second>=1"] {
            assert!(text.parse::<Threshold>().unwrap().broken(&outcome).unwrap().is_some());
        }
    }

    #[test]
    fn distributions_and_checks_have_names() {
        let mut outcome = sample::outcome();
        let p99 = outcome.times["delivery"].p99;
        assert_eq!(outcome.number("delivery.p99_us").unwrap() as u64, p99);
        assert_eq!(outcome.number("p99_us").unwrap() as u64, p99, "there is only one distribution");
        assert_eq!(outcome.number("delivery.p99").unwrap() as u64, p99);
        assert!((outcome.number("p99_ms").unwrap() * 1000.0 - p99 as f64).abs() < 1.0);
        assert_eq!(outcome.number("lost").unwrap() as u64, 0);
        outcome.checks.errors.insert("timeout".to_owned(), 1);
        assert_eq!(outcome.number("errors").unwrap() as u64, 1);
        let again = outcome.times["delivery"].clone();
        outcome.times.insert("ack".to_owned(), again);
        let error = outcome.number("p99_ms").unwrap_err().to_string();
        assert!(error.contains("ack.p99_ms") && error.contains("delivery.p99_ms"), "{error}");
    }

    #[test]
    fn an_unknown_figure_is_an_error_that_names_those_there_are() {
        let error = "nonsense<=1".parse::<Threshold>().unwrap().broken(&sample::outcome()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("nonsense") && said.contains("deliveries_per_second"), "{said}");
    }
}
