//! Going through all conversations: there is no list of them, so each primary is asked for its keys, some at a time.
//!
//! A walk tells of everything only if no key went from a server that is still to be asked to one that was asked already. So it
//! begins anew where servers or their slots are others at the end of a round than they were at its beginning; and while a slot is
//! on its way there are two rounds: whichever way its keys go, that is once in the right order. Must not know: who walks.

use parlance_backplane::{Fault, Listed};
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::Node;
use crate::keys::{PARTITIONS, slot};
use crate::link::{LinkFault, RedisLink, Reply, at};
use crate::topology::Address;

/// Where a walk is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    round: u8,
    /// What the servers looked like when the round began.
    print: u64,
    server: String,
    cursor: String,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (round, print) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (server, cursor) = (words.next()?.to_owned(), words.next()?.to_owned());
        let is_cursor = cursor.bytes().all(|byte| byte.is_ascii_digit()) && !cursor.is_empty();
        (is_cursor && words.next().is_none()).then_some(Self { round, print, server, cursor })
    }

    fn written(&self) -> String {
        format!("{} {} {} {}", self.round, self.print, self.server, self.cursor)
    }
}

/// What the servers look like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looks {
    print: u64,
    /// A slot is on its way from one to another, or may be.
    moves: bool,
}

/// What a server says of itself in `CLUSTER NODES`: its epoch and its slots, and those that are on their way.
fn own_slots(told: &str) -> Option<&str> {
    let line =
        told.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")))?;
    let mut from = 0;
    // Before that: its id, address, flags, primary, and two times that change.
    for _ in 0..6 {
        from += line.get(from..)?.find(' ')? + 1;
    }
    line.get(from..)
}

impl Node {
    /// See [`parlance_backplane::Conversations::listed`].
    pub async fn walk(&self, from: Option<&str>, most: usize) -> Result<Listed, Fault> {
        let slots = || (0..PARTITIONS).map(|partition| slot(&self.keys.deadlines(partition)));
        let servers = self.link.owners(slots())?;
        let place = match from.and_then(Place::read) {
            Some(place) => place,
            None => self.begin(servers.iter()).await?,
        };
        let Some(server) = servers.iter().find(|server| server.to_string() == place.server) else {
            return Ok(Listed { ids: Vec::new(), next: Some(self.begin(servers.iter()).await?.written()) });
        };
        let (pattern, count) = (self.keys.all_states(), most.max(1).to_string());
        let words = [&place.cursor, "MATCH", &pattern, "COUNT", &count].map(str::as_bytes);
        let answer = self.link.to(server)?.plain("SCAN", &words).await?.list()?;
        let found = at(&answer, 1).clone().list()?;
        let mut ids = Vec::with_capacity(found.len());
        for key in &found {
            ids.extend(self.keys.conversation_of(key.text()?));
        }
        let next = match at(&answer, 0).text()? {
            "0" => match servers.range(server.clone()..).nth(1) {
                Some(later) => Some(Place { server: later.to_string(), cursor: "0".to_owned(), ..place }),
                None => self.round(&place, servers.iter()).await?,
            },
            cursor => Some(Place { cursor: cursor.to_owned(), ..place }),
        };
        Ok(Listed { ids, next: next.map(|place| place.written()) })
    }

    async fn begin(&self, mut servers: impl Iterator<Item = &Address> + Clone) -> Result<Place, Fault> {
        let print = self.looks(servers.clone()).await?.print;
        let first = servers.next().map(ToString::to_string).unwrap_or_default();
        Ok(Place { round: 0, print, server: first, cursor: "0".to_owned() })
    }

    /// A round has ended: where the next one begins, if there is to be one.
    async fn round(
        &self,
        place: &Place,
        mut servers: impl Iterator<Item = &Address> + Clone,
    ) -> Result<Option<Place>, Fault> {
        let looks = self.looks(servers.clone()).await?;
        let round = match (looks.print == place.print, looks.moves && place.round == 0) {
            (true, false) => return Ok(None),
            (true, true) => 1,
            (false, _) => 0,
        };
        let first = servers.next().map(ToString::to_string).unwrap_or_default();
        Ok(Some(Place { round, print: looks.print, server: first, cursor: "0".to_owned() }))
    }

    async fn looks(&self, servers: impl Iterator<Item = &Address>) -> Result<Looks, Fault> {
        let (mut all, mut moves) = (String::new(), false);
        for server in servers {
            let link = self.link.to(server)?;
            let told = link.info("server").await?;
            // What one process says of its cursors means nothing to the next one.
            let process =
                told.lines().find(|line| line.starts_with("run_id:")).unwrap_or_default().trim_end();
            let slots = slots(&*link).await?;
            // What it does not say may well be so.
            moves |= slots.as_ref().map_or(!is_alone(&told), |slots| slots.contains('['));
            let slots = slots.unwrap_or_default();
            all.extend([server.to_string().as_str(), " ", process, " ", &slots, "\n"]);
        }
        Ok(Looks { print: xxh3_64(all.as_bytes()), moves })
    }
}

/// Whether a server says of itself that it is no part of a cluster, so that nothing moves.
fn is_alone(told: &str) -> bool {
    let mut modes = told.lines().filter_map(|line| line.trim_end().split_once("_mode:"));
    modes.any(|(whose, mode)| matches!(whose, "redis" | "server") && mode == "standalone")
}

/// A server's own slots; `None`: it is no cluster, or may not say so.
async fn slots(link: &dyn RedisLink) -> Result<Option<String>, Fault> {
    match link.plain("CLUSTER", &[b"NODES"]).await {
        Ok(told @ Reply::Bytes(_)) => Ok(own_slots(told.text()?).map(str::to_owned)),
        Ok(_) | Err(LinkFault::Failed(_) | LinkFault::Forbidden(_)) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place =
            Place { round: 1, print: u64::MAX, server: "[::1]:7000".to_owned(), cursor: "17".to_owned() };
        assert_eq!(Place::read(&place.written()), Some(place));
        for bad in ["", "c", "0 1 a:1", "0 1 a:1 x", "0 1 a:1 ", "0 1 a:1 1 1", "300 1 a:1 0"] {
            assert_eq!(Place::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_moves_where_a_server_is_alone() {
        assert!(is_alone("redis_version:7.4.0\r\nredis_mode:standalone\r\nos:Linux\r\n"));
        assert!(is_alone("server_mode:standalone\r\n"));
        for other in ["redis_mode:cluster\r\n", "multiplexing_mode:standalone\r\n", ""] {
            assert!(!is_alone(other), "{other}");
        }
    }

    #[test]
    fn slots_on_their_way_are_seen() {
        let told = "ab 127.0.0.1:1@2 master - 0 17 3 connected 0-100\n\
            cd 127.0.0.1:3@4 myself,master - 0 1426238316232 7 connected 101-200 300 [93->-ab]\n";
        assert_eq!(own_slots(told), Some("7 connected 101-200 300 [93->-ab]"));
        assert_eq!(own_slots("nothing of the kind"), None);
    }
}
