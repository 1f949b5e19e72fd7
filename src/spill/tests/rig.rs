//! A spill in a directory of its own, and batches to put into it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::room::Room;
use super::super::{KeepFree, LaneRow, Loaded, OpenError, Piece, Recovered, Settings, Spill};
use super::faults::Faulty;
use crate::batch::{Batch, Event, Origin, Position, Stream, StreamId};
use crate::budget::Budget;
use crate::durable::disk::{Disk, Real};
use crate::encode::{LineStarts, charge_for, raw};
use crate::ledger::Count;

pub(super) const TOPIC: &str = "logs";

/// Everything that reaches Kafka of one message, and what the books need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) stream: u64,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) headers: Option<Vec<String>>,
    pub(super) end: u64,
}

/// What `Producer::send` would send of a batch.
pub(super) fn sent(batch: &Batch, first: usize) -> Vec<Sent> {
    let mut lines = LineStarts::of(batch);
    let all = batch.events.iter().map(|event| {
        let headers = raw::part_headers(batch.stream.id, lines.next(event), event).filter(|_| batch.part_headers);
        Sent {
            stream: batch.stream.id.0,
            key: batch.stream.key.to_vec(),
            payload: batch.event_bytes(event).to_vec(),
            headers: headers.map(|all| all.into_iter().map(|(key, value)| format!("{key}={value}")).collect()),
            end: batch.base + u64::from(event.to),
        }
    });
    all.skip(first).collect()
}

/// One event to make: its text, its part, whether its line had no end.
pub(super) type Line = (Vec<u8>, Option<(u32, bool)>, bool);

/// A stream that makes batches, one behind the other.
pub(super) struct Maker {
    pub(super) stream: Arc<Stream>,
    pub(super) offset: u64,
    line_start: u64,
    before: Count,
    budget: Arc<Budget>,
}

impl Maker {
    pub(super) fn new(id: u64, source: &str, offset: u64) -> Maker {
        let key = format!("host:/var/log/{id}").into_bytes().into();
        let stream = Stream {
            id: StreamId(id),
            source: source.into(),
            key,
            headers: vec![],
            origin: Origin::File(b"/var/log/x".as_slice().into()),
            topic: TOPIC.into(),
        };
        Maker { stream: Arc::new(stream), offset, line_start: offset, before: Count::default(), budget: Budget::new(1 << 30) }
    }

    /// A batch of these, each ended by a byte that belongs to none; as the encoder of raw leaves it.
    pub(super) fn batch(&mut self, lines: &[Line]) -> Batch {
        let (mut bytes, mut events) = (b"head".to_vec(), Vec::new());
        let (base, line_start, before) = (self.offset, self.line_start, self.before);
        let mut at = 0;
        for (text, part, partial) in lines {
            let (start, len) = (u32::try_from(bytes.len()).unwrap(), u32::try_from(text.len()).unwrap());
            bytes.extend_from_slice(text);
            let more = part.is_some_and(|(_, last)| !last);
            if part.is_none_or(|(number, _)| number == 1) {
                self.line_start = base + u64::from(at);
            }
            let to = at + len + u32::from(!more);
            if !more {
                bytes.push(b'\n');
                self.before.events += 1;
            }
            let mut event = Event::whole(start, len, at, to);
            if let Some((number, last)) = part {
                event = event.as_part(*number, *last);
            }
            events.push(if *partial { event.as_partial() } else { event });
            at = to;
        }
        self.offset += u64::from(at);
        self.before.bytes += u64::from(at);
        let part_headers = lines.iter().any(|(_, part, _)| part.is_some());
        let charge = self.budget.charge(charge_for(bytes.capacity(), events.len()));
        let stream = Arc::clone(&self.stream);
        let to = Position { offset: self.offset, ..Position::START };
        Batch {
            stream,
            bytes,
            events,
            base,
            line_start,
            to,
            observed_ns: 1_700_000_000_000_000_000,
            ticket: 1,
            part: 0,
            since: std::time::Instant::now(),
            before,
            copy: None,
            extras: Vec::new(),
            part_headers,
            routed: 0,
            charge,
        }
    }

    /// A batch of every `nth` of these, as if rules had given the others to another lane.
    pub(super) fn share(&mut self, lines: &[Line], nth: usize) -> Batch {
        let all = self.before;
        let mut batch = Batch { routed: 99, ..self.batch(lines) };
        let mut starts = LineStarts::of(&batch);
        let lines: Vec<u64> = batch.events.iter().map(|event| starts.next(event)).collect();
        let mut kept = (0_usize..).map(|index| index % nth == 0);
        batch.events.retain(|_| kept.next().unwrap());
        batch.line_start = lines[0];
        self.before = all;
        self.before += batch.count_from(0);
        batch
    }

    /// A batch of whole lines.
    pub(super) fn lines(&mut self, texts: &[&str]) -> Batch {
        let lines: Vec<Line> = texts.iter().map(|text| (text.as_bytes().to_vec(), None, false)).collect();
        self.batch(&lines)
    }
}

pub(super) fn piece(batch: &Batch) -> Piece<'_> {
    Piece { batch, first: 0, held: false }
}

pub(super) struct Rig {
    /// Removed with the rig.
    _temp: tempfile::TempDir,
    pub(super) settings: Settings,
    pub(super) room: Arc<Room>,
    pub(super) budget: Arc<Budget>,
    pub(super) disk: Arc<dyn Disk>,
}

impl Rig {
    /// Without waiting for fsyncs.
    pub(super) fn new() -> Rig {
        Rig::on(Faulty::new())
    }

    pub(super) fn real() -> Rig {
        Rig::on(Arc::new(Real))
    }

    pub(super) fn on(disk: Arc<dyn Disk>) -> Rig {
        let temp = tempfile::tempdir().unwrap();
        let (after, sync) = (Duration::from_secs(5), Duration::from_millis(100));
        let settings = Settings { dir: temp.path().join("spill"), max_size: 1 << 30, keep_free: KeepFree::Bytes(0), after, sync };
        Rig { _temp: temp, settings, room: Room::new(1 << 30), budget: Budget::new(1 << 30), disk }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.settings.dir.join(TOPIC)
    }

    pub(super) fn try_open(&self, known: Option<&LaneRow>) -> Result<(Spill, Recovered), OpenError> {
        Spill::open_on(Arc::clone(&self.disk), &self.settings, &TOPIC.into(), &self.room, known)
    }

    pub(super) fn open(&self, known: Option<&LaneRow>) -> (Spill, Recovered) {
        self.try_open(known).unwrap()
    }

    /// Reads all that can be read; damage is a failure.
    pub(super) fn read_all(&self, spill: &mut Spill) -> Vec<(Batch, usize)> {
        let mut all = Vec::new();
        loop {
            match spill.read(&self.budget).unwrap() {
                Loaded::Record(batches) => all.extend(batches),
                Loaded::Nothing => return all,
                Loaded::Damaged(damaged) => panic!("{damaged:?}"),
            }
        }
    }

    /// The segment files, in order.
    pub(super) fn segments(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.dir()) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some()).collect();
        files.sort();
        files
    }
}

pub(super) fn sum(counts: &[(Arc<str>, Count)]) -> Count {
    let mut total = Count::default();
    for (_, count) in counts {
        total += *count;
    }
    total
}
