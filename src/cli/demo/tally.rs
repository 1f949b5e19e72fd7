//! The count: which numbers came out of the topic, which came twice, and whether they came in order. Pure, so that it can be proved without Kafka
//! that it notices what goes wrong.

use std::fmt::Write as _;

/// What came of one log.
#[derive(Clone, Debug, Default)]
struct Log {
    /// By number: 0 while it has not come, else what identified it when it first came.
    seen: Vec<u64>,
    highest: u64,
    received: u64,
    doubled: u64,
    other_id: u64,
    misplaced: u64,
    first_misplaced: u64,
}

/// What one line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It came for the first time.
    New,
    /// It had come before.
    Again,
    /// Nobody wrote it.
    Unknown,
}

/// Counts numbered lines of several logs; each log's lines are numbered from 1. Takes 8 bytes per line that may be written.
#[derive(Clone, Debug)]
pub struct Tally {
    logs: Vec<Log>,
    limit: u64,
    unknown: u64,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Lines that were written.
    pub written: u64,
    /// Of those, the ones that came, each counted once.
    pub received: u64,
    /// Those that did not.
    pub lost: u64,
    /// Copies beyond the first.
    pub doubled: u64,
    /// Of the copies, those that another event id makes look like an event of their own.
    pub other_id: u64,
    /// Lines that first came after a later line of the same log.
    pub misplaced: u64,
    /// Messages that are no line of these logs.
    pub unknown: u64,
    /// In words: an example of each thing that is wrong.
    pub examples: String,
}

impl Verdict {
    /// Whether nothing is lost, nothing is out of order, nothing is foreign, and every copy can be told by its id.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.misplaced == 0 && self.unknown == 0 && self.other_id == 0
    }
}

impl Tally {
    /// For so many logs of at most `limit` lines each; higher numbers count as unknown.
    #[must_use]
    pub fn new(logs: usize, limit: u64) -> Tally {
        Tally { logs: vec![Log::default(); logs], limit, unknown: 0 }
    }

    /// A line came: its log, its number, and what identifies the event.
    pub fn take(&mut self, log: usize, number: u64, id: u64) -> Arrival {
        let limit = self.limit;
        let known = self.logs.get_mut(log).filter(|_| (1..=limit).contains(&number));
        let (Some(log), Ok(at)) = (known, usize::try_from(number)) else { return self.unknown() };
        if at >= log.seen.len() {
            log.seen.resize(at + 1, 0);
        }
        let Some(seen) = log.seen.get_mut(at) else { return self.unknown() };
        // 0 stands for "has not come".
        let id = id.max(1);
        if *seen != 0 {
            log.doubled += 1;
            log.other_id += u64::from(*seen != id);
            return Arrival::Again;
        }
        *seen = id;
        log.received += 1;
        if number < log.highest {
            log.misplaced += 1;
            if log.first_misplaced == 0 {
                log.first_misplaced = number;
            }
        }
        log.highest = log.highest.max(number);
        Arrival::New
    }

    /// Something came that is no line of these logs.
    pub fn unknown(&mut self) -> Arrival {
        self.unknown += 1;
        Arrival::Unknown
    }

    /// What it comes to, when of each log (its name, how many lines) this was written.
    #[must_use]
    pub fn verdict(&self, written: &[(&str, u64)]) -> Verdict {
        let mut verdict = Verdict { unknown: self.unknown, ..Verdict::default() };
        if self.unknown > 0 {
            note(&mut verdict.examples, format_args!("{} messages are no lines that were written", self.unknown));
        }
        for (log, (name, count)) in self.logs.iter().zip(written) {
            let has_come = |number: &u64| usize::try_from(*number).ok().and_then(|at| log.seen.get(at)).is_some_and(|seen| *seen != 0);
            let missing = || (1..=*count).filter(|number| !has_come(number));
            let lost = missing().count() as u64;
            verdict.written += count;
            verdict.lost += lost;
            verdict.received += count - lost;
            verdict.doubled += log.doubled;
            verdict.other_id += log.other_id;
            verdict.misplaced += log.misplaced;
            verdict.unknown += log.received - (count - lost);
            if let (Some(first), Some(last)) = (missing().next(), missing().next_back()) {
                note(&mut verdict.examples, format_args!("{name}: {lost} lines are lost, the first is number {first}, the last {last}"));
            }
            if log.misplaced > 0 {
                let (count, first) = (log.misplaced, log.first_misplaced);
                note(&mut verdict.examples, format_args!("{name}: {count} lines came after later ones, the first is number {first}"));
            }
            if log.other_id > 0 {
                note(&mut verdict.examples, format_args!("{name}: {} copies have another event_id than the first", log.other_id));
            }
        }
        verdict
    }
}

