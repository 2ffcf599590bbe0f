//! A collector of spans: OTLP over HTTP, as nodes export it.
//!
//! Owns: what came, and as much of the format (protobuf) as spans need. Must not know: which spans there ought to be.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::PATIENCE;

/// A span as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// The trace, as 32 digits.
    pub trace: String,
    /// Its own id, as 16 digits.
    pub id: String,
    /// Its parent's; empty without one.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// Nanoseconds of its beginning and its end.
    pub times: (u64, u64),
    /// What it says, and under `resource.` what its process says of itself.
    pub says: BTreeMap<String, String>,
}

/// A collector on the loopback; dropped, it is gone.
pub struct Collector {
    address: String,
    spans: watch::Receiver<Vec<Span>>,
    _serving: JoinSet<()>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (came, spans) = watch::channel(Vec::new());
        let came = Arc::new(came);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let came = came.clone();
                let service = service_fn(move |request| {
                    let came = came.clone();
                    async move { Ok::<_, Infallible>(answer(&came, request).await) }
                });
                connections.spawn(async move {
                    // Nodes go whenever they like.
                    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, spans, _serving: serving })
    }

    /// Where nodes send to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }

    /// Waits until as many spans are there.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn wait(&self, count: usize) -> Result<Vec<Span>> {
        let mut spans = self.spans.clone();
        let there = timeout(PATIENCE, spans.wait_for(|spans| spans.len() >= count)).await;
        match there {
            Ok(there) => Ok(there?.clone()),
            Err(_) => anyhow::bail!("of {count} spans there are only {:#?}", self.spans()),
        }
    }
}

async fn answer(came: &watch::Sender<Vec<Span>>, request: Request<Incoming>) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let right = request.method() == Method::POST && request.uri().path() == "/v1/traces";
    let read = match request.into_body().collect().await {
        Ok(body) if right && kind.is_some_and(|kind| kind == "application/x-protobuf") => {
            read(&body.to_bytes())
        }
        _ => Err(anyhow::anyhow!("no export of spans")),
    };
    match read {
        Ok(spans) => came.send_modify(|all| all.extend(spans)),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// The value of a field.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    fn hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(_) => 0,
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count).context("cut off")?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    anyhow::bail!("a number without end")
}

/// The fields of a message, in their order.
fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into()?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?)?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => Value::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into()?).into()),
            other => anyhow::bail!("a field of kind {other}"),
        };
        all.push((tag >> 3, value));
    }
    Ok(all)
}

fn attribute(bytes: &[u8]) -> Result<(String, String)> {
    let (mut key, mut said) = (String::new(), String::new());
    for (field, value) in fields(bytes)? {
        match field {
            1 => key = value.text(),
            2 => {
                for (kind, value) in fields(value.bytes())? {
                    said = if kind == 1 { value.text() } else { value.number().to_string() };
                }
            }
            _ => {}
        }
    }
    Ok((key, said))
}

fn span(bytes: &[u8], resource: &BTreeMap<String, String>) -> Result<Span> {
    let mut span = Span { says: resource.clone(), ..Span::default() };
    for (field, value) in fields(bytes)? {
        match field {
            1 => span.trace = value.hex(),
            2 => span.id = value.hex(),
            4 => span.parent = value.hex(),
            5 => span.name = value.text(),
            7 => span.times.0 = value.number(),
            8 => span.times.1 = value.number(),
            9 => span.says.extend([attribute(value.bytes())?]),
            _ => {}
        }
    }
    ensure!(span.trace.len() == 32 && span.id.len() == 16, "a span without ids: {span:?}");
    Ok(span)
}

/// Reads an export: spans within scopes within resources.
fn read(bytes: &[u8]) -> Result<Vec<Span>> {
    let mut spans = Vec::new();
    for (_, of_resource) in fields(bytes)?.iter().filter(|(field, _)| *field == 1) {
        let all = fields(of_resource.bytes())?;
        let mut resource = BTreeMap::new();
        for (_, of) in all.iter().filter(|(field, _)| *field == 1) {
            for (_, said) in fields(of.bytes())?.iter().filter(|(field, _)| *field == 1) {
                let (key, value) = attribute(said.bytes())?;
                resource.insert(format!("resource.{key}"), value);
            }
        }
        for (_, of_scope) in all.iter().filter(|(field, _)| *field == 2) {
            for (_, one) in fields(of_scope.bytes())?.iter().filter(|(field, _)| *field == 2) {
                spans.push(span(one.bytes(), &resource)?);
            }
        }
    }
    Ok(spans)
}
