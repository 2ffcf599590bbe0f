//! Which server is the primary, as the Sentinels say and the server confirms.

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
}

/// What one Sentinel says: the primary, and as of which failover.
struct Account {
    epoch: u64,
    host: String,
    port: u16,
}

impl Eye {
    /// One that asks about a service; `server` has the login of the servers.
    pub fn new(dialer: Dialer, sentinels: Vec<Address>, service: String, server: Address) -> Self {
        let sentinels = sentinels.into_iter().map(|address| (address, None)).collect();
        Self { dialer, service, server, sentinels }
    }

    /// Looks. A Sentinel that was cut off tells of the past: whoever knows of the latest failover is believed.
    ///
    /// # Errors
    /// What the Sentinels or the server said instead, in one line.
    pub async fn look(&mut self) -> Result<Layout, String> {
        let (dialer, service) = (&self.dialer, self.service.as_str());
        let asked = self.sentinels.iter_mut().map(async |(address, probe)| {
            let account = ask(dialer, service, address, probe).await;
            account.map_err(|error| format!("{address}: {error}"))
        });
        let (mut best, mut errors) = (None::<Account>, Vec::new());
        for account in join_all(asked).await {
            match account {
                Ok(account) if best.as_ref().is_none_or(|best| account.epoch > best.epoch) => {
                    best = Some(account)
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        let Some(best) = best else {
            return Err(format!("no Sentinel names the primary of {service} ({})", errors.join("; ")));
        };
        let address = self.server.beside(&best.host, best.port);
        match role(&self.dialer, &address).await {
            Ok(role) if role == "master" => Ok(Layout::standalone(address)),
            Ok(role) => Err(format!("the primary that Sentinel names, {address}, says it is a {role}")),
            Err(error) => Err(format!("the primary that Sentinel names, {address}: {error}")),
        }
    }
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
    })
}

async fn role(dialer: &Dialer, address: &Address) -> io::Result<String> {
    let mut probe = Probe::open(dialer, address).await?;
    match probe.ask("ROLE", &[]).await? {
        Reply::List(role) => Ok(at(&role, 0).text().unwrap_or_default().to_owned()),
        _ => Err(io::Error::other("it does not say its role")),
    }
}
