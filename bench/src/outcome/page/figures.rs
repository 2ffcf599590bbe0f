//! The figures: of one run as large numbers, of several as bars beside each other.
//!
//! Owns: how figures look. Must not know: what they mean.

use std::collections::BTreeSet;

use super::Run;
use super::html::{Table, behind, escape, shown, title};
use crate::outcome::compare::number;
use crate::outcome::{Better, Figure, Join};

/// All figures: what an operation costs, then what else can be good or bad, then what only describes the run.
pub fn figures(runs: &[Run<'_>]) -> String {
    let place = |figure: &Figure| match (figure.join, figure.better) {
        (Join::Cost | Join::Memory, _) => 0,
        (_, Better::None) => 2,
        _ => 1,
    };
    let all = runs.iter().flat_map(|run| &run.outcome.figures);
    let names: BTreeSet<(u8, &String)> = all.map(|(name, figure)| (place(figure), name)).collect();
    let cards: String = names
        .into_iter()
        .map(|(_, name)| if let [run] = runs { tile(run, name) } else { bars(runs, name) })
        .collect();
    if cards.is_empty() {
        return cards;
    }
    let class = if runs.len() == 1 { "tiles" } else { "grid" };
    format!("<div class=\"{class}\">{cards}</div>")
}

fn tile(run: &Run<'_>, name: &str) -> String {
    let Some(figure) = run.outcome.figures.get(name) else { return String::new() };
    format!(
        "<div class=\"card tile\"><h3 title=\"{}\">{}</h3><p class=\"big\">{} <span class=\"unit\">{}</span></p>{}</div>\n",
        escape(name),
        escape(&title(name)),
        number(figure.value),
        escape(&shown(&figure.unit)),
        better(figure)
    )
}

fn better(figure: &Figure) -> String {
    match figure.better {
        Better::Lower => "<p class=\"note\">↓ lower is better</p>".to_owned(),
        Better::Higher => "<p class=\"note\">↑ higher is better</p>".to_owned(),
        Better::None => String::new(),
    }
}

fn bars(runs: &[Run<'_>], name: &str) -> String {
    let found: Vec<(&Run<'_>, &Figure)> =
        runs.iter().filter_map(|run| run.outcome.figures.get(name).map(|figure| (run, figure))).collect();
    let Some((_, first)) = found.first().copied() else { return String::new() };
    let most = found.iter().map(|(_, figure)| figure.value.abs()).fold(0.0, f64::max);
    let mut table = Table::new(&title(name), &["Run", "Value", "Of the first"]);
    let mut list = String::new();
    for (place, (run, figure)) in found.iter().enumerate() {
        let share = if most > 0.0 { figure.value.abs() / most * 100.0 } else { 0.0 };
        let ratio = (first.value != 0.0).then(|| format!("{:.2} ×", figure.value / first.value));
        let beside = if place == 0 { None } else { ratio.as_ref() };
        list.push_str(&format!(
            "<li><span class=\"who\">{}</span><svg class=\"bar\" aria-hidden=\"true\"><rect class=\"fill hue{}\" width=\"{share:.2}%\" \
             height=\"100%\" rx=\"3\"/></svg><span class=\"what\">{} <span class=\"unit\">{}</span></span><span class=\"ratio\">{}</span></li>\n",
            escape(&run.name),
            run.hue,
            number(figure.value),
            escape(&shown(&figure.unit)),
            beside.map(String::as_str).unwrap_or_default(),
        ));
        let value = format!("{} {}", number(figure.value), escape(&shown(&figure.unit)));
        table.row(vec![escape(&run.name), value, ratio.unwrap_or_else(|| "–".to_owned())]);
    }
    format!(
        "<figure class=\"card\"><figcaption><h3 title=\"{}\">{}</h3>{}</figcaption><ul class=\"bars\">{list}</ul>{}</figure>\n",
        escape(name),
        escape(&title(name)),
        better(first),
        behind(&table)
    )
}
