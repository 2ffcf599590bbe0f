//! The chores themselves: each says what it does, does it, and returns whether all is well.
//!
//! Must not know: how cargo is started, how a source file is measured.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use crate::cargo::{capture, ensure_component, root, run, run_watched, say};
use crate::chart;
use crate::dashboards;
use crate::engine::{Engine, Servers};
use crate::map;
use crate::report::Totals;
use crate::source::{Measures, Source, rust_files};
use crate::tools::Tools;

/// The longest a function may be, in lines of code.
pub const LONGEST_FUNCTION: usize = 60;

/// Pages that the binary prints: where each lies, and the arguments with which the binary prints it.
const GENERATED: &[(&str, &[&str])] = &[
    (
        "docs/configuration.md",
        &["run", "--quiet", "--package", "parlance", "--", "default-config", "--markdown"],
    ),
    ("docs/api.md", &["run", "--quiet", "--package", "parlance", "--", "openapi", "--markdown"]),
    ("docs/metrics.md", &["run", "--quiet", "--package", "parlance", "--", "metrics"]),
];

/// Installs what the cross-process tests need, builds the binary that they run, runs all tests (with an engine: the scenarios,
/// on it) and prints the sum as the last line.
///
/// # Errors
/// When cargo cannot be run.
pub fn test(engine: Option<Engine>, arguments: &[String]) -> Result<bool> {
    let mut totals = Totals::default();
    let well = test_into(&mut totals, engine, arguments)?;
    if !well && totals.failed == 0 {
        // A build error or a test binary that died prints no result; the sum must not look green.
        totals.failed = 1;
        say("failed without a test result: the build failed, or a test binary died");
    }
    println!("{totals}");
    Ok(well)
}

fn test_into(totals: &mut Totals, engine: Option<Engine>, arguments: &[String]) -> Result<bool> {
    say("toolchain");
    ensure_component("rustfmt", "fmt");
    ensure_component("clippy", "clippy");
    let tools = Tools::ensure()?;
    if !run(&["build", "--package", "parlance", "--package", "parlance-bench"])? {
        return Ok(false);
    }
    let mut environment = tools.environment();
    let scope: &[&str] = if engine.is_some() { &["--package", "parlance-tests"] } else { &["--workspace"] };
    let all =
        [&["test", "--no-fail-fast"], scope].concat().into_iter().chain(arguments.iter().map(String::as_str));
    let servers = engine.map(Servers::start).transpose()?;
    environment.extend(servers.as_ref().map(Servers::variable));
    run_watched(&all.collect::<Vec<_>>(), &environment, |line| totals.see(line))
}

/// Builds the binary and runs faults against it; see `tests/src/bin/chaos.rs` for the arguments.
///
/// # Errors
/// When cargo cannot be run.
pub fn chaos(arguments: &[String]) -> Result<bool> {
    if !Tools::ensure_redis() {
        say("missing: redis-server");
        return Ok(false);
    }
    if !Tools::ensure_postgres() {
        say("missing: PostgreSQL");
        return Ok(false);
    }
    play("chaos", arguments)
}

/// Builds the binary and attacks it; see `tests/src/bin/hostile.rs` for the arguments.
///
/// # Errors
/// When cargo cannot be run.
pub fn hostile(arguments: &[String]) -> Result<bool> {
    play("hostile", arguments)
}

