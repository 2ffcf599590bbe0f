//! Verification of user tokens.
