//! What a run of the load generator found, as far as a comparison reads it.
//!
//! Owns: which part of the generator's JSON is read. Must not know: which figures matter.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One run's outcome.
#[derive(Debug, Clone)]
pub struct Found(Value);

impl Found {
    /// Reads the file that a run wrote.
    ///
    /// # Errors
    /// When there is none, or it is not JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Reads an outcome.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(serde_json::from_str(text)?))
    }

    /// A figure by its name (`cpu_us_per_delivery`), or a time by its name and what of it (`delivery.p99`).
    pub fn figure(&self, name: &str) -> Option<f64> {
        match name.split_once('.') {
            Some((times, part)) => self.0["times"][times][part].as_f64(),
            None => self.0["figures"][name]["value"].as_f64(),
        }
    }

    /// What makes the run's figures doubtful: what was lost, came twice or in the wrong order, errors, warnings.
    pub fn flaws(&self) -> Vec<String> {
        let checks = &self.0["checks"];
        let counts = ["lost", "doubled", "disordered"].into_iter().filter_map(|name| {
            let count = checks[name].as_u64().filter(|count| *count > 0)?;
            Some(format!("{count} {name}"))
        });
        let errors = checks["errors"].as_object().into_iter().flatten();
        let errors = errors.map(|(what, count)| format!("{count} × {what}"));
        let warnings = self.0["warnings"].as_array().into_iter().flatten();
        let warnings = warnings.filter_map(Value::as_str).map(str::to_owned);
        counts.chain(errors).chain(warnings).collect()
    }

    /// Memory and kernel of the machine it ran on.
    pub fn machine(&self) -> String {
        let machine = &self.0["machine"];
        let kernel = machine["kernel"].as_str().unwrap_or("?");
        format!("{} processors, {} MiB, kernel {kernel}", machine["cpus"], machine["memory_mib"])
    }
}

#[cfg(test)]
mod tests {
    use super::Found;

    #[test]
    fn figures_times_and_flaws_are_found() {
        let found = Found::parse(
            r#"{"figures":{"acks_per_second":{"value":5.5}},"times":{"delivery":{"p99":864,"max":900}},
                "checks":{"lost":0,"doubled":2,"disordered":0,"errors":{"reset":3}},"warnings":["slow client"]}"#,
        )
        .unwrap();
        assert_eq!(found.figure("acks_per_second"), Some(5.5));
        assert_eq!(found.figure("delivery.p99"), Some(864.0));
        assert_eq!((found.figure("delivery.p50"), found.figure("other")), (None, None));
        assert_eq!(found.flaws(), ["2 doubled", "3 × reset", "slow client"]);
        assert!(Found::parse(r#"{"checks":{"lost":0,"errors":{}}}"#).unwrap().flaws().is_empty());
        assert!(Found::parse("{").is_err());
    }
}
