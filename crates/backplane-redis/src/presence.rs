//! Presence leases, and sweeping.
//!
//! A user's leases are in the user's partition, the rooms of the connections in those of the conversations. What a
//! lease's end has to take out is therefore written down in the same step ("endings"), carried out, and only then
//! struck off: after a crash in between any sweeper carries it out. Must not know: why connections end.

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use parlance_backplane::{Fault, Presence, Swept, Touch, Touched, UserPresence};
use parlance_model::{ConnectionId, ConversationId, LogKey, Time, UserId};

use crate::engine::{Args, Node, millis};
use crate::envelope;
use crate::keys::{PARTITIONS, user_partition};
use crate::link::{Reply, at};

/// Leases and typists that one call ends at most; the rest waits for the next sweep.
const MOST: usize = 200;

impl Node {
    async fn touched(&self, touch: &Touch, create: bool) -> Result<Reply, Fault> {
        let status = touch.status.map(|status| envelope::status_digit(status).to_string());
        let args = self
            .timed()
            .and(&touch.user)
            .and(&touch.connection)
            .and(&touch.mount)
            .and(status.unwrap_or_default())
            .and(millis(touch.deadline.since((self.options.clock)())))
            .and(touch.max)
            .and(u8::from(create));
        self.call("gw1_touch", &self.keys.presence(&touch.user), args).await
    }

    /// Takes connections whose leases ended out of their rooms.
    async fn carry_out(&self, partition: usize, endings: Vec<Reply>) -> Result<(), Fault> {
        if endings.is_empty() {
            return Ok(());
        }
        let leave = async |ending: &Reply| {
            let text = ending.text()?;
            let corrupt = || Fault::Corrupt(format!("ending {text:?}"));
            let parts: Vec<&str> = text.splitn(4, '\0').collect();
            let [user, connection, lease, place] = parts[..] else { return Err(corrupt()) };
            let log = LogKey::Conversation(ConversationId::parse(place).map_err(|_| corrupt())?);
            let args = self.timed().and(user).and(connection).and(0).and(lease).and("");
            self.call("gw1_leave", &self.keys.log(&log), args).await.map(drop)
        };
        // One that cannot be carried out stays for the next sweep, and holds up no other.
        let done = join_all(endings.iter().map(leave)).await;
        let done: Vec<&str> = endings
            .iter()
            .zip(done)
            .filter(|(_, done)| done.is_ok())
            .filter_map(|(it, _)| it.text().ok())
            .collect();
        if done.is_empty() {
            return Ok(());
        }
        self.call("gw1_ended", &[self.keys.endings(partition)], Args::none().all(done)).await.map(drop)
    }

    async fn sweep_one(&self, partition: usize) -> Result<Swept, Fault> {
        let answer = self.list("gw1_sweep", &self.keys.sweep(partition), self.timed().and(MOST)).await?;
        self.carry_out(partition, at(&answer, 2).clone().list()?).await?;
        let count = |of: &Reply| of.number().map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        Ok(Swept { leases: count(at(&answer, 0))?, typists: count(at(&answer, 1))? })
    }
}

#[async_trait]
impl Presence for Node {
    async fn touch(&self, touch: Touch) -> Result<Touched, Fault> {
        let answer = self.touched(&touch, true).await?;
        Ok(if answer.text()? == "many" { Touched::TooMany } else { Touched::Ok })
    }

    async fn refresh(&self, touches: &[Touch]) -> Result<Vec<usize>, Fault> {
        let answers = try_join_all(touches.iter().map(|touch| self.touched(touch, false))).await?;
        let missing = answers.iter().enumerate().filter(|(_, answer)| answer.text() == Ok("missing"));
        Ok(missing.map(|(index, _)| index).collect())
    }

    async fn close(&self, user: &UserId, connection: &ConnectionId) -> Result<(), Fault> {
        let args = self.timed().and(user).and(connection);
        let endings = self.list("gw1_close", &self.keys.presence(user), args).await?;
        self.carry_out(user_partition(user), endings).await
    }

    async fn sweep(&self) -> Result<Swept, Fault> {
        let all = try_join_all((0..PARTITIONS).map(|partition| self.sweep_one(partition))).await?;
        Ok(all.into_iter().fold(Swept::default(), |sum, one| Swept {
            leases: sum.leases + one.leases,
            typists: sum.typists + one.typists,
        }))
    }

    async fn status(&self, users: &[UserId]) -> Result<Vec<UserPresence>, Fault> {
        let ask = async |user: &UserId| {
            let answer = self.list("gw1_status", &self.keys.presence(user), self.timed()).await?;
            Ok::<_, Fault>(UserPresence {
                status: envelope::status(at(&answer, 0).number()?)?,
                devices: usize::try_from(at(&answer, 1).number()?).unwrap_or(usize::MAX),
                last_seen: at(&answer, 2).number().ok().map(Time),
            })
        };
        try_join_all(users.iter().map(ask)).await
    }
}
