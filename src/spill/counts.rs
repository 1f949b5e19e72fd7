//! Counts by source. Apart because the segments, the unsynced records and what is lost all keep them; pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::format::Run;
use crate::ledger::Count;

/// Sources with what is counted of each; none with nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(BTreeMap<Arc<str>, Count>);

impl Counts {
    pub(super) fn of(runs: &[Run]) -> Counts {
        let mut counts = Counts::default();
        for run in runs {
            counts.add(&run.source, run.count);
        }
        counts
    }

    pub(super) fn add(&mut self, source: &Arc<str>, count: Count) {
        if count == Count::default() {
            return;
        }
        match self.0.get_mut(source) {
            Some(sum) => *sum += count,
            None => drop(self.0.insert(Arc::clone(source), count)),
        }
    }

    pub(super) fn add_all(&mut self, other: &Counts) {
        other.iter().for_each(|(source, count)| self.add(source, count));
    }

    /// Takes off; never below nothing, which the books above would notice.
    pub(super) fn sub(&mut self, source: &Arc<str>, count: Count) {
        let Some(sum) = self.0.get_mut(source) else { return };
        *sum = minus(*sum, count);
        if *sum == Count::default() {
            self.0.remove(source);
        }
    }

    pub(super) fn sub_all(&mut self, other: &Counts) {
        other.iter().for_each(|(source, count)| self.sub(source, count));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Count)> {
        self.0.iter().map(|(source, count)| (source, *count))
    }

    pub(super) fn list(&self) -> Vec<(Arc<str>, Count)> {
        self.iter().map(|(source, count)| (Arc::clone(source), count)).collect()
    }

    pub(super) fn total(&self) -> Count {
        let mut total = Count::default();
        self.iter().for_each(|(_, count)| total += count);
        total
    }
}

/// What is left of `count` without `other`, never below nothing.
pub(super) fn minus(count: Count, other: Count) -> Count {
    Count { events: count.events.saturating_sub(other.events), bytes: count.bytes.saturating_sub(other.bytes) }
}
