//! `cargo xtask bench page`: what a comparison found, in the performance page, between marks: its targets, its constants,
//! and what a million connections take by them.
//!
//! Owns: these parts of the page, and the calculation. Must not know: how it was measured.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::goals::{Verdict, median};
use super::table::Table;
use crate::cargo::{root, say};

/// The page.
const PAGE: &str = "docs/performance.md";
/// How much of a processor is planned with: the rest is for peaks, and for a node that is gone.
const PLANNED: f64 = 0.6;
/// Processors of a node in the examples.
const PROCESSORS: f64 = 8.0;
/// Connections in the examples.
const CONNECTIONS: f64 = 1e6;
/// Bytes of a delivered message beside its text: names, ids, the frame, and the headers of TCP and IP.
const AROUND: f64 = 320.0;
/// Bytes of a text in the examples.
const TEXT: f64 = 100.0;

/// What a connection does in an example: its name, messages it sends each second, those who hear each of them.
const LOADS: [(&str, f64, f64); 3] = [
    ("idle: connected and present, nothing is said", 0.0, 0.0),
    ("talking in pairs: everybody says something every 50 s", 0.02, 1.0),
    ("in rooms of 50: everybody says something every 100 s", 0.01, 49.0),
];

/// What is calculated with, in microseconds and KiB.
#[derive(Debug, PartialEq)]
struct Constants {
    delivery: f64,
    pair: f64,
    idle: f64,
    connect: f64,
    resident: f64,
}

/// Where each stands in a comparison: number of the target, run, figure; and what it is.
const SOURCES: [(u32, &str, &str, &str); 5] = [
    (
        1,
        "parlance",
        "cpu_us_per_delivery",
        "CPU of a delivery in a room of 1,000, its share of the message included, µs",
    ),
    (
        5,
        "parlance",
        "cpu_us_per_message",
        "CPU of a durable message between two people on two nodes, Redis included, µs",
    ),
    (
        10,
        "parlance",
        "cpu_us_per_connection_second",
        "CPU of an idle connection with pings and presence, µs each second",
    ),
    (9, "parlance", "cpu_us_per_connect", "CPU of a connect: handshake, token, lease, µs"),
    (8, "parlance", "rss_kib_per_connection", "resident memory of an idle connection in three rooms, KiB"),
];

/// Writes what the comparison in `folder` found into the page.
///
/// # Errors
/// When the comparison or the page cannot be read, or the page lacks a mark.
pub fn write(folder: &Path) -> Result<bool> {
    let (table, path) = (Table::read(folder)?, root().join(PAGE));
    ensure!(!table.quick, "a quick comparison: its figures do not count");
    let from = folder.canonicalize().ok();
    let from = from.as_deref().and_then(|it| it.strip_prefix(root()).ok()).unwrap_or(folder);
    let page = fs::read_to_string(&path).context(PAGE)?;
    let page = between(&page, "targets", &targets(&table, from))?;
    let page = between(&page, "sizing", &sizing(&table, from))?;
    fs::write(&path, page).context(PAGE)?;
    say(&format!("{PAGE}: written"));
    Ok(true)
}

/// The page with another text between its marks.
fn between(page: &str, mark: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {mark}: -->"), format!("<!-- :{mark} -->"));
    let (head, rest) = page.split_once(&begin).with_context(|| format!("{PAGE} lacks {begin}"))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("{PAGE} lacks {end}"))?;
    Ok(format!("{head}{begin}\n\n{}\n\n{end}{tail}", text.trim()))
}

fn put(out: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{line}");
}

fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn targets(table: &Table, from: &Path) -> String {
    let mut out = String::new();
    let (date, machine, rounds) = (&table.date, &table.machine, table.rounds);
    put(
        &mut out,
        &format!(
            "Measured {date} on {machine}, {rounds} rounds, `{}`; median (least to most).\n",
            from.display()
        ),
    );
    put(&mut out, "| # | what | target (stretch) | measured | |\n|---|---|---|---|---|");
    for row in &table.targets {
        for (index, goal) in row.goals.iter().enumerate() {
            let (number, title) =
                if index == 0 { (row.number.to_string(), row.title.as_str()) } else { Default::default() };
            let least = goal.rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = goal.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let measured = goal.median.map_or("–".to_owned(), |median| {
                format!("{} ({} to {})", shown(median), shown(least), shown(most))
            });
            let verdict = match goal.verdict {
                Verdict::Stretch => "stretch",
                Verdict::Met => "reached",
                Verdict::Missed => "**missed**",
                Verdict::Open => "not measured",
            };
            put(&mut out, &format!("| {number} | {title} | {} | {measured} | {verdict} |", goal.goal));
        }
    }
    out
}

/// The median of a figure of a run.
fn figure(table: &Table, (number, run, figure, _): (u32, &str, &str, &str)) -> Option<f64> {
    let row = table.targets.iter().find(|row| row.number == number)?;
    let line = row.figures.iter().find(|line| line.run == run && line.figure == figure)?;
    median(&line.rounds)
}

