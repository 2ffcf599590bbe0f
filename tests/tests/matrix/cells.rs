//! Every cell of the table: each tongue does it, each tongue hears what the table says, and nothing else.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use parlance_tests::tongue::{Action, Fields, Row, Seat};
use parlance_tests::{Device, Map};
use serde_json::{Value, json};

use super::stage::{Deed, FEED, Known, PLACE, Scene, Stage, expect};

/// Rows a client cannot bring about.
const BACKEND: [&str; 6] =
    ["member-added", "member-removed", "changed", "notification", "feed-update", "count-update"];

#[tokio::test]
async fn everybody_hears_what_the_map_says_and_nothing_else() -> Result<()> {
    every_cell(1).await
}

#[tokio::test]
async fn on_two_nodes_everybody_hears_what_the_map_says_and_nothing_else() -> Result<()> {
    every_cell(2).await
}

async fn every_cell(nodes: usize) -> Result<()> {
    let map = Map::load()?;
    let mut stage = Stage::open(&map, Scene::on(nodes)).await?;
    // Before there is anything that who comes would have to be told.
    for tongue in 0..map.tongues.len() {
        comes_and_goes(&mut stage, &map, tongue).await?;
        has_no_word(&mut stage, &map, tongue).await?;
    }
    for author in 0..map.tongues.len() {
        let body = format!("grüße 👋 a < b & \"c\" \\ {author}");
        let message = stage.send(&map, author, &body).await?;
        types(&mut stage, &map, author).await?;
        for reader in map.tongues.len()..stage.inside {
            receipts(&mut stage, &map, &message, reader).await?;
            reacts(&mut stage, &map, &message, reader).await?;
        }
    }
    backend(&mut stage, &map).await?;
    publishes(&mut stage, &map).await?;
    for missing in all_cells(&map).difference(&stage.cells) {
        stage.wrong.push(format!("not played: {missing:?}"));
    }
    stage.end()
}

/// Row, from and to of every cell.
fn all_cells(map: &Map) -> BTreeSet<(String, String, String)> {
    let mut cells = BTreeSet::new();
    for row in &map.rows {
        for to in &map.tongues {
            let backend = BACKEND.contains(&row.name.as_str());
            let from: BTreeSet<&str> = map.tongues.iter().map(|t| t.vocabulary.as_str()).collect();
            for from in from.into_iter().filter(|_| !backend).chain(backend.then_some("")) {
                cells.insert((row.name.clone(), from.to_owned(), to.name.clone()));
            }
        }
    }
    cells
}

/// A device does something; `None`: its dialect has no word for it.
async fn done<'a>(
    stage: &mut Stage,
    row: &'a Row,
    doer: usize,
    action: Action<'_>,
) -> Result<Option<Deed<'a>>> {
    let device = &mut stage.devices[doer];
    let Some(word) = row.does(device.vocabulary()) else { return Ok(None) };
    device.act(action, PLACE, Some(word)).await?;
    let (from, by) = (device.vocabulary().to_owned(), device.user.clone());
    Ok(Some(Deed { rows: vec![row], from, by, ..Deed::default() }))
}

async fn types(stage: &mut Stage, map: &Map, doer: usize) -> Result<()> {
    for (row, on) in [("typing-start", true), ("typing-stop", false)] {
        let deed = done(stage, map.row(row)?, doer, Action::Typing(on)).await?.context("cannot type")?;
        stage.compare(map, &deed).await?;
    }
    Ok(())
}

async fn receipts(stage: &mut Stage, map: &Map, message: &Known, reader: usize) -> Result<()> {
    let mut said = BTreeSet::new();
    for name in ["delivered", "read"] {
        let row = map.row(name)?;
        let id = message.id(&stage.devices[reader].user)?.clone();
        let action = Action::Receipt { message: &id, author: &message.author };
        let Some(mut deed) = done(stage, row, reader, action).await? else { continue };
        if !row.implies.is_empty() && !said.contains(row.implies.as_str()) {
            deed.rows.insert(0, map.row(&row.implies)?);
        }
        said.insert(name);
        stage.compare(map, &Deed { message: Some(message), ..deed }).await?;
    }
    Ok(())
}

async fn reacts(stage: &mut Stage, map: &Map, message: &Known, doer: usize) -> Result<()> {
    for name in ["reaction-added", "reaction-removed"] {
        let id = message.id(&stage.devices[doer].user)?.clone();
        let action = Action::React { message: &id, kind: "👍" };
        let Some(deed) = done(stage, map.row(name)?, doer, action).await? else { continue };
        let says = Fields { kind: Some(json!("👍")), ..Fields::default() };
        stage.compare(map, &Deed { message: Some(message), says, ..deed }).await?;
    }
    Ok(())
}

