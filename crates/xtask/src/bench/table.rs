//! What a comparison found: kept as JSON, shown on a terminal and as a page.
//!
//! Must not know: how it was measured.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::goals::{Judged, Verdict, median};

/// The file in a folder of results.
const FILE: &str = "table.json";

/// A comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The day.
    pub date: String,
    /// What it ran on.
    pub machine: String,
    /// How often everything was run.
    pub rounds: usize,
    /// Whether runs were too short to count.
    pub quick: bool,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    /// The targets.
    pub targets: Vec<Row>,
}

/// One target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// What was measured.
    pub title: String,
    /// The scenario with its flags.
    pub load: String,
    /// The goals.
    pub goals: Vec<Judged>,
    /// The figures behind them.
    pub figures: Vec<Line>,
    /// What failed, and what is doubtful.
    pub notes: Vec<String>,
}

/// One figure of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The run.
    pub run: String,
    /// The figure.
    pub figure: String,
    /// What each round gave.
    pub rounds: Vec<f64>,
}

impl Table {
    /// Reads it back.
    ///
    /// # Errors
    /// When the folder has none.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A new one, or the one that lies in the folder when it was made in the same way: a comparison goes on there.
    ///
    /// # Errors
    /// When one lies there that was made in another way.
    pub fn begin(self, folder: &Path) -> Result<Self> {
        if !folder.join(FILE).exists() {
            return Ok(self);
        }
        let before = Self::read(folder)?;
        ensure!(
            (before.rounds, before.quick) == (self.rounds, self.quick),
            "in {} lies a comparison of {} rounds{}",
            folder.display(),
            before.rounds,
            if before.quick { ", a quick one" } else { "" }
        );
        Ok(Self { targets: before.targets, ..self })
    }

    /// Adds a target, or puts it in the place of what was found before.
    pub fn put(&mut self, row: Row) {
        self.targets.retain(|known| known.number != row.number);
        self.targets.push(row);
        self.targets.sort_by_key(|row| row.number);
    }

    /// Writes it, and a page of it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let put = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        put(FILE, serde_json::to_string_pretty(self)? + "\n")?;
        put("README.md", self.page())
    }

    /// Whether nothing was missed and nothing failed.
    pub fn is_well(&self) -> bool {
        let judged = self.targets.iter().flat_map(|row| &row.goals);
        judged.clone().all(|goal| goal.verdict != Verdict::Missed)
            && judged.count() > 0
            && self.targets.iter().all(|row| row.notes.is_empty())
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.headline());
        for row in &self.targets {
            line(&mut out, &format!("\n{:>2}  {}", row.number, row.title));
            for goal in &row.goals {
                let sign = mark(goal.verdict);
                line(&mut out, &format!("    {sign:<8} {:<76} {}", goal.goal, middle(&goal.rounds)));
            }
            for figure in &row.figures {
                let name = format!("{} {}", figure.run, figure.figure);
                line(&mut out, &format!("             {name:<76} {}", middle(&figure.rounds)));
            }
            row.notes.iter().for_each(|note| line(&mut out, &format!("    note: {note}")));
        }
        self.skipped.iter().for_each(|skipped| line(&mut out, &format!("skipped: {skipped}")));
        out
    }

    /// As a page.
    fn page(&self) -> String {
        let mut out = format!("# Beside the peers\n\n{}\n\n", self.headline());
        line(
            &mut out,
            "Every number is the median of the rounds with the least and the most in brackets; ratios are taken within a round.",
        );
        line(
            &mut out,
            "`cargo xtask bench show` prints this again; `outcomes/` has what the load generator wrote for each run.",
        );
        for row in &self.targets {
            line(&mut out, &format!("\n## {}. {}\n\n`{}`\n", row.number, row.title, row.load));
            line(&mut out, "| goal (stretch) | measured | verdict |\n|---|---|---|");
            for Judged { goal, rounds, verdict, .. } in &row.goals {
                line(&mut out, &format!("| {goal} | {} | {} |", middle(rounds), mark(*verdict)));
            }
            line(&mut out, "\n| run | figure | measured |\n|---|---|---|");
            for Line { run, figure, rounds } in &row.figures {
                line(&mut out, &format!("| {run} | {figure} | {} |", middle(rounds)));
            }
            if !row.notes.is_empty() {
                line(&mut out, "");
                row.notes.iter().for_each(|note| line(&mut out, &format!("- {note}")));
            }
        }
        if !self.skipped.is_empty() {
            line(&mut out, "\n## Left out\n");
            self.skipped.iter().for_each(|skipped| line(&mut out, &format!("- {skipped}")));
        }
        out
    }

    fn headline(&self) -> String {
        let quick = if self.quick { ", too short to count" } else { "" };
        format!("{}, {}; {} rounds{quick}", self.date, self.machine, self.rounds)
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stretch => "stretch",
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::Open => "open",
    }
}

