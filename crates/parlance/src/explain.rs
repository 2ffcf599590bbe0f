//! `parlance explain`: what became of a message, told in the order in which it happened.

use std::fmt::Write as _;

use anyhow::anyhow;
use serde_json::Value;

use crate::failure::Failure;
use crate::nodes;

/// No id of any dialect is longer.
const LONGEST: usize = 256;

#[derive(clap::Args)]
pub struct Args {
    /// The message's id as any client was told it, the sender's own id for it, or the correlation id of a refusal.
    id: String,
    /// Who sent it: then the sender's own id is found in the log too, when no node remembers it any more.
    #[arg(long, value_name = "USER")]
    sender: Option<String>,
    /// The answer as it came, for programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: nodes::Args,
}

/// Asks one node, which asks all others, and prints.
pub async fn run(args: Args) -> Result<(), Failure> {
    let usable =
        |text: &str| (1..=LONGEST).contains(&text.chars().count()) && !text.contains(char::is_control);
    if !usable(&args.id) {
        return Err(Failure::Usage(format!("the id is 1 to {LONGEST} characters")));
    }
    let mut call = format!("/api/v1/explain/{}", escaped(&args.id));
    if let Some(sender) = &args.sender {
        if !usable(sender) {
            return Err(Failure::Usage("--sender: no user id".to_owned()));
        }
        call = format!("{call}?sender={}", escaped(sender));
    }
    let answer = nodes::get(&args.node, &call).await?;
    if args.json {
        println!("{answer}");
    } else {
        print!("{}", told(&answer));
    }
    match answer.get("found").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(anyhow!("nothing is known of {}", args.id).into()),
    }
}

/// As a part of an address.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |mut all, byte| {
        if plain(byte) {
            all.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}

/// Lines under headings, in the order in which things happen.
struct Page(String);

