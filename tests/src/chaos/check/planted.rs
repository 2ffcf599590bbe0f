//! Each check finds a violation that was planted, and is silent without it.
