//! A TCP connection on which a test says what no client library would say: bytes as they are, whole or cut, and
//! whatever comes back.
//!
//! Must not know: the gateway, what is asked of it.

use std::io::ErrorKind;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::http::Response;

/// A connection.
pub struct Raw {
    stream: TcpStream,
    /// What came and belongs to no answer yet.
    bytes: Vec<u8>,
}

impl Raw {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.context("connecting")??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, bytes: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When they are not taken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.context("nothing is taken")??;
        Ok(())
    }

    /// Sends bytes and reads one answer. An answer that comes before everything is sent is one, too.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Result<Response> {
        let bytes = bytes.as_ref();
        let headless = bytes.starts_with(b"HEAD ");
        let (mut reads, mut writes) = self.stream.split();
        let asked = async {
            // The rest is not wanted by whoever has answered already.
            let sent = writes.write_all(bytes).await;
            sent.or_else(|error| if is_cut(&error) { Ok(()) } else { Err(error) })
        };
        let mut come = std::mem::take(&mut self.bytes);
        let answered = read_answer(&mut reads, &mut come, headless);
        let both = async {
            tokio::pin!(asked, answered);
            tokio::select! {
                sent = &mut asked => { sent?; answered.await }
                answer = &mut answered => answer,
            }
        };
        let answer = timeout(PATIENCE, both).await.context("no answer in time")?;
        self.bytes = come;
        answer
    }

    /// The next answer.
    ///
    /// # Errors
    /// When there is no whole one in time.
    pub async fn answer(&mut self) -> Result<Response> {
        let read = read_answer(&mut self.stream, &mut self.bytes, false);
        timeout(PATIENCE, read).await.context("no answer in time")?
    }

    /// Waits for bytes, at most `most`, and returns how many came; 0 is the end.
    ///
    /// # Errors
    /// When nothing comes in time.
    pub async fn read(&mut self, most: usize) -> Result<usize> {
        let mut some = vec![0; most];
        match timeout(PATIENCE, self.stream.read(&mut some)).await.context("neither bytes nor an end")? {
            Err(error) if is_cut(&error) => Ok(0),
            read => Ok(read?),
        }
    }

    /// Waits for the end of the connection; what comes before it is returned.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self) -> Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.bytes);
        let end = async {
            loop {
                match self.stream.read_buf(&mut rest).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if is_cut(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        timeout(PATIENCE, end).await.context("the connection does not end")??;
        Ok(rest)
    }

    /// Ends this side; the other may go on.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// Cuts the connection without a farewell.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn reset(self) -> Result<()> {
        Ok(self.stream.set_zero_linger()?)
    }
}

fn is_cut(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

/// Reads the next answer that is not interim; what follows it stays in `bytes`.
async fn read_answer(
    stream: &mut (impl AsyncReadExt + Unpin),
    bytes: &mut Vec<u8>,
    headless: bool,
) -> Result<Response> {
    loop {
        if let Some((answer, end)) = parse(bytes, headless)? {
            bytes.drain(..end);
            if answer.status != 100 {
                return Ok(answer);
            }
            continue;
        }
        let read = stream.read_buf(bytes).await;
        let said = || String::from_utf8_lossy(bytes).into_owned();
        match read {
            Ok(0) => bail!("the connection ended without a whole answer: {:?}", said()),
            Ok(_) => {}
            Err(error) => bail!("{error} before a whole answer: {:?}", said()),
        }
    }
}

/// An answer and where it ends, when it is there whole.
fn parse(bytes: &[u8], headless: bool) -> Result<Option<(Response, usize)>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(bytes.get(..head).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    ensure!(first.starts_with("HTTP/1."), "no status line: {first:?}");
    let status: u16 = first.split(' ').nth(1).context("no status")?.parse()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let mut answer = Response { status, headers, body: String::new() };
    ensure!(answer.header("transfer-encoding").is_none(), "answers are small enough to have a length");
    let bare = headless || status < 200 || matches!(status, 204 | 304);
    let length = answer.header("content-length").filter(|_| !bare).map_or(Ok(0), str::parse)?;
    let Some(body) = bytes.get(head + 4..head + 4 + length) else { return Ok(None) };
    answer.body = String::from_utf8_lossy(body).into_owned();
    Ok(Some((answer, head + 4 + length)))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::Raw;

    #[tokio::test]
    async fn answers_are_told_apart_and_an_end_is_one() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            let two = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}\
                       HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\nrest";
            for byte in two.bytes() {
                stream.write_all(&[byte]).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let client = async {
            let mut raw = Raw::connect(&address).await?;
            let first = raw.answer().await?;
            assert_eq!((first.status, first.body.as_str()), (200, "{}"));
            assert_eq!(raw.answer().await?.status, 404);
            assert_eq!(raw.ended().await?, b"rest");
            assert!(raw.answer().await.is_err(), "an end is no answer");
            Ok::<_, anyhow::Error>(())
        };
        tokio::try_join!(server, client)?;
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_is_read_although_the_question_is_not() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n").await?;
            Ok::<_, anyhow::Error>(stream)
        };
        let client = async { Raw::connect(&address).await?.ask(vec![b'x'; 32 * 1024 * 1024]).await };
        let (_stream, answer) = tokio::try_join!(server, client)?;
        assert_eq!(answer.status, 413);
        Ok(())
    }
}
