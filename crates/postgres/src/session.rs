//! One connection.

use std::ops::{Deref, DerefMut};

use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::{Refused, address};

/// A connection; ends when it is dropped.
pub struct Session {
    client: Client,
    /// What moves its bytes; ends with it.
    _mover: JoinSet<()>,
}

impl Session {
    /// Connects; `name` is what the server shows of it (`application_name`), unless the address says another.
    ///
    /// # Errors
    /// [`Refused::Away`], also for an address that is none, and for a server that is not who the address wants.
    pub async fn connect(address: &str, name: &str) -> Result<Self, Refused> {
        let target = address::parse(address, name).map_err(Refused::Away)?;
        let tls = target.tls.connector().map_err(Refused::Away)?;
        let (client, connection) = target.config.connect(tls).await?;
        let mut mover = JoinSet::new();
        mover.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to PostgreSQL ended");
            }
        });
        let encoding = client.query_one("SHOW server_encoding", &[]).await?;
        let encoding: String = encoding.try_get(0)?;
        if encoding != "UTF8" {
            return Err(Refused::Away(format!("the database's encoding is {encoding}: it has to be UTF8")));
        }
        Ok(Self { client, _mover: mover })
    }
}

/// A transaction whose client is gone, or that waits for a lock longer than anybody waits for it, ends, and lets others go on.
/// No limit on statements: one that ends a wait for a synchronous standby would pass for a success.
const BOUNDED: &str = "SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = '4s';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SELECT set_config('client_connection_check_interval', '5s', false)
        WHERE current_setting('server_version_num')::int >= 140000;";

impl Session {
    /// Has the server end soon what this session has begun and nobody waits for any more.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn bound(&self) -> Result<(), Refused> {
        Ok(self.client.batch_execute(BOUNDED).await?)
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
