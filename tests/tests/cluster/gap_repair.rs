//! A node to which one publication in five does not come: its clients hear every message once and in order all the
//! same, and nobody is told to start over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::io::Told;
use parlance_tests::{Device, Gateway, Map, Options};
use serde_json::json;
use tokio::time::timeout;

/// Messages said.
const COUNT: usize = 60;
/// Heads are compared every two seconds where nothing else shows that the last message is missing.
const REPAIRED: Duration = Duration::from_secs(20);

async fn node(redis: &Server, failpoints: &str) -> Result<Gateway> {
    let options =
        Options::default().env("PARLANCE_REDIS_URL", &redis.url()).env("PARLANCE_NO_LIMITS", "true");
    Gateway::start(options.env("PARLANCE_FAILPOINTS", failpoints)).await
}

/// The text of a message the event tells of.
fn body(map: &Map, vocabulary: &str, told: &Told) -> Option<String> {
    let messages = ["message:received", "message:new", "room:message", "message:created", "message"];
    if !messages.contains(&told.name.as_str()) {
        return None;
    }
    let fields = map.read(vocabulary, "body", told).ok()?;
    fields.body.and_then(|body| body.as_str().map(str::to_owned))
}

/// Whether it says that something may have been missed: sechat calls that an error, all others a resync.
fn alarm(told: &Told) -> bool {
    let said = told.args.iter().map(ToString::to_string).collect::<String>();
    told.name == "error" || told.name.contains("resync") || said.contains("resync")
}

/// Listens until the last one is heard.
async fn listen(map: &Map, device: &mut Device, last: &str) -> Result<Vec<String>> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|body| body != last) {
        let told = device.next().await.with_context(|| format!("heard {heard:?}"))?;
        ensure!(!alarm(&told), "told of a gap: {told:?}");
        heard.extend(body(map, device.vocabulary(), &told));
    }
    Ok(heard)
}

async fn say(node: &Gateway, body: &str) -> Result<()> {
    let message = json!({ "senderId": "carol", "body": body });
    node.call("POST", "/api/v1/conversations/room/messages", Some(&message)).await.map(drop)
}

#[tokio::test]
async fn one_publication_in_five_is_lost_and_nobody_notices() -> Result<()> {
    let map = Map::load()?;
    let redis = Server::standalone().await?;
    let (whole, deaf) = (node(&redis, "").await?, node(&redis, "drop-publication@5").await?);
    let users: Vec<String> = (0..map.tongues.len()).map(|n| format!("user{n}")).collect();
    let mut members: Vec<&str> = users.iter().map(String::as_str).collect();
    members.push("carol");
    whole.conversation("room", &members).await?;
    let mut devices = Vec::new();
    for gateway in [&whole, &deaf] {
        for (tongue, user) in map.tongues.iter().zip(&users) {
            let mut device = Device::connect(gateway, tongue, user).await?;
            device.enter("room").await?;
            devices.push(device);
        }
    }
    let bodies: Vec<String> = (0..COUNT).map(|n| format!("m{n:02}")).collect();
    let last = bodies.last().context("nothing to say")?;
    let talk = async {
        for body in &bodies {
            say(&whole, body).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let listening =
        futures_util::future::try_join_all(devices.iter_mut().map(|device| listen(&map, device, last)));
    let heard = async { tokio::try_join!(talk, listening) };
    let (_, heard) = timeout(REPAIRED, heard).await.context("not all is heard")??;
    for (device, heard) in devices.iter().zip(heard) {
        ensure!(heard == bodies, "{} as {} heard {heard:?}", device.user, device.vocabulary());
    }
    let dropped = deaf.log().matches("a failpoint drops a publication").count();
    println!("{dropped} publications were dropped");
    ensure!(dropped >= COUNT / 10, "only {dropped} were dropped: this shows nothing");
    Ok(())
}
