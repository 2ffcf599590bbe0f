//! What every node carries out: disconnects, revoked tokens, the maintenance switch.
//!
//! Owns: the log of orders that every node reads. A signal says that there is something to read; what a lost signal
//! would have said is read with the next look, so that a node that was cut off carries it out when it is back.
//! Must not know: who gives orders, how connections are closed.

mod place;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use parlance_backplane::{Fault, Over, Signal};
use parlance_hub::Notice;
use parlance_model::{Entry, Event, Identity, LogKey, RawJson, Record, Time, Topic, UserId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::auth::{AuthError, Claims};
use crate::node::Node;
use place::Place;

/// No client can name it: it is no house id.
const LOG: &str = "~orders";
/// A revocation is remembered so long for connections that were being let in when it came.
const ENTERING: Duration = Duration::from_secs(60);
const MOST_REMEMBERED: usize = 10_000;
/// A signal that is lost costs no more than this: what is revoked ends within a second all the same.
const LOOK: Duration = Duration::from_millis(500);
/// How long what is revoked for everybody is taken for known.
const HELD_FOR: Duration = Duration::from_millis(500);
/// How long somebody who comes waits for what is revoked for everybody.
const CATCH_UP: Duration = Duration::from_millis(300);
/// Questions asked at once when every connection is looked at.
const AT_ONCE: usize = 64;

/// Tokens that are good no more: those that everything named here fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With this `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Issued before or at this time (milliseconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Disconnect { user: String, reason: String, reconnect: bool },
    Revoke(Revocation),
}

/// A node's side of it.
#[derive(Default)]
pub struct Orders {
    look: Notify,
    recent: Mutex<VecDeque<(Time, Revocation)>>,
    all: Mutex<Held>,
    /// Revocations came.
    came: Notify,
    /// One reads it at a time.
    looking: tokio::sync::Mutex<()>,
}

/// What stands for everybody's tokens. Held here: it has one key, and one lost shard must not refuse everybody.
#[derive(Default)]
struct Held {
    standing: Option<Revocation>,
    /// It was read once. Before that nobody is let in: a start may have to wait for the shard.
    known: bool,
    /// When it was read last.
    read_at: Time,
    /// How often it was widened: what was read before the last time says nothing.
    widened: u64,
}

impl Revocation {
    /// Whether it may be about the session that a verifier said this of.
    fn may_cover(&self, claims: &Claims) -> bool {
        let says = |text: &str| {
            let number = || text.parse::<u64>().ok();
            claims
                .values()
                .any(|claim| claim.as_str() == Some(text) || claim.as_u64() == number() && claim.is_u64())
        };
        self.user.as_deref().is_none_or(says) && self.jti.as_deref().is_none_or(says)
    }

    /// A token that does not say when it was issued counts as issued before.
    fn covers(&self, identity: &Identity) -> bool {
        identity.verified
            && self.user.as_deref().is_none_or(|user| user == identity.user.as_str())
            && self.jti.as_deref().is_none_or(|jti| identity.token_id.as_deref() == Some(jti))
            && self
                .before
                .is_none_or(|before| identity.issued_at.is_none_or(|issued| issued.millis() <= before))
    }

    /// What stands under the key of both.
    fn merged(self, other: Self) -> Self {
        Self {
            user: if self.user == other.user { self.user } else { None },
            jti: self.jti,
            before: self.before.zip(other.before).map(|(one, other)| one.max(other)),
        }
    }

    fn key(&self) -> String {
        match (&self.jti, &self.user) {
            (Some(jti), _) => key_of_token(jti),
            (None, Some(user)) => key_of_user(user),
            (None, None) => KEY_OF_ALL.to_owned(),
        }
    }
}

const KEY_OF_ALL: &str = "revoked:all";

fn key_of_user(user: &str) -> String {
    format!("revoked:user:{user}")
}

fn key_of_token(jti: &str) -> String {
    format!("revoked:jti:{jti}")
}

impl Orders {
    /// There may be something to read.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Whether a revocation came while the connection was being let in, after its token had been checked.
    pub fn revoked_meanwhile(&self, identity: &Identity) -> bool {
        self.recent.lock().iter().any(|(_, revocation)| revocation.covers(identity))
    }

