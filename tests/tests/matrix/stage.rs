//! One conversation with two users of every tongue in it, and what is to be heard compared with what was.
//!
//! Owns: the cast, on one node or spread over several; the fence that ends what a step is about; the comparison with
//! the table.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::io::Told;
use parlance_tests::tongue::{Action, CoreId, Fields, Row, Seat, Tongue, ids};
use parlance_tests::{Device, Gateway, Map, Stock};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::nodes::Nodes;

/// The conversation everything happens in.
pub const PLACE: &str = "map";
/// A channel of the application's own.
pub const FEED: &str = "feed:updates";
/// Where the fence stands: same people, but its messages are no part of the first one's history.
const FENCE: &str = "fence";
/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(6);

/// The shipped mounts but without the delays of their presence policies, and with pings nobody has to answer
/// while a test looks elsewhere.
pub const MOUNTS: &str = r#"
[[mounts]]
name = "sechat"
path = "/sechat"
dialect = "sechat"
framing = "raw"
background_ms = 0
[[mounts]]
name = "sechat-io"
path = "/sechat/socket.io/"
dialect = "sechat"
framing = "socketio"
background_ms = 0
[[mounts]]
name = "lingochat"
path = "/lingochat/socket.io/"
dialect = "lingochat"
framing = "socketio"
ping_interval_ms = 25000
ping_timeout_ms = 20000
[[mounts]]
name = "famly"
path = "/socket.io/"
dialect = "famly"
framing = "socketio"
presence_throttle_ms = 0
[[mounts]]
name = "chatgenius"
path = "/api/socket.io/"
dialect = "chatgenius"
framing = "socketio"
[[mounts]]
name = "socialhub"
path = "/ws"
dialect = "socialhub"
"#;

/// A message as each user knows it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Who wrote it.
    pub author: String,
    /// Its id, by user.
    pub ids: HashMap<String, Value>,
    /// What all the ids but those of the author's own choice have in common.
    pub core: Option<CoreId>,
}

impl Known {
    /// Its id as that user knows it.
    pub fn id(&self, user: &str) -> Result<&Value> {
        self.ids.get(user).with_context(|| format!("{user} was told no id"))
    }
}

/// The letter of users who are members and connected, but do not enter.
const ASIDE: &str = "-d";

/// What happened.
#[derive(Default)]
pub struct Deed<'a> {
    /// The rows of the table it is about, in the order in which they are heard.
    pub rows: Vec<&'a Row>,
    /// The vocabulary of who did it; empty for the backend.
    pub from: String,
    /// The user it is about: mostly who did it.
    pub by: String,
    /// The message it is about.
    pub message: Option<&'a Known>,
    /// What else the words say.
    pub says: Fields<Value>,
}

/// A word that is to be heard: of which row.
type Word<'a> = (&'a str, &'a str);

/// How a stage is set.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// On so many nodes; the devices take turns, so that the two users of a tongue are on different ones.
    pub nodes: usize,
    /// Those who speak Socket.IO do so with a stock client.
    pub stock: Option<&'a Stock>,
    /// Further members, who are all away.
    pub members: &'a [String],
}

impl Scene<'_> {
    /// On so many nodes, and nothing special.
    pub const fn on(nodes: usize) -> Self {
        Self { nodes, stock: None, members: &[] }
    }
}

/// The cast in its conversation.
pub struct Stage {
    pub nodes: Nodes,
    /// Those who entered, and behind them those who did not.
    pub devices: Vec<Device>,
    /// How many entered.
    pub inside: usize,
    number: u64,
    fences: usize,
    /// What was not as the table says.
    pub wrong: Vec<String>,
    /// Which cells have been compared: row, from, to.
    pub cells: BTreeSet<(String, String, String)>,
}

