//! What a session does one after the other, beside reading and writing: requests, attaching, invitations.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parlance_backplane::Fault;
use parlance_model::{Answer, Command, ConversationId, Identity, Reject, RejectCode, Request, Time, UserId};
use parlance_wire::Tag;

use super::link::Link;
use super::{admission, attach, restore};
use crate::commands;
use crate::config::Mount;
use crate::http::credentials;
use crate::node::Node;

/// Something to do.
pub(super) enum Work {
    /// Join what the connection hears by itself from now on.
    Greet,
    /// Join what the connection reads from the log first.
    Attach,
    /// Carry out a client's request.
    Request(Box<(Tag, Request)>),
    /// Join a conversation the user was added to.
    Invited { conversation: ConversationId, since: u64 },
    /// Keep the restorable subscriptions.
    Save,
}

/// Something done.
pub(super) enum Done {
    Attached(Result<(), Fault>),
    Joined(Result<(), Fault>),
    Answered(Tag, Result<Answer, Reject>),
    Registered(Tag, Result<Arc<Link>, Reject>),
    Kept(Result<(), Fault>),
}

pub(super) type Doing = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Starts on it. Boxed, so that an idle session stays small.
pub(super) fn start(node: Arc<Node>, mount: Arc<Mount>, link: Option<Arc<Link>>, work: Work) -> Doing {
    match (work, link) {
        (Work::Request(asked), None) => {
            Box::pin(async move { unauthenticated(&node, &mount, asked.0, asked.1).await })
        }
        (Work::Request(asked), Some(link)) => Box::pin(async move {
            let (tag, request) = *asked;
            let result = authenticated(&node, &link, request).await;
            Done::Answered(tag, result)
        }),
        (Work::Greet, Some(link)) => Box::pin(async move { Done::Joined(attach::greet(&node, &link).await) }),
        (Work::Attach, Some(link)) => {
            Box::pin(async move { Done::Attached(attach::attach(&node, &link).await) })
        }
        (Work::Invited { conversation, since }, Some(link)) => {
            Box::pin(async move { Done::Joined(attach::invited(&node, &link, conversation, since).await) })
        }
        (Work::Save, Some(link)) => Box::pin(async move { Done::Kept(restore::save(&node, &link).await) }),
        (Work::Greet | Work::Attach | Work::Invited { .. } | Work::Save, None) => {
            Box::pin(std::future::ready(Done::Kept(Ok(()))))
        }
    }
}

async fn authenticated(node: &Arc<Node>, link: &Arc<Link>, request: Request) -> Result<Answer, Reject> {
    let user = &link.listener.user;
    if request.claimed.as_deref().is_some_and(|claimed| claimed != user.as_str()) {
        return Err(Reject::new(RejectCode::Forbidden, "the frame names another user than the token"));
    }
    match request.command {
        Command::Register(register) => {
            if let Some(token) = register.token {
                let identity = credentials::verify(node, Some(&token), &link.mount.subjects).await?;
                if identity.user != *user {
                    return Err(Reject::new(RejectCode::Forbidden, "the token is another user's"));
                }
                link.refresh(Arc::new(identity));
            }
            Ok(Answer::Registered { user: user.clone() })
        }
        command => commands::run(node, link, command).await,
    }
}

async fn unauthenticated(node: &Arc<Node>, mount: &Arc<Mount>, tag: Tag, request: Request) -> Done {
    let Command::Register(register) = request.command else {
        let reject = Reject::new(RejectCode::Unauthenticated, "register the session first");
        return Done::Answered(tag, Err(reject));
    };
    let registered = async {
        let identity = match (register.token, &request.claimed) {
            (Some(token), _) => credentials::verify(node, Some(&token), &mount.subjects).await?,
            (None, Some(claimed)) if mount.allow_unauthenticated_sessions => unverified(claimed)?,
            _ => return Err(Reject::new(RejectCode::Unauthenticated, "a token is required")),
        };
        if request.claimed.as_deref().is_some_and(|claimed| claimed != identity.user.as_str()) {
            return Err(Reject::new(RejectCode::Forbidden, "the session id is not the token's subject"));
        }
        admission::open(node, mount, identity).await
    };
    Done::Registered(tag, registered.await)
}

fn unverified(claimed: &str) -> Result<Identity, Reject> {
    let user = UserId::parse(claimed)
        .map_err(|e| Reject::new(RejectCode::InvalidField, e.to_string()).field("sessionId"))?;
    Ok(Identity {
        user,
        name: None,
        username: None,
        picture: None,
        expires_at: Time::from_millis(u64::MAX),
        issued_at: None,
        token_id: None,
        token_hash: 0,
        verified: false,
        claims: None,
    })
}