    /// By what stands for everybody's tokens.
    fn check_held(&self, identity: &Identity) -> Result<(), AuthError> {
        let all = self.all.lock();
        match &all.standing {
            Some(standing) if standing.covers(identity) => Err(AuthError::Revoked),
            _ if all.known => Ok(()),
            _ => Err(AuthError::Unavailable),
        }
    }

    fn widen_all(&self, revocation: &Revocation) {
        if revocation.key() != KEY_OF_ALL {
            return;
        }
        let mut all = self.all.lock();
        all.widened += 1;
        all.standing = Some(match all.standing.take() {
            Some(standing) => revocation.clone().merged(standing),
            None => revocation.clone(),
        });
    }

    fn remember(&self, revocation: Revocation, now: Time) {
        let mut recent = self.recent.lock();
        while recent.front().is_some_and(|(at, _)| *at + ENTERING < now || recent.len() >= MOST_REMEMBERED) {
            recent.pop_front();
        }
        recent.push_back((now, revocation));
        drop(recent);
        self.came.notify_waiters();
    }

    /// Waits for a revocation, of anything. One that comes before this is waited for is not heard of.
    pub async fn revocation(&self) {
        self.came.notified().await;
    }
}

fn corrupt(error: impl std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("order: {error}"))
}

fn log() -> LogKey {
    LogKey::App(LOG.into())
}

/// Has every node close a user's connections.
///
/// # Errors
/// The backplane's fault; nothing is certain then, and repeating does no harm.
pub async fn disconnect(node: &Node, user: &UserId, reason: String, reconnect: bool) -> Result<(), Fault> {
    give(node, &Order::Disconnect { user: user.to_string(), reason, reconnect }).await
}

/// Has every node refuse tokens and close the connections that live on them.
///
/// # Errors
/// As [`disconnect`].
pub async fn revoke(node: &Node, revocation: Revocation) -> Result<(), Fault> {
    // Newcomers first: whoever comes while the connections are being closed is refused already.
    widen(node, &revocation).await?;
    node.orders.widen_all(&revocation);
    give(node, &Order::Revoke(revocation)).await
}

/// Puts it under its key. What another node put there meanwhile is not lost: it is read and widened again.
async fn widen(node: &Node, revocation: &Revocation) -> Result<(), Fault> {
    let key = revocation.key();
    let shared = &node.backplane.shared;
    let kept = node.config.load().auth.revocations_kept();
    loop {
        let standing = shared.load(&key).await?;
        let whole = match read(standing.clone())? {
            Some(standing) => revocation.clone().merged(standing),
            None => revocation.clone(),
        };
        let bytes = serde_json::to_vec(&whole).map_err(corrupt)?;
        if shared.keep(&key, bytes, Some(kept), Over::This(standing)).await? {
            return Ok(());
        }
    }
}

async fn give(node: &Node, order: &Order) -> Result<(), Fault> {
    let text = serde_json::to_string(order).map_err(corrupt)?;
    let payload = RawJson::new(&text, 8).map_err(corrupt)?;
    node.backplane.log.post(&log(), Record::App { kind: "order".into(), payload, trace: None }, None).await?;
    tell(node).await;
    Ok(())
}

/// Tells every node to look. One that does not hear it looks a moment later by itself.
pub async fn tell(node: &Node) {
    node.orders.look();
    if let Err(fault) = node.backplane.bus.signal(&Topic::Nodes, Signal::Orders).await {
        tracing::warn!(%fault, "telling the nodes of an order");
    }
}

fn read(bytes: Option<Vec<u8>>) -> Result<Option<Revocation>, Fault> {
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(corrupt)).transpose()
}

