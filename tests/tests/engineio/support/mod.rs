//! Engine.IO by hand: HTTP requests and WebSockets as a test wants them, at our framing layer and at the
//! reference.
//!
//! Must not know: what is tested with it.

pub mod ws;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::http::read_head;
use parlance_tests::{Gateway, PATIENCE, Reference};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The protocol suite's timings.
pub const PING_INTERVAL: Duration = Duration::from_millis(300);
pub const PING_TIMEOUT: Duration = Duration::from_millis(200);
pub const SEPARATOR: char = '\u{1e}';

/// A server under test.
pub enum Server {
    Ours(Echo),
    Reference(Reference),
    Gateway(Box<Gateway>),
}

/// The echo example as a process; dropped, it is killed.
pub struct Echo {
    address: String,
    child: Child,
}

impl Echo {
    /// Starts it with further flags.
    pub fn start(flags: &[&str]) -> Result<Self> {
        let mut child = Command::new(binary()?)
            .args(["--listen", "127.0.0.1:0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("ready ").context("the echo server is not ready")?.to_owned();
        Ok(Self { address, child })
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `target/<profile>/examples/echo`, built if it is not there.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.ancestors().nth(2).context("the test lies outside a target folder")?;
    let binary = profile.join(format!("examples/echo{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--package", "parlance-gateway", "--example", "echo"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "the echo example could not be built");
    }
    Ok(binary)
}

impl Server {
    pub fn address(&self) -> &str {
        match self {
            Self::Ours(echo) => echo.address(),
            Self::Reference(reference) => reference.address(),
            Self::Gateway(gateway) => gateway.address(),
        }
    }

    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    /// The URL of the Engine.IO endpoint for that transport, with a session's id or none.
    pub fn path(&self, transport: &str, sid: Option<&str>) -> String {
        let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        format!("/engine.io/?EIO=4&transport={transport}{sid}")
    }

    /// Opens a polling session and returns its id.
    pub async fn open(&self) -> Result<String> {
        let answer = self.get(&self.path("polling", None)).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let open: Value = serde_json::from_str(answer.text()?.strip_prefix('0').context("no open packet")?)?;
        Ok(open["sid"].as_str().context("no sid")?.to_owned())
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Ask { path, ..Ask::default() }).await
    }

    pub async fn poll(&self, sid: &str) -> Result<Answer> {
        self.get(&self.path("polling", Some(sid))).await
    }

    pub async fn post(&self, sid: &str, body: &str) -> Result<Answer> {
        let path = self.path("polling", Some(sid));
        self.ask(Ask { method: "POST", path: &path, body: body.as_bytes(), ..Ask::default() }).await
    }

    pub async fn ask(&self, ask: Ask<'_>) -> Result<Answer> {
        timeout(PATIENCE, ask.send(self.address()))
            .await
            .with_context(|| format!("{}: no answer", ask.path))?
    }

    /// A request that was sent and whose answer is not awaited; dropped, it is cancelled.
    pub async fn begin(&self, ask: Ask<'_>) -> Result<Pending> {
        let mut stream = TcpStream::connect(self.address()).await?;
        stream.write_all(&ask.bytes(self.address())).await?;
        Ok(Pending(stream))
    }

    /// Begins a poll. That it has arrived shows nowhere; it is given a moment to.
    pub async fn begin_poll(&self, sid: &str) -> Result<Pending> {
        let poll = self.begin(Ask { path: &self.path("polling", Some(sid)), ..Ask::default() }).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok(poll)
    }

    /// Begins a POST whose body is to go on, and waits until the server has begun to read it.
    pub async fn begin_post(&self, sid: &str, part: &str, length: usize) -> Result<Pending> {
        let path = self.path("polling", Some(sid));
        let headers = [("expect", "100-continue")];
        let post =
            Ask { method: "POST", path: &path, headers: &headers, length: Some(length), ..Ask::default() };
        let mut post = self.begin(post).await?;
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            let came =
                timeout(PATIENCE, post.0.read_buf(&mut read)).await.context("the body is not read")??;
            ensure!(came > 0, "the connection ended");
        }
        ensure!(read.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&read));
        post.send(part.as_bytes()).await?;
        Ok(post)
    }

