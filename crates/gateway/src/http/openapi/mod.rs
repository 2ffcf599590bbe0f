//! The OpenAPI documents: one of the internal listener (server API, health), one of what clients ask over plain HTTP at
//! the public one. Two, because both listeners know `GET /api/v1/conversations/{id}/messages`, with other rights.
//!
//! Owns: what the documents say beside the calls, the parts calls share. Must not know: any call.
//!
//! A document cannot drift from the router, because both come from the same lines: [`OpenApiRouter::routes`] takes a
//! handler with its `#[utoipa::path]`, makes the route of it and puts it into the document. To add a call:
//!
//! 1. Give its handler `#[utoipa::path(get, path = "…", tag = "server" or "client", operation_id = "…", responses(…))]`.
//!    The first line of its doc comment becomes the summary, the others the description. Refusals are named by the groups
//!    below ([`Calls`] for every call with a key, [`OfBody`] when it reads a body, [`NotThere`], …; clients'
//!    calls have groups of their own, beside their addresses).
//! 2. Derive `ToSchema` for its body and its answer, with the limits it enforces in `#[schema(…)]`; an id is
//!    `#[schema(value_type = Id)]`. An answer's `Option` that is always there, `null` or not, is `required = true`.
//! 3. Add `.routes(routes!(handler))` where its neighbours are: `api::described`, `history::described`, …
//! 4. `cargo xtask docs` writes `docs/api.md` anew. The suite `openapi` of the node tests then tries it by itself; what
//!    of its rules no schema can say goes into `tests/openapi/*.toml`, with the reason.

pub(super) mod client;
mod markdown;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, HeaderBuilder, ObjectBuilder, OpenApi as Document, Ref, RefOr,
    ResponseBuilder, Type, response,
};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::api::errors::{Refusal, RefusalDetail};
use super::router::wrong_method;
use super::{api, health, history, poll, reply};
use crate::node::Node;

/// An identifier: of a user, a conversation, …
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9_:.@-]{1,128}$", example = "alice")]
pub struct Id(#[allow(dead_code, reason = "the schema is all there is to it")] String);

/// A refusal that calls share.
struct Shared {
    status: &'static str,
    /// Its name among the components.
    name: &'static str,
    description: &'static str,
    /// Whether it says when to come back.
    retry: bool,
}

const fn shared(status: &'static str, name: &'static str, description: &'static str) -> Shared {
    Shared { status, name, description, retry: false }
}

const BAD_REQUEST: Shared =
    shared("400", "BadRequest", "Not JSON, an unknown or missing field, a value outside its limits");
const UNAUTHORIZED: Shared =
    shared("401", "Unauthorized", "No key or a wrong one, or the gateway has none configured");
const FORBIDDEN: Shared = shared("403", "Forbidden", "The sender is not a member of the conversation");
const NOT_THERE: Shared = shared("404", "NotFound", "What the address names is not there");
const TIMEOUT: Shared =
    shared("408", "Timeout", "The body took longer than `limits.message_ms` (as shipped 10 s) to arrive");
const CONFLICT: Shared =
    shared("409", "Conflict", "It does not go together with what is there; see the code");
const TOO_LARGE: Shared = shared(
    "413",
    "PayloadTooLarge",
    "The body is beyond `limits.http_body_bytes` (as shipped 1,000,000 bytes), or a message's text or a payload beyond \
     `limits.body_bytes` (65,536)",
);
const INTERNAL: Shared = shared("500", "InternalError", "A fault of the gateway's own; its log tells more");
const AWAY: Shared = Shared {
    status: "503",
    name: "Unavailable",
    description: "Redis or the disk is away, or maintenance is on; nothing is known to be done, and the call may be repeated",
    retry: true,
};
const SHARED: [&Shared; 9] =
    [&BAD_REQUEST, &UNAUTHORIZED, &FORBIDDEN, &NOT_THERE, &TIMEOUT, &CONFLICT, &TOO_LARGE, &INTERNAL, &AWAY];

impl Shared {
    fn response(&self) -> response::Response {
        let body = Ref::from_schema_name("Refusal");
        let mut response = ResponseBuilder::new()
            .description(self.description)
            .content("application/json", ContentBuilder::new().schema(Some(body)).build());
        if self.retry {
            response = response.header("Retry-After", retry_after());
        }
        if self.status == "401" {
            let scheme =
                HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
            response = response.header("WWW-Authenticate", scheme);
        }
        response.build()
    }
}

fn retry_after() -> utoipa::openapi::Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds until a retry makes sense")).build()
}