impl Stage {
    /// Opens it: two users of every tongue are in the room, a third of each is a member and away, a fourth of those
    /// that have a word for entering is connected and has not entered.
    pub async fn open(map: &Map, scene: Scene<'_>) -> Result<Self> {
        let Scene { stock, members, .. } = scene;
        let nodes = Nodes::start(scene.nodes, MOUNTS).await?;
        let named = |letter: &str| -> Vec<String> {
            map.tongues.iter().map(|tongue| format!("{}-{letter}", tongue.name)).collect()
        };
        let outside: Vec<&Tongue> =
            ["lingochat", "famly", "socialhub"].iter().map(|name| map.tongue(name)).collect::<Result<_>>()?;
        let aside: Vec<String> = outside.iter().map(|tongue| format!("{}{ASIDE}", tongue.name)).collect();
        let cast = [named("a"), named("b"), aside].concat();
        let number = nodes.first().conversation(PLACE, &[&cast, &*named("c"), members].concat()).await?;
        nodes.first().conversation(FENCE, &[cast.clone(), vec!["fencer".to_owned()]].concat()).await?;
        let mut stage = Self {
            nodes,
            devices: Vec::new(),
            inside: 2 * map.tongues.len(),
            number,
            fences: 0,
            wrong: Vec::new(),
            cells: BTreeSet::new(),
        };
        let tongues = map.tongues.iter().chain(&map.tongues).chain(outside);
        for (tongue, user) in tongues.zip(&cast) {
            stage.connect(stock.filter(|_| tongue.socketio), tongue, user).await?;
        }
        stage.fence().await?;
        Ok(stage)
    }

    async fn connect(&mut self, stock: Option<&Stock>, tongue: &Tongue, user: &str) -> Result<()> {
        let gateway = self.nodes.of(self.devices.len());
        let mut device = match stock {
            Some(stock) => Device::stock(gateway, stock, tongue, user).await?,
            None => Device::connect(gateway, tongue, user).await?,
        };
        if !user.ends_with(ASIDE) {
            device.enter(PLACE).await?;
        }
        // Outside the room famly hears of a message with one word, and that will do here.
        if tongue.vocabulary != "famly" {
            device.enter(FENCE).await?;
        }
        if tongue.vocabulary == "socialhub" {
            for channel in ["presence", FEED] {
                device.say("subscribe", &[json!({ "payload": { "channel": channel } })]).await?;
            }
        }
        self.devices.push(device);
        Ok(())
    }

    /// The node that backends speak to.
    pub fn gateway(&self) -> &Gateway {
        self.nodes.first()
    }

    /// What each device heard up to a message that is sent now. It is of another conversation, and nothing orders it
    /// with what is still to come of the first: whatever must be heard is to be awaited before.
    pub async fn fence(&mut self) -> Result<Vec<Vec<Told>>> {
        self.fences += 1;
        let marker = format!("fence-{}-", self.fences);
        let path = format!("/api/v1/conversations/{FENCE}/messages");
        let body = json!({ "senderId": "fencer", "body": marker });
        let (status, answer) = self.gateway().api("POST", &path, Some(&body)).await?;
        ensure!(status == 201, "no fence: {status} {answer}");
        let mut all = Vec::new();
        for device in &mut self.devices {
            let mut heard = Vec::new();
            loop {
                let told = device.next().await.with_context(|| format!("no {marker}, but {heard:?}"))?;
                if json!(told.args).to_string().contains(&marker) {
                    break;
                }
                heard.push(told);
            }
            if device.vocabulary() == "sechat" {
                let end = device.next().await?;
                ensure!(end.name == "message:delivered", "after the fence: {end:?}");
            }
            all.push(heard);
        }
        Ok(all)
    }

