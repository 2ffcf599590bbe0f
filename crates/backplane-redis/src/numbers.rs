//! Numbers of logs: taking them for good, and finding whose they are.
//!
//! A number is claimed in its own partition before the log has it: a crash in between burns an assigned number, and
//! one that a log asked for is still that log's to take. Must not know: what logs hold.

use parlance_backplane::Fault;
use parlance_model::{LogKey, MAX_NUMBER};

use crate::engine::{Args, Node};
use crate::keys::{log_text, parse_log};
use crate::link::at;

impl Node {
    /// Takes an unused number for a block of a log.
    pub async fn assign_number(&self, log: &LogKey, block: u64) -> Result<u32, Fault> {
        loop {
            let next = self.call("gw1_next_number", &[self.keys.counter()], self.timed()).await?.number()?;
            let number = u32::try_from(next).ok().filter(|number| *number < MAX_NUMBER);
            let number = number.ok_or_else(|| Fault::Unavailable("all numbers are used".to_owned()))?;
            if let (true, _) = self.claim(number, log, block).await? {
                return Ok(number);
            }
        }
    }

    /// Takes this number; whether it was unused, and whose it is.
    pub async fn claim(&self, number: u32, log: &LogKey, block: u64) -> Result<(bool, String), Fault> {
        let owner = format!("{block} {}", log_text(log));
        let answer =
            self.list("gw1_claim", &[self.keys.owners(number)], Args::none().and(number).and(owner)).await?;
        Ok((at(&answer, 0).text()? == "new", at(&answer, 1).text()?.to_owned()))
    }

    /// The log and block a number is of.
    pub async fn owner(&self, number: u32) -> Result<Option<(LogKey, u32)>, Fault> {
        let answer = self.call("gw1_owner", &[self.keys.owners(number)], Args::none().and(number)).await?;
        let Ok(text) = answer.text() else { return Ok(None) };
        let corrupt = || Fault::Corrupt(format!("owner of number {number}: {text:?}"));
        let (block, log) = text.split_once(' ').ok_or_else(corrupt)?;
        let block = block.parse().map_err(|_| corrupt())?;
        Ok(Some((parse_log(log).ok_or_else(corrupt)?, block)))
    }
}
