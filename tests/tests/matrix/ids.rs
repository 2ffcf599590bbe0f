//! One id, five renderings: each names the same message wherever it is sent back to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::io::Told;
use parlance_tests::tongue::{Action, Fields, Seat, auth, ids};
use parlance_tests::{IoClient, Map, Stock, token};
use serde_json::{Value, json};

use super::stage::{Deed, Known, PLACE, Scene, Stage};

/// The messages at an address of the public listener.
async fn history(stage: &Stage, path: &str) -> Result<Vec<Value>> {
    let reader = token("sechat-a")?;
    let answer = stage.gateway().public("GET", path, Some(&reader)).await?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
    answer.json()?["messages"].as_array().cloned().context("no messages")
}

/// The body row once more, with stock clients where there are any, and the ids they are told looked up.
#[tokio::test]
async fn stock_clients_hear_the_same_and_all_ids_lead_to_one_entry() -> Result<()> {
    let map = Map::load()?;
    let stock = Stock::start()?;
    let mut stage = Stage::open(&map, Scene { stock: Some(&stock), ..Scene::on(1) }).await?;
    let mut known = Vec::new();
    for author in 0..map.tongues.len() {
        known.push(stage.send(&map, author, &format!("message {author}")).await?);
    }
    let base = format!("/api/v1/conversations/{PLACE}/messages");
    let entries = history(&stage, &base).await?;
    ensure!(entries.len() == known.len(), "{entries:?}");
    for (index, message) in known.iter().enumerate() {
        let entry = &entries[index];
        ensure!(
            entry["body"] == format!("message {index}") && entry["senderId"] == message.author,
            "{entry}"
        );
        ensure!(Some(ids::core("chatgenius", &entry["id"])?) == message.core, "{entry} is not {message:?}");
        for (user, id) in &message.ids {
            if user.starts_with("sechat") && entry["clientId"] == *id {
                continue;
            }
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            let after = history(&stage, &format!("{base}?after={id}")).await?;
            ensure!(after == entries[index + 1..], "after {user}'s {id}: {after:?}");
        }
    }
    spoken(&stage, &map, &known).await?;
    stage.end()
}

/// History in a dialect's own words has the ids that its clients were told.
async fn spoken(stage: &Stage, map: &Map, known: &[Known]) -> Result<()> {
    for tongue in map.tongues.iter().filter(|tongue| !tongue.name.contains('-')) {
        let vocabulary = &tongue.vocabulary;
        let word = map.row("body")?.hears(Seat::Other, "", vocabulary);
        let mut paths = vec![format!("/api/v1/conversations/{PLACE}/messages?dialect={vocabulary}")];
        if vocabulary == "famly" {
            paths.push(format!("/v1/chats/{PLACE}/messages"));
        }
        for path in paths {
            let messages = history(stage, &path).await?;
            ensure!(messages.len() == known.len(), "{path}: {messages:?}");
            for (index, shown) in messages.into_iter().enumerate() {
                let told = if path.starts_with("/v1") {
                    json!({ "message": shown, "chatId": shown["chatId"] })
                } else {
                    shown
                };
                // Where two words tell a message, history has the one for who is in the room.
                let carrying = |name: &&String| {
                    let told = Told { name: (*name).clone(), args: vec![told.clone()] };
                    map.read(vocabulary, "body", &told).is_ok_and(|says| says.body.is_some())
                };
                let name = word.iter().find(carrying).with_context(|| format!("{path}: {told}"))?;
                let told = Told { name: name.clone(), args: vec![told] };
                let says = map.read(vocabulary, "body", &told)?;
                let user = format!("{}-b", tongue.name);
                ensure!(says.message.as_ref() == Some(known[index].id(&user)?), "{path}: {told:?}");
                ensure!(says.body == Some(json!(format!("message {index}"))), "{path}: {told:?}");
            }
        }
    }
    Ok(())
}

/// A client that was away meanwhile is told the same id as those who were there.
#[tokio::test]
async fn a_recovered_session_is_told_of_a_message_by_the_same_id() -> Result<()> {
    recovered(1).await
}