/// A further user connects, enters, leaves, enters again and is cut off.
async fn comes_and_goes(stage: &mut Stage, map: &Map, index: usize) -> Result<()> {
    let tongue = &map.tongues[index];
    let user = format!("{}-c", tongue.name);
    let mut device = Device::connect(stage.nodes.of(index), tongue, &user).await?;
    let deed = |row: &'static str| -> Result<Deed<'_>> {
        let (from, by) = (tongue.vocabulary.clone(), user.clone());
        Ok(Deed { rows: vec![map.row(row)?], from, by, ..Deed::default() })
    };
    stage.compare(map, &deed("online")?).await?;
    doer_heard(stage, map, &deed("online")?, &mut device).await?;
    for row in ["enters", "leaves"] {
        let Some(word) = map.row(row)?.does(&tongue.vocabulary) else { continue };
        device.act(Action::Room, PLACE, Some(word)).await?;
        stage.compare(map, &deed(row)?).await?;
        doer_heard(stage, map, &deed(row)?, &mut device).await?;
    }
    if let Some(word) = map.row("enters")?.does(&tongue.vocabulary) {
        device.act(Action::Room, PLACE, Some(word)).await?;
        stage.fence().await?;
    }
    device.close().await?;
    stage.compare(map, &deed("offline")?).await?;
    Ok(())
}

/// What the one who comes and goes heard of it.
async fn doer_heard(stage: &mut Stage, map: &Map, deed: &Deed<'_>, device: &mut Device) -> Result<()> {
    let mut heard = expect(deed, device, Seat::Doer).await?;
    heard.extend(device.until_now(PLACE).await?);
    if deed.rows.iter().any(|row| row.name == "enters") && device.vocabulary().starts_with("lingochat") {
        // Who enters is told of each who is there.
        let present: BTreeSet<String> =
            stage.devices[..stage.inside].iter().map(|device| device.user.clone()).collect();
        let told: BTreeSet<String> =
            heard.iter().filter_map(|told| Some(told.args.first()?.as_str()?.to_owned())).collect();
        if told != present || heard.len() != present.len() {
            stage.wrong.push(format!("{} was told of {told:?}, not of {present:?}", device.user));
        }
        heard.truncate(1);
        let names: Vec<&str> = heard.iter().map(|told| told.name.as_str()).collect();
        let row = deed.rows.first().context("no row")?;
        let expected = row.hears(Seat::Doer, "", device.vocabulary());
        ensure!(names == expected, "{names:?} instead of {expected:?}");
        return Ok(());
    }
    if let Err(error) = stage.judge(map, deed, (device, Seat::Doer), &heard) {
        stage.wrong.push(format!("{} heard of itself: {error:#}", device.user));
    }
    Ok(())
}

/// What a dialect has no word for is refused in another's words, and nobody hears of it.
async fn has_no_word(stage: &mut Stage, map: &Map, doer: usize) -> Result<()> {
    for row in &map.rows {
        let device = &mut stage.devices[doer];
        let vocabulary = device.vocabulary().to_owned();
        let (None, Some(foreign)) = (row.does(&vocabulary), row.anyones()) else { continue };
        let answer = device.say(foreign, &[json!({ "conversationId": PLACE, "channelId": PLACE })]).await?;
        let refusal = map.refusal(&vocabulary);
        for (index, heard) in stage.fence().await?.iter().enumerate() {
            let names: Vec<&str> = heard.iter().map(|told| told.name.as_str()).collect();
            let expected = if index == doer { refusal } else { &[] };
            if names != expected {
                stage.wrong.push(format!("{vocabulary} says {foreign}: {names:?} at {index}"));
            }
            let to = stage.devices[index].tongue.name.clone();
            stage.cells.insert((row.name.clone(), vocabulary.clone(), to));
        }
        if refusal.is_empty() && answer["ok"] != false && answer["success"] != false {
            stage.wrong.push(format!("{vocabulary} may say {foreign}: {answer}"));
        }
    }
    Ok(())
}

async fn backend(stage: &mut Stage, map: &Map) -> Result<()> {
    for (row, change) in [
        ("member-added", json!({ "addMembers": ["newcomer"] })),
        ("member-removed", json!({ "removeMembers": ["newcomer"] })),
        ("changed", json!({ "title": "the map" })),
    ] {
        let path = format!("/api/v1/conversations/{PLACE}");
        let (status, answer) = stage.gateway().api("PATCH", &path, Some(&change)).await?;
        ensure!(status == 200, "{status} {answer}");
        let title = if row == "changed" { json!("the map") } else { Value::Null };
        let says = Fields { title: Some(title), ..Fields::default() };
        let deed = Deed { rows: vec![map.row(row)?], by: "newcomer".to_owned(), says, ..Deed::default() };
        stage.compare(map, &deed).await?;
    }
    Ok(())
}

/// What the application says: a notification for everybody, and events of a feed.
async fn publishes(stage: &mut Stage, map: &Map) -> Result<()> {
    let users: Vec<String> = stage.devices.iter().map(|device| device.user.clone()).collect();
    let to_all = users.iter().map(|user| json!({ "channel": "notifications", "user_id": user }));
    let to_feed = || vec![json!({ "channel": FEED })];
    for (row, kind, calls) in [
        ("notification", "notification", to_all.collect()),
        ("feed-update", "feed_update", to_feed()),
        ("count-update", "count_update", to_feed()),
    ] {
        for mut call in calls {
            call["type"] = json!(kind);
            call["payload"] = json!({ "text": row });
            let (status, answer) = stage.gateway().api("POST", "/api/v1/publish", Some(&call)).await?;
            ensure!(status == 201, "{call}: {status} {answer}");
        }
        let says = Fields { body: Some(json!(row)), ..Fields::default() };
        stage.compare(map, &Deed { rows: vec![map.row(row)?], says, ..Deed::default() }).await?;
    }
    Ok(())
}
