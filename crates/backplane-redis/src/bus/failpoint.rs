//! Publications that a test lets get lost on the way: `PARLANCE_FAILPOINTS=drop-publication@5` drops every fifth one on
//! average, `drop-publication@5:7` the same with another seed. Only in builds with debug assertions; elsewhere there is
//! no such thing.
//!
//! Owns: which are dropped. Must not know: who notices.

use parlance_backplane::Publication;

/// Drops what the environment says.
#[derive(Default)]
pub struct Drops {
    #[cfg(debug_assertions)]
    dice: Option<(rand::rngs::StdRng, u32)>,
}

impl Drops {
    /// As the environment says.
    #[cfg(debug_assertions)]
    pub fn from_environment() -> Self {
        Self::parse(&std::env::var("PARLANCE_FAILPOINTS").unwrap_or_default())
    }

    /// None.
    #[cfg(not(debug_assertions))]
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// One of several words with commas between them; the others are of places elsewhere.
    #[cfg(debug_assertions)]
    fn parse(text: &str) -> Self {
        use rand::SeedableRng;

        let word = text.split(',').find_map(|word| word.trim().strip_prefix("drop-publication@"));
        let dice = word.and_then(|word| {
            let (every, seed) = word.split_once(':').unwrap_or((word, "1"));
            let every = every.parse().ok().filter(|every| *every > 0)?;
            Some((rand::rngs::StdRng::seed_from_u64(seed.parse().ok()?), every))
        });
        Self { dice }
    }

    /// Whether this one gets lost. Only what a node can find missing does: entries of logs, and cursors.
    #[cfg(debug_assertions)]
    pub fn strike(&mut self, publication: &Publication) -> bool {
        use rand::Rng;

        let Some((dice, every)) = &mut self.dice else { return false };
        let numbered = matches!(publication, Publication::Entry(_) | Publication::Cursor(_));
        let strikes = numbered && dice.random_ratio(1, *every);
        if strikes {
            tracing::info!("a failpoint drops a publication");
        }
        strikes
    }

    /// Never.
    #[cfg(not(debug_assertions))]
    pub fn strike(&mut self, _publication: &Publication) -> bool {
        false
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use parlance_backplane::{CursorChanged, Signal};
    use parlance_model::delivery::Moved;
    use parlance_model::{ConversationId, Time, UserId};

    use super::*;

    fn moved() -> Publication {
        Publication::Cursor(CursorChanged {
            conversation: ConversationId::parse("c").unwrap(),
            user: UserId::parse("u").unwrap(),
            moved: Moved { delivered: Some((0, 1)), read: None },
            at: Time(0),
            version: 1,
        })
    }

    #[test]
    fn every_fifth_is_dropped_on_average_and_the_same_ones_with_the_same_seed() {
        let draw = |text: &str| -> Vec<bool> {
            let mut drops = Drops::parse(text);
            (0..1000).map(|_| drops.strike(&moved())).collect()
        };
        let first = draw("after-append=abort@3, drop-publication@5");
        let dropped = first.iter().filter(|dropped| **dropped).count();
        assert!((150..250).contains(&dropped), "{dropped}");
        assert_eq!(first, draw("drop-publication@5:1"));
        assert_ne!(first, draw("drop-publication@5:2"));
    }

    #[test]
    fn nothing_else_is_dropped_and_without_the_word_nothing_at_all() {
        let signal = Publication::Signal(Signal::Maintenance);
        assert!(!Drops::parse("drop-publication@1").strike(&signal));
        assert!(Drops::parse("drop-publication@1").strike(&moved()));
        for text in ["", "drop-publication@0", "drop-publication@x", "after-append=abort@3"] {
            assert!(!Drops::parse(text).strike(&moved()), "{text}");
        }
    }
}
