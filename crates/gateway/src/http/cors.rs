//! Origins: which browser pages may talk to the public listener.
//!
//! A page of a foreign origin is refused outright, on WebSocket handshakes too, where browsers ask nobody.
//! Echoing an allowed origin together with credentials gives no page anybody's authority: nothing here
//! reads cookies, tokens are presented by the page itself.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use parlance_wire::engineio::Problem;
use url::Url;

use super::router::{Door, Public};
use super::{engine, reply};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");
/// Bytes of the longest list of headers that a preflight is granted as asked.
const MAX_ASKED: usize = 1024;
/// Browsers cap it at two hours.
const REMEMBER: HeaderValue = HeaderValue::from_static("7200");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset");

/// Refuses foreign origins, answers preflights and marks the answers to allowed ones.
pub async fn guard(State(public): State<Public>, request: Request, next: Next) -> Response {
    guarded(&public, request, |request| next.run(request)).await
}

/// The same, before any answer.
pub async fn guarded<F: Future<Output = Response>>(
    public: &Public,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let origin = match judge(public, request.headers(), request.uri()) {
        Ok(origin) => origin,
        Err(refusal) => return *refusal,
    };
    let mut response =
        if request.method() == Method::OPTIONS { preflight(request.headers()) } else { next(request).await };
    mark(&mut response, origin);
    response
}

/// The origin a request comes from, if it may; the answer is to be [marked](mark) with it.
///
/// # Errors
/// The answer to one of a foreign origin.
pub(super) fn judge(
    public: &Public,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Option<HeaderValue>, Box<Response>> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (origin, another) = (origins.next(), origins.next().is_some());
    let Some(origin) = origin else { return Ok(None) };
    if !another && allowed(&public.node.config.load().origins, origin, headers) {
        return Ok(Some(origin.clone()));
    }
    let mut response = if matches!(public.door(headers, uri), Some(Door::Engine(_))) {
        engine::refuse(Problem::Forbidden)
    } else {
        reply::refusal(StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED", "origin not allowed")
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    Err(Box::new(response))
}

/// Says in an answer whom it depends on, and which page may read it.
pub(super) fn mark(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Applications send headers of their own (`extraHeaders` of the stock client): an allowed origin may, they
/// mean nothing here.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, granted(asked).unwrap_or(HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBER);
    headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    response
}

/// The headers a preflight asks for, when each of them is a header's name. `*` is a name as well, but would
/// grant what was not asked for.
fn granted(asked: &HeaderMap) -> Option<HeaderValue> {
    let asked = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS)?;
    let text = asked.to_str().ok().filter(|text| text.len() <= MAX_ASKED)?;
    let named = |name: &str| name != "*" && HeaderName::from_bytes(name.as_bytes()).is_ok();
    text.split(',').all(|name| named(name.trim())).then(|| asked.clone())
}

fn allowed(list: &[String], origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    if list.iter().any(|entry| entry == "*" || entry.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    same_host(origin, host)
}

/// Whether an origin names the host a request was sent to. A proxy may end TLS, so the scheme is not
/// compared and each side's default port is left out.
fn same_host(origin: &str, host: &str) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    let Ok(host) = Url::parse(&format!("{}://{host}", origin.scheme())) else { return false };
    matches!(origin.scheme(), "http" | "https")
        && origin.host_str().is_some_and(|name| host.host_str() == Some(name))
        && origin.port_or_known_default() == host.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &[&str], origin: &str, host: &str) -> bool {
        let list: Vec<String> = list.iter().map(|o| (*o).to_owned()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        allowed(&list, &HeaderValue::from_str(origin).unwrap(), &headers)
    }

    #[test]
    fn listed_origins_the_star_and_the_own_host_pass() {
        assert!(check(&["https://app.example"], "https://app.example", "rt.example"));
        assert!(check(&["https://app.example/"], "https://APP.example", "rt.example"));
        assert!(check(&["*"], "https://any.example", "rt.example"));
        assert!(check(&["*"], "null", "rt.example"));
        assert!(check(&[], "https://rt.example", "rt.example"));
        assert!(check(&[], "https://rt.example:443", "rt.example"));
        assert!(check(&[], "http://localhost:8082", "localhost:8082"));
    }

    #[test]
    fn a_preflight_is_granted_names_of_headers_and_nothing_else() {
        let grant = |asked: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_str(asked).unwrap());
            granted(&headers).map(|value| value.to_str().unwrap().to_owned())
        };
        for good in ["x-app", "authorization,x-app", "Content-Type, X-My_App.2"] {
            assert_eq!(grant(good).as_deref(), Some(good));
        }
        for bad in ["", "*", "x-app, *", "x-app,", "x app", "x:app", "\"x\"", &"x".repeat(MAX_ASKED + 1)] {
            assert_eq!(grant(bad), None, "{bad}");
        }
        assert_eq!(granted(&HeaderMap::new()), None);
    }

    #[test]
    fn foreign_origins_do_not() {
        for (origin, host) in [
            ("https://evil.example", "rt.example"),
            ("https://rt.example.evil.example", "rt.example"),
            ("http://localhost:3000", "localhost:8082"),
            ("https://app.example.evil", "rt.example"),
            ("null", "rt.example"),
            ("", ""),
            ("file://", ""),
            ("garbage", "garbage"),
        ] {
            assert!(!check(&["https://app.example"], origin, host), "{origin} at {host}");
        }
    }
}
