//! What the state has of streams: where each goes on, which take part in one counter of numbers, and from where on what is missing is missing. Apart
//! from `scan.rs`, which looks at files.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use super::Journald;
use super::follow::{Counter, clock_ns};
use super::format::Id;
use super::gaps::Series;
use super::position::Place as Spot;
use super::streams::JournalStream;
use crate::batch::{Origin, Stream, StreamId};
use crate::gaps::Place;
use crate::ledger::{Amount, Missed};
use crate::settlement::At;
use crate::snapshot::rows::{FileState, StreamRow};
use crate::source::file::StartAt;

/// Of a journal that had no entry yet when it was found it is not known at which number it begins.
const UNBEGUN: u64 = u64::MAX;
/// The state notes so often that a stream is there, seconds.
const NOTE_EVERY: i64 = 3600;

impl Journald {
    /// A stream as the state has it, or a new one.
    pub(super) fn stream(&self, at: usize, base: &str, seqnum_id: Id) -> JournalStream {
        let dir = self.journals.get(at).map_or(Path::new(""), |journals| journals.directory.path.as_path());
        let path = dir.join(base).as_os_str().as_bytes().to_vec();
        let settlement = &self.common.settlement;
        let known = settlement.streams_at(&path).into_iter().find_map(|(id, row)| {
            let spot = Spot::unpack(&row.position).filter(|spot| spot.seqnum_id == seqnum_id)?;
            (row.source == self.settings.name).then_some((id, row, spot))
        });
        let (id, row, spot) = known.unwrap_or_else(|| {
            let spot = Spot { seqnum_id, through: UNBEGUN, filter: self.renderer.filter().hash() & !1, ..Spot::default() };
            ((self.common.mint)(), self.first_row(&path, &spot), spot)
        });
        let stream = Stream {
            id,
            source: Arc::clone(&self.settings.name),
            key: row.key.clone(),
            headers: Vec::new(),
            origin: Origin::Finished,
            topic: Arc::clone(&self.settings.topic),
        };
        let begun = spot.through != UNBEGUN;
        let through = if begun { spot.through } else { 0 };
        let mut stream = JournalStream::new(Arc::new(stream), base.to_owned(), Spot { through, ..spot });
        (stream.begun, stream.resumes) = (begun, begun);
        stream.skip_to = row.mark(&self.settings.topic);
        stream.waits = row.size > row.position.offset;
        settlement.put(id, StreamRow { state: FileState::Live, ..row });
        stream
    }

    fn first_row(&self, path: &[u8], spot: &Spot) -> StreamRow {
        let key = format!("{}:journal", self.common.host).into_bytes().into();
        let begun = StreamRow::begun(Arc::clone(&self.settings.name), key, path, spot.pack());
        StreamRow { evidence: Spot::evidence(&spot.seqnum_id), seen_s: clock_ns() / 1_000_000_000, begun_at: 0, ..begun }
    }

    /// Which streams share a counter: those with its id; and the journals of users, which may have an id of their own, the newest counter.
    pub(super) fn count_again(&mut self, at: usize) {
        if self.first_run && self.settings.start_at == StartAt::End {
            self.leave_out(at);
        }
        self.note_beginnings(at);
        let Some(journals) = self.journals.get_mut(at) else { return };
        let newest = |stream: &JournalStream| stream.parts.iter().map(|part| part.header.head_realtime).max().unwrap_or(0);
        let own: HashSet<Id> = journals.streams.iter().filter(|stream| !is_users(&stream.base)).map(|stream| stream.seqnum_id).collect();
        let mut order: Vec<(u64, Id)> = Vec::new();
        for stream in &journals.streams {
            let time = newest(stream);
            let is_own = own.contains(&stream.seqnum_id) || own.is_empty();
            match order.iter_mut().find(|(_, id)| *id == stream.seqnum_id) {
                Some((known, _)) => *known = time.max(*known),
                None if is_own => order.push((time, stream.seqnum_id)),
                None => {}
            }
        }
        order.sort_unstable();
        let mut counters: Vec<Counter> = Vec::new();
        for (_, id) in &order {
            let known = journals.counters.iter().position(|counter| counter.id == *id);
            let mut counter = known.map_or_else(|| Counter::new(*id), |at| journals.counters.swap_remove(at));
            counter.members.clear();
            counters.push(counter);
        }
        for (index, stream) in journals.streams.iter().enumerate() {
            let own = counters.iter().position(|counter| counter.id == stream.seqnum_id).unwrap_or(counters.len().saturating_sub(1));
            if let Some(counter) = counters.get_mut(own) {
                counter.members.push(index);
            }
        }
        for counter in counters.iter_mut().filter(|counter| counter.series.last().is_none()) {
            begin(counter, &mut journals.streams);
        }
        journals.counters = counters;
    }

