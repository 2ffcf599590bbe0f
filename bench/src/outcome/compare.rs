//! Two outcomes beside each other.
//!
//! Owns: which numbers are set against each other, and when a difference counts. Must not know: files, HTML.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{Better, Outcome};

/// Two outcomes beside each other.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// How the older is called.
    pub old: String,
    /// How the newer is called.
    pub new: String,
    /// Up to which relative difference two values count as equal.
    pub noise: f64,
    /// The numbers.
    pub rows: Vec<Row>,
    /// What makes the two hard to compare.
    pub notes: Vec<String>,
}

/// One number of both.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The number's name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The older value; `None` when only the newer outcome has it.
    pub old: Option<f64>,
    /// The newer value.
    pub new: Option<f64>,
    /// The newer over the older; `None` when one is missing or the older is 0.
    pub ratio: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The newer is better by more than the noise.
    Better,
    /// The newer is worse by more than the noise.
    Worse,
    /// Equal but for noise.
    Same,
    /// Nothing: it only describes the run, or one of the two has none.
    None,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::None => "",
        }
    }
}

/// Sets the numbers of two outcomes against each other. Differences up to `noise` (0.05 is 5 %) count as none, but for
/// what the checker found: there every one counts.
#[must_use]
pub fn compare(old: &Outcome, new: &Outcome, noise: f64) -> Comparison {
    let (before, after) = (numbers(old), numbers(new));
    let names: BTreeSet<(&Place, &String)> =
        before.iter().chain(&after).map(|number| (&number.place, &number.name)).collect();
    let find = |numbers: &[Number], name: &str| numbers.iter().find(|number| number.name == name).cloned();
    let rows = names
        .into_iter()
        .filter_map(|(_, name)| row(find(&before, name), find(&after, name), noise))
        .collect();
    Comparison { old: old.name(), new: new.name(), noise, rows, notes: notes(old, new, noise) }
}

/// In which order numbers stand.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Figure,
    /// By their distribution, and there in this order.
    Times(String, usize),
    Check,
}

#[derive(Clone)]
struct Number {
    place: Place,
    name: String,
    unit: String,
    value: f64,
    better: Better,
}

#[expect(clippy::cast_precision_loss, reason = "counts and latencies of a run fit well into 52 bits")]
fn numbers(outcome: &Outcome) -> Vec<Number> {
    let mut numbers = Vec::new();
    for (name, figure) in &outcome.figures {
        let (name, unit) = (name.clone(), figure.unit.clone());
        numbers.push(Number { place: Place::Figure, name, unit, value: figure.value, better: figure.better });
    }
    for (name, times) in &outcome.times {
        let statistics = [
            ("p50", times.p50),
            ("p90", times.p90),
            ("p99", times.p99),
            ("p999", times.p999),
            ("max", times.max),
        ];
        for (rank, (statistic, micros)) in statistics.into_iter().enumerate() {
            let place = Place::Times(name.clone(), rank);
            let (name, unit) = (format!("{name}.{statistic}_ms"), "ms".to_owned());
            let better = Better::Lower;
            numbers.push(Number { place, name, unit, value: micros as f64 / 1000.0, better });
        }
    }
    let errors = outcome.checks.errors.values().sum();
    let checks = &outcome.checks;
    for (name, count) in [
        ("lost", checks.lost),
        ("doubled", checks.doubled),
        ("disordered", checks.disordered),
        ("errors", errors),
    ] {
        let (name, unit) = (name.to_owned(), String::new());
        numbers.push(Number { place: Place::Check, name, unit, value: count as f64, better: Better::Lower });
    }
    numbers
}

fn row(old: Option<Number>, new: Option<Number>, noise: f64) -> Option<Row> {
    let either = new.as_ref().or(old.as_ref())?;
    let noise = if either.place == Place::Check { 0.0 } else { noise };
    let (name, unit, better) = (either.name.clone(), either.unit.clone(), either.better);
    let (old, new) = (old.map(|number| number.value), new.map(|number| number.value));
    let (ratio, verdict) = match (old, new) {
        (Some(old), Some(new)) => ((old != 0.0).then(|| new / old), judge(old, new, better, noise)),
        _ => (None, Verdict::None),
    };
    Some(Row { name, unit, old, new, ratio, verdict })
}

