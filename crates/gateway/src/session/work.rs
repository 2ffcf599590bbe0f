//! What a session does one after the other, beside reading and writing: requests, attaching, invitations.

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Fault, Find};
use parlance_hub::Notice;
use parlance_model::{
    Answer, Command, ConversationId, Identity, LogKey, Register, Reject, RejectCode, Request, Time, UserId,
};
use parlance_wire::{Auth, Tag};

use super::admission::{self, Arrival, Port};
use super::link::Link;
use super::recovery::{self, Begun};
use super::run::Boxed;
use super::{ahead, attach, restore};
use crate::authoriser;
use crate::commands;
use crate::config::Mount;
use crate::http::credentials;
use crate::node::Node;
use crate::proofs;

/// Something to do.
pub(super) enum Work {
    /// Let a Socket.IO client into the namespace.
    Connect(Box<Auth>),
    /// Join what the connection hears by itself from now on.
    Greet,
    /// Join what the connection reads from the log first.
    Attach,
    /// What follows it, and what a client need not wait for.
    Settle,
    /// Join the rest of that: some of it was away.
    Rest,
    /// Carry out a client's request.
    Request(Box<(Tag, Request)>),
    /// Refuse, in its turn, what was refused for its shape.
    Refuse(Box<(Tag, Reject)>),
    /// Join a conversation the user was added to.
    Invited { conversation: ConversationId, since: u64 },
    /// The user was removed from a conversation: leave its room, too.
    Removed(ConversationId),
    /// Keep what can be restored or recovered; `always`: also when nothing changed.
    Save { always: bool },
}

/// Something done.
pub(super) enum Done {
    Connected(Result<Entrance, Reject>),
    /// Whether that was all of it.
    Attached(Result<bool, Fault>),
    Settled(Result<bool, Fault>),
    Rested(Result<bool, Fault>),
    Joined(Result<(), Fault>),
    Answered(Tag, Result<Answer, Reject>),
    Registered(Tag, Result<Arc<Link>, Reject>),
    Kept(Result<(), Fault>),
}

/// How a Socket.IO client came in.
pub(super) enum Entrance {
    /// It presents its token later.
    Unnamed,
    /// As somebody, in a session of before or a fresh one.
    Named(Arc<Link>, Begun),
}

pub(super) type Doing = Boxed<Done>;

/// Between two attempts to join.
const AGAIN: Duration = Duration::from_millis(500);

/// Requests do not wait longer for what is kept now and then.
const SAVED: Duration = Duration::from_secs(1);

/// Where a piece of work belongs.
pub(super) struct Seat {
    pub node: Arc<Node>,
    pub mount: Arc<Mount>,
    pub link: Option<Arc<Link>>,
    pub port: Port,
    /// The token of the handshake.
    pub token: Option<String>,
}

/// Starts on it. Boxed, so that an idle session stays small.
pub(super) fn start(seat: Seat, work: Work) -> Doing {
    let node = seat.node.clone();
    match (work, seat.link.clone()) {
        (Work::Connect(auth), _) => Box::pin(async move { Done::Connected(connect(&seat, &auth).await) }),
        (Work::Refuse(refused), _) => Box::pin(std::future::ready(Done::Answered(refused.0, Err(refused.1)))),
        (Work::Request(asked), None) => {
            Box::pin(async move { unauthenticated(&seat, asked.0, asked.1).await })
        }
        (Work::Request(asked), Some(link)) => Box::pin(async move {
            let (tag, request) = *asked;
            let result = authenticated(&node, &link, request).await;
            // Kept before the client hears of it: it relies on being in the room then. With the engine away nothing
            // changed, and the client is not kept waiting a second time.
            let away = result.as_ref().is_err_and(|reject| reject.code == RejectCode::Unavailable);
            if !away
                && link.has_moved()
                && let Err(fault) = Box::pin(recovery::save(&node, &link, false)).await
            {
                tracing::warn!(%fault, "keeping a session");
            }
            Done::Answered(tag, result)
        }),
        (Work::Greet, Some(link)) => {
            Box::pin(async move { Done::Joined(join(&node, &link, &Joining::Greet).await.map(drop)) })
        }
        (Work::Attach, Some(link)) => {
            Box::pin(async move { Done::Attached(join(&node, &link, &Joining::Attach).await) })
        }
        (Work::Settle, Some(link)) => {
            Box::pin(async move { Done::Settled(join(&node, &link, &Joining::Settle).await) })
        }
        (Work::Rest, Some(link)) => Box::pin(async move { Done::Rested(rest(&node, &link).await) }),
        (Work::Invited { conversation, since }, Some(link)) => Box::pin(async move {
            Done::Joined(join(&node, &link, &Joining::Invited(conversation, since)).await.map(drop))
        }),
        (Work::Removed(conversation), Some(link)) => {
            Box::pin(async move { Done::Kept(attach::removed(&node, &link, conversation).await) })
        }
        (Work::Save { always }, Some(link)) => {
            Box::pin(async move { Done::Kept(save(&node, &link, always).await) })
        }
        (
            Work::Greet
            | Work::Attach
            | Work::Settle
            | Work::Rest
            | Work::Invited { .. }
            | Work::Removed(_)
            | Work::Save { .. },
            None,
        ) => Box::pin(std::future::ready(Done::Kept(Ok(())))),
    }
}

