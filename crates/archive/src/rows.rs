//! Steps as rows: which they become, and how they are spelled for COPY. Pure.
//!
//! Of what stands once for each key (members, reactions, receipts, conversations) a batch has one row: the last word.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parlance_backplane::trail::{Happening, Step};
use parlance_backplane::{CursorChanged, record};
use parlance_model::{ConversationId, Cursor, Entry, Message, Record, Time, UserId};

/// Where an entry is in the life of a log: its epoch, its sequence.
type Place = (u32, u64);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Conversation {
    created: Option<(Time, Option<UserId>)>,
    epoch: u32,
    deleted: Option<Time>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Membership {
    joined: Option<(Place, Time)>,
    left: Option<(Place, Time)>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Receipt {
    delivered: Option<u64>,
    read: Option<(u64, Time)>,
}

/// Conversation, target, kind, user.
type Reacted = (ConversationId, u64, String, UserId);

/// What a batch comes to.
#[derive(Debug, Default)]
pub struct Rows {
    conversations: BTreeMap<ConversationId, Conversation>,
    messages: BTreeMap<(ConversationId, u64, u32, Time), Entry>,
    /// Those that are none.
    entries: BTreeMap<(ConversationId, u64, u32, Time), Entry>,
    reactions: BTreeMap<Reacted, (Place, Time, bool)>,
    memberships: BTreeMap<(ConversationId, UserId), Membership>,
    receipts: BTreeMap<(ConversationId, UserId), Receipt>,
    standing: BTreeMap<(ConversationId, UserId), Standing>,
}

/// A member of whom the log may not tell any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where they came, as far as is known.
    pub joined: (u32, u64),
    /// The first epoch that is known of this life of the conversation.
    pub life: u32,
    /// Only if they came later.
    pub after: Option<Time>,
}

impl Rows {
    /// Of these steps, in their order.
    pub fn of(steps: &[Step]) -> Self {
        let mut rows = Self::default();
        for what in steps.iter().filter_map(|step| step.what.as_ref()) {
            match what {
                Happening::Created { conversation, by, at } => {
                    let known = rows.conversations.entry(conversation.clone()).or_default();
                    known.created = Some((*at, by.clone()));
                }
                Happening::Entry { conversation, entry } => rows.entry(conversation, entry),
                Happening::Cursor(changed) => rows.cursor(changed),
                Happening::Presence(_) | Happening::Connection(_) => {}
            }
        }
        rows
    }

    /// Of entries of conversations.
    pub fn of_entries<'a>(entries: impl Iterator<Item = (&'a ConversationId, &'a Entry)>) -> Self {
        let mut rows = Self::default();
        for (conversation, entry) in entries {
            rows.entry(conversation, entry);
        }
        rows
    }

    /// A conversation as it stands.
    pub fn created(&mut self, id: &ConversationId, epoch: u32, at: Time, by: Option<UserId>) {
        let known = self.conversations.entry(id.clone()).or_default();
        (known.created, known.epoch) = (Some((at, by)), known.epoch.max(epoch));
    }

    /// A member as it stands.
    pub fn stands(&mut self, id: &ConversationId, user: &UserId, standing: Standing) {
        self.standing.insert((id.clone(), user.clone()), standing);
    }

    /// A cursor.
    pub fn cursor_stands(&mut self, id: &ConversationId, cursor: &Cursor) {
        let key = (id.clone(), cursor.user.clone());
        let known = self.receipts.entry(key).or_default();
        known.delivered = Some(cursor.delivered);
        known.read = (cursor.read_at > Time(0)).then_some((cursor.read, cursor.read_at));
    }

    /// Reactions to what is before a place are left out.
    pub fn without_reactions_to(&mut self, bound: u64) {
        self.reactions.retain(|(_, target, ..), _| *target >= bound);
    }

    /// Whether nothing of it is kept.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.receipts.is_empty()
    }

    fn entry(&mut self, id: &ConversationId, entry: &Entry) {
        let known = self.conversations.entry(id.clone()).or_default();
        if entry.epoch > known.epoch {
            (known.epoch, known.deleted) = (entry.epoch, None);
        }
        let place = (entry.epoch, entry.seq);
        let is_message = matches!(entry.record, Record::Message(_));
        let all = if is_message { &mut self.messages } else { &mut self.entries };
        all.insert((id.clone(), entry.seq, entry.epoch, entry.at), entry.clone());
        match &entry.record {
            Record::Deleted if entry.epoch == known.epoch => known.deleted = Some(entry.at),
            Record::Reaction { author, target, kind, added } => {
                let key = (id.clone(), *target, kind.to_string(), author.id.clone());
                let now = (place, entry.at, *added);
                let known = self.reactions.entry(key).or_insert(now);
                *known = (*known).max(now);
            }
            Record::Members { added, removed, .. } => {
                let now = Some((place, entry.at));
                for user in added {
                    let known = self.memberships.entry((id.clone(), user.clone())).or_default();
                    known.joined = known.joined.max(now);
                }
                for user in removed {
                    let known = self.memberships.entry((id.clone(), user.clone())).or_default();
                    known.left = known.left.max(now);
                }
            }
            _ => {}
        }
    }

    fn cursor(&mut self, changed: &CursorChanged) {
        let key = (changed.conversation.clone(), changed.user.clone());
        let known = self.receipts.entry(key).or_default();
        known.delivered = known.delivered.max(changed.moved.delivered.map(|(_, to)| to));
        if let Some((_, to)) = changed.moved.read
            && known.read.is_none_or(|(before, _)| to > before)
        {
            known.read = Some((to, changed.at));
        }
    }

    /// The staging tables, each with its rows as COPY takes them; those without rows are left out.
    pub fn copies(&self) -> Vec<(&'static str, Vec<String>)> {
        let conversations = self.conversations.iter().map(|(id, c)| {
            let mut line = Line::new();
            let (at, by) = c.created.as_ref().map_or((None, None), |(at, by)| (Some(*at), by.as_ref()));
            line.text(id.as_str()).time(at).maybe(by.map(UserId::as_str)).time(c.deleted).number(c.epoch);
            line.end()
        });
        let messages = self.messages.iter().filter_map(|((id, ..), entry)| message(id, entry));
        let entries = self.entries.iter().map(|((id, ..), one)| entry(id, one));
        let reactions =
            self.reactions.iter().map(|((id, target, kind, user), ((epoch, seq), at, stands))| {
                let mut line = Line::new();
                line.text(id.as_str()).number(*target).text(kind).text(user.as_str());
                line.number(*epoch).number(*seq).time(Some(*at)).flag(*stands);
                line.end()
            });
        let memberships = self.memberships.iter().map(|((id, user), membership)| {
            let mut line = Line::new();
            line.text(id.as_str()).text(user.as_str()).place(membership.joined).place(membership.left);
            line.end()
        });
        let receipts = self.receipts.iter().map(|((id, user), receipt)| {
            let mut line = Line::new();
            line.text(id.as_str()).text(user.as_str()).maybe_number(receipt.delivered);
            line.maybe_number(receipt.read.map(|(to, _)| to)).time(receipt.read.map(|(_, at)| at));
            line.end()
        });
        let standing = self.standing.iter().map(|((id, user), member)| {
            let (epoch, seq) = member.joined;
            let mut line = Line::new();
            line.text(id.as_str()).text(user.as_str()).number(epoch).number(seq);
            line.number(member.life).time(member.after);
            line.end()
        });
        let mut all: Vec<(&'static str, Vec<String>)> = vec![
            ("staged_conversations", conversations.collect()),
            ("staged_messages", messages.collect()),
            ("staged_entries", entries.collect()),
            ("staged_reactions", reactions.collect()),
            ("staged_memberships", memberships.collect()),
            ("staged_receipts", receipts.collect()),
            ("staged_standing", standing.collect()),
        ];
        all.retain(|(_, lines)| !lines.is_empty());
        all
    }
}

