//! What is sent, and whether the tables hold it.

use std::time::Duration;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::Plan;
use crate::Postgres;

/// A question about a million rows.
const PATIENCE: Duration = Duration::from_secs(600);
/// Behind what depends on the message, something that is not as simple.
const TAIL: &str = "tab\t, line\n, \\N, 'quote', é, 🎉";

pub fn conversation(number: usize) -> String {
    format!("m-{number}")
}

pub fn user(sender: usize) -> String {
    format!("sender-{sender}")
}

pub fn client_id(number: usize, sender: usize, n: u64) -> String {
    format!("{number}.{sender}.{n}")
}

/// Another one for each message, which PostgreSQL can tell from its client id.
pub fn body(client_id: &str) -> String {
    let digest = Sha256::digest(client_id.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex} {TAIL}")
}

/// What is not as promised, of so many acknowledged messages.
pub async fn broken(postgres: &Postgres, plan: &Plan, sent: u64) -> Result<Vec<String>> {
    let tail = TAIL.replace('\'', "''");
    let body = format!("encode(sha256(convert_to(client_id, 'UTF8')), 'hex') || ' {tail}'");
    let lanes = plan.conversations * plan.senders;
    let each = sent / lanes as u64;
    let questions: [(&str, String, u64); 8] = [
        ("messages", "SELECT count(*) FROM parlance.messages".to_owned(), sent),
        (
            "keys that are there once",
            "SELECT count(*) FROM (SELECT DISTINCT conversation, sender, client_id FROM parlance.messages) AS keys".to_owned(),
            sent,
        ),
        (
            "client ids that were used before",
            "SELECT count(*) FROM parlance.messages WHERE client_id_uses > 0 OR client_id IS NULL".to_owned(),
            0,
        ),
        ("superseded messages", "SELECT count(*) FROM parlance.superseded_messages".to_owned(), 0),
        (
            "conversations without a hole",
            "SELECT count(*) FROM (SELECT FROM parlance.messages GROUP BY conversation HAVING max(seq) - min(seq) + 1 = count(*)) AS dense"
                .to_owned(),
            plan.conversations as u64,
        ),
        (
            "senders all of whose messages are there",
            format!("SELECT count(*) FROM (SELECT FROM parlance.messages GROUP BY conversation, sender HAVING count(*) = {each}) AS whole"),
            lanes as u64,
        ),
        (
            "messages out of order",
            "SELECT count(*) FROM (
                SELECT split_part(client_id, '.', 3)::bigint AS n, row_number() OVER lane - 1 AS place, sent_at,
                    lag(sent_at) OVER (PARTITION BY conversation ORDER BY seq) AS before
                FROM parlance.messages WINDOW lane AS (PARTITION BY conversation, sender ORDER BY seq)
            ) AS placed WHERE n <> place OR before > sent_at"
                .to_owned(),
            0,
        ),
        ("bodies that differ", format!("SELECT count(*) FROM parlance.messages WHERE body <> {body}"), 0),
    ];
    let mut broken = Vec::new();
    for (what, sql, expected) in questions {
        let found = postgres.number_within(&sql, PATIENCE).await?;
        println!("{what}: {found}");
        if u64::try_from(found) != Ok(expected) {
            broken.push(format!("{what}: {found} instead of {expected}"));
        }
    }
    Ok(broken)
}
