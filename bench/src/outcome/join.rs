//! The outcomes of several load processes of one run, as one.
//!
//! Owns: how each field is joined. The order of the parts never matters. Must not know: how the parts were run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;

use super::{Figure, Join, Outcome, Series, Times};

/// Joins the outcomes of load processes that ran at the same time with the same settings.
///
/// Figures are joined as each says, distributions by their histograms. The watched processes are taken from the first
/// part that watched any, since all parts would see the same.
///
/// # Errors
/// When there is nothing to join, the parts are not of one run, or a distribution cannot be read.
pub fn join(parts: &[Outcome]) -> Result<Outcome> {
    let (first, others) = parts.split_first().context("nothing to join")?;
    if others.is_empty() {
        return Ok(first.clone());
    }
    for other in others {
        same_run(first, other)?;
    }
    let mut joined = Outcome::new(&first.scenario, first.target.clone());
    joined.label.clone_from(&first.label);
    joined.settings.clone_from(&first.settings);
    joined.parts = parts.iter().map(|part| part.parts).sum();
    joined.started = parts.iter().map(|part| &part.started).min().cloned().unwrap_or_default();
    joined.seconds = parts.iter().map(|part| part.seconds).fold(0.0, f64::max);
    joined.machine = parts.iter().map(|part| &part.machine).min().cloned().unwrap_or_default();
    joined.servers = parts
        .iter()
        .find(|part| !part.servers.is_empty())
        .map(|part| part.servers.clone())
        .unwrap_or_default();
    joined.figures = figures(parts)?;
    joined.times = times(parts)?;
    joined.series = series(parts)?;
    for part in parts {
        joined.checks.add(&part.checks);
    }
    let mut warnings: BTreeSet<&str> =
        parts.iter().flat_map(|part| &part.warnings).map(String::as_str).collect();
    if others.iter().any(|other| other.machine != first.machine) {
        warnings.insert("The load was made on several unlike machines; only one is described.");
    }
    joined.warnings = warnings.into_iter().map(str::to_owned).collect();
    shares(&mut joined, parts);
    Ok(joined)
}

fn same_run(first: &Outcome, other: &Outcome) -> Result<()> {
    ensure!(first.scenario == other.scenario, "scenarios differ: {} and {}", first.scenario, other.scenario);
    ensure!(first.label == other.label, "labels differ: “{}” and “{}”", first.label, other.label);
    ensure!(first.target == other.target, "targets differ: {:?} and {:?}", first.target, other.target);
    let names: BTreeSet<&String> = first.settings.keys().chain(other.settings.keys()).collect();
    for name in names {
        let (one, two) = (first.settings.get(name), other.settings.get(name));
        let text =
            |value: Option<&serde_json::Value>| value.map_or("not set".to_owned(), ToString::to_string);
        ensure!(one == two, "setting {name} differs: {} and {}", text(one), text(two));
    }
    Ok(())
}

/// All figures but those that are computed from others.
fn figures(parts: &[Outcome]) -> Result<BTreeMap<String, Figure>> {
    let mut found: BTreeMap<&String, Vec<(&Figure, u32)>> = BTreeMap::new();
    for part in parts {
        for (name, figure) in &part.figures {
            found.entry(name).or_default().push((figure, part.parts));
        }
    }
    let mut joined = BTreeMap::new();
    for (name, weighted) in found {
        let Some((first, _)) = weighted.first().copied() else { continue };
        if weighted.iter().any(|(figure, _)| (&figure.unit, figure.join) != (&first.unit, first.join)) {
            bail!("figure {name} has unlike units or ways of joining");
        }
        let values = weighted.iter().map(|(figure, weight)| (figure.value, f64::from(*weight)));
        if let Some(value) = combine(first.join, values) {
            joined.insert(name.clone(), Figure { value, ..first.clone() });
        }
    }
    Ok(joined)
}

