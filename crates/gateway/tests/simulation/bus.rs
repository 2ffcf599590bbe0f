//! A node's inbox in bad weather: deliveries are late, lost, doubled; what is lost is said to be, as the trait promises,
//! but for entries and cursors in the worst of weathers.

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Delivery, Inbox, Publication};
use parlance_model::Topic;
use tokio::sync::mpsc;

use super::fate::Fate;

const CAPACITY: usize = 4096;

enum Turn {
    Pass,
    Lose,
    Hide,
    Double,
}

/// Whether the feed can find out by itself that it was lost, and that it came before.
fn is_checked(delivery: &Delivery) -> bool {
    matches!(
        delivery,
        Delivery::Published(Topic::Conversation(_), Publication::Entry(_) | Publication::Cursor(_))
    )
}

/// How late a delivery is, and what becomes of it.
fn turn(fate: &Fate, checked: bool) -> (u64, Turn) {
    fate.draw(|random, weather| {
        let wait = if weather.slow > 0 && random.per_mille(100) { random.below(weather.slow) } else { 0 };
        let turn = match random.below(1000) {
            n if n < weather.lost => Turn::Lose,
            n if checked && n < weather.lost + weather.silent => Turn::Hide,
            n if checked && n < weather.lost + weather.silent + weather.doubled => Turn::Double,
            _ => Turn::Pass,
        };
        (wait, turn)
    })
}

/// Carries deliveries on until the node crashes.
pub fn pump(mut from: Inbox, fate: Arc<Fate>) -> Inbox {
    let (to, inbox) = mpsc::channel(CAPACITY);
    #[expect(clippy::disallowed_methods, reason = "the runtime of a run ends with it")]
    tokio::spawn(async move {
        let mut missed = false;
        let mut before: Option<Delivery> = None;
        loop {
            if missed && !fate.is_cut() {
                missed = false;
                if to.send(Delivery::Lost).await.is_err() {
                    return;
                }
            }
            let delivery = tokio::select! {
                biased;
                () = fate.turned.notified() => None,
                delivery = from.recv() => Some(delivery),
            };
            if fate.is_dead() {
                return;
            }
            let Some(delivery) = delivery else { continue };
            let Some(delivery) = delivery else { return };
            let checked = is_checked(&delivery);
            if fate.is_cut() {
                missed = true;
                continue;
            }
            let (wait, turn) = turn(&fate, checked);
            if wait > 0 {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            let carried = match turn {
                Turn::Hide => continue,
                Turn::Lose => vec![Delivery::Lost],
                Turn::Pass => vec![delivery],
                // Itself again, or an earlier one: what a server says that was replaced without knowing it.
                Turn::Double => {
                    let again = before.take().unwrap_or_else(|| delivery.clone());
                    before = Some(delivery.clone());
                    vec![delivery, again]
                }
            };
            for delivery in carried {
                if to.send(delivery).await.is_err() {
                    return;
                }
            }
        }
    });
    inbox
}
