//! What nobody sends by mistake: every address of both listeners against heads that can be read in two ways, targets
//! and bodies that are none, credentials in all wrong forms, slowness, cuts at every byte, and all of it at once.
//!
//! Each is answered as documented where an answer is possible; nothing is stored, nothing stays behind, and others
//! notice nothing. What one dialect makes of bad frames is tested with the dialect.

mod bodies;
mod calls;
mod credentials;
mod cuts;
mod forwarded;
mod heads;
mod mix;
mod queries;
mod slow;
mod stage;
mod targets;
mod upgrades;