/// Values with their weights as one; nothing when the value is computed from others, or there are none.
fn combine(join: Join, values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    // Sorted, because sums of floats depend on the order, and the order of the parts must not matter.
    let mut values: Vec<(f64, f64)> = values.collect();
    values.sort_by(|one, two| one.0.total_cmp(&two.0).then(one.1.total_cmp(&two.1)));
    let weight: f64 = values.iter().map(|(_, weight)| weight).sum();
    match join {
        _ if values.is_empty() => None,
        Join::Sum => Some(values.iter().map(|(value, _)| value).sum()),
        Join::Max => values.last().map(|(value, _)| *value),
        Join::Mean => Some(values.iter().map(|(value, weight)| value * weight).sum::<f64>() / weight),
        Join::Cost | Join::Memory => None,
    }
}

/// Figures that are computed from others: only a part that watched has them, and sees too few operations.
fn shares(joined: &mut Outcome, parts: &[Outcome]) {
    for (name, figure) in parts.iter().flat_map(|part| &part.figures) {
        if let Some(per) = &figure.per {
            joined.share(name, figure.join, per);
        }
    }
}

fn times(parts: &[Outcome]) -> Result<BTreeMap<String, Times>> {
    let names: BTreeSet<&String> = parts.iter().flat_map(|part| part.times.keys()).collect();
    let mut joined = BTreeMap::new();
    for name in names {
        let read = |times: &Times| times.histogram().with_context(|| format!("distribution {name}"));
        let histograms: Vec<Histogram<u64>> =
            parts.iter().filter_map(|part| part.times.get(name)).map(read).collect::<Result<_>>()?;
        joined.insert(name.clone(), Times::of(&merged(&histograms)?)?);
    }
    Ok(joined)
}

fn merged(histograms: &[Histogram<u64>]) -> Result<Histogram<u64>> {
    // Bounds that hold all from the start: a histogram that grows remembers in which steps it did.
    let low = histograms.iter().map(Histogram::low).min().unwrap_or(1);
    let high = histograms.iter().map(Histogram::high).max().unwrap_or(2);
    let digits = histograms.iter().map(Histogram::sigfig).max().unwrap_or(3);
    let mut merged = Histogram::new_with_bounds(low, high, digits)?;
    for histogram in histograms {
        merged.add(histogram)?;
    }
    Ok(merged)
}

/// Series of one name, second by second: the parts do not sample at the same instants.
fn series(parts: &[Outcome]) -> Result<Vec<Series>> {
    let names: BTreeSet<&String> =
        parts.iter().flat_map(|part| &part.series).map(|series| &series.name).collect();
    let mut joined = Vec::new();
    for name in names {
        let all: Vec<(&Series, u32)> = parts
            .iter()
            .flat_map(|part| part.series.iter().map(move |series| (series, part.parts)))
            .filter(|(series, _)| series.name == *name)
            .collect();
        let Some((first, _)) = all.first().copied() else { continue };
        if all.iter().any(|(series, _)| (&series.unit, series.join) != (&first.unit, first.join)) {
            bail!("series {name} has unlike units or ways of joining");
        }
        if let [(only, _)] = all.as_slice() {
            joined.push((*only).clone());
            continue;
        }
        joined.push(Series { points: by_second(&all, first.join), ..first.clone() });
    }
    Ok(joined)
}

fn by_second(all: &[(&Series, u32)], join: Join) -> Vec<(f64, f64)> {
    let mut seconds: BTreeMap<i64, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, weight) in all {
        let mut own: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (at, value) in &series.points {
            #[expect(clippy::cast_possible_truncation, reason = "seconds of a run")]
            own.entry(at.round() as i64).or_default().push(*value);
        }
        for (second, values) in own {
            let mean = combine(Join::Mean, values.iter().map(|value| (*value, 1.0)));
            seconds.entry(second).or_default().extend(mean.map(|mean| (mean, f64::from(*weight))));
        }
    }
    // Not computed from others, like a figure may be: what has no way of joining is shown as its mean.
    let join = if matches!(join, Join::Cost | Join::Memory) { Join::Mean } else { join };
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    let point = |(second, values): (i64, Vec<(f64, f64)>)| {
        combine(join, values.into_iter()).map(|value| (second as f64, value))
    };
    seconds.into_iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests;
