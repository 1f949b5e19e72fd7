//! Reads an arrival log from where it is settled, as a file is read, and makes batches of it: live messages and those that wait since the last run
//! go the same way. Apart from [`super::arrival`], since only the reader waits for the byte budget.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::arrival::format::{BLOCK_HEADER, Block, BlockHeader, messages, next_block};
use super::arrival::{Arrivals, Piece};
use super::intake::Transport;
use crate::batch::{Batch, Event, Origin, Position, Stream};
use crate::bell::Bell;
use crate::budget::Budget;
use crate::encode::{MAX_EVENTS, charge_for};
use crate::gaps;
use crate::ledger::{Amount, Count, Missed};
use crate::pool::Pool;
use crate::settlement::{At, Settlement};
use crate::shutdown::{Phase, Stop};
use crate::snapshot::rows::StreamRow;
use crate::source::Outlet;

/// How much is read at once, bytes.
const BLOCK: usize = 512 << 10;
/// Senders whose streams are kept ready; beyond it all are made anew.
const STREAMS_KEPT: usize = 4096;
/// How soon an I/O error is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long what comes is left to gather while it is less than [`LITTLE`]: each turn costs some microseconds, however little it finds.
const GATHER: Duration = Duration::from_millis(5);
/// See [`GATHER`], bytes.
const LITTLE: u64 = 64 << 10;
/// The longest rest.
const REST: Duration = Duration::from_secs(5);

/// What the reader needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the source.
    pub source: Arc<str>,
    /// The topic its events go to.
    pub topic: Arc<str>,
    /// `agent.host`, the beginning of every key.
    pub host: Arc<str>,
}

/// What [`Reader::turn`] wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to read at once.
    Again,
    /// The budget has no room for this many bytes.
    Room(usize),
    /// All has been read.
    End,
    /// The disk fails.
    Later,
}

/// See the module.
pub struct Reader {
    settings: Settings,
    arrivals: Arc<Arrivals>,
    settlement: Arc<Settlement>,
    budget: Arc<Budget>,
    pool: Arc<Pool>,
    outlet: Box<dyn Outlet>,
    at: Position,
    /// Events that end at or before this offset are settled already.
    skip_to: u64,
    streams: HashMap<(Transport, Box<str>), Arc<Stream>>,
    /// How much is read at once; more for a block that is longer.
    most: usize,
    failing: bool,
    /// What a start counted as unread, or damage has taken of it, is to be corrected when all has been read.
    recount: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("source", &self.settings.source).field("at", &self.at.offset).finish_non_exhaustive()
    }
}

/// Blocks of one sender that become one batch.
struct Run {
    stream: Arc<Stream>,
    /// Where its first block begins in what was read, and where its last one ends.
    begin: usize,
    end: usize,
    events: Vec<Event>,
    line_start: u64,
    received_ns: i64,
}

impl Reader {
    /// A reader that goes on where the state says; makes the stream known to it.
    #[must_use]
    pub fn new(
        settings: Settings,
        arrivals: Arc<Arrivals>,
        settlement: Arc<Settlement>,
        budget: Arc<Budget>,
        pool: Arc<Pool>,
        outlet: Box<dyn Outlet>,
    ) -> Reader {
        let known = settlement.stream(arrivals.stream()).map(|(row, _)| row);
        let mut row = known.unwrap_or_else(|| first_row(&settings, &arrivals));
        (row.seen_s, row.path) = (now_s(), arrivals.dir().as_os_str().as_bytes().into());
        // The next start gives no offset again that this run may have given, also if only memory had it.
        row.begun_at = arrivals.tail();
        row.evidence.head_hash = arrivals.boot_mark();
        let skip_to = if outlet.skips() { 0 } else { row.mark(&settings.topic) };
        let at = row.position;
        settlement.put(arrivals.stream(), row);
        settlement.note_source(&settings.source);
        Reader {
            settings,
            arrivals,
            settlement,
            budget,
            pool,
            outlet,
            at,
            skip_to,
            streams: HashMap::new(),
            most: BLOCK,
            failing: false,
            recount: true,
        }
    }

