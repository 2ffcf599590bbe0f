//! A page of a log from its two places: what the engine still has, and what is archived below that. Pure.
//!
//! A page goes as far as nothing is missing. Whoever reads on behind what is missing is told so by the page's `first`, as where a log was
//! trimmed.

use parlance_backplane::{Page, Range};
use parlance_model::Entry;

use super::life::Life;

/// What the archive has in a stretch, oldest first.
#[derive(Debug, Default, Clone)]
pub struct Archived {
    /// Those that count.
    pub entries: Vec<Entry>,
    /// There may be more in the direction of reading.
    pub cut: bool,
    /// The first that it has of this life.
    pub oldest: Option<u64>,
}

/// Whether something below what the engine has belongs to the range.
pub fn wants_more(page: &Page, range: Range) -> bool {
    if page.first <= 1 || page.head == 0 {
        return false;
    }
    match range {
        Range::After { seq, limit } => limit > 0 && seq.saturating_add(1) < page.first,
        Range::Before { seq, limit } => limit > 0 && seq > 1 && !page.more,
        Range::Since { at, limit } => {
            let begins = |entry: &Entry| entry.seq == page.first && entry.prev_at >= at;
            limit > 0 && page.entries.first().map_or(page.first > page.head, begins)
        }
    }
}

/// The page, with what is archived.
pub fn merged(page: Page, range: Range, life: &Life, archived: Archived) -> Page {
    match range {
        Range::After { limit, .. } | Range::Since { limit, .. } => {
            forward(page, (range, limit), life, archived)
        }
        Range::Before { seq, limit } => backward(page, (seq, limit), life, archived),
    }
}

fn forward(page: Page, (range, limit): (Range, usize), life: &Life, archived: Archived) -> Page {
    let Some(lead) = archived.entries.first() else { return page };
    let whole = match range {
        Range::After { seq, .. } => life.reaches(seq, lead.seq),
        Range::Since { at, .. } => lead.seq == 1 || lead.prev_at < at,
        Range::Before { .. } => false,
    };
    let first = archived.oldest.filter(|_| whole).map_or(lead.seq, |oldest| oldest.min(lead.seq));
    let Page { entries: kept, more, first: kept_from, head, epoch } = page;
    // Behind what is archived comes what is kept, unless there is more of the former that was not read.
    let (count, kept) = (archived.entries.len(), if archived.cut { Vec::new() } else { kept });
    let cut = archived.cut;
    let mut entries: Vec<Entry> = Vec::with_capacity(limit.min(count + kept.len()));
    let mut rest = archived.entries.into_iter().chain(kept);
    for entry in rest.by_ref() {
        let fits = entries.last().is_none_or(|last| life.follows(last, &entry));
        if !fits || entries.len() == limit {
            return Page { entries, more: true, first, head, epoch };
        }
        entries.push(entry);
    }
    // Not written yet, and not kept any more.
    let misses =
        entries.last().is_some_and(|last| last.seq < kept_from && !life.reaches(last.seq, kept_from));
    Page { entries, more: cut || more || misses, first, head, epoch }
}

fn backward(page: Page, (seq, limit): (u64, usize), life: &Life, archived: Archived) -> Page {
    let Page { entries: mut kept, first, head, epoch, .. } = page;
    let cap = seq.min(first);
    let needed = limit.saturating_sub(kept.len());
    let mut found: Vec<Entry> = Vec::new();
    let mut more = archived.cut;
    for entry in archived.entries.into_iter().rev() {
        let fits = match found.last().or(kept.first()) {
            Some(next) => life.follows(&entry, next),
            None => life.reaches(entry.seq, cap),
        };
        if !fits || found.len() == needed {
            more = fits;
            break;
        }
        found.push(entry);
    }
    found.reverse();
    found.append(&mut kept);
    let lowest = found.first().map_or(cap, |entry| entry.seq);
    let first = match archived.oldest {
        // There is nothing further back.
        Some(oldest) if found.is_empty() && oldest >= cap => oldest.min(first),
        None if found.is_empty() => first,
        Some(oldest) if more => oldest.min(lowest),
        _ => lowest,
    };
    Page { entries: found, more, first, head, epoch }
}
