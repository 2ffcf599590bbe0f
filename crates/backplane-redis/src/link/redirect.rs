//! Where a server sends a command that it does not execute itself.

/// What a refusal asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// The slot has another server: host (empty: the host that said so) and port.
    Moved(String, u16),
    /// The slot is on its way to another server, and so may the key be; for this one command.
    Ask(String, u16),
    /// Nothing else than to try again soon.
    Again,
}

impl Redirect {
    /// Reads `MOVED 3999 127.0.0.1:6381`, `ASK 3999 host:6381`, or anything else.
    pub fn of(said: &str) -> Self {
        let mut words = said.split_whitespace();
        let (kind, place) = (words.next(), words.nth(1));
        let server = place.and_then(|place| place.rsplit_once(':'));
        let server = server.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
        match (kind, server) {
            (Some("MOVED"), Some((host, port))) => Self::Moved(host, port),
            (Some("ASK"), Some((host, port))) => Self::Ask(host, port),
            _ => Self::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read() {
        let moved = |host: &str, port| Redirect::Moved(host.to_owned(), port);
        assert_eq!(Redirect::of("MOVED 3999 127.0.0.1:6381"), moved("127.0.0.1", 6381));
        assert_eq!(Redirect::of("MOVED 3999 :6381"), moved("", 6381));
        assert_eq!(Redirect::of("MOVED 3999 fe80::1:6381"), moved("fe80::1", 6381));
        assert_eq!(Redirect::of("ASK 1 h:1"), Redirect::Ask("h".to_owned(), 1));
        for said in ["TRYAGAIN Multiple keys", "MOVED", "MOVED 1 h", "ASK 1 h:port", ""] {
            assert_eq!(Redirect::of(said), Redirect::Again, "{said}");
        }
    }
}