#[tokio::test]
async fn a_session_recovered_on_another_node_is_told_of_a_message_by_the_same_id() -> Result<()> {
    recovered(2).await
}

async fn recovered(nodes: usize) -> Result<()> {
    let map = Map::load()?;
    let mut stage = Stage::open(&map, Scene::on(nodes)).await?;
    let tongue = map.tongue("chatgenius")?;
    let doer = map.tongues.iter().position(|tongue| tongue.name == "chatgenius").context("no chatgenius")?;
    let (url, mut auth) = (stage.gateway().url(&tongue.mount), auth(tongue, "chatgenius-c")?);
    let mut client = IoClient::connect(&url, &auth).await?;
    client.expect("connection:success").await?;
    stage.fence().await?;
    let message = stage.send(&map, 0, "a while ago").await?;
    let created = client.expect("message:created").await?;
    ensure!(created.args[0]["message"]["id"] == *message.id("chatgenius-a")?, "{created:?}");
    auth["pid"] = client.joined["pid"].clone();
    auth["offset"] = created.args.last().cloned().unwrap_or_default();
    ensure!(auth["pid"].is_string() && auth["offset"].is_string(), "cannot be recovered: {auth}");
    drop(client);
    // The clock is the one thing there is to wait for.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let action = Action::React { message: message.id("chatgenius-a")?, kind: "seen" };
    stage.devices[doer].act(action, PLACE, Some("reaction:add")).await?;
    let url = stage.nodes.of(1).url(&tongue.mount);
    let mut client = IoClient::connect(&url, &auth).await?;
    ensure!(client.joined["pid"] == auth["pid"], "not recovered: {}", client.joined);
    let missed = client.seen()?;
    let added =
        missed.iter().find(|told| told.name == "reaction:added").with_context(|| format!("{missed:?}"))?;
    ensure!(added.args[0]["messageId"] == created.args[0]["message"]["id"], "{added:?} of {created:?}");
    ensure!(added.args[0]["reaction"]["messageId"] == added.args[0]["messageId"], "{added:?}");
    Ok(())
}

/// Renderings hold the second of the message: one that is spoken of later must not be given another.
#[tokio::test]
async fn what_is_said_of_a_message_later_names_it_as_before() -> Result<()> {
    said_later(1).await
}

#[tokio::test]
async fn on_two_nodes_what_is_said_of_a_message_later_names_it_as_before() -> Result<()> {
    said_later(2).await
}

async fn said_later(nodes: usize) -> Result<()> {
    let map = Map::load()?;
    let mut stage = Stage::open(&map, Scene::on(nodes)).await?;
    let author = map.tongues.iter().position(|tongue| tongue.name == "socialhub").context("no socialhub")?;
    let message = stage.send(&map, author, "a while ago").await?;
    // The clock is the one thing there is to wait for.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for doer in 0..map.tongues.len() {
        let device = &mut stage.devices[doer];
        let (from, by) = (device.vocabulary().to_owned(), device.user.clone());
        for (name, action) in [
            ("reaction-added", Action::React { message: message.id(&by)?, kind: "seen" }),
            ("read", Action::Receipt { message: message.id(&by)?, author: &message.author }),
        ] {
            let row = map.row(name)?;
            let Some(word) = row.does(&from) else { continue };
            if doer == author {
                continue;
            }
            stage.devices[doer].act(action, PLACE, Some(word)).await?;
            let rows = if name == "read" { vec![map.row("delivered")?, row] } else { vec![row] };
            let says = Fields { kind: Some(json!("seen")), ..Fields::default() };
            let deed = Deed { rows, from: from.clone(), by: by.clone(), message: Some(&message), says };
            stage.compare(&map, &deed).await?;
        }
    }
    let entries = history(&stage, &format!("/api/v1/conversations/{PLACE}/messages")).await?;
    ensure!(entries[0]["reactions"][0]["userId"] == "chatgenius-a", "{entries:?}");
    stage.end()
}
