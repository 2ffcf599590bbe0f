//! The commands that work on outcomes in files: a page of them, two compared, several joined.
//!
//! Owns: these commands' flags and what they print. Must not know: how a load is made.

use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::outcome::{self, Outcome};

/// Writes one HTML page about one or several outcomes; it needs nothing else and can be sent around.
#[derive(Args, Clone, Debug)]
pub struct Report {
    /// Outcomes, as `--json` writes them; several are shown side by side.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where the page is written.
    #[arg(long, short, default_value = "report.html")]
    pub output: PathBuf,
}

/// Sets two outcomes against each other: every figure, its ratio, and whether the newer is better.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// The older outcome.
    pub old: PathBuf,
    /// The newer outcome.
    pub new: PathBuf,
    /// Up to how many per cent of difference count as none.
    #[arg(long, default_value_t = 5.0)]
    pub noise: f64,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Joins the outcomes of load processes that ran at the same time, say on several machines, into one.
#[derive(Args, Clone, Debug)]
pub struct Join {
    /// The outcomes of one run.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where the joined outcome is written; standard output when left out.
    #[arg(long, short)]
    pub output: Option<PathBuf>,
}

/// Writes a page.
///
/// # Errors
/// When an outcome cannot be read, or the page cannot be written.
pub fn report(args: &Report) -> Result<()> {
    write_page(&read_all(&args.files)?, &args.output)
}

/// Writes a page about these outcomes.
///
/// # Errors
/// When a distribution cannot be read, or the page cannot be written.
pub fn write_page(outcomes: &[Outcome], path: &Path) -> Result<()> {
    let page = outcome::page(outcomes)?;
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Prints a comparison.
///
/// # Errors
/// When an outcome cannot be read, or nobody takes what is printed.
pub fn compare(args: &Compare) -> Result<()> {
    ensure!(args.noise >= 0.0, "noise is no less than 0 %");
    let (old, new) = (outcome::read(&args.old)?, outcome::read(&args.new)?);
    let comparison = outcome::compare(&old, &new, args.noise / 100.0);
    if args.json {
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&comparison)?)?;
    } else {
        write!(stdout(), "{comparison}")?;
    }
    Ok(())
}

/// Joins and writes.
///
/// # Errors
/// When an outcome cannot be read or written, or they are not of one run.
pub fn join(args: &Join) -> Result<()> {
    let joined = outcome::join(&read_all(&args.files)?)?;
    match &args.output {
        Some(path) => outcome::write(&joined, path),
        None => Ok(writeln!(stdout(), "{}", serde_json::to_string_pretty(&joined)?)?),
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Outcome>> {
    files.iter().map(|file| outcome::read(file)).collect()
}
