//! Who takes part: users, their devices and dialects, conversations and members, all from the seed.

use std::collections::BTreeMap;

use parlance_client::{Dialect, Framing};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::Transports;

/// Users of the stock socket.io-client; one polls all the time, the other begins by polling.
const STOCK: [(&str, Transports); 2] = [("poller", Transports::Polling), ("climber", Transports::Upgrade)];
/// The dialects, in the order in which users get them.
const DIALECTS: [Dialect; 5] =
    [Dialect::Sechat, Dialect::Socialhub, Dialect::Famly, Dialect::Lingochat, Dialect::Chatgenius];

/// One client.
#[derive(Debug, Clone)]
pub struct Role {
    /// Whose it is.
    pub user: String,
    /// Names its file: the user and a number.
    pub name: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// What carries it.
    pub framing: Framing,
    /// Its user's conversations.
    pub conversations: Vec<String>,
    /// Between two of its messages, on average, in milliseconds.
    pub pause_ms: u64,
    /// Its cable is cut early on, without a word and for good.
    pub leaves: bool,
    /// For what it decides by chance.
    pub seed: u64,
    /// It is the stock socket.io-client, over these transports.
    pub stock: Option<Transports>,
}

/// Everybody.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The clients.
    pub roles: Vec<Role>,
    /// Members of each conversation.
    pub conversations: BTreeMap<String, Vec<String>>,
}

/// How large a plan is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Users; the dialects are spread over them.
    pub users: usize,
    /// Conversations.
    pub conversations: usize,
    /// Whether somebody leaves without a word.
    pub leaver: bool,
}

impl Plan {
    /// Draws one.
    pub fn draw(seed: u64, size: Size) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let users: Vec<String> = (0..size.users).map(|n| format!("user{n}")).collect();
        let mut conversations = BTreeMap::new();
        for n in 0..size.conversations {
            let mut order = users.clone();
            order.shuffle(&mut dice);
            let count = (size.users * 2 / 3).max(2);
            order.truncate(count);
            // Nobody is left without a conversation: each user's own one has them.
            order.extend(users.iter().skip(n).step_by(size.conversations).cloned());
            order.sort();
            order.dedup();
            // Digits: then every dialect calls it the same.
            conversations.insert((1001 + n).to_string(), order);
        }
        if size.leaver
            && let Some(members) = conversations.values_mut().next()
        {
            members.push("leaver".to_owned());
        }
        // Users of the stock client, behind everybody else: what those draw does not change.
        for (members, (user, _)) in conversations.values_mut().zip(STOCK.iter().cycle()) {
            members.push((*user).to_owned());
        }
        let of = |user: &str| -> Vec<String> {
            let mine = conversations.iter().filter(|(_, members)| members.iter().any(|m| m == user));
            mine.map(|(id, _)| id.clone()).collect()
        };
        let mut roles = Vec::new();
        for (n, user) in users.iter().enumerate() {
            let dialect = DIALECTS[n % DIALECTS.len()];
            let mut role = role(user, 0, dialect, of(user), dice.random());
            if n == DIALECTS.len() && dialect == Dialect::Sechat {
                role.framing = Framing::Socketio;
            }
            roles.push(role);
            // A second device in another dialect.
            if n == 2 {
                roles.push(self::role(user, 1, Dialect::Socialhub, of(user), dice.random()));
            }
        }
        if size.leaver {
            let mut role = role("leaver", 0, Dialect::Socialhub, of("leaver"), dice.random());
            role.leaves = true;
            roles.push(role);
        }
        for (user, transports) in STOCK {
            let mut role = role(user, 0, Dialect::Famly, of(user), dice.random());
            role.stock = Some(transports);
            roles.push(role);
        }
        Self { roles, conversations }
    }
}

fn role(user: &str, device: usize, dialect: Dialect, conversations: Vec<String>, seed: u64) -> Role {
    let framing = if dialect.speaks(Framing::Raw) { Framing::Raw } else { Framing::Socketio };
    // Famly lets ten messages through in ten seconds: the load is to stay below.
    let pause_ms = if dialect == Dialect::Famly { 2500 } else { 1200 };
    let name = format!("{user}-{device}");
    let user = user.to_owned();
    Role { user, name, dialect, framing, conversations, pause_ms, leaves: false, seed, stock: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { users: 10, conversations: 4, leaver: true };

    #[test]
    fn a_seed_draws_the_same_plan_and_another_seed_another() {
        let drawn = |seed| format!("{:?}", Plan::draw(seed, SIZE));
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn every_dialect_takes_part_and_nobody_is_alone() {
        let plan = Plan::draw(1, SIZE);
        for dialect in DIALECTS {
            assert!(plan.roles.iter().filter(|role| role.dialect == dialect).count() >= 2);
        }
        assert!(plan.roles.iter().all(|role| !role.conversations.is_empty()));
        assert_eq!(plan.roles.iter().filter(|role| role.leaves).count(), 1);
    }
}
