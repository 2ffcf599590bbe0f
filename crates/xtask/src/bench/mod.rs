//! `cargo xtask bench`: Parlance beside its peers, under the same load, on the same machine, in turns.
//!
//! Owns: the arguments, the order of the runs, the folder of the results. Must not know: what a figure means.

mod figures;
mod goals;
mod micro;
mod page;
mod process;
mod programs;
mod servers;
mod table;
mod targets;
mod turn;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::cargo::{root, say};
use figures::Found;
use goals::{Goal, Round};
use micro::Micro;
use process::Stage;
use programs::Programs;
use servers::Kind;
use table::{Line, Row, Table};
use targets::{Run, Target};
use turn::Turn;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the load on Parlance and on its peers in turns, and says which targets are reached.
    Compare(Compare),
    /// Runs the micro-benchmarks, and prints one table of what they found.
    Micro(Micro),
    /// Prints the table of a comparison again.
    Show {
        /// Its folder.
        folder: PathBuf,
    },
    /// Writes the table of a comparison, and what follows from it, into the performance page.
    Page {
        /// Its folder.
        folder: PathBuf,
    },
    /// Ends what a comparison left behind: reads process ids until its input ends.
    #[command(hide = true)]
    Caretaker {
        /// Removed in the end.
        folder: PathBuf,
    },
}

/// What is compared.
#[derive(Debug, Args)]
pub struct Compare {
    /// The numbers of the targets, with commas between; all when absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// How often everything is run: three times, or once in a quick run.
    #[arg(long)]
    rounds: Option<usize>,
    /// The peers, with commas between; all when absent.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Kind>,
    /// Short runs, to see that everything works: their figures do not count.
    #[arg(long)]
    quick: bool,
    /// Builds nothing that is there: runs what was built last.
    #[arg(long)]
    no_build: bool,
    /// Where the results go; `bench/runs/<date>-<machine>` when absent (quick runs: below `bench/runs/tmp`). In a folder
    /// with a comparison of as many rounds, targets are added or measured anew.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// When nothing can be compared or shown.
pub fn bench(command: &Command) -> Result<bool> {
    match command {
        Command::Compare(compare) => compare.run(),
        Command::Micro(micro) => micro.run(&target_folder()?),
        Command::Show { folder } => {
            print!("{}", Table::read(folder)?.text());
            Ok(true)
        }
        Command::Page { folder } => page::write(folder),
        Command::Caretaker { folder } => process::take_care(folder, io::stdin().lock()).map(|()| true),
    }
}

impl Compare {
    fn run(&self) -> Result<bool> {
        let targets = self.targets()?;
        let target = target_folder()?;
        process::raise_descriptor_limit();
        let kinds: BTreeSet<Kind> =
            targets.iter().flat_map(|target| target.runs.iter().map(|run| run.setup.kind)).collect();
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        if !self.no_build {
            programs::build()?;
        }
        let programs = Programs::ensure(&kinds, &target, self.no_build)?;
        let out = self.folder()?;
        let stage = Stage::open(target.join(format!("tmp/bench-{}", std::process::id())))?;
        let rounds = self.rounds.unwrap_or(if self.quick { 1 } else { 3 });
        let mut table = Table {
            date: jiff::Zoned::now().strftime("%Y-%m-%d").to_string(),
            machine: machine(),
            rounds,
            quick: self.quick,
            skipped: programs.absent.iter().map(|(kind, reason)| format!("{kind}: {reason}")).collect(),
            targets: Vec::new(),
        }
        .begin(&out)?;
        for target in &targets {
            let mut turn =
                Turn { programs: &programs, stage: &stage, out: &out, quick: self.quick, frame: None };
            let (row, machine) = play(target, rounds, &mut turn);
            table.machine = machine.unwrap_or(table.machine);
            table.put(row);
            // After each, so that a comparison that is broken off has left what it found.
            table.write(&out)?;
        }
        print!("\n{}", table.text());
        say(&format!("written to {}", out.display()));
        Ok(table.is_well())
    }

    /// The targets that are asked for, with the runs of the peers that are.
    fn targets(&self) -> Result<Vec<Target>> {
        let mut targets = targets::all();
        for number in &self.only {
            ensure!(targets.iter().any(|target| target.number == *number), "there is no target {number}");
        }
        targets.retain(|target| self.only.is_empty() || self.only.contains(&target.number));
        for target in &mut targets {
            target.runs.retain(|run| self.wants(run.setup.kind));
        }
        ensure!(self.rounds != Some(0), "no rounds");
        Ok(targets)
    }

    fn wants(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Parlance | Kind::Floor) || self.peers.is_empty() || self.peers.contains(&kind)
    }

    /// A new folder for the results.
    fn folder(&self) -> Result<PathBuf> {
        let name = format!("{}-{}", jiff::Zoned::now().strftime("%Y-%m-%d"), machine());
        let below = if self.quick { "bench/runs/tmp" } else { "bench/runs" };
        let folder = match &self.out {
            Some(folder) => std::env::current_dir()?.join(folder),
            None => unused(&root().join(below), &name),
        };
        let outcomes = folder.join("outcomes");
        fs::create_dir_all(&outcomes).with_context(|| format!("cannot create {}", outcomes.display()))?;
        Ok(folder)
    }
}

