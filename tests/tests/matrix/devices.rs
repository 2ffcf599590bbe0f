//! One user with two devices of different tongues: each pair of tongues, and what others notice of it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::io::Told;
use parlance_tests::tongue::{Action, Fields, Seat, Tongue};
use parlance_tests::{Device, Gateway, Map, PATIENCE};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::stage::{Deed, Known, PLACE, Scene, Stage, expect, expect_last, learn, seat};

/// A user with two devices among the cast.
struct Pair<'a> {
    map: &'a Map,
    stage: &'a mut Stage,
    user: String,
    devices: [Device; 2],
}

#[tokio::test]
async fn two_devices_of_different_dialects_are_one_user() -> Result<()> {
    one_user(1).await
}

#[tokio::test]
async fn two_devices_of_different_dialects_on_two_nodes_are_one_user() -> Result<()> {
    one_user(2).await
}

async fn one_user(nodes: usize) -> Result<()> {
    let map = Map::load()?;
    let pairs = map
        .tongues
        .iter()
        .enumerate()
        .flat_map(|(index, first)| map.tongues[index + 1..].iter().map(move |second| [first, second]));
    let pairs: Vec<[&Tongue; 2]> = pairs.collect();
    // Members from the start: who joins and comes at once may be there before a contact has begun to listen.
    let users: Vec<String> = pairs.iter().map(user).collect();
    let mut stage = Stage::open(&map, Scene { members: &users, ..Scene::on(nodes) }).await?;
    for tongues in pairs {
        let what = format!("{} and {}", tongues[0].name, tongues[1].name);
        let mut pair = Pair::come(&map, &mut stage, tongues).await.context(what.clone())?;
        for device in 0..2 {
            pair.sends(device).await.context(what.clone())?;
        }
        pair.reads().await.context(what.clone())?;
        pair.goes().await.context(what)?;
    }
    stage.end()
}

fn user(tongues: &[&Tongue; 2]) -> String {
    format!("{}.{}", tongues[0].name, tongues[1].name)
}

/// Waits until a user has so many devices.
async fn until_devices(gateway: &Gateway, user: &str, devices: usize) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let (_, answer) = gateway.api("GET", &format!("/api/v1/users/{user}/presence"), None).await?;
        if answer["devices"] == devices {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    bail!("{user} never has {devices} devices")
}

/// How often a user's presence is told in a word of that vocabulary.
fn presences(map: &Map, device: &Device, heard: &[Told], user: &str) -> Result<usize> {
    let mut count = 0;
    for told in heard {
        let says = map.read(device.vocabulary(), "online", told)?;
        let about = says.by == Some(json!(user));
        count += usize::from(about && (says.state.is_some() || told.name.starts_with("user:")));
    }
    Ok(count)
}

/// Waits until everybody whose dialect has a word for it has heard that a user is there; of no more than one.
async fn announced(map: &Map, stage: &mut Stage, user: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut counts = vec![0; stage.devices.len()];
    let mut complete = false;
    loop {
        let heard = stage.fence().await?;
        let last = complete;
        complete = true;
        for ((device, heard), count) in stage.devices.iter().zip(&heard).zip(&mut counts) {
            let silent = ["chatgenius", "lingochat-room"].contains(&device.vocabulary())
                || device.user == "lingochat-d";
            *count += presences(map, device, heard, user)?;
            ensure!(*count <= usize::from(!silent), "{} hears {user} {count} times", device.user);
            complete &= silent || *count == 1;
        }
        // One fence more: nothing comes behind.
        if last && complete {
            return Ok(());
        }
        ensure!(Instant::now() < until, "not everybody hears {user}: {counts:?}");
    }
}

impl<'a> Pair<'a> {
    /// A member connects with one device and then the other: the others are told once.
    async fn come(map: &'a Map, stage: &'a mut Stage, tongues: [&Tongue; 2]) -> Result<Self> {
        let user = user(&tongues);
        let mut devices = Vec::new();
        for (index, tongue) in tongues.into_iter().enumerate() {
            let mut device = Device::connect(stage.nodes.of(index), tongue, &user).await?;
            device.enter(PLACE).await?;
            devices.push(device);
        }
        until_devices(stage.gateway(), &user, 2).await?;
        announced(map, stage, &user).await?;
        let devices = devices.try_into().ok().context("not two")?;
        let mut pair = Self { map, stage, user, devices };
        pair.heard().await?;
        Ok(pair)
    }

    /// What both have heard; who asks last has certainly been told everything.
    async fn heard(&mut self) -> Result<[Vec<Told>; 2]> {
        let [first, second] = &mut self.devices;
        Ok([first.until_now(PLACE).await?, second.until_now(PLACE).await?])
    }

    /// What both have heard, with what they are to hear of a deed.
    async fn heard_of(&mut self, deed: &Deed<'_>, seats: [Seat; 2]) -> Result<[Vec<Told>; 2]> {
        let mut all = [Vec::new(), Vec::new()];
        for ((device, seat), heard) in self.devices.iter_mut().zip(seats).zip(&mut all) {
            *heard = expect(deed, device, seat).await?;
        }
        for (heard, rest) in all.iter_mut().zip(self.heard().await?) {
            heard.extend(rest);
        }
        Ok(all)
    }

