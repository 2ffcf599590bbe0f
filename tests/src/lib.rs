//! The harness of the cross-process tests: starts the real binary, and speaks to it as clients and backends do.
//!
//! Must not know: the gateway's code. What a test sees, a client could see.

pub mod asked;
pub mod backend;
pub mod balancer;
pub mod chaos;
pub mod collector;
pub mod cost;
pub mod exact;
pub mod front;
pub mod gateway;
pub mod hostile;
pub mod http;
pub mod io;
pub mod lists;
pub mod metrics;
pub mod million;
pub mod papers;
pub mod postgres;
pub mod prometheus;
pub mod raw;
pub mod reader;
pub mod reference;
pub mod rollout;
pub mod script;
pub mod stock;
pub mod token;
pub mod tongue;
pub mod upload;
pub mod ws;

pub use balancer::Balancer;
pub use gateway::{Gateway, Options, built_bench, built_binary};
pub use http::Response;
pub use io::IoClient;
pub use postgres::Postgres;
pub use raw::Raw;
pub use reader::Reader;
pub use reference::Reference;
pub use stock::{ConnectOptions, Stock, StockSocket, Transports, binary};
pub use token::token;
pub use tongue::{Device, Map};
pub use upload::Upload;
pub use ws::Ws;

/// The secret that signs the tokens of all tests.
pub const SECRET: &str = "a-secret-of-the-tests-of-32-bytes-or-more";
/// The key of the server API in all tests.
pub const API_KEY: &str = "test-api-key";
/// How long a test waits for what must come.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
