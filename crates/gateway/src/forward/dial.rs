//! Connecting to another node, within a bound: whoever is not there is not waited for.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

/// How long looking up the name and connecting may take together.
const CONNECT: Duration = Duration::from_secs(1);
/// A host that went without a word is noticed after about twice this.
const SILENCE: Duration = Duration::from_secs(5);

/// Connects.
#[derive(Clone)]
pub struct Dial(HttpConnector);

impl Dial {
    /// The bounds are the same for all.
    pub fn new() -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_keepalive(Some(SILENCE));
        http.set_keepalive_interval(Some(SILENCE / 4));
        http.set_keepalive_retries(Some(4));
        #[cfg(target_os = "linux")]
        http.set_tcp_user_timeout(Some(SILENCE * 2));
        Self(http)
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.0.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(connected) => connected.map_err(io::Error::other),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}