    /// Compares what everybody heard of a deed with the table; returns what each of the devices heard.
    pub async fn compare(&mut self, map: &Map, deed: &Deed<'_>) -> Result<Vec<Vec<Told>>> {
        let mut early = Vec::new();
        for device in &mut self.devices {
            let seat = seat(deed, device);
            early.push(expect(deed, device, seat).await?);
        }
        let rest = self.fence().await?;
        let all: Vec<Vec<Told>> = early.into_iter().zip(rest).map(|(e, r)| [e, r].concat()).collect();
        for (index, heard) in all.iter().enumerate() {
            let device = &self.devices[index];
            for row in &deed.rows {
                let cell = (row.name.clone(), deed.from.clone(), device.tongue.name.clone());
                self.cells.insert(cell);
            }
            if let Err(error) = self.judge(map, deed, (device, seat(deed, device)), heard) {
                let rows: Vec<&str> = deed.rows.iter().map(|row| row.name.as_str()).collect();
                self.wrong.push(format!("{rows:?} by {} at {}: {error:#}", deed.by, device.user));
            }
        }
        Ok(all)
    }

    /// Compares what one device heard from where it sits.
    pub fn judge(
        &self,
        map: &Map,
        deed: &Deed<'_>,
        (device, seat): (&Device, Seat),
        heard: &[Told],
    ) -> Result<()> {
        let wanted = words(deed, device, seat);
        let (mut names, mut expected) = (names(heard), wanted.clone());
        // The document orders chatgenius' two; elsewhere an answer and an event are not ordered.
        if seat == Seat::Doer && device.vocabulary() != "chatgenius" {
            names.sort_unstable();
            expected.sort_unstable_by_key(|word| word.1);
        }
        let expected: Vec<&str> = expected.iter().map(|word| word.1).collect();
        ensure!(names == expected, "to be heard: {expected:?}, heard: {heard:?}");
        for told in heard {
            let row = wanted.iter().find(|word| word.1 == told.name).map_or("", |word| word.0);
            let says = map.read(device.vocabulary(), row, told)?;
            self.say_the_same(deed, device, &says).with_context(|| format!("{told:?}"))?;
        }
        Ok(())
    }

    fn say_the_same(&self, deed: &Deed<'_>, device: &Device, says: &Fields<Value>) -> Result<()> {
        let same = |what: &str, heard: &Option<Value>, expected: &Value| {
            let right = heard.as_ref().is_none_or(|heard| heard == expected);
            ensure!(right, "{what} is {heard:?}, not {expected}");
            Ok(())
        };
        let place = if says.place == Some(json!(self.number)) { json!(self.number) } else { json!(PLACE) };
        same("the conversation", &says.place, &place)?;
        same("who", &says.by, &json!(deed.by))?;
        if let Some(message) = deed.message {
            same("the author", &says.author, &json!(message.author))?;
            same("the message", &says.message, message.id(&device.user)?)?;
        }
        let of = |field: &Option<Value>| field.clone().unwrap_or_default();
        same("the text", &says.body, &of(&deed.says.body))?;
        same("the reaction", &says.kind, &of(&deed.says.kind))?;
        same("the title", &says.title, &of(&deed.says.title))?;
        let state = deed.rows.iter().find_map(|row| row.state(device.vocabulary()));
        same("the state", &says.state, &state.cloned().unwrap_or_default())
    }

    /// Sends a message from a device of the cast; compares what is heard, and the ids everybody is told.
    pub async fn send(&mut self, map: &Map, author: usize, body: &str) -> Result<Known> {
        let row = map.row("body")?;
        let device = &mut self.devices[author];
        let (from, by) = (device.vocabulary().to_owned(), device.user.clone());
        let word = row.does(&from).context("cannot send")?;
        let own = format!("own:{by}:{body}");
        device.act(Action::Send { body, id: &own }, PLACE, Some(word)).await?;
        let says = Fields { body: Some(json!(body)), ..Fields::default() };
        let deed = Deed { rows: vec![row], from: from.clone(), by: by.clone(), message: None, says };
        let heard = self.compare(map, &deed).await?;
        let mut known = Known { author: by, ..Known::default() };
        for (index, heard) in heard.iter().enumerate().take(self.inside) {
            let device = &self.devices[index];
            // Dialects that need an id of the client's own show sechat that one.
            let chosen = matches!(from.as_str(), "sechat" | "famly") && device.vocabulary() == "sechat";
            if let Err(error) = learn(map, &mut known, device, heard, chosen.then_some(&own)) {
                self.wrong.push(format!("ids of {body} at {}: {error:#}", device.user));
            }
        }
        Ok(known)
    }

