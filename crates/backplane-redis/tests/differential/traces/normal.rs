//! What one engine says, without what may differ: numbers that were assigned become their order of appearance, epochs
//! the distance to the first one seen of that log, stamps their existence.

use std::collections::BTreeMap;

use parlance_backplane::{Page, Publication, Stored};
use parlance_model::{
    Author, BLOCK_BITS, Conversation, ConversationId, Entry, Head, LogKey, MessageId, SELF_NUMBER_LIMIT,
};

/// One engine's numbers and epochs, as they were seen.
#[derive(Default)]
pub struct Normal {
    numbers: BTreeMap<u32, u32>,
    epochs: BTreeMap<LogKey, u32>,
    /// The first numbers conversations had last.
    first: BTreeMap<ConversationId, u32>,
}

impl Normal {
    pub fn number(&mut self, number: u32) -> u32 {
        if number < SELF_NUMBER_LIMIT {
            return number;
        }
        let next = SELF_NUMBER_LIMIT + u32::try_from(self.numbers.len()).unwrap();
        *self.numbers.entry(number).or_insert(next)
    }

    pub fn id(&mut self, id: MessageId) -> MessageId {
        MessageId::new(self.number(id.number()), id.offset()).unwrap()
    }

    pub fn epoch(&mut self, log: &LogKey, epoch: u32) -> u32 {
        epoch.wrapping_sub(*self.epochs.entry(log.clone()).or_insert(epoch))
    }

    pub fn stored(&mut self, stored: Stored) -> Stored {
        Stored { id: self.id(stored.id), ..stored }
    }

    pub fn entry(&mut self, log: &LogKey, entry: Entry) -> Entry {
        Entry { epoch: self.epoch(log, entry.epoch), id: self.id(entry.id), ..entry }
    }

    pub fn page(&mut self, log: &LogKey, page: Page) -> Page {
        let entries = page.entries.into_iter().map(|entry| self.entry(log, entry)).collect();
        Page { entries, epoch: self.epoch(log, page.epoch), ..page }
    }

    pub fn head(&mut self, id: &ConversationId, head: Head) -> Head {
        Head { epoch: self.epoch(&LogKey::Conversation(id.clone()), head.epoch), ..head }
    }

    pub fn conversation(&mut self, mut conversation: Conversation) -> Conversation {
        self.first.insert(conversation.id.clone(), conversation.number());
        for number in &mut conversation.numbers {
            *number = self.number(*number);
        }
        conversation.head = self.head(&conversation.id, conversation.head);
        conversation
    }

    /// The number a conversation had last, as this engine knows it.
    pub fn number_of(&self, id: &ConversationId) -> u32 {
        self.first.get(id).copied().unwrap_or(3)
    }

    /// The id of a sequence in the first block of a number.
    pub fn id_in(number: u32, seq: u64) -> MessageId {
        let offset = u32::try_from(seq & ((1 << BLOCK_BITS) - 1)).unwrap();
        MessageId::new(number, offset).unwrap()
    }

    pub fn publication(&mut self, log: Option<&LogKey>, publication: Publication) -> Publication {
        match (publication, log) {
            (Publication::Entry(entry), Some(log)) => Publication::Entry(self.entry(log, entry)),
            // Two connections of a user that end in one step: which of them was the last is nobody's to know.
            (Publication::Room(mut room), _) if !room.present && !room.explicit => {
                room.author = Author::bare(room.author.id);
                Publication::Room(room)
            }
            (other, _) => other,
        }
    }
}
