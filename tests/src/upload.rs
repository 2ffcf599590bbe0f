//! A body that is sent piece by piece, as an import of members is.

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::{Response, read_body, read_head};
use crate::{API_KEY, Gateway};

/// Longer than an answer to anything else takes: a hundred thousand members are a few seconds' work.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A request whose body is under way, in chunks.
pub struct Upload {
    stream: TcpStream,
}

impl Upload {
    /// Begins an import into a conversation, with the key of the tests.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn import(gateway: &Gateway, conversation: &str) -> Result<Self> {
        Self::begin(gateway, conversation, Some(API_KEY), "application/x-ndjson").await
    }

    /// The same with another key and kind of body.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn begin(gateway: &Gateway, conversation: &str, key: Option<&str>, kind: &str) -> Result<Self> {
        let address = gateway.internal_address();
        let mut stream = TcpStream::connect(address).await?;
        let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /api/v1/conversations/{conversation}/members/import HTTP/1.1\r\nhost: {address}\r\n\
             connection: close\r\ntransfer-encoding: chunked\r\ncontent-type: {kind}\r\n{key}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(Self { stream })
    }

    /// Sends a piece of the body.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, piece: &str) -> Result<()> {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        Ok(self.stream.write_all(chunk.as_bytes()).await?)
    }

    /// Ends the body and reads the answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn finish(mut self) -> Result<Response> {
        // Whoever was refused early has an answer already, and perhaps no ear any more.
        let _ = self.stream.write_all(b"0\r\n\r\n").await;
        timeout(PATIENCE, self.answer()).await?
    }

    /// Ends what is sent in the middle, and reads what is said to that.
    ///
    /// # Errors
    /// When nothing is.
    pub async fn cut(mut self) -> Result<Response> {
        self.stream.shutdown().await?;
        timeout(PATIENCE, self.answer()).await?
    }

    async fn answer(&mut self) -> Result<Response> {
        let (head, rest) = read_head(&mut self.stream).await?;
        read_body(&mut self.stream, head, rest).await
    }
}

/// The lines that add these users.
pub fn lines(users: impl IntoIterator<Item = String>) -> String {
    users.into_iter().map(|user| format!("{{\"userId\":\"{user}\"}}\n")).collect()
}
