//! A request's head before anything looks at what it asks for: what two readers could understand differently is
//! refused, so that nothing gets past a proxy under cover.
//!
//! Owns: RFC 9112, sections 3.2 and 6, where hyper is lenient (of a length beside chunks it takes the chunks, as it says
//! there, and ends the connection). Must not know: addresses, answers of endpoints.

use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};
use axum::response::Response;

use super::reply;

/// Status, code and text of a refusal.
type Flaw = (StatusCode, &'static str, &'static str);

const fn bad(text: &'static str) -> Flaw {
    (StatusCode::BAD_REQUEST, "BAD_REQUEST", text)
}

/// Brings the target into one form, or refuses the request. The connection ends with a refusal: where the next
/// request would begin is not sure.
pub fn settle<B>(request: &mut Request<B>) -> Result<(), Box<Response>> {
    let flaw = match check(request.headers(), request.version()) {
        Ok(()) => return origin_form(request).map_err(|flaw| Box::new(refusal(flaw))),
        Err(flaw) => flaw,
    };
    Err(Box::new(refusal(flaw)))
}

fn refusal((status, code, text): Flaw) -> Response {
    let mut response = reply::refusal(status, code, text);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn check(headers: &HeaderMap, version: Version) -> Result<(), Flaw> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => return Err(bad("the Host header is missing")),
        (Some(host), None) if !is_host(host) => return Err(bad("the Host header names no host")),
        (_, Some(_)) => return Err(bad("there is more than one Host header")),
        _ => {}
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(bad("chunked is the only transfer coding, and applied once"));
    }
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        let text = "bodies are taken as they are, not compressed";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", text));
    }
    Ok(())
}

/// A host and perhaps a port; nothing at all is allowed as well (RFC 9110, 7.2).
fn is_host(value: &HeaderValue) -> bool {
    let host = value.as_bytes();
    host.is_empty() || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
}

/// A target that names a host goes before the `Host` header (RFC 9112, 3.2.2): from here on there is only the header.
fn origin_form<B>(request: &mut Request<B>) -> Result<(), Flaw> {
    let Some(authority) = request.uri().authority().cloned() else { return Ok(()) };
    // A tunnel is asked for, to a host alone: there are none, whatever answers.
    let Some(target) = request.uri().path_and_query().cloned() else { return Ok(()) };
    let host = HeaderValue::from_str(authority.as_str()).ok().filter(is_host);
    let host = host.ok_or_else(|| bad("the target names no host"))?;
    request.headers_mut().insert(header::HOST, host);
    *request.uri_mut() = bare(target).ok_or_else(|| bad("the target is malformed"))?;
    Ok(())
}

fn bare(target: PathAndQuery) -> Option<Uri> {
    Uri::builder().path_and_query(target).build().ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn settled(target: &str, headers: &[(&str, &str)]) -> Result<(String, String), u16> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        settle(&mut request).map_err(|response| response.status().as_u16())?;
        let host = request.headers()[header::HOST].to_str().unwrap().to_owned();
        Ok((host, request.uri().to_string()))
    }

    #[test]
    fn a_target_with_a_host_goes_before_the_header() {
        for (target, host, bare) in [
            ("/ws?a=b", "a.example", "/ws?a=b"),
            ("http://b.example/ws?a=b", "b.example", "/ws?a=b"),
            ("http://b.example:8082", "b.example:8082", "/"),
            ("ws://[::1]:80//x", "[::1]:80", "//x"),
        ] {
            let settled = settled(target, &[("host", "a.example")]);
            assert_eq!(settled, Ok((host.to_owned(), bare.to_owned())), "{target}");
        }
        assert_eq!(settled("http://user@b.example/", &[("host", "a.example")]), Err(400));
    }

    #[test]
    fn heads_that_can_be_read_in_two_ways_are_refused() {
        let host = ("host", "a.example");
        for (headers, status) in [
            (vec![], 400),
            (vec![host, host], 400),
            (vec![("host", "a b")], 400),
            (vec![("host", "u@a")], 400),
            (vec![host, ("transfer-encoding", "gzip, chunked")], 400),
            (vec![host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], 400),
            (vec![host, ("content-encoding", "gzip")], 415),
            (vec![host, ("content-encoding", "identity"), ("content-encoding", "br")], 415),
        ] {
            assert_eq!(settled("/", &headers), Err(status), "{headers:?}");
        }
        for headers in [
            vec![host, ("transfer-encoding", "Chunked")],
            vec![("host", "")],
            vec![host, ("content-encoding", "identity")],
        ] {
            assert!(settled("/", &headers).is_ok(), "{headers:?}");
        }
    }
}
