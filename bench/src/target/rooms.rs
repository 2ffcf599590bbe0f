//! Rooms and who is in them: over the server API, or by a first message where membership is open.
//!
//! Must not know: who sends what there.

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::{Kind, Membership, Place, Plug, Side, address};
use crate::net::Dial;
use crate::net::http::Http;
use crate::speech::{Heard, Say};

/// Members of one call: well below the limit of a body.
const CHUNK: usize = 4_000;
/// Calls under way at once.
const CALLS: usize = 8;
/// Recipients a first message may name.
const RECIPIENTS: usize = 256;

/// Where rooms are numbers: so many belong to one run, and so many runs find room.
const PER_RUN: u64 = 2_000;
const BLOCKS: u64 = 1_000_000;

/// A room to be made.
#[derive(Debug, Clone)]
pub struct Room {
    /// What it is called.
    pub name: String,
    /// Who is in it.
    pub members: Vec<String>,
}

/// What the room with this index of a run is called: digits where rooms are numbers.
pub fn name(place: &Place, run: &str, index: usize) -> String {
    if place.speech().numbered() {
        // Numbers are below 2^31.
        format!("{}", 100_000_000 + block_of(run) * PER_RUN + index as u64)
    } else {
        format!("pb{run}-{index}")
    }
}

/// Which numbers are those of a run: all load processes of it agree on them, and two runs seldom have the same.
fn block_of(run: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish() % BLOCKS
}

/// Makes the rooms. Where anybody may join anything there is nothing to do.
pub async fn create(place: &Place, run: &str, rooms: &[Room]) -> Result<()> {
    if place.target.kind != Kind::Parlance {
        return Ok(());
    }
    match place.target.membership {
        Membership::Managed => managed(place, rooms).await,
        Membership::Open => open(place, run, rooms).await,
    }
}

async fn managed(place: &Place, rooms: &[Room]) -> Result<()> {
    let dial = Dial { address: address(&place.target.api).await?, source: None };
    let api = format!("the server API at {} (see --api, --api-key)", place.target.api);
    let chunk = rooms.len().div_ceil(CALLS).max(1);
    stream::iter(rooms.chunks(chunk))
        .map(Ok::<_, anyhow::Error>)
        .try_for_each_concurrent(CALLS, |rooms| async move {
            let mut http = Http::open(dial).await?;
            for room in rooms {
                one(place, &mut http, room).await?;
            }
            Ok(())
        })
        .await
        .with_context(|| api)
}

async fn one(place: &Place, http: &mut Http, room: &Room) -> Result<()> {
    let mut chunks = room.members.chunks(CHUNK);
    let first = chunks.next().unwrap_or_default();
    let mut create = json!({ "id": room.name, "type": "group", "members": first });
    if place.speech().numbered() {
        create["number"] = room.name.parse::<u64>()?.into();
    }
    call(place, http, "POST", "/api/v1/conversations", &create).await?;
    for more in chunks {
        let path = format!("/api/v1/conversations/{}", room.name);
        call(place, http, "PATCH", &path, &json!({ "addMembers": more })).await?;
    }
    Ok(())
}

async fn call(place: &Place, http: &mut Http, method: &str, path: &str, body: &Value) -> Result<()> {
    let headers =
        format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", place.target.api_key);
    let answer = http.call(method, path, &headers, &body.to_string()).await?;
    if !(200..300).contains(&answer.status) {
        bail!("{method} {path} was answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(())
}

/// In SeChat the first message makes a conversation of its sender and the recipients it names.
async fn open(place: &Place, run: &str, rooms: &[Room]) -> Result<()> {
    let speech = place.speech();
    ensure!(
        matches!(speech.path(), "/sechat" | "/sechat/socket.io/"),
        "only SeChat's first message names recipients: make rooms over the server API (--membership managed)"
    );
    for room in rooms {
        let [author, others @ ..] = &room.members[..] else { continue };
        ensure!(others.len() <= RECIPIENTS, "a first message names at most {RECIPIENTS} recipients");
        let mut line = place.connect(Plug { user: author, index: 0, side: Side::Publisher }).await?;
        let id = format!("{run}-open-0");
        let say = Say { user: author, room: &room.name, to: others, id: &id, number: 0, text: "open" };
        line.send(&speech.message(&say))?;
        let answer = |packet: &[u8]| match speech.hear(packet) {
            Heard::Ack { good, .. } => Some(good),
            Heard::Refused => Some(false),
            _ => None,
        };
        let taken = line.until(answer, &mut |_| {}).await?;
        ensure!(taken, "the conversation {} could not be opened", room.name);
    }
    Ok(())
}
