//! Sessions by hand: who comes back with which one, and what it was told of before it was let in.

use anyhow::{Result, bail};
use parlance_tests::io::Came;
use parlance_tests::{IoClient, token};
use serde_json::{Value, json};

use super::{App, Said, World, said};

/// A session as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub sid: String,
    pub pid: String,
}

/// A client that was let in, and what came before the answer to CONNECT.
pub struct Back {
    pub io: IoClient,
    pub missed: Vec<Said>,
    pub session: Session,
}

impl Back {
    /// Joins the namespace `/`.
    pub async fn join(mut io: IoClient, auth: &Value) -> Result<Self> {
        io.join(auth).await?;
        let missed = io.seen()?.iter().filter_map(|told| said(&told.name, &told.args)).collect();
        let id = |name: &str| io.joined[name].as_str().unwrap_or_default().to_owned();
        let session = Session { sid: id("sid"), pid: id("pid") };
        Ok(Self { io, missed, session })
    }

    /// The next message, whatever else comes before it.
    pub async fn said(&mut self) -> Result<Said> {
        next_said(&mut self.io).await
    }

    /// Whether the session from before goes on.
    pub fn recovers(&self, session: &Session) -> bool {
        self.session == *session
    }

    pub fn bodies(&self) -> Vec<&str> {
        self.missed.iter().map(|said| said.body.as_str()).collect()
    }
}

/// An open Engine.IO session, in no namespace.
pub async fn open(world: &World, app: App) -> Result<IoClient> {
    IoClient::open(&world.gateway.url(app.path())).await
}

/// The next message, whatever else comes before it.
pub async fn next_said(io: &mut IoClient) -> Result<Said> {
    loop {
        match io.came().await? {
            Came::Event(told) => {
                if let Some(said) = said(&told.name, &told.args) {
                    return Ok(said);
                }
            }
            Came::End(code) => bail!("the connection has ended, code {code:?}"),
            Came::Ack(..) | Came::Packet(_) => {}
        }
    }
}

/// Connects as a user, asking for a session.
pub async fn come(world: &World, app: App, user: &str, session: (&str, Option<&str>)) -> Result<Back> {
    let mut auth = json!({ "token": token(user)?, "pid": session.0 });
    if let Some(offset) = session.1 {
        auth["offset"] = json!(offset);
    }
    Back::join(open(world, app).await?, &auth).await
}

/// Connects as a user with a fresh session.
pub async fn fresh(world: &World, app: App, user: &str) -> Result<Back> {
    let back = Back::join(open(world, app).await?, &json!({ "token": token(user)? })).await?;
    if back.session.pid.is_empty() { bail!("no private id") } else { Ok(back) }
}
