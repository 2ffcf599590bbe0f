//! The golden table (`matrix.toml`): who hears which words of what, and where a word carries what.
//!
//! Owns: the table's form. Must not know: how anything is sent.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::io::Told;

/// By vocabulary.
type By<T> = BTreeMap<String, T>;

/// The whole table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// Ways to connect.
    #[serde(rename = "tongue")]
    pub tongues: Vec<Tongue>,
    /// Events.
    #[serde(rename = "row")]
    pub rows: Vec<Row>,
    /// What only the connection itself is told.
    #[serde(rename = "answer")]
    pub answers: Vec<Answer>,
    refusal: By<Vec<String>>,
    words: By<BTreeMap<String, Fields>>,
}

/// A way to connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tongue {
    /// What it is called.
    pub name: String,
    /// Its column.
    pub vocabulary: String,
    /// The path clients connect to.
    pub mount: String,
    /// Whether it is carried by Socket.IO.
    pub socketio: bool,
}

/// An event.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// For the page.
    pub title: String,
    /// For the page.
    pub note: String,
    /// The event that is brought about as well, for dialects that cannot say it by itself.
    pub implies: String,
    does: By<String>,
    hears: By<Vec<String>>,
    doer: By<Vec<String>>,
    own: By<Vec<String>>,
    author: By<Vec<String>>,
    aside: By<Vec<String>>,
    from: By<By<Vec<String>>>,
    state: By<Value>,
}

/// What a connection is told, by its dialect.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What it is called.
    pub name: String,
    /// For the page.
    pub title: String,
    /// For the page.
    #[serde(default)]
    pub note: String,
    says: By<Reply>,
}

/// What a client of one dialect is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// Of which word of its own, where that is not the same for all dialects.
    pub does: Option<String>,
    /// The events it hears.
    pub told: Vec<Word>,
    ack: BTreeMap<String, Value>,
}

/// An event, and what it says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Its name.
    pub event: String,
    says: BTreeMap<String, Value>,
}

/// What an event's fields say, or where they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields<T = String> {
    /// The message's text.
    pub body: Option<T>,
    /// Who did it.
    pub by: Option<T>,
    /// Who wrote the message concerned.
    pub author: Option<T>,
    /// The conversation.
    pub place: Option<T>,
    /// The message concerned.
    pub message: Option<T>,
    /// Which reaction.
    pub kind: Option<T>,
    /// The conversation's title.
    pub title: Option<T>,
    /// On or off.
    pub state: Option<T>,
}

/// From where a connection hears an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// It brought it about.
    Doer,
    /// It is another one of the same user.
    Own,
    /// Its user wrote the message concerned.
    Author,
    /// Any other in the conversation.
    Other,
    /// Its user is a member, but it has not entered.
    Aside,
}

impl Map {
    /// Reads the table.
    ///
    /// # Errors
    /// When it is not in its form.
    pub fn load() -> Result<Self> {
        toml::from_str(include_str!("../../matrix.toml")).context("matrix.toml")
    }

    /// A row by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn row(&self, name: &str) -> Result<&Row> {
        self.rows.iter().find(|row| row.name == name).with_context(|| format!("no row {name}"))
    }

    /// A way to connect by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn tongue(&self, name: &str) -> Result<&Tongue> {
        self.tongues.iter().find(|tongue| tongue.name == name).with_context(|| format!("no tongue {name}"))
    }

    /// What a connection is told, by the answer's name; nothing where the dialect has no word for it.
    ///
    /// # Errors
    /// When there is no such answer.
    pub fn reply(&self, name: &str, vocabulary: &str) -> Result<Option<&Reply>> {
        let answer = self.answers.iter().find(|answer| answer.name == name);
        Ok(answer.with_context(|| format!("no answer {name}"))?.says.get(vocabulary))
    }

    /// What a client is told of an event its vocabulary does not have.
    pub fn refusal(&self, vocabulary: &str) -> &[String] {
        self.refusal.get(vocabulary).map_or(&[], Vec::as_slice)
    }

    /// What the fields of an event say.
    ///
    /// # Errors
    /// When the table does not know the event, or a field is not where the table says.
    pub fn read(&self, vocabulary: &str, row: &str, told: &Told) -> Result<Fields<Value>> {
        let words = self.words.get(vocabulary).with_context(|| format!("no words of {vocabulary}"))?;
        let special = format!("{row} {}", told.name);
        let fields = words.get(&special).or_else(|| words.get(&told.name));
        let fields = fields.with_context(|| format!("{vocabulary} has no fields of {}", told.name))?;
        let args = Value::Array(told.args.clone());
        fields.each(|pointer| {
            args.pointer(pointer).cloned().with_context(|| format!("no {pointer} in {told:?}"))
        })
    }
}

impl Row {
    /// How a client of the vocabulary brings it about; `None`: it has no word for it.
    pub fn does(&self, vocabulary: &str) -> Option<&str> {
        self.does.get(vocabulary).map(String::as_str)
    }

    /// Any dialect's word for it.
    pub fn anyones(&self) -> Option<&str> {
        self.does.values().map(String::as_str).find(|word| !word.starts_with('('))
    }

    /// What is heard in `vocabulary` of what a client of `from` did.
    pub fn hears(&self, seat: Seat, from: &str, vocabulary: &str) -> &[String] {
        let usual = match seat {
            Seat::Doer => &self.doer,
            Seat::Own => &self.own,
            Seat::Author => &self.author,
            Seat::Other => &self.hears,
            Seat::Aside => &self.aside,
        };
        let special = self.from.get(from).filter(|_| seat == Seat::Other);
        let words = special.and_then(|special| special.get(vocabulary)).or_else(|| usual.get(vocabulary));
        words.map_or(&[], Vec::as_slice)
    }