/// What a connection joins by itself.
enum Joining {
    Greet,
    Attach,
    Settle,
    Invited(ConversationId, u64),
}

/// Joins, again and again while the engine is away: the connection stays. What was joined whole is not joined twice.
async fn join(node: &Arc<Node>, link: &Arc<Link>, what: &Joining) -> Result<bool, Fault> {
    let mut again = false;
    loop {
        let joined = match what {
            Joining::Greet => attach::greet(node, link).await.map(|()| true),
            Joining::Attach => attach::attach(node, link, again).await,
            Joining::Settle => attach::settle(node, link).await,
            Joining::Invited(conversation, since) => {
                // Boxed: the others come with every connection.
                Box::pin(attach::invited(node, link, conversation.clone(), *since)).await.map(|()| true)
            }
        };
        match joined {
            Err(Fault::Unavailable(why)) => {
                tracing::debug!(why, "joining is tried again");
                tokio::time::sleep(AGAIN).await;
                again = true;
            }
            done => return done,
        }
    }
}

/// Once more, a moment later: not for as long as it takes, or invitations would wait behind it.
async fn rest(node: &Arc<Node>, link: &Arc<Link>) -> Result<bool, Fault> {
    tokio::time::sleep(AGAIN).await;
    let attached = async {
        let whole = attach::attach(node, link, true).await?;
        Ok(attach::settle(node, link).await? && whole)
    };
    match attached.await {
        Err(Fault::Unavailable(why)) => {
            tracing::debug!(why, "joining is tried again");
            Ok(false)
        }
        done => done,
    }
}

/// All that a session does one after the other until it has joined everything.
pub(super) async fn join_everything(node: &Arc<Node>, link: &Arc<Link>) -> Result<(), Fault> {
    join(node, link, &Joining::Greet).await?;
    let attached = join(node, link, &Joining::Attach).await?;
    let mut whole = join(node, link, &Joining::Settle).await? && attached;
    link.set_attached();
    while !whole {
        whole = rest(node, link).await?;
    }
    Ok(())
}

async fn save(node: &Node, link: &Link, always: bool) -> Result<(), Fault> {
    if !node.health.keeps() {
        // Requests wait behind it. What has moved is kept the next time.
        return Ok(());
    }
    if link.is_restorable() && !link.is_attached() {
        // What was kept may not have been read yet: it would be written over.
        return Ok(());
    }
    let saved = async {
        if link.is_restorable() {
            restore::save(node, link).await
        } else {
            recovery::save(node, link, always).await
        }
    };
    let late = |_| Fault::Unavailable("keeping a session took too long".to_owned());
    tokio::time::timeout(SAVED, saved).await.map_err(late)?
}

/// Token, identity, lease, and what can be recovered: in this order, so that nobody learns anything of a
/// session that is not theirs.
async fn connect(seat: &Seat, auth: &Auth) -> Result<Entrance, Reject> {
    let Seat { node, mount, .. } = seat;
    let token = auth.token.as_ref().filter(|t| !t.trim().is_empty()).or(seat.token.as_ref());
    if token.is_none() && mount.spoken().registers_late() {
        return Ok(Entrance::Unnamed);
    }
    let identity = credentials::read(node, token.map(String::as_str), &mount.subjects).await?;
    // Beside each other what does not need each other: the engine may be far away.
    let (arrival, (), names) = tokio::try_join!(
        Arrival::knock(node, mount, identity.clone(), &seat.port),
        may_connect(node, mount, &identity, auth),
        async { Ok(ahead::names(node, mount, &identity.user).await) },
    )?;
    let link = arrival.link().clone();
    let entered = async {
        let link = arrival.enter().await?;
        Ok::<_, Reject>(Guest { node, link: Some(link) })
    };
    let (guest, glance, looked) = tokio::join!(
        entered,
        ahead::glance(node, &link, names, auth.pid.is_some()),
        recovery::look(node, mount, auth),
    );
    let mut guest = guest?;
    let seen = recovery::Seen { glance, looked };
    let begun = recovery::begin(node, &link, auth, seen).await.map_err(|fault| node.unavailable(&fault))?;
    guest.link = None;
    Ok(Entrance::Named(link, begun))
}

