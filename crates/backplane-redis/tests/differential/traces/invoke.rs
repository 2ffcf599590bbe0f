//! Doing a step's command on one engine, and saying what came of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use parlance_backplane::{
    Appended, Backplane, Change, Entering, Fault, Find, Leaving, Range, Reacted, Rule, Touch,
};
use parlance_model::{LogKey, Time};

use super::command::{Command, Lease, Named, Part, Place};
use super::normal::Normal;

/// One engine of a pair.
pub struct Side {
    pub nodes: Vec<Backplane>,
    pub normal: Normal,
    /// Stamps of limits, newest last.
    pub stamps: Vec<u64>,
}

/// What logs hold: the first sequence and the head.
#[derive(Default)]
pub struct Kept {
    pub logs: BTreeMap<LogKey, RangeInclusive<u64>>,
}

impl Kept {
    fn holds(&self, log: &LogKey, seq: u64) -> bool {
        self.logs.get(log).is_some_and(|kept| kept.contains(&seq))
    }
}

/// What both engines are told alike.
pub struct Moment<'a> {
    pub now: Time,
    pub kept: &'a Kept,
}

impl Moment<'_> {
    fn seq(&self, log: &LogKey, place: Place) -> u64 {
        place.within(self.kept.logs.get(log).map_or(0, |kept| *kept.end()))
    }

    fn touch(&self, lease: &Lease) -> Touch {
        Touch {
            user: lease.user.clone(),
            connection: lease.connection.clone(),
            mount: lease.mount.into(),
            status: lease.status,
            deadline: self.now + lease.life,
            heard: self.now - lease.silent,
            max: lease.max,
        }
    }
}

fn told(what: impl Debug) -> String {
    format!("{what:?}")
}

impl Side {
    /// Does it; a fault is an answer too.
    pub async fn invoke(&mut self, node: usize, command: &Command, moment: &Moment<'_>) -> String {
        let backplane = self.nodes[node].clone();
        let answer = match command {
            Command::Append(..) | Command::React { .. } | Command::Post(..) => {
                self.write(&backplane, command, moment).await
            }
            Command::Range(..)
            | Command::FindClient { .. }
            | Command::FindId(..)
            | Command::FindNumber(_)
            | Command::Standing(..) => self.read(&backplane, command, moment).await,
            Command::Assign(_) | Command::Pointers { .. } | Command::Marks(_) => {
                self.sequence(&backplane, command, moment).await
            }
            Command::Touch(_)
            | Command::Refresh(_)
            | Command::Linger(_)
            | Command::Close(..)
            | Command::Sweep
            | Command::Status(_)
            | Command::Enter { .. }
            | Command::Leave { .. }
            | Command::Present(_)
            | Command::Type { .. } => presence(&backplane, command, moment).await,
            Command::Take { .. }
            | Command::GiveBack { .. }
            | Command::Save { .. }
            | Command::Load(_)
            | Command::Remove(_)
            | Command::Subscribe(_)
            | Command::Unsubscribe(_)
            | Command::Signal(..)
            | Command::Pass(_) => self.small(&backplane, command).await,
            _ => self.conversation(&backplane, command, moment).await,
        };
        answer.unwrap_or_else(|fault| format!("fault: {fault}"))
    }

    async fn write(
        &mut self,
        on: &Backplane,
        command: &Command,
        moment: &Moment<'_>,
    ) -> Result<String, Fault> {
        let normal = &mut self.normal;
        Ok(match command {
            Command::Append(id, message) => told(match on.log.append(id, message.clone()).await? {
                Appended::New(stored) => Appended::New(normal.stored(stored)),
                Appended::Duplicate(stored) => Appended::Duplicate(normal.stored(stored)),
                other => other,
            }),
            Command::React { conversation, author, target, kind, added } => {
                let target = moment.seq(&LogKey::Conversation(conversation.clone()), *target);
                let reacted =
                    on.log.react(conversation, author.clone(), target, (*kind).into(), *added).await?;
                told(match reacted {
                    Reacted::New(stored) => Reacted::New(normal.stored(stored)),
                    Reacted::Same(stored) => Reacted::Same(stored.map(|stored| normal.stored(stored))),
                    other => other,
                })
            }
            Command::Post(log, record) => {
                told(normal.stored(on.log.post(log, record.clone(), None).await?.stored))
            }
            other => unreachable!("{other:?}"),
        })
    }

