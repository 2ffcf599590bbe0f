//! The renderings of a message id, read from what clients are told: independent of the gateway's own code.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Bits of an integer id that are the place in the log.
const PLACE_BITS: u32 = 22;

/// What all renderings of an id have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId {
    /// Of the conversation's log.
    pub number: u64,
    /// In the log.
    pub place: u64,
}

/// Reads an id in the form a vocabulary must give it.
///
/// # Errors
/// When it has another form. A sechat id is the author's own string unless it is a server id.
pub fn core(vocabulary: &str, id: &Value) -> Result<CoreId> {
    let text = || id.as_str().with_context(|| format!("{vocabulary}: {id} is no string"));
    match vocabulary {
        "lingochat" | "lingochat-room" => {
            let integer = id.as_u64().with_context(|| format!("{id} is no integer"))?;
            ensure!(integer < 1 << 53, "{id} is more than JavaScript can hold");
            Ok(CoreId { number: integer >> PLACE_BITS, place: integer & ((1 << PLACE_BITS) - 1) })
        }
        "famly" => hex(text()?),
        "socialhub" => uuid(text()?),
        _ => hex(text()?.strip_prefix("msg_").with_context(|| format!("{id} is no server id"))?),
    }
}

/// 24 hex digits: time, number, place.
fn hex(id: &str) -> Result<CoreId> {
    ensure!(
        id.len() == 24 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
        "{id} is not 24 lower-case hex digits"
    );
    Ok(CoreId { number: digits(&id[8..16])?, place: digits(&id[16..])? })
}

/// A UUID of version 8: time, number and place between the bits that are fixed.
fn uuid(id: &str) -> Result<CoreId> {
    let parts: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    ensure!(lengths == [8, 4, 4, 4, 12], "{id} is no UUID");
    ensure!(parts[2] == "8000" && parts[3].starts_with('8'), "{id} is no UUID of the gateway's form");
    let number = digits(&format!("{}{}", parts[1], &parts[4][..4]))?;
    let place = digits(&format!("{}{}", &parts[3][1..], &parts[4][5..8]))?;
    Ok(CoreId { number, place })
}

fn digits(text: &str) -> Result<u64> {
    Ok(u64::from_str_radix(text, 16)?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{CoreId, core};

    #[test]
    fn all_renderings_of_an_id_are_one() {
        let id = CoreId { number: 0x0001_2345, place: 0x0012_3456 };
        let integer = json!((0x0001_2345_u64 << 22) | 0x0012_3456);
        let renderings: [(&str, Value); 5] = [
            ("sechat", json!("msg_68a4d7c00001234500123456")),
            ("lingochat", integer),
            ("famly", json!("68a4d7c00001234500123456")),
            ("chatgenius", json!("msg_68a4d7c00001234500123456")),
            ("socialhub", json!("68a4d7c0-0001-8000-8123-234504560000")),
        ];
        for (vocabulary, rendering) in renderings {
            assert_eq!(core(vocabulary, &rendering).unwrap(), id, "{vocabulary}");
        }
    }

    #[test]
    fn another_dialects_rendering_is_refused() {
        for (vocabulary, id) in [
            ("lingochat", json!("5")),
            ("lingochat", json!(1_u64 << 53)),
            ("famly", json!("msg_68a4d7c00001234500123456")),
            ("famly", json!("68A4D7C00001234500123456")),
            ("chatgenius", json!("68a4d7c00001234500123456")),
            ("socialhub", json!("68a4d7c0-0001-4000-8123-234504560000")),
        ] {
            assert!(core(vocabulary, &id).is_err(), "{vocabulary}: {id}");
        }
    }
}