    /// How many sessions our server has; waits until there are `count`.
    pub async fn settle(&self, count: usize) -> Result<()> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.get("/sessions").await?.ok()?;
            if now == count.to_string() {
                return Ok(());
            }
            ensure!(tokio::time::Instant::now() < end, "{now} sessions, not {count}");
        }
    }
}

/// A request under way.
pub struct Pending(TcpStream);

impl Pending {
    pub async fn answer(mut self) -> Result<Answer> {
        timeout(PATIENCE, Answer::read(&mut self.0)).await.context("no answer")?
    }

    /// Sends more of the body.
    pub async fn send(&mut self, more: &[u8]) -> Result<()> {
        self.0.write_all(more).await?;
        Ok(())
    }
}

/// A request.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    /// Another length than the body's, for a body that is to be continued.
    pub length: Option<usize>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { method: "GET", path: "/", headers: &[], body: b"", length: None }
    }
}

impl Ask<'_> {
    fn bytes(&self, address: &str) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n", self.method, self.path);
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", self.length.unwrap_or(self.body.len())));
        }
        [head.as_bytes(), b"\r\n", self.body].concat()
    }

    async fn send(&self, address: &str) -> Result<Answer> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&self.bytes(address)).await?;
        Answer::read(&mut stream).await
    }
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    async fn read(stream: &mut TcpStream) -> Result<Self> {
        let (head, mut body) = read_head(stream).await?;
        stream.read_to_end(&mut body).await?;
        let mut answer = Self { status: head.status, headers: head.headers, body };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = dechunk(&answer.body)?;
        }
        let length = answer.header("content-length").map(str::parse::<usize>).transpose()?;
        ensure!(length.is_none_or(|length| length == answer.body.len()), "a body that is cut short");
        Ok(answer)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    /// The body of a good answer.
    pub fn ok(self) -> Result<String> {
        ensure!(self.status == 200, "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        Ok(String::from_utf8(self.body)?)
    }

    pub fn code(&self) -> Result<Value> {
        let body: Value = serde_json::from_slice(&self.body)?;
        Ok(body["code"].clone())
    }
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").context("no chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        if size == 0 {
            return Ok(out);
        }
        out.extend_from_slice(rest.get(end + 2..end + 2 + size).context("a chunk cut short")?);
        rest = &rest[end + size + 4..];
    }
}

/// Our server with the suite's timings.
pub fn ours(flags: &[&str]) -> Result<Server> {
    Ok(Server::Ours(Echo::start(flags)?))
}

/// Our server and the reference, with the suite's timings or with slow ones that stay out of the way.
pub async fn both(timing: Timing) -> Result<Vec<Server>> {
    let (interval, patience) = match timing {
        Timing::Suite => (PING_INTERVAL.as_millis(), PING_TIMEOUT.as_millis()),
        Timing::Calm => (25_000, 20_000),
    };
    let flags = ["--ping-interval", &interval.to_string(), "--ping-timeout", &patience.to_string()];
    let options = json!({ "pingInterval": interval as u64, "pingTimeout": patience as u64 });
    Ok(vec![ours(&flags)?, Server::Reference(Reference::engine(options).await?)])
}

#[derive(Clone, Copy)]
pub enum Timing {
    Suite,
    Calm,
}

/// Fails with the name of the server.
pub fn at<T>(server: &Server, result: Result<T>) -> Result<T> {
    result.with_context(|| if server.is_ours() { "at our server" } else { "at the reference" })
}

/// Waits for a process-wide condition.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await? {
        if tokio::time::Instant::now() > end {
            bail!("{what}: not in time");
        }
    }
    Ok(())
}
