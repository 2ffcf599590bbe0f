//! One message id, rendered without loss as a JS integer, 24 hex digits, a UUID and an opaque string.

/// Log entries per number: a conversation takes a fresh number for every `2^22` entries.
pub const BLOCK_BITS: u32 = 22;
/// Numbers are below this (`2^31`), so that the JS integer stays within `2^53`.
pub const MAX_NUMBER: u32 = 1 << 31;
/// A conversation id of digits below this (`2^30`) is its own first number; assigned numbers start here.
pub const SELF_NUMBER_LIMIT: u32 = 1 << 30;

const OFFSET_MASK: u64 = (1 << BLOCK_BITS) - 1;

/// A message's identity: the number of its block of the conversation's log, and its offset there.
///
/// The order of ids within a conversation is the order of the log as long as its numbers grow, which
/// assigned numbers do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MessageId {
    number: u32,
    offset: u32,
}

impl MessageId {
    /// An id from its parts; `None` when one is out of range.
    pub const fn new(number: u32, offset: u32) -> Option<Self> {
        if number < MAX_NUMBER && (offset as u64) <= OFFSET_MASK {
            Some(Self { number, offset })
        } else {
            None
        }
    }

    /// The id of sequence `seq` in a conversation whose block numbers are `numbers`; `None` when the
    /// block has no number yet.
    pub fn of_sequence(numbers: &[u32], seq: u64) -> Option<Self> {
        let block = usize::try_from(seq >> BLOCK_BITS).ok()?;
        Self::new(*numbers.get(block)?, (seq & OFFSET_MASK) as u32)
    }

    /// The sequence this id names when its number stands for `block` of a conversation.
    pub const fn sequence_in(self, block: u32) -> u64 {
        ((block as u64) << BLOCK_BITS) | self.offset as u64
    }

    /// The block's number.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The offset in the block.
    pub const fn offset(self) -> u32 {
        self.offset
    }

    /// An integer a JavaScript number carries exactly (at most `2^53 - 1`).
    pub const fn to_integer(self) -> u64 {
        ((self.number as u64) << BLOCK_BITS) | self.offset as u64
    }

    /// Reads [`Self::to_integer`].
    pub const fn from_integer(value: u64) -> Option<Self> {
        if value >> (BLOCK_BITS + 31) != 0 {
            return None;
        }
        Self::new((value >> BLOCK_BITS) as u32, (value & OFFSET_MASK) as u32)
    }

    /// 24 lower-case hex digits that compare in order of age: seconds, number, offset (8 each).
    pub fn to_hex24(self, seconds: u32) -> String {
        format!("{seconds:08x}{:08x}{:08x}", self.number, self.offset)
    }

    /// Reads [`Self::to_hex24`] (either case); the seconds carry no identity and are dropped.
    pub fn from_hex24(text: &str) -> Option<Self> {
        if text.len() != 24 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let part = |from: usize| u32::from_str_radix(text.get(from..from + 8)?, 16).ok();
        Self::new(part(8)?, part(16)?)
    }

    /// A version 8 UUID (RFC 9562 section 5.8) of seconds, number and offset.
    pub fn to_uuid(self, seconds: u32) -> String {
        let (hi, lo) = (self.number >> 16, self.number & 0xffff);
        let (top, low) = (self.offset >> 12, self.offset & 0xfff);
        format!("{seconds:08x}-{hi:04x}-8000-8{top:03x}-{lo:04x}{low:04x}0000")
    }

    /// Reads [`Self::to_uuid`]; any other UUID is `None`.
    pub fn from_uuid(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = |len: usize| parts.next().filter(|p| p.len() == len);
        let field = |p: &str| {
            p.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(p, 16).ok()).flatten()
        };
        field(next(8)?)?;
        let hi = field(next(4)?)?;
        next(4).filter(|p| *p == "8000")?;
        let top = field(next(4)?.strip_prefix('8')?)?;
        let tail = next(12)?.strip_suffix("0000")?;
        let (lo, low) = (field(tail.get(..4)?)?, field(tail.get(4..)?)?);
        if parts.next().is_some() || low > 0xfff {
            return None;
        }
        Self::new((hi << 16) | lo, (top << 12) | low)
    }

    /// An opaque string that carries the same: `msg_` and the 24 hex digits.
    pub fn to_opaque(self, seconds: u32) -> String {
        format!("msg_{}", self.to_hex24(seconds))
    }

    /// Reads [`Self::to_opaque`].
    pub fn from_opaque(text: &str) -> Option<Self> {
        Self::from_hex24(text.strip_prefix("msg_")?)
    }

    /// Reads any of the four renderings.
    pub fn from_any(text: &str) -> Option<Self> {
        Self::from_opaque(text)
            .or_else(|| Self::from_uuid(text))
            .or_else(|| Self::from_hex24(text))
            .or_else(|| text.parse().ok().and_then(Self::from_integer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> impl Strategy<Value = MessageId> {
        (0..MAX_NUMBER, 0..(1u32 << BLOCK_BITS)).prop_map(|(n, o)| MessageId::new(n, o).unwrap())
    }

    proptest! {
        #[test]
        fn every_rendering_reads_back(id in ids(), seconds: u32) {
            prop_assert!(id.to_integer() < 1 << 53);
            prop_assert_eq!(MessageId::from_integer(id.to_integer()), Some(id));
            prop_assert_eq!(MessageId::from_hex24(&id.to_hex24(seconds)), Some(id));
            prop_assert_eq!(MessageId::from_uuid(&id.to_uuid(seconds)), Some(id));
            prop_assert_eq!(MessageId::from_opaque(&id.to_opaque(seconds)), Some(id));
            for text in [id.to_uuid(seconds), id.to_opaque(seconds), id.to_hex24(seconds)] {
                prop_assert_eq!(MessageId::from_any(&text), Some(id));
            }
        }

        #[test]
        fn hex_orders_by_age(a in ids(), b in ids(), s: u32, t: u32) {
            if s != t {
                prop_assert_eq!(s < t, a.to_hex24(s) < b.to_hex24(t));
            } else {
                prop_assert_eq!(a.cmp(&b), a.to_hex24(s).cmp(&b.to_hex24(t)));
            }
        }

        #[test]
        fn reading_never_panics(text in ".{0,60}") {
            let _ = MessageId::from_any(&text);
        }

        #[test]
        fn sequences_and_blocks_agree(seq in 0u64..(3 << BLOCK_BITS)) {
            let id = MessageId::of_sequence(&[7, 9, 11], seq).unwrap();
            let block = [7, 9, 11].iter().position(|n| *n == id.number()).unwrap();
            prop_assert_eq!(id.sequence_in(u32::try_from(block).unwrap()), seq);
        }
    }

    #[test]
    fn out_of_range_is_none() {
        assert_eq!(MessageId::new(MAX_NUMBER, 0), None);
        assert_eq!(MessageId::new(0, 1 << BLOCK_BITS), None);
        assert_eq!(MessageId::from_integer(1 << 53), None);
        assert_eq!(MessageId::of_sequence(&[1], 1 << BLOCK_BITS), None);
        assert_eq!(MessageId::from_uuid("00000000-0000-4000-8000-000000000000"), None);
    }
}
