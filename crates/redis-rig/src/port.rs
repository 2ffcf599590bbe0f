//! Ports of the loopback address that nobody listens on.
//!
//! Owns: which ports servers get. Below those that systems hand out by themselves (32768 and up on Linux): a server that
//! is started again on its port finds it taken by nobody's outgoing connection.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const LOWEST: u16 = 10_000;
const HIGHEST: u16 = 32_000;
/// From the port of a cluster's node to that of its bus, as Redis has it.
const BUS: u16 = 10_000;

/// A port nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free() -> Result<u16> {
    of(HIGHEST, |_| true)
}

/// A port of a cluster's node: the one of its bus is free as well.
///
/// # Errors
/// When there is none.
pub(crate) fn with_bus() -> Result<u16> {
    of(HIGHEST - BUS, |port| is_free(port + BUS))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// One after the other from anywhere on: two tests of a program that start servers at once never get the same.
fn of(highest: u16, is_good: impl Fn(u16) -> bool) -> Result<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    for _ in LOWEST..HIGHEST {
        let port = LOWEST + NEXT.fetch_add(1, Ordering::Relaxed) % (HIGHEST - LOWEST);
        if port < highest && is_free(port) && is_good(port) {
            return Ok(port);
        }
    }
    bail!("no free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_given() -> Result<()> {
        // Somebody else may be given it, too, and take it first.
        let (port, listener) = loop {
            let port = free()?;
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                break (port, listener);
            }
        };
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port) && (LOWEST..HIGHEST).contains(&port));
        assert!(with_bus()? < HIGHEST - BUS);
        Ok(())
    }
}