/// Whether a genuine token is still good.
///
/// # Errors
/// `Revoked`; `Unavailable` when that cannot be found out now.
pub async fn check(node: &Node, identity: &Identity) -> Result<(), AuthError> {
    if !identity.verified {
        return Ok(());
    }
    let user = key_of_user(identity.user.as_str());
    let token = identity.token_id.as_deref().map(key_of_token);
    let load = async |key: &str| read(node.backplane.shared.load(key).await?);
    let of_token = async {
        match &token {
            Some(key) => load(key).await,
            None => Ok(None),
        }
    };
    let of_all = async {
        catch_up(node).await;
        Ok(())
    };
    // Beside each other: the engine may be far away. Where it is not there at all, nothing is waited for any longer.
    let standing = tokio::try_join!(load(&user), of_token, of_all);
    let (user, token, ()) = standing.map_err(|fault| {
        tracing::warn!(%fault, "asking for revocations");
        AuthError::Unavailable
    })?;
    if [user, token].into_iter().flatten().any(|revocation| revocation.covers(identity)) {
        return Err(AuthError::Revoked);
    }
    node.orders.check_held(identity)
}

/// A node that was cut off, or did not hear a signal, may not know yet what was revoked for everybody meanwhile:
/// whoever comes has it read when the last look is some time ago. Where that fails, what is held counts: one lost
/// shard must not refuse everybody.
async fn catch_up(node: &Node) {
    let is_due = || {
        let all = node.orders.all.lock();
        all.known && all.read_at + HELD_FOR < node.clock.now()
    };
    if !is_due() {
        return;
    }
    let looked = async {
        let _one = node.orders.looking.lock().await;
        if is_due() { load_all(node).await } else { Ok(()) }
    };
    match tokio::time::timeout(CATCH_UP, looked).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => tracing::debug!(%fault, "reading what is revoked for everybody"),
        Err(_) => tracing::debug!("reading what is revoked for everybody took too long"),
    }
}

/// From where a starting node reads: it has no connections that earlier orders could be about.
///
/// # Errors
/// The backplane's fault.
pub async fn begin(node: &Node) -> Result<Place, Fault> {
    load_all(node).await?;
    load_maintenance(node).await?;
    Place::at_end(&*node.backplane.log, &log()).await
}

/// Carries out orders until the node halts.
pub async fn watch(node: Arc<Node>, mut place: Place) {
    let mut every = tokio::time::interval(LOOK.min(node.config.load().timings.head_check()));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
            () = node.orders.look.notified() => {}
        }
        // Each by itself: they may lie on different shards, of which one is away.
        let (maintenance, all) = tokio::join!(load_maintenance(&node), load_all(&node));
        let orders = read_on(&node, &mut place).await;
        for fault in [maintenance, all, orders].into_iter().filter_map(Result::err) {
            tracing::debug!(%fault, "reading orders");
        }
    }
}

async fn read_on(node: &Node, place: &mut Place) -> Result<(), Fault> {
    loop {
        let (entries, more) = place.next(&*node.backplane.log, &log()).await?;
        for entry in &entries {
            carry_out(node, entry);
            place.pass(entry);
        }
        if !more {
            break;
        }
    }
    if place.doubtful {
        // What can be found out in another way is, and again until it could be.
        check_all(node).await?;
        place.doubtful = false;
    }
    Ok(())
}

fn carry_out(node: &Node, entry: &Entry) {
    let Record::App { payload, .. } = &entry.record else { return };
    match serde_json::from_str(payload.as_str()) {
        Ok(Order::Disconnect { user, reason, reconnect }) => {
            let Ok(user) = UserId::parse(&user) else { return };
            let code = if reconnect { 1012 } else { 1008 };
            for listener in node.hub.listeners(&Topic::User(user)) {
                listener.notify(Notice::Close { code, reason: reason.clone() });
            }
        }
        Ok(Order::Revoke(revocation)) => {
            // First: a connection that is not among the links yet looks here once it is.
            node.orders.remember(revocation.clone(), node.clock.now());
            node.orders.widen_all(&revocation);
            node.auth
                .load()
                .forget(&|identity| revocation.covers(identity), &|claims| revocation.may_cover(claims));
            for link in node.links.iter().filter(|link| revocation.covers(&link.identity())) {
                link.listener.notify(Notice::Revoked);
            }
        }
        // Of a later release.
        Err(error) => tracing::warn!(%error, "an order that is not understood was passed over"),
    }
}

