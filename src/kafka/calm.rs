//! Keeps a producer calm while a broker does not answer. Pure: when to hold a partition and when to let it go; [`super::producer`] does it.
//!
//! librdkafka's idempotent producer has one request in flight per partition. While more is queued for it whose `linger.ms` has passed, the thread of
//! that broker polls without pause until the answer comes, which takes a whole core from a server whose broker is frozen. A partition that is
//! paused is not looked at, so nothing is lost by a pause: what is in flight is answered all the same, and nothing more could be sent before.
//! Now and then it is let go for a moment, and the brokers' threads are woken, since a partition may have lost its leader or the connection to it
//! instead, and then there is something to connect for and to send.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Without an acknowledgement for this long a partition is held.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same before anything at all was acknowledged: a producer first needs an id of the cluster, which takes a while, and nothing is in flight then.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// How long a partition stays held before it is let go for a moment: so long may a leader be there again unnoticed.
const HELD: Duration = Duration::from_secs(1);
/// For how long it is let go: enough for librdkafka's thread to wake up and send.
const MOMENT: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When something of it was acknowledged last, or the first of it was sent.
    moved: Instant,
    /// When it was held or let go last.
    changed: Option<Instant>,
    held: bool,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Partitions to pause.
    pub(super) hold: Vec<i32>,
    /// Partitions to resume, and the brokers' threads to be woken for.
    pub(super) release: Vec<i32>,
}

/// The partitions that have something in flight. Bounded by the topic's partitions.
#[derive(Debug, Default)]
pub(super) struct Calm {
    seen: BTreeMap<i32, Seen>,
    looked: Option<Instant>,
    /// Something was acknowledged.
    proven: bool,
}

impl Calm {
    /// Something of this partition was acknowledged.
    pub(super) fn moved(&mut self, partition: i32, now: Instant) {
        self.proven = true;
        if let Some(seen) = self.seen.get_mut(&partition) {
            seen.moved = now;
        }
    }

    fn patience(&self) -> Duration {
        if self.proven { PATIENCE } else { FIRST_PATIENCE }
    }

    /// Whether it is worth to look: not more often than a moment is long.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= MOMENT)
    }

    /// What is to be done now, when these partitions have something in flight.
    pub(super) fn look(&mut self, in_flight: impl Iterator<Item = i32>, now: Instant) -> Steps {
        self.looked = Some(now);
        let patience = self.patience();
        let mut steps = Steps::default();
        let mut seen = std::mem::take(&mut self.seen);
        for partition in in_flight {
            if self.seen.contains_key(&partition) {
                continue;
            }
            let mut one = seen.remove(&partition).unwrap_or(Seen { moved: now, changed: None, held: false });
            let since = |then: Instant| now.saturating_duration_since(then);
            let answered = one.changed.is_none_or(|changed| one.moved > changed);
            let change = match (one.held, one.changed) {
                (false, Some(changed)) if !answered => since(changed) >= MOMENT,
                (false, _) => since(one.moved) >= patience,
                (true, changed) => answered || changed.is_none_or(|changed| since(changed) >= HELD),
            };
            if change {
                one.held = !one.held;
                one.changed = Some(now);
                if one.held { steps.hold.push(partition) } else { steps.release.push(partition) }
            }
            self.seen.insert(partition, one);
        }
        // Those that have nothing in flight any more.
        steps.release.extend(seen.into_iter().filter(|(_, one)| one.held).map(|(partition, _)| partition));
        steps
    }

    /// When to look again at the latest, if nothing comes before.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |one: &Seen| match (one.held, one.changed) {
            (true, Some(changed)) => changed + HELD,
            (false, Some(changed)) if one.moved <= changed => changed + MOMENT,
            _ => one.moved + self.patience(),
        };
        self.seen.values().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn steps(hold: &[i32], release: &[i32]) -> Steps {
        Steps { hold: hold.to_vec(), release: release.to_vec() }
    }

    #[test]
    fn a_partition_that_is_answered_is_left_alone() {
        let (mut calm, start) = (Calm::default(), Instant::now());
        for i in 0..100 {
            let now = start + MS * 100 * i;
            assert_eq!(calm.look([1, 1, 2].into_iter(), now), Steps::default());
            calm.moved(1, now);
            calm.moved(2, now);
        }
    }

    #[test]
    fn one_that_is_not_is_held_but_for_moments_and_the_others_are_not() {
        let (mut calm, start) = (Calm::default(), Instant::now());
        let mut free = Duration::ZERO;
        let (mut held, mut last) = (false, start);
        for i in 0..10_000 {
            let now = start + MS * i;
            calm.moved(2, now);
            if calm.is_due(now) {
                let done = calm.look([1, 2].into_iter(), now);
                assert!(!done.hold.contains(&2) && !done.release.contains(&2));
                if !held {
                    free += now - last;
                }
                held = (held || done.hold == [1]) && done.release != [1];
                last = now;
            }
        }
        assert!(free >= PATIENCE && free < PATIENCE + MOMENT * 2 * 11, "{free:?} of 10 s");
    }

    #[test]
    fn an_answer_frees_it_at_once_and_so_does_the_end_of_what_was_in_flight() {
        let (mut calm, start) = (Calm::default(), Instant::now());
        assert_eq!(calm.look([7].into_iter(), start), Steps::default());
        assert_eq!(calm.look([7].into_iter(), start + PATIENCE * 2), Steps::default(), "nothing was acknowledged yet");
        assert_eq!(calm.next(), Some(start + FIRST_PATIENCE));
        calm.moved(7, start);
        assert_eq!(calm.next(), Some(start + PATIENCE));
        assert_eq!(calm.look([7].into_iter(), start + PATIENCE), steps(&[7], &[]));
        assert_eq!(calm.next(), Some(start + PATIENCE + HELD));
        calm.moved(7, start + PATIENCE + MS);
        assert_eq!(calm.look([7].into_iter(), start + PATIENCE + MS * 2), steps(&[], &[7]));
        let again = start + PATIENCE * 3;
        assert_eq!(calm.look([7].into_iter(), again), steps(&[7], &[]));
        assert_eq!(calm.look(std::iter::empty(), again + MS), steps(&[], &[7]));
        assert_eq!(calm.next(), None);
        // What comes long afterwards has just been sent.
        assert_eq!(calm.look([7].into_iter(), again + HELD * 10), Steps::default());
    }
}
