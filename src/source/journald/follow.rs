//! All journals of a directory, read in the order of their numbers: so a number that no file has is noticed as soon as the next one is read. What is
//! read becomes batches, one stream each.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Journald;
use super::format::{Entry, Id};
use super::gaps::Series;
use super::reader::ReadError;
use super::streams::{Head, JournalStream, Making, Why};
use crate::batch::{Batch, Event};
use crate::encode::{MAX_EVENTS, charge_for};
use crate::ledger::Count;

/// The journals of one directory.
#[derive(Debug)]
pub(super) struct Journals {
    pub(super) directory: super::discover::Directory,
    pub(super) streams: Vec<JournalStream>,
    pub(super) counters: Vec<Counter>,
    /// Files by path, so that each is opened once to see what it is.
    pub(super) files: std::collections::HashMap<PathBuf, (u64, u64)>,
    /// Files that can't be read, which may have the numbers that are missing.
    pub(super) unreadable: usize,
    pub(super) there: bool,
}

/// One counter of numbers, and the streams that take part in it.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) id: Id,
    pub(super) series: Series,
    /// Indices of streams.
    pub(super) members: Vec<usize>,
    /// Numbers up to this may have been in files that were there before this start and are not any more: what is missing may be less.
    pub(super) unsure_to: u64,
    /// A gap before this number stood when all was looked at anew.
    pub(super) checked: Option<u64>,
}

impl Counter {
    pub(super) fn new(id: Id) -> Counter {
        Counter { id, series: Series::default(), members: Vec::new(), unsure_to: 0, checked: None }
    }
}

/// What came of a step.
pub(super) enum Step {
    /// Something was read.
    On,
    /// There is nothing more in this counter.
    End,
    /// It waits for what is on its way.
    Held,
}

impl Journald {
    /// Looks at the headers of all open files: first those to which others are copied, so that what they are copied from is not older.
    pub(super) fn look(&mut self) {
        let lasting = self.journals.iter_mut().filter(|journals| !journals.directory.volatile);
        let mut grown = false;
        for journals in lasting {
            journals.streams.iter_mut().for_each(|stream| stream.look(&mut self.windows));
            grown |= journals.streams.iter().any(JournalStream::is_live);
        }
        let volatile = |journals: &&mut Journals| journals.directory.volatile;
        if grown
            && self
                .journals
                .iter()
                .any(|journals| journals.directory.volatile && journals.there && journals.streams.iter().any(JournalStream::is_live))
        {
            self.scan_volatile();
        }
        for journals in self.journals.iter_mut().filter(volatile) {
            journals.streams.iter_mut().for_each(|stream| stream.look(&mut self.windows));
        }
    }

