//! The server API.
use std::sync::Arc;

use axum::Router;

use crate::node::Node;

/// The server API's routes.
pub fn router(_node: &Arc<Node>) -> Router {
    Router::new()
}