    /// Works until the word to stop, and then as long as there is something and room for it (at [`Phase::Leave`] room is waited for); with `once` until all is read.
    pub fn run(&mut self, stop: &Stop, bell: &Bell, once: bool) {
        self.go_on(stop, bell, once, || false);
    }

    /// The same; after the word to stop also as long as `more` says that more may come.
    pub fn run_with(&mut self, stop: &Stop, bell: &Bell, more: impl Fn() -> bool) {
        self.go_on(stop, bell, false, more);
    }

    fn go_on(&mut self, stop: &Stop, bell: &Bell, once: bool, more: impl Fn() -> bool) {
        loop {
            let stopping = stop.phase() > Phase::Run && !(more() && stop.phase() < Phase::Now);
            match self.turn() {
                Next::Again if stop.phase() < Phase::Now => {}
                Next::Room(bytes) if !stopping || stop.phase() == Phase::Leave => {
                    self.budget.wait_for_room(bytes, Duration::from_millis(100));
                }
                Next::End if once => return,
                _ if stopping => return,
                // Those that listen are still ending.
                _ if stop.phase() > Phase::Run => bell.wait_until(Instant::now() + Duration::from_millis(20)),
                Next::Later => {
                    stop.sleep_unless(Phase::Leave, TRY_AGAIN);
                }
                _ => {
                    bell.wait_until(Instant::now() + REST);
                    if self.arrivals.tail().saturating_sub(self.at.offset) < LITTLE {
                        stop.sleep_unless(Phase::Leave, GATHER);
                    }
                }
            }
        }
    }

