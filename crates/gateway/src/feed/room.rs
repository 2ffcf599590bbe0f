//! Who is present in a conversation's room, as this node's listeners were told: what was lost of it is found out.
//!
//! Owns: what of the engine's answer is news. Must not know: when it is asked for, how an event is worded.

use parlance_backplane::RoomChanged;
use parlance_hub::Hub;
use parlance_model::{Author, LogKey, Topic, UserId};
use parlance_wire::Dialect;

use super::deliver::{Ready, To, room};
use super::job::{Job, Todo};

/// Whether anybody there is told who is present: only lingochat has words for it.
pub(super) fn is_told(hub: &Hub, topic: &Topic) -> bool {
    matches!(topic, Topic::Conversation(_))
        && hub.listeners(topic).iter().any(|l| l.accent().dialect() == Dialect::Lingochat)
}

impl Job {
    /// A publication. What was found out before is told only if the client asked for it.
    pub(super) fn room_changed(&mut self, mut change: RoomChanged) {
        if change.flipped {
            match &mut self.track.present {
                Some(present) => {
                    let user = change.author.id.clone();
                    change.flipped =
                        if change.present { present.insert(user) } else { present.remove(&user) };
                }
                None if is_told(&self.node.hub, &self.topic) => {
                    self.todo.push_back(Todo::Rooms { sure: false });
                }
                None => {}
            }
            if !change.flipped && !change.explicit {
                return;
            }
        }
        self.tell_room(change);
    }

    fn tell_room(&mut self, change: RoomChanged) {
        let event = room(&self.node, &self.topic, change);
        self.ready.push(Ready::Event { topic: self.topic.clone(), event, to: To::All });
    }

    /// Publications may be lost: whoever came is told, and once it is `sure` that connections that live are present
    /// again, whoever went. At first it is only noted.
    pub(super) async fn reread_room(&mut self, sure: bool) -> Option<()> {
        let Some(LogKey::Conversation(id)) = self.track.key.clone() else { return Some(()) };
        if !is_told(&self.node.hub, &self.topic) {
            self.track.present = None;
            return Some(());
        }
        let now: Vec<UserId> =
            self.insist_reading("reading who is present", || self.node.backplane.rooms.present(&id)).await?;
        let Some(known) = &mut self.track.present else {
            self.track.present = Some(now.into_iter().collect());
            return Some(());
        };
        let gone = known.iter().filter(|user| sure && now.binary_search(user).is_err());
        let mut changes: Vec<(UserId, bool)> = gone.map(|user| (user.clone(), false)).collect();
        changes.extend(now.into_iter().filter(|user| !known.contains(user)).map(|user| (user, true)));
        for (user, present) in &changes {
            let _new = if *present { known.insert(user.clone()) } else { known.remove(user) };
        }
        let at = self.node.clock.now();
        for (user, present) in changes {
            self.tell_room(RoomChanged {
                conversation: id.clone(),
                author: Author::bare(user),
                present,
                flipped: true,
                explicit: false,
                at,
            });
        }
        Some(())
    }
}
