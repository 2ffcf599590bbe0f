//! Begun.

fn main() {}
