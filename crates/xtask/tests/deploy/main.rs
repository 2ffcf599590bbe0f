//! The chart and what lies in `deploy/`: rendered, read by the programs that will read it, and held against the gateway's options.
//!
//! Needs Helm, a validator of Kubernetes objects, HAProxy, nginx and promtool; `cargo xtask test` installs them. What is missing is told, and
//! its tests are skipped.

mod alerts;
mod balancers;
mod chart;
mod compose;
mod image;
mod manifests;
mod options;
mod refusals;
mod restricted;
mod scanned;
mod tools;