    /// Whether the author of the message concerned is told in a way of its own.
    pub fn tells_author(&self) -> bool {
        !self.author.is_empty()
    }

    /// How a vocabulary says that it is on or off.
    pub fn state(&self, vocabulary: &str) -> Option<&Value> {
        self.state.get(vocabulary)
    }
}

impl Reply {
    /// Nothing is told.
    pub const SILENCE: Self = Self { does: None, told: Vec::new(), ack: BTreeMap::new() };

    /// Compares the acknowledgement of a packet.
    ///
    /// # Errors
    /// When it does not say what the table says.
    pub fn acked(&self, answer: &Value) -> Result<()> {
        compare(&self.ack, answer)
    }

    /// Compares the events that were heard.
    ///
    /// # Errors
    /// When others were heard, or one does not say what the table says.
    pub fn heard(&self, heard: &[Told]) -> Result<()> {
        let names: Vec<&str> = heard.iter().map(|told| told.name.as_str()).collect();
        let expected: Vec<&str> = self.told.iter().map(|word| word.event.as_str()).collect();
        ensure!(names == expected, "to be heard: {expected:?}, heard: {heard:?}");
        self.told.iter().zip(heard).try_for_each(|(word, told)| compare(&word.says, &json!(told.args)))
    }
}

/// Anything that is there.
const ANY: &str = "…";

fn compare(says: &BTreeMap<String, Value>, value: &Value) -> Result<()> {
    for (pointer, expected) in says {
        let there = value.pointer(pointer).filter(|there| !there.is_null());
        let same = there.is_some_and(|there| expected == ANY || there == expected);
        ensure!(same, "{pointer} is {there:?}, not {expected}, in {value}");
    }
    Ok(())
}

impl<T> Fields<T> {
    fn each<U>(&self, mut of: impl FnMut(&T) -> Result<U>) -> Result<Fields<U>> {
        let mut of = |field: &Option<T>| field.as_ref().map(&mut of).transpose();
        Ok(Fields {
            body: of(&self.body)?,
            by: of(&self.by)?,
            author: of(&self.author)?,
            place: of(&self.place)?,
            message: of(&self.message)?,
            kind: of(&self.kind)?,
            title: of(&self.title)?,
            state: of(&self.state)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use anyhow::{Context, Result, ensure};
    use serde_json::json;

    use super::{Map, Seat};
    use crate::io::Told;

    #[test]
    fn every_word_that_is_heard_has_its_fields() -> Result<()> {
        let map = Map::load()?;
        let columns: BTreeSet<&str> = map.tongues.iter().map(|tongue| tongue.vocabulary.as_str()).collect();
        for row in &map.rows {
            let from = row.from.values();
            for (vocabulary, words) in
                [&row.hears, &row.doer, &row.own, &row.author, &row.aside].into_iter().chain(from).flatten()
            {
                ensure!(columns.contains(vocabulary.as_str()), "{}: {vocabulary}", row.name);
                for word in words {
                    let known = &map.words[vocabulary];
                    let special = format!("{} {word}", row.name);
                    ensure!(known.contains_key(word) || known.contains_key(&special), "{vocabulary}: {word}");
                }
            }
            let known = row.does.keys().chain(row.state.keys()).chain(row.from.keys());
            for vocabulary in known {
                ensure!(columns.contains(vocabulary.as_str()), "{}: {vocabulary}", row.name);
            }
        }
        Ok(())
    }

    #[test]
    fn answers_are_of_known_dialects_and_what_they_say_is_compared() -> Result<()> {
        let map = Map::load()?;
        let columns: BTreeSet<&str> = map.tongues.iter().map(|tongue| tongue.vocabulary.as_str()).collect();
        for answer in &map.answers {
            let strange = answer.says.keys().find(|vocabulary| !columns.contains(vocabulary.as_str()));
            ensure!(strange.is_none(), "{}: {strange:?}", answer.name);
        }
        let reply = map.reply("invalid", "famly")?.context("famly has no words")?;
        let right = json!({ "ok": false, "error": "VALIDATION_ERROR", "message": "m", "correlationId": "c" });
        reply.acked(&right)?;
        for (field, wrong) in [("error", json!("INTERNAL")), ("message", json!(null)), ("ok", json!(true))] {
            let mut answer = right.clone();
            answer[field] = wrong;
            assert!(reply.acked(&answer).is_err(), "{answer}");
        }
        let told = |args| [Told { name: "message:failed".to_owned(), args: vec![args] }];
        let reply = map.reply("invalid", "chatgenius")?.context("chatgenius has no words")?;
        assert!(reply.heard(&[]).is_err());
        assert!(reply.heard(&told(json!({ "error": "another", "status": "FAILED" }))).is_err());
        reply.heard(&told(json!({ "error": "content is required", "status": "FAILED" })))
    }

    #[test]
    fn exceptions_are_for_others_only_and_missing_fields_are_found() -> Result<()> {
        let map = Map::load()?;
        let online = map.row("online")?;
        assert_eq!(online.hears(Seat::Other, "sechat", "lingochat"), ["user:online"]);
        assert!(online.hears(Seat::Other, "famly", "lingochat").is_empty());
        assert!(online.hears(Seat::Doer, "sechat", "lingochat").is_empty());
        let told = Told { name: "typing:start".to_owned(), args: vec![json!({ "userId": "a" })] };
        assert!(map.read("chatgenius", "typing-start", &told).is_err(), "no channelId");
        assert!(map.read("famly", "typing-start", &told).is_err(), "no such word");
        Ok(())
    }
}
