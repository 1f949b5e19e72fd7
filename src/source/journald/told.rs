//! What could not be shipped, or not whole, is booked and told: numbers that no file has, damage, what journald itself suppressed, files that can't be
//! read. Apart from `follow.rs`, which comes upon it.

use std::time::Instant;

use super::Journald;
use super::explain::remedy;
use super::follow::{Step, clock_ns};
use super::format::Entry;
use super::gaps::Missing;
use super::position::Place as Spot;
use super::reader::ReadError;
use super::streams::Why;
use crate::gaps::Place;
use crate::ledger::{Amount, Missed};
use crate::settlement::{At, Passed};

impl Journald {
    /// Fields of an entry could not be read, or were cut.
    pub(super) fn flawed(&self, (at, member): (usize, usize), entry: &Entry, damaged: u32, cut: u64) {
        let Some(stream) = self.journals.get(at).and_then(|journals| journals.streams.get(member)) else { return };
        let source = &self.settings.name;
        let place = self.place(at, member);
        let place = At { place: &place, stream: Some(stream.stream.id), from: None, words: "" };
        if damaged > 0 {
            tracing::error!(%source, journal = %stream.base, seqnum = entry.seqnum, fields = damaged, "fields of an entry are damaged; it is shipped without them");
            let amount = Amount { unknown: 1, ..Amount::default() };
            self.common.settlement.missed(
                source,
                Missed::Unreadable,
                amount,
                &At { words: "fields of entries that were shipped without them", ..place },
            );
        }
        if cut > 0 {
            tracing::warn!(%source, journal = %stream.base, seqnum = entry.seqnum, bytes = cut, "an entry is longer than kafka.max_event: fields of it are cut");
            self.common.settlement.missed(source, Missed::Cut, Amount { bytes: cut, ..Amount::default() }, &place);
        }
    }

    /// journald tells of messages that it suppressed: that is booked when nothing is on its way, and the entry itself shipped after it.
    pub(super) fn suppressed(&mut self, (at, member): (usize, usize), entry: &Entry, (count, unit): &(u64, String)) -> Step {
        self.hand_on_all(Instant::now(), clock_ns());
        let Some(stream) = self.journals.get(at).and_then(|journals| journals.streams.get(member)) else { return Step::End };
        let id = stream.stream.id;
        if !self.common.settlement.is_idle(id) {
            return Step::Held;
        }
        let unit = if unit.is_empty() { "a service" } else { unit };
        tracing::warn!(source = %self.settings.name, %unit, events = count, "journald's rate limit suppressed messages: they are not in the journal");
        let spot = Spot { told: true, through: stream.at.through.max(entry.seqnum.saturating_sub(1)), ..stream.at };
        let words = format!("by {unit} (see RateLimitBurst= in journald.conf)");
        let place = self.place(at, member);
        let amount = Amount { events: *count, bytes: 0, unknown: u64::from(*count == 0) };
        let passed = [Passed { stream: id, to: spot.pack(), size: spot.offset }];
        let here = At { place: &place, stream: Some(id), from: None, words: &words };
        self.common.settlement.missed_behind(&self.settings.name, Missed::Suppressed, (amount, false), &here, &passed);
        if let Some(stream) = self.journals.get_mut(at).and_then(|journals| journals.streams.get_mut(member)) {
            stream.at = spot;
        }
        Step::On
    }

    /// A file that had numbers up to `to` can't be read to its end.
    pub(super) fn lost(&mut self, (at, counter, member): (usize, usize, usize), to: u64, why: Why) -> Step {
        let Some(journals) = self.journals.get_mut(at) else { return Step::End };
        let (Some(known), Some(stream)) = (journals.counters.get(counter), journals.streams.get_mut(member)) else { return Step::End };
        let is_foreign = stream.seqnum_id != known.id;
        if let Some(missing) = known.series.missing_to(to).filter(|_| !is_foreign) {
            return self.missing((at, counter), missing, why);
        }
        stream.advance();
        Step::On
    }

    /// Numbers that no file seems to have. That is certain when all has been looked at anew, and told when nothing is on its way any more: then the
    /// positions that hide the loss go into the same transaction as the gap.
    pub(super) fn missing(&mut self, (at, counter): (usize, usize), missing: Missing, why: Why) -> Step {
        let Some(known) = self.journals.get_mut(at).and_then(|journals| journals.counters.get_mut(counter)) else { return Step::End };
        if known.checked != Some(missing.to) {
            known.checked = Some(missing.to);
            self.scan();
            self.look();
            return Step::On;
        }
        self.hand_on_all(Instant::now(), clock_ns());
        let Some(journals) = self.journals.get_mut(at) else { return Step::End };
        let Some(known) = journals.counters.get_mut(counter) else { return Step::End };
        let members = known.members.clone();
        let idle = |member: &usize| journals.streams.get(*member).is_none_or(|stream| self.common.settlement.is_idle(stream.stream.id));
        if !members.iter().all(idle) {
            return Step::Held;
        }
        let at_most = self.renderer.filter().is_choosy() || journals.unreadable > 0 || missing.from <= known.unsure_to;
        known.series.account(missing.to);
        known.checked = None;
        let mut passed = Vec::new();
        for member in &members {
            let Some(stream) = journals.streams.get_mut(*member) else { continue };
            stream.take_damaged();
            // What follows was not next to what is settled: offsets count no more by which events were known to be settled beyond it.
            stream.skip_to = 0;
            self.common.settlement.unmark(stream.stream.id);
            if stream.seqnum_id == known.id && stream.at.through < missing.to {
                stream.at = Spot { through: missing.to, told: false, ..stream.at };
                passed.push(Passed { stream: stream.stream.id, to: stream.at.pack(), size: stream.at.offset });
            }
        }
        let stream = members.first().and_then(|member| journals.streams.get(*member)).map(|stream| stream.stream.id);
        let words = format!("numbers {} to {}", missing.from, missing.to);
        let place = Place::Named(format!("journal {}", journals.directory.path.display()).into());
        let (source, events) = (&self.settings.name, missing.count());
        let reason = if why == Why::Damaged { Missed::Unreadable } else { Missed::Vacuumed };
        let most = if at_most { "at most " } else { "" };
        tracing::error!(%source, journal = %journals.directory.path.display(), from = missing.from, to = missing.to, "{most}{events} entries of the journal {}",
            if why == Why::Damaged { "are damaged and can't be read" } else { "were deleted before they were read" });
        let here = At { place: &place, stream, from: None, words: &words };
        self.common.settlement.missed_behind(source, reason, (Amount { events, ..Amount::default() }, at_most), &here, &passed);
        Step::On
    }

    fn place(&self, at: usize, member: usize) -> Place {
        let journals = self.journals.get(at);
        let dir = journals.map(|journals| journals.directory.path.display().to_string()).unwrap_or_default();
        let base = journals.and_then(|journals| journals.streams.get(member)).map(|stream| stream.base.as_str()).unwrap_or_default();
        Place::Named(format!("journal {dir}/{base}").into())
    }

    /// A file or directory that can't be read; said once.
    pub(super) fn unreadable(&mut self, path: &std::path::Path, error: &ReadError) {
        let words = remedy(error);
        if self.told.get(path) != Some(&words) {
            tracing::error!(source = %self.settings.name, path = %path.display(), "this journal can't be read; trying again: {words}");
            if self.told.len() >= 1024 {
                self.told.clear();
            }
            self.told.insert(path.to_owned(), words);
        }
    }
}
