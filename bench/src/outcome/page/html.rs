//! Text and tables of the page.
//!
//! Owns: escaping, tables, how numbers and durations are written. Must not know: what is shown.

/// Text that cannot be taken for markup, in an element or in an attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A table; cells are markup already.
pub struct Table {
    caption: String,
    class: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a caption for those who do not see where it stands, and its column heads.
    pub fn new(caption: &str, head: &[&str]) -> Self {
        let head = head.iter().map(|cell| escape(cell)).collect();
        Self { caption: escape(caption), class: "", head, rows: Vec::new() }
    }

    /// As wide as it must be: one column of values far from their names is hard to read.
    pub fn slim(mut self, slim: bool) -> Self {
        self.class = if slim { "slim" } else { "" };
        self
    }

    /// A row, its first cell the row's head. Cells are markup.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its markup.
    pub fn markup(&self) -> String {
        let head: String = self.head.iter().map(|cell| format!("<th scope=\"col\">{cell}</th>")).collect();
        let mut markup = format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table class=\"{class}\"><caption>{caption}</caption>\
             <thead><tr>{head}</tr></thead><tbody>",
            caption = self.caption,
            class = self.class
        );
        for row in &self.rows {
            markup.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let (open, close) =
                    if column == 0 { ("<th scope=\"row\">", "</th>") } else { ("<td>", "</td>") };
                markup.push_str(&format!("{open}{cell}{close}"));
            }
            markup.push_str("</tr>\n");
        }
        markup + "</tbody></table></div>"
    }
}

/// A table behind a chart, opened on request.
pub fn behind(table: &Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    format!("<details><summary>As a table</summary>{}</details>", table.markup())
}

/// A unit for people.
pub fn shown(unit: &str) -> String {
    unit.strip_prefix("1/").map_or_else(|| unit.to_owned(), |of| format!("/{of}"))
}

/// Microseconds for people, in the unit that fits.
pub fn micros(micros: f64) -> String {
    use crate::outcome::compare::with_unit;
    match micros.abs() {
        size if size >= 1e6 => with_unit(micros / 1e6, "s"),
        size if size >= 1e3 => with_unit(micros / 1e3, "ms"),
        _ => with_unit(micros, "µs"),
    }
}

/// A name from the JSON for people: `cpu_us_per_delivery` is the CPU per delivery, and its unit stands behind its value.
pub fn title(name: &str) -> String {
    let words = name.split(['_', '-', ' ']).filter(|word| !matches!(*word, "us" | "ms" | "kib" | "mib" | ""));
    let words: Vec<String> = words
        .enumerate()
        .map(|(place, word)| match word {
            "cpu" => "CPU".to_owned(),
            "rss" => "RSS".to_owned(),
            "http" => "HTTP".to_owned(),
            _ if place == 0 => {
                let mut letters = word.chars();
                letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
            }
            _ => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{escape, micros, title};

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(escape("<a href=\"x\" b='y'>&"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
    }

    #[test]
    fn names_and_durations_are_for_people() {
        assert_eq!(title("cpu_us_per_delivery"), "CPU per delivery");
        assert_eq!(title("receipt_read"), "Receipt read");
        assert_eq!(micros(250.0), "250 µs");
        assert_eq!(micros(12_340.0), "12.34 ms");
        assert_eq!(micros(2_500_000.0), "2.5 s");
    }
}
