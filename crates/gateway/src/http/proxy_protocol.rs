//! The PROXY protocol, versions 1 and 2: what a balancer that does not read HTTP says of a connection before its first byte.
//!
//! Owns: reading exactly the header and nothing behind it. Must not know: who may send one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The shortest header of version 1, and what both can be told apart by.
const SHORTEST: usize = b"PROXY UNKNOWN\r\n".len();
const LONGEST_LINE: usize = 107;
/// Of version 2, with all that balancers add: more is an attack.
const LONGEST_BLOCK: usize = 2048;

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

/// Reads the header: whom the connection is of; `None`: of the balancer itself, or it does not say.
///
/// # Errors
/// When there is none, or the connection breaks.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut head = [0; SHORTEST];
    stream.read_exact(&mut head).await?;
    if head.starts_with(SIGNATURE) { version2(stream, &head).await } else { version1(stream, &head).await }
}

/// A line of text. Byte by byte to its end: what is behind it is not ours.
async fn version1(stream: &mut (impl AsyncRead + Unpin), head: &[u8]) -> io::Result<Option<IpAddr>> {
    if !head.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    let mut line = head.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_LINE {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| malformed())?;
    let words: Vec<&str> = text.trim_end_matches("\r\n").split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, target, from, to] => {
            let address =
                |text: &str| text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (*family == "TCP4"));
            let all = (address(source), address(target), from.parse::<u16>(), to.parse::<u16>());
            let (Some(source), Some(_), Ok(_), Ok(_)) = all else { return Err(malformed()) };
            Ok(Some(source))
        }
        _ => Err(malformed()),
    }
}

/// A block of bytes: version and command, family, length, addresses, and what is not looked at.
async fn version2(stream: &mut (impl AsyncRead + Unpin), head: &[u8]) -> io::Result<Option<IpAddr>> {
    let [.., command, family, high] = *head else { return Err(malformed()) };
    let length = usize::from(u16::from_be_bytes([high, stream.read_u8().await?]));
    if command >> 4 != 2 || length > LONGEST_BLOCK {
        return Err(malformed());
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    match (command & 0xf, family >> 4) {
        // A look at its health, or a socket that has no address.
        (0, _) | (1, 0 | 3) => Ok(None),
        (1, 1) if length >= 12 => Ok(block.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip).into())),
        (1, 2) if length >= 36 => Ok(block.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).into())),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and what is left.
    async fn said(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, usize) {
        let mut rest = bytes;
        let read = read(&mut rest).await;
        (read.map(|ip| ip.map(|ip| ip.to_string())).map_err(|error| error.kind()), rest.len())
    }

    fn block(command: u8, family: u8, inside: &[u8]) -> Vec<u8> {
        let length = u16::try_from(inside.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, inside].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_end_and_no_further() {
        let v6 = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        let with_more = [&[203, 0, 113, 7, 10, 0, 0, 1, 0, 1, 0, 2][..], &[3; 50]].concat();
        for (header, address) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 8082\r\n".to_vec(), Some("203.0.113.7")),
            (b"PROXY TCP6 2001:db8::7 ::1 4711 8082\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (block(0x21, 0x11, &with_more), Some("203.0.113.7")),
            (block(0x21, 0x21, &[&v6[..], &[0; 20]].concat()), Some("2001:db8::7")),
            (block(0x20, 0x00, b""), None),
            (block(0x21, 0x31, &[0; 216]), None),
        ] {
            let behind = [header.as_slice(), b"GET / HTTP/1.1"].concat();
            assert_eq!(said(&behind).await, (Ok(address.map(str::to_owned)), 14), "{header:?}");
            let cut = said(&header[..header.len() - 1]).await.0;
            assert_eq!(cut, Err(io::ErrorKind::UnexpectedEof), "{header:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_no_header() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 ::1 4711 8082\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 99999\r\n".to_vec(),
            b"PROXY TCP4  203.0.113.7 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n".to_vec(),
            b"proxy TCP4 203.0.113.7 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY \xff\xff\xff\xff\xff\xff\xff\xff\xff\r\n".to_vec(),
            long,
            block(0x11, 0x11, &[0; 12]),
            block(0x22, 0x11, &[0; 12]),
            block(0x21, 0x11, &[0; 11]),
            block(0x21, 0x21, &[0; 12]),
            block(0x21, 0x11, &[0; 4000]),
        ] {
            assert_eq!(said(&bytes).await.0, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
    }
}
