//! `cargo xtask bench micro`: all micro-benchmarks one after the other, and one table of what they found.
//!
//! Owns: which ones there are, reading what criterion leaves. Must not know: what is measured.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::cargo::{run, say};

/// Package and benchmark, in the order of a message's way.
const ALL: &[(&str, &str)] = &[
    ("parlance-wire", "decode"),
    ("parlance-backplane", "append"),
    ("parlance-backplane-redis", "redis"),
    ("parlance-gateway", "feed"),
    ("parlance-wire", "encode"),
    ("parlance-hub", "fanout"),
];

/// Which of them.
#[derive(Debug, Args)]
pub struct Micro {
    /// Those whose name has this in it (`fanout/message-to-1000`); all when absent.
    filter: Option<String>,
    /// Benchmarks of these packages, with commas between (`wire,hub,gateway,backplane,backplane-redis`).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Writes the table to this file as well.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What criterion knows of a benchmark.
#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Debug, Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

/// One benchmark's result, in nanoseconds.
#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    median: f64,
    low: f64,
    high: f64,
    /// The same for each of several elements, and how many.
    each: Option<(f64, u64)>,
}

impl Micro {
    /// Runs them; whether all ran.
    ///
    /// # Errors
    /// When cargo cannot be started, or none is asked for.
    pub fn run(&self, target: &Path) -> Result<bool> {
        // Criterion keeps what it found in earlier runs beside what it finds in this one.
        #[expect(clippy::disallowed_methods, reason = "files have the time of day")]
        let began = SystemTime::now();
        let asked: Vec<_> = ALL.iter().filter(|(package, _)| self.wants(package)).collect();
        ensure!(!asked.is_empty(), "no package of these has benchmarks: {}", self.only.join(", "));
        let mut well = true;
        for (package, bench) in asked {
            let mut words = vec!["bench", "--package", package, "--bench", bench, "--", "--noplot"];
            words.extend(self.filter.as_deref());
            well &= run(&words)?;
        }
        let mut rows = Vec::new();
        collect(&target.join("criterion"), began, &mut rows)?;
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        let table = table(&rows);
        print!("\n{table}");
        if let Some(path) = &self.out {
            fs::write(path, &table).with_context(|| format!("cannot write {}", path.display()))?;
            say(&format!("written to {}", path.display()));
        }
        Ok(well && !rows.is_empty())
    }

    fn wants(&self, package: &str) -> bool {
        let short = package.strip_prefix("parlance-").unwrap_or(package);
        self.only.is_empty() || self.only.iter().any(|only| only == short || only == package)
    }
}

/// The results in a folder, and in all below it, that were written since.
fn collect(folder: &Path, since: SystemTime, rows: &mut Vec<Row>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let estimates = path.join("estimates.json");
        let is_new = path.file_name().is_some_and(|name| name == "new");
        if is_new && fs::metadata(&estimates).and_then(|it| it.modified()).is_ok_and(|at| at >= since) {
            let text = |name: &str| fs::read_to_string(path.join(name)).with_context(|| name.to_owned());
            rows.push(row(&text("benchmark.json")?, &text("estimates.json")?)?);
        }
        collect(&path, since, rows)?;
    }
    Ok(())
}

fn row(benchmark: &str, estimates: &str) -> Result<Row> {
    let Benchmark { full_id, throughput } = serde_json::from_str(benchmark).context("benchmark.json")?;
    let Estimates { median } = serde_json::from_str(estimates).context("estimates.json")?;
    let elements = throughput.and_then(|all| all.get("Elements").copied()).filter(|count| *count > 1);
    Ok(Row {
        name: full_id,
        median: median.point_estimate,
        low: median.confidence_interval.lower_bound,
        high: median.confidence_interval.upper_bound,
        each: elements.map(|count| (median.point_estimate / count as f64, count)),
    })
}

/// A time as people read it.
struct Time(f64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(nanos) = *self;
        let (value, unit) = match nanos {
            ..1e3 => (nanos, "ns"),
            1e3..1e6 => (nanos / 1e3, "µs"),
            _ => (nanos / 1e6, "ms"),
        };
        let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

/// In Markdown, and readable as it is.
fn table(rows: &[Row]) -> String {
    let wide = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(9);
    let mut text =
        format!("| {:<wide$} | {:>9} | {:>21} | {:>9} |\n", "benchmark", "median", "between", "each");
    text += &format!("|-{:-<wide$}-|-{:->9}:|-{:->21}:|-{:->9}:|\n", "", "", "", "");
    for row in rows {
        let between = format!("{} – {}", Time(row.low), Time(row.high));
        let each = row.each.map(|(nanos, _)| Time(nanos).to_string()).unwrap_or_default();
        let (name, median) = (&row.name, Time(row.median));
        text += &format!("| {name:<wide$} | {median:>9} | {between:>21} | {each:>9} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTIMATES: &str = r#"{"mean":{"point_estimate":1.0},"median":{"confidence_interval":{"confidence_level":0.95,
        "lower_bound":118000.5,"upper_bound":131000.0},"point_estimate":123456.0,"standard_error":1.0}}"#;

    #[test]
    fn what_criterion_leaves_is_read_and_shown() {
        let benchmark =
            r#"{"group_id":"g","full_id":"fanout/of/1000","throughput":{"Elements":1000},"title":"t"}"#;
        let read = row(benchmark, ESTIMATES).unwrap();
        assert_eq!((read.name.as_str(), read.each), ("fanout/of/1000", Some((123.456, 1000))));
        let text = table(&[read]);
        assert!(text.contains("|    123 µs |       118 µs – 131 µs |    123 ns |"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() == text.lines().next().unwrap().chars().count()),
            "{text}"
        );
        let alone = r#"{"full_id":"decode/send/x","throughput":{"Elements":1}}"#;
        assert_eq!(row(alone, ESTIMATES).unwrap().each, None);
        assert!(row("{}", ESTIMATES).is_err());
    }

    #[test]
    fn only_what_was_written_since_counts() {
        let folder = std::env::temp_dir().join(format!("parlance-micro-{}", std::process::id()));
        let new = folder.join("a/b/new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("benchmark.json"), r#"{"full_id":"a/b","throughput":null}"#).unwrap();
        fs::write(new.join("estimates.json"), ESTIMATES).unwrap();
        let written = fs::metadata(new.join("estimates.json")).unwrap().modified().unwrap();
        let (mut now, mut later) = (Vec::new(), Vec::new());
        collect(&folder, written, &mut now).unwrap();
        collect(&folder, written + std::time::Duration::from_secs(1), &mut later).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((now.len(), later.len()), (1, 0));
    }

    #[test]
    fn times_are_readable() {
        let shown: Vec<String> =
            [3.456, 45.67, 999.9, 1234.0, 1_500_000.0].map(|nanos| Time(nanos).to_string()).into();
        assert_eq!(shown, ["3.46 ns", "45.7 ns", "1000 ns", "1.23 µs", "1.50 ms"]);
    }
}
