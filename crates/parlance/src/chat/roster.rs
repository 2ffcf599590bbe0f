//! Who is there and who is typing, as far as we were told. Pure.

use std::collections::{BTreeMap, BTreeSet};

use parlance_client::Status;

use super::styled::{Hue, Line, clean, span};

/// Statuses and typists other than ourselves.
#[derive(Debug, Default)]
pub struct Roster {
    statuses: BTreeMap<String, Status>,
    typing: BTreeSet<String>,
}

impl Roster {
    /// Somebody came, went or changed.
    pub fn presence(&mut self, user: &str, status: Status) {
        if !status.is_online() {
            self.typing.remove(user);
        }
        self.statuses.insert(user.to_owned(), status);
    }

    /// Somebody did something: who does is there, unless we were told how they are.
    pub fn heard_from(&mut self, user: &str) {
        if !self.statuses.contains_key(user) {
            self.statuses.insert(user.to_owned(), Status::Online);
        }
    }

    /// Somebody started or stopped typing. The gateway tells every stop, also that of who vanished.
    pub fn typing(&mut self, user: &str, on: bool) {
        if on {
            self.heard_from(user);
            self.typing.insert(user.to_owned());
        } else {
            self.typing.remove(user);
        }
    }

    /// The connection is gone: we know nothing any more.
    pub fn forget(&mut self) {
        self.statuses.clear();
        self.typing.clear();
    }

    /// Everybody heard of, and how they are.
    pub fn everybody(&self) -> impl Iterator<Item = (&str, Status)> {
        self.statuses.iter().map(|(user, status)| (user.as_str(), *status))
    }

    /// The status line.
    pub fn line(&self) -> Line {
        let there = self.everybody().filter(|(_, status)| status.is_online());
        let names: Vec<String> = there
            .map(|(user, status)| match status {
                Status::Online => clean(user, false),
                other => format!("{} ({})", clean(user, false), other.as_str()),
            })
            .collect();
        let mut line = match names.is_empty() {
            true => vec![span(" nobody else seen online", Hue::Bar)],
            false => vec![span(format!(" online: {}", names.join(", ")), Hue::Bar)],
        };
        let typists: Vec<String> = self.typing.iter().map(|user| clean(user, false)).collect();
        let said = match typists.as_slice() {
            [] => return line,
            [one] => format!(" · {one} is typing…"),
            [one, other] => format!(" · {one} and {other} are typing…"),
            many => format!(" · {} people are typing…", many.len()),
        };
        line.push(span(said, Hue::Bar));
        line
    }
}