/// Replaces nodes behind a balancer under load: the arguments go to `tests/src/bin/rollout.rs`.
///
/// # Errors
/// When cargo cannot be run.
pub fn rollout(release: bool, arguments: &[String]) -> Result<bool> {
    let optimised = release.then_some("--release");
    let build = ["build", "--package", "parlance", "--package", "parlance-bench"];
    if !run(&build.into_iter().chain(optimised).collect::<Vec<_>>())? {
        return Ok(false);
    }
    let program = ["run", "--quiet", "--package", "parlance-tests", "--bin", "rollout"];
    let all = program.into_iter().chain(optimised).chain(["--"]);
    run(&all.chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// Fills an archive while what it stands on is killed: the arguments go to `tests/src/bin/archive.rs`.
///
/// # Errors
/// When cargo cannot be run.
pub fn archive(release: bool, arguments: &[String]) -> Result<bool> {
    if !Tools::ensure_redis() || !Tools::ensure_postgres() {
        say("missing: redis-server, or PostgreSQL");
        return Ok(false);
    }
    let optimised = release.then_some("--release");
    let build = ["build", "--package", "parlance"];
    if !run(&build.into_iter().chain(optimised).collect::<Vec<_>>())? {
        return Ok(false);
    }
    let program = ["run", "--quiet", "--package", "parlance-tests", "--bin", "archive"];
    let all = program.into_iter().chain(optimised).chain(["--"]);
    run(&all.chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// Builds the binary with the feature `otel`, lays it aside, and runs the tests of traces against it and the binary that is
/// built without.
///
/// # Errors
/// When cargo cannot be run, or the binary cannot be copied.
pub fn otel() -> Result<bool> {
    if !Tools::ensure_redis() {
        say("missing: redis-server");
        return Ok(false);
    }
    if !run(&["build", "--package", "parlance", "--features", "otel"])? {
        return Ok(false);
    }
    // target/<profile>/parlance-xtask, and the binaries beside it.
    let own = std::env::current_exe()?;
    let beside = own.parent().context("this program lies outside a target folder")?;
    let traced = beside.join("parlance-otel");
    fs::copy(beside.join("parlance"), &traced).context("laying the binary aside")?;
    if !run(&["build", "--package", "parlance"])?
        || !run(&["test", "--package", "parlance-gateway", "--features", "otel", "--lib", "trace::"])?
    {
        return Ok(false);
    }
    let scenarios = ["test", "--package", "parlance-tests", "--test", "cluster", "traces::"];
    run_watched(&scenarios, &[("PARLANCE_TEST_OTEL_BINARY", traced.into())], |_| {})
}

/// Builds the binary, and runs a program of the tests against it.
fn play(program: &str, arguments: &[String]) -> Result<bool> {
    if !run(&["build", "--package", "parlance"])? {
        return Ok(false);
    }
    let mut all = vec!["run", "--quiet", "--package", "parlance-tests", "--bin", program, "--"];
    all.extend(arguments.iter().map(String::as_str));
    run(&all)
}

/// Runs the simulation of `crates/gateway/tests/simulation.rs` for these seeds.
///
/// # Errors
/// When cargo cannot be run.
pub fn simulate(seeds: u64, from: u64, release: bool) -> Result<bool> {
    let mut arguments = vec!["test", "--package", "parlance-gateway", "--test", "simulation"];
    arguments.extend(release.then_some("--release"));
    arguments.extend(["--", "--nocapture", "whatever_befalls"]);
    let environment = [
        ("PARLANCE_SIMULATION_SEEDS", seeds.to_string().into()),
        ("PARLANCE_SIMULATION_FROM", from.to_string().into()),
    ];
    run_watched(&arguments, &environment, |_| {})
}

/// Checks formatting and clippy.
///
/// # Errors
/// When cargo cannot be run.
pub fn lint() -> Result<bool> {
    let formatted = !ensure_component("rustfmt", "fmt") || run(&["fmt", "--all", "--check"])?;
    let clean = !ensure_component("clippy", "clippy")
        || run(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?
            && run(&["clippy", "--workspace", "--features", "parlance/otel", "--", "-D", "warnings"])?;
    Ok(formatted && clean)
}

/// Writes the generated pages, or with `check` compares them with what is there.
///
/// # Errors
/// When cargo cannot be run, the table cannot be read, or a page cannot be written.
pub fn docs(check: bool) -> Result<bool> {
    let table = fs::read_to_string(root().join(map::TABLE)).context(map::TABLE)?;
    let mut well = put(map::PAGE, &map::page(&table)?, check)?;
    for (page, arguments) in GENERATED {
        well &= match capture(arguments)? {
            Some(text) => put(page, &text, check)?,
            None => {
                say(&format!("{page}: the binary could not print it"));
                false
            }
        };
    }
    let read = |page: &str| fs::read_to_string(root().join(page)).with_context(|| page.to_owned());
    well &= put(chart::PAGE, &chart::page(&read(chart::PAGE)?, &read(chart::VALUES)?)?, check)?;
    well &= put(chart::SCHEMA, &chart::schema(&read(chart::SCHEMA)?, &read(chart::OPTIONS)?)?, check)?;
    for (page, text) in dashboards::all()? {
        well &= put(&page, &text, check)?;
    }
    Ok(well)
}

/// Writes a page, or with `check` says whether it is up to date.
fn put(page: &str, text: &str, check: bool) -> Result<bool> {
    let path = root().join(page);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        say(&format!("{page}: up to date"));
    } else if check {
        say(&format!("{page}: out of date, run `cargo xtask docs`"));
        return Ok(false);
    } else {
        fs::write(&path, text).with_context(|| format!("cannot write {page}"))?;
        say(&format!("{page}: written"));
    }
    Ok(true)
}

/// Prints lines of code and tests per crate, and the share of long functions.
///
/// # Errors
/// When a source file cannot be read.
pub fn stats() -> Result<bool> {
    let mut crates: BTreeMap<String, Measures> = BTreeMap::new();
    for path in rust_files(&root())? {
        let source = Source::read(&root(), &path)?;
        crates.entry(source.member().to_owned()).or_default().add(&source.measure());
    }
    let mut total = Measures::default();
    println!("{:<28}{:>8}{:>8}{:>8}{:>11}{:>7}", "crate", "code", "tests", "ratio", "functions", "long");
    for (name, measures) in &crates {
        print_row(name, measures);
        total.add(measures);
    }
    print_row("total", &total);
    let share = percent(total.long, total.functions);
    println!(
        "functions longer than {LONGEST_FUNCTION} lines: {} of {} ({share:.1} %)",
        total.long, total.functions
    );
    Ok(true)
}

fn print_row(name: &str, measures: &Measures) {
    let Measures { code, tests, functions, long } = measures;
    let ratio = percent(*tests, *code) / 100.0;
    println!("{name:<28}{code:>8}{tests:>8}{ratio:>8.2}{functions:>11}{long:>7}");
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