/// Plays all rounds of a target; what came of it, and the machine as the load generator saw it.
fn play(target: &Target, rounds: usize, turn: &mut Turn<'_>) -> (Row, Option<String>) {
    say(&format!("{}. {}", target.number, target.title));
    let runs: Vec<&Run> =
        target.runs.iter().filter(|run| !turn.programs.absent.contains_key(&run.setup.kind)).collect();
    let (mut found, mut notes, mut machine): (Vec<Round>, Vec<String>, _) = (Vec::new(), Vec::new(), None);
    for number in 0..rounds {
        let mut round = Round::new();
        for run in in_turn(&runs, number) {
            match turn.play(target, run, number) {
                Ok(outcome) => {
                    println!("    {} of {rounds}  {:<20} {}", number + 1, run.name, brief(target, &outcome));
                    let flaws = outcome.flaws().join(", ");
                    if !flaws.is_empty() {
                        notes.push(format!("{}, round {}: {flaws}", run.name, number + 1));
                    }
                    machine = Some(outcome.machine());
                    round.insert(run.name.to_owned(), outcome);
                }
                Err(error) => {
                    println!("    {} of {rounds}  {:<20} failed: {error:#}", number + 1, run.name);
                    let all = format!("{error:#}");
                    let first = all.lines().next().unwrap_or_default();
                    notes.push(format!("{}, round {}: failed: {first}", run.name, number + 1));
                }
            }
        }
        found.push(round);
    }
    let row = Row {
        number: target.number,
        title: target.title.to_owned(),
        load: format!("{} {}", target.scenario, target.flags),
        goals: asked_of(target, &runs).map(|goal| goal.judge(&found)).collect(),
        figures: lines(target, &runs, &found),
        notes,
    };
    (row, machine)
}

/// The goals whose runs all take part.
fn asked_of<'a>(target: &'a Target, runs: &'a [&Run]) -> impl Iterator<Item = &'a Goal> {
    let takes_part = |name: &str| runs.iter().any(|run| run.name == name);
    target.goals.iter().filter(move |goal| goal.measure.runs().into_iter().all(takes_part))
}

/// Every round begins with another run, so that none always has the quiet (or the warm) machine.
fn in_turn<'a>(runs: &[&'a Run], round: usize) -> Vec<&'a Run> {
    let mut turn = runs.to_vec();
    let length = turn.len().max(1);
    turn.rotate_left(round % length);
    turn
}

/// The figures that the goals of a target ask for.
fn asked(target: &Target) -> Vec<&'static str> {
    let mut figures: Vec<&'static str> = target.goals.iter().map(|goal| goal.measure.figure()).collect();
    let mut seen = BTreeSet::new();
    figures.retain(|figure| seen.insert(*figure));
    figures
}

fn brief(target: &Target, outcome: &Found) -> String {
    let of = |figure: &str| outcome.figure(figure).map(|value| format!("{figure} {value:.2}"));
    asked(target).into_iter().filter_map(of).collect::<Vec<_>>().join("  ")
}

fn lines(target: &Target, runs: &[&Run], found: &[Round]) -> Vec<Line> {
    let mut lines = Vec::new();
    for figure in asked(target) {
        for run in runs {
            let rounds: Vec<f64> =
                found.iter().filter_map(|round| round.get(run.name)?.figure(figure)).collect();
            if !rounds.is_empty() {
                lines.push(Line { run: run.name.to_owned(), figure: figure.to_owned(), rounds });
            }
        }
    }
    lines
}

/// As in the name of a folder: no name of a host.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors}vcpu-{}", std::env::consts::OS)
}

/// The folder of that name, or of that name and a number, that is not there yet.
fn unused(below: &Path, name: &str) -> PathBuf {
    let numbered = (2..).map(|number| below.join(format!("{name}-{number}")));
    let mut all = std::iter::once(below.join(name)).chain(numbered);
    all.find(|folder| !folder.exists()).unwrap_or_else(|| below.join(name))
}

/// Where cargo builds: this program lies in `target/<profile>`.
fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where does this program lie?")?;
    Ok(own.ancestors().nth(2).context("this program lies outside a target folder")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Compare, Kind, in_turn, targets};

    fn compare(only: &[u32], peers: &[Kind]) -> Compare {
        Compare {
            only: only.to_vec(),
            rounds: None,
            peers: peers.to_vec(),
            quick: false,
            no_build: false,
            out: None,
        }
    }

    #[test]
    fn every_goal_is_about_runs_that_there_are() {
        let all = targets::all();
        assert_eq!(all.iter().map(|target| target.number).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
        for target in all {
            let has = |name: &str| target.runs.iter().any(|run| run.name == name);
            for goal in &target.goals {
                assert!(goal.measure.runs().into_iter().all(has), "{}: {}", target.number, goal.words());
            }
        }
    }

    #[test]
    fn peers_are_chosen_and_parlance_and_the_floor_always_run() {
        let chosen = compare(&[1], &[Kind::SioxRedis]).targets().unwrap();
        assert_eq!(chosen.len(), 1);
        let names: Vec<_> = chosen[0].runs.iter().map(|run| run.name).collect();
        assert_eq!(names, ["parlance", "floor", "siox-redis"]);
        assert!(compare(&[99], &[]).targets().is_err());
    }

    #[test]
    fn every_round_begins_with_another_run() {
        let target = targets::all().swap_remove(0);
        let runs: Vec<_> = target.runs.iter().take(3).collect();
        let names = |round| in_turn(&runs, round).iter().map(|run| run.name).collect::<Vec<_>>();
        assert_eq!(names(0), ["parlance", "floor", "node-redis"]);
        assert_eq!(names(1), ["floor", "node-redis", "parlance"]);
        assert_eq!(names(3), names(0));
        assert!(in_turn(&[], 2).is_empty());
    }
}
