//! Load for the dashboards: every dialect and transport by the load generator, and people who do what it does not.
//!
//! Must not know: any metric.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::{API_KEY, Balancer, Gateway, IoClient, SECRET, Ws, built_bench, token};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Scenario and flags of each process; `@` is where the nodes are, `%` a balancer before them.
const PROCESSES: [&str; 6] = [
    "rooms --dialect sechat --nodes @",
    "rooms --dialect lingochat --nodes @",
    "rooms --dialect chatgenius --nodes @",
    "rooms --dialect socialhub --nodes @",
    "polling --dialect famly --transport polling --nodes %",
    "polling --dialect socialhub --transport polling --nodes @",
];
const FLAGS: &str = "--rooms 2 --members 3 --rate 4 --warmup 0.2 --seconds 300 --quiet";

/// What runs until it is dropped.
pub struct Load {
    processes: Vec<(&'static str, Child)>,
    people: JoinSet<Result<()>>,
    _balancer: Balancer,
}

impl Load {
    /// Starts it on two nodes without rate limits.
    pub async fn start(a: &Gateway, b: &Gateway) -> Result<Self> {
        let balancer = Balancer::start([a.address(), b.address()]).await?;
        let program = built_bench()?;
        let nodes = format!("ws://{},ws://{}", a.address(), b.address());
        let mut processes = Vec::new();
        for words in PROCESSES {
            let mut command = Command::new(&program);
            command.args(words.split(' ').map(|word| match word {
                "@" => nodes.clone(),
                "%" => format!("ws://{}", balancer.address()),
                word => word.to_owned(),
            }));
            command.args(FLAGS.split(' ')).args(["--secret", SECRET, "--api-key", API_KEY, "--api"]);
            command.arg(format!("http://{}", a.internal_address()));
            command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).kill_on_drop(true);
            processes.push((words, command.spawn().context("the load generator")?));
        }
        a.conversation("people", &["ann", "ben", "cai", "dan"]).await?;
        let urls = [a, b].map(|node| node.url("/socket.io/"));
        let mut people = JoinSet::new();
        people.spawn(forgets_that_he_types(urls[0].clone()));
        people.spawn(comes_and_goes(urls));
        Ok(Self { processes, people, _balancer: balancer })
    }

    /// Makes sure that all of it still runs.
    pub async fn went_well(mut self) -> Result<()> {
        for (words, process) in &mut self.processes {
            let ended = process.try_wait()?;
            ensure!(ended.is_none(), "{words}: {ended:?}");
        }
        match self.people.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?.context("people"),
        }
    }
}

async fn famly(url: &str, auth: &Value) -> Result<IoClient> {
    let mut io = IoClient::connect(url, auth).await?;
    io.ask("room:join", &[json!({ "chatId": "people" })]).await?;
    Ok(io)
}

/// A node must end it, after a second as these are set; Dan hears that it does.
async fn forgets_that_he_types(url: String) -> Result<()> {
    let mut cai = famly(&url, &json!({ "token": token("cai")? })).await?;
    let mut dan = famly(&url, &json!({ "token": token("dan")? })).await?;
    loop {
        cai.emit("typing:start", &[json!({ "chatId": "people" })]).await?;
        while dan.expect("typing:update").await?.args[0]["state"] != "stop" {}
    }
}

/// Ann writes; Ben's connection is cut again and again, and he goes on at the other node.
async fn comes_and_goes(urls: [String; 2]) -> Result<()> {
    let mut ann = famly(&urls[0], &json!({ "token": token("ann")? })).await?;
    let mut auth = json!({ "token": token("ben")? });
    for turn in 0_usize.. {
        let mut ben = famly(&urls[turn % 2], &auth).await?;
        let body = format!("hello {turn}");
        let message = json!({ "chatId": "people", "body": body, "clientId": body });
        let answer = ann.ask("message:send", &[message]).await?;
        ensure!(answer[0]["ok"] == true, "{answer:?}");
        let told = ben.expect("message:new").await?;
        let offset = told.args.last().and_then(Value::as_str).context("no offset")?;
        auth = json!({ "token": token("ben")?, "pid": ben.joined["pid"], "offset": offset });
        drop(ben);
        // People take a moment; nothing is waited for.
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// What goes wrong at a node as it is shipped: a token that proves nothing, somebody who sends too often, somebody who does not read.
pub async fn trouble(node: &Gateway) -> Result<()> {
    let refused = Ws::refused(&node.url("/sechat?token=nonsense")).await?;
    ensure!(refused.status == 401, "{refused:?}");
    node.conversation("loud", &["eve", "slow"]).await?;
    let mut eve = IoClient::connect(&node.url("/socket.io/"), &json!({ "token": token("eve")? })).await?;
    eve.ask("room:join", &[json!({ "chatId": "loud" })]).await?;
    let mut refusals = 0;
    for n in 0..30 {
        let text = format!("again {n}");
        let message = json!({ "chatId": "loud", "body": text, "clientId": text });
        refusals += usize::from(eve.ask("message:send", &[message]).await?[0]["ok"] != true);
    }
    ensure!(refusals > 0, "thirty messages at once are too many");
    drop(eve);
    does_not_read(node).await
}

/// Until the node cuts it off. The server API has no rate.
async fn does_not_read(node: &Gateway) -> Result<()> {
    let mut slow = node.connect("/sechat", "slow").await?;
    let body = "x".repeat(8_000);
    let sent = async {
        for n in 0.. {
            let message = json!({ "senderId": "eve", "body": format!("{n} {body}") });
            node.call("POST", "/api/v1/conversations/loud/messages", Some(&message)).await?;
            if n % 50 == 49 && slow_consumers(node).await? {
                break;
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(Duration::from_secs(40), sent).await.context("somebody who does not read is never cut off")??;
    slow.closed().await.map(drop)
}

async fn slow_consumers(node: &Gateway) -> Result<bool> {
    let metrics = parlance_tests::metrics::total(node, "parlance_slow_consumers_total").await?;
    Ok(metrics > 0.0)
}