    async fn read(
        &mut self,
        on: &Backplane,
        command: &Command,
        moment: &Moment<'_>,
    ) -> Result<String, Fault> {
        let normal = &mut self.normal;
        let number = |named: &Named| match named {
            Named::Of(id) => normal.number_of(id),
            Named::Number(number) => *number,
        };
        Ok(match command {
            Command::Range(log, part) => {
                let range = match *part {
                    Part::After(place, limit) => Range::After { seq: moment.seq(log, place), limit },
                    Part::Before(place, limit) => Range::Before { seq: moment.seq(log, place), limit },
                    Part::Since(ago, limit) => Range::Since { at: Time(moment.now.millis() - ago), limit },
                };
                told(normal.page(log, on.log.range(log, range).await?))
            }
            Command::FindClient { author, id, conversation } => {
                let (author, id) = (author.clone(), (*id).into());
                let find = Find::ClientId { author, id, conversation: conversation.clone() };
                let found = on.log.find(find).await?;
                match (found, conversation) {
                    // Of two that are equally new either one may be named.
                    (Some((log, seq)), None) => {
                        let range = Range::After { seq: seq - 1, limit: 1 };
                        let page = on.log.range(&log, range).await?;
                        told(page.entries.first().filter(|entry| entry.seq == seq).map(|entry| entry.at))
                    }
                    (found, _) => told(found),
                }
            }
            Command::FindId(named, place) => {
                let log = match named {
                    Named::Of(id) => LogKey::Conversation(id.clone()),
                    Named::Number(_) => LogKey::App("none".into()),
                };
                let id = Normal::id_in(number(named), moment.seq(&log, *place));
                told(on.log.find(Find::Id(id)).await?)
            }
            Command::FindNumber(named) => told(on.log.find(Find::Number(number(named))).await?),
            Command::Standing(id, first, last) => {
                let log = LogKey::Conversation(id.clone());
                let (first, last) = (moment.seq(&log, *first), moment.seq(&log, *last));
                told(on.reactions.standing(id, first, last).await?)
            }
            other => unreachable!("{other:?}"),
        })
    }

    async fn conversation(
        &mut self,
        on: &Backplane,
        command: &Command,
        moment: &Moment<'_>,
    ) -> Result<String, Fault> {
        let normal = &mut self.normal;
        Ok(match command {
            Command::Change { id, create, only_create, kind, title, members, number, by } => {
                let change = Change {
                    id: id.clone(),
                    create: *create,
                    only_create: *only_create,
                    kind: *kind,
                    title: title.map(|title| title.map(Into::into)),
                    members: members.clone(),
                    number: *number,
                    by: by.clone(),
                };
                told(on.conversations.change(change).await?.map(|mut changed| {
                    changed.conversation = normal.conversation(changed.conversation);
                    changed
                }))
            }
            Command::Get(id) => told(on.conversations.get(id).await?.map(|found| normal.conversation(found))),
            Command::OfUser(user) => {
                let mut all = on.conversations.of_user(user).await?;
                for one in &mut all {
                    one.number = normal.number(one.number);
                    one.head = normal.head(&one.conversation, one.head);
                }
                told(all)
            }
            Command::Heads(ids) => {
                let logs: Vec<LogKey> = ids.iter().cloned().map(LogKey::Conversation).collect();
                let places: Vec<_> = on.fences.heads(&logs).await.into_iter().collect::<Result<_, _>>()?;
                let pairs = ids.iter().zip(places);
                told(pairs.map(|(id, at)| at.log().map(|head| normal.head(id, head))).collect::<Vec<_>>())
            }
            Command::Delete(id) => told(on.conversations.delete(id).await?),
            Command::Advance(id, user, kind, place) => {
                let seq = moment.seq(&LogKey::Conversation(id.clone()), *place);
                told(on.cursors.advance(id, user, *kind, seq).await?)
            }
            Command::Cursors(id) => {
                let mut standing = on.cursors.standing(std::slice::from_ref(id)).await;
                for set in standing.iter_mut().flatten() {
                    set.number = normal.number(set.number);
                }
                told((on.cursors.cursors(id).await?, standing))
            }
            other => unreachable!("{other:?}"),
        })
    }

