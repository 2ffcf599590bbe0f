//! Whom a trusted proxy speaks for.
//!
//! Owns: reading `X-Forwarded-For` and `Forwarded`, from the end that our own proxies wrote. Must not know: what an address
//! is good for.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};

use crate::config::{Config, ProxyHeader};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether an address is a trusted proxy's.
pub(super) fn is_trusted(config: &Config, address: IpAddr) -> bool {
    config.trusted_proxies.iter().any(|network| network.contains(address))
}

/// Where a request comes from that `peer` brought: of the hops it and those behind it tell, the last that is no trusted
/// proxy. What is not understood ends the list: whoever is left of it may have been made up.
pub(super) fn client(config: &Config, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut known = peer.to_canonical();
    let name = match config.proxy_header {
        ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
        ProxyHeader::Forwarded => header::FORWARDED,
    };
    let mut lines = headers.get_all(name).iter().rev();
    while is_trusted(config, known) {
        let Some(line) = lines.next() else { return known };
        let Ok(line) = line.to_str() else { return known };
        for hop in line.rsplit(',') {
            let address = match config.proxy_header {
                ProxyHeader::XForwardedFor => address(hop.trim()),
                ProxyHeader::Forwarded => forwarded(hop),
            };
            let Some(address) = address else { return known };
            known = address;
            if !is_trusted(config, known) {
                break;
            }
        }
    }
    known
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let plain = text.parse().ok();
    let address = plain.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.or_else(|| bare()?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6)).map(|ip| ip.to_canonical())
}

/// The one `for` of an element; none of a name that hides it (`_x`, `unknown`).
fn forwarded(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim().split_once('=')?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    address(quoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(header: ProxyHeader) -> Config {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        Config { trusted_proxies: trusted.to_vec(), proxy_header: header, ..Config::default() }
    }

    fn told(config: &Config, peer: &str, lines: &[(&str, &[u8])]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), (*value).try_into().unwrap());
        }
        client(config, peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_hop_that_is_no_proxy_is_the_client() {
        let config = config(ProxyHeader::XForwardedFor);
        for (line, client) in [
            ("203.0.113.7", "203.0.113.7"),
            ("1.2.3.4, 203.0.113.7", "203.0.113.7"),
            ("1.2.3.4, 203.0.113.7, 10.1.1.1,10.1.1.2", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711, fd00::1", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            // All of them are ours: the furthest.
            ("10.9.9.9, 10.1.1.1", "10.9.9.9"),
            // What is left of something that is no address may be made up.
            ("1.2.3.4, unknown", "10.0.0.1"),
            ("1.2.3.4, unknown, 10.1.1.1", "10.1.1.1"),
            ("1.2.3.4,", "10.0.0.1"),
            ("", "10.0.0.1"),
            (",,,", "10.0.0.1"),
            ("1.2.3.4 5.6.7.8", "10.0.0.1"),
            ("1.2.3.4:99999", "10.0.0.1"),
            ("[::1", "10.0.0.1"),
            ("[1.2.3.4]", "10.0.0.1"),
            ("fe80::1%eth0", "10.0.0.1"),
            ("\"1.2.3.4\"", "10.0.0.1"),
        ] {
            assert_eq!(told(&config, "10.0.0.1", &[("x-forwarded-for", line.as_bytes())]), client, "{line}");
        }
    }

    #[test]
    fn nobody_elses_word_counts() {
        let config = config(ProxyHeader::XForwardedFor);
        let lines: &[(&str, &[u8])] = &[("x-forwarded-for", b"1.2.3.4"), ("forwarded", b"for=1.2.3.4")];
        assert_eq!(told(&config, "203.0.113.9", lines), "203.0.113.9");
        assert_eq!(told(&Config::default(), "10.0.0.1", lines), "10.0.0.1", "none is trusted unless named");
        assert_eq!(told(&config, "::ffff:10.0.0.1", lines), "1.2.3.4");
        // The header that the proxies do not write comes from the client.
        assert_eq!(told(&config, "10.0.0.1", &lines[1..]), "10.0.0.1");
    }

    #[test]
    fn several_lines_are_one_list_and_bytes_that_are_no_text_end_it() {
        let config = config(ProxyHeader::XForwardedFor);
        let name = "x-forwarded-for";
        assert_eq!(
            told(&config, "10.0.0.1", &[(name, b"1.2.3.4"), (name, b"203.0.113.7, 10.1.1.1")]),
            "203.0.113.7"
        );
        assert_eq!(told(&config, "10.0.0.1", &[(name, b"203.0.113.7"), (name, b"10.1.1.1")]), "203.0.113.7");
        assert_eq!(told(&config, "10.0.0.1", &[(name, b"1.2.3.4"), (name, b"\xff\xfe")]), "10.0.0.1");
        let many = [b"10.1.1.1,".repeat(2000), b"10.1.1.1".to_vec()].concat();
        assert_eq!(told(&config, "10.0.0.1", &[(name, b"203.0.113.7"), (name, &many)]), "203.0.113.7");
    }

    #[test]
    fn forwarded_is_read_as_it_is_written() {
        let config = config(ProxyHeader::Forwarded);
        for (line, client) in [
            ("for=203.0.113.7", "203.0.113.7"),
            ("For=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
            ("proto=https; for=\"203.0.113.7:80\"", "203.0.113.7"),
            ("for=1.2.3.4, for=\"[2001:db8::7]:4711\", for=10.1.1.1", "2001:db8::7"),
            ("for=\"[2001:db8::7]\"", "2001:db8::7"),
            ("for=1.2.3.4, for=_x", "10.0.0.1"),
            ("for=1.2.3.4, for=unknown, for=10.1.1.1", "10.1.1.1"),
            ("for=1.2.3.4;for=5.6.7.8", "10.0.0.1"),
            ("for=1.2.3.4, proto=https", "10.0.0.1"),
            ("for=\"x, for=203.0.113.7", "203.0.113.7"),
            ("for=1.2.3.4, host=\"a,b\";for=5.6.7.8;x", "10.0.0.1"),
            ("for=", "10.0.0.1"),
            ("1.2.3.4", "10.0.0.1"),
        ] {
            assert_eq!(told(&config, "10.0.0.1", &[("forwarded", line.as_bytes())]), client, "{line}");
        }
        assert_eq!(told(&config, "10.0.0.1", &[("x-forwarded-for", b"1.2.3.4")]), "10.0.0.1");
    }
}
