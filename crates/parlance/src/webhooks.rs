//! `parlance webhooks`: what was not told yet, what was given up, and telling it again.

use std::fmt::Write as _;

use hyper::Method;
use serde_json::Value;

use crate::failure::Failure;
use crate::nodes;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show how many events wait, and those that were given up.
    List {
        /// Events shown at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// The answer as it came, for programs.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: nodes::Args,
    },
    /// Tell again what was given up, with the ids it had.
    Retry {
        #[command(flatten)]
        node: nodes::Args,
    },
}

/// Asks one node, which answers for all.
pub async fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::List { limit, json, node } => {
            let answer = nodes::get(&node, &format!("/api/v1/webhooks?limit={limit}")).await?;
            if json {
                println!("{answer}");
            } else {
                print!("{}", told(&answer));
            }
        }
        What::Retry { node } => {
            let answer = nodes::call(&node, Method::POST, "/api/v1/webhooks/retry").await?;
            println!("told again: {}", number(&answer, "retried"));
        }
    }
    Ok(())
}

pub fn number(answer: &Value, field: &str) -> u64 {
    answer.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// Of any consumer: how much waits, and what was given up.
pub fn told(answer: &Value) -> String {
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