    async fn sequence(
        &mut self,
        on: &Backplane,
        command: &Command,
        moment: &Moment<'_>,
    ) -> Result<String, Fault> {
        Ok(match command {
            Command::Assign(pointers) => {
                let pointers: Vec<_> = pointers
                    .iter()
                    .map(|(user, log, place)| (user.clone(), log.clone(), moment.seq(log, *place)))
                    // What is not in the log (any more) is nobody's to point at.
                    .filter(|(_, log, seq)| moment.kept.holds(log, *seq))
                    .collect();
                told(on.sequences.assign(&pointers).await?)
            }
            Command::Pointers { user, after, limit } => {
                let found = on.sequences.pointers(user, *after, 1000).await?;
                // Pointers to what was trimmed go sooner or later.
                let found = found.into_iter().filter(|(_, log, seq)| moment.kept.holds(log, *seq));
                told(found.take(*limit).collect::<Vec<_>>())
            }
            Command::Marks(user) => {
                let mut marks = on.sequences.marks(user).await?;
                marks.sort();
                told(marks)
            }
            other => unreachable!("{other:?}"),
        })
    }

    async fn small(&mut self, on: &Backplane, command: &Command) -> Result<String, Fault> {
        Ok(match command {
            Command::Pass(_) => String::new(),
            Command::Take { user, rule, limit, window } => {
                let rule = Rule { name: (*rule).into(), limit: *limit, window: *window };
                let mut verdict = on.limits.take(user, &rule).await?;
                if verdict.allowed {
                    self.stamps.push(verdict.stamp);
                    verdict.stamp = 0;
                }
                told(verdict)
            }
            Command::GiveBack { user, rule, back } => {
                let rule =
                    Rule { name: (*rule).into(), limit: 3, window: std::time::Duration::from_secs(60) };
                let stamp = self.stamps.iter().rev().nth(*back).copied().unwrap_or(u64::MAX);
                told(on.limits.give_back(user, &rule, stamp).await?)
            }
            Command::Save { key, value, life } => told(on.shared.save(key, value.clone(), *life).await?),
            Command::Load(key) => told(on.shared.load(key).await?),
            Command::Remove(key) => told(on.shared.remove(key).await?),
            Command::Subscribe(topics) => told(on.bus.subscribe(topics).await?),
            Command::Unsubscribe(topics) => told(on.bus.unsubscribe(topics).await?),
            Command::Signal(topic, signal) => told(on.bus.signal(topic, signal.clone()).await?),
            other => unreachable!("{other:?}"),
        })
    }
}

async fn presence(on: &Backplane, command: &Command, moment: &Moment<'_>) -> Result<String, Fault> {
    Ok(match command {
        Command::Touch(lease) => told(on.presence.touch(moment.touch(lease)).await?),
        Command::Refresh(leases) => {
            let touches: Vec<Touch> = leases.iter().map(|lease| moment.touch(lease)).collect();
            told(on.presence.refresh(&touches).await?)
        }
        Command::Linger(lease) => told(on.presence.linger(&moment.touch(lease)).await?),
        Command::Close(user, connection) => told(on.presence.close(user, connection).await?),
        Command::Sweep => told(on.presence.sweep().await?),
        Command::Status(users) => told(on.presence.status(users).await?),
        Command::Enter { rooms, author, connection, explicit } => {
            let entering = Entering {
                conversations: rooms.clone(),
                author: author.clone(),
                connection: connection.clone(),
                explicit: *explicit,
            };
            told(on.rooms.enter(entering).await?)
        }
        Command::Leave { rooms, author, connection, explicit } => {
            let leaving = Leaving {
                conversations: rooms.clone(),
                author: author.clone(),
                connection: connection.clone(),
                explicit: *explicit,
            };
            told(on.rooms.leave(leaving).await?)
        }
        Command::Present(id) => told(on.rooms.present(id).await?),
        Command::Type { conversation, author, on: typing, to } => {
            told(on.typing.set(conversation, author, *typing, to).await?)
        }
        other => unreachable!("{other:?}"),
    })
}
