//! Commands as an operator sends them: one connection, RESP2, one answer after the other.
//!
//! Owns: what is sent and how answers read. Must not know: which process answers.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long a server may take to do what is awaited of it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to one server.
pub struct Operator {
    stream: BufReader<TcpStream>,
}

impl Operator {
    /// Connects to a port of the loopback address.
    ///
    /// # Errors
    /// When nobody is there.
    pub async fn connect(port: u16) -> Result<Self> {
        let connect = TcpStream::connect(("127.0.0.1", port));
        let stream = tokio::time::timeout(PATIENCE, connect).await.context("no connection in time")??;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one command and returns its answer: the text of a simple one, of a list its elements, one a line.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is an error.
    pub async fn command(&mut self, words: &[&str]) -> Result<String> {
        let asked = async {
            let mut out = format!("*{}\r\n", words.len());
            for word in words {
                out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
            self.stream.get_mut().write_all(out.as_bytes()).await?;
            answer(&mut self.stream).await
        };
        tokio::time::timeout(PATIENCE, asked).await.context("no answer in time")?
    }
}

/// Asks again and again until it is so; errors are taken for "not yet".
///
/// # Errors
/// With what was awaited, and the last error, when it does not come.
pub(crate) async fn until(what: &str, mut asked: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = asked().await;
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return match last {
                Err(error) => Err(error.context(format!("waited for {what}"))),
                Ok(_) => bail!("waited in vain for {what}"),
            };
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads one answer; the elements of a list are joined by newlines.
async fn answer(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut wanted = 1usize;
    let mut parts = Vec::new();
    while wanted > 0 {
        wanted -= 1;
        let mut line = String::new();
        ensure!(stream.read_line(&mut line).await? > 0, "the connection ended");
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).context("an empty answer")?;
        match kind {
            "+" | ":" => parts.push(rest.to_owned()),
            "-" => bail!("{rest}"),
            "$" => {
                let Ok(length) = usize::try_from(rest.parse::<i64>()?) else {
                    parts.push(String::new());
                    continue;
                };
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                parts.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            "*" => wanted += usize::try_from(rest.parse::<i64>()?.max(0))?,
            _ => bail!("not an answer: {line}"),
        }
    }
    Ok(parts.join("\n"))
}
