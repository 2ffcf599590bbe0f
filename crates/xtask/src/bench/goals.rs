//! What is asked of the figures, and whether it holds: ratios within one round, medians of all rounds, their spread.
//!
//! Must not know: where figures come from, which goals there are.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::figures::Found;

/// The outcomes of one round, by the names of its runs.
pub type Round = BTreeMap<String, Found>;

/// What is computed of the outcomes of one round.
#[derive(Debug, Clone)]
pub enum Measure {
    /// A figure of a run.
    Value {
        /// The run.
        of: &'static str,
        /// The figure.
        figure: &'static str,
    },
    /// A figure of a run, divided by the same figure of another.
    Ratio {
        /// The run.
        of: &'static str,
        /// The other.
        over: &'static str,
        /// The figure.
        figure: &'static str,
    },
    /// How fast a figure grows with the size of the thing: the exponent of a power law through both runs.
    Growth {
        /// The smaller run.
        from: &'static str,
        /// The larger one.
        to: &'static str,
        /// The figure.
        figure: &'static str,
        /// How many times larger it is.
        times: f64,
    },
}

/// Which side of the number is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The number or less.
    AtMost,
    /// The number or more.
    AtLeast,
}

/// One thing that is asked.
#[derive(Debug, Clone)]
pub struct Goal {
    /// Of what.
    pub measure: Measure,
    /// Which side.
    pub bound: Bound,
    /// What must be reached.
    pub target: f64,
    /// What is hoped for.
    pub stretch: Option<f64>,
    /// What the number counts; empty for ratios.
    pub unit: &'static str,
}

/// Whether it was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The stretch goal was.
    Stretch,
    /// The target was.
    Met,
    /// It was not.
    Missed,
    /// There are no figures: a run failed or was left out.
    Open,
}

/// A goal with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What was asked, in words.
    pub goal: String,
    /// What each round gave.
    pub rounds: Vec<f64>,
    /// Their median.
    pub median: Option<f64>,
    /// Whether it was reached.
    pub verdict: Verdict,
}

impl Measure {
    /// Its value in one round; `None` when a run or a figure is missing, or it would be divided by nothing.
    pub fn value(&self, round: &Round) -> Option<f64> {
        let get = |run: &str, figure: &str| round.get(run)?.figure(figure);
        let value = match self {
            Self::Value { of, figure } => get(of, figure)?,
            Self::Ratio { of, over, figure } => get(of, figure)? / get(over, figure)?,
            Self::Growth { from, to, figure, times } => {
                (get(to, figure)? / get(from, figure)?).ln() / times.ln()
            }
        };
        value.is_finite().then_some(value)
    }
}

impl Measure {
    /// The runs it is about.
    pub fn runs(&self) -> Vec<&'static str> {
        match self {
            Self::Value { of, .. } => vec![of],
            Self::Ratio { of, over, .. } => vec![of, over],
            Self::Growth { from, to, .. } => vec![from, to],
        }
    }

    /// The figure it is computed of.
    pub const fn figure(&self) -> &'static str {
        match self {
            Self::Value { figure, .. } | Self::Ratio { figure, .. } | Self::Growth { figure, .. } => figure,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { of, figure } => write!(f, "{figure} of {of}"),
            Self::Ratio { of, over, figure } => write!(f, "{figure}: {of} / {over}"),
            Self::Growth { from, to, figure, .. } => write!(f, "growth of {figure}: {from} → {to}"),
        }
    }
}

impl Goal {
    /// What is asked, in words.
    pub fn words(&self) -> String {
        let sign = match self.bound {
            Bound::AtMost => '≤',
            Bound::AtLeast => '≥',
        };
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let stretch = self.stretch.map(|stretch| format!(" ({stretch})")).unwrap_or_default();
        format!("{} {sign} {}{stretch}{unit}", self.measure, self.target)
    }

