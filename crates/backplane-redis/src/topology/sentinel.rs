//! Which server is the primary, as the Sentinels say and the server confirms.
//!
//! A primary that was killed and started again holds itself for the primary, until it is told of its successor. So
//! what the server says of itself is never enough, and while Sentinels hold the primary for dead, or replace it, there
//! is none. Only one Sentinel knows that a failover is under way: what it said last counts on while it is silent.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;

use super::probe::{Probe, field};
use super::{Address, Dialer, Layout};
use crate::link::{Reply, at};
use tokio::time::Instant;

/// A Sentinel that is silent in the middle of a failover is taken at its last word for so long. If it died, the others
/// give a server that it promoted back to the primary they know after 8 s.
const SILENCE: Duration = Duration::from_secs(10);

/// Asks Sentinels.
pub struct Eye {
    dialer: Dialer,
    service: String,
    server: Address,
    sentinels: Vec<Witness>,
    /// The same to the server that was confirmed last.
    primary: Option<(Address, Probe)>,
    /// The latest failover that was told of: who tells of an earlier one is not believed.
    epoch: u64,
}

/// One Sentinel.
struct Witness {
    address: Address,
    /// Kept open.
    probe: Option<Probe>,
    /// What it said last, and when.
    said: Option<(Account, Instant)>,
}

/// What one Sentinel says: the primary, as of which failover, and how it is.
#[derive(Clone)]
struct Account {
    epoch: u64,
    host: String,
    port: u16,
    state: State,
}

/// How a primary is, as one Sentinel sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    /// It does not answer this Sentinel.
    Doubtful,
    /// Enough Sentinels hold it for dead, or it is being replaced.
    Ending,
}

impl Eye {
    /// One that asks about a service; `server` has the login of the servers.
    pub fn new(dialer: Dialer, sentinels: Vec<Address>, service: String, server: Address) -> Self {
        let witness = |address| Witness { address, probe: None, said: None };
        let sentinels = sentinels.into_iter().map(witness).collect();
        Self { dialer, service, server, sentinels, primary: None, epoch: 0 }
    }

    /// Looks. There is no primary while it is being replaced, or is none by its own word.
    ///
    /// # Errors
    /// What the Sentinels or the server said instead, in one line.
    pub async fn look(&mut self) -> Result<Layout, String> {
        let accounts = self.accounts().await?;
        let Some(named) = verdict(&accounts) else { return Ok(Layout::new([])) };
        // Unless most say so: they may have been set up anew.
        if named.epoch < self.epoch && accounts.len() * 2 <= self.sentinels.len() {
            return Err(format!("the Sentinels that answer know of no failover after {}", named.epoch));
        }
        self.epoch = named.epoch;
        let address = self.server.beside(&named.host, named.port);
        let primary = format!("the primary that Sentinel names, {address}");
        match self.role(&address).await {
            Ok(role) if role == "master" => Ok(Layout::standalone(address)),
            Ok(_) => Ok(Layout::new([])),
            Err(error) => Err(format!("{primary}: {error}")),
        }
    }

    /// What the Sentinels say that answer, at least one does; and of those that do not, who was replacing the primary.
    async fn accounts(&mut self) -> Result<Vec<Account>, String> {
        let (dialer, service) = (&self.dialer, self.service.as_str());
        let asked = self.sentinels.iter_mut().map(|witness| witness.ask(dialer, service));
        let (mut accounts, mut errors) = (Vec::new(), Vec::new());
        for (witness, account) in join_all(asked).await.into_iter().enumerate() {
            match account {
                Ok(account) => accounts.push(account),
                Err(error) => errors.push((witness, error)),
            }
        }
        if accounts.is_empty() {
            let errors: Vec<String> = errors.into_iter().map(|(_, error)| error).collect();
            return Err(format!("no Sentinel names the primary of {service} ({})", errors.join("; ")));
        }
        let now = Instant::now();
        let silent = errors.iter().filter_map(|(witness, _)| self.sentinels.get(*witness));
        accounts.extend(silent.filter_map(|witness| last_word(witness.said.as_ref(), now)));
        Ok(accounts)
    }

    async fn role(&mut self, address: &Address) -> io::Result<String> {
        let kept = self.primary.take().filter(|(known, _)| known == address);
        let mut probe = match kept {
            Some((_, probe)) => probe,
            None => Probe::open(&self.dialer, address).await?,
        };
        let Reply::List(role) = probe.ask("ROLE", &[]).await? else {
            return Err(io::Error::other("it does not say its role"));
        };
        self.primary = Some((address.clone(), probe));
        Ok(at(&role, 0).text().unwrap_or_default().to_owned())
    }
}

