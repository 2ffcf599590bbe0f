//! Every metric moves when what it counts happens: tables of what is done, and what is seen of it at `/metrics`.
//!
//! Owns: that no metric of the reference page is without a row, and what is true of every page. Must not know: how
//! anything is counted.

mod asking;
mod keeping;
mod one;
mod outbox;
mod shared;
mod telling;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::Gateway;
use parlance_tests::metrics::Samples;
use tokio::time::{Instant, sleep};

/// Some of what is seen comes with a look that is taken every few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is seen of a deed.
#[derive(Debug, Clone, Copy)]
pub enum Seen {
    /// It is more by so much.
    By(f64),
    /// It is more.
    More,
    /// It is so now.
    Is(f64),
    /// It is above 0 now.
    Positive,
    /// It is there, whatever it says.
    There,
}

/// What is done, and what is seen of it: the metric, its labels, how it moves. Of a histogram, the count.
pub type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], Seen);

/// Users and conversations have these names: no label may hold any, nor a part of a token.
pub const NAMES: [&str; 5] = ["zebra", "ibex", "okapi", "numbat", "quagga"];

/// A node that is watched while things are done.
pub struct Watch<'a> {
    gateway: &'a Gateway,
    rows: &'static [Row],
    documented: BTreeSet<String>,
    before: Samples,
    seen: BTreeSet<&'static str>,
}

impl<'a> Watch<'a> {
    /// From here on.
    pub async fn begin(gateway: &'a Gateway, rows: &'static [Row]) -> Result<Self> {
        let before = Samples::of(gateway).await?;
        Ok(Self { gateway, rows, documented: documented()?, before, seen: BTreeSet::new() })
    }

    /// Waits until everything is seen that the table says of this deed since the last one.
    pub async fn sees(&mut self, deed: &'static str) -> Result<()> {
        let rows: Vec<&Row> = self.rows.iter().filter(|(it, ..)| *it == deed).collect();
        ensure!(!rows.is_empty(), "no row of {deed:?}");
        let deadline = Instant::now() + PATIENCE;
        let mut left = rows;
        loop {
            let now = Samples::of(self.gateway).await?;
            self.check(&now)?;
            left.retain(|row| !self.is_seen(row, &now));
            if left.is_empty() {
                self.before = now;
                self.seen.insert(deed);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not seen: {left:?} in\n{}", now.text);
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_seen(&self, (_, metric, labels, seen): &Row, now: &Samples) -> bool {
        let histogram = now.families.get(*metric).is_some_and(|kind| kind == "histogram");
        let name = if histogram { format!("{metric}_count") } else { (*metric).to_owned() };
        let (value, before) = (now.sum(&name, labels), self.before.sum(&name, labels));
        match seen {
            Seen::By(by) => value == before + by,
            Seen::More => value > before,
            Seen::Is(is) => now.families.contains_key(*metric) && value == *is,
            Seen::Positive => value > 0.0,
            Seen::There => now.all.iter().any(|sample| sample.name == name),
        }
    }

    /// What is true of every page: nothing that is not documented, nobody's name, no secret.
    fn check(&self, now: &Samples) -> Result<()> {
        for name in now.families.keys() {
            ensure!(self.documented.contains(name), "{name} is not in docs/metrics.md");
        }
        for sample in &now.all {
            for (label, value) in &sample.labels {
                let named = NAMES.iter().any(|name| value.contains(name)) || value.contains("eyJ");
                ensure!(!named, "{label}={value:?} of {}", sample.name);
                // Numbers that users choose grow without end; versions and shards do not.
                let counted = !["le", "version", "shard"].contains(&label.as_str())
                    && value.chars().any(|c| c.is_ascii_digit());
                ensure!(!counted, "{label}={value:?} of {}", sample.name);
            }
        }
        Ok(())
    }

    /// The last page that was read.
    pub fn page(&self) -> &str {
        &self.before.text
    }

    /// Every deed of the table was done.
    pub fn done(self) -> Result<()> {
        let all: BTreeSet<&str> = self.rows.iter().map(|(deed, ..)| *deed).collect();
        ensure!(all == self.seen, "only {:?} of {all:?} was done", self.seen);
        Ok(())
    }
}

/// The metrics of the reference page.
fn documented() -> Result<BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).context("docs/metrics.md")?;
    let name = |line: &str| {
        let (name, kind) = line.strip_prefix("| `")?.split_once("` | ")?;
        let kinds = ["counter ", "gauge ", "histogram "];
        kinds.iter().any(|it| kind.starts_with(it)).then(|| name.to_owned())
    };
    Ok(page.lines().filter_map(name).collect())
}

#[test]
fn every_documented_metric_is_seen_to_move() -> Result<()> {
    let documented = documented()?;
    ensure!(documented.len() > 50, "the page was not understood: {documented:?}");
    let rows = [one::ROWS, one::SLOW, one::FULL, shared::ROWS, shared::OWNER, shared::DEAF, shared::LOST];
    let rows = rows
        .into_iter()
        .chain([shared::BUSY, shared::LATE, asking::ROWS, telling::ROWS, keeping::ROWS, outbox::ROWS])
        .flatten();
    let covered: BTreeSet<String> = rows.map(|(_, metric, ..)| (*metric).to_owned()).collect();
    let without: Vec<_> = documented.difference(&covered).collect();
    ensure!(without.is_empty(), "registered, and no test sees them move: {without:?}");
    let unknown: Vec<_> = covered.difference(&documented).collect();
    ensure!(unknown.is_empty(), "in a table, and not in docs/metrics.md: {unknown:?}");
    Ok(())
}