    /// Of streams that are new, the state has from now on where they begin: what is missing behind that is missing.
    fn note_beginnings(&mut self, at: usize) {
        let Some(journals) = self.journals.get_mut(at) else { return };
        for stream in journals.streams.iter_mut().filter(|stream| !stream.begun && stream.before.is_none()) {
            let heads = stream.parts.iter().map(|part| part.header.head_seqnum).filter(|head| *head > 0);
            let Some(before) = heads.min().and_then(|head| head.checked_sub(1)) else { continue };
            stream.at.through = before;
            (stream.known, stream.read, stream.begun) = (before, before, true);
            self.common.settlement.pass(stream.stream.id, stream.at.pack(), 0);
        }
    }

    /// At the first run: what is there already is left out, and that is told.
    fn leave_out(&mut self, at: usize) {
        let Some(journals) = self.journals.get_mut(at) else { return };
        let (source, settlement) = (&self.settings.name, &self.common.settlement);
        let mut events = 0;
        for stream in journals.streams.iter_mut().filter(|stream| !stream.begun) {
            let through = stream.parts.iter().map(|part| part.header.tail_seqnum).max().unwrap_or(0);
            events += stream.parts.iter().map(|part| part.header.entries).sum::<u64>();
            stream.at.through = through;
            (stream.known, stream.read, stream.begun) = (through, through, true);
            settlement.pass(stream.stream.id, stream.at.pack(), 0);
        }
        if events > 0 {
            let place = Place::Named(format!("journal {}", journals.directory.path.display()).into());
            tracing::info!(%source, journal = %journals.directory.path.display(), events, "start_at = \"end\": what the journal held before the first run is left out");
            let here = At { place: &place, stream: None, from: None, words: "" };
            settlement.missed(source, Missed::BeforeFirstRun, Amount { events, ..Amount::default() }, &here);
        }
    }

    /// Tells the state which streams are there, and lets those go that were not for long.
    pub(super) fn note_streams(&mut self) {
        let now_s = clock_ns() / 1_000_000_000;
        let settlement = &self.common.settlement;
        let mut here: HashSet<StreamId> = HashSet::new();
        for journals in &mut self.journals {
            for stream in &mut journals.streams {
                here.insert(stream.stream.id);
                let there = !stream.parts.is_empty();
                let (was, seen_s) = stream.noted;
                if there != was || (there && now_s - seen_s >= NOTE_EVERY) {
                    stream.noted = (there, now_s);
                    settlement.update(stream.stream.id, |row| {
                        row.state = if there { FileState::Live } else { FileState::Gone };
                        row.seen_s = now_s;
                    });
                }
            }
        }
        let limit = now_s.saturating_sub(i64::try_from(self.common.forget_after.as_secs()).unwrap_or(i64::MAX));
        for (id, row) in settlement.streams_of(&self.settings.name) {
            if here.contains(&id) {
                continue;
            }
            if row.state == FileState::Live {
                settlement.update(id, |row| row.state = FileState::Gone);
            }
            if row.seen_s < limit {
                settlement.forget(id);
            }
        }
    }
}

fn is_users(base: &str) -> bool {
    base.starts_with("user-")
}

/// Up to which number all was accounted for before this start. Streams that wait for nothing are as far as the counter was; if one had something on
/// its way or unread, numbers are looked at from there on, those that other streams have shipped already included.
fn begin(counter: &mut Counter, streams: &mut [JournalStream]) {
    let own = |member: &usize| streams.get(*member).filter(|stream| stream.seqnum_id == counter.id && stream.begun);
    let own: Vec<&JournalStream> = counter.members.iter().filter_map(own).collect();
    let resumed = own.iter().any(|stream| stream.resumes);
    let known: Vec<(u64, bool)> = own.iter().map(|stream| (stream.known, stream.waits)).collect();
    let Some(most) = known.iter().map(|(known, _)| *known).max() else { return };
    let last = known.iter().filter(|(_, waits)| *waits).map(|(known, _)| *known).min().unwrap_or(most);
    counter.series = Series::from(Some(last));
    // What comes next may have been delivered after the last snapshot, and before a kill.
    counter.unsure_to = if resumed { most.saturating_add(1) } else { 0 };
    if last < most {
        for member in &counter.members {
            if let Some(stream) = streams.get_mut(*member) {
                stream.read = stream.read.min(last);
            }
        }
    }
}
