//! Which trace a message belongs to: the W3C trace context, as the header `traceparent` carries it.
//!
//! Owns: its form. Must not know: who samples, where spans go.

use std::fmt;

const SAMPLED: u8 = 1;
/// Bytes of version 00, and at least of any later one.
const LENGTH: usize = 55;

/// A place in a trace: what comes next is a child of that span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span; never 0.
    pub span: u64,
    /// What the caller decided.
    pub flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent`, of version 00 or as much of a later one; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let (version, trace) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
        let (span, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        let ends = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        if parts.next().is_some() || !ends || version == 0xff || trace == 0 || span == 0 {
            return None;
        }
        Some(Self { trace, span: u64::try_from(span).ok()?, flags: u8::try_from(flags).ok()? })
    }

    /// Whether the caller keeps this trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// A number in exactly so many digits, small letters only.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let right = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    right.then(|| u128::from_str_radix(text, 16).ok())?
}

/// As `traceparent`, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    #[test]
    fn a_context_reads_back() {
        let read = TraceContext::parse(GOOD).unwrap();
        assert!(read.is_sampled());
        assert_eq!((read.trace >> 120, read.span & 0xff), (0x0a, 0xb7));
        assert_eq!(read.to_string(), GOOD);
        let not = TraceContext::parse(&GOOD.replace("-01", "-02")).unwrap();
        assert!(!not.is_sampled());
    }

    #[test]
    fn what_is_added_later_is_passed_over() {
        for later in ["01", "fe"] {
            let text = GOOD.replacen("00", later, 1);
            assert_eq!(TraceContext::parse(&text), TraceContext::parse(GOOD), "{text}");
            assert_eq!(TraceContext::parse(&format!("{text}-more")), TraceContext::parse(GOOD));
            assert_eq!(TraceContext::parse(&format!("{text}more")), None);
        }
    }

    #[test]
    fn anything_else_is_none() {
        for (from, to) in [
            (GOOD, ""),
            (GOOD, "00"),
            ("-01", "-01-"),
            ("-01", "-1"),
            ("-01", ""),
            ("00-0a", "ff-0a"),
            ("00-0a", "0-0a"),
            ("0af7", "0AF7"),
            ("0af7", "+af7"),
            ("0af7", "0ag7"),
            ("0af7", "0a-7"),
            ("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            ("00f067aa0ba902b7", "0000000000000000"),
            ("00f067aa0ba902b7", "00f067aa0ba902é"),
        ] {
            assert!(GOOD.contains(from), "{from:?} is nowhere");
            let text = GOOD.replacen(from, to, 1);
            assert_eq!(TraceContext::parse(&text), None, "{text:?}");
        }
    }
}
