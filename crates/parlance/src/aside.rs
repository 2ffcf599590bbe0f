//! What whoever follows what happens has not taken yet, and what lies put aside: webhooks, the archive. One node answers for all.
//!
//! Owns: asking it, and how that reads. Must not know: who follows.

use std::fmt::Write as _;

use hyper::Method;
use serde_json::Value;

use crate::failure::Failure;
use crate::nodes;

/// How much is shown.
#[derive(clap::Args)]
pub struct List {
    /// Events shown at most.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// The answer as it came, for programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: nodes::Args,
}

impl List {
    /// Shows it; `call`: the call of the server API that knows.
    pub async fn show(&self, call: &str) -> Result<(), Failure> {
        let answer = nodes::get(&self.node, &format!("{call}?limit={}", self.limit)).await?;
        if self.json {
            println!("{answer}");
        } else {
            print!("{}", told(&answer));
        }
        Ok(())
    }
}

/// Whom to ask for another try.
#[derive(clap::Args)]
pub struct Retry {
    #[command(flatten)]
    node: nodes::Args,
}

impl Retry {
    /// Has what lies aside taken again; `done`: what is said of that.
    pub async fn ask(&self, call: &str, done: &str) -> Result<(), Failure> {
        let answer = nodes::call(&self.node, Method::POST, &format!("{call}/retry")).await?;
        println!("{done} again: {}", number(&answer, "retried"));
        Ok(())
    }
}

/// A number of an answer; 0 where there is none.
pub fn number(answer: &Value, field: &str) -> u64 {
    answer.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// How much waits, and what was given up.
fn told(answer: &Value) -> String {
    let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut out = format!("waiting: {}", number(answer, "waiting"));
    if let Some(oldest) = answer.get("oldest").and_then(Value::as_str) {
        // Writing into a string cannot fail.
        let _ = write!(out, ", the oldest since {oldest}");
    }
    let _ = writeln!(out, "\ngiven up: {}", number(answer, "aside"));
    for event in answer.get("events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let _ = writeln!(out, "  {}  {}  {}", text(event, "id"), text(event, "at"), text(event, "type"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_waits_and_what_was_given_up_is_told() {
        let answer = json!({ "waiting": 3, "oldest": "2026-01-01T00:00:00.000Z", "aside": 1, "events": [
            { "id": "7-1-0", "type": "read.moved", "at": "2026-01-01T00:00:01.000Z", "data": {} },
        ]});
        assert_eq!(
            told(&answer),
            "waiting: 3, the oldest since 2026-01-01T00:00:00.000Z\ngiven up: 1\n  7-1-0  2026-01-01T00:00:01.000Z  read.moved\n"
        );
        assert_eq!(told(&json!({ "waiting": 0, "aside": 0, "events": [] })), "waiting: 0\ngiven up: 0\n");
    }
}