    fn deed(&self, rows: &[&str], device: usize) -> Result<Deed<'a>> {
        let rows = rows.iter().map(|row| self.map.row(row)).collect::<Result<_>>()?;
        let from = self.devices[device].vocabulary().to_owned();
        Ok(Deed { rows, from, by: self.user.clone(), ..Deed::default() })
    }

    /// Compares what both heard of a deed of one of them. `known` is the message as each of the two knows it.
    async fn compare(&mut self, deed: Deed<'_>, device: usize, known: Option<&[Known; 2]>) -> Result<()> {
        let seats = if device == 0 { [Seat::Doer, Seat::Own] } else { [Seat::Own, Seat::Doer] };
        let heard = self.heard_of(&deed, seats).await?;
        for (index, seat) in seats.into_iter().enumerate() {
            let Deed { rows, from, by, says, .. } = &deed;
            let deed = Deed {
                rows: rows.clone(),
                from: from.clone(),
                by: by.clone(),
                message: known.map(|known| &known[index]),
                says: says.clone(),
            };
            let at = (&self.devices[index], seat);
            if let Err(error) = self.stage.judge(self.map, &deed, at, &heard[index]) {
                let tongue = &self.devices[index].tongue.name;
                self.stage.wrong.push(format!("{} at {tongue} as {seat:?}: {error:#}", self.user));
            }
        }
        Ok(())
    }

    /// One sends: the other shows it too, where its dialect does that.
    async fn sends(&mut self, device: usize) -> Result<()> {
        let body = format!("of my {device}");
        let mut deed = self.deed(&["body"], device)?;
        let word = deed.rows[0].does(&deed.from).context("cannot send")?;
        let id = format!("{} {device}", self.user);
        self.devices[device].act(Action::Send { body: &body, id: &id }, PLACE, Some(word)).await?;
        deed.says = Fields { body: Some(json!(body)), ..Fields::default() };
        self.stage.compare(self.map, &deed).await?;
        self.compare(deed, device, None).await
    }

    /// Somebody writes; the message as each of the two devices is told of it.
    async fn told(&mut self, body: &str) -> Result<(Known, [Known; 2])> {
        let message = self.stage.send(self.map, 0, body).await?;
        let from = self.stage.devices[0].vocabulary().to_owned();
        let deed = Deed { rows: vec![self.map.row("body")?], from, ..Deed::default() };
        let heard = self.heard_of(&deed, [Seat::Other; 2]).await?;
        let mut known = [message.clone(), message.clone()];
        for index in 0..2 {
            let sechat = self.devices[index].vocabulary() == "sechat";
            let chosen = sechat.then(|| format!("own:{}:{body}", message.author));
            learn(self.map, &mut known[index], &self.devices[index], &heard[index], chosen.as_ref())?;
        }
        Ok((message, known))
    }

    async fn read(&mut self, device: usize, message: &Known) -> Result<Deed<'a>> {
        let deed = self.deed(&["delivered", "read"], device)?;
        let word = deed.rows[1].does(&deed.from).context("cannot read")?;
        let action = Action::Receipt { message: message.id(&self.user)?, author: &message.author };
        self.devices[device].act(action, PLACE, Some(word)).await?;
        Ok(deed)
    }

    /// One reads what somebody wrote: the other has read it, too.
    async fn reads(&mut self) -> Result<()> {
        // What was written before the user came is read with the first message, and no part of this.
        let (message, known) = self.told(&format!("first to {}", self.user)).await?;
        let deed = self.read(0, &known[0]).await?;
        self.all_heard(deed, &message, &known[1]).await?;
        let (message, known) = self.told(&format!("to {}", self.user)).await?;
        let deed = self.read(0, &known[0]).await?;
        self.stage.compare(self.map, &Deed { message: Some(&message), ..deed }).await?;
        let deed = self.deed(&["delivered", "read"], 0)?;
        self.compare(deed, 0, Some(&known)).await?;
        self.read(1, &known[1]).await?;
        let mut others = self.stage.fence().await?;
        others.extend(self.heard().await?);
        ensure!(others.iter().all(Vec::is_empty), "read already: {others:?}");
        Ok(())
    }

    /// Waits until everybody who is to be told that the first device read a message was, of all before it, too.
    async fn all_heard(&mut self, deed: Deed<'_>, message: &Known, second: &Known) -> Result<()> {
        let deed = Deed { message: Some(message), ..deed };
        for device in &mut self.stage.devices {
            let seat = seat(&deed, device);
            expect_last(&deed, device, seat).await?;
        }
        let deed = Deed { message: Some(second), ..deed };
        expect_last(&deed, &mut self.devices[1], Seat::Own).await?;
        let mut late = self.stage.fence().await?;
        late.extend(self.heard().await?);
        ensure!(late.iter().all(Vec::is_empty), "behind the last word: {late:?}");
        Ok(())
    }

    /// The user is there until the last device goes, and then is gone once.
    async fn goes(self) -> Result<()> {
        let deed = self.deed(&["offline"], 1)?;
        let Self { map, stage, user, devices: [first, second] } = self;
        first.close().await?;
        until_devices(stage.gateway(), &user, 1).await?;
        let heard = stage.fence().await?;
        ensure!(heard.iter().all(Vec::is_empty), "there is another device: {heard:?}");
        second.close().await?;
        stage.compare(map, &deed).await?;
        let heard = stage.fence().await?;
        ensure!(heard.iter().all(Vec::is_empty), "gone once: {heard:?}");
        Ok(())
    }
}
