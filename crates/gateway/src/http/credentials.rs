//! Where a request carries its token, and whom it names.
//!
//! Owns: finding the token, and counting refused ones. Must not know: what a good token looks like (`auth`),
//! what the request is for.

use std::sync::Arc;

use axum::http::header;
use axum::http::request::Parts;
use parlance_model::{Identity, Reject};

use crate::auth::AuthError;
use crate::node::Node;
use crate::orders;

/// Whom the request's token names; `subjects` are the claims that may, in order.
pub async fn identify(node: &Node, parts: &Parts, subjects: &[String]) -> Result<Arc<Identity>, Reject> {
    verify(node, token(parts).as_deref(), subjects).await
}

/// Whom a token names; none is refused as missing.
pub async fn verify(node: &Node, token: Option<&str>, subjects: &[String]) -> Result<Arc<Identity>, Reject> {
    let identity = read(node, token, subjects).await?;
    check(node, &identity).await?;
    Ok(identity)
}

/// Whom a token says it names: nothing may be told before [`check`].
pub async fn read(node: &Node, token: Option<&str>, subjects: &[String]) -> Result<Arc<Identity>, Reject> {
    let auth = node.auth.load_full();
    auth.verify(token.unwrap_or_default(), subjects).await.map_err(|error| refused(node, error))
}

/// Whether a token that was read stands: it may have been revoked.
pub async fn check(node: &Node, identity: &Identity) -> Result<(), Reject> {
    orders::check(node, identity).await.map_err(|error| refused(node, error))
}

fn refused(node: &Node, error: AuthError) -> Reject {
    node.metrics.token_failure(&error);
    error.into()
}

/// `?token=`, else `Authorization: Bearer`. An empty one is none.
pub fn token(parts: &Parts) -> Option<String> {
    let query = parts.uri.query().unwrap_or_default();
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    let asked = asked.map(|(_, value)| value.into_owned()).filter(|token| !token.trim().is_empty());
    asked.or_else(|| {
        let header = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = header.trim().split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;

    use super::*;

    fn parts(uri: &str, authorization: Option<&str>) -> Parts {
        let mut request = Request::builder().uri(uri);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Body::empty()).unwrap().into_parts().0
    }

    #[test]
    fn a_token_is_taken_from_the_query_or_the_header() {
        for (uri, authorization, expected) in [
            ("/ws?token=a.b", None, Some("a.b")),
            ("/ws?x=1&token=a%2Eb", Some("Bearer c"), Some("a.b")),
            ("/ws?token=", Some("bearer  c "), Some("c")),
            ("/ws?token=%20", None, None),
            ("/ws", Some("Basic c"), None),
            ("/ws", Some("Bearer "), None),
            ("/ws?xtoken=a", None, None),
        ] {
            assert_eq!(token(&parts(uri, authorization)).as_deref(), expected, "{uri} {authorization:?}");
        }
    }
}
