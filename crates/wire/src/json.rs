//! Reading client JSON with clear refusals, and made-up ids; shared by the dialects.

use std::borrow::Cow;

use parlance_model::{RawJson, Reject, RejectCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use crate::codec::Context;

/// A JSON object's members, values unread. The last of two members with one name wins.
pub(crate) type Object<'a> = std::collections::BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Reads one JSON object, at most `max_depth` containers deep.
pub(crate) fn object(text: &str, max_depth: usize) -> Result<Object<'_>, Reject> {
    if RawJson::depth_of(text) > max_depth {
        return Err(Reject::new(RejectCode::Malformed, "JSON is nested too deeply"));
    }
    serde_json::from_str(text).map_err(|_| Reject::new(RejectCode::Malformed, "not a JSON object"))
}

/// A member that is there and not null.
pub(crate) fn member<'a>(object: &Object<'a>, name: &str) -> Option<&'a RawValue> {
    object.get(name).copied().filter(|v| v.get() != "null")
}

/// A member of a type, or `None`; a member of another type is refused.
pub(crate) fn optional<'a, T: Deserialize<'a>>(
    object: &Object<'a>,
    name: &'static str,
) -> Result<Option<T>, Reject> {
    let Some(value) = member(object, name) else { return Ok(None) };
    serde_json::from_str(value.get()).map(Some).map_err(|_| {
        Reject::new(RejectCode::InvalidField, format!("{name} has the wrong type or value")).field(name)
    })
}

/// A member of a type; absent or null is refused.
pub(crate) fn required<'a, T: Deserialize<'a>>(object: &Object<'a>, name: &'static str) -> Result<T, Reject> {
    optional(object, name)?.ok_or_else(|| missing(name))
}

/// The refusal for an absent member.
pub(crate) fn missing(name: &'static str) -> Reject {
    Reject::new(RejectCode::MissingField, format!("{name} is required")).field(name)
}

/// The refusal for a wrong member.
pub(crate) fn invalid(name: &'static str, why: &str) -> Reject {
    Reject::new(RejectCode::InvalidField, format!("{name} {why}")).field(name)
}

/// A UUID for an event that is in no log (acknowledgement, typing, presence): version 8, from what makes
/// the event itself.
pub(crate) fn made_up_uuid(parts: &[&[u8]]) -> String {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    uuid::Builder::from_custom_bytes(xxh3_128(&all).to_be_bytes()).into_uuid().hyphenated().to_string()
}

/// A UUID for an answer of this connection, different each time.
pub(crate) fn answer_uuid(cx: &mut Context) -> String {
    cx.counter += 1;
    made_up_uuid(&[&cx.salt.to_le_bytes(), &cx.counter.to_le_bytes(), &cx.now.millis().to_le_bytes()])
}
