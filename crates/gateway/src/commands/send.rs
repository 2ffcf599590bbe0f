//! Sending a message: limits, membership, dedupe, append. The order is the same in every dialect.

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Appended, Change, Fault, Find, MemberSet, Range, Rule, Stored, Verdict};
use parlance_hub::Notice;
use parlance_model::{
    Accepted, Answer, Author, ConversationKind, Message, Reject, RejectCode, Send, Time, UserId,
};

use parlance_wire::sanitise;

use super::{conversations, permission, rooms};
use crate::brake;
use crate::config::Membership;
use crate::failpoints;
use crate::node::Node;
use crate::session::{self, Link, Own};
use crate::trace::{self, Accept, Parent};

/// Carries out a client's send.
pub(super) async fn run(
    node: &Arc<Node>,
    link: &Arc<Link>,
    mut send: Send,
    span: &Accept,
) -> Result<Answer, Reject> {
    if link.mount.sanitize {
        sanitise::send(&mut send);
        if send.body.trim().is_empty() {
            return Err(Reject::new(RejectCode::InvalidField, "the message has no text").field("text"));
        }
    }
    let received = node.clock.now();
    let noted = |accepted: Accepted, send: &Send| {
        let times = (received, node.clock.now());
        node.journal.accepted(&link.listener.user, Some(&**link), send, (&accepted, times));
        Answer::Accepted(accepted)
    };
    check(node, &send)?;
    if let Some(refusal) = node.maintenance_refusal() {
        // Only new messages are refused: what is in the log already is acknowledged again.
        let known = Box::pin(known(node, &link.listener.user, &send)).await?;
        return known.map(|accepted| noted(accepted, &send)).ok_or(refusal);
    }
    brake::pass(node, &send.conversation).await?;
    // As monotonic as the system's, and it stands still where simulations let time stand still.
    let started = tokio::time::Instant::now();
    let verdict = take(node, link).await?;
    if let Some(verdict) = verdict.filter(|v| !v.allowed) {
        // A resend of what is in the log already is no new message: it costs nothing.
        if let Some(accepted) = Box::pin(known(node, &link.listener.user, &send)).await? {
            return Ok(noted(accepted, &send));
        }
        return Err(limited(node, link, &verdict));
    }
    let author = Author::from(&*link.identity());
    let own = send.client_id.clone().filter(|_| !link.mount.echo_to_sender);
    let own = own.map(|client_id| Own::Send(send.conversation.clone(), client_id));
    if let Some(own) = &own {
        // First: the feed may come round before the answer.
        link.will(own.clone());
    }
    let appended = permitted(node, link, &author, &send, span).await;
    if let (Some(own), false) = (&own, matches!(appended, Ok(Accepted { fresh: true, .. }))) {
        // Nothing comes round.
        link.takes(own);
    }
    if let (Some(verdict), Some(rule)) = (verdict, &link.rate) {
        let counted = Counted { rule, verdict, elapsed: started.elapsed() };
        settle(node, link, &counted, &appended).await;
    }
    let accepted = appended?;
    node.metrics.accepted(link.dialect, accepted.fresh, started.elapsed());
    Ok(noted(accepted, &send))
}

/// Sends on a user's behalf (server API): no rate limit; the user must be a member.
///
/// # Errors
/// The refusal, in canonical form.
pub async fn on_behalf(
    node: &Arc<Node>,
    author: Author,
    send: Send,
    parent: &Parent,
) -> Result<Accepted, Reject> {
    let span = trace::begin(node, parent, None);
    let done = for_member(node, &author, &send, &span).await;
    span.end(trace::of_accepted(done.as_ref()));
    done
}

async fn for_member(
    node: &Arc<Node>,
    author: &Author,
    send: &Send,
    span: &Accept,
) -> Result<Accepted, Reject> {
    check(node, send)?;
    if let Some(refusal) = node.maintenance_refusal() {
        return Err(refusal);
    }
    let received = node.clock.now();
    brake::pass(node, &send.conversation).await?;
    let accepted = append(node, author, send, None, span).await?;
    node.journal.accepted(&author.id, None, send, (&accepted, (received, node.clock.now())));
    Ok(accepted)
}

fn check(node: &Node, send: &Send) -> Result<(), Reject> {
    let limits = &node.config.load().limits;
    if send.body.len() > limits.body_bytes {
        let message = format!("the body is larger than {} bytes", limits.body_bytes);
        return Err(Reject::new(RejectCode::TooLarge, message).field("body"));
    }
    if send.to.len() > limits.recipients {
        let message = format!("more than {} recipients", limits.recipients);
        return Err(Reject::new(RejectCode::InvalidField, message).field("toUserIds"));
    }
    let extras = [&send.metadata, &send.extra];
    if extras.into_iter().flatten().any(|raw| raw.as_str().len() > limits.body_bytes) {
        return Err(Reject::new(RejectCode::TooLarge, "the metadata is too large").field("metadata"));
    }
    Ok(())
}

