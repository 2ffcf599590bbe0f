//! What can go wrong, by name, and what each fault allows.
//!
//! Owns: names, topologies, allowances. Must not know: how a fault is brought about.

use serde::{Deserialize, Serialize};

use super::check::Invariant;
use super::store::Topology;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Fault { $($(#[doc = $doc])+ $variant,)+ }

        impl Fault {
            /// All of them, in the order in which a long run goes through them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As it is called on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What happens.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

faults! {
    /// Nothing goes wrong.
    Calm = "calm",
    /// A node is killed and started again.
    NodeKill = "node-kill",
    /// A node stands still for a while, then goes on.
    NodeStall = "node-stall",
    /// New nodes are started, old ones asked to stop, one after the other.
    Rolling = "rolling",
    /// A node is asked to stop while it owes an answer that does not come: it ends at its deadline.
    DrainDeadline = "drain-deadline",
    /// Redis is killed and started again on its append-only file.
    RedisKill = "redis-kill",
    /// Redis comes back with nothing.
    RedisEmpty = "redis-empty",
    /// The Redis process stands still.
    RedisStall = "redis-stall",
    /// Redis is told to answer nobody for a while.
    ClientPause = "client-pause",
    /// One node does not reach Redis.
    NodeCut = "node-cut",
    /// The subscribers' connections are killed every two seconds.
    PubsubKill = "pubsub-kill",
    /// One publication in five does not come to one of the nodes.
    DroppedFrames = "dropped-frames",
    /// A subscriber falls behind and Redis drops it.
    OutputOverrun = "output-overrun",
    /// Redis has no memory left.
    RedisFull = "redis-full",
    /// The functions in Redis are gone.
    FunctionFlush = "function-flush",
    /// The way to Redis delays and loses packets.
    PacketLoss = "packet-loss",
    /// The primary under Sentinel dies.
    SentinelFailover = "sentinel-failover",
    /// The primary under Sentinel dies; acknowledgements wait for a replica.
    SentinelFailoverWait = "sentinel-failover-wait",
    /// A primary of the cluster dies.
    ClusterFailover = "cluster-failover",
    /// A primary of the cluster dies; acknowledgements wait for a replica.
    ClusterFailoverWait = "cluster-failover-wait",
    /// A primary of the cluster is down for a while and nobody takes its place: only its partitions stop.
    ShardDown = "shard-down",
    /// Slots move between primaries.
    SlotMigration = "slot-migration",
    /// Clients fall silent without closing.
    HalfOpen = "half-open",
    /// Clients read slowly.
    SlowReaders = "slow-readers",
    /// Clients connect and are cut again and again.
    Flapping = "flapping",
    /// Every client is cut at once.
    MassDisconnect = "mass-disconnect",
    /// Five hundred sockets beside the clients are dropped at once, and all come back in the same moment.
    SocketDrop = "socket-drop",
    /// Others publish rubbish on the channels in Redis.
    Poison = "poison",
    /// A member is removed while messages flow.
    Revoked = "revoked",
    /// Tokens run out on live sockets of every node.
    TokenExpiry = "token-expiry",
    /// The clocks of two nodes are wrong by a minute, in both directions.
    ClockSkew = "clock-skew",
    /// A node has no descriptors left.
    Descriptors = "descriptors",
    /// A node dies between appending a message and answering.
    CrashAfterAppend = "crash-after-append",
    /// A node dies on the way to appending a message.
    CrashBeforeAppend = "crash-before-append",
    /// One user sends five times as much as is allowed, over all nodes.
    Flood = "flood",
    /// The archive's PostgreSQL is killed twice, and the backend that is told does not answer meanwhile.
    ArchiveKill = "archive-kill",
}

impl Fault {
    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }

    /// Where it can happen.
    pub const fn topology(self) -> Topology {
        match self {
            Self::SentinelFailover | Self::SentinelFailoverWait => Topology::Sentinel,
            Self::ClusterFailover | Self::ClusterFailoverWait | Self::SlotMigration => Topology::Cluster,
            Self::ShardDown => Topology::Shards,
            _ => Topology::Standalone,
        }
    }

    /// Whether every node reaches Redis through a proxy of its own.
    pub const fn needs_proxy(self) -> bool {
        matches!(self, Self::NodeCut | Self::PacketLoss)
    }

    /// Whether acknowledgements wait for a replica.
    pub const fn waits(self) -> bool {
        matches!(self, Self::SentinelFailoverWait | Self::ClusterFailoverWait)
    }

    /// Whether the nodes keep an archive and tell a backend that fails half of the time.
    pub const fn is_outside(self) -> bool {
        matches!(
            self,
            Self::ArchiveKill
                | Self::NodeKill
                | Self::NodeStall
                | Self::Rolling
                | Self::RedisKill
                | Self::FunctionFlush
                | Self::SentinelFailoverWait
                | Self::ClusterFailoverWait
                | Self::CrashAfterAppend
                | Self::CrashBeforeAppend
        )
    }

    /// What it allows.
    pub const fn allows(self) -> Allowance {
        let none = Allowance { acked_loss: false, redis_away: false, one_side: false, stall_ms: 0 };
        match self {
            // What was acknowledged is gone with the memory; it has to be said.
            Self::RedisEmpty => Allowance { acked_loss: true, redis_away: true, stall_ms: 5000, ..none },
            // Replication is asynchronous unless `WAIT` is asked for.
            Self::SentinelFailover | Self::ClusterFailover => {
                Allowance { acked_loss: true, redis_away: true, stall_ms: 8000, ..none }
            }
            Self::SentinelFailoverWait | Self::ClusterFailoverWait => {
                Allowance { redis_away: true, stall_ms: 8000, ..none }
            }
            Self::ShardDown | Self::RedisKill | Self::RedisStall | Self::ClientPause | Self::RedisFull => {
                Allowance { redis_away: true, stall_ms: 8000, ..none }
            }
            Self::NodeCut => Allowance { redis_away: true, one_side: true, stall_ms: 10_000, ..none },
            Self::NodeStall | Self::DrainDeadline => Allowance { one_side: true, stall_ms: 10_000, ..none },
            Self::PubsubKill
            | Self::DroppedFrames
            | Self::PacketLoss
            | Self::OutputOverrun
            | Self::FunctionFlush
            | Self::SlotMigration => Allowance { stall_ms: 4000, ..none },
            Self::Poison | Self::SocketDrop => Allowance { stall_ms: 6000, ..none },
            _ => none,
        }
    }

    /// Invariants that say nothing under it, with the reason.
    pub const fn excludes(self) -> &'static [(Invariant, &'static str)] {
        match self {
            Self::Flapping => &[(Invariant::FalseOffline, "connections come and go within a second")],
            Self::HalfOpen | Self::SlowReaders => {
                &[(Invariant::Typing, "the silent and the slow hear late by themselves")]
            }
            _ => &[],
        }
    }
}

/// What is not held against the gateway under a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Acknowledged messages may be lost, if the clients are told.
    pub acked_loss: bool,
    /// Nothing can be shared for a while: leases get the time they are given after an outage.
    pub redis_away: bool,
    /// Clients of one node hear nothing for a while.
    pub one_side: bool,
    /// How long after the fault what was held up may still arrive.
    pub stall_ms: u64,
}

impl Allowance {
    /// What both allow.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            acked_loss: self.acked_loss || other.acked_loss,
            redis_away: self.redis_away || other.redis_away,
            one_side: self.one_side || other.one_side,
            stall_ms: self.stall_ms.max(other.stall_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn names_are_unique_and_found() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.name()), Some(*fault));
        }
        assert_eq!(Fault::parse("nonsense"), None);
    }
}
