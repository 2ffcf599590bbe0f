//! What a cluster node says of its cluster: `CLUSTER NODES`, read.
//!
//! Owns: that format. Must not know: processes.

/// One node, as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Whether it is the one that was asked.
    pub own: bool,
    /// Whether it is known well: neither met just now nor given up.
    pub settled: bool,
    /// Of a replica, the id of its primary.
    pub primary: Option<String>,
    /// Of a primary, how new its claim on its slots is.
    pub epoch: u64,
    /// First and last slot of each range.
    pub slots: Vec<(u16, u16)>,
}

impl Seen {
    /// Whether it is a primary that claims a slot.
    pub fn claims(&self, slot: u16) -> bool {
        self.primary.is_none() && self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// Reads an answer to `CLUSTER NODES`; lines of another form are skipped.
pub fn read(answer: &str) -> Vec<Seen> {
    answer.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Seen> {
    let mut words = line.split_whitespace();
    let id = words.next()?.to_owned();
    let _address = words.next()?;
    let flags: Vec<&str> = words.next()?.split(',').collect();
    let primary = words.next().filter(|id| *id != "-").map(str::to_owned);
    let (_pinged, _answered) = (words.next()?, words.next()?);
    let epoch = words.next()?.parse().ok()?;
    let _connected = words.next()?;
    let slots = words.filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let bad = ["handshake", "noaddr", "fail", "fail?"];
    let settled = !flags.iter().any(|flag| bad.contains(flag));
    Some(Seen { id, own: flags.contains(&"myself"), settled, primary, epoch, slots: slots.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_with_slots_under_way() {
        let answer = "a 127.0.0.1:1@11 myself,master - 0 0 3 connected 0-5 7 [9->-b]\n\
                      b 127.0.0.1:2@12,host slave,fail a 0 1 3 connected\n";
        let seen = read(answer);
        assert_eq!(seen[0].slots, [(0, 5), (7, 7)]);
        assert!(seen[0].own && seen[0].settled && seen[0].claims(7) && !seen[0].claims(6));
        assert_eq!((seen[1].primary.as_deref(), seen[1].settled), (Some("a"), false));
    }
}
