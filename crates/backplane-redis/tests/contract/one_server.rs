//! The contract suite against the Redis engine, on servers of the tests' own.

use std::sync::Arc;

use crate::rig::RedisRig;
use parlance_redis_rig::{Kind, Server, Setup};

fn on(server: Arc<Server>) -> RedisRig {
    RedisRig::on(server.url(), server)
}

mod standalone {
    use std::sync::Arc;

    use super::{Server, on};

    parlance_backplane::contract_tests!(async { on(Arc::new(Server::standalone().await.unwrap())) });
}

/// The same, where every call that touches more than one slot is refused.
mod one_slot_at_a_time {
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    use tokio::sync::Mutex;

    use super::{Kind, Server, Setup, on};

    /// A cluster takes seconds before it answers: tests that run at the same time share one, each under its prefix.
    async fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Server::start(Setup::new(Kind::Cluster)).await.unwrap());
        server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
        while server.command(&["SET", "ready", "1"]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        *shared = Arc::downgrade(&server);
        server
    }

    parlance_backplane::contract_tests!(async { on(shared().await) });
}
