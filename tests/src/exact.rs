//! Exact looks at what was told: which members an object has, whether a time is written as documented.
//!
//! Must not know: any dialect.

use anyhow::{Result, ensure};
use serde_json::Value;

/// The names of an object's members, in alphabetical order.
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

/// Makes sure that an object has exactly these members.
///
/// # Errors
/// When it has others, or is none.
pub fn has_only(object: &Value, names: &[&str]) -> Result<()> {
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    ensure!(object.is_object() && keys(object) == wanted, "{object}");
    Ok(())
}

/// `2026-01-31T12:34:56.789Z`: an ISO time with milliseconds, in UTC, as JavaScript writes it.
pub fn is_time(time: &Value) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(b, p): (u8, u8)| if p == b'd' { b.is_ascii_digit() } else { b == p };
    time.as_str()
        .is_some_and(|time| time.len() == pattern.len() && time.bytes().zip(pattern.bytes()).all(fits))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{has_only, is_time};

    #[test]
    fn neither_more_nor_fewer_members() {
        let object = json!({ "b": 1, "a": 2 });
        assert!(has_only(&object, &["b", "a"]).is_ok());
        assert!(has_only(&object, &["a"]).is_err());
        assert!(has_only(&object, &["a", "b", "c"]).is_err());
        assert!(has_only(&json!("no object"), &[]).is_err());
    }

    #[test]
    fn a_time_is_to_the_millisecond_and_in_utc() {
        assert!(is_time(&json!("2026-01-31T12:34:56.789Z")));
        for other in ["2026-01-31T12:34:56Z", "2026-01-31T12:34:56.789+00", "2026-01-31 12:34:56.789Z", ""] {
            assert!(!is_time(&json!(other)), "{other}");
        }
    }
}