async fn take(node: &Node, link: &Link) -> Result<Option<Verdict>, Reject> {
    let Some(rule) = link.rate.as_ref().filter(|_| node.config.load().limits.rates) else { return Ok(None) };
    let taken = node.backplane.limits.take(&link.listener.user, rule).await;
    taken.map(Some).map_err(|f| node.unavailable(&f))
}

fn limited(node: &Node, link: &Link, verdict: &Verdict) -> Reject {
    let wait = verdict.reset.since(node.clock.now()).as_millis().max(1);
    let (limit, window) = (link.mount.messages.limit, window_of(link));
    let unit = if window.as_secs() == 1 { "second" } else { "seconds" };
    let message = format!("Maximum {limit} messages per {} {unit}", window.as_secs_f32());
    node.metrics.rate_limited(link.dialect, "messages");
    Reject::new(RejectCode::RateLimited, message).retry_after(u64::try_from(wait).unwrap_or(u64::MAX))
}

/// The window of the limit, as it is promised.
fn window_of(link: &Link) -> Duration {
    Duration::from_millis(link.mount.messages.window_ms)
}

/// A send that was counted.
struct Counted<'a> {
    rule: &'a Rule,
    verdict: Verdict,
    /// From before it was counted until the log answered.
    elapsed: Duration,
}

impl Counted<'_> {
    /// When a message came into the log, if that was so long after it was counted that its entry would leave too early.
    fn late(&self, link: &Link, at: Time) -> Option<Time> {
        let begun = self.verdict.reset.since(Time(0)).saturating_sub(self.rule.window);
        // Two primaries may differ about the time, but not in what passed meanwhile.
        let late = at.since(Time(0)).saturating_sub(begun).min(self.elapsed);
        let held = self.rule.window.saturating_sub(window_of(link));
        (late > held).then(|| Time(0) + begun + late)
    }
}

/// Makes the window say what the log says.
async fn settle(node: &Arc<Node>, link: &Link, counted: &Counted<'_>, appended: &Result<Accepted, Reject>) {
    let (limits, user) = (&node.backplane.limits, &link.listener.user);
    let (rule, stamp) = (counted.rule, counted.verdict.stamp);
    let settled = match appended {
        Ok(Accepted { fresh: true, at, .. }) => {
            if let Some(at) = counted.late(link, *at) {
                held_longer(node, link, counted, at);
            }
            Ok(())
        }
        // It may be in the log all the same; if it is, its resend costs nothing.
        Err(reject) if reject.code == RejectCode::Unavailable => Ok(()),
        Ok(_) | Err(_) => limits.give_back(user, rule, stamp).await,
    };
    if let Err(fault) = settled {
        tracing::warn!(%fault, "correcting a rate entry");
    }
}

/// Has the entry leave when the message does. Nobody waits for it: that counts when the window ends.
fn held_longer(node: &Arc<Node>, link: &Link, counted: &Counted<'_>, at: Time) {
    let (node, user) = (node.clone(), link.listener.user.clone());
    let (rule, stamp) = (counted.rule.clone(), counted.verdict.stamp);
    let tracker = node.tracker.clone();
    tracker.spawn(async move {
        if let Err(fault) = node.backplane.limits.happened(&user, &rule, stamp, at).await {
            tracing::warn!(%fault, "correcting a rate entry");
        }
    });
}

/// The message this send is a resend of, if it is in the log.
async fn known(node: &Node, user: &UserId, send: &Send) -> Result<Option<Accepted>, Reject> {
    let Some(client_id) = &send.client_id else { return Ok(None) };
    let what = Find::ClientId {
        author: user.clone(),
        id: client_id.clone(),
        conversation: Some(send.conversation.clone()),
    };
    let log = &node.backplane.log;
    let Some((key, seq)) = log.find(what).await.map_err(|f| node.unavailable(&f))? else { return Ok(None) };
    let range = Range::After { seq: seq.saturating_sub(1), limit: 1 };
    let page = log.range(&key, range).await.map_err(|f| node.unavailable(&f))?;
    let Some(entry) = page.entries.first().filter(|e| e.seq == seq) else { return Ok(None) };
    log.confirm(&send.conversation, seq).await.map_err(|f| node.unavailable(&f))?;
    Ok(Some(Accepted { id: entry.id, seq, at: entry.at, client_id: Some(client_id.clone()), fresh: false }))
}

