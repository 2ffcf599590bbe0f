//! Random logs, trimmed, deleted, begun again and cut short by losses, with archives that lack something: what is read of the two
//! together is what the whole log says.

use std::sync::Arc;

use parlance_backplane::{Page, Range};
use parlance_model::{Entry, MessageId, Record, Time};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::life::Life;
use super::merge::{Archived, merged, wants_more};

/// A log, what its engine has of it, and what is archived.
#[derive(Default)]
struct World {
    /// Of the life there is now.
    log: Vec<Entry>,
    archive: Vec<Entry>,
    epoch: u32,
    at: u64,
    head: u64,
    /// Of the engine.
    first: u64,
}

impl World {
    /// Of 40 to 140 steps; of each 100 entries about so many are not archived.
    fn random(random: &mut StdRng, missing: u32) -> Self {
        let mut world = Self { epoch: 7, ..Self::default() };
        for _ in 0..random.random_range(40..140) {
            match random.random_range(0..40) {
                0 => world.delete(random, missing),
                1 => world.lose(random, missing),
                2 => world.empty(random, missing),
                _ => world.append(Record::Title { title: None, by: None }, random, missing),
            }
        }
        world.append(Record::Title { title: None, by: None }, random, missing);
        // The newest entry is always kept.
        let born = world.log.first().map_or(1, |entry| entry.seq);
        let from = random.random_range(born..=world.head);
        world.first = world.log.iter().find(|entry| entry.seq >= from).map_or(world.head, |entry| entry.seq);
        world
    }

    fn append(&mut self, record: Record, random: &mut StdRng, missing: u32) {
        let prev_at = Time(self.at);
        self.head += 1;
        self.at += random.random_range(0..3);
        let id = MessageId::new(9, u32::try_from(self.head).unwrap()).unwrap();
        let entry = Entry { seq: self.head, epoch: self.epoch, at: Time(self.at), prev_at, id, record };
        if random.random_range(0..100) >= missing {
            self.archive.push(entry.clone());
        }
        self.log.push(entry);
    }

    fn delete(&mut self, random: &mut StdRng, missing: u32) {
        self.append(Record::Deleted, random, missing);
        self.log.clear();
        self.epoch += 1;
        self.append(Record::Members { added: Vec::new(), removed: Vec::new(), by: None }, random, missing);
    }

    /// The engine lost everything: the log begins again at its first place, in an epoch that no earlier log came to.
    fn empty(&mut self, random: &mut StdRng, missing: u32) {
        self.log.clear();
        self.head = 0;
        self.epoch += 1_000;
        self.append(Record::Members { added: Vec::new(), removed: Vec::new(), by: None }, random, missing);
    }

    /// The end is lost, though it was archived, and the log goes on further on.
    fn lose(&mut self, random: &mut StdRng, missing: u32) {
        let lost = random.random_range(0..5).min(self.log.len().saturating_sub(1));
        self.log.truncate(self.log.len() - lost);
        let from = self.log.last().map_or(1, |entry| entry.seq + 1);
        self.head += 10;
        self.epoch += 1;
        let to = self.head;
        self.append(Record::Lost { from, to }, random, missing);
    }

    fn kept(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.log.iter().filter(|entry| entry.seq >= self.first)
    }

    fn engine(&self, range: Range) -> Page {
        let (entries, more) = taken(self.kept().cloned().collect(), range);
        Page { entries, more, first: self.first, head: self.head, epoch: self.epoch }
    }

    /// As the decorator does with the tables.
    fn read(&self, range: Range) -> Page {
        let page = self.engine(range);
        if !wants_more(&page, range) {
            return page;
        }
        let is_break = |entry: &&Entry| matches!(entry.record, Record::Deleted | Record::Lost { .. });
        let breaks: Vec<Entry> = self.archive.iter().filter(is_break).cloned().collect();
        let life = Life::of(page.epoch, &breaks);
        let (first, oldest) = (page.first, life.entries(self.archive.clone()).first().map(|entry| entry.seq));
        let mut rows = life.entries(self.archive.clone());
        rows.retain(|entry| entry.seq < first);
        let most = match range {
            Range::Before { limit, .. } => limit - page.entries.len(),
            Range::After { limit, .. } | Range::Since { limit, .. } => limit,
        };
        let (entries, cut) = taken(rows, with_limit(range, most + 1));
        merged(page, range, &life, Archived { entries, cut, oldest })
    }

    /// Walks the log in pages of random sizes as a client that catches up does: what it is told, and what is missing.
    fn walk(&self, random: &mut StdRng) -> (Vec<Entry>, Vec<(u64, u64)>) {
        let (mut told, mut missing, mut position) = (Vec::<Entry>::new(), Vec::new(), 0);
        loop {
            let page = self.read(Range::After { seq: position, limit: random.random_range(1..9) });
            // A loss tells of itself.
            let lost = match page.entries.first().map(|entry| &entry.record) {
                Some(Record::Lost { from, .. }) => (*from).min(page.first),
                _ => page.first,
            };
            if lost > position + 1 {
                missing.push((position + 1, lost - 1));
            }
            for entry in page.entries {
                let is_next = entry.seq == position + 1 || entry.seq == page.first;
                assert!(is_next || matches!(entry.record, Record::Lost { .. }), "{position} {entry:?}");
                position = entry.seq;
                told.push(entry);
            }
            if position >= self.head {
                assert!(!page.more);
                return (told, missing);
            }
            assert!(page.more);
        }
    }
}