impl Page {
    fn heading(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn line(&mut self, text: &str) {
        // What a client made up may be in it.
        let safe: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.0.push_str("  ");
        self.0.push_str(safe.trim_end());
        self.0.push('\n');
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn told(answer: &Value) -> String {
    let mut page = Page(String::new());
    accepted(&mut page, answer);
    refused(&mut page, answer);
    logged(&mut page, answer);
    delivered(&mut page, answer);
    receipts(&mut page, answer);
    nodes_asked(&mut page, answer);
    page.0
}

fn place(value: &Value) -> String {
    let at = value.get("place").unwrap_or(&Value::Null);
    let seq = at.get("seq").and_then(Value::as_u64).unwrap_or_default();
    format!("{} {}, sequence {seq}", text(at, "log"), text(at, "name"))
}

/// `bob (famly, node-1/7)`.
fn connection(value: &Value) -> String {
    let ended = value.get("endedAt").and_then(Value::as_str).map(|at| format!(", ended {at}"));
    let parts = [value.get("dialect"), value.get("id")];
    let known: Vec<&str> = parts.into_iter().flatten().filter_map(Value::as_str).collect();
    format!("{} ({}{})", text(value, "user"), known.join(", "), ended.unwrap_or_default())
}

fn accepted(page: &mut Page, answer: &Value) {
    let all = list(answer, "accepted");
    if !all.is_empty() {
        page.heading("Accepted");
    }
    for one in all {
        let by = one.get("connection").map_or_else(|| "over the server API".to_owned(), connection);
        let again = one.get("duplicate").and_then(Value::as_bool).unwrap_or_default();
        let what = if again { ", again: it was in the log already" } else { "" };
        page.line(&format!(
            "{}  {} by {} at {}{what}",
            text(one, "receivedAt"),
            text(one, "messageId"),
            by,
            text(one, "node")
        ));
        page.line(&format!("{}  in the log: {}", text(one, "loggedAt"), place(one)));
        page.line(&format!(
            "{}  the sender was answered (its own id: {})",
            text(one, "answeredAt"),
            text(one, "clientId")
        ));
    }
}

fn refused(page: &mut Page, answer: &Value) {
    let all = list(answer, "refused");
    if !all.is_empty() {
        page.heading("Refused");
    }
    for one in all {
        let by = one.get("connection").map_or_else(|| "over HTTP".to_owned(), connection);
        page.line(&format!("{}  {} by {by} at {}", text(one, "at"), text(one, "command"), text(one, "node")));
        page.line(&format!("{:24}  {}: {}", "", text(one, "code"), text(one, "message")));
        let (told, own) = (text(one, "correlationId"), text(one, "clientId"));
        let conversation = text(one, "conversation");
        page.line(&format!(
            "{:24}  correlation id {told}, conversation {conversation}, its own id {own}",
            ""
        ));
    }
}

fn logged(page: &mut Page, answer: &Value) {
    let Some(one) = answer.get("logged") else { return };
    page.heading("Logged");
    match text(one, "state") {
        "kept" => {
            let (kind, sender) = (text(one, "kind"), text(one, "sender"));
            page.line(&format!("{}  {kind} of {sender}: {}", text(one, "at"), place(one)));
            page.line(&format!(
                "{:24}  {}, the sender's own id: {}",
                "",
                text(one, "messageId"),
                text(one, "clientId")
            ));
        }
        "expired" => page.line(&format!("{}: the log keeps no entries that old any more", place(one))),
        _ => page.line(&format!("{}: the log has no such entry; it was deleted, or lost", place(one))),
    }
}

fn delivered(page: &mut Page, answer: &Value) {
    let (live, later, present) =
        (list(answer, "delivered"), list(answer, "caughtUp"), list(answer, "present"));
    if answer.get("logged").is_some() {
        page.heading("Delivered");
        if live.is_empty() && later.is_empty() {
            page.line("to no socket that a node which answered remembers");
        }
    }
    for one in live {
        let each = list(one, "byDialect").iter().map(|of| {
            format!(
                "{} {}",
                of.get("sockets").and_then(Value::as_u64).unwrap_or_default(),
                text(of, "dialect")
            )
        });
        let each = each.collect::<Vec<_>>().join(", ");
        let sockets = one.get("sockets").and_then(Value::as_u64).unwrap_or_default();
        let written = one.get("writtenAt").and_then(Value::as_str).unwrap_or("not yet");
        let (heard, queued) = (text(one, "heardAt"), text(one, "queuedAt"));
        let of_each = if each.is_empty() { String::new() } else { format!(" ({each})") };
        page.line(&format!("{heard}  {}: {sockets} sockets{of_each}", text(one, "node")));
        page.line(&format!("{:24}  queued {queued}, written {written}", ""));
        if let Some(slow) = one.get("tooSlow").and_then(Value::as_u64).filter(|slow| *slow > 0) {
            page.line(&format!(
                "{:24}  {slow} were too slow and are closed; they read it when they come back",
                ""
            ));
        }
        for socket in list(one, "connections") {
            page.line(&format!("{:24}  {}", "", connection(socket)));
        }
    }
    for one in later {
        let by = one.get("connection").map(connection).unwrap_or_default();
        page.line(&format!("{}  {by} read it from the log", text(one, "at")));
    }
    for one in present {
        let sockets = one.get("sockets").and_then(Value::as_u64).unwrap_or_default();
        page.line(&format!("in the room now at {}: {sockets} sockets", text(one, "node")));
    }
}

fn receipts(page: &mut Page, answer: &Value) {
    let Some(all) = answer.get("receipts") else { return };
    page.heading("Receipts");
    for one in list(all, "read") {
        page.line(&format!("{}  read by {}", text(one, "lastReadAt"), text(one, "user")));
    }
    for one in list(all, "delivered") {
        page.line(&format!("{:24}  delivered to {}, not read", "", text(one, "user")));
    }
    let none: Vec<&str> = list(all, "none").iter().filter_map(Value::as_str).collect();
    if !none.is_empty() {
        page.line(&format!("{:24}  no word of {}", "", none.join(", ")));
    }
    if let Some(more) = all.get("leftOut").and_then(Value::as_u64).filter(|more| *more > 0) {
        page.line(&format!("{:24}  and {more} more", ""));
    }
}

fn nodes_asked(page: &mut Page, answer: &Value) {
    page.heading("Nodes asked");
    for one in list(answer, "nodes") {
        let answered = one.get("answered").and_then(Value::as_bool).unwrap_or_default();
        let state = if answered { "answered" } else { "DID NOT ANSWER" };
        let why = one.get("why").and_then(Value::as_str).map(|why| format!(": {why}")).unwrap_or_default();
        let since = one.get("remembersSince").and_then(Value::as_str);
        let since = since.map(|at| format!(", remembers since {at}")).unwrap_or_default();
        page.line(&format!("{} ({}) {state}{why}{since}", text(one, "id"), text(one, "address")));
    }
    for one in list(answer, "missing").iter().filter_map(Value::as_str) {
        page.line(&format!("not found out: {one}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_become_a_part_of_an_address() {
        assert_eq!(escaped("msg_1-2.3~x"), "msg_1-2.3~x");
        assert_eq!(escaped("a/b?c d%é"), "a%2Fb%3Fc%20d%25%C3%A9");
    }

    #[test]
    fn a_refusal_is_told_in_lines_that_nobody_can_forge() {
        let answer = json!({
            "id": "k", "found": true, "accepted": [], "delivered": [], "caughtUp": [], "present": [], "missing": [],
            "refused": [{
                "node": "n1", "at": "2026-03-01T12:00:00.000Z", "command": "message:send\nAccepted", "code": "forbidden",
                "message": "no", "correlationId": "k", "conversation": "c1",
                "connection": { "id": "n1/7", "user": "bob", "dialect": "famly", "mount": "famly" },
            }],
            "nodes": [{ "id": "n1", "address": "a:1", "version": "1", "answered": true },
                      { "id": "n2", "address": "a:2", "version": "1", "answered": false, "why": "it is gone" }],
        });
        let page = told(&answer);
        assert!(page.contains("message:send\u{fffd}Accepted by bob (famly, n1/7) at n1\n"), "{page}");
        assert!(page.contains("forbidden: no\n") && page.contains("conversation c1"), "{page}");
        assert!(page.contains("n2 (a:2) DID NOT ANSWER: it is gone\n"), "{page}");
        assert!(!page.lines().any(|line| line == "Accepted"), "{page}");
    }
}
