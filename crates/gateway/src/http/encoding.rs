//! Content codings of larger answers: which one the client takes, and applying it.
//!
//! Must not know: what is compressed.

use std::io::Write;

use axum::http::{HeaderValue, header::GetAll};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// Smaller answers are not worth the work: the reference's threshold.
pub const WORTH_IT: usize = 1024;
/// Larger answers are compressed aside, not to keep other connections waiting.
const LARGE: usize = 32 * 1024;

/// A coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`.
    Gzip,
    /// `deflate`, which is zlib.
    Deflate,
}

impl Coding {
    /// The name in the headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Compresses.
    pub async fn encode(self, data: Vec<u8>) -> Vec<u8> {
        if data.len() < LARGE {
            return self.encode_now(&data);
        }
        tokio::task::spawn_blocking(move || self.encode_now(&data)).await.unwrap_or_default()
    }

    fn encode_now(self, data: &[u8]) -> Vec<u8> {
        let out = Vec::with_capacity(data.len() / 3);
        // Writing to memory does not fail.
        let done = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                encoder.write_all(data).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::fast());
                encoder.write_all(data).and_then(|()| encoder.finish())
            }
        };
        done.unwrap_or_default()
    }
}

/// The coding a client likes best; of two it likes equally, gzip. `None` when it prefers or takes neither.
pub fn choose(accepted: GetAll<'_, HeaderValue>) -> Option<Coding> {
    let offers: Vec<(&str, u32)> = accepted
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            let name = parts.next().filter(|name| !name.is_empty())?;
            Some((name, quality(parts)))
        })
        .collect();
    let of = |name: &str| {
        let named = offers.iter().find(|(offer, _)| offer.eq_ignore_ascii_case(name));
        named.or_else(|| offers.iter().find(|(offer, _)| *offer == "*")).map_or(0, |(_, quality)| *quality)
    };
    let (gzip, deflate) = (of("gzip"), of("deflate"));
    let coding = if gzip >= deflate { Coding::Gzip } else { Coding::Deflate };
    let plain = offers.iter().find(|(offer, _)| offer.eq_ignore_ascii_case("identity"));
    let best = gzip.max(deflate);
    (best > 0 && plain.is_none_or(|(_, plain)| *plain <= best)).then_some(coding)
}

/// Thousandths; 1000 when nothing is said.
fn quality<'a>(mut parameters: impl Iterator<Item = &'a str>) -> u32 {
    let given = parameters.find_map(|parameter| parameter.strip_prefix("q="));
    given.map_or(1000, |q| q.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::http::{HeaderMap, header};

    use super::*;

    fn chosen(accept: &[&str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        choose(headers.get_all(header::ACCEPT_ENCODING))
    }

    #[test]
    fn the_client_chooses_and_gzip_goes_first() {
        use Coding::{Deflate, Gzip};
        for (accept, expected) in [
            (vec![], None),
            (vec![""], None),
            (vec!["identity"], None),
            (vec!["br"], None),
            (vec!["gzip, deflate, br"], Some(Gzip)),
            (vec!["deflate, gzip"], Some(Gzip)),
            (vec!["deflate"], Some(Deflate)),
            (vec!["gzip;q=0.2, deflate;q=0.8"], Some(Deflate)),
            (vec!["deflate", "GZIP"], Some(Gzip)),
            (vec!["*"], Some(Gzip)),
            (vec!["gzip;q=0, *"], Some(Deflate)),
            (vec!["gzip;q=0"], None),
            (vec!["gzip; q=0"], None),
            (vec!["identity;q=1, gzip;q=0.5"], None),
            (vec!["gzip;q=NaN", ";;,,;q="], None),
        ] {
            assert_eq!(chosen(&accept), expected, "{accept:?}");
        }
    }

    #[tokio::test]
    async fn what_is_encoded_reads_back() {
        for len in [0, 1024, 100_000] {
            let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut back = Vec::new();
            let gzip = Coding::Gzip.encode(data.clone()).await;
            flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut back).unwrap();
            assert!(back == data);
            back.clear();
            let zlib = Coding::Deflate.encode(data.clone()).await;
            flate2::read::ZlibDecoder::new(&zlib[..]).read_to_end(&mut back).unwrap();
            assert!(back == data);
        }
    }
}
