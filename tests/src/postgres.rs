//! A PostgreSQL of the test's own: a real server in a folder of its own, on a free port of the loopback address.
//!
//! Owns: starting, killing and asking it. Must not know: what is kept in it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::port;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{PATIENCE, papers};

const USER: &str = "parlance";
/// It runs as nobody who may do everything.
const ACCOUNT: &str = "postgres";
const START: Duration = Duration::from_secs(60);

/// A running server; dropped, it is killed.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    /// Besides those that every one has.
    settings: Vec<String>,
    child: Option<Child>,
}

/// A connection to it.
struct Session {
    client: Client,
    _mover: JoinSet<()>,
}

impl Postgres {
    /// Starts one with an empty database and waits until it answers.
    ///
    /// # Errors
    /// When there is none on this machine, or it does not start.
    pub async fn start() -> Result<Self> {
        let mut server = Self::create()?;
        server.launch().await?;
        Ok(server)
    }

    /// The same with TLS, and with papers: see [`papers::write`]. Whoever logs in as `certified` has to show a certificate.
    ///
    /// # Errors
    /// When there is none on this machine, or it does not start.
    pub async fn start_with_tls() -> Result<Self> {
        let mut server = Self::create()?;
        let own = server.folder.path().join("papers");
        std::fs::create_dir(&own)?;
        papers::write(&own)?;
        std::fs::set_permissions(own.join("server.key"), Permissions::from_mode(0o600))?;
        if is_root()? {
            let given = Command::new("chown").arg("-R").arg(ACCOUNT).arg(&own).status()?;
            ensure!(given.success(), "the papers cannot be given to {ACCOUNT}");
        }
        let rules = server.data().join("pg_hba.conf");
        let shipped = std::fs::read_to_string(&rules)?;
        std::fs::write(
            &rules,
            format!("hostnossl all certified all reject\nhostssl all certified all cert\n{shipped}"),
        )?;
        server.settings = vec!["ssl=on".to_owned()];
        for (setting, paper) in [("cert", "server.pem"), ("key", "server.key"), ("ca", "ca.pem")] {
            server.settings.push(format!("ssl_{setting}_file={}", own.join(paper).display()));
        }
        server.launch().await?;
        Ok(server)
    }

    /// One of the papers of a server that has TLS.
    pub fn paper(&self, name: &str) -> String {
        self.folder.path().join("papers").join(name).display().to_string()
    }

    /// Where it is, by another login and host, with these options.
    pub fn url_as(&self, login: &str, host: &str, options: &str) -> String {
        format!("postgresql://{login}@{host}:{}/postgres?{options}", self.port)
    }

    fn create() -> Result<Self> {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let (programs, port) = (programs()?, port::free()?);
        let server = Self { programs, folder, port, settings: Vec::new(), child: None };
        if is_root()? {
            let given = Command::new("chown").arg(ACCOUNT).arg(server.folder.path()).status()?;
            ensure!(given.success(), "the folder cannot be given to {ACCOUNT}");
        }
        let mut create = server.command("initdb")?;
        create.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", USER]);
        let made = create.arg("--pgdata").arg(server.data()).output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Ok(server)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("postgresql://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills it, as `kill -9` does; what it has started ends by itself.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts it again with its data, on its port.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.launch().await
    }

    /// The first column of the first row, as a number.
    ///
    /// # Errors
    /// When it is none, or the server does not answer.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        self.number_within(sql, PATIENCE).await
    }

    /// The same of a question that may take longer.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub async fn number_within(&self, sql: &str, patience: Duration) -> Result<i64> {
        let rows = self.asked(sql, patience).await?;
        let first = rows.first().and_then(|row| row.first()).with_context(|| format!("no row: {sql}"))?;
        first.parse().with_context(|| format!("no number: {first}"))
    }

    /// All rows, as text; NULL is `-`.
    ///
    /// # Errors
    /// When the server refuses it or does not answer.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.asked(sql, PATIENCE).await
    }

    async fn asked(&self, sql: &str, patience: Duration) -> Result<Vec<Vec<String>>> {
        let session = self.session().await?;
        let answer = timeout(patience, session.client.simple_query(sql)).await??;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or("-").to_owned()).collect())
            }
            _ => None,
        };
        Ok(answer.iter().filter_map(row).collect())
    }

    /// Waits until a question has this answer.
    ///
    /// # Errors
    /// When it has another one for too long.
    pub async fn until(&self, sql: &str, expected: i64) -> Result<()> {
        let end = Instant::now() + PATIENCE * 6;
        loop {
            let found = self.number(sql).await;
            if found.as_ref().is_ok_and(|found| *found == expected) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{sql}: {found:?} instead of {expected}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn session(&self) -> Result<Session> {
        let (client, connection) = timeout(PATIENCE, tokio_postgres::connect(&self.url(), NoTls)).await??;
        let mut mover = JoinSet::new();
        mover.spawn(async move { drop(connection.await) });
        Ok(Session { client, _mover: mover })
    }

    async fn launch(&mut self) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            let mut command = self.command("postgres")?;
            command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
            // What a process wrote outlives its `kill -9`.
            for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"] {
                command.args(["-c", setting]);
            }
            for setting in &self.settings {
                command.args(["-c", setting]);
            }
            let child = self.child.insert(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
            // Right after a `kill -9` it does not start until what the one before had started is gone.
            while child.try_wait()?.is_none() {
                if tokio_postgres::connect(&url(self.port), NoTls).await.is_ok() {
                    return Ok(());
                }
                ensure!(Instant::now() < end, "PostgreSQL does not answer");
                sleep(Duration::from_millis(50)).await;
            }
            ensure!(Instant::now() < end, "PostgreSQL does not start in {}", self.folder.path().display());
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as a user that it does not refuse.
    fn command(&self, program: &str) -> Result<Command> {
        let path = self.programs.join(program);
        let mut command = if is_root()? {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nothing can be done about one that is gone already.
        drop(self.kill9());
    }
}

fn url(port: u16) -> String {
    format!("postgresql://{USER}@127.0.0.1:{port}/postgres")
}

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output()?;
    Ok(String::from_utf8_lossy(&id.stdout).trim() == "0")
}

/// Where Debian's packages have the newest release's programs, or wherever `pg_config` says.
fn programs() -> Result<PathBuf> {
    let release = |path: &PathBuf| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|entry| entry.path()).collect();
    installed.sort_by_key(release);
    let found = installed.pop().map(|path| path.join("bin")).filter(|path| path.join("initdb").exists());
    if let Some(path) = found {
        return Ok(path);
    }
    let said = Command::new("pg_config").arg("--bindir").output().context("PostgreSQL is not installed")?;
    let path = Path::new(String::from_utf8_lossy(&said.stdout).trim()).to_owned();
    ensure!(path.join("initdb").exists(), "PostgreSQL is not installed: no initdb in {}", path.display());
    Ok(path)
}