    /// Reads once and hands on what is there.
    pub fn turn(&mut self) -> Next {
        let waiting = self.arrivals.tail().saturating_sub(self.at.offset);
        if waiting == 0 {
            if std::mem::take(&mut self.recount) {
                let gone = self.settlement.read_whole(self.arrivals.stream());
                tracing::debug!(source = %self.settings.source, events = gone.events, "the arrival log is read: so many were counted in it too much");
            }
            return Next::End;
        }
        let want = usize::try_from(waiting).unwrap_or(self.most).min(self.most);
        let need = charge_for(want, want / 256);
        if !self.budget.has_room(need) {
            return Next::Room(need);
        }
        let mut bytes = if want >= BLOCK / 2 { self.pool.block(want) } else { Vec::with_capacity(want) };
        match self.arrivals.read(self.at.offset, &mut bytes, want) {
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(source = %self.settings.source, offset = self.at.offset, %error, "the arrival log can't be read; trying again");
                }
                self.pool.give_block(bytes);
                return Next::Later;
            }
            Ok(Piece::End) => return Next::End,
            Ok(Piece::Hole { lost_to, to }) => self.hole(lost_to, to),
            Ok(Piece::Bytes) => self.take(bytes),
        }
        if std::mem::take(&mut self.failing) {
            tracing::info!(source = %self.settings.source, "the arrival log can be read again");
        }
        Next::Again
    }

    /// Nothing is kept up to there: what was there before `lost_to` is gone, the offsets behind it were left out.
    fn hole(&mut self, lost_to: u64, to: u64) {
        let bytes = lost_to.saturating_sub(self.at.offset);
        if bytes > 0 {
            self.unreadable(0, bytes, "a segment is gone");
        }
        self.pass(to);
    }

    fn unreadable(&mut self, events: u64, bytes: u64, words: &str) {
        tracing::error!(source = %self.settings.source, offset = self.at.offset, events, bytes, "the arrival log is damaged: {words}; what was there is lost");
        self.recount = true;
        let place = gaps::Place::Named(format!("arrival log of {}", self.settings.source).into());
        let at = At { place: &place, stream: Some(self.arrivals.stream()), from: Some(self.at.offset), words };
        self.settlement.missed(&self.settings.source, Missed::Unreadable, Amount { events, bytes, unknown: 0 }, &at);
    }

    /// Goes on behind bytes that hold nothing for anyone.
    fn pass(&mut self, to: u64) {
        self.at = Position { offset: to, line_start: to, ..self.at };
        self.settlement.pass(self.arrivals.stream(), self.at, self.arrivals.size(to));
    }

    /// Makes batches of whole blocks.
    fn take(&mut self, bytes: Vec<u8>) {
        let mut runs: Vec<Run> = Vec::new();
        let mut at = 0;
        let mut damaged = false;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(block) = Block::parse(rest) else {
                damaged = BlockHeader::parse(rest).is_some_and(|header| header.block_len() <= rest.len())
                    || (rest.len() >= BLOCK_HEADER && BlockHeader::parse(rest).is_none());
                break;
            };
            if runs.last().is_some_and(|run| run.events.len() + usize::from(block.header.messages) > MAX_EVENTS && !run.events.is_empty())
                && !runs.is_empty()
            {
                break;
            }
            self.add(&mut runs, at, &block);
            at += block.header.block_len();
        }
        if at == 0 {
            return self.no_block(&bytes, damaged);
        }
        self.most = BLOCK;
        self.hand_on(bytes, runs, at);
    }

    /// The bytes begin with no whole block: it is longer than what was read, or damaged.
    fn no_block(&mut self, bytes: &[u8], damaged: bool) {
        let header = BlockHeader::parse(bytes);
        match header {
            Some(header) if header.block_len() > bytes.len() && self.most < header.block_len() => self.most = header.block_len(),
            _ if !damaged && bytes.len() < BLOCK_HEADER => {
                // The end of a segment that a crash has cut.
                self.unreadable(0, bytes.len() as u64, "its end is cut");
                self.pass(self.at.offset + bytes.len() as u64);
            }
            _ => {
                let to = next_block(bytes, 1).unwrap_or_else(|| bytes.len().saturating_sub(BLOCK_HEADER - 1).max(1));
                let whole = header.is_some_and(|header| header.block_len() == to);
                self.unreadable(
                    if whole { header.map_or(0, |header| u64::from(header.messages)) } else { 0 },
                    to as u64,
                    "a checksum does not hold",
                );
                self.pass(self.at.offset + to as u64);
            }
        }
    }

    /// Adds a block's messages to the last run, if that is of the same sender, else to a new one.
    fn add(&mut self, runs: &mut Vec<Run>, at: usize, block: &Block<'_>) {
        let fresh = match runs.last() {
            Some(run) => !is_of(&run.stream, block) || run.events.len() + usize::from(block.header.messages) > MAX_EVENTS,
            None => true,
        };
        if fresh && !block.header.end {
            let stream = self.stream(block);
            runs.push(Run { stream, begin: at, end: at, events: self.pool.events(), line_start: 0, received_ns: block.header.received_ns });
        }
        let Some(run) = runs.last_mut() else { return };
        let block_end = at + block.header.block_len();
        let first = at + block.messages_at();
        // What is between two messages belongs to the second.
        let (mut from, base) = (run.end, self.at.offset + run.begin as u64);
        for message in messages(block.messages) {
            let (start, end) = (first + message.start, first + message.start + message.len);
            let mut event = Event::whole(narrow(start - run.begin), narrow(message.len), narrow(from - run.begin), narrow(end - run.begin));
            if message.part > 0 {
                event = event.as_part(message.part, message.last);
            }
            if message.partial {
                event = event.as_partial();
            }
            // What is settled already is neither sent nor counted again.
            if base + (end - run.begin) as u64 > self.skip_to {
                if run.events.is_empty() {
                    run.line_start = message.began.unwrap_or(base + (from - run.begin) as u64);
                }
                run.events.push(event);
            }
            from = end;
        }
        run.end = block_end;
    }

    fn stream(&mut self, block: &Block<'_>) -> Arc<Stream> {
        let transport = block.header.transport;
        if let Some(stream) = self.streams.get(&(transport, block.peer.into())) {
            return Arc::clone(stream);
        }
        let Settings { source, topic, host } = &self.settings;
        let stream = Arc::new(Stream {
            id: self.arrivals.stream(),
            source: Arc::clone(source),
            key: format!("{host}:{source}:{}", block.peer_key).into_bytes().into(),
            headers: Vec::new(),
            origin: Origin::Arrivals { peer: block.peer.into(), transport },
            topic: Arc::clone(topic),
        });
        if self.streams.len() >= STREAMS_KEPT {
            self.streams.clear();
        }
        self.streams.insert((transport, block.peer.into()), Arc::clone(&stream));
        stream
    }

    /// Hands the runs on; what was read behind `upto` is read again.
    fn hand_on(&mut self, bytes: Vec<u8>, runs: Vec<Run>, upto: usize) {
        let begin = self.at.offset;
        let alone = runs.first().is_some_and(|run| run.begin == 0) && runs.len() == 1 && upto >= bytes.capacity() / 2;
        let count = runs.len();
        let mut block = Some(bytes);
        for (index, run) in runs.into_iter().enumerate() {
            let end = if index + 1 == count { upto } else { run.end };
            let to = begin + end as u64;
            let to = Position { offset: to, line_start: to, ..Position::START };
            if run.events.is_empty() {
                self.settlement.pass(self.arrivals.stream(), to, self.arrivals.size(to.offset));
                self.pool.give_events(run.events);
                continue;
            }
            let own = if alone {
                let mut whole = block.take().unwrap_or_default();
                whole.truncate(end);
                whole
            } else {
                block.as_deref().and_then(|bytes| bytes.get(run.begin..end)).unwrap_or_default().to_vec()
            };
            let events = if alone { run.events } else { self.exact(run.events) };
            self.push(own, events, run.stream, (begin + run.begin as u64, run.line_start, to), run.received_ns);
        }
        if count == 0 {
            self.pass(begin + upto as u64);
        }
        if let Some(block) = block {
            self.pool.give_block(block);
        }
        self.at = Position { offset: begin + upto as u64, line_start: begin + upto as u64, ..Position::START };
    }

    fn exact(&self, events: Vec<Event>) -> Vec<Event> {
        let exact = events.as_slice().to_vec();
        self.pool.give_events(events);
        exact
    }

    fn push(
        &mut self,
        bytes: Vec<u8>,
        mut events: Vec<Event>,
        stream: Arc<Stream>,
        (base, line_start, to): (u64, u64, Position),
        received_ns: i64,
    ) {
        let whole = events.iter().filter(|event| event.ends()).count();
        // Events that are skipped were counted when they were settled: the batch begins behind them.
        let skipped = self.skip_to.saturating_sub(base).min(to.offset - base);
        for event in events.iter_mut().filter(|_| skipped > 0) {
            (event.from, event.to) = (event.from.saturating_sub(narrow64(skipped)), event.to.saturating_sub(narrow64(skipped)));
        }
        let base = base + skipped;
        let count = Count { events: whole as u64, bytes: to.offset - base };
        let topic = Arc::clone(&self.settings.topic);
        let (ticket, before) = self.settlement.admit(stream.id, (base, to, self.arrivals.size(to.offset)), &[(topic, count)]);
        let charge = self.budget.charge(charge_for(bytes.capacity(), events.len()));
        self.outlet.push(Batch {
            stream,
            bytes,
            events,
            base,
            line_start,
            to,
            observed_ns: received_ns,
            ticket,
            part: 0,
            since: Instant::now(),
            before: before.first().copied().unwrap_or_default(),
            copy: None,
            extras: Vec::new(),
            part_headers: false,
            routed: 0,
            charge,
        });
    }
}

fn is_of(stream: &Stream, block: &Block<'_>) -> bool {
    matches!(&stream.origin, Origin::Arrivals { peer, transport } if **peer == *block.peer && *transport == block.header.transport)
        || block.header.end
}

/// Offsets within what was read at once, which is far below 4 GiB.
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn narrow64(at: u64) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn first_row(settings: &Settings, arrivals: &Arrivals) -> StreamRow {
    let first = arrivals.first();
    let key = format!("{}:{}", settings.host, settings.source).into_bytes().into();
    let position = Position { offset: first, line_start: first, ..Position::START };
    let begun = StreamRow::begun(Arc::clone(&settings.source), key, arrivals.dir().as_os_str().as_bytes(), position);
    StreamRow { first_path: Box::default(), size: arrivals.size(first), seen_s: now_s(), ..begun }
}

fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    now.and_then(|time| i64::try_from(time.as_secs()).ok()).unwrap_or(0)
}
