//! Stock clients: sockets of the libraries that applications use, in a process of their own.
//!
//! Owns: the process, and which report is whose. Must not know: any dialect.

mod options;
mod report;
mod socket;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

pub use options::{ConnectOptions, Transports};
pub use report::{Connected, Event, Refused, Report};
pub use socket::StockSocket;

use crate::PATIENCE;
use crate::script::{self, Script};

/// A process that opens stock sockets; killed when it and all its sockets are dropped.
pub struct Stock {
    driver: Arc<Driver>,
}

impl Stock {
    /// Starts the process of socket.io-client.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> Result<Self> {
        Self::run(script::node("driver.mjs")?)
    }

    /// Starts the process of python-socketio; `None` when there is no Python here, and the test is to end as
    /// skipped (it has been reported as such).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn python() -> Result<Option<Self>> {
        script::python("driver.py")?.map(Self::run).transpose()
    }

    fn run(command: std::process::Command) -> Result<Self> {
        let mail: Arc<Mail> = Arc::default();
        let incoming = Arc::clone(&mail);
        let script = Script::start(command, move |line| incoming.sort(line))?;
        Ok(Self { driver: Arc::new(Driver { script, mail, last: AtomicU64::new(0) }) })
    }

    /// Opens a socket at `address` (`host:port`). What comes of it is to be seen with
    /// [`StockSocket::expect_connect`] or [`StockSocket::expect_connect_error`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn connect(&self, address: &str, options: ConnectOptions) -> Result<StockSocket> {
        StockSocket::open(&self.driver, json!({ "url": options.url(address), "options": options.to_json() }))
    }

    /// Opens a further namespace over the connection of `socket` (`address` as that had it).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn connect_over(
        &self,
        socket: &StockSocket,
        address: &str,
        options: ConnectOptions,
    ) -> Result<StockSocket> {
        let (url, via) = (options.url(address), socket.id());
        StockSocket::open(
            &self.driver,
            json!({ "url": url, "via": via, "options": { "auth": options.auth_value() } }),
        )
    }
}

/// How a binary value stands in arguments.
pub fn binary(bytes: &[u8]) -> Value {
    json!({ "$binary": STANDARD.encode(bytes) })
}

/// The process, as its sockets share it.
struct Driver {
    script: Script,
    mail: Arc<Mail>,
    last: AtomicU64,
}

impl Driver {
    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn tell(&self, command: &Value) -> Result<()> {
        self.script.tell(&command.to_string())
    }

    /// Waits until `pick` finds something among a socket's reports; it takes out what it returns.
    async fn wait<T>(
        &self,
        id: &str,
        what: &str,
        mut pick: impl FnMut(&mut VecDeque<Report>) -> Option<T>,
    ) -> Result<T> {
        let mut changed = self.mail.changed.subscribe();
        let found = async {
            loop {
                changed.borrow_and_update();
                {
                    let mut boxes = self.mail.lock();
                    if let Some(found) = pick(boxes.of.entry(id.to_owned()).or_default()) {
                        return Ok(found);
                    }
                    if boxes.gone {
                        bail!("the stock client's process has ended; its log:\n{}", self.script.log());
                    }
                }
                changed.changed().await?;
            }
        };
        let in_time = timeout(PATIENCE, found).await.ok();
        in_time.with_context(|| {
            format!("no {what} in time; waiting: {:?}; log:\n{}", self.mail.waiting(id), self.script.log())
        })?
    }
}

/// What the process has reported and no test has taken yet.
struct Mail {
    boxes: Mutex<Boxes>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Boxes {
    of: HashMap<String, VecDeque<Report>>,
    gone: bool,
}

impl Default for Mail {
    fn default() -> Self {
        Self { boxes: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Mail {
    fn lock(&self) -> MutexGuard<'_, Boxes> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self, id: &str) -> Vec<Report> {
        self.lock().of.get(id).map(|reports| reports.iter().cloned().collect()).unwrap_or_default()
    }

    /// Puts a line where it belongs. A line that cannot be read ends it all: the test must not wait in vain.
    fn sort(&self, line: Option<&str>) {
        #[derive(Deserialize)]
        struct Line {
            id: String,
            #[serde(flatten)]
            report: Report,
        }
        let mut boxes = self.lock();
        match line.map(serde_json::from_str::<Line>) {
            Some(Ok(Line { id, report })) => boxes.of.entry(id).or_default().push_back(report),
            Some(Err(error)) => {
                eprintln!("not a report of a stock client ({error}): {}", line.unwrap_or_default());
                boxes.gone = true;
            }
            None => boxes.gone = true,
        }
        drop(boxes);
        self.changed.send_replace(());
    }
}
