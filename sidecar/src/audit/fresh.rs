//! HOT: the end of the spool, still in memory, so that the shipper need not read back and check what was just written.
//!
//! It holds only what is durable, and only so much: when the shipper falls behind, because authd is slow or away, all of it
//! is dropped, and the shipper reads the disk until it has caught up. Nothing depends on what is in here.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{gathered::Written, spool::Batch};

/// Bytes that are kept, at most.
const KEPT_BYTES: usize = 2 * 1024 * 1024;
/// Groups are sent together until they are this long: a request stays well below the API's 1 MiB, and does not hold up
/// sessions that share its processor.
const BATCH_BYTES: u64 = 512 * 1024;

/// What was written at once.
#[derive(Debug)]
pub(super) struct Group {
    /// First sequence of the segment.
    segment: u64,
    /// Where in the segment it begins.
    start: u64,
    written: Written,
}

impl Group {
    pub(super) fn new(segment: u64, start: u64, written: Written) -> Self {
        Self { segment, start, written }
    }

    fn end(&self) -> u64 {
        self.start + self.written.len() as u64
    }
}

/// Groups, in the order of the spool.
#[derive(Debug, Default)]
pub(super) struct Fresh(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    groups: VecDeque<Group>,
    bytes: usize,
}

impl Kept {
    /// Takes the oldest, if it is one that is wanted.
    fn pop_if(&mut self, wanted: impl FnOnce(&Group) -> bool) -> Option<Group> {
        self.groups.front().filter(|group| wanted(group))?;
        let group = self.groups.pop_front()?;
        self.bytes -= group.written.len();
        Some(group)
    }
}

impl Fresh {
    /// Adds what has become durable.
    pub(super) fn add(&self, groups: impl Iterator<Item = Group>) {
        let mut kept = self.kept();
        for group in groups {
            kept.bytes += group.written.len();
            kept.groups.push_back(group);
        }
        if kept.bytes > KEPT_BYTES {
            *kept = Kept::default();
        }
    }

    /// Takes what lies in this segment from `offset` on. `None` when it is not here.
    pub(super) fn take(&self, segment: u64, offset: u64) -> Option<Batch> {
        let mut kept = self.kept();
        // What lies before it was read from disk.
        while kept.pop_if(|group| (group.segment, group.start) < (segment, offset)).is_some() {}
        let mut batch = Batch { next: offset, ..Batch::default() };
        while let Some(group) = kept.pop_if(|group| {
            let follows = (group.segment, group.start) == (segment, batch.next);
            follows && (batch.records.is_empty() || group.end() - offset <= BATCH_BYTES)
        }) {
            batch.records.extend(group.written.records());
            batch.next = group.end();
        }
        (!batch.records.is_empty()).then_some(batch)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::{
        super::{draft::Draft, gathered::Gathered},
        *,
    };

    /// Writes so many events of this length, as the writer does. Returns where the next group begins.
    fn add(fresh: &Fresh, segment: u64, start: u64, sequences: Range<u64>, length: usize) -> u64 {
        let mut gathered = Gathered::new(0, 1);
        for sequence in sequences {
            let json = format!(r#"{{"n":{sequence},"pad":"{}"}}"#, "x".repeat(length));
            gathered.push(sequence, &Draft::Rendered(json));
        }
        let group = Group::new(segment, start, gathered.finish());
        let end = group.end();
        fresh.add(std::iter::once(group));
        end
    }

    fn sequences(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|record| record.sequence).collect()
    }

    #[test]
    fn what_follows_is_taken_together_and_once() {
        let fresh = Fresh::default();
        let middle = add(&fresh, 1, 0, 1..3, 4);
        let end = add(&fresh, 1, middle, 3..5, 4);
        let batch = fresh.take(1, 0).unwrap();
        assert_eq!((sequences(&batch), batch.next), (vec![1, 2, 3, 4], end));
        assert_eq!(&batch.records[2].json[..], br#"{"n":3,"pad":"xxxx"}"#);
        assert!(fresh.take(1, 0).is_none());
        assert!(fresh.take(1, end).is_none());
    }

    #[test]
    fn a_segment_s_groups_are_not_taken_for_another_s() {
        let fresh = Fresh::default();
        add(&fresh, 1, 0, 1..3, 4);
        let end = add(&fresh, 3, 0, 3..5, 4);
        assert_eq!(sequences(&fresh.take(1, 0).unwrap()), [1, 2]);
        let batch = fresh.take(3, 0).unwrap();
        assert_eq!((sequences(&batch), batch.next), (vec![3, 4], end));
    }

    #[test]
    fn who_begins_before_it_or_within_it_reads_the_disk() {
        let fresh = Fresh::default();
        let end = add(&fresh, 1, 100, 1..3, 4);
        assert!(fresh.take(1, 0).is_none(), "something lies before it");
        assert!(fresh.take(1, 101).is_none(), "a part of it is sent already");
        assert!(fresh.take(1, 100).is_none(), "so it is gone");
        add(&fresh, 1, end, 3..5, 4);
        assert_eq!(sequences(&fresh.take(1, end).unwrap()), [3, 4]);
    }

    #[test]
    fn a_shipper_that_falls_behind_finds_nothing_and_memory_is_bounded() {
        let fresh = Fresh::default();
        let mut end = 0;
        for group in 0..30 {
            end = add(&fresh, 1, end, group..group + 1, 100_000);
            assert!(fresh.kept().bytes <= KEPT_BYTES);
        }
        assert!(fresh.take(1, 0).is_none());
        add(&fresh, 1, end, 99..100, 4);
        assert_eq!(sequences(&fresh.take(1, end).unwrap()), [99]);
    }

    #[test]
    fn a_batch_is_not_longer_than_a_request_may_be() {
        let fresh = Fresh::default();
        let mut end = 0;
        for group in 0..6 {
            end = add(&fresh, 1, end, group..group + 1, 200_000);
        }
        let first = fresh.take(1, 0).unwrap();
        assert_eq!(sequences(&first), [0, 1]);
        assert_eq!(sequences(&fresh.take(1, first.next).unwrap()), [2, 3]);
    }
}
