//! The listeners and what they serve.