/// Appends what the author may write. What is in the log already may be sent again.
async fn permitted(
    node: &Arc<Node>,
    link: &Arc<Link>,
    author: &Author,
    send: &Send,
    span: &Accept,
) -> Result<Accepted, Reject> {
    // Boxed: where nobody is asked nothing carries room for it.
    if node.authoriser.load().is_some()
        && let Err(refused) = Box::pin(permission::to_send(node, link, &send.conversation)).await
    {
        return Box::pin(known(node, &author.id, send)).await?.ok_or(refused);
    }
    let opens = link.mount.membership != Membership::Managed;
    append(node, author, send, opens.then_some(link), span).await
}

/// `opener` is the author's connection where a message may create its conversation, or let its author in.
async fn append(
    node: &Arc<Node>,
    author: &Author,
    send: &Send,
    opener: Option<&Arc<Link>>,
    span: &Accept,
) -> Result<Accepted, Reject> {
    let message = Message {
        author: author.clone(),
        client_id: send.client_id.clone(),
        body: send.body.clone(),
        metadata: send.metadata.clone(),
        extra: send.extra.clone(),
        trace: None,
    };
    let mut appended = append_once(node, send, message.clone(), span).await?;
    if let Some(link) = opener
        && Box::pin(comes_in(node, link, (author, send), &appended)).await?
    {
        appended = append_once(node, send, message, span).await?;
    }
    let accepted = |stored: Stored, fresh| Accepted {
        id: stored.id,
        seq: stored.seq,
        at: stored.at,
        client_id: send.client_id.clone(),
        fresh,
    };
    match appended {
        Appended::New(stored) => Ok(accepted(stored, true)),
        Appended::Duplicate(stored) => Ok(accepted(stored, false)),
        // Not told apart: whether a conversation exists is nobody's business but its members'.
        Appended::NotMember | Appended::NoConversation => Err(rooms::stranger()),
    }
}

/// Lets an author in whose message was not appended for want of that. Whether it may be now.
async fn comes_in(
    node: &Arc<Node>,
    link: &Arc<Link>,
    (author, send): (&Author, &Send),
    appended: &Appended,
) -> Result<bool, Reject> {
    let by_callback = link.mount.membership == Membership::Callback;
    let joined = match appended {
        Appended::NoConversation => create(node, link, author, send).await?,
        Appended::NotMember if by_callback => {
            permission::to_come_by_sending(node, link, &send.conversation).await?
        }
        _ => return Ok(false),
    };
    if let Some(since) = joined {
        // Before the message is out: an answer to it must not be faster than the author's own invitation.
        let conversation = send.conversation.clone();
        if let Err(fault) = session::invited(node, link, conversation.clone(), since).await {
            // The author is a member all the same, and the invitation may have come round while this was on its way.
            if matches!(fault, Fault::Unavailable(_)) {
                link.listener.notify(Notice::Invited { conversation, since });
            }
            return Err(node.unavailable(&fault));
        }
    }
    Ok(true)
}

async fn append_once(
    node: &Node,
    send: &Send,
    mut message: Message,
    span: &Accept,
) -> Result<Appended, Reject> {
    let span = span.append();
    message.trace = span.context();
    failpoints::pass("before-append");
    let appended = node.backplane.log.append(&send.conversation, message).await;
    failpoints::pass("after-append");
    span.end(trace::of_appended(&appended));
    appended.map_err(|f| node.unavailable(&f))
}

/// The first message of a conversation that does not exist: its members are the sender and the recipients.
/// Returns from where the author belongs to it, if at all: another may have created it meanwhile.
async fn create(node: &Arc<Node>, link: &Link, author: &Author, send: &Send) -> Result<Option<u64>, Reject> {
    let mut members = vec![author.id.clone()];
    for user in &send.to {
        if !members.contains(user) {
            members.push(user.clone());
        }
    }
    permission::to_create(node, link, &send.conversation, &members).await?;
    let kind = if members.len() <= 2 { ConversationKind::Dm } else { ConversationKind::Group };
    let change = Change {
        id: send.conversation.clone(),
        create: true,
        only_create: true,
        kind,
        title: None,
        members: MemberSet::Exactly(members),
        number: None,
        by: Some(author.id.clone()),
    };
    match conversations::change(node, change).await {
        Ok(Ok(changed)) => match changed.conversation.member(&author.id) {
            Some(member) => Ok(Some(member.joined_seq)),
            // No member, or the members are left out: they are many.
            None => {
                let joined = conversations::joined(node, &send.conversation, &author.id).await;
                joined.map_err(|fault| node.unavailable(&fault))
            }
        },
        Ok(Err(_)) => Err(Reject::new(RejectCode::Forbidden, "this conversation id is taken")),
        Err(fault) => Err(node.unavailable(&fault)),
    }
}
