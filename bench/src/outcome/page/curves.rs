//! Percentile plots and plots over time.
//!
//! Owns: which lines stand in which chart. Must not know: how a line is drawn.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use super::chart::{Axis, Chart, Line, Mark, Room};
use super::html::{Table, behind, escape, micros, shown, title};
use super::{HUES, Run, figure};
use crate::outcome::Times;
use crate::outcome::compare::{number, with_unit};

/// Percentiles with a dot of their own.
const DOTS: [(f64, &str); 6] = [
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];
/// Points of a curve for every nine of the axis.
const POINTS_PER_NINE: f64 = 40.0;
/// More points than these are not told apart in a chart: neighbours become their mean.
const MOST_POINTS: usize = 240;

/// The latency plots: of one run all distributions in one chart, of several runs a chart for each distribution.
pub fn latencies(runs: &[Run<'_>]) -> Result<String> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.outcome.times.keys()).collect();
    if let [run] = runs {
        let all = run.outcome.times.iter().enumerate();
        let times: Vec<_> = all.map(|(hue, (name, times))| (title(name), hue % HUES, times)).collect();
        return plot("Latency by percentile", &times);
    }
    names
        .into_iter()
        .map(|name| {
            let times: Vec<_> = runs
                .iter()
                .filter_map(|run| run.outcome.times.get(name).map(|times| (run.name.clone(), run.hue, times)))
                .collect();
            plot(&format!("{} by percentile", title(name)), &times)
        })
        .collect()
}

fn plot(heading: &str, all: &[(String, usize, &Times)]) -> Result<String> {
    let timed: Vec<_> = all.iter().filter(|(_, _, times)| times.count > 0).collect();
    if timed.is_empty() {
        return Ok(String::new());
    }
    let mut table =
        Table::new(heading, &["", "Timed", "Min", "50 %", "90 %", "99 %", "99.9 %", "Max", "Mean"]);
    let (mut lines, mut nines) = (Vec::new(), 1.0_f64);
    for (name, hue, times) in timed {
        let histogram = times.histogram().with_context(|| format!("distribution {name}"))?;
        nines = nines.max(nines_of(times.count));
        lines.push(curve(name, *hue, &histogram));
        let mut cells = vec![escape(name), count(times.count)];
        for value in [times.min, times.p50, times.p90, times.p99, times.p999, times.max] {
            cells.push(micros(float(value)));
        }
        cells.push(micros(times.mean));
        table.row(cells);
    }
    let values = lines.iter().flat_map(|line: &Line| line.points.iter().map(|(_, log)| 10_f64.powf(*log)));
    let y = Axis::logarithmic("Latency", values, micros);
    let mut ticks = vec![(0.0, "0 %".to_owned())];
    ticks.extend(DOTS.iter().map(|(share, text)| (place(*share), (*text).to_owned())));
    ticks.retain(|(at, _)| *at <= nines + 1e-9);
    // There is no room for 50 % between 0 % and 90 % in a small chart.
    if let Some(half) = ticks.get_mut(1)
        && nines > 4.0
    {
        half.1.clear();
    }
    let x = Axis { range: (0.0, nines), ticks, name: "Share of all that took at most as long".to_owned() };
    let label = format!("{heading}, logarithmic on both axes; the same numbers stand in the table below.");
    let chart = Chart { label, x, y, lines, room: Room::Whole };
    Ok(figure(heading, &chart.markup(), &behind_open(&table)))
}

/// The percentiles are what people look for first: this table is open.
fn behind_open(table: &Table) -> String {
    behind(table).replacen("<details>", "<details open>", 1)
}

fn curve(name: &str, hue: usize, histogram: &Histogram<u64>) -> Line {
    let nines = nines_of(histogram.len());
    let at = |share: f64| (place(share), float(histogram.value_at_quantile(share).max(1)).log10());
    let mut points = Vec::new();
    let mut step = 0.0;
    while step <= nines * POINTS_PER_NINE {
        points.push(at(1.0 - 10_f64.powf(-step / POINTS_PER_NINE)));
        step += 1.0;
    }
    let marks = DOTS
        .iter()
        .filter(|(share, _)| place(*share) <= nines + 1e-9)
        .map(|(share, text)| {
            let value = micros(float(histogram.value_at_quantile(*share)));
            Mark { at: at(*share), text: format!("{name}: {text} took at most {value}"), seen: true }
        })
        .collect();
    Line { name: name.to_owned(), hue, points, marks }
}

/// Where a share stands on the axis: 90 % at 1, 99 % at 2, 99.9 % at 3.
fn place(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// How far the axis goes for so many values: beyond it there is less than one value.
fn nines_of(count: u64) -> f64 {
    float(count.max(10)).log10().min(5.0)
}

/// The plots over time, one for each series.
pub fn over_time(runs: &[Run<'_>]) -> String {
    let names: BTreeSet<(&String, &String)> =
        runs.iter().flat_map(|run| &run.outcome.series).map(|series| (&series.name, &series.unit)).collect();
    let room = if names.len() > 1 { Room::Half } else { Room::Whole };
    let charts: String = names.into_iter().map(|(name, unit)| series(runs, (name, unit), room)).collect();
    if charts.is_empty() { charts } else { format!("<div class=\"{}\">{charts}</div>", room.class()) }
}

fn series(runs: &[Run<'_>], (name, unit): (&str, &str), room: Room) -> String {
    let mut table = Table::new(&title(name), &["Second", "Run", "Value"]);
    let mut lines = Vec::new();
    for run in runs {
        for series in run.outcome.series.iter().filter(|series| series.name == name && series.unit == unit) {
            let points = thinned(&series.points);
            let text = |at: f64, value: f64| {
                format!("{}: {} at {at:.1} s", run.name, with_unit(value, &shown(unit)))
            };
            let marks = points
                .iter()
                .map(|(at, value)| Mark { at: (*at, *value), text: text(*at, *value), seen: false })
                .collect();
            for (at, value) in &points {
                table.row(vec![
                    format!("{at:.1}"),
                    escape(&run.name),
                    with_unit(*value, &escape(&shown(unit))),
                ]);
            }
            lines.push(Line { name: run.name.clone(), hue: run.hue, points, marks });
        }
    }
    if lines.iter().all(|line| line.points.is_empty()) {
        return String::new();
    }
    let values = lines.iter().flat_map(|line: &Line| line.points.iter());
    let last = values.clone().map(|(at, _)| *at).fold(1.0, f64::max);
    let y = Axis::linear(&shown(unit), values.map(|(_, value)| *value), number);
    let x = Axis::until("Seconds of the measured window", last, number);
    let label = format!("{} over time; the same numbers stand in the table below.", title(name));
    let chart = Chart { label, x, y, lines, room };
    figure(&title(name), &chart.markup(), &behind(&table))
}

/// Neighbours become their mean until there are few enough.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |of: &[(f64, f64)]| {
        let count = float(of.len() as u64);
        (
            of.iter().map(|(at, _)| at).sum::<f64>() / count,
            of.iter().map(|(_, value)| value).sum::<f64>() / count,
        )
    };
    points.chunks(size).map(mean).collect()
}

fn count(value: u64) -> String {
    number(float(value))
}

#[expect(clippy::cast_precision_loss, reason = "counts and latencies of a run fit well into 52 bits")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::{MOST_POINTS, nines_of, place, thinned};

    #[test]
    fn every_nine_takes_as_much_room() {
        for (share, at) in [(0.0, 0.0), (0.9, 1.0), (0.99, 2.0), (0.9999, 4.0)] {
            assert!((place(share) - at).abs() < 1e-9, "{share}");
        }
        assert!((nines_of(1000) - 3.0).abs() < 1e-9 && nines_of(u64::MAX) <= 5.0 && nines_of(0) >= 1.0);
    }

    #[test]
    fn few_points_stay_and_many_become_means() {
        let points: Vec<(f64, f64)> = (0..1000).map(|at| (f64::from(at), f64::from(at % 2))).collect();
        assert_eq!(thinned(&points[..10]), points[..10]);
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin.len() > MOST_POINTS / 2);
        let mean =
            |points: &[(f64, f64)]| points.iter().map(|(_, value)| value).sum::<f64>() / points.len() as f64;
        assert!((mean(&thin) - 0.5).abs() < 0.1);
    }
}