fn named(refusals: &[&Shared]) -> BTreeMap<String, RefOr<response::Response>> {
    let named = refusals
        .iter()
        .map(|shared| (shared.status.to_owned(), RefOr::Ref(Ref::from_response_name(shared.name))));
    named.collect()
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $($shared:ident),+;)+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<response::Response>> {
                named(&[$(&$shared),+])
            }
        }
    )+};
}

refusals! {
    /// What every call of the server API may be refused with.
    Calls: BAD_REQUEST, UNAUTHORIZED, INTERNAL, AWAY;
    /// What a call that reads a body may be refused with.
    OfBody: TIMEOUT, TOO_LARGE;
    /// It names something that may not be there.
    NotThere: NOT_THERE;
    /// It may contradict what is there.
    Conflicts: CONFLICT;
    /// It is done in the name of somebody who may not.
    NotAllowed: FORBIDDEN;
}

/// The internal listener.
#[derive(OpenApi)]
#[openapi(
    info(title = "Parlance server API", description = "What an application's backend asks of the gateway, and what \
        operators look at. It is on the internal listener (`--internal-listen`, as shipped `127.0.0.1:8083`), which never \
        stands behind the public balancer.\n\nEvery call of the server API presents one of the configured keys \
        (`--api-key`) as `Authorization: Bearer <key>`. Unknown fields and parameters are refused. A body is read as JSON \
        whatever its content type. Lengths are in characters. To a method that an \
        address does not know the answer is 405 with `Allow`, to an address that is none 404, both with the error's body. \
        Every call may be repeated when its answer was lost; where a repetition is told apart, the call says how."),
    components(schemas(Refusal, RefusalDetail, Id)),
    modifiers(&Keys),
    tags(
        (name = "server", description = "The server API; with a key"),
        (name = "node", description = "Health, metrics and these documents; without a key"),
    ),
    security(("apiKey" = [])),
)]
struct Internal;

struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_with(Components::new);
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let scheme = scheme.description(Some("One of the gateway's API keys")).build();
        components.add_security_scheme("apiKey", SecurityScheme::Http(scheme));
        for shared in SHARED {
            components.responses.insert(shared.name.to_owned(), shared.response().into());
        }
    }
}

/// The document of the internal listener.
#[must_use]
pub fn internal() -> Document {
    let mut document = Internal::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    for part in [api::described(), health::described(), described()] {
        document.merge(part.into_openapi());
    }
    document
}

/// What clients ask at the public listener over plain HTTP.
#[derive(OpenApi)]
#[openapi(
    info(title = "Parlance client HTTP", description = "What clients ask over plain HTTP at the public listener \
        (`--listen`, as shipped `0.0.0.0:8082`), with their own token. Everything else they say over WebSocket or \
        Socket.IO."),
    components(schemas(client::ClientRefusal, client::FamlyRefusal, Id)),
    modifiers(&Tokens),
    tags((name = "client", description = "History and polling; with the user's token")),
    security(("userToken" = [])),
)]
struct Public;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let scheme = scheme.description(Some("The user's token; `?token=` is as good")).build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("userToken", SecurityScheme::Http(scheme));
    }
}

/// The document of the public listener.
#[must_use]
pub fn public() -> Document {
    let mut document = Public::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    for part in [history::described(), poll::described()] {
        document.merge(part.into_openapi());
    }
    document
}

/// The documents as one Markdown page.
#[must_use]
pub fn markdown() -> String {
    markdown::page(&[&internal(), &public()])
}

/// Where the documents themselves are.
pub(super) fn described() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::default()
        .routes(routes!(of_internal).map(|route| route.fallback(wrong_method)))
        .routes(routes!(of_public).map(|route| route.fallback(wrong_method)))
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "node", operation_id = "openapi", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
async fn of_internal() -> Response {
    told(&internal())
}

/// The document of what clients ask at the public listener
#[utoipa::path(
    get, path = "/openapi-public.json", tag = "node", operation_id = "openapiPublic", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
async fn of_public() -> Response {
    told(&public())
}

fn told(document: &Document) -> Response {
    match document.to_json() {
        Ok(text) => reply::json(StatusCode::OK, text),
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document");
            reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "internal error")
        }
    }
}
