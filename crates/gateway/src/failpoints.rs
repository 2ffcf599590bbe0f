//! Places where a test makes the node die: `PARLANCE_FAILPOINTS=after-append=abort@37` aborts the process when the
//! place is passed for the 37th time. And places where it makes it slow: `assigning=wait@50` waits 50 ms for each entry.
//! Only in builds with debug assertions; elsewhere there are none.
//!
//! Must not know: what happens at these places.

/// What the environment says.
#[cfg(debug_assertions)]
fn points() -> &'static [Point] {
    use std::sync::OnceLock;

    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    POINTS.get_or_init(|| parse(&std::env::var("PARLANCE_FAILPOINTS").unwrap_or_default()))
}

/// Passes a place.
#[cfg(debug_assertions)]
pub(crate) fn pass(place: &str) {
    for point in points().iter().filter(|point| point.place == place) {
        if point.passes() {
            tracing::error!(place, "a failpoint ends the process");
            std::process::abort();
        }
    }
}

/// Passes a place so many times, slowly.
#[cfg(debug_assertions)]
pub(crate) async fn linger(place: &str, times: usize) {
    let slow = points().iter().filter(|point| point.place == place).filter_map(|point| point.wait);
    let wait: std::time::Duration = slow.sum();
    if !wait.is_zero() {
        tokio::time::sleep(wait * u32::try_from(times).unwrap_or(u32::MAX)).await;
    }
}

/// Passes a place so many times.
#[cfg(not(debug_assertions))]
pub(crate) fn linger(_place: &str, _times: usize) -> std::future::Ready<()> {
    std::future::ready(())
}

/// Passes a place.
#[cfg(not(debug_assertions))]
pub(crate) const fn pass(_place: &str) {}

#[cfg(debug_assertions)]
#[derive(Debug)]
struct Point {
    place: String,
    /// Strikes at this passing, counted from one.
    at: u64,
    /// Or makes every passing slow.
    wait: Option<std::time::Duration>,
    passed: std::sync::atomic::AtomicU64,
}

#[cfg(debug_assertions)]
impl Point {
    /// Whether this passing is the one.
    fn passes(&self) -> bool {
        self.passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == self.at
    }
}

/// `place=abort@n` or `place=wait@milliseconds`, several with commas; what does not read so is none.
#[cfg(debug_assertions)]
fn parse(text: &str) -> Vec<Point> {
    let points = text.split(',').filter_map(|word| {
        let (place, deed) = word.trim().split_once('=')?;
        let number = |verb: &str| deed.strip_prefix(verb)?.parse().ok();
        let (at, wait) = match (number("abort@"), number("wait@")) {
            (Some(at), _) => (at, None),
            (None, Some(ms)) => (0, Some(std::time::Duration::from_millis(ms))),
            (None, None) => return None,
        };
        Some(Point { place: place.to_owned(), at, wait, passed: std::sync::atomic::AtomicU64::new(0) })
    });
    points.collect()
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::parse;

    #[test]
    fn a_point_strikes_once_and_at_its_turn() {
        let points = parse("after-append=abort@2, nonsense, before-append=panic, assigning=wait@5");
        assert_eq!(points.len(), 2);
        assert_eq!(points[1].wait, Some(std::time::Duration::from_millis(5)));
        assert!(!points[1].passes());
        assert_eq!(points[0].place, "after-append");
        assert_eq!([points[0].passes(), points[0].passes(), points[0].passes()], [false, true, false]);
    }
}
