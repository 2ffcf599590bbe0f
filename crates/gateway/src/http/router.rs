//! Which request goes where.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};

use super::{api, cors, health, history, reply, upgrade};
use crate::config::Mount;
use crate::node::Node;

/// What the public listener serves.
#[derive(Clone)]
pub struct Public {
    pub node: Arc<Node>,
    mounts: Arc<[Arc<Mount>]>,
}

impl Public {
    /// The mount at a path. One of this host goes before one of every host, whatever their order.
    fn mount(&self, host: &str, path: &str) -> Option<Arc<Mount>> {
        let here = || self.mounts.iter().filter(|m| m.path == path);
        let own = |m: &&Arc<Mount>| m.host.as_deref().is_some_and(|h| h.eq_ignore_ascii_case(host));
        here().find(own).or_else(|| here().find(|m| m.host.is_none())).cloned()
    }
}

/// The public listener. Mounts are matched by hand: they depend on the host too, and a path from the
/// configuration must not be able to break the router.
pub fn public(node: &Arc<Node>) -> Router {
    let mounts = node.config.load().mounts.iter().cloned().map(Arc::new).collect();
    let state = Public { node: node.clone(), mounts };
    Router::new()
        .route("/livez", get(health::live).fallback(wrong_method))
        .merge(history::router(node))
        .fallback(mounted)
        .layer(middleware::from_fn_with_state(node.clone(), cors::guard))
        .with_state(state)
}

/// The internal listener.
pub fn internal(node: &Arc<Node>) -> Router {
    Router::new()
        .route("/livez", get(health::live).fallback(wrong_method))
        .route("/readyz", get(health::ready).fallback(wrong_method))
        .route("/metrics", get(health::metrics).fallback(wrong_method))
        .with_state(node.clone())
        .merge(api::router(node))
        .fallback(api::nothing_here)
}

async fn mounted(State(public): State<Public>, request: Request) -> Response {
    match public.mount(&host(&request), request.uri().path()) {
        Some(mount) => upgrade::handle(&public.node, mount, request).await,
        None => nothing_here().await,
    }
}

fn host(request: &Request) -> String {
    let header = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    let host = header.or_else(|| request.uri().host()).unwrap_or_default();
    let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.rfind(':') };
    host.get(..end.unwrap_or(host.len())).unwrap_or_default().to_owned()
}

async fn nothing_here() -> Response {
    reply::refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this address")
}

/// The answer of an address that only knows GET.
pub(super) async fn wrong_method() -> Response {
    let mut response = reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "use GET");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn the_host_is_taken_without_its_port() {
        for (header, expected) in
            [("a.example", "a.example"), ("a.example:8082", "a.example"), ("[::1]:8082", "[::1]"), ("", "")]
        {
            let request = Request::builder().header(header::HOST, header).body(Body::empty()).unwrap();
            assert_eq!(host(&request), expected);
        }
    }
}
