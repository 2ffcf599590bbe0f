//! How far one of the client's own messages has come. It only moves forward.

/// The stations of a message, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum MessageState {
    /// Waiting in the client's own queue.
    #[default]
    LocalQueued,
    /// Written to a socket; nothing heard yet.
    SocketSent,
    /// Given up. Not the last station: an acknowledgement that comes late after all outranks it.
    Failed,
    /// The server has it (one tick).
    ServerAcked,
    /// It reached a recipient's device (two ticks).
    Delivered,
    /// A recipient has seen it (two coloured ticks).
    Read,
}

impl MessageState {
    /// Moves forward to `next`; tells whether that was a move. Late and repeated news change nothing.
    pub fn advance(&mut self, next: Self) -> bool {
        let forward = next > *self;
        if forward {
            *self = next;
        }
        forward
    }

    /// Whether the server has the message.
    pub fn is_accepted(self) -> bool {
        self >= Self::ServerAcked
    }

    /// Whether the client has stopped trying, for one reason or the other.
    pub fn is_settled(self) -> bool {
        self >= Self::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::MessageState::{self, *};
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = MessageState> {
        prop::sample::select(vec![LocalQueued, SocketSent, Failed, ServerAcked, Delivered, Read])
    }

    #[test]
    fn the_documented_path_is_walked_step_by_step() {
        let mut state = LocalQueued;
        for next in [SocketSent, ServerAcked, Delivered, Read] {
            assert!(state.advance(next), "{next:?}");
            assert_eq!(state, next);
        }
    }

    #[test]
    fn an_accepted_message_cannot_fail_any_more() {
        let mut state = ServerAcked;
        assert!(!state.advance(Failed));
        assert_eq!(state, ServerAcked);
    }

    #[test]
    fn a_late_acknowledgement_outranks_giving_up() {
        let mut state = Failed;
        assert!(!state.advance(SocketSent));
        assert!(state.advance(ServerAcked));
    }

    proptest! {
        #[test]
        fn any_order_of_news_ends_at_the_furthest_and_never_goes_back(
            news in prop::collection::vec(any_state(), 0..30)
        ) {
            let mut state = LocalQueued;
            let mut told = vec![state];
            for next in &news {
                if state.advance(*next) {
                    told.push(state);
                }
            }
            prop_assert!(told.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(state, news.into_iter().max().unwrap_or_default());
        }
    }
}