/// Asks for every connection's token whether it is still good.
async fn check_all(node: &Node) -> Result<(), Fault> {
    let mut links: Vec<_> = node.links.iter().map(|link| link.value().clone()).collect();
    let mut unknown = false;
    while !links.is_empty() {
        let batch = links.split_off(links.len().saturating_sub(AT_ONCE));
        let identities: Vec<_> = batch.iter().map(|link| link.identity()).collect();
        let good = join_all(identities.iter().map(|identity| check(node, identity))).await;
        for (link, good) in batch.iter().zip(good) {
            match good {
                Err(AuthError::Revoked) => link.listener.notify(Notice::Revoked),
                Err(_) => unknown = true,
                Ok(()) => {}
            }
        }
    }
    if unknown { Err(Fault::Unavailable("not every connection could be checked".to_owned())) } else { Ok(()) }
}

/// Reads what stands for everybody's tokens.
async fn load_all(node: &Node) -> Result<(), Fault> {
    let widened = node.orders.all.lock().widened;
    let asked_at = node.clock.now();
    let standing = read(node.backplane.shared.load(KEY_OF_ALL).await?)?;
    let mut all = node.orders.all.lock();
    if all.widened == widened {
        all.standing = standing;
    }
    all.known = true;
    all.read_at = asked_at;
    Ok(())
}

/// Reads the maintenance switch; the connections are told when it was switched on or says something else.
async fn load_maintenance(node: &Node) -> Result<(), Fault> {
    let before = node.maintenance.load_full();
    let Some(now) = node.load_maintenance().await? else { return Ok(()) };
    if before.is_some_and(|before| before.message == now.message && before.retry_after == now.retry_after) {
        return Ok(());
    }
    let event = Event::Maintenance((*now).clone());
    for link in &node.links {
        link.tell(&event);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: &str, jti: Option<&str>, issued_at: Option<u64>) -> Identity {
        Identity {
            user: UserId::parse(user).unwrap(),
            name: None,
            username: None,
            picture: None,
            expires_at: Time(u64::MAX),
            issued_at: issued_at.map(Time),
            token_id: jti.map(Into::into),
            token_hash: 0,
            verified: true,
            proof: parlance_model::Proof::None,
            claims: None,
        }
    }

    fn revocation(user: Option<&str>, jti: Option<&str>, before: Option<u64>) -> Revocation {
        Revocation { user: user.map(str::to_owned), jti: jti.map(str::to_owned), before }
    }

    #[test]
    fn a_token_is_revoked_when_everything_named_fits() {
        let token = identity("u", Some("j"), Some(1_000));
        for (user, jti, before, revoked) in [
            (Some("u"), None, Some(1_000), true),
            (Some("u"), None, Some(999), false),
            (Some("v"), None, Some(1_000), false),
            (None, Some("j"), None, true),
            (None, Some("k"), None, false),
            (Some("v"), Some("j"), None, false),
            (None, None, Some(5_000), true),
        ] {
            assert_eq!(revocation(user, jti, before).covers(&token), revoked, "{user:?} {jti:?} {before:?}");
        }
        assert!(
            revocation(Some("u"), None, Some(1)).covers(&identity("u", None, None)),
            "issued who knows when"
        );
        let unproven = Identity { verified: false, ..identity("u", None, None) };
        assert!(!revocation(Some("u"), None, Some(1)).covers(&unproven), "it has no token");
    }

    #[test]
    fn what_stands_is_never_narrowed() {
        let early = revocation(Some("u"), None, Some(1));
        let late = revocation(Some("u"), None, Some(2));
        assert_eq!(early.clone().merged(late.clone()), late);
        assert_eq!(late.clone().merged(early), late);
        let one = revocation(Some("u"), Some("j"), None);
        let other = revocation(Some("v"), Some("j"), Some(3));
        assert_eq!(one.merged(other), revocation(None, Some("j"), None));
    }

    #[test]
    fn revocations_are_remembered_for_those_who_were_entering() {
        let orders = Orders::default();
        orders.remember(revocation(Some("u"), None, None), Time(0));
        assert!(orders.revoked_meanwhile(&identity("u", None, None)));
        assert!(!orders.revoked_meanwhile(&identity("v", None, None)));
        orders.remember(revocation(Some("v"), None, None), Time(61_000));
        assert!(!orders.revoked_meanwhile(&identity("u", None, None)));
    }
}
