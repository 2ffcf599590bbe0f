//! What a node says at `/metrics`, read sample by sample.
//!
//! Must not know: which metrics there are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::{Gateway, PATIENCE};

/// One line: a name, its labels, and the value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With the suffix of histograms.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// As told.
    pub value: f64,
}

/// All that a node told at one time.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// In the order in which they came.
    pub all: Vec<Sample>,
    /// The name and type of every metric that was there.
    pub families: BTreeMap<String, String>,
    /// As it came.
    pub text: String,
}

impl Samples {
    /// Asks a node.
    ///
    /// # Errors
    /// When it does not answer, or something that is no sample.
    pub async fn of(gateway: &Gateway) -> Result<Self> {
        let page = gateway.internal("GET", "/metrics", None, None).await?;
        ensure!(page.status == 200, "{}", page.status);
        Self::read(page.body)
    }

    /// Reads them.
    ///
    /// # Errors
    /// At the first line that is no sample.
    pub fn read(text: String) -> Result<Self> {
        let mut read = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(|| line.to_owned())?;
                read.families.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') && !line.is_empty() {
                read.all.push(sample(line).with_context(|| line.to_owned())?);
            }
        }
        read.text = text;
        Ok(read)
    }

    /// The sum of all samples of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        self.all.iter().filter(fits).map(|sample| sample.value).sum()
    }
}

/// The sum of all samples of a name, whatever their labels.
///
/// # Errors
/// As [`Samples::of`].
pub async fn total(gateway: &Gateway, name: &str) -> Result<f64> {
    Ok(Samples::of(gateway).await?.sum(name, &[]))
}

/// Waits until a node's samples are as wanted, and returns them.
///
/// # Errors
/// When they do not become so.
pub async fn until(gateway: &Gateway, wanted: impl Fn(&Samples) -> bool) -> Result<Samples> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = Samples::of(gateway).await?;
        if wanted(&samples) {
            return Ok(samples);
        }
        ensure!(Instant::now() < deadline, "not in time; last:\n{}", samples.text);
        sleep(Duration::from_millis(20)).await;
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = head.split_once('{') else {
        return Some(Sample { name: head.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, more) = rest.split_once("=\"")?;
        // No value that a node gives holds a quote.
        let (value, more) = more.split_once('"')?;
        labels.insert(label.to_owned(), value.to_owned());
        rest = more.strip_prefix(',').unwrap_or(more);
    }
    Some(Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_summed_by_label() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total{k=\"v\",l=\"1\"} 2\na_total{k=\"v\",l=\"2\"} 3\nb 0.5\n";
        let read = Samples::read(text.to_owned()).unwrap();
        assert_eq!(read.families.get("a_total").map(String::as_str), Some("counter"));
        assert_eq!((read.sum("a_total", &[("k", "v")]), read.sum("a_total", &[("l", "2")])), (5.0, 3.0));
        assert_eq!((read.sum("b", &[]), read.sum("c", &[])), (0.5, 0.0));
        assert!(Samples::read("no sample".to_owned()).is_err());
    }
}