fn judge(old: f64, new: f64, better: Better, noise: f64) -> Verdict {
    let same = (new - old).abs() <= noise * old.abs();
    match better {
        Better::None => Verdict::None,
        _ if same => Verdict::Same,
        Better::Lower if new < old => Verdict::Better,
        Better::Higher if new > old => Verdict::Better,
        Better::Lower | Better::Higher => Verdict::Worse,
    }
}

fn notes(old: &Outcome, new: &Outcome, noise: f64) -> Vec<String> {
    let mut notes = Vec::new();
    if old.scenario != new.scenario {
        notes.push(format!("The scenarios differ: {} and {}.", old.scenario, new.scenario));
    }
    let names: BTreeSet<&String> = old.settings.keys().chain(new.settings.keys()).collect();
    for name in names {
        let text =
            |outcome: &Outcome| outcome.settings.get(name).map_or("not set".to_owned(), ToString::to_string);
        if old.settings.get(name) != new.settings.get(name) {
            notes.push(format!("Setting {name} differs: {} and {}.", text(old), text(new)));
        }
    }
    if old.machine != new.machine {
        notes.push("The load was made on unlike machines.".to_owned());
    }
    for outcome in [old, new] {
        if !outcome.checks.is_clean() {
            let name = outcome.name();
            notes.push(format!("{name}: messages or requests failed, so its figures are of a broken run."));
        }
    }
    notes.push(format!(
        "Differences up to {} % count as none. One run of each tells little about noise: interleave runs of both, at \
         least three, and compare medians.",
        noise * 100.0
    ));
    notes
}

