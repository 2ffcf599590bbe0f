//! Places where a test makes the node die: `PARLANCE_FAILPOINTS=after-append=abort@37` aborts the process when the
//! place is passed for the 37th time. Only in builds with debug assertions; elsewhere there are none.
//!
//! Must not know: what happens at these places.

/// Passes a place.
#[cfg(debug_assertions)]
pub(crate) fn pass(place: &str) {
    use std::sync::OnceLock;

    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    let points = POINTS.get_or_init(|| parse(&std::env::var("PARLANCE_FAILPOINTS").unwrap_or_default()));
    for point in points.iter().filter(|point| point.place == place) {
        if point.passes() {
            tracing::error!(place, "a failpoint ends the process");
            std::process::abort();
        }
    }
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
    passed: std::sync::atomic::AtomicU64,
}

#[cfg(debug_assertions)]
impl Point {
    /// Whether this passing is the one.
    fn passes(&self) -> bool {
        self.passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == self.at
    }
}

/// `place=abort@n`, several with commas; what does not read so is none.
#[cfg(debug_assertions)]
fn parse(text: &str) -> Vec<Point> {
    let points = text.split(',').filter_map(|word| {
        let (place, deed) = word.trim().split_once('=')?;
        let at = deed.strip_prefix("abort@")?.parse().ok()?;
        Some(Point { place: place.to_owned(), at, passed: std::sync::atomic::AtomicU64::new(0) })
    });
    points.collect()
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::parse;

    #[test]
    fn a_point_strikes_once_and_at_its_turn() {
        let points = parse("after-append=abort@2, nonsense, before-append=panic");
        assert_eq!(points.len(), 1);
        assert_eq!(points[0].place, "after-append");
        assert_eq!([points[0].passes(), points[0].passes(), points[0].passes()], [false, true, false]);
    }
}
