//! What only the connection itself is told: refusals, keepalives, and that its node goes away.

use anyhow::{Context, Result, ensure};
use parlance_tests::io::Told;
use parlance_tests::tongue::{Action, Reply, Tongue, auth};
use parlance_tests::{Device, Gateway, Map, Options, PATIENCE, Ws};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::nodes::Nodes;
use super::stage::{MOUNTS, PLACE};

/// How the operator announces maintenance.
const NOTICE: &str = r#"{"enabled":true,"message":"back at noon","retryAfter":30}"#;
/// No word is enough of one.
static SILENCE: Reply = Reply::SILENCE;

/// A device of every tongue in one room.
async fn cast(nodes: &Nodes, map: &Map) -> Result<Vec<Device>> {
    let users: Vec<String> = map.tongues.iter().map(|tongue| tongue.name.clone()).collect();
    nodes.first().conversation(PLACE, &users).await?;
    let mut devices = Vec::new();
    for (index, tongue) in map.tongues.iter().enumerate() {
        let mut device = Device::connect(nodes.of(index), tongue, &tongue.name).await?;
        device.enter(PLACE).await?;
        devices.push(device);
    }
    heard(&mut devices).await?;
    Ok(devices)
}

/// What each has heard, beside who comes and goes.
async fn heard(devices: &mut [Device]) -> Result<Vec<Vec<Told>>> {
    let mut all = Vec::new();
    for device in devices {
        let mut told = device.until_now(PLACE).await?;
        told.retain(|told| !told.name.starts_with("presence"));
        all.push(told);
    }
    Ok(all)
}

fn reply<'a>(map: &'a Map, name: &str, tongue: &Tongue) -> Result<&'a Reply> {
    Ok(map.reply(name, &tongue.vocabulary)?.unwrap_or(&SILENCE))
}

/// Everybody sends; each hears what the table says, and the others nothing.
async fn refused(devices: &mut [Device], map: &Map, name: &str, action: Action<'_>) -> Result<()> {
    let row = map.row("body")?;
    for doer in 0..devices.len() {
        let device = &mut devices[doer];
        let (tongue, word) = (device.tongue.clone(), row.does(device.vocabulary()).context("cannot send")?);
        let answer = device.attempt(action, PLACE, Some(word)).await?;
        let reply = reply(map, name, &tongue)?;
        acked(reply, &tongue, &answer).with_context(|| format!("{name} at {}", tongue.name))?;
        for (index, heard) in heard(devices).await?.iter().enumerate() {
            let expected = if index == doer { reply } else { &SILENCE };
            let at = || format!("{name} by {} at {}", tongue.name, devices[index].tongue.name);
            expected.heard(heard).with_context(at)?;
        }
    }
    Ok(())
}

/// Raw sechat has no acknowledgements.
fn acked(reply: &Reply, tongue: &Tongue, answer: &Value) -> Result<()> {
    if tongue.socketio || tongue.vocabulary != "sechat" { reply.acked(answer) } else { Ok(()) }
}

#[tokio::test]
async fn a_refused_message_is_told_to_its_sender_in_the_dialects_words() -> Result<()> {
    refusals(1).await
}

#[tokio::test]
async fn on_two_nodes_a_refused_message_is_told_to_its_sender_in_the_dialects_words() -> Result<()> {
    refusals(2).await
}

async fn refusals(nodes: usize) -> Result<()> {
    let map = Map::load()?;
    let nodes = Nodes::start(nodes, MOUNTS).await?;
    let mut devices = cast(&nodes, &map).await?;
    refused(&mut devices, &map, "invalid", Action::Textless { id: "own-id" }).await?;

    let notice: Value = serde_json::from_str(NOTICE)?;
    let (status, answer) = nodes.first().api("PUT", "/api/v1/maintenance", Some(&notice)).await?;
    ensure!(status == 200, "{status} {answer}");
    for device in &mut devices {
        let reply = reply(&map, "maintenance", &device.tongue)?;
        let mut told = Vec::new();
        // It reaches the node over the bus; who has a word for it waits for that.
        while told.len() < reply.told.len() {
            told.push(device.next().await?);
        }
        told.extend(device.until_now(PLACE).await?);
        reply.heard(&told).with_context(|| device.tongue.name.clone())?;
    }
    refused(&mut devices, &map, "unavailable", Action::Send { body: "hello", id: "own-id" }).await
}

