//! Reading what was missed over HTTP, as the dialects' pages tell clients to after a session that was not recovered.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::timeout;

use crate::http::Request;
use crate::tongue::ids::{CoreId, core};

/// How long one page may take.
const PAGE: Duration = Duration::from_secs(3);
/// Messages per page, the most there can be.
const LIMIT: usize = 200;

/// A message of the history.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Item {
    /// As the history names it.
    pub id: String,
    /// Its place in the log.
    pub seq: u64,
    /// Who wrote it.
    pub sender: String,
    /// The text.
    pub body: String,
    /// Its author's client's id.
    pub client_id: Option<String>,
    /// When it was accepted, by the gateway.
    pub created_at: String,
}

/// Where and as whom to read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// `host:port`.
    pub address: &'a str,
    /// A token, or a key of the server API.
    pub bearer: &'a str,
}

/// What a conversation's history gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// Oldest first.
    pub items: Vec<Item>,
    /// It no longer reaches back as far as was asked.
    pub truncated: bool,
}

impl Reader<'_> {
    /// Reads everything after a message, or from the beginning.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub async fn all(&self, conversation: &str, after: Option<&str>) -> Result<Read> {
        let mut read = Read::default();
        let mut bound = match after {
            Some(id) => format!("after={id}"),
            None => "since=2020-01-01T00:00:00Z".to_owned(),
        };
        loop {
            let path = format!("/api/v1/conversations/{conversation}/messages?limit={LIMIT}&{bound}");
            let page = self.get(&path).await?;
            let items = page["messages"].as_array().context("no messages")?;
            read.truncated |= page["truncated"] == true;
            for item in items {
                read.items.push(parse(item)?);
            }
            match read.items.last() {
                Some(last) if page["has_more"] == true && !items.is_empty() => {
                    bound = format!("after={}", last.id);
                }
                _ => return Ok(read),
            }
        }
    }

    /// One JSON answer.
    ///
    /// # Errors
    /// When there is none in time, or another status than 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let Self { address, bearer } = *self;
        let request = Request { address, method: "GET", path, bearer: Some(bearer), body: None };
        let answer = timeout(PAGE, request.send()).await.context("no answer in time")??;
        if answer.status != 200 {
            bail!("{}: {}", answer.status, answer.body);
        }
        answer.json()
    }
}

fn parse(item: &Value) -> Result<Item> {
    let text = |name: &str| item[name].as_str().map(str::to_owned);
    Ok(Item {
        id: text("id").with_context(|| format!("no id: {item}"))?,
        seq: item["seq"].as_u64().with_context(|| format!("no seq: {item}"))?,
        sender: text("senderId").unwrap_or_default(),
        body: text("body").unwrap_or_default(),
        client_id: text("clientId"),
        created_at: text("createdAt").unwrap_or_default(),
    })
}

/// Number and place of an id in whichever form; `None` for an id of a client's own.
pub fn any_core(id: &str) -> Option<CoreId> {
    let text = Value::from(id);
    if let Ok(number) = id.parse::<u64>() {
        return core("lingochat", &number.into()).ok();
    }
    ["famly", "chatgenius", "socialhub"].iter().find_map(|form| core(form, &text).ok())
}

#[cfg(test)]
mod tests {
    use super::any_core;

    #[test]
    fn every_form_of_an_id_is_read_and_a_clients_own_is_not() {
        let forms = [
            "msg_68a4d7c00001234500123456",
            "68a4d7c00001234500123456",
            "68a4d7c0-0001-8000-8123-234504560000",
            &((0x0001_2345_u64 << 22) | 0x0012_3456).to_string(),
        ];
        let read: Vec<_> = forms.iter().map(|id| any_core(id).unwrap()).collect();
        assert!(read.windows(2).all(|pair| pair[0] == pair[1]), "{read:?}");
        assert_eq!(any_core("6fa459ea-ee8a-4ca4-894e-db77e160355e"), None);
    }
}