/// Whether the token stands, names whom the client names, and its user may connect.
async fn may_connect(node: &Node, mount: &Mount, identity: &Identity, auth: &Auth) -> Result<(), Reject> {
    credentials::check(node, identity).await?;
    let claims = mount.spoken().claims_user();
    if claims && auth.user_id.as_deref().is_some_and(|claimed| claimed != identity.user.as_str()) {
        return Err(Reject::new(RejectCode::Forbidden, "User ID mismatch"));
    }
    authoriser::connect(node, mount, identity).await
}

/// A connection that was let in and that no session has yet. Dropped with it (the transport went meanwhile),
/// everything is given back.
struct Guest<'a> {
    node: &'a Arc<Node>,
    link: Option<Arc<Link>>,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        let node = self.node.clone();
        self.node.tracker.spawn(async move {
            if let Err(fault) = recovery::save_last(&node, &link).await {
                tracing::warn!(%fault, "keeping a connection's state");
            }
            admission::close(&node, &link).await;
        });
    }
}

/// Puts the conversation that has the number in the place of its digits.
async fn resolve(node: &Node, request: &mut Request) -> Result<(), Reject> {
    let Some(number) = request.number else { return Ok(()) };
    let found = node.backplane.log.find(Find::Number(number)).await.map_err(|f| node.unavailable(&f))?;
    if let (Some((LogKey::Conversation(id), _)), Some(named)) = (found, request.command.conversation_mut()) {
        *named = id;
    }
    Ok(())
}

async fn authenticated(node: &Arc<Node>, link: &Arc<Link>, mut request: Request) -> Result<Answer, Reject> {
    if request.number.is_some() {
        Box::pin(resolve(node, &mut request)).await?;
    }
    let user = &link.listener.user;
    if request.claimed.as_deref().is_some_and(|claimed| claimed != user.as_str()) {
        return Err(Reject::new(RejectCode::Forbidden, "the frame names another user than the token"));
    }
    match request.command {
        Command::Register(register) => Box::pin(register_again(node, link, register)).await,
        command => commands::run(node, link, command).await,
    }
}

/// A client that registers once more, with a fresh token or the one it has.
async fn register_again(node: &Arc<Node>, link: &Arc<Link>, register: Register) -> Result<Answer, Reject> {
    let user = &link.listener.user;
    if let Some(token) = register.token {
        let identity = credentials::verify(node, Some(&token), &link.mount.subjects).await?;
        if identity.user != *user {
            // socialhub's list of codes has none for it but this one.
            let late = link.dialect.registers_late();
            let code = if late { RejectCode::Forbidden } else { RejectCode::InvalidToken };
            return Err(Reject::new(code, "the token is another user's"));
        }
        refresh(node, link, identity).await;
    }
    Ok(Answer::Registered { user: user.clone() })
}

/// From here on the connection lives on the new token.
async fn refresh(node: &Arc<Node>, link: &Arc<Link>, identity: Arc<Identity>) {
    link.refresh(identity, node.clock.now());
    if !proofs::stand(node, &link.identity()) {
        // Revoked between the look at the revocations and now.
        link.listener.notify(Notice::Revoked);
    }
    // What is kept for the client is kept by its token: it comes back with this one.
    if link.is_restorable()
        && let Err(fault) = save(node, link, true).await
    {
        tracing::warn!(%fault, "keeping a session under its new token");
    }
}

async fn unauthenticated(seat: &Seat, tag: Tag, request: Request) -> Done {
    let Seat { node, mount, .. } = seat;
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
        admission::open(node, mount, identity, &seat.port).await
    };
    Done::Registered(tag, registered.await)
}

fn unverified(claimed: &str) -> Result<Arc<Identity>, Reject> {
    let user = UserId::parse(claimed)
        .map_err(|e| Reject::new(RejectCode::InvalidField, e.to_string()).field("sessionId"))?;
    Ok(Arc::new(Identity {
        user,
        name: None,
        username: None,
        picture: None,
        expires_at: Time::from_millis(u64::MAX),
        issued_at: None,
        token_id: None,
        token_hash: 0,
        verified: false,
        proof: parlance_model::Proof::None,
        claims: None,
    }))
}
