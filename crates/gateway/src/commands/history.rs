//! A conversation's messages after a point, over the connection (lingochat `messages:sync`).

use std::sync::Arc;

use parlance_backplane::{Fault, Outline};
use parlance_model::{Answer, History, HistoryPage, Reject, RejectCode, Since, Time};

use super::conversations;
use crate::http::history::page::{self, Asked, Refused};
use crate::node::Node;
use crate::session::Link;

/// Messages in one answer.
const LIMIT: usize = 100;

pub(super) async fn run(node: &Arc<Node>, link: &Arc<Link>, history: History) -> Result<Answer, Reject> {
    let faulty = |fault: Fault| node.unavailable(&fault);
    let joined = conversations::joined(node, &history.conversation, &link.listener.user).await;
    let found = match joined.map_err(faulty)? {
        Some(_) => node.backplane.members.outline(&history.conversation).await.map_err(faulty)?,
        None => None,
    };
    let Some(Outline { conversation, .. }) = found else {
        return Err(Reject::new(RejectCode::Forbidden, "not a member of this conversation"));
    };
    let since = match history.since {
        Since::Beginning => Time::default().to_iso(),
        Since::Time(at) => at.to_iso(),
        Since::Message(id) => id.to_integer().to_string(),
    };
    let asked = Asked { since: Some(since), limit: Some(LIMIT), ..Asked::default() };
    let page = page::read(node, &conversation, &asked).await.map_err(|refused| match refused {
        Refused::Fault(fault) => node.unavailable(&fault),
        Refused::Foreign => Reject::new(RejectCode::NotFound, "no such message in this conversation"),
        Refused::Invalid(why) => Reject::new(RejectCode::InvalidField, why).field("since"),
    })?;
    let messages = page.items.into_iter().map(|item| item.event).collect();
    Ok(Answer::History(HistoryPage { messages, more: page.frame.more }))
}