fn message(id: &ConversationId, entry: &Entry) -> Option<String> {
    let Record::Message(message) = &entry.record else { return None };
    let mut line = Line::new();
    line.text(id.as_str()).number(entry.seq).number(entry.epoch);
    line.text(&entry.id.to_opaque(entry.at.seconds32())).number(entry.id.number()).number(entry.id.offset());
    line.text(message.author.id.as_str()).maybe(message.author.name.as_deref());
    line.maybe(message.client_id.as_deref()).text(&message.body);
    line.maybe(message.metadata.as_ref().map(|json| json.as_str()));
    line.maybe(message.extra.as_ref().map(|json| json.as_str())).time(Some(entry.at));
    line.maybe(message.author.username.as_deref()).maybe(message.author.picture.as_deref());
    line.time(Some(entry.prev_at));
    if has_nul(message) {
        let whole = Record::Message(Message { trace: None, ..message.clone() });
        line.bytes(&record::encode_record(&whole));
    } else {
        line.null();
    }
    Some(line.end())
}

/// Whether the columns cannot hold it as it is.
fn has_nul(message: &Message) -> bool {
    let Message { author, client_id, body, .. } = message;
    let optional = [&author.name, &author.username, &author.picture, client_id];
    body.contains('\0') || optional.iter().any(|text| text.as_ref().is_some_and(|text| text.contains('\0')))
}

