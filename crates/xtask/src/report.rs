//! Reads the results of test binaries from cargo's output and sums them.
//!
//! Owns: the closing line of `cargo xtask test`. Must not know: how the tests were run.

use std::fmt;

/// What a test writes that found no tool to run with: for the test harness it has passed.
const SKIPPED: &str = "parlance-tests: skipped:";

/// Sums over all test binaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and test binaries that ended without a result.
    pub failed: u64,
    /// Tests that were ignored.
    pub skipped: u64,
    /// Tests of the running binary that skipped themselves; its result will count them as passed.
    set_aside: u64,
}

impl Totals {
    /// Adds the line when it is a test binary's result or tells of a skipped test, and passes over it otherwise.
    pub fn see(&mut self, line: &str) {
        if line.contains(SKIPPED) {
            self.set_aside += 1;
        }
        let Some(rest) = line.trim_start().strip_prefix("test result: ") else { return };
        // "ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
        let Some((_, counts)) = rest.split_once(". ") else { return };
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let (Some(number), Some(kind)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
        let set_aside = std::mem::take(&mut self.set_aside).min(self.passed);
        self.passed -= set_aside;
        self.skipped += set_aside;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn results_are_summed_and_other_lines_passed_over() {
        let mut totals = Totals::default();
        for line in [
            "running 4 tests",
            "test ids::tests::a_test_result ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.20s",
            "error: 1 target failed:",
        ] {
            totals.see(line);
        }
        assert_eq!(totals, Totals { passed: 13, failed: 2, skipped: 1, set_aside: 0 });
        assert_eq!(totals.to_string(), "13 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skips_itself_has_not_passed() {
        let mut totals = Totals::default();
        for line in [
            "test python_echo ... parlance-tests: skipped: python_echo: no Python",
            "ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            totals.see(line);
        }
        assert_eq!(totals.to_string(), "3 passed, 0 failed, 1 skipped");
    }
}
