//! Every file of the fuzzers' corpora, through a peer: what a fuzzer once found stays found, without a fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use std::path::Path;

use parlance_wire::{Dialect, Peer};

#[test]
fn sechat_corpus_is_survived() {
    play(Dialect::Sechat);
}

#[test]
fn socialhub_corpus_is_survived() {
    play(Dialect::Socialhub);
}

fn play(dialect: Dialect) {
    let folder = format!("fuzz/corpus/{}_decode", dialect.as_str());
    let mut files = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let mut peer = Peer::new(fixtures::raw(dialect));
        for user in [None, Some(fixtures::user("alice"))] {
            if let Some(user) = user {
                peer.set_user(user);
            }
            text.lines().for_each(|line| peer.receive(line, fixtures::NOW));
            while let Some((tag, _)) = fixtures::next(&mut peer) {
                peer.answer(&tag, &fixtures::result("done"), fixtures::NOW);
            }
            while let Some(frame) = peer.poll_frame() {
                for text in frame.texts() {
                    assert!(text.starts_with('{') && text.ends_with('}'), "{text}");
                }
            }
        }
        files += 1;
    }
    assert!(files > 0, "the corpus is empty");
}