/// What is no message.
fn entry(id: &ConversationId, entry: &Entry) -> String {
    let kind = match &entry.record {
        Record::Message(_) => "message",
        Record::Reaction { .. } => "reaction",
        Record::Members { .. } => "members",
        Record::Title { .. } => "title",
        Record::Lost { .. } => "lost",
        Record::Deleted => "deleted",
        Record::Invited { .. } | Record::App { .. } | Record::NotificationRead { .. } => "other",
    };
    let mut line = Line::new();
    line.text(id.as_str()).number(entry.seq).number(entry.epoch);
    line.number(entry.id.number()).number(entry.id.offset()).text(kind);
    line.time(Some(entry.at)).time(Some(entry.prev_at)).bytes(&record::encode_record(&entry.record));
    line.end()
}

/// A line of COPY's text form: fields between tabs, `\N` for NULL.
struct Line(String);

impl Line {
    const fn new() -> Self {
        Self(String::new())
    }

    fn field(&mut self) -> &mut String {
        if !self.0.is_empty() {
            self.0.push('\t');
        }
        &mut self.0
    }

    /// No text in PostgreSQL holds a NUL: the replacement character stands for it.
    fn text(&mut self, text: &str) -> &mut Self {
        let out = self.field();
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\0' => out.push('\u{fffd}'),
                c => out.push(c),
            }
        }
        self
    }

    /// As `bytea` takes them.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let out = self.field();
        out.push_str("\\\\x");
        for byte in bytes {
            _ = write!(out, "{byte:02x}");
        }
        self
    }

    fn null(&mut self) -> &mut Self {
        self.field().push_str("\\N");
        self
    }

    fn maybe(&mut self, text: Option<&str>) -> &mut Self {
        if let Some(text) = text { self.text(text) } else { self.null() }
    }

    fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        let text = number.into().to_string();
        self.field().push_str(&text);
        self
    }

    fn maybe_number(&mut self, number: Option<u64>) -> &mut Self {
        if let Some(number) = number { self.number(number) } else { self.null() }
    }

    fn time(&mut self, time: Option<Time>) -> &mut Self {
        match time {
            Some(time) => {
                let text = time.to_iso();
                self.field().push_str(&text);
                self
            }
            None => self.null(),
        }
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.field().push(if flag { 't' } else { 'f' });
        self
    }

    fn place(&mut self, place: Option<(Place, Time)>) -> &mut Self {
        match place {
            Some(((epoch, seq), at)) => self.number(epoch).number(seq).time(Some(at)),
            None => self.null().null().null(),
        }
    }

    fn end(mut self) -> String {
        self.0.push('\n');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parlance_model::delivery::Moved;
    use parlance_model::{Author, Message, MessageId, RawJson};

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn place(id: &str) -> ConversationId {
        ConversationId::parse(id).unwrap()
    }

    fn step(what: Happening) -> Step {
        Step { id: "1".to_owned(), place: "1".to_owned(), taken: 1, what: Some(what), is_unreadable: false }
    }

    fn entry(epoch: u32, seq: u64, record: Record) -> Step {
        let id = MessageId::new(7, u32::try_from(seq).unwrap()).unwrap();
        let entry = Entry { seq, epoch, at: Time(seq * 1_000), prev_at: Time(0), id, record };
        step(Happening::Entry { conversation: place("c"), entry })
    }

    fn said(body: &str) -> Record {
        Record::Message(Message {
            author: Author::bare(user("zoe")),
            client_id: Some("id".into()),
            body: body.into(),
            metadata: RawJson::new("{\"a\" : \"\\u0000\"}", 9).ok(),
            extra: None,
            trace: None,
        })
    }

    fn reacted(added: bool) -> Record {
        Record::Reaction { author: Author::bare(user("zoe")), target: 2, kind: Arc::from("👍"), added }
    }

    fn members(added: &[&str], removed: &[&str]) -> Record {
        let all = |ids: &[&str]| ids.iter().map(|id| user(id)).collect();
        Record::Members { added: all(added), removed: all(removed), by: None }
    }

    fn lines(steps: &[Step], table: &str) -> Vec<String> {
        let copies = Rows::of(steps).copies();
        copies.into_iter().find(|(name, _)| *name == table).map(|(_, lines)| lines).unwrap_or_default()
    }

    #[test]
    fn a_message_is_a_line_whatever_is_in_it() {
        let steps = [entry(1, 2, said("a\tb\nc\\N\r\0é"))];
        let line = lines(&steps, "staged_messages").concat();
        let id = MessageId::new(7, 2).unwrap().to_opaque(2);
        let record: String =
            record::encode_record(&said("a\tb\nc\\N\r\0é")).iter().fold(String::new(), |mut all, byte| {
                _ = write!(all, "{byte:02x}");
                all
            });
        let expected = format!(
            "c\t2\t1\t{id}\t7\t2\tzoe\t\\N\tid\ta\\tb\\nc\\\\N\\r\u{fffd}é\t{{\"a\" : \"\\\\u0000\"}}\t\\N\t1970-01-01T00:00:02.000Z\t\\N\t\\N\t1970-01-01T00:00:00.000Z\t\\\\x{record}\n"
        );
        assert_eq!(line, expected);
        let plain = lines(&[entry(1, 2, said("plain"))], "staged_messages").concat();
        assert!(plain.ends_with("\t1970-01-01T00:00:00.000Z\t\\N\n"), "the columns say all of it: {plain}");
        assert_eq!(
            lines(&[steps[0].clone(), steps[0].clone()], "staged_messages").len(),
            1,
            "a repetition is one"
        );
    }

    #[test]
    fn two_messages_in_one_place_are_both_kept_for_the_table_to_choose() {
        assert_eq!(
            lines(&[entry(1, 2, said("lost")), entry(2, 2, said("kept"))], "staged_messages").len(),
            2
        );
    }

    #[test]
    fn the_last_word_counts_in_any_order() {
        let (on, off) = (entry(1, 3, reacted(true)), entry(1, 4, reacted(false)));
        let last = "c\t2\t👍\tzoe\t1\t4\t1970-01-01T00:00:04.000Z\tf\n";
        assert_eq!(lines(&[on.clone(), off.clone()], "staged_reactions"), [last]);
        assert_eq!(lines(&[off, on], "staged_reactions"), [last]);
        let (came, went) = (entry(1, 1, members(&["a", "b"], &[])), entry(1, 2, members(&[], &["b"])));
        let there = "c\ta\t1\t1\t1970-01-01T00:00:01.000Z\t\\N\t\\N\t\\N\n";
        let gone = "c\tb\t1\t1\t1970-01-01T00:00:01.000Z\t1\t2\t1970-01-01T00:00:02.000Z\n";
        assert_eq!(lines(&[came.clone(), went.clone()], "staged_memberships"), [there, gone]);
        assert_eq!(lines(&[went, came], "staged_memberships"), [there, gone]);
    }

    #[test]
    fn receipts_go_forward_only() {
        let cursor = |delivered, read, at| {
            let moved = Moved { delivered, read };
            let (conversation, user) = (place("c"), user("zoe"));
            step(Happening::Cursor(CursorChanged { conversation, user, moved, at: Time(at), version: 1 }))
        };
        let steps = [
            cursor(Some((0, 5)), Some((0, 4)), 1_000),
            cursor(None, Some((2, 3)), 2_000),
            cursor(Some((0, 2)), None, 3_000),
        ];
        assert_eq!(lines(&steps, "staged_receipts"), ["c\tzoe\t5\t4\t1970-01-01T00:00:01.000Z\n"]);
    }

    #[test]
    fn what_stands_is_told_as_far_as_it_is_known() {
        let mut rows = Rows::default();
        rows.created(&place("c"), 2, Time(1_000), None);
        rows.stands(&place("c"), &user("zoe"), Standing { joined: (2, 7), life: 1, after: None });
        let cursor = |read, read_at| Cursor { user: user("zoe"), delivered: 9, read, read_at: Time(read_at) };
        rows.cursor_stands(&place("c"), &cursor(4, 0));
        let of = |rows: &Rows, table: &str| {
            rows.copies()
                .into_iter()
                .find(|(name, _)| *name == table)
                .map_or_else(Vec::new, |(_, lines)| lines)
        };
        assert_eq!(of(&rows, "staged_standing"), ["c\tzoe\t2\t7\t1\t\\N\n"]);
        assert_eq!(of(&rows, "staged_receipts"), ["c\tzoe\t9\t\\N\t\\N\n"], "where it began is not read");
        assert_eq!(of(&rows, "staged_conversations"), ["c\t1970-01-01T00:00:01.000Z\t\\N\t\\N\t2\n"]);
        rows.cursor_stands(&place("c"), &cursor(4, 2_000));
        assert_eq!(of(&rows, "staged_receipts"), ["c\tzoe\t9\t4\t1970-01-01T00:00:02.000Z\n"]);
    }

    #[test]
    fn a_conversation_that_was_deleted_and_made_again_is_there() {
        let created = |at| {
            let (conversation, by) = (place("c"), Some(user("zoe")));
            step(Happening::Created { conversation, by, at: Time(at) })
        };
        let deleted = [created(1_000), entry(1, 1, members(&["a"], &[])), entry(1, 2, Record::Deleted)];
        let line = "c\t1970-01-01T00:00:01.000Z\tzoe\t1970-01-01T00:00:02.000Z\t1\n";
        assert_eq!(lines(&deleted, "staged_conversations"), [line]);
        let again = [&deleted[..], &[created(3_000), entry(2, 3, members(&["a"], &[]))]].concat();
        assert_eq!(lines(&again, "staged_conversations"), ["c\t1970-01-01T00:00:03.000Z\tzoe\t\\N\t2\n"]);
        assert!(Rows::of(&[]).is_empty());
    }
}
