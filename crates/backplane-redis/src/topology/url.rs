//! The address of an installation, as it is configured: a server, the Sentinels that know it, or nodes of a cluster.

use parlance_backplane::Fault;

use super::Address;
use crate::access::Login;

const FORMS: &str = "a Redis address is redis://[user:password@]host[:port], \
    redis-sentinel://[user:password@]host:port,.../service or redis-cluster://[user:password@]host:port,... \
    (with TLS rediss://, rediss-sentinel://, rediss-cluster://)";

/// Where Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One server.
    Standalone(Address),
    /// The primary that Sentinels name.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<Address>,
        /// What they call it.
        service: String,
        /// The kind of connection of the servers; the host means nothing.
        server: Address,
    },
    /// Some nodes of a cluster.
    Cluster(Vec<Address>),
}

/// The logins of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logins {
    /// At the servers.
    pub server: Option<Login>,
    /// At the Sentinels.
    pub sentinel: Option<Login>,
}

fn bad(what: &str) -> Fault {
    Fault::Unavailable(if what.is_empty() { FORMS.to_owned() } else { format!("{what}: {FORMS}") })
}

/// `%40` and the like; a `%` that begins nothing of the kind stands for itself.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex.filter(|_| *byte == b'%') {
            Some(escaped) => {
                out.push(escaped);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn login(text: &str) -> Login {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let user = if user.is_empty() { "default" } else { user };
    Login { user: decoded(user), password: decoded(password) }
}

/// `host`, `host:port`, `[::1]:port`.
fn host_and_port(text: &str, otherwise: u16) -> Result<(String, u16), Fault> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| bad("not a port number"))?)
        }
        _ => (text, otherwise),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(bad("a host is missing")) } else { Ok((host.to_owned(), port)) }
}

impl Place {
    /// Reads one of the forms, with the logins in it. User and password may be percent-encoded.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] that says what the forms are.
    pub fn parse(url: &str) -> Result<(Self, Logins), Fault> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad(""))?;
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").ok_or_else(|| bad(""))?),
        };
        // A query belongs to Sentinel only; elsewhere a question mark is part of a password.
        let (rest, query) = match rest.rsplit_once('?') {
            Some((rest, query)) if kind == "-sentinel" => (rest, query),
            _ => (rest, ""),
        };
        let (server, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(login(user)), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = |host: &str, otherwise| {
            let (host, port) = host_and_port(host, otherwise)?;
            Ok::<_, Fault>(Address { host, port, tls, sentinel: false })
        };
        let several =
            |otherwise| hosts.split(',').map(|host| address(host, otherwise)).collect::<Result<Vec<_>, _>>();
        let place = match kind {
            "" | "-cluster" if !matches!(path, "" | "0") => Err(bad("only database 0 is used")),
            "" => Ok(Self::Standalone(address(hosts, 6379)?)),
            "-cluster" => Ok(Self::Cluster(several(6379)?)),
            "-sentinel" => {
                let (place, sentinel) = Self::sentinel(several(26379)?, path, query)?;
                return Ok((place, Logins { server, sentinel }));
            }
            _ => Err(bad("")),
        };
        Ok((place?, Logins { server, sentinel: None }))
    }

    fn sentinel(named: Vec<Address>, service: &str, query: &str) -> Result<(Self, Option<Login>), Fault> {
        if service.is_empty() {
            return Err(bad("the service's name is missing"));
        }
        let option = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(given, _)| *given == name).map(|(_, value)| decoded(value))
        };
        let known =
            |pair: &str| ["sentinel_user=", "sentinel_password="].iter().any(|it| pair.starts_with(it));
        if !query.is_empty() && !query.split('&').all(known) {
            return Err(bad("an unknown option after the question mark"));
        }
        let user = option("sentinel_user").unwrap_or_else(|| "default".to_owned());
        let login = option("sentinel_password").map(|password| Login { user, password });
        let server = named.first().ok_or_else(|| bad("a host is missing"))?.clone();
        let sentinels = named.into_iter().map(|it| Address { sentinel: true, ..it }).collect();
        Ok((Self::Sentinel { sentinels, service: decoded(service), server }, login))
    }

    /// Whether TLS is spoken there.
    pub fn speaks_tls(&self) -> bool {
        match self {
            Self::Standalone(address) | Self::Sentinel { server: address, .. } => address.tls,
            Self::Cluster(nodes) => nodes.first().is_some_and(|node| node.tls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address::plain(host, port)
    }

    fn as_user(user: &str, password: &str) -> Option<Login> {
        Some(Login { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_forms_are_read() {
        let read = |url| {
            let (place, logins) = Place::parse(url).unwrap();
            assert!(matches!(place, Place::Sentinel { .. }) || logins.sentinel.is_none(), "{url}");
            (place, logins.server)
        };
        assert_eq!(read("redis://h"), (Place::Standalone(at("h", 6379)), None));
        let one = Place::Standalone(at("h", 1));
        assert_eq!(read("redis://u:p%40%2F%@h:1/0"), (one, as_user("u", "p@/%")));
        let one = Place::Standalone(at("::1", 6379));
        assert_eq!(read("redis://:a?b/c@[::1]"), (one, as_user("default", "a?b/c")));
        let nodes = vec![at("a", 1), at("b", 6379)];
        assert_eq!(read("redis-cluster://u:p@a:1,b"), (Place::Cluster(nodes.clone()), as_user("u", "p")));
        let nodes = nodes.into_iter().map(|node| Address { tls: true, ..node }).collect();
        assert_eq!(read("rediss-cluster://u:p@a:1,b/"), (Place::Cluster(nodes), as_user("u", "p")));
        let sentinel = |host, port| Address { sentinel: true, ..at(host, port) };
        let sentinels = Place::Sentinel {
            sentinels: vec![sentinel("a", 1), sentinel("b", 26379)],
            service: "main".to_owned(),
            server: at("a", 1),
        };
        let plain = "redis-sentinel://u:p@a:1,b/main";
        assert_eq!(read(plain), (sentinels, as_user("u", "p")));
        assert_eq!(Place::parse(plain).unwrap().1.sentinel, None);
        let (_, logins) = Place::parse(&format!("{plain}?sentinel_user=s&sentinel_password=x%20y")).unwrap();
        assert_eq!(logins, Logins { server: as_user("u", "p"), sentinel: as_user("s", "x y") });
    }

    #[test]
    fn what_is_no_address_is_refused_without_telling_a_password() {
        for url in [
            "",
            "redis",
            "http://u:secret@h",
            "redis-magic://u:secret@h",
            "redis://",
            "redis://u:secret@",
            "redis://u:secret@h:x",
            "redis://u:secret@h:70000",
            "redis://u:secret@h/1",
            "redis-cluster://u:secret@a,,b",
            "redis-sentinel://u:secret@a",
            "redis-sentinel://u:secret@a/main?magic=1",
        ] {
            let Err(Fault::Unavailable(line)) = Place::parse(url) else { panic!("{url}") };
            assert!(!line.contains("secret") && line.contains("redis-cluster://"), "{line}");
        }
    }
}
