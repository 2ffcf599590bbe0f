//! The marker in every text: who sent it, which of the sender's it is, and when it was meant to be sent. Receivers
//! find it in the raw frame, so that the same client measures every protocol.
//!
//! Must not know: what is around it.

use memchr::memmem::Finder;

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The sender's number in the run.
    pub sender: u32,
    /// Counts the sender's messages from 0.
    pub number: u64,
    /// When it was meant to be sent: microseconds since the run began.
    pub intended: u64,
}

/// Writes and finds the markers of one run.
#[derive(Debug, Clone)]
pub struct Marker {
    prefix: String,
    finder: Finder<'static>,
}

impl Marker {
    /// The markers of the run with this id.
    pub fn new(run: &str) -> Self {
        let prefix = format!("~pb{run}.");
        let finder = Finder::new(prefix.as_bytes()).into_owned();
        Self { prefix, finder }
    }

    /// A text of at least `bytes` bytes with the marker in front.
    pub fn text(&self, mark: Mark, bytes: usize) -> String {
        let mut text = format!("{}{}.{}.{}~", self.prefix, mark.sender, mark.number, base36(mark.intended));
        // Something a compressor and a sanitiser see as words.
        const FILL: &str = " the quick brown fox jumps over the lazy dog and goes on";
        while text.len() < bytes {
            let left = bytes - text.len();
            text.push_str(&FILL[..left.min(FILL.len())]);
        }
        text
    }

    /// The first marker of this run in `payload`.
    pub fn find(&self, payload: &[u8]) -> Option<Mark> {
        let at = self.finder.find(payload)?;
        let rest = &payload[at + self.prefix.len()..];
        let (sender, rest) = number(rest, 10, b'.')?;
        let (number_, rest) = number(rest, 10, b'.')?;
        let (intended, _) = number(rest, 36, b'~')?;
        Some(Mark { sender: u32::try_from(sender).ok()?, number: number_, intended })
    }
}

fn number(bytes: &[u8], radix: u32, end: u8) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == end {
            return (at > 0).then(|| (value, &bytes[at + 1..]));
        }
        let digit = char::from(*byte).to_digit(radix)?;
        value = value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))?;
    }
    None
}

/// In digits and small letters.
pub fn base36(mut value: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = Vec::with_capacity(13);
    loop {
        digits.push(char::from(DIGITS[(value % 36) as usize]));
        value /= 36;
        if value == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_in_any_frame_and_only_that_of_its_run() {
        let marker = Marker::new("abc1");
        let mark = Mark { sender: 17, number: 123_456, intended: 98_765_432 };
        let text = marker.text(mark, 200);
        assert_eq!(text.len(), 200);
        let frame = format!("42[\"message:new\",{{\"body\":\"{text}\",\"x\":1}}]");
        assert_eq!(marker.find(frame.as_bytes()), Some(mark));
        assert_eq!(Marker::new("abc2").find(frame.as_bytes()), None);
        assert_eq!(marker.find(b"~pbabc1.17.1"), None, "cut off");
        assert_eq!(marker.find(b"~pbabc1.x.1.2~"), None);
    }

    #[test]
    fn a_marker_longer_than_the_text_wanted_is_whole() {
        let marker = Marker::new("r");
        let mark = Mark { sender: u32::MAX, number: u64::MAX, intended: u64::MAX };
        assert_eq!(marker.find(marker.text(mark, 1).as_bytes()), Some(mark));
    }
}
