//! Looking into a packet's data: name and arguments.
//!
//! Owns: which names are reserved. Must not know: what an event means.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Malformed;

/// Names with a meaning of their own on one side or the other: no event may bear them.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// An event's name and its arguments. A name that is a number is given by its digits.
///
/// # Errors
/// When the data is no array, or begins with neither a string nor a number, or the name is reserved. The data
/// of a packet from a [`Decoder`](super::Decoder) is none of these.
pub fn event(data: &RawValue) -> Result<(Cow<'_, str>, Vec<&RawValue>), Malformed> {
    let mut all = arguments(data)?;
    if all.is_empty() {
        return Err(Malformed("an event without a name"));
    }
    let first = all.remove(0);
    Ok((name(first.get())?, all))
}

/// The elements of an array: an ack's arguments.
///
/// # Errors
/// When the data is no array.
pub fn arguments(data: &RawValue) -> Result<Vec<&RawValue>, Malformed> {
    serde_json::from_str(data.get()).map_err(|_| Malformed("the data is no array"))
}

/// Checks the first element of a JSON array without reading the others. `array` is known to be JSON.
pub(super) fn check_event(array: &str) -> Result<(), Malformed> {
    const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];
    let Some(inside) = array.trim_start_matches(WHITE).strip_prefix('[') else {
        return Err(Malformed("the data is no array"));
    };
    let inside = inside.trim_start_matches(WHITE);
    let end = match inside.strip_prefix('"') {
        Some(string) => end_of_string(string) + 2,
        None => inside.find([',', ']']).unwrap_or(inside.len()),
    };
    name(inside.get(..end).unwrap_or(inside).trim_end_matches(WHITE)).map(|_| ())
}

/// Where a string's closing quote stands.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

/// Reads a JSON value as a name.
fn name(value: &str) -> Result<Cow<'_, str>, Malformed> {
    let name = match value.as_bytes().first() {
        Some(b'"') => string(value),
        Some(b'-' | b'0'..=b'9') => Cow::Borrowed(value),
        _ => return Err(Malformed("an event's name is a string or a number")),
    };
    if RESERVED.contains(&name.as_ref()) {
        return Err(Malformed("a reserved event name"));
    }
    Ok(name)
}

/// A JSON string's value. Half a surrogate pair is legal there and has no `str`: such a name stays as it is
/// written, and no event is called so.
fn string(value: &str) -> Cow<'_, str> {
    let raw = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    if raw.contains('\\') {
        serde_json::from_str::<String>(value).map_or(Cow::Borrowed(raw), Cow::Owned)
    } else {
        Cow::Borrowed(raw)
    }
}
