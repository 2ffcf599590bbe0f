//! `checker FOLDER…`: judges the histories that chaos runs have left, again.

use std::path::Path;
use std::process::ExitCode;

use parlance_tests::chaos::check::Run;
use parlance_tests::chaos::table::{figures, table};

fn main() -> ExitCode {
    let mut reports = Vec::new();
    for folder in std::env::args().skip(1) {
        match Run::load(Path::new(&folder)) {
            Ok(run) => reports.push(run.judge()),
            Err(error) => {
                eprintln!("checker: {folder}: {error:#}");
                return ExitCode::from(2);
            }
        }
    }
    if reports.is_empty() {
        eprintln!("usage: checker FOLDER…");
        return ExitCode::from(2);
    }
    print!("{}", table(&reports));
    for report in &reports {
        print!("{}{}", figures(report), report.evidence());
    }
    let is_well = reports.iter().all(parlance_tests::chaos::Report::is_well);
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