/// The median, and from where to where.
fn middle(rounds: &[f64]) -> String {
    let Some(median) = median(rounds) else { return "–".to_owned() };
    let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}–{})", number(median), number(least), number(most))
}

/// With as many decimals as say something.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::{Judged, Line, Row, Table, Verdict, middle, number};

    fn table(verdict: Verdict) -> Table {
        let goal =
            Judged { goal: "a / b ≤ 1.4".into(), rounds: vec![1.1, 1.2], median: Some(1.15), verdict };
        let figures = vec![Line { run: "a".into(), figure: "cost".into(), rounds: vec![3.0] }];
        let row = Row { number: 1, title: "fan-out".into(), goals: vec![goal], figures, ..Row::default() };
        Table { date: "2026-01-02".into(), rounds: 2, targets: vec![row], ..Table::default() }
    }

    #[test]
    fn what_is_written_is_read_back_and_shown_the_same() {
        let folder = std::env::temp_dir().join(format!("parlance-table-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let table = table(Verdict::Met);
        table.write(&folder).unwrap();
        let back = Table::read(&folder).unwrap();
        assert_eq!(back, table);
        assert!(back.text().contains("met      a / b ≤ 1.4"));
        let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(page.contains("| a / b ≤ 1.4 | 1.150 (1.100–1.200) | met |"), "{page}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Table::read(&folder).is_err());
    }

    #[test]
    fn a_comparison_goes_on_where_one_of_its_kind_lies() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = Table { rounds: 2, ..Table::default() };
        let numbers = |table: &Table| table.targets.iter().map(|row| row.number).collect::<Vec<_>>();
        assert_eq!(numbers(&fresh.clone().begin(folder.path()).unwrap()), [0; 0]);
        table(Verdict::Met).write(folder.path()).unwrap();
        let mut on = fresh.begin(folder.path()).unwrap();
        on.put(Row { number: 7, ..Row::default() });
        on.put(Row { number: 3, ..Row::default() });
        on.put(Row { number: 1, title: "anew".into(), ..Row::default() });
        assert_eq!(numbers(&on), [1, 3, 7]);
        assert_eq!(on.targets[0].title, "anew");
        let other = Table { rounds: 3, ..Table::default() }.begin(folder.path()).unwrap_err();
        assert!(other.to_string().contains("a comparison of 2 rounds"), "{other}");
    }

    #[test]
    fn all_is_well_when_nothing_is_missed_and_nothing_failed() {
        assert!(table(Verdict::Stretch).is_well() && table(Verdict::Open).is_well());
        assert!(!table(Verdict::Missed).is_well() && !Table::default().is_well());
        let mut failed = table(Verdict::Met);
        failed.targets[0].notes.push("node-redis: 3 lost".into());
        assert!(!failed.is_well());
    }

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        assert_eq!(
            [number(48_211.4), number(213.46), number(13.456), number(0.9)],
            ["48211", "213.5", "13.46", "0.900"]
        );
        assert_eq!(middle(&[]), "–");
    }
}
