//! A service the gateway asks over HTTP: its answer can be changed, what it was asked can be read.
//!
//! Must not know: what it stands for.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct State {
    answer: String,
    asked: Vec<String>,
}

/// A running service; it ends with the test's runtime.
pub struct Remote {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Remote {
    /// Starts one on a free port.
    #[expect(clippy::disallowed_methods, reason = "the service lives as long as the test's runtime")]
    pub async fn start(status: u16, body: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let remote = Self { address: listener.local_addr()?.to_string(), state: Arc::default() };
        remote.answer(status, body);
        let state = Arc::clone(&remote.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                // Whoever breaks off gets no answer, and the test sees that.
                tokio::spawn(async move { serve(stream, &state).await.ok() });
            }
        });
        Ok(remote)
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Changes what is answered from now on.
    pub fn answer(&self, status: u16, body: &str) {
        lock(&self.state).answer = format!(
            "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    /// The requests so far, head and body.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    let mut bytes = Vec::new();
    while !is_whole(&bytes) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let answer = {
        let mut state = lock(state);
        state.asked.push(String::from_utf8_lossy(&bytes).into_owned());
        state.answer.clone()
    };
    stream.write_all(answer.as_bytes()).await?;
    Ok(())
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    body.len() >= length.unwrap_or(0)
}
