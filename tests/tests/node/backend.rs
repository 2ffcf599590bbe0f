//! The application's backend, as all tests of this program find it.

pub use parlance_tests::asked::{Backend, http, no, yes};
