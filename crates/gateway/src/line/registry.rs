//! Which Engine.IO sessions exist here, by their ids.
//!
//! Owns: the ids. Must not know: HTTP, what a session does.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use parlance_model::NodeId;
use rustc_hash::FxHashMap;

use super::desk::Desk;

/// Characters of 128 bits in base64.
const SECRET: usize = 22;
/// Fewer entries are not worth shrinking for.
const SMALL: usize = 1024;

/// The sessions of one endpoint.
pub struct Registry {
    /// What every id ends with: who owns it.
    node: String,
    // The keys are random and our own: nobody can make them collide.
    sessions: Mutex<FxHashMap<u128, Session>>,
}

/// How a session is reached.
#[derive(Clone)]
pub enum Session {
    /// By HTTP requests.
    Polling(Arc<Desk>),
    /// By its WebSocket alone.
    Socket,
}

impl Registry {
    /// No sessions yet, of the node of that name.
    pub fn new(node: &str) -> Arc<Self> {
        let node = URL_SAFE_NO_PAD.encode(node);
        Arc::new(Self { node, sessions: Mutex::default() })
    }

    /// Enters a session under a new id.
    pub fn enter(self: &Arc<Self>, session: Session) -> Entry {
        let key: u128 = rand::random();
        self.sessions.lock().insert(key, session);
        Entry { registry: self.clone(), key }
    }

    /// The session with that id.
    pub fn find(&self, sid: &str) -> Option<Session> {
        let (secret, node) = sid.split_at_checked(SECRET)?;
        if node != self.node {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(secret).ok()?;
        let key = u128::from_be_bytes(bytes.try_into().ok()?);
        self.sessions.lock().get(&key).cloned()
    }

    /// The node that an id names as its owner, when it is another one.
    pub fn foreign(&self, sid: &str) -> Option<NodeId> {
        let (secret, node) = sid.split_at_checked(SECRET).filter(|(_, node)| *node != self.node)?;
        URL_SAFE_NO_PAD.decode(secret).ok()?;
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(node).ok()?).ok()?;
        NodeId::parse(&name).ok()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.lock().len()
    }
}

/// A session's place in the registry; dropped, nobody finds it any more.
pub struct Entry {
    registry: Arc<Registry>,
    key: u128,
}

impl Entry {
    /// The session's id.
    pub fn sid(&self) -> String {
        let mut sid = URL_SAFE_NO_PAD.encode(self.key.to_be_bytes());
        sid.push_str(&self.registry.node);
        sid
    }

    /// The session is reached by its WebSocket alone from here on.
    pub fn moved(&self) {
        self.registry.sessions.lock().insert(self.key, Session::Socket);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut sessions = self.registry.sessions.lock();
        let gone = sessions.remove(&self.key);
        if sessions.capacity() > SMALL && sessions.len() < sessions.capacity() / 8 {
            let half = sessions.capacity() / 2;
            sessions.shrink_to(half);
        }
        drop(sessions);
        if let Some(Session::Polling(desk)) = gone {
            desk.end("1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_by_their_whole_id_and_gone_when_dropped() {
        let registry = Registry::new("node a/1");
        let entry = registry.enter(Session::Socket);
        let sid = entry.sid();
        assert!(parlance_wire::engineio::is_session_id(&sid), "{sid}");
        assert!(registry.find(&sid).is_some());
        assert!(Registry::new("node b").find(&sid).is_none());
        for wrong in ["", "é", &sid[..22], &sid[1..], &format!("{sid}x"), &"A".repeat(sid.len())] {
            assert!(registry.find(wrong).is_none(), "{wrong}");
        }
        drop(entry);
        assert!(registry.find(&sid).is_none());
    }

    #[test]
    fn an_id_names_its_owner_to_other_nodes() {
        let (a, b) = (Registry::new("node-a"), Registry::new("node-b"));
        let entry = a.enter(Session::Socket);
        let sid = entry.sid();
        assert_eq!((a.foreign(&sid), b.foreign(&sid)), (None, Some(NodeId::parse("node-a").unwrap())));
        let odd = URL_SAFE_NO_PAD.encode("not a name/");
        for wrong in ["", "é", &sid[..22], &sid[1..], &format!("{sid}!"), &format!("{}{odd}", &sid[..22])] {
            assert_eq!(b.foreign(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_room_of_many_sessions_is_given_back() {
        let registry = Registry::new("n");
        let all: Vec<Entry> = (0..20_000).map(|_| registry.enter(Session::Socket)).collect();
        let peak = registry.sessions.lock().capacity();
        drop(all);
        assert_eq!(registry.len(), 0);
        assert!(registry.sessions.lock().capacity() < peak / 4);
    }
}
