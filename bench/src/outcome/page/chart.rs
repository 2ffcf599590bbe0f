//! Line charts as SVG.
//!
//! Owns: scales, axes, lines. Must not know: what the lines are of.

use super::html::escape;

/// A line of a chart.
pub struct Line {
    /// What it is.
    pub name: String,
    /// Which colour and dash.
    pub hue: usize,
    /// Where it goes.
    pub points: Vec<(f64, f64)>,
    /// Points that say something when the pointer rests on them.
    pub marks: Vec<Mark>,
}

/// A point that says something when the pointer rests on it.
pub struct Mark {
    /// Where.
    pub at: (f64, f64),
    /// What it says.
    pub text: String,
    /// Whether it is seen before.
    pub seen: bool,
}

/// An axis: a scale and where it is labelled.
pub struct Axis {
    /// Both ends; the values of a logarithmic axis are logarithms already.
    pub range: (f64, f64),
    /// Where a line stands and what is written there; what is empty is only a line.
    pub ticks: Vec<(f64, String)>,
    /// What it measures.
    pub name: String,
}

/// A chart of lines.
pub struct Chart {
    /// What it shows, in one sentence for those who do not see it.
    pub label: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
    /// How much room there is.
    pub room: Room,
}

/// How large a chart is drawn. Text in an SVG shrinks with it, so every width of screen gets a drawing of its own.
struct Canvas {
    class: &'static str,
    width: f64,
    height: f64,
    /// Of every so many labels on the x axis one is written, when there are many.
    every: usize,
}

/// Which room a chart has on a wide screen.
#[derive(Clone, Copy)]
pub enum Room {
    /// All of a row.
    Whole,
    /// Half of one.
    Half,
}

impl Room {
    /// The class of what holds charts of this kind.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Whole => "rows",
            Self::Half => "halves",
        }
    }

    const fn canvases(self) -> [Canvas; 3] {
        let (width, height, every) = match self {
            Self::Whole => (1030.0, 320.0, 1),
            Self::Half => (490.0, 240.0, 1),
        };
        [
            Canvas { class: "wide", width, height, every },
            Canvas { class: "medium", width: 640.0, height: 280.0, every: 1 },
            Canvas { class: "narrow", width: 330.0, height: 230.0, every: 2 },
        ]
    }
}

const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 44.0;

impl Chart {
    /// Its drawings and its legend.
    pub fn markup(&self) -> String {
        let drawings: String = self.room.canvases().iter().map(|canvas| self.draw(canvas)).collect();
        drawings + &self.legend()
    }

    fn legend(&self) -> String {
        if self.lines.len() < 2 {
            return String::new();
        }
        let keys: String = self
            .lines
            .iter()
            .map(|line| {
                format!(
                    "<li><svg class=\"key\" viewBox=\"0 0 26 8\" aria-hidden=\"true\"><path class=\"line hue{}\" d=\"M1 4H25\"/></svg>{}</li>",
                    line.hue,
                    escape(&line.name)
                )
            })
            .collect();
        format!("<ul class=\"legend\">{keys}</ul>")
    }

    fn draw(&self, canvas: &Canvas) -> String {
        let Canvas { class, width, height, .. } = canvas;
        let mut svg = format!(
            "<svg class=\"chart {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&self.label)
        );
        svg.push_str(&self.axes(canvas));
        for line in &self.lines {
            let path: Vec<String> = line
                .points
                .iter()
                .map(|point| {
                    let (x, y) = self.place(canvas, *point);
                    format!("{x:.1} {y:.1}")
                })
                .collect();
            if !path.is_empty() {
                svg.push_str(&format!("<path class=\"line hue{}\" d=\"M{}\"/>\n", line.hue, path.join("L")));
            }
        }
        // On top of every line, or else a line takes the pointer's rest from a mark.
        for (line, mark) in self.lines.iter().flat_map(|line| line.marks.iter().map(move |mark| (line, mark)))
        {
            let (x, y) = self.place(canvas, mark.at);
            let (class, radius) = if mark.seen { ("dot", 4) } else { ("spot", 7) };
            svg.push_str(&format!(
                "<circle class=\"{class} hue{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{}</title></circle>\n",
                line.hue,
                escape(&mark.text)
            ));
        }
        svg + "</svg>"
    }

