//! `chaos`: goes through faults one after the other for so long, and prints what was kept and what was not. Started
//! by `cargo xtask chaos`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parlance_tests::chaos::scenario::Scenario;
use parlance_tests::chaos::table::{figures, table};
use parlance_tests::chaos::{Fault, Report, run};

struct Arguments {
    seed: u64,
    minutes: u64,
    nodes: usize,
    users: usize,
    faults: Vec<Fault>,
    folder: PathBuf,
    long: bool,
    outside: bool,
    quick_ms: u64,
}

fn arguments() -> Result<Arguments> {
    let mut all = Arguments {
        seed: rand::random(),
        minutes: 10,
        nodes: 3,
        users: 10,
        faults: Fault::ALL.to_vec(),
        folder: std::env::temp_dir(),
        long: false,
        outside: false,
        quick_ms: 500,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => all.seed = value()?.parse()?,
            "--minutes" => all.minutes = value()?.parse()?,
            "--nodes" => all.nodes = value()?.parse()?,
            "--users" => all.users = value()?.parse()?,
            "--folder" => all.folder = value()?.into(),
            "--quick-ms" => all.quick_ms = value()?.parse()?,
            "--long" => all.long = true,
            "--outside" => all.outside = true,
            "--list" => {
                Fault::ALL.iter().for_each(|fault| println!("{:<20}{}", fault.name(), fault.text()));
                std::process::exit(0);
            }
            "--faults" => {
                let faults = value()?;
                let found = faults
                    .split(',')
                    .map(|name| Fault::parse(name).with_context(|| format!("no fault {name}")));
                all.faults = found.collect::<Result<_>>()?;
            }
            _ => bail!("unknown argument {word}"),
        }
    }
    Ok(all)
}

#[tokio::main]
async fn main() -> ExitCode {
    match play().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Goes through the faults until the time is over, each at least once; whether nothing was broken.
async fn play() -> Result<bool> {
    let all = arguments()?;
    let folder = all.folder.join(format!("chaos-{}", all.seed));
    println!("seed {}, histories in {}", all.seed, folder.display());
    let (began, span) = (Instant::now(), Duration::from_secs(all.minutes * 60));
    let (mut reports, mut failed) = (Vec::new(), Vec::new());
    for round in 0.. {
        for (n, fault) in all.faults.iter().enumerate() {
            if round > 0 && began.elapsed() >= span {
                return finish(&reports, &failed, &folder);
            }
            // The first round of one fault plays with the seed itself: so it can be played again alone.
            let seed = all.seed.wrapping_add(round * 1000);
            let scenario = Scenario {
                nodes: all.nodes,
                users: all.users,
                long: all.long,
                leaver: all.long,
                outside: all.outside || fault.is_outside(),
                ack_p99_ms: all.quick_ms,
                ..Scenario::of(*fault, seed)
            };
            let folder = folder.join(format!("{round}-{n:02}-{}", fault.name()));
            match run(&scenario, &folder).await {
                Ok(report) => {
                    print!("{}", show(&report));
                    reports.push(report);
                }
                Err(error) => {
                    println!("{}: could not be run: {error:#}", fault.name());
                    failed.push(format!("{} (seed {seed}): {error:#}", fault.name()));
                }
            }
        }
        if began.elapsed() >= span {
            break;
        }
    }
    finish(&reports, &failed, &folder)
}

fn show(report: &Report) -> String {
    let state = if report.is_well() { "ok" } else { "VIOLATION" };
    let Report { name, acked, shown, seed, .. } = report;
    let head = format!("{name}: {state}, {acked} acked, {shown} shown, seed {seed}\n");
    head + &figures(report) + &report.evidence()
}

fn finish(reports: &[Report], failed: &[String], folder: &Path) -> Result<bool> {
    println!("\n{}", table(reports));
    failed.iter().for_each(|one| println!("could not be run: {one}"));
    println!("histories in {}", folder.display());
    Ok(failed.is_empty() && reports.iter().all(Report::is_well))
}
