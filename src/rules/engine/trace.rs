//! What the rules did with single events of a batch, for a person who looks ([`crate::tap`]). Apart because nothing of it is kept while nobody does.

use crate::ledger::Count;
use crate::rules::Done;

/// What a rule that concerned an event did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing that shows, or it has kept it.
    Nothing,
    /// It has changed it.
    Changed,
    /// It could not.
    Failed,
    /// It has left it out.
    Dropped,
}

/// What became of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// The rules that concerned it, in their order.
    pub did: Vec<(usize, Deed)>,
    /// Which event of the batch it is afterwards; `None`: it is not in it.
    pub kept_at: Option<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Trace {
    every: usize,
    seen: usize,
    kept: usize,
    before: Vec<Done>,
    /// Of every so manieth event, from the first on.
    pub fates: Vec<Fate>,
}

impl Trace {
    /// Of every so manieth event.
    #[must_use]
    pub fn every(every: usize) -> Trace {
        Trace { every: every.max(1), ..Trace::default() }
    }

    /// One more event has gone through; `done` is what the rules did since the batch began.
    pub(super) fn note(&mut self, done: &[(Done, Count)], kept: bool) {
        if self.seen.is_multiple_of(self.every) {
            self.before.resize(done.len(), Done::default());
            let did = done.iter().zip(&self.before).enumerate();
            let did = did.filter_map(|(rule, ((now, _), before))| Some((rule, deed(*now, *before)?))).collect();
            self.fates.push(Fate { did, kept_at: kept.then_some(self.kept) });
        }
        self.seen += 1;
        self.kept += usize::from(kept);
        if self.seen.is_multiple_of(self.every) {
            self.before.clear();
            self.before.extend(done.iter().map(|(done, _)| *done));
        }
    }
}

/// What a rule did in between; `None`: the event did not concern it.
fn deed(now: Done, before: Done) -> Option<Deed> {
    let more = |of: fn(&Done) -> u64| of(&now) > of(&before);
    match () {
        () if more(|done| done.dropped) => Some(Deed::Dropped),
        () if more(|done| done.errors) => Some(Deed::Failed),
        () if more(|done| done.changed) => Some(Deed::Changed),
        () => more(|done| done.matched).then_some(Deed::Nothing),
    }
}
