//! What becomes of an outcome: files, a summary for people, the exit code.
//!
//! Must not know: how it came about.

use std::process::ExitCode;

use anyhow::Result;

use crate::outcome::{self, Outcome};
use crate::results;
use crate::scenario::common::Common;

/// Writes the outcome down and says whether it is good.
pub fn end(outcome: &Outcome, common: &Common) -> Result<ExitCode> {
    if let Some(path) = &common.json {
        outcome::write(outcome, path)?;
    }
    if let Some(path) = &common.html {
        results::write_page(std::slice::from_ref(outcome), path)?;
    }
    if common.part.of > 1 {
        println!("{}", serde_json::to_string(outcome)?);
        return Ok(ExitCode::SUCCESS);
    }
    if !common.quiet {
        print(outcome);
    }
    let mut good = outcome.checks.is_clean();
    for threshold in &common.threshold {
        if let Some(broken) = threshold.broken(outcome)? {
            eprintln!("parlance-bench: {broken}");
            good = false;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print(outcome: &Outcome) {
    println!(
        "{} on {} {}, {:.1} s",
        outcome.scenario, outcome.target.kind, outcome.target.dialect, outcome.seconds
    );
    for (name, figure) in &outcome.figures {
        println!("  {name:<26} {:>14.2} {}", figure.value, figure.unit);
    }
    for (name, times) in &outcome.times {
        println!(
            "  {name:<26} p50 {} p90 {} p99 {} p99.9 {} max {} µs ({} timed)",
            times.p50, times.p90, times.p99, times.p999, times.max, times.count
        );
    }
    for server in &outcome.servers {
        println!(
            "  {:<26} CPU {:.2} s, memory {} -> {} KiB (peak {})",
            server.name,
            server.cpu_us as f64 / 1e6,
            server.rss_kib_before,
            server.rss_kib_after,
            server.rss_kib_peak
        );
    }
    let checks = &outcome.checks;
    println!(
        "  {} sent, {} acked, {} of {} delivered, {} lost, {} doubled, {} out of order",
        checks.sent,
        checks.acked,
        checks.delivered,
        checks.expected,
        checks.lost,
        checks.doubled,
        checks.disordered
    );
    for (kind, count) in &checks.errors {
        println!("  error: {kind} ({count})");
    }
    for warning in &outcome.warnings {
        println!("  note: {warning}");
    }
}
