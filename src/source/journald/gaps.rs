//! Which numbers of a journal are missing. journald counts every entry, whichever of its files it goes to: so what is missing between two numbers
//! was in no file, once all files that could have had it have been looked at. Entries come here in the order of their numbers. Pure.
//!
//! Before systemd 254 a user's journal has an id of numbers of its own, but the common counter: it is *foreign* then. Two things make numbers jump
//! without a loss: a counter that began anew and is pushed on by a file whose numbers are higher (the entry follows directly on its own file's last
//! one), and foreign entries of an earlier counter (they are older than what was seen last).

use super::format::{Entry, Id};

/// Numbers that are missing, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

impl Missing {
    /// How many.
    #[must_use]
    pub fn count(self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }
}

/// The numbers of one counter, as far as they have been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// All up to this are accounted for; `None` before the first.
    last: Option<u64>,
    boot: Id,
    monotonic: u64,
    realtime: u64,
}

impl Series {
    /// A series of which all numbers up to `last` are accounted for.
    #[must_use]
    pub fn from(last: Option<u64>) -> Series {
        Series { last, ..Series::default() }
    }

    /// Up to where all is accounted for.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// What is missing before `entry`, the next one by number. `before` is the number that its own stream had before it.
    #[must_use]
    pub fn missing_before(&self, entry: &Entry, foreign: bool, before: Option<u64>) -> Option<Missing> {
        let last = self.last?;
        let pushed = before.is_some_and(|before| before.checked_add(1) == Some(entry.seqnum));
        if pushed || (foreign && self.is_older(entry)) {
            return None;
        }
        self.missing_to(entry.seqnum.checked_sub(1)?).filter(|_| last > 0 || !foreign)
    }

    /// What is missing up to and with the number `to`, which will not come any more.
    #[must_use]
    pub fn missing_to(&self, to: u64) -> Option<Missing> {
        let from = self.last?.checked_add(1)?;
        (from <= to).then_some(Missing { from, to })
    }

    /// The entry is accounted for.
    pub fn take(&mut self, entry: &Entry, foreign: bool) {
        if foreign && self.last.is_some() && self.is_older(entry) {
            return;
        }
        if self.last.is_none_or(|last| entry.seqnum > last) {
            self.last = Some(entry.seqnum);
            (self.boot, self.monotonic, self.realtime) = (entry.boot_id, entry.monotonic, entry.realtime);
        }
    }

    /// All up to `number` is accounted for.
    pub fn account(&mut self, number: u64) {
        self.last = Some(self.last.unwrap_or(0).max(number));
    }

    fn is_older(&self, entry: &Entry) -> bool {
        if self.boot == entry.boot_id { entry.monotonic < self.monotonic } else { entry.realtime < self.realtime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(seqnum: u64, time: u64) -> Entry {
        Entry { seqnum, realtime: time, monotonic: time, boot_id: [1; 16], xor_hash: seqnum }
    }

    proptest! {
        #[test]
        fn exactly_the_numbers_that_no_stream_has_are_missing(kept in prop::collection::vec((any::<bool>(), 0..3_usize), 1..200), foreign: bool) {
            let mut series = Series::from(Some(0));
            let (mut before, mut missing) = ([None; 3], 0);
            let mut numbers = 0;
            for (number, (_, stream)) in (1..).zip(&kept).filter(|(_, (kept, _))| *kept) {
                let entry = entry(number, number);
                let is_foreign = foreign && *stream > 0;
                missing += series.missing_before(&entry, is_foreign, before[*stream]).map_or(0, Missing::count);
                series.take(&entry, is_foreign);
                before[*stream] = Some(number);
                numbers = number;
            }
            let really = kept.iter().take(usize::try_from(numbers).unwrap()).filter(|(kept, _)| !kept).count() as u64;
            // Foreign entries alone say nothing while none of the counter's own has been seen.
            if foreign {
                prop_assert!(missing <= really);
            } else {
                prop_assert_eq!(missing, really);
            }
        }
    }

    #[test]
    fn a_counter_that_a_file_pushes_on_has_lost_nothing() {
        let mut series = Series::default();
        series.take(&entry(4, 10), false);
        series.take(&entry(5, 11), false);
        assert_eq!(series.missing_before(&entry(50_001, 12), true, Some(50_000)), None);
        series.take(&entry(50_001, 12), true);
        assert_eq!(series.missing_before(&entry(50_002, 13), false, Some(5)), None);
        assert_eq!(series.missing_before(&entry(50_004, 13), false, Some(5)), Some(Missing { from: 50_002, to: 50_003 }));
    }

    #[test]
    fn foreign_entries_of_an_earlier_counter_say_nothing() {
        let mut series = Series::default();
        series.take(&entry(5, 1000), false);
        let old = entry(70, 500);
        assert_eq!(series.missing_before(&old, true, Some(60)), None);
        series.take(&old, true);
        assert_eq!(series.last(), Some(5));
    }

    #[test]
    fn numbers_before_the_first_are_not_missing() {
        assert_eq!(Series::default().missing_before(&entry(1000, 1), false, None), None);
        assert_eq!(Series::default().missing_to(1000), None);
    }
}
