//! Sending spans to a collector: OTLP over HTTP, as the standard environment variables say.
//!
//! Owns: reading them where the SDK does not, the HTTP client. Everything happens on the exporter's own thread, behind a
//! bounded queue that loses spans when it is full: a collector that is away holds nothing up.

use std::env;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use parlance_model::NodeId;
use tokio::runtime::Runtime;

use crate::outbound::{self, Outbound};

/// Of so many messages one is sampled where nothing else is said.
const ONE_IN: f64 = 1_000.0;
/// For one export, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a collector's answer so much is read.
const LONGEST: usize = 64 * 1024;

/// What is set and not empty: the specification takes the one for the other.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The first of these that is set.
fn first(names: [&str; 2]) -> Option<String> {
    names.into_iter().find_map(set)
}

/// Where spans go; `None`: nowhere, as long as no collector is named.
pub fn provider(node: &NodeId) -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let other = set("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
    let endpoint = first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
    let (Some(endpoint), false) = (endpoint, off || other) else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Collector::default())
        .build()?;
    let mut resource =
        Resource::builder().with_attribute(KeyValue::new("service.instance.id", node.to_string()));
    let named = set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    if !named && set("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("parlance");
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.with_attribute(version).build());
    if set("OTEL_TRACES_SAMPLER").is_none() {
        let roots = Sampler::TraceIdRatioBased(1.0 / ONE_IN);
        provider = provider.with_sampler(Sampler::ParentBased(Box::new(roots)));
    }
    tracing::info!(%endpoint, "messages are traced");
    Ok(Some(provider.build()))
}

/// The HTTP client, on whose thread nothing else runs.
#[derive(Default)]
struct Collector {
    /// Made where it is used and dropped: a runtime must not be dropped on one.
    inner: OnceLock<Result<(Runtime, Outbound), String>>,
    away: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    fn open() -> Result<(Runtime, Outbound), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok((runtime.map_err(|error| error.to_string())?, Outbound::new()?))
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let (runtime, client) = self.inner.get_or_init(Self::open).as_ref().map_err(Clone::clone)?;
        let given = first(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]);
        let patience = given.and_then(|ms| ms.parse().ok()).map_or(PATIENCE, Duration::from_millis);
        let exchange = async {
            let answer = client.send(request.map(Full::new)).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut read = Response::new(outbound::body(answer, LONGEST).await?);
            (*read.status_mut(), *read.headers_mut()) = (status, headers);
            Ok(read)
        };
        let exchange = async { tokio::time::timeout(patience, exchange).await };
        runtime.block_on(exchange).map_err(|_| "it does not answer".to_owned())?
    }

    /// Says once that it is away, and once that it is back.
    fn note(&self, done: &Result<Response<Bytes>, String>) {
        let why = match done {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(why) => Some(why.clone()),
        };
        match (why, self.away.load(Ordering::Relaxed)) {
            (Some(why), false) => tracing::warn!(why, "the collector does not take spans"),
            (None, true) => tracing::info!("the collector takes spans again"),
            (why, _) => tracing::debug!(why, "spans"),
        }
        self.away.store(!matches!(done, Ok(answer) if answer.status().is_success()), Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    /// Blocks, as the thread of a batch processor expects.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let done = self.send(request);
        self.note(&done);
        done.map_err(Into::into)
    }
}
