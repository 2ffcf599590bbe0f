//! What proves to the application's backend that a call is this gateway's, and when it was made.
//!
//! Owns: the two headers. Must not know: what is called, and why.

use std::fmt;

use aws_lc_rs::hmac;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use parlance_model::Time;

/// Seconds since 1970.
const TIMESTAMP: HeaderName = HeaderName::from_static("parlance-timestamp");
/// `v1=` and the HMAC-SHA256 of the timestamp, a dot and the body, in lower-case hexadecimal digits.
const SIGNATURE: HeaderName = HeaderName::from_static("parlance-signature");

/// Signs calls with a shared secret.
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub(super) fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// Adds both headers.
    pub(super) fn sign(&self, at: Time, body: &[u8], headers: &mut HeaderMap) {
        let timestamp = (at.millis() / 1000).to_string();
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        let digits: String = mac.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        for (name, text) in [(TIMESTAMP, timestamp), (SIGNATURE, format!("v1={digits}"))] {
            // Digits and letters: there is nothing in it that no header may hold.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

/// Never shows the secret.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_signed_over_its_time_and_its_body() {
        let sign = |secret: &str, seconds: u64, body: &[u8]| {
            let mut headers = HeaderMap::new();
            Signer::new(secret).sign(Time::from_millis(seconds * 1000 + 999), body, &mut headers);
            let text = |name: &HeaderName| headers[name].to_str().unwrap().to_owned();
            (text(&TIMESTAMP), text(&SIGNATURE))
        };
        // As `printf '1800000000.{"a":1}' | openssl dgst -sha256 -hmac key` says.
        let expected = "v1=7330c9cf7d886970cbebbbb5494c04d2aeff06a990adb7d7a75abfeb0159d291";
        let (at, signature) = sign("key", 1_800_000_000, b"{\"a\":1}");
        assert_eq!((at.as_str(), signature.as_str()), ("1800000000", expected));
        for other in [
            sign("kez", 1_800_000_000, b"{\"a\":1}"),
            sign("key", 1_800_000_001, b"{\"a\":1}"),
            sign("key", 1_800_000_000, b"{\"a\":2}"),
        ] {
            assert_ne!(other.1, expected);
        }
    }
}