impl Outcome {
    /// What people call it: its label, or else its scenario and when it was.
    #[must_use]
    pub fn name(&self) -> String {
        if self.label.is_empty() { format!("{} {}", self.scenario, self.started) } else { self.label.clone() }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![["", &self.old, &self.new, "ratio", ""].map(str::to_owned)];
        for row in &self.rows {
            let value =
                |value: Option<f64>| value.map_or("–".to_owned(), |value| with_unit(value, &row.unit));
            let ratio = row.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
            lines.push([
                row.name.clone(),
                value(row.old),
                value(row.new),
                ratio,
                row.verdict.word().to_owned(),
            ]);
        }
        let width =
            |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        let [name, old, new, ratio] = [width(0), width(1), width(2), width(3)];
        for line in &lines {
            let [a, b, c, d, e] = line;
            let text = format!("{a:name$}  {b:>old$}  {c:>new$}  {d:>ratio$}  {e}");
            writeln!(out, "{}", text.trim_end())?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    }
}

/// A number for people: four digits that matter, thousands apart.
#[must_use]
pub fn with_unit(value: f64, unit: &str) -> String {
    let number = number(value);
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}

/// A number for people: four digits that matter, thousands apart.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 1000.0 || value.fract() == 0.0 => 0,
        _ if size >= 100.0 => 1,
        _ if size >= 10.0 => 2,
        _ if size >= 1.0 => 3,
        _ => 4,
    };
    let text = format!("{size:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let rest = if rest.is_empty() { rest } else { rest.trim_end_matches('0').trim_end_matches('.') };
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::{Verdict, compare, number};
    use crate::outcome::{Better, Join, sample};

    fn verdict(better: Better, old: f64, new: f64) -> Verdict {
        let (mut before, mut after) = (sample::outcome(), sample::outcome());
        before.figure("it", old, "", better, Join::Sum);
        after.figure("it", new, "", better, Join::Sum);
        let comparison = compare(&before, &after, 0.05);
        comparison.rows.iter().find(|row| row.name == "it").unwrap().verdict
    }

    #[test]
    fn better_is_what_the_figure_says() {
        assert_eq!(verdict(Better::Lower, 100.0, 50.0), Verdict::Better);
        assert_eq!(verdict(Better::Lower, 100.0, 150.0), Verdict::Worse);
        assert_eq!(verdict(Better::Higher, 100.0, 150.0), Verdict::Better);
        assert_eq!(verdict(Better::Higher, 100.0, 50.0), Verdict::Worse);
        assert_eq!(verdict(Better::None, 100.0, 50.0), Verdict::None);
    }

    #[test]
    fn noise_is_no_difference() {
        assert_eq!(verdict(Better::Lower, 100.0, 105.0), Verdict::Same);
        assert_eq!(verdict(Better::Lower, 100.0, 105.1), Verdict::Worse);
        assert_eq!(verdict(Better::Higher, 100.0, 95.0), Verdict::Same);
        assert_eq!(verdict(Better::Lower, 0.0, 0.0), Verdict::Same);
        assert_eq!(verdict(Better::Lower, 0.0, 0.1), Verdict::Worse);
    }

    #[test]
    fn one_lost_message_is_no_noise() {
        let (mut before, mut after) = (sample::outcome(), sample::outcome());
        before.checks.lost = 1000;
        after.checks.lost = 1001;
        let comparison = compare(&before, &after, 0.05);
        let row = comparison.rows.iter().find(|row| row.name == "lost").unwrap();
        assert_eq!(row.verdict, Verdict::Worse);
    }

    #[test]
    fn what_only_one_has_is_shown_without_a_verdict() {
        let (mut before, after) = (sample::outcome(), sample::outcome());
        before.figure("gone", 3.0, "", Better::Lower, Join::Sum);
        let comparison = compare(&before, &after, 0.05);
        let row = comparison.rows.iter().find(|row| row.name == "gone").unwrap();
        assert_eq!((row.old, row.new, row.ratio, row.verdict), (Some(3.0), None, None, Verdict::None));
    }

    #[test]
    fn what_makes_two_runs_hard_to_compare_is_said() {
        let (before, mut after) = (sample::outcome(), sample::outcome());
        assert_eq!(compare(&before, &after, 0.05).notes.len(), 1, "only the note on noise");
        "rooms".clone_into(&mut after.scenario);
        after.setting("members", 7);
        after.machine.cpus = 64;
        after.checks.lost = 1;
        let notes = compare(&before, &after, 0.05).notes.join("\n");
        for word in
            ["fanout and rooms", "members differs: 1000 and 7", "unlike machines", "broken run", "5 %"]
        {
            assert!(notes.contains(word), "{word} is missing in {notes}");
        }
    }

    #[test]
    fn the_table_lines_up() {
        let (before, mut after) = (sample::outcome(), sample::outcome());
        "after".clone_into(&mut after.label);
        after.figures.get_mut("cpu_us_per_delivery").unwrap().value = 1.75;
        let table = compare(&before, &after, 0.05).to_string();
        let line = table.lines().find(|line| line.starts_with("cpu_us_per_delivery")).unwrap();
        assert!(line.contains("3.5 µs") && line.contains("1.75 µs"), "{line}");
        assert!(line.contains("0.500") && line.ends_with("better"), "{line}");
        let ends: Vec<Option<usize>> = table
            .lines()
            .take_while(|line| !line.starts_with("note"))
            .filter_map(|line| line.find("1.000").map(|byte| line[..byte].chars().count()))
            .map(Some)
            .collect();
        assert!(ends.len() > 3 && ends.iter().all(|end| *end == ends[0]), "{table}");
    }

    #[test]
    fn numbers_are_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.12345, "0.1235"),
            (3.3, "3.3"),
            (12.3456, "12.35"),
            (999.96, "1\u{202f}000"),
            (1234.5, "1\u{202f}234"),
            (1_234_567.0, "1\u{202f}234\u{202f}567"),
            (-20.0, "−20"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
