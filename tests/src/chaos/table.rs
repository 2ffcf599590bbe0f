//! The table that a series of runs ends with: faults by promises.

use super::check::{Invariant, Report, Verdict};

/// The table, a line per run.
pub fn table(reports: &[Report]) -> String {
    let width = reports.iter().map(|report| report.name.len()).max().unwrap_or(0).max(5);
    let mut text = format!("{:<width$}", "fault");
    for invariant in Invariant::ALL {
        text.push_str(&format!(" {:>4}", invariant.name()));
    }
    text.push_str(&format!(" {:>7} {:>8} {:>20}\n", "acked", "shown", "seed"));
    for report in reports {
        text.push_str(&format!("{:<width$}", report.name));
        for invariant in Invariant::ALL {
            let cell = match report.verdicts.get(&invariant) {
                Some(Verdict::Kept(..)) => "ok",
                Some(Verdict::Broken(_)) => "VIOL",
                Some(Verdict::NotApplicable(_)) | None => "-",
            };
            text.push_str(&format!(" {cell:>4}"));
        }
        text.push_str(&format!(" {:>7} {:>8} {:>20}\n", report.acked, report.shown, report.seed));
    }
    text
}

/// The figures of a run, a line each.
pub fn figures(report: &Report) -> String {
    let all = report.verdicts.iter().filter_map(|(invariant, verdict)| match verdict {
        Verdict::Kept(_, Some(figure)) => Some(format!("    {} {figure}\n", invariant.name())),
        _ => None,
    });
    all.collect()
}
