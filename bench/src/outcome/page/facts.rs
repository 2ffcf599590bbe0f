//! What is read as words and tables: the verdict, checks, servers, settings, warnings.
//!
//! Owns: these sections. Must not know: charts.

use std::collections::BTreeSet;

use super::Run;
use super::html::{Table, escape};
use crate::outcome::compare::{number, with_unit};
use crate::outcome::{Checks, Outcome, Server};

const GOOD: &str = "<span class=\"good\">✓ none</span>";

/// For each run: what it is, and whether everything arrived.
pub fn verdicts(runs: &[Run<'_>]) -> String {
    let items: String = runs.iter().map(verdict).collect();
    format!("<ul class=\"verdicts\">{items}</ul>\n")
}

fn verdict(run: &Run<'_>) -> String {
    let outcome = run.outcome;
    let target = &outcome.target;
    let (class, word) = if outcome.checks.is_clean() { ("good", "✓ Clean") } else { ("bad", "✗ Broken") };
    let nodes = match target.nodes.len() {
        1 => "1 node".to_owned(),
        several => format!("{several} nodes"),
    };
    let words = [target.kind.as_str(), &target.dialect, &target.transport, &nodes];
    let words: Vec<String> = words.iter().filter(|word| !word.is_empty()).map(|word| escape(word)).collect();
    let parts = if outcome.parts > 1 { format!(", {} load processes", outcome.parts) } else { String::new() };
    format!(
        "<li class=\"hue{}\"><p><strong>{}</strong> <span class=\"pill {class}\">{word}</span></p><p>{}. {}</p><p>{}{} measured{parts}</p></li>\n",
        run.hue,
        escape(&run.name),
        words.join(" · "),
        story(&outcome.checks),
        if outcome.started.is_empty() { String::new() } else { format!("{}, ", escape(&outcome.started)) },
        with_unit((outcome.seconds * 100.0).round() / 100.0, "s"),
    )
}

fn story(checks: &Checks) -> String {
    let Checks { expected, lost, doubled, disordered, .. } = checks;
    let errors: u64 = checks.errors.values().sum();
    if checks.is_clean() {
        return match expected {
            0 => "Nothing went wrong.".to_owned(),
            _ => format!("All {} deliveries arrived, once and in order.", count(*expected)),
        };
    }
    let parts = [(lost, "lost"), (doubled, "doubled"), (disordered, "out of order"), (&errors, "errors")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| **number > 0)
        .map(|(number, word)| format!("{} {word}", count(**number)))
        .collect();
    format!("{}.", parts.join(", "))
}

/// What the checker found.
pub fn checks(runs: &[Run<'_>]) -> String {
    let mut table = Table::new("What the checker found", &head("", runs)).slim(runs.len() == 1);
    let row = |table: &mut Table, name: &str, cell: &dyn Fn(&Checks) -> String| {
        let mut cells = vec![escape(name)];
        cells.extend(runs.iter().map(|run| cell(&run.outcome.checks)));
        table.row(cells);
    };
    row(&mut table, "Sent", &|checks| count(checks.sent));
    row(&mut table, "Acknowledged", &|checks| count(checks.acked));
    row(&mut table, "Deliveries expected", &|checks| count(checks.expected));
    row(&mut table, "Delivered", &|checks| count(checks.delivered));
    row(&mut table, "Lost", &|checks| fault(checks.lost));
    row(&mut table, "Doubled", &|checks| fault(checks.doubled));
    row(&mut table, "Out of order", &|checks| fault(checks.disordered));
    let kinds: BTreeSet<&String> = runs.iter().flat_map(|run| run.outcome.checks.errors.keys()).collect();
    if kinds.is_empty() {
        row(&mut table, "Errors", &|_| GOOD.to_owned());
    }
    for kind in kinds {
        row(&mut table, &format!("Error: {kind}"), &|checks| {
            fault(checks.errors.get(kind).copied().unwrap_or_default())
        });
    }
    format!("<div class=\"card\">{}</div>", table.markup())
}

fn fault(count_of: u64) -> String {
    if count_of == 0 {
        GOOD.to_owned()
    } else {
        format!("<span class=\"bad\">✗ {}</span>", count(count_of))
    }
}

/// The watched processes.
pub fn servers(runs: &[Run<'_>]) -> String {
    let mut table = Table::new(
        "The watched processes over the measured window",
        &["Process", "CPU time", "Of one processor", "Memory before", "Most memory", "Memory after"],
    );
    for run in runs {
        for server in &run.outcome.servers {
            table.row(server_row(run, server, runs.len() > 1));
        }
        if run.outcome.servers.len() > 1 {
            let all = run.outcome.servers.iter();
            let cpu_us = all.clone().map(|server| server.cpu_us).sum();
            let mut cells = vec![prefixed(run, "together", runs.len() > 1)];
            cells.extend(cpu(run.outcome, cpu_us));
            cells.push(mebibytes(all.clone().map(|server| server.rss_kib_before).sum()));
            // Not all have their most at one time, so this would be more than there ever was.
            cells.push("–".to_owned());
            cells.push(mebibytes(all.map(|server| server.rss_kib_after).sum()));
            table.row(cells);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    format!("<div class=\"card\">{}</div>", table.markup())
}

fn prefixed(run: &Run<'_>, name: &str, prefix: bool) -> String {
    let name = escape(name);
    if prefix { format!("{}: {name}", escape(&run.name)) } else { name }
}

fn server_row(run: &Run<'_>, server: &Server, prefix: bool) -> Vec<String> {
    let pid = format!(" <span class=\"unit\">pid {}</span>", server.pid);
    let mut cells = vec![prefixed(run, &server.name, prefix) + &pid];
    cells.extend(cpu(run.outcome, server.cpu_us));
    cells.extend([server.rss_kib_before, server.rss_kib_peak, server.rss_kib_after].map(mebibytes));
    cells
}

fn cpu(outcome: &Outcome, cpu_us: u64) -> [String; 2] {
    let seconds = float(cpu_us) / 1e6;
    let share = if outcome.seconds > 0.0 {
        let percent = seconds / outcome.seconds * 100.0;
        let width = (percent / f64::from(outcome.machine.cpus.max(1))).min(100.0);
        format!(
            "<svg class=\"bar small\" aria-hidden=\"true\"><rect class=\"fill hue0\" width=\"{width:.1}%\" height=\"100%\" rx=\"3\"/></svg> {} %",
            number((percent * 10.0).round() / 10.0)
        )
    } else {
        "–".to_owned()
    };
    [with_unit((seconds * 1000.0).round() / 1000.0, "s"), share]
}

fn mebibytes(kib: u64) -> String {
    with_unit((float(kib) / 102.4).round() / 10.0, "MiB")
}

/// What makes the runs comparable, and where the load was made; unlike rows are marked.
pub fn settings(runs: &[Run<'_>]) -> String {
    let mut table = Table::new("Settings and machine", &head("Setting", runs)).slim(runs.len() == 1);
    let row = |table: &mut Table, name: &str, cell: &dyn Fn(&Outcome) -> String| {
        let values: Vec<String> = runs.iter().map(|run| escape(&cell(run.outcome))).collect();
        let differs = values.windows(2).any(|pair| pair[0] != pair[1]);
        let mark = if differs { " <span class=\"pill differs\">differs</span>" } else { "" };
        let mut cells = vec![format!("{}{mark}", escape(name))];
        cells.extend(values.iter().map(|value| format!("<span class=\"long\">{value}</span>")));
        table.row(cells);
    };
    row(&mut table, "Scenario", &|outcome| outcome.scenario.clone());
    row(&mut table, "Kind", &|outcome| outcome.target.kind.clone());
    row(&mut table, "Dialect", &|outcome| outcome.target.dialect.clone());
    row(&mut table, "Transport", &|outcome| outcome.target.transport.clone());
    row(&mut table, "Nodes", &|outcome| outcome.target.nodes.join(" "));
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.outcome.settings.keys()).collect();
    for name in names {
        row(&mut table, name, &|outcome| match outcome.settings.get(name) {
            None => "–".to_owned(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
    }
    row(&mut table, "Load processes", &|outcome| outcome.parts.to_string());
    row(&mut table, "Processors", &|outcome| outcome.machine.cpus.to_string());
    row(&mut table, "Memory", &|outcome| with_unit(float(outcome.machine.memory_mib), "MiB"));
    row(&mut table, "Kernel", &|outcome| outcome.machine.kernel.clone());
    format!("<div class=\"card\">{}</div>", table.markup())
}

/// What the reader should know before believing a figure.
pub fn warnings(runs: &[Run<'_>]) -> String {
    let items: String = runs
        .iter()
        .flat_map(|run| run.outcome.warnings.iter().map(move |warning| (run, warning)))
        .map(|(run, warning)| match runs.len() {
            1 => format!("<li>{}</li>", escape(warning)),
            _ => format!("<li><strong>{}</strong>: {}</li>", escape(&run.name), escape(warning)),
        })
        .collect();
    if items.is_empty() {
        return items;
    }
    format!(
        "<aside class=\"card warnings\" aria-label=\"Warnings\"><h2>Before you believe it</h2><ul>{items}</ul></aside>\n"
    )
}

fn head<'a>(first: &'a str, runs: &'a [Run<'_>]) -> Vec<&'a str> {
    match runs {
        [_] => vec![first, "Value"],
        _ => std::iter::once(first).chain(runs.iter().map(|run| run.name.as_str())).collect(),
    }
}

fn count(value: u64) -> String {
    number(float(value))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run fit well into 52 bits")]
fn float(value: u64) -> f64 {
    value as f64
}