    /// Fails with what was wrong, the first of it in full.
    pub fn end(self) -> Result<()> {
        let shown: Vec<&str> = self.wrong.iter().take(10).map(String::as_str).collect();
        ensure!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), shown.join("\n"));
        Ok(())
    }
}

/// Listens until a device has heard as many words as it is to hear of a deed from there, or none comes any more.
pub async fn expect(deed: &Deed<'_>, device: &mut Device, seat: Seat) -> Result<Vec<Told>> {
    let wanted = words(deed, device, seat).len();
    let mut heard = Vec::new();
    while heard.len() < wanted {
        let Ok(told) = timeout(SOON, device.next()).await else { break };
        heard.push(told?);
    }
    Ok(heard)
}

/// Listens until a device has heard the last word of a deed about a message, whatever comes before: one step moves a
/// cursor past all that it had not passed before.
pub async fn expect_last(deed: &Deed<'_>, device: &mut Device, seat: Seat) -> Result<()> {
    let Some((_, last)) = words(deed, device, seat).pop() else { return Ok(()) };
    let id = deed.message.context("of no message")?.id(&device.user)?.to_string();
    loop {
        let told = device.next().await.with_context(|| format!("no {last} of {id}"))?;
        if told.name == last && json!(told.args).to_string().contains(&id) {
            return Ok(());
        }
    }
}

/// From where a device of the cast hears of a deed.
pub fn seat(deed: &Deed<'_>, device: &Device) -> Seat {
    if device.user.ends_with(ASIDE) {
        Seat::Aside
    } else if deed.by == device.user && !deed.from.is_empty() {
        Seat::Doer
    } else if deed.message.is_some_and(|message| message.author == device.user) {
        Seat::Author
    } else {
        Seat::Other
    }
}

/// What a device is to hear of a deed.
fn words<'a>(deed: &Deed<'a>, device: &Device, seat: Seat) -> Vec<Word<'a>> {
    // Only receipts are told to authors in another way.
    let of = |row: &&'a Row| {
        let seat = if seat == Seat::Author && !row.tells_author() { Seat::Other } else { seat };
        let heard = row.hears(seat, &deed.from, device.vocabulary());
        heard.iter().map(|word| (row.name.as_str(), word.as_str())).collect::<Vec<_>>()
    };
    deed.rows.iter().flat_map(of).collect()
}

fn names(heard: &[Told]) -> Vec<&str> {
    heard.iter().map(|told| told.name.as_str()).collect()
}

/// Notes the id a device was told, and makes sure that it is rendered as its dialect has it and names the same
/// message as everybody else's.
pub fn learn(
    map: &Map,
    known: &mut Known,
    device: &Device,
    heard: &[Told],
    chosen: Option<&String>,
) -> Result<()> {
    for told in heard {
        let says = map.read(device.vocabulary(), "body", told)?;
        let Some(id) = says.message else { continue };
        let before = known.ids.insert(device.user.clone(), id.clone());
        ensure!(before.as_ref().is_none_or(|before| *before == id), "two ids: {before:?} and {id}");
        if let Some(chosen) = chosen {
            ensure!(id == **chosen, "{id} is not {chosen}");
            continue;
        }
        let core = ids::core(device.vocabulary(), &id)?;
        ensure!(known.core.is_none_or(|other| other == core), "{id}: {core:?} is not {:?}", known.core);
        known.core = Some(core);
    }
    ensure!(known.ids.contains_key(&device.user), "was told no id");
    Ok(())
}