    fn axes(&self, canvas: &Canvas) -> String {
        let (right, bottom) = (canvas.width - RIGHT, canvas.height - BOTTOM);
        let mut svg = String::new();
        for (at, text) in &self.y.ticks {
            let (_, y) = self.place(canvas, (self.x.range.0, *at));
            svg.push_str(&format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            svg.push_str(&format!(
                "<text x=\"{}\" y=\"{:.1}\" class=\"end\">{}</text>\n",
                LEFT - 8.0,
                y + 4.0,
                escape(text)
            ));
        }
        let labelled = self.x.ticks.iter().filter(|(_, text)| !text.is_empty()).count();
        let every = if labelled > 5 { canvas.every } else { 1 };
        let mut number = 0;
        for (at, text) in &self.x.ticks {
            let (x, _) = self.place(canvas, (*at, self.y.range.0));
            svg.push_str(&format!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>"));
            if !text.is_empty() && number % every == 0 {
                // A label in the middle of its line would be cut off at the edge.
                let class = if x > right - 20.0 { "end" } else { "middle" };
                let (x, y) = (if x > right - 20.0 { canvas.width } else { x }, bottom + 18.0);
                svg.push_str(&format!(
                    "<text x=\"{x:.1}\" y=\"{y}\" class=\"{class}\">{}</text>\n",
                    escape(text)
                ));
            }
            number += usize::from(!text.is_empty());
        }
        svg.push_str(&format!("<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>"));
        svg.push_str(&format!(
            "<text x=\"{right}\" y=\"{}\" class=\"end name\">{}</text><text x=\"2\" y=\"12\" class=\"name\">{}</text>\n",
            canvas.height - 6.0,
            escape(&self.x.name),
            escape(&self.y.name)
        ));
        svg
    }

    fn place(&self, canvas: &Canvas, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (from, to): (f64, f64)| {
            if to > from { ((value - from) / (to - from)).clamp(0.0, 1.0) } else { 0.5 }
        };
        let (width, height) = (canvas.width - LEFT - RIGHT, canvas.height - TOP - BOTTOM);
        (LEFT + share(x, self.x.range) * width, TOP + (1.0 - share(y, self.y.range)) * height)
    }
}

impl Axis {
    /// From 0 (or below, when there is something) to a round number above everything.
    pub fn linear(
        name: &str,
        values: impl Iterator<Item = f64> + Clone,
        write: impl Fn(f64) -> String,
    ) -> Self {
        let most = values.clone().fold(0.0, f64::max);
        let least = values.fold(0.0, f64::min);
        let span = if most > least { most - least } else { 1.0 };
        let step = round_step(span / 5.0);
        let (from, to) = ((least / step).floor(), (most / step).ceil().max((least / step).floor() + 1.0));
        let mut ticks = Vec::new();
        let mut at = from;
        while at <= to {
            ticks.push((at * step, write(at * step)));
            at += 1.0;
        }
        Self { range: (from * step, to * step), ticks, name: name.to_owned() }
    }

    /// From 0 to the last value, which need not be round.
    pub fn until(name: &str, last: f64, write: impl Fn(f64) -> String) -> Self {
        let step = round_step(last.max(f64::MIN_POSITIVE) / 8.0);
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at * step <= last {
            ticks.push((at * step, write(at * step)));
            at += 1.0;
        }
        Self { range: (0.0, last), ticks, name: name.to_owned() }
    }

    /// Logarithmic, over all positive values; places on it are logarithms.
    pub fn logarithmic(
        name: &str,
        values: impl Iterator<Item = f64> + Clone,
        write: impl Fn(f64) -> String,
    ) -> Self {
        let most = values.clone().fold(1.0, f64::max);
        let least = values.filter(|value| *value > 0.0).fold(most, f64::min);
        let (from, to) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
        let factors: &[f64] = if to - from > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        let mut decade = from;
        while decade <= to {
            for factor in factors {
                let value = factor * 10_f64.powf(decade);
                if value.log10() <= to + 1e-9 {
                    ticks.push((value.log10(), write(value)));
                }
            }
            decade += 1.0;
        }
        // Whole decades are often mostly empty: up to the first line around everything.
        let low = ticks.iter().map(|tick| tick.0).filter(|at| *at <= least.log10()).fold(from, f64::max);
        let high = ticks.iter().map(|tick| tick.0).filter(|at| *at >= most.log10()).fold(to, f64::min);
        ticks.retain(|(at, _)| *at >= low - 1e-9 && *at <= high + 1e-9);
        Self { range: (low, high), ticks, name: name.to_owned() }
    }
}

/// 1, 2 or 5 times a power of ten, at least as much as asked for.
fn round_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|step| *step >= least)
        .unwrap_or(10.0 * decade)
}

#[cfg(test)]
mod tests {
    use super::{Axis, round_step};

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn steps_are_round() {
        for (least, step) in [(0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (30.0, 50.0), (60.0, 100.0)] {
            assert!((round_step(least) - step).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn linear_axes_hold_everything_and_zero() {
        let axis = Axis::linear("", [3.0, 97.0].into_iter(), |value| value.to_string());
        assert_eq!(texts(&axis), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(axis.range, (0.0, 100.0));
        let axis = Axis::linear("", std::iter::empty(), |value| value.to_string());
        assert!(axis.range.1 > axis.range.0, "nothing to show still has an axis");
    }

    #[test]
    fn logarithmic_axes_end_at_the_lines_around_everything() {
        let axis = Axis::logarithmic("", [3.0, 97.0].into_iter(), |value| format!("{value:.0}"));
        assert_eq!(texts(&axis), ["2", "5", "10", "20", "50", "100"]);
        let axis = Axis::logarithmic("", [7.0, 7.0].into_iter(), |value| format!("{value:.0}"));
        assert_eq!(texts(&axis), ["5", "10"]);
    }
}