    /// Computes it for each round and says whether it is reached.
    pub fn judge(&self, rounds: &[Round]) -> Judged {
        let rounds: Vec<f64> = rounds.iter().filter_map(|round| self.measure.value(round)).collect();
        let median = median(&rounds);
        let verdict = match median {
            None => Verdict::Open,
            Some(value) if self.stretch.is_some_and(|stretch| self.reaches(value, stretch)) => {
                Verdict::Stretch
            }
            Some(value) if self.reaches(value, self.target) => Verdict::Met,
            Some(_) => Verdict::Missed,
        };
        Judged { goal: self.words(), rounds, median, verdict }
    }

    fn reaches(&self, value: f64, bound: f64) -> bool {
        match self.bound {
            Bound::AtMost => value <= bound,
            Bound::AtLeast => value >= bound,
        }
    }
}

/// The value in the middle, or the mean of both; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::{Bound, Found, Goal, Measure, Round, Verdict, median};

    const COST: &str = "cost";

    fn round(runs: &[(&str, f64)]) -> Round {
        let found = |cost: &f64| Found::parse(&format!(r#"{{"figures":{{"cost":{{"value":{cost}}}}}}}"#));
        runs.iter().map(|(name, cost)| ((*name).to_owned(), found(cost).unwrap())).collect()
    }

    fn over_floor(target: f64, stretch: Option<f64>) -> Goal {
        let measure = Measure::Ratio { of: "parlance", over: "floor", figure: COST };
        Goal { measure, bound: Bound::AtMost, target, stretch, unit: "" }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 9.0, 1.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_judged_by_their_median() {
        // The machine was three times slower in the second round: the ratio does not mind.
        let rounds = [
            round(&[("parlance", 3.0), ("floor", 2.0)]),
            round(&[("parlance", 9.0), ("floor", 6.0)]),
            round(&[("parlance", 8.0), ("floor", 2.0)]),
        ];
        let judged = over_floor(1.5, Some(1.2)).judge(&rounds);
        assert_eq!((judged.median, judged.verdict), (Some(1.5), Verdict::Met));
        assert_eq!(judged.rounds, [1.5, 1.5, 4.0]);
        assert_eq!(over_floor(2.0, Some(1.5)).judge(&rounds).verdict, Verdict::Stretch);
        assert_eq!(over_floor(1.4, None).judge(&rounds).verdict, Verdict::Missed);
        assert_eq!(judged.goal, "cost: parlance / floor ≤ 1.5 (1.2)");
    }

    #[test]
    fn a_round_without_figures_does_not_count_and_none_at_all_leaves_it_open() {
        let half = [round(&[("parlance", 3.0)]), round(&[("parlance", 3.0), ("floor", 3.0)])];
        let judged = over_floor(1.0, None).judge(&half);
        assert_eq!((judged.rounds.len(), judged.verdict), (1, Verdict::Met));
        let nothing = over_floor(1.0, None).judge(&[round(&[("parlance", 3.0), ("floor", 0.0)])]);
        assert_eq!((nothing.median, nothing.verdict), (None, Verdict::Open));
    }

    #[test]
    fn at_least_is_the_other_way_round() {
        let measure = Measure::Ratio { of: "node", over: "parlance", figure: COST };
        let goal = Goal { measure, bound: Bound::AtLeast, target: 2.5, stretch: Some(3.0), unit: "" };
        let of = |node: f64| goal.judge(&[round(&[("node", node), ("parlance", 1.0)])]).verdict;
        assert_eq!((of(2.4), of(2.5), of(3.1)), (Verdict::Missed, Verdict::Met, Verdict::Stretch));
    }

    #[test]
    fn growth_is_the_exponent() {
        let measure = Measure::Growth { from: "small", to: "large", figure: COST, times: 10.0 };
        let exponent = |large: f64| measure.value(&round(&[("small", 2.0), ("large", large)])).unwrap();
        assert!((exponent(20.0) - 1.0).abs() < 1e-9);
        assert!(exponent(2.0).abs() < 1e-9);
        assert!((exponent(200.0) - 2.0).abs() < 1e-9);
    }
}
