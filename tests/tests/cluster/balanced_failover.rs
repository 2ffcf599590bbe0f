//! A node goes, behind a balancer without stickiness: clients connect again at most once, recover, and miss nothing;
//! those whose session is elsewhere are not even cut off when the node goes in good order.

use crate::balanced_support::{Client, Cluster, Talk, numbered};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use parlance_tests::stock::Report;
use parlance_tests::{Gateway, StockSocket, Transports};

/// Messages said while a node goes.
const COUNT: usize = 60;

/// A client and what it has heard.
struct Ear {
    client: Client,
    socket: StockSocket,
    heard: Vec<String>,
    /// Of each connect after the first: whether the session was recovered.
    returns: Vec<bool>,
    cuts: Vec<String>,
    /// The owner of its session before anything happened.
    owner: String,
}

impl Ear {
    async fn enter(cluster: &Cluster, client: Client) -> Result<Self> {
        cluster.room(&client.room, &[&client.user, "carol"]).await?;
        let socket = cluster.enter(&client).await?;
        let owner = cluster.owner(&client).with_context(|| format!("nobody owns {client:?}"))?;
        let (heard, returns, cuts) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { client, socket, heard, returns, cuts, owner })
    }

    /// Listens until a body is heard, connected: the library tells of what was missed first.
    async fn until(&mut self, last: &str) -> Result<()> {
        while !self.heard.iter().any(|body| body == last) || self.returns.len() < self.cuts.len() {
            let report = self.socket.next().await.with_context(|| self.told())?;
            match &report {
                Report::Connect(connected) => self.returns.push(connected.recovered),
                Report::Disconnect { reason } => self.cuts.push(reason.clone()),
                report => self.hear(report),
            }
        }
        Ok(())
    }

    fn hear(&mut self, report: &Report) {
        let Some(body) = self.client.talk.body(report) else { return };
        self.heard.push(body.to_owned());
    }

    fn told(&self) -> String {
        let Self { client, heard, returns, cuts, owner, .. } = self;
        format!("{client:?} of node {owner} heard {heard:?}, was cut off {cuts:?} and came back {returns:?}")
    }

    fn check(&self, expected: &[String]) -> Result<()> {
        ensure!(self.heard == expected, "{}", self.told());
        ensure!(self.cuts.len() <= 1 && self.returns.len() == self.cuts.len(), "{}", self.told());
        ensure!(self.returns.iter().all(|recovered| *recovered), "{}", self.told());
        Ok(())
    }
}

/// Two of each dialect and transport, one after the other: the nodes take turns.
async fn ears(cluster: &Cluster) -> Result<Vec<Ear>> {
    let mut ears = Vec::new();
    for talk in Talk::ALL.into_iter().chain(Talk::ALL) {
        for transports in [Transports::Polling, Transports::Upgrade] {
            let index = ears.len();
            let (user, room) = (format!("user{index:03}"), (8000 + index).to_string());
            ears.push(Ear::enter(cluster, Client { talk, transports, user, room }).await?);
        }
    }
    Ok(ears)
}

/// Says them in every room, the rooms at the same time.
async fn say(cluster: &Cluster, rooms: &[String], bodies: &[String]) -> Result<()> {
    for body in bodies {
        try_join_all(rooms.iter().map(|room| cluster.say(room, body))).await?;
    }
    Ok(())
}

/// How a node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    /// `kill -9`.
    Killed,
    /// SIGTERM.
    Told,
}

impl Going {
    async fn go(self, node: &mut Gateway) -> Result<()> {
        match self {
            Self::Killed => node.kill9(),
            Self::Told => {
                let status = node.sigterm().await?;
                ensure!(status.success(), "{status:?}; its log:\n{}", node.log());
                Ok(())
            }
        }
    }
}

/// The first node goes in the middle of what is said, after so many messages.
async fn goes(before: usize, how: Going) -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let mut first = cluster.nodes.remove(0);
    let mut ears = ears(&cluster).await?;
    let rooms: Vec<String> = ears.iter().map(|ear| ear.client.room.clone()).collect();
    let all = numbered("m", COUNT);
    let (early, late) = all.split_at(before);
    let (late, end) = late.split_at(late.len() - 1);
    say(&cluster, &rooms, early).await?;
    if let Some(last) = early.last() {
        try_join_all(ears.iter_mut().map(|ear| ear.until(last))).await?;
    }
    tokio::try_join!(how.go(&mut first), say(&cluster, &rooms, late))?;
    // Whoever was cut off is back when it hears this.
    say(&cluster, &rooms, end).await?;
    try_join_all(ears.iter_mut().map(|ear| ear.until(&end[0]))).await?;
    for ear in &ears {
        ear.check(&all).with_context(|| cluster.trouble(&ear.client))?;
        let elsewhere = ear.owner != first.address() && ear.client.transports == Transports::Polling;
        if how == Going::Told && elsewhere {
            ensure!(ear.cuts.is_empty(), "cut off from another node: {}", ear.told());
        }
    }
    let cut = ears.iter().filter(|ear| !ear.cuts.is_empty()).count();
    ensure!(cut > 0 && ears.iter().any(|ear| ear.owner == first.address()), "nobody was at the node");
    Ok(())
}

#[tokio::test]
async fn a_killed_node_costs_its_clients_one_reconnect_and_nothing_else() -> Result<()> {
    goes(20, Going::Killed).await
}

#[tokio::test]
async fn clients_of_a_killed_node_that_had_heard_nothing_miss_nothing() -> Result<()> {
    goes(0, Going::Killed).await
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_sends_only_its_own_clients_away() -> Result<()> {
    goes(20, Going::Told).await
}

#[tokio::test]
async fn clients_of_a_node_told_to_stop_that_had_heard_nothing_miss_nothing() -> Result<()> {
    goes(0, Going::Told).await
}