/// The primary. A Sentinel that was cut off tells of the past: those who know of the latest failover are believed,
/// and of them most; but one is enough to say that the primary is being replaced, as one does that.
fn verdict(accounts: &[Account]) -> Option<&Account> {
    let epoch = accounts.iter().map(|account| account.epoch).max()?;
    let latest: Vec<&Account> = accounts.iter().filter(|account| account.epoch == epoch).collect();
    let doubtful = latest.iter().filter(|account| account.state != State::Well).count();
    let ending = latest.iter().any(|account| account.state == State::Ending);
    let named = |of: &Account| latest.iter().filter(|it| (&it.host, it.port) == (&of.host, of.port)).count();
    let best = latest.iter().copied().max_by_key(|account| named(account))?;
    (!ending && doubtful * 2 <= latest.len()).then_some(best)
}

impl Witness {
    /// What it says now.
    async fn ask(&mut self, dialer: &Dialer, service: &str) -> Result<Account, String> {
        let said =
            self.answer(dialer, service).await.map_err(|error| format!("{}: {error}", self.address))?;
        self.said = Some((said.clone(), Instant::now()));
        Ok(said)
    }

    async fn answer(&mut self, dialer: &Dialer, service: &str) -> io::Result<Account> {
        let mut probe = match self.probe.take() {
            Some(probe) => probe,
            None => Probe::open(dialer, &self.address).await?,
        };
        let answer = probe.ask("SENTINEL", &["MASTER", service]).await?;
        self.probe = Some(probe);
        account(&answer).ok_or_else(|| io::Error::other("its answer is not understood"))
    }
}

/// What still counts of what a Sentinel said that is silent now: that it ends the primary. The others only learn of it
/// when all is done, and take the old primary for well when it comes back meanwhile.
fn last_word(said: Option<&(Account, Instant)>, now: Instant) -> Option<Account> {
    let (account, at) = said?;
    let counts = account.state == State::Ending && now.duration_since(*at) < SILENCE;
    counts.then(|| account.clone())
}

fn account(answer: &Reply) -> Option<Account> {
    let Reply::List(list) = answer else { return None };
    Some(Account {
        epoch: field(list, "config-epoch")?.parse().ok()?,
        host: field(list, "ip")?.to_owned(),
        port: field(list, "port")?.parse().ok()?,
        state: state(field(list, "flags")?),
    })
}

fn state(flags: &str) -> State {
    let has = |flag| flags.split(',').any(|it| it == flag);
    if has("o_down") || has("failover_in_progress") {
        State::Ending
    } else if has("s_down") {
        State::Doubtful
    } else {
        State::Well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(all: &[(u64, u16, &str)]) -> Option<u16> {
        let account = |(epoch, port, flags): &(u64, u16, &str)| Account {
            epoch: *epoch,
            host: "h".to_owned(),
            port: *port,
            state: state(flags),
        };
        let accounts: Vec<Account> = all.iter().map(account).collect();
        verdict(&accounts).map(|account| account.port)
    }

    #[test]
    fn the_latest_failover_counts_and_nobody_is_primary_while_one_is_under_way() {
        let well = "master";
        assert_eq!(said(&[(0, 1, well), (0, 1, well), (0, 1, well)]), Some(1));
        assert_eq!(said(&[(1, 1, well), (2, 2, well), (1, 1, well)]), Some(2));
        assert_eq!(said(&[(1, 1, "s_down,o_down,master"), (2, 2, well)]), Some(2), "that one is of the past");
        assert_eq!(said(&[(0, 1, well), (0, 1, "master,failover_in_progress"), (0, 1, well)]), None);
        assert_eq!(said(&[(0, 1, well), (0, 1, "s_down,o_down,master"), (0, 1, well)]), None);
        assert_eq!(
            said(&[(0, 1, well), (0, 1, "s_down,master"), (0, 1, well)]),
            Some(1),
            "cut off by itself"
        );
        assert_eq!(said(&[(0, 1, well), (0, 1, "s_down,master"), (0, 1, "s_down,master")]), None);
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn who_falls_silent_while_it_replaces_the_primary_is_taken_at_its_word_for_a_while() {
        let account = |flags| Account { epoch: 1, host: "h".to_owned(), port: 1, state: state(flags) };
        let now = Instant::now();
        let counts = |flags, ago| {
            let said = Some((account(flags), now));
            last_word(said.as_ref(), now + Duration::from_secs(ago)).is_some()
        };
        assert!(counts("master,failover_in_progress", 9));
        assert!(!counts("master,failover_in_progress", 10), "it died, and the others decide");
        assert!(!counts("master", 1), "who said that all is well has no say any more");
        assert!(!counts("s_down,master", 1));
        assert!(last_word(None, now).is_none());
    }
}
