//! One order: whoever sends at once, everybody hears the same, once.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use parlance_tests::tongue::Action;
use parlance_tests::{Device, Map, token};

use super::stage::{PLACE, Scene, Stage};

/// Messages of each sender.
const EACH: usize = 50;

/// Sends, if it is to, and then listens until it has heard so many texts.
async fn plays(map: &Map, device: &mut Device, sends: usize, hears: usize) -> Result<Vec<String>> {
    let row = map.row("body")?;
    let word = row.does(device.vocabulary()).context("cannot send")?.to_owned();
    for index in 0..sends {
        let body = format!("{} {index}", device.user);
        device.act(Action::Send { body: &body, id: &format!("id {body}") }, PLACE, Some(&word)).await?;
    }
    let mut texts = Vec::new();
    while texts.len() < hears {
        let told = device.next().await.with_context(|| format!("after {} texts", texts.len()))?;
        let says = map.read(device.vocabulary(), "body", &told)?;
        // famly is told twice of others' messages; the notification comes first.
        if let Some(body) = says.body.filter(|_| told.name != "message:notification") {
            texts.push(body.as_str().context("no text")?.to_owned());
        }
    }
    Ok(texts)
}

#[tokio::test]
async fn everybody_hears_everything_once_in_the_same_order() -> Result<()> {
    one_order(1).await
}

#[tokio::test]
async fn on_two_nodes_everybody_hears_everything_once_in_the_same_order() -> Result<()> {
    one_order(2).await
}

async fn one_order(nodes: usize) -> Result<()> {
    let map = Map::load()?;
    let mut stage = Stage::open(&map, Scene::on(nodes)).await?;
    let senders = map.tongues.len();
    let all = senders * EACH;
    let mut devices: Vec<Device> = stage.devices.drain(..stage.inside).collect();
    let playing = devices.iter_mut().enumerate().map(|(index, device)| {
        let sends = if index < senders { EACH } else { 0 };
        // sechat tells nobody his own messages.
        let hears = if device.vocabulary() == "sechat" { all - sends } else { all };
        plays(&map, device, sends, hears)
    });
    let heard = try_join_all(playing).await?;
    let order = heard.last().context("nobody")?;
    for (device, texts) in devices.iter().zip(&heard) {
        let own = format!("{} ", device.user);
        let expected: Vec<&String> =
            order.iter().filter(|text| device.vocabulary() != "sechat" || !text.starts_with(&own)).collect();
        let other = texts.iter().zip(&expected).position(|(text, expected)| text != *expected);
        ensure!(other.is_none(), "{} hears another order from {other:?} on", device.user);
    }
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for text in order {
        let (user, index) = text.split_once(' ').context("not a text of this test")?;
        let expected = next.entry(user).or_default();
        ensure!(index.parse() == Ok(*expected), "{text} instead of {expected}");
        *expected += 1;
    }
    ensure!(next.len() == senders && next.values().all(|count| *count == EACH), "{next:?}");
    // Who has not entered hears of all that in another way, if at all.
    stage.devices = devices;
    for (index, heard) in stage.fence().await?.iter().enumerate() {
        // What goes with the last ones may still come, but no text.
        let vocabulary = stage.devices[index].vocabulary();
        let again = heard
            .iter()
            .find(|told| map.read(vocabulary, "body", told).is_ok_and(|says| says.body.is_some()));
        ensure!(again.is_none(), "once more: {again:?}");
    }
    ensure!(*order == kept(&stage).await?, "the history has another order");
    Ok(())
}

/// The texts of the history, page by page.
async fn kept(stage: &Stage) -> Result<Vec<String>> {
    let (reader, mut texts, mut after) = (token("famly-b")?, Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/conversations/{PLACE}/messages?limit=200&after={after}");
        let path = if after.is_empty() { path.replace("after=", "since=1970-01-01T00:00:00Z") } else { path };
        let answer = stage.gateway().public("GET", &path, Some(&reader)).await?.json()?;
        let messages = answer["messages"].as_array().with_context(|| format!("{path}: {answer}"))?;
        texts.extend(messages.iter().filter_map(|m| Some(m["body"].as_str()?.to_owned())));
        match messages.last().filter(|_| answer["has_more"] == true) {
            Some(last) => after = last["id"].as_str().context("no id")?.to_owned(),
            None => return Ok(texts),
        }
    }
}
