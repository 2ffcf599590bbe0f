//! Asking other services: one HTTP client for key sets and the session verifier.
//!
//! Owns: which addresses may be asked, TLS roots, how much of an answer is read. Must not know: what is asked.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::{Host, Url};

/// An HTTP client that verifies certificates and follows no redirect.
pub(crate) struct Outbound(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Outbound {
    pub(crate) fn new() -> Result<Self, String> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|error| error.to_string())?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        self.0.request(request).await.map_err(|error| error.to_string())
    }
}

/// An answer's body, refused beyond `most` bytes.
pub(crate) async fn body(answer: Response<Incoming>, most: usize) -> Result<Bytes, String> {
    let read = Limited::new(answer.into_body(), most).collect().await;
    read.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

/// Answers decide who everybody is: only over TLS, or from the same machine. `option` is named in the error.
pub(super) fn checked(option: &str, text: &str) -> Result<Uri, String> {
    let url = Url::parse(text).map_err(|error| format!("{option}: {error}"))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return Err(format!("{option}: must be https:// (http:// only on the loopback address)")),
    }
    url.as_str().parse().map_err(|_| format!("{option}: not an address"))
}
