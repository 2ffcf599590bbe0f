//! I8: what one user may say is counted over all nodes.

use parlance_client::Time;

use super::{Finding, Run};
use crate::chaos::probes::{FLOOD_LIMIT, FLOOD_WINDOW, FLOODED};

/// I8.
pub(super) fn hold(run: &Run) -> Finding {
    let mut found = Finding::default();
    let Some(items) = run.dump.logs.get(FLOODED) else { return found };
    let times: Vec<u64> =
        items.iter().filter_map(|item| Time::parse_iso(&item.created_at)).map(|time| time.0).collect();
    found.look(times.len() == items.len(), || "a message without a time".to_owned());
    for window in times.windows(FLOOD_LIMIT + 1) {
        let (Some(first), Some(last)) = (window.first(), window.last()) else { continue };
        let span = last.saturating_sub(*first);
        found.look(span >= FLOOD_WINDOW, || {
            format!("{} messages within {span} ms, from {first}", window.len())
        });
    }
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return found };
    // What is let through in all: a window's worth at once, and one whenever the oldest leaves the window.
    let least = (last - first) as f64 / FLOOD_WINDOW as f64 * FLOOD_LIMIT as f64 * 0.95;
    found.look(times.len() as f64 >= least, || format!("only {} messages got through", times.len()));
    found.figure = Some(format!("{} in {} ms", times.len(), last - first));
    found
}
