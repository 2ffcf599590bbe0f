//! Which server is the primary, as the Sentinels say and the server confirms.
//!
//! A primary that was killed and started again holds itself for the primary, until it is told of its successor. So
//! what the server says of itself is never enough, and while Sentinels hold the primary for dead, or replace it, there
//! is none.

use std::io;

use futures_util::future::join_all;

use super::probe::{Probe, field};
use super::{Address, Dialer, Layout};
use crate::link::{Reply, at};

/// Asks Sentinels.
pub struct Eye {
    dialer: Dialer,
    service: String,
    server: Address,
    /// The connections are kept open.
    sentinels: Vec<(Address, Option<Probe>)>,
    /// The same to the server that was confirmed last.
    primary: Option<(Address, Probe)>,
    /// The latest failover that was told of: who tells of an earlier one is not believed.
    epoch: u64,
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
        let sentinels = sentinels.into_iter().map(|address| (address, None)).collect();
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

    /// What the Sentinels say that answer; at least one does.
    async fn accounts(&mut self) -> Result<Vec<Account>, String> {
        let (dialer, service) = (&self.dialer, self.service.as_str());
        let asked = self.sentinels.iter_mut().map(async |(address, probe)| {
            let account = ask(dialer, service, address, probe).await;
            account.map_err(|error| format!("{address}: {error}"))
        });
        let (mut accounts, mut errors) = (Vec::new(), Vec::new());
        for account in join_all(asked).await {
            match account {
                Ok(account) => accounts.push(account),
                Err(error) => errors.push(error),
            }
        }
        if accounts.is_empty() {
            return Err(format!("no Sentinel names the primary of {service} ({})", errors.join("; ")));
        }
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

async fn ask(
    dialer: &Dialer,
    service: &str,
    address: &Address,
    kept: &mut Option<Probe>,
) -> io::Result<Account> {
    let mut probe = match kept.take() {
        Some(probe) => probe,
        None => Probe::open(dialer, address).await?,
    };
    let answer = probe.ask("SENTINEL", &["MASTER", service]).await?;
    *kept = Some(probe);
    account(&answer).ok_or_else(|| io::Error::other("its answer is not understood"))
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
}
