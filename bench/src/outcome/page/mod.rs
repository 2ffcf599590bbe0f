//! The page: outcomes in one HTML file that needs nothing else.
//!
//! Owns: the order of its sections. Must not know: where it is written.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Outcome;
use html::escape;

mod chart;
mod curves;
mod facts;
mod figures;
mod html;

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded and nothing is run, whatever stands in an outcome.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";
/// How many colours there are.
const HUES: usize = 8;

/// An outcome and how it is told from the others of its page.
pub(super) struct Run<'a> {
    outcome: &'a Outcome,
    name: String,
    hue: usize,
}

/// One file with everything about these outcomes; several are shown side by side.
///
/// # Errors
/// When a distribution cannot be read.
pub fn page(outcomes: &[Outcome]) -> Result<String> {
    let runs: Vec<Run<'_>> = outcomes
        .iter()
        .zip(names(outcomes))
        .enumerate()
        .map(|(hue, (outcome, name))| Run { outcome, name, hue: hue % HUES })
        .collect();
    let heading = heading(outcomes);
    let sections = [
        facts::warnings(&runs),
        section("Figures", &figures::figures(&runs)),
        section("Checks", &facts::checks(&runs)),
        section("Latency", &curves::latencies(&runs)?),
        section("Over time", &curves::over_time(&runs)),
        section("Servers", &facts::servers(&runs)),
        section("Settings and machine", &facts::settings(&runs)),
    ];
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n{verdicts}</header>\n\
         <main>\n{body}</main>\n<footer>Written by parlance-bench {version}.</footer>\n</body>\n</html>\n",
        title = escape(&heading),
        verdicts = facts::verdicts(&runs),
        body = sections.concat(),
        version = env!("CARGO_PKG_VERSION"),
    ))
}

fn heading(outcomes: &[Outcome]) -> String {
    let scenarios: BTreeSet<String> = outcomes.iter().map(|outcome| html::title(&outcome.scenario)).collect();
    let scenarios: Vec<String> = scenarios.into_iter().collect();
    match outcomes {
        [_] => scenarios.concat(),
        _ => format!("{}: {} runs", scenarios.join(", "), outcomes.len()),
    }
}

/// A name for each, no two alike.
fn names(outcomes: &[Outcome]) -> Vec<String> {
    let plain = |outcome: &Outcome| {
        let target = &outcome.target;
        match (outcome.label.as_str(), target.dialect.as_str()) {
            ("", "") => target.kind.clone(),
            ("", dialect) => format!("{} {dialect}", target.kind),
            (label, _) => label.to_owned(),
        }
    };
    let all: Vec<String> = outcomes.iter().map(plain).collect();
    let mut names = Vec::new();
    for (place, name) in all.iter().enumerate() {
        let before = all.iter().take(place).filter(|other| *other == name).count();
        let several = all.iter().filter(|other| *other == name).count() > 1;
        names.push(if several { format!("{name} ({})", before + 1) } else { name.clone() });
    }
    names
}

fn section(heading: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let id = heading.to_lowercase().replace(' ', "-");
    format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{heading}</h2>\n{body}\n</section>\n")
}

/// A chart with its heading and the table behind it.
fn figure(heading: &str, drawing: &str, table: &str) -> String {
    format!(
        "<figure class=\"card\">\n<figcaption><h3>{}</h3></figcaption>\n{drawing}\n{table}\n</figure>\n",
        escape(heading)
    )
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::outcome::{Outcome, sample};

    fn outcome(label: &str) -> Outcome {
        let mut outcome = sample::outcome();
        label.clone_into(&mut outcome.label);
        outcome
    }

    #[test]
    fn everything_of_an_outcome_is_on_its_page() {
        let mut outcome = outcome("first");
        outcome.warn("The disk was slow.");
        outcome.checks.lost = 17;
        outcome.checks.errors.insert("timeout".to_owned(), 3);
        let page = page(&[outcome]).unwrap();
        for text in [
            "Fanout",
            "first",
            "CPU per delivery",
            "3.5",
            "29.71 ms",
            "timeout",
            "17",
            "The disk was slow.",
            "gateway",
            "4711",
            "members",
            "6.1.0",
            "ws://127.0.0.1:8081",
        ] {
            assert!(page.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let page = page(&[outcome("a"), outcome("b")]).unwrap();
        for text in ["src=", "<script", "@import", "url(", "http://", "https://"] {
            assert!(!page.contains(text), "{text} is there");
        }
    }

    #[test]
    fn nothing_in_an_outcome_becomes_markup() {
        let mut bad = outcome("<b id=x>\"'");
        bad.warn("<b id=x>");
        bad.scenario = "<b id=x>".to_owned();
        bad.servers[0].name = "<b id=x>".to_owned();
        bad.target.nodes = vec!["<b id=x>".to_owned()];
        bad.setting("<b id=x>", "<b id=x>");
        bad.checks.errors.insert("<b id=x>".to_owned(), 1);
        bad.series[0].name = "<b id=x>".to_owned();
        bad.series[0].unit = "<b id=x>".to_owned();
        let (figure, times) = (bad.figures["deliveries"].clone(), bad.times["delivery"].clone());
        bad.figures
            .insert("<b id=x>".to_owned(), crate::outcome::Figure { unit: "<b id=x>".to_owned(), ..figure });
        bad.times.insert("<b id=x>".to_owned(), times);
        for outcomes in [vec![bad.clone()], vec![bad.clone(), bad]] {
            assert!(!page(&outcomes).unwrap().contains("<b id"));
        }
    }

    #[test]
    fn runs_of_one_name_are_told_apart() {
        let page = page(&[outcome("same"), outcome("same")]).unwrap();
        assert!(page.contains("same (1)") && page.contains("same (2)"));
    }

    #[test]
    fn an_outcome_of_nothing_still_has_a_page() {
        let empty = Outcome::new("idle", crate::outcome::Target::default());
        assert!(page(std::slice::from_ref(&empty)).unwrap().contains("<h1>Idle</h1>"));
        assert!(page(&[empty.clone(), empty]).is_ok());
    }
}
