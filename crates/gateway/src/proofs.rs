//! Whether what a live connection stands on still holds: the key its token was signed with, the session its token
//! names.
//!
//! Owns: how often that is asked, and ending connections of which it is not so. Must not know: what tokens look like
//! (`auth`), who revokes them (`orders`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parlance_hub::Notice;
use parlance_model::{Identity, Proof, Time};
use tokio::time::MissedTickBehavior;

use crate::auth::{AuthError, Authenticator};
use crate::node::Node;
use crate::session::Link;

/// How often keys are looked after.
const LOOK: Duration = Duration::from_secs(1);
/// How often connections are looked for whose sessions are to be asked about.
const TICK: Duration = Duration::from_millis(250);
/// Connections asked about in one tick at most.
const PER_TICK: usize = 25;
/// Questions under way at once: newcomers have theirs beside them.
const AT_ONCE: usize = 16;

/// Whether a token that was good a moment ago still is, as far as this node has heard.
pub(crate) fn stand(node: &Node, identity: &Identity) -> bool {
    !node.orders.revoked_meanwhile(identity) && !node.auth.load().has_withdrawn(&identity.proof)
}

/// Has keys fetched in time, and ends what lives on one that was withdrawn: a key is taken away when its tokens are
/// over, or when somebody else has it.
pub(crate) async fn watch_keys(node: Arc<Node>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked: Option<Arc<Authenticator>> = None;
    loop {
        tokio::select! {
            biased;
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        let auth = node.auth.load_full();
        if node.halt.run_until_cancelled(auth.tend()).await.is_none() {
            return;
        }
        // Whoever came since was looked at when it came.
        if auth.has_fixed_keys() && looked.as_ref().is_some_and(|before| Arc::ptr_eq(before, &auth)) {
            continue;
        }
        let mut ended = 0_usize;
        for link in node.links.iter().filter(|link| auth.has_withdrawn(&link.identity().proof)) {
            link.listener.notify(Notice::Revoked);
            ended += 1;
        }
        if ended > 0 {
            tracing::warn!(connections = ended, "a key was withdrawn; the connections that live on it end");
        }
        looked = Some(auth);
    }
}

/// Asks again about the sessions of live connections.
pub(crate) async fn watch_sessions(node: Arc<Node>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut any = false;
    loop {
        tokio::select! {
            biased;
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        // Once there were sessions some may live on, whatever was configured since.
        any |= node.auth.load().knows_sessions();
        if !any {
            continue;
        }
        let recheck = Duration::from_millis(node.config.load().auth.session_recheck_ms);
        if recheck.is_zero() {
            continue;
        }
        let now = node.clock.now();
        let mut due: Vec<(Time, Arc<Link>)> = node
            .links
            .iter()
            .filter(|link| matches!(link.identity().proof, Proof::Session(_)))
            .map(|link| (link.asked() + span(recheck, link.connection.number), link.value().clone()))
            .filter(|(at, _)| *at <= now)
            .collect();
        // Those that have waited longest first.
        due.sort_unstable_by_key(|(at, _)| *at);
        let asked: Vec<_> =
            due.into_iter().take(PER_TICK).map(|(_, link)| ask(node.clone(), link, now)).collect();
        let asked = stream::iter(asked).buffer_unordered(AT_ONCE).for_each(|()| std::future::ready(()));
        if node.halt.run_until_cancelled(asked).await.is_none() {
            return;
        }
    }
}

/// Between three quarters and the whole: connections that came together are not asked about together.
fn span(recheck: Duration, number: u64) -> Duration {
    // Neighbours lie far apart.
    let part = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    let quarter = recheck / 4;
    recheck - quarter * u32::try_from(part).unwrap_or(0) / 256
}

/// `since`: a verdict from before does not count; one from since, on another connection with the same token, does.
async fn ask(node: Arc<Node>, link: Arc<Link>, since: Time) {
    let before = link.identity();
    let Proof::Session(token) = &before.proof else { return };
    let found = node.auth.load_full().verify_session(token, &link.mount.subjects, since).await;
    link.set_asked(node.clock.now());
    match found {
        // It lives on, for as long as it did on the answer before at most.
        Err(AuthError::Unavailable) => {}
        Ok(identity) if identity.user == before.user => {
            link.prolong(identity);
        }
        Ok(_) | Err(_) if link.identity().token_hash == before.token_hash => {
            tracing::info!(connection = %link.connection, "a session ended at its source");
            link.listener.notify(Notice::Revoked);
        }
        // It has another token by now.
        Ok(_) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_asked_about_in_the_last_quarter_of_the_time_and_apart() {
        let recheck = Duration::from_secs(400);
        let spans: Vec<Duration> = (1..=64).map(|number| span(recheck, number)).collect();
        let (first, last) = (spans.iter().min().unwrap(), spans.iter().max().unwrap());
        assert!(*first > recheck * 3 / 4 && *last <= recheck, "{first:?} {last:?}");
        assert!(*last - *first > recheck / 5, "{first:?} {last:?}");
        assert!(spans.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > Duration::from_secs(1)));
    }
}