const fn with_limit(range: Range, limit: usize) -> Range {
    match range {
        Range::After { seq, .. } => Range::After { seq, limit },
        Range::Before { seq, .. } => Range::Before { seq, limit },
        Range::Since { at, .. } => Range::Since { at, limit },
    }
}

fn taken(mut all: Vec<Entry>, range: Range) -> (Vec<Entry>, bool) {
    match range {
        Range::After { seq, limit } => {
            all.retain(|entry| entry.seq > seq);
            let more = all.len() > limit;
            all.truncate(limit);
            (all, more)
        }
        Range::Since { at, limit } => {
            all.retain(|entry| entry.at >= at);
            let more = all.len() > limit;
            all.truncate(limit);
            (all, more)
        }
        Range::Before { seq, limit } => {
            all.retain(|entry| entry.seq < seq);
            let from = all.len().saturating_sub(limit);
            (all.split_off(from), from > 0)
        }
    }
}

fn worlds(missing: u32) -> impl Iterator<Item = (World, StdRng, u64)> {
    (0..3_000).map(move |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        (World::random(&mut random, missing), random, seed)
    })
}

/// The same as from a log of which nothing was trimmed.
#[test]
fn where_all_is_archived_every_page_is_that_of_the_whole_log() {
    for (world, mut random, seed) in worlds(0) {
        let born = world.log.first().map_or(1, |entry| entry.seq);
        for _ in 0..20 {
            let (seq, limit) = (random.random_range(0..world.head + 3), random.random_range(1..30));
            let at = Time(random.random_range(0..world.at + 2));
            for range in
                [Range::After { seq, limit }, Range::Before { seq, limit }, Range::Since { at, limit }]
            {
                let page = world.read(range);
                let (entries, more) = taken(world.log.clone(), range);
                assert_eq!((page.entries, page.more), (entries, more), "{seed} {range:?} {born}");
                assert!(page.first >= born && page.first <= world.first, "{seed} {range:?}");
            }
        }
        let (told, missing) = world.walk(&mut random);
        assert_eq!(told, world.log, "{seed}");
        assert!(missing.iter().all(|(_, to)| *to < born), "{seed} {missing:?}");
    }
}

#[test]
fn where_something_is_not_archived_nothing_foreign_comes_and_what_is_missing_is_told() {
    for (world, mut random, seed) in worlds(4) {
        let (told, missing) = world.walk(&mut random);
        assert!(told.is_sorted_by(|a, b| a.seq < b.seq), "{seed}");
        for entry in &world.log {
            let is_missing = missing.iter().any(|(from, to)| (*from..=*to).contains(&entry.seq));
            assert_ne!(told.contains(entry), is_missing, "{seed} {entry:?}");
        }
        assert!(told.iter().all(|entry| world.log.contains(entry)), "{seed}: of another life, or lost");
        assert!(world.kept().all(|entry| told.contains(entry)), "{seed}");
        for _ in 0..20 {
            let (seq, limit) = (random.random_range(0..world.head + 3), random.random_range(1..30));
            let page = world.read(Range::Before { seq, limit });
            assert!(page.entries.iter().all(|entry| world.log.contains(entry)), "{seed}");
            let (whole, _) = taken(world.log.clone(), Range::Before { seq, limit });
            assert!(whole.ends_with(&page.entries), "{seed} {seq} {limit}: in one piece");
            assert!(page.more || page.entries.len() == whole.len() || page.first > 1, "{seed}");
        }
    }
}

#[test]
fn a_place_that_was_taken_twice_has_what_came_later() {
    let one = |seq, epoch, at, prev| {
        let id = MessageId::new(9, seq).unwrap();
        let record = Record::Title { title: Some(Arc::from(format!("{epoch} {at}"))), by: None };
        Entry { seq: u64::from(seq), epoch, at: Time(at), prev_at: Time(prev), id, record }
    };
    let life = Life::of(4, &[]);
    let rows = vec![one(2, 4, 8, 6), one(1, 4, 6, 0), one(2, 4, 7, 6), one(3, 3, 9, 7), one(3, 4, 9, 7)];
    let entries = life.entries(rows);
    assert_eq!(entries, [one(1, 4, 6, 0), one(2, 4, 8, 6), one(3, 4, 9, 7)]);
    // The third follows what had the second place before: it is of a log that was lost.
    let page = Page { first: 4, head: 4, epoch: 4, ..Page::default() };
    let range = Range::After { seq: 0, limit: 9 };
    let page = merged(page, range, &life, Archived { entries, cut: false, oldest: Some(1) });
    assert_eq!((page.entries.len(), page.more, page.first), (2, true, 1));
}
