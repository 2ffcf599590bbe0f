//! One Parlance node as a library.
pub mod auth;
pub mod clock;
pub mod config;
pub mod http;