#[tokio::test]
async fn a_keepalive_is_answered_as_the_dialect_has_it() -> Result<()> {
    let map = Map::load()?;
    let often = MOUNTS
        .replace("ping_interval_ms = 25000\n", "")
        .replace("framing = \"socketio\"\n", "framing = \"socketio\"\nping_interval_ms = 300\n");
    let gateway = Gateway::start(Options::default().config(&often)).await?;
    for tongue in &map.tongues {
        let reply = map.reply("keepalive", &tongue.vocabulary)?.context("no keepalive")?;
        let word = reply.does.as_deref().context("no word for it")?;
        if word.starts_with('(') {
            engine_pings(&gateway, tongue).await.with_context(|| tongue.name.clone())?;
            continue;
        }
        let mut device = Device::connect(&gateway, tongue, &tongue.name).await?;
        heard(std::slice::from_mut(&mut device)).await?;
        let answer = device.say(word, &[json!({})]).await?;
        let told = heard(std::slice::from_mut(&mut device)).await?.concat();
        acked(reply, tongue, &answer).and_then(|()| reply.heard(&told)).context(tongue.name.clone())?;
    }
    Ok(())
}

/// The server asks, and goes on asking who answers.
async fn engine_pings(gateway: &Gateway, tongue: &Tongue) -> Result<()> {
    let mut line = open(gateway, tongue).await?;
    for _ in 0..3 {
        while line.line().await? != "2" {}
        line.send_message("3".into()).await?;
    }
    Ok(())
}

/// A connection whose frames are seen as they are, connected.
async fn open(gateway: &Gateway, tongue: &Tongue) -> Result<Ws> {
    if !tongue.socketio {
        return gateway.connect(&tongue.mount, &tongue.name).await;
    }
    let mut line = Ws::connect(&gateway.url(&format!("{}?EIO=4&transport=websocket", tongue.mount))).await?;
    line.line().await?;
    line.send_message(format!("40{}", auth(tongue, &tongue.name)?).into()).await?;
    while !line.line().await?.starts_with("40") {}
    Ok(line)
}

#[tokio::test]
async fn whoever_is_connected_to_a_node_that_stops_may_come_back() -> Result<()> {
    stops(1).await
}

#[tokio::test]
async fn of_two_nodes_one_stops_and_the_others_clients_stay() -> Result<()> {
    stops(2).await
}

/// The first of so many nodes stops. Everybody is connected to it, and to every other.
async fn stops(nodes: usize) -> Result<()> {
    let map = Map::load()?;
    let mut nodes = Nodes::start(nodes, MOUNTS).await?;
    let users: Vec<String> = map.tongues.iter().map(|tongue| tongue.name.clone()).collect();
    nodes.first().conversation(PLACE, &users).await?;
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    for tongue in &map.tongues {
        lines.push((tongue, open(nodes.first(), tongue).await?));
        for other in &nodes.all()[1..] {
            others.push(Device::connect(other, tongue, &tongue.name).await?);
        }
    }
    // Everybody is let in: whoever comes meanwhile is told something else.
    for tongue in &map.tongues {
        let path = format!("/api/v1/users/{}/presence", tongue.name);
        let there = nodes.first().api("GET", &path, None).await?.1;
        ensure!(there["devices"] == nodes.all().len(), "{} is not there: {there}", tongue.name);
    }
    // What they are told as they come.
    heard(&mut others).await?;
    nodes.first().signal(Signal::TERM)?;
    for (tongue, mut line) in lines {
        let mut told = Vec::new();
        while let Ok(text) = line.line().await {
            ensure!(
                !tongue.socketio || !text.starts_with("41"),
                "{} must not come back: {text}",
                tongue.name
            );
            told.extend(event(tongue, &text)?);
        }
        ensure!(line.closed().await? == Some(1012), "{}: {:?}", tongue.name, line.closed().await?);
        told.retain(|told: &Told| !told.name.starts_with("presence") && told.name != "connection:success");
        reply(&map, "going-away", tongue)?.heard(&told).with_context(|| tongue.name.clone())?;
    }
    let stopped = nodes.first_mut()?;
    ensure!(stopped.exited(PATIENCE).await?.success(), "{}", stopped.log());
    let heard = heard(&mut others).await?;
    for (device, heard) in others.iter().zip(heard) {
        ensure!(heard.is_empty(), "{} at another node hears {heard:?}", device.user);
    }
    Ok(())
}

/// The event a frame is, if it is one.
fn event(tongue: &Tongue, text: &str) -> Result<Option<Told>> {
    if !tongue.socketio {
        let frame: Value = serde_json::from_str(text)?;
        let name = frame["type"].as_str().context("no type")?.to_owned();
        return Ok(Some(Told { name, args: vec![frame] }));
    }
    let Some(array) = text.strip_prefix("42") else { return Ok(None) };
    let mut args: Vec<Value> = serde_json::from_str(array)?;
    let name = args.remove(0).as_str().context("no name")?.to_owned();
    Ok(Some(Told { name, args }))
}