    /// Makes batches of about a block; says whether there was anything.
    pub(super) fn read(&mut self, now: Instant) -> bool {
        let observed_ns = clock_ns();
        self.renderer.observe(observed_ns);
        let mut any = false;
        let mut room = self.block();
        'all: for at in 0..self.journals.len() {
            for counter in 0..self.journals.get(at).map_or(0, |journals| journals.counters.len()) {
                loop {
                    match self.step((at, counter), &mut room) {
                        Step::On => any = true,
                        Step::End => break,
                        Step::Held => {
                            self.held = true;
                            break;
                        }
                    }
                    if room == 0 {
                        break 'all;
                    }
                }
            }
            self.scan_wanted |= self.journals.get(at).is_some_and(|journals| journals.streams.iter().any(JournalStream::wants_a_search));
        }
        self.hand_on_all(now, observed_ns);
        any
    }

    /// One entry, the next by number of one counter.
    fn step(&mut self, (at, counter): (usize, usize), room: &mut usize) -> Step {
        let Some(journals) = self.journals.get_mut(at) else { return Step::End };
        let Some(known) = journals.counters.get(counter) else { return Step::End };
        let mut first: Option<(usize, Head, u64)> = None;
        let mut failed = None;
        for member in &known.members {
            let Some(stream) = journals.streams.get_mut(*member) else { continue };
            let head = match stream.peek(&mut self.windows) {
                Ok(head) => head,
                Err(error) => {
                    failed = Some(error);
                    Head::End
                }
            };
            let number = match head {
                Head::Entry(entry, _) => entry.seqnum,
                Head::Lost(to, _) => to,
                Head::End => continue,
            };
            if first.is_none_or(|(_, _, least)| number < least) {
                first = Some((*member, head, number));
            }
        }
        if let Some((path, error)) = failed {
            self.unreadable(&path, &error);
            // Its numbers come before others' perhaps: nothing is called missing while it can't be read.
            return Step::End;
        }
        match first {
            Some((member, Head::Entry(entry, offset), _)) => self.entry((at, counter, member), &entry, offset, room),
            Some((member, Head::Lost(to, why), _)) => self.lost((at, counter, member), to, why),
            Some((_, Head::End, _)) | None => Step::End,
        }
    }

    fn entry(&mut self, (at, counter, member): (usize, usize, usize), entry: &Entry, offset: u64, room: &mut usize) -> Step {
        let Some(journals) = self.journals.get(at) else { return Step::End };
        let (Some(known), Some(stream)) = (journals.counters.get(counter), journals.streams.get(member)) else { return Step::End };
        let foreign = stream.seqnum_id != known.id;
        if let Some(missing) = known.series.missing_before(entry, foreign, stream.before.or(Some(stream.known))) {
            let damaged = journals.streams.iter().any(JournalStream::has_damaged);
            return self.missing((at, counter), missing, if damaged { Why::Damaged } else { Why::Deleted });
        }
        let volatile = journals.directory.volatile;
        let is_known = entry.seqnum <= stream.known;
        let copied = if volatile || is_known { None } else { self.copied_from(at, entry) };
        if let Some(id) = copied
            && !self.common.settlement.is_idle(id)
        {
            // It must not be passed over here before it is safe from there.
            return Step::Held;
        }
        if !is_known && !self.is_kept((at, member)) {
            return Step::Held;
        }
        if !is_known && copied.is_none() {
            match self.take_in((at, member), entry, offset, room) {
                Ok(Step::End) => {}
                Ok(step) => return step,
                Err(ReadError::Unfit(_) | ReadError::Damage(_)) => {
                    // The file was deleted under the reader; the next look says so.
                    self.look();
                    return Step::On;
                }
                Err(error) => {
                    let path = self.path_of(at, member);
                    self.unreadable(&path, &error);
                    return Step::End;
                }
            }
        }
        let Some(journals) = self.journals.get_mut(at) else { return Step::End };
        if let Some(known) = journals.counters.get_mut(counter) {
            known.series.take(entry, foreign);
            known.checked = None;
        }
        let Some(stream) = journals.streams.get_mut(member) else { return Step::End };
        if !is_known {
            let file_id = stream.current().map_or(stream.at.file_id, |file| file.header().file_id);
            stream.at = stream.at.behind(entry, file_id, stream.at.offset);
            if copied.is_some() {
                stream.making.moved = true;
            }
        }
        stream.advance();
        if volatile && !is_known {
            let (stream, place) = (stream.stream.id, stream.at);
            self.note_handover(at, stream, entry, place);
        }
        Step::On
    }

    /// Whether the state has the stream: nothing of it goes out before that, or a kill would forget where it began.
    fn is_kept(&mut self, (at, member): (usize, usize)) -> bool {
        let Some(stream) = self.journals.get_mut(at).and_then(|journals| journals.streams.get_mut(member)) else { return true };
        stream.kept = stream.kept || self.common.settlement.is_recognisable(stream.stream.id);
        stream.kept
    }

    fn path_of(&self, at: usize, member: usize) -> PathBuf {
        let stream = self.journals.get(at).and_then(|journals| journals.streams.get(member));
        stream.and_then(|stream| stream.parts.front()).map(|part| part.path.clone()).unwrap_or_default()
    }

    /// Renders an entry into the batch that is being made of its stream; then that is the end of it.
    fn take_in(&mut self, (at, member): (usize, usize), entry: &Entry, offset: u64, room: &mut usize) -> Result<Step, ReadError> {
        let Some(stream) = self.journals.get_mut(at).and_then(|journals| journals.streams.get_mut(member)) else { return Ok(Step::End) };
        let id = stream.stream.id;
        if !stream.resume(self.renderer.filter().hash()) {
            self.common.settlement.unmark(id);
        }
        let (Some(file), making) = (stream.parts.front().and_then(|part| part.reader.as_ref()), &mut stream.making) else {
            return Ok(Step::End);
        };
        if making.bytes.capacity() == 0 {
            making.bytes = self.common.pool.block(super::BLOCK + (64 << 10));
        }
        let begin = making.bytes.len();
        let rendered = match self.renderer.entry((file, &mut self.windows), (entry, offset), id, &mut making.bytes, &mut self.ends) {
            Ok(rendered) => rendered,
            Err(error) => {
                making.bytes.truncate(begin);
                return Err(error);
            }
        };
        if rendered.damaged > 0
            && let Err(error) = stream.is_still_there(&mut self.windows)
        {
            stream.making.bytes.truncate(begin);
            return Err(error);
        }
        if rendered.suppressed && rendered.wanted && !stream.at.told {
            stream.making.bytes.truncate(begin);
            let Some(file) = stream.current() else { return Ok(Step::End) };
            let told = self.renderer.suppressed(file, &mut self.windows);
            return Ok(self.suppressed((at, member), entry, &told));
        }
        let making = &mut stream.making;
        making.moved = true;
        let stream_at = stream.at.offset;
        stream.at.offset += rendered.bytes;
        if rendered.wanted {
            stream.seen = (stream.seen.0 + rendered.bytes, stream.seen.1 + 1);
        }
        // Where rules concern the source, they leave out what was settled.
        let skip_to = if self.outlet.skips() { 0 } else { stream.skip_to };
        if !rendered.wanted || stream.at.offset <= skip_to {
            // Filtered, or settled before the last end.
            making.bytes.truncate(begin);
        } else {
            if making.events.is_empty() {
                making.base = stream_at;
            }
            let from = stream_at - making.base;
            push_events(making, (from, from + rendered.bytes), (begin, &self.ends), skip_to);
            making.count += 1;
            if stream.at.offset <= stream.again_to {
                making.again += Count { events: 1, bytes: rendered.bytes };
            }
        }
        let size = making.bytes.len() - begin;
        let wide = stream.at.offset - making.base.min(stream.at.offset) > 1 << 30 && !making.events.is_empty();
        *room = if wide || making.events.len() >= MAX_EVENTS { 0 } else { room.saturating_sub(size.max(16)) };
        if rendered.damaged > 0 || rendered.cut > 0 {
            self.flawed((at, member), entry, rendered.damaged, rendered.cut);
        }
        Ok(Step::End)
    }

    /// Hands on all batches that are being made.
    pub(super) fn hand_on_all(&mut self, now: Instant, observed_ns: i64) {
        for journals in &mut self.journals {
            for stream in &mut journals.streams {
                let id = stream.stream.id;
                if !stream.making.moved {
                    continue;
                }
                let making = std::mem::take(&mut stream.making);
                let left = stream.left();
                let average = stream.seen.0.checked_div(stream.seen.1).unwrap_or(512);
                let size = stream.at.offset.saturating_add(left.saturating_mul(average));
                let to = stream.at.pack();
                if making.events.is_empty() {
                    self.common.settlement.pass(id, to, size);
                    self.common.pool.give_block(making.bytes);
                    continue;
                }
                let count = Count { events: making.count, bytes: to.offset - making.base };
                let parts = [(Arc::clone(&stream.stream.topic), count)];
                if making.again.events > 0 {
                    self.common.settlement.resent(&self.settings.name, making.again);
                }
                let (ticket, before) = self.common.settlement.admit(id, (making.base, to, size), &parts);
                let bytes = if making.bytes.len() < making.bytes.capacity() / 2 {
                    let exact = making.bytes.as_slice().to_vec();
                    self.common.pool.give_block(making.bytes);
                    exact
                } else {
                    making.bytes
                };
                let charge = self.common.budget.charge(charge_for(bytes.capacity(), making.events.len()));
                self.outlet.push(Batch {
                    stream: Arc::clone(&stream.stream),
                    bytes,
                    events: making.events,
                    base: making.base,
                    line_start: making.base,
                    to,
                    observed_ns,
                    ticket,
                    part: 0,
                    since: now,
                    before: before.first().copied().unwrap_or_default(),
                    copy: None,
                    extras: Vec::new(),
                    part_headers: false,
                    routed: 0,
                    charge,
                });
            }
        }
    }
}

/// The events of one entry whose messages end at `ends`, or are one.
fn push_events(making: &mut Making, (from, to): (u64, u64), (begin, ends): (usize, &[usize]), skip_to: u64) {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let span = |number: usize| narrow(number as u64);
    if ends.is_empty() {
        making.events.push(Event::whole(span(begin), span(making.bytes.len() - begin), narrow(from), narrow(to)));
        return;
    }
    let (count, mut start) = (ends.len() as u64, begin);
    for (number, end) in (1..).zip(ends) {
        let part = |number: u64| from + (to - from) * number / count;
        // What of it was settled before the last end is not sent again.
        if making.base + part(number) > skip_to {
            let event = Event::whole(span(start), span(end - start), narrow(part(number - 1)), narrow(part(number)));
            making.events.push(event.as_part(narrow(number), number == count));
        }
        start = *end;
    }
}

pub(super) fn clock_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    now.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}