fn note(examples: &mut String, words: std::fmt::Arguments<'_>) {
    let separator = if examples.is_empty() { "" } else { "; " };
    // Writing to a string does not fail.
    _ = write!(examples, "{separator}{words}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tally(numbers: &[u64]) -> Tally {
        let mut tally = Tally::new(1, 1000);
        for number in numbers {
            tally.take(0, *number, 100 + number);
        }
        tally
    }

    #[test]
    fn all_in_order_is_good() {
        let verdict = tally(&[1, 2, 3]).verdict(&[("app", 3)]);
        assert_eq!(verdict, Verdict { written: 3, received: 3, ..Verdict::default() });
        assert!(verdict.is_good());
    }

    #[test]
    fn a_lost_line_is_noticed_wherever_it_is() {
        for (numbers, missing) in [(&[2, 3], 1), (&[1, 3], 2), (&[1, 2], 3)] {
            let verdict = tally(numbers).verdict(&[("app", 3)]);
            assert_eq!((verdict.received, verdict.lost, verdict.is_good()), (2, 1, false));
            assert!(verdict.examples.contains(&format!("app: 1 lines are lost, the first is number {missing}")), "{}", verdict.examples);
        }
    }

    #[test]
    fn a_stretch_that_is_sent_again_is_counted_and_breaks_no_order() {
        let verdict = tally(&[1, 2, 3, 4, 2, 3, 4, 5, 6]).verdict(&[("app", 6)]);
        assert_eq!(verdict, Verdict { written: 6, received: 6, doubled: 3, ..Verdict::default() });
    }

    #[test]
    fn a_line_that_first_comes_after_a_later_one_breaks_the_order() {
        let verdict = tally(&[1, 3, 2, 4]).verdict(&[("app", 4)]);
        assert_eq!((verdict.lost, verdict.misplaced, verdict.is_good()), (0, 1, false));
        assert!(verdict.examples.contains("the first is number 2"), "{}", verdict.examples);
    }

    #[test]
    fn a_copy_with_another_id_is_not_recognisable() {
        let mut tally = tally(&[1, 2]);
        assert_eq!(tally.take(0, 2, 7), Arrival::Again);
        let verdict = tally.verdict(&[("app", 2)]);
        assert_eq!((verdict.doubled, verdict.other_id, verdict.is_good()), (1, 1, false));
    }

    #[test]
    fn what_nobody_wrote_is_unknown() {
        let mut tally = tally(&[1, 2, 3]);
        assert_eq!([tally.take(1, 1, 1), tally.take(0, 0, 1), tally.take(0, 1001, 1)], [Arrival::Unknown; 3]);
        let verdict = tally.verdict(&[("app", 2)]);
        assert_eq!((verdict.received, verdict.lost, verdict.unknown, verdict.is_good()), (2, 0, 4, false));
    }

    #[test]
    fn logs_are_counted_apart() {
        let mut tally = Tally::new(2, 10);
        for (log, number) in [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)] {
            assert_eq!(tally.take(log, number, 1), Arrival::New);
        }
        assert!(tally.verdict(&[("app", 3), ("access", 2)]).is_good());
        assert_eq!(tally.verdict(&[("app", 3), ("access", 3)]).lost, 1);
    }

    proptest! {
        #[test]
        fn the_count_agrees_with_sets(numbers in prop::collection::vec(1_u64..50, 0..100), written in 0_u64..50) {
            let verdict = tally(&numbers).verdict(&[("app", written)]);
            let distinct: std::collections::BTreeSet<_> = numbers.iter().copied().collect();
            let there = distinct.iter().filter(|number| **number <= written).count() as u64;
            prop_assert_eq!(verdict.received, there);
            prop_assert_eq!(verdict.lost, written - there);
            prop_assert_eq!(verdict.unknown, distinct.len() as u64 - there);
            prop_assert_eq!(verdict.doubled, (numbers.len() - distinct.len()) as u64);
            let mut firsts = Vec::new();
            for number in numbers {
                if !firsts.contains(&number) {
                    firsts.push(number);
                }
            }
            prop_assert_eq!(verdict.misplaced == 0, firsts.is_sorted());
        }
    }
}