fn sizing(table: &Table, from: &Path) -> String {
    let mut out = format!(
        "Constants of `{}`:\n\n| constant | value | target, figure |\n|---|---|---|\n",
        from.display()
    );
    let values = SOURCES.map(|source| figure(table, source));
    for ((number, _, name, what), value) in SOURCES.into_iter().zip(values) {
        let value = value.map_or("not measured".to_owned(), shown);
        put(&mut out, &format!("| {what} | {value} | {number}, `{name}` |"));
    }
    let [Some(delivery), Some(pair), Some(idle), Some(connect), Some(resident)] = values else {
        put(&mut out, "\nNot all of them were measured: nothing is calculated.");
        return out;
    };
    let constants = Constants { delivery, pair, idle, connect, resident };
    put(
        &mut out,
        "\nA million connections by these, texts of 100 bytes, nodes of 8 processors planned to 60 %, one node more than needed:\n",
    );
    put(
        &mut out,
        "| every connection is … | messages/s | deliveries/s | processors busy | nodes | memory of a node | out of a node |\n|---|---|---|---|---|---|---|",
    );
    for load in LOADS {
        put(&mut out, &constants.example(load));
    }
    let seconds = CONNECTIONS * connect / 1e6 / (PROCESSORS * PLANNED);
    put(
        &mut out,
        &format!(
            "\nAll million coming back at once: {} s on one such node's processors, divided by the nodes.",
            shown(seconds)
        ),
    );
    out
}

impl Constants {
    /// Processors that are busy with so many messages and deliveries each second, and with being connected.
    fn busy(&self, messages: f64, deliveries: f64) -> f64 {
        // A message of a pair has one delivery in it.
        let message = (self.pair - self.delivery).max(0.0);
        (CONNECTIONS * self.idle + messages * message + deliveries * self.delivery) / 1e6
    }

    fn example(&self, (name, each, hearers): (&str, f64, f64)) -> String {
        let messages = CONNECTIONS * each;
        let deliveries = messages * hearers;
        let busy = self.busy(messages, deliveries);
        let needed = (busy / (PROCESSORS * PLANNED)).ceil().max(1.0);
        let memory = CONNECTIONS / needed * self.resident / (1024.0 * 1024.0);
        let out = deliveries / needed * (AROUND + TEXT) * 8.0 / 1e6;
        format!(
            "| {name} | {messages:.0} | {deliveries:.0} | {} | {:.0} + 1 | {} GiB | {} Mbit/s |",
            shown(busy),
            needed,
            shown(memory),
            shown(out)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::goals::Judged;
    use super::super::table::{Line, Row};
    use super::*;

    fn measured() -> Table {
        let goal = Judged {
            goal: "x ≤ 1.4".into(),
            rounds: vec![1.0, 1.25, 1.5],
            median: Some(1.25),
            verdict: Verdict::Met,
        };
        let row = |(number, run, figure, _): (u32, &str, &str, &str)| Row {
            number,
            title: format!("target {number}"),
            goals: vec![goal.clone()],
            figures: vec![Line { run: run.into(), figure: figure.into(), rounds: vec![4.0, 2.0, 3.0] }],
            ..Row::default()
        };
        Table {
            date: "2026-01-02".into(),
            machine: "2vcpu-linux".into(),
            rounds: 3,
            targets: SOURCES.map(row).into(),
            ..Table::default()
        }
    }

    #[test]
    fn the_page_changes_between_its_marks_only() {
        let page = "a <!-- targets: -->old<!-- :targets --> b";
        assert_eq!(
            between(page, "targets", "new").unwrap(),
            "a <!-- targets: -->\n\nnew\n\n<!-- :targets --> b"
        );
        assert!(between(page, "sizing", "new").is_err());
    }

    #[test]
    fn targets_and_constants_are_those_of_the_comparison() {
        let table = measured();
        let text = targets(&table, Path::new("bench/runs/x"));
        assert!(text.contains("| 1 | target 1 | x ≤ 1.4 | 1.25 (1.00 to 1.50) | reached |"), "{text}");
        let text = sizing(&table, Path::new("bench/runs/x"));
        assert!(text.contains("| 3.00 | 10, `cpu_us_per_connection_second` |"), "{text}");
        assert!(text.contains("| 0 | 0 | 3.00 | 1 + 1 | 2.86 GiB | 0 Mbit/s |"), "{text}");
        let lacking = Table { targets: table.targets[1..].to_vec(), ..table };
        let text = sizing(&lacking, Path::new("bench/runs/x"));
        assert!(text.contains("not measured") && text.contains("nothing is calculated"), "{text}");
    }

    #[test]
    fn what_is_busy_adds_up() {
        let constants = Constants { delivery: 4.0, pair: 34.0, idle: 0.5, connect: 40.0, resident: 4.0 };
        assert!((constants.busy(0.0, 0.0) - 0.5).abs() < 1e-9);
        // 20,000 messages of 30 µs and as many deliveries of 4 µs.
        assert!((constants.busy(20_000.0, 20_000.0) - (0.5 + 0.6 + 0.08)).abs() < 1e-9);
        let rooms = constants.example(LOADS[2]);
        assert!(rooms.contains("| 10000 | 490000 | 2.76 | 1 + 1 |"), "{rooms}");
    }
}
