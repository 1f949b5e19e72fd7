//! What is inside a record's body before compression. Apart from [`super::format`] because headers are read without it. Pure.
//!
//! For each run of the header, in order:
//! ```text
//!   size  what
//!      .  varint: length of the key; the key
//!      .  only where the run says so: varint: number of headers; for each of name and value a varint: length; the bytes
//!      8  line_start: where the line begins that the first message continues, in the stream
//!      8  when its bytes were read, ns since 1970
//!      .  for each message a varint: to - from
//!      .  for each message a varint: zigzag(length - (to - from))
//!      .  for each message a varint: zigzag(from - the previous message's to); the first counts from the run's `from`
//!      .  for each message a varint: form (part, last, partial), see `batch::Event`
//!      .  the messages' bytes, one after the other
//! ```
//! Columns, since in the usual case all but the first of them are one number again and again. All differences are modulo 2^32.

use super::bytes::{Bytes, put_varint, unzigzag, zigzag};
use super::format::Run;
use crate::batch::{Batch, Event, Headers};
use crate::encode::LineStarts;
use crate::ledger::Count;

/// What a run's messages are, read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Messages {
    pub(super) key: Box<[u8]>,
    pub(super) headers: Headers,
    pub(super) line_start: u64,
    pub(super) observed_ns: i64,
    /// Their spans begin at 0 in `bytes`; `from` and `to` count from the run's `from`.
    pub(super) events: Vec<Event>,
    pub(super) bytes: Vec<u8>,
}

/// Where the source bytes of the events from `first` on begin, relative to the batch's base. What lies between two events of one that has all of
/// its stream counts with the second.
fn start_of(batch: &Batch, first: usize) -> u32 {
    let before = || first.checked_sub(1).and_then(|index| batch.events.get(index)).map_or(0, |event| event.to);
    if batch.routed == 0 { before() } else { batch.events.get(first).map_or(0, |event| event.from) }
}

/// What these events of a run count; see [`Batch::count`].
fn counted(events: &[Event], routed: bool) -> Count {
    let whole = events.iter().filter(|event| event.ends()).count() as u64;
    let own = || events.iter().map(Event::own_bytes).sum();
    Count { events: whole, bytes: if routed { own() } else { events.last().map_or(0, |event| event.to.into()) } }
}

/// What the header is to say of the events of `batch` from `first` on.
pub(super) fn run_of(batch: &Batch, first: usize) -> Run {
    let end = batch.events.len();
    let (mut before, count) = (batch.before, batch.count(first..end));
    before += batch.count(0..first);
    let from = batch.base + u64::from(start_of(batch, first));
    let to = batch.events.last().map_or(from, |event| batch.base + u64::from(event.to));
    Run {
        stream: batch.stream.id,
        source: batch.stream.source.clone(),
        from,
        to,
        before,
        count,
        messages: u32::try_from(end.saturating_sub(first)).unwrap_or(u32::MAX),
        part_headers: batch.part_headers,
        headers: !batch.stream.headers.is_empty(),
        routed: batch.routed,
    }
}

/// Writes the events of `batch` from `first` on.
pub(super) fn encode(out: &mut Vec<u8>, batch: &Batch, first: usize) {
    let events = batch.events.get(first..).unwrap_or_default();
    let mut lines = LineStarts::of(batch);
    let line_start = batch.events.iter().take(first + 1).map(|event| lines.next(event)).last().unwrap_or(batch.line_start);
    put_text(out, &batch.stream.key);
    if !batch.stream.headers.is_empty() {
        put_varint(out, u32::try_from(batch.stream.headers.len()).unwrap_or(u32::MAX));
        for (name, value) in &batch.stream.headers {
            put_text(out, name.as_bytes());
            put_text(out, value);
        }
    }
    out.extend_from_slice(&line_start.to_le_bytes());
    out.extend_from_slice(&batch.observed_ns.to_le_bytes());
    for event in events {
        put_varint(out, event.to.wrapping_sub(event.from));
    }
    for event in events {
        put_varint(out, zigzag(event.len.wrapping_sub(event.to.wrapping_sub(event.from))));
    }
    let mut to = start_of(batch, first);
    for event in events {
        put_varint(out, zigzag(event.from.wrapping_sub(to)));
        to = event.to;
    }
    for event in events {
        put_varint(out, event.form());
    }
    for event in events {
        out.extend_from_slice(batch.event_bytes(event));
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(text);
}

fn text<'a>(rest: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let len = rest.varint()?;
    rest.take(len as usize)
}

/// Headers; each takes two bytes at least, so a count that its bytes can't hold allocates nothing.
fn headers(rest: &mut Bytes<'_>) -> Option<Headers> {
    let count = rest.varint()? as usize;
    if rest.0.len() < count.checked_mul(2)? {
        return None;
    }
    let mut header = || Some((std::str::from_utf8(text(rest)?).ok()?.into(), text(rest)?.into()));
    (0..count).map(|_| header()).collect()
}

/// Reads all runs back; `None` if the bytes are not exactly what the header says.
pub(super) fn decode(body: &[u8], runs: &[Run]) -> Option<Vec<Messages>> {
    let mut rest = Bytes(body);
    let all = runs.iter().map(|run| messages(&mut rest, run)).collect::<Option<Vec<_>>>()?;
    rest.0.is_empty().then_some(all)
}

fn messages(rest: &mut Bytes<'_>, run: &Run) -> Option<Messages> {
    let key = text(rest)?.into();
    let headers = if run.headers { headers(rest)? } else { Vec::new() };
    let (line_start, observed_ns) = (rest.u64()?, rest.i64()?);
    let count = run.messages as usize;
    // Each message takes four bytes at least: a count that its bytes can't hold allocates nothing.
    if rest.0.len() < count.checked_mul(4)? {
        return None;
    }
    let mut events = Vec::with_capacity(count);
    for _ in 0..count {
        events.push(Event::whole(0, 0, 0, rest.varint()?));
    }
    let mut start = 0_u32;
    for event in &mut events {
        let len = unzigzag(rest.varint()?).wrapping_add(event.to);
        *event = event.moved(start, len);
        start = start.checked_add(len)?;
    }
    let mut to = 0_u32;
    for event in &mut events {
        event.from = to.wrapping_add(unzigzag(rest.varint()?));
        event.to = event.from.checked_add(event.to)?;
        to = event.to;
    }
    for event in &mut events {
        *event = event.with_form(rest.varint()?);
    }
    let bytes = rest.take(start as usize)?.to_vec();
    let sound = u64::from(to) == run.to.saturating_sub(run.from) && counted(&events, run.routed != 0) == run.count;
    sound.then_some(Messages { key, headers, line_start, observed_ns, events, bytes })
}
