//! Opens a WebSocket with small buffers. Owns: the handshake. Must not know: frames' meaning.

use std::io;

use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, http};

/// An open socket.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not an address a client can open.
    #[error("bad address: {0}")]
    Address(String),
    /// Nobody there.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// The server answered, but not with a WebSocket.
    #[error("refused with status {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// The handshake failed.
    #[error("handshake failed: {0}")]
    Handshake(String),
}

/// Connects and shakes hands.
pub(crate) async fn dial(url: &url::Url) -> Result<Socket, DialError> {
    if url.scheme() != "ws" {
        return Err(DialError::Address(format!("{}: only ws:// is spoken", url.scheme())));
    }
    let host = url.host_str().ok_or_else(|| DialError::Address("no host".to_owned()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80))).await?;
    tcp.set_nodelay(true)?;
    let request =
        url.as_str().into_client_request().map_err(|error| DialError::Address(error.to_string()))?;
    let mut config = WebSocketConfig::default();
    // Many clients in one test process: the defaults cost 128 KiB each.
    config.read_buffer_size = 4 * 1024;
    config.write_buffer_size = 0;
    match tokio_tungstenite::client_async_with_config(request, tcp, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => Err(refusal(&response)),
        Err(tungstenite::Error::Io(error)) => Err(error.into()),
        Err(error) => Err(DialError::Handshake(error.to_string())),
    }
}

fn refusal(response: &http::Response<Option<Vec<u8>>>) -> DialError {
    let status = response.status();
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let error = serde_json::from_str::<serde_json::Value>(&body)
        .ok()
        .and_then(|json| json.get("error").or(json.get("message"))?.as_str().map(str::to_owned));
    let said = error.unwrap_or_else(|| body.trim().to_owned());
    let body =
        if said.is_empty() { status.canonical_reason().unwrap_or("no reason").to_owned() } else { said };
    DialError::Refused { status: status.as_u16(), body }
}
