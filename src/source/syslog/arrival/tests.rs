//! What an arrival log promises, against real files: what was accepted is read again after any kill, in order, and what is lost is counted.

mod ends;
mod formats;
mod power;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rustix::io::Errno;
use tempfile::TempDir;

use super::super::intake::{Frame, Frames, Intake, Taken, Transport};
use super::super::reader::{self, Next, Reader};
use super::{Arrivals, Settings, WhenFull};
use crate::batch::{Batch, StreamId};
use crate::bell::Bell;
use crate::budget::Budget;
use crate::durable::disk::Space;
use crate::ledger::{Ledger, Missed};
use crate::pool::Pool;
use crate::settlement::{Kept, KeptGaps, Settlement};
use crate::snapshot::rows::StreamRow;
use crate::source::Outlet;
use crate::spill::KeepFree;
use crate::spill::room::Room;
use crate::spill::tests::faults::{Faulty, Kind};

const SOURCE: &str = "net";
const MIB: u64 = 1 << 20;

#[derive(Clone, Debug, Default)]
struct Sink(Arc<Mutex<Vec<Batch>>>);

impl Outlet for Sink {
    fn push(&mut self, batch: Batch) {
        self.0.lock().unwrap().push(batch);
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

/// A log, its reader, and a state that survives kills.
struct Rig {
    dir: TempDir,
    disk: Arc<Faulty>,
    boot: [u8; 16],
    when_full: Option<WhenFull>,
    max: u64,
    streams: BTreeMap<StreamId, StreamRow>,
    ledger: Ledger,
    run: Option<Run>,
}

struct Run {
    settlement: Arc<Settlement>,
    arrivals: Arc<Arrivals>,
    reader: Reader,
    sink: Sink,
    recovered: super::Recovered,
    waiting: Vec<Batch>,
    /// Events of the first of them that are acknowledged.
    front: usize,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (disk, boot, streams, ledger) = (Faulty::new(), [1; 16], BTreeMap::new(), Ledger::default());
        let mut rig = Rig { dir, disk, boot, when_full: None, max: 64 * MIB, streams, ledger, run: None };
        rig.open();
        rig
    }

    fn open(&mut self) {
        let streams = self.streams.iter().map(|(id, row)| (*id, row.clone())).collect();
        let kept = Kept { streams, ledgers: vec![(SOURCE.into(), self.ledger.clone())], lanes: Vec::new() };
        let settlement = Arc::new(Settlement::restored(kept, KeptGaps::default()));
        let settings = Settings {
            source: SOURCE.into(),
            dir: self.dir.path().join("arrivals"),
            keep_free: KeepFree::Bytes(0),
            sync: Duration::from_millis(100),
            memory: 1 << 16,
            when_full: self.when_full,
            shed_first: super::shed::First::default(),
            boot: self.boot,
        };
        let disk = Arc::clone(&self.disk) as Arc<dyn crate::durable::disk::Disk>;
        let (arrivals, recovered) =
            Arrivals::open(settings, disk, &Room::new(self.max), Arc::clone(&settlement), Arc::new(Bell::default()), || StreamId(0xfeed))
                .unwrap();
        let sink = Sink::default();
        let reading = reader::Settings { source: SOURCE.into(), topic: "logs".into(), host: "h".into() };
        let (budget, pool) = (Budget::new(64 << 20), Arc::new(Pool::default()));
        let reader = Reader::new(reading, Arc::clone(&arrivals), Arc::clone(&settlement), budget, pool, Box::new(sink.clone()));
        settlement.arrived(arrivals.stream(), recovered.unread);
        self.run = Some(Run { settlement, arrivals, reader, sink, recovered, waiting: Vec::new(), front: 0 });
        self.snapshot();
    }

    fn run(&mut self) -> &mut Run {
        self.run.as_mut().unwrap()
    }

    fn snapshot(&mut self) {
        let run = self.run.as_mut().unwrap();
        let changes = run.settlement.changes();
        self.streams.extend(changes.kept.streams.iter().map(|(id, row)| (*id, row.clone())));
        if let Some((_, ledger)) = changes.kept.ledgers.iter().find(|(source, _)| &**source == SOURCE) {
            self.ledger = ledger.clone();
        }
        run.settlement.committed(&changes);
    }

    fn kill(&mut self) {
        self.run = None;
        self.open();
    }

    fn take(&mut self, peer: &str, texts: &[String]) -> Taken {
        take(&self.run().arrivals, Transport::Tcp, peer, texts)
    }

    /// Reads all that is there; the texts, in order.
    fn read(&mut self) -> Vec<String> {
        let run = self.run();
        while run.reader.turn() == Next::Again {}
        let batches = std::mem::take(&mut *run.sink.0.lock().unwrap());
        let texts = batches.iter().flat_map(|batch| {
            let text =
                |event| format!("{}|{}", String::from_utf8_lossy(&batch.stream.key), String::from_utf8_lossy(batch.event_bytes(event)));
            batch.events.iter().map(text).collect::<Vec<_>>()
        });
        let texts = texts.collect();
        run.waiting.extend(batches);
        texts
    }

    /// Kafka acknowledges the first of what waits, and of the next batch so many events.
    fn acknowledge(&mut self, whole: usize, events: usize) -> Vec<String> {
        let run = self.run();
        let mut done = Vec::new();
        let whole = whole.min(run.waiting.len());
        run.front = if whole > 0 { 0 } else { run.front };
        for batch in run.waiting.drain(..whole) {
            run.settlement.acknowledged(&batch, batch.events.len());
            done.extend(batch.events.iter().map(|event| String::from_utf8_lossy(batch.event_bytes(event)).into_owned()));
        }
        if let Some(batch) = run.waiting.first() {
            // Acknowledgements only go on.
            let events = events.min(batch.events.len()).max(run.front);
            run.front = events;
            run.settlement.acknowledged(batch, events);
            done.extend(batch.events[..events].iter().map(|event| String::from_utf8_lossy(batch.event_bytes(event)).into_owned()));
        }
        done
    }

    fn missed(&mut self, reason: Missed) -> (u64, u64, u64) {
        let books = self.run().settlement.books();
        let amount = books.first().and_then(|(_, book)| book.ledger.missed.get(&reason).copied()).unwrap_or_default();
        (amount.events, amount.bytes, amount.unknown)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> =
            std::fs::read_dir(self.dir.path().join("arrivals/net.log")).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    }
}

fn take(arrivals: &Arrivals, transport: Transport, peer: &str, texts: &[String]) -> Taken {
    let bytes = texts.concat();
    let mut start = 0;
    let frames: Vec<Frame> = texts
        .iter()
        .map(|text| {
            let len = u32::try_from(text.len()).unwrap();
            start += len;
            Frame { start: start - len, len, part: 0, last: true, partial: false }
        })
        .collect();
    arrivals.take(&Frames { transport, peer, peer_key: peer, received_ns: 7, bytes: bytes.as_bytes(), frames: &frames })
}

fn texts(from: usize, to: usize, len: usize) -> Vec<String> {
    (from..to).map(|number| format!("<13>{number:08}{}", "x".repeat(len))).collect()
}

/// Read, pending and delivered, as they are shown.
fn books(rig: &mut Rig) -> (u64, u64, u64) {
    assert_eq!(rig.run().settlement.imbalances(), []);
    let books = rig.run().settlement.books();
    let (_, shown) = books.first().unwrap();
    (shown.ledger.read.events, shown.pending.events, shown.ledger.delivered.events)
}

#[test]
fn what_is_accepted_is_read_and_pending_before_anybody_has_read_it_and_after_a_restart() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 30, 400));
    rig.take("b", &texts(30, 50, 10));
    assert_eq!(books(&mut rig), (50, 50, 0));
    rig.read();
    assert_eq!(books(&mut rig), (50, 50, 0), "what is on its way was counted when it came");
    rig.acknowledge(1, 0);
    assert_eq!(books(&mut rig), (50, 20, 30));
    rig.snapshot();
    rig.kill();
    assert_eq!(books(&mut rig), (50, 20, 30), "the log holds what is left");
    rig.take("a", &texts(50, 60, 10));
    assert_eq!(books(&mut rig), (60, 30, 30));
    rig.read();
    rig.acknowledge(usize::MAX, 0);
    assert_eq!(books(&mut rig), (60, 0, 60));
}

#[test]
fn what_was_counted_in_a_log_and_can_t_be_read_is_pending_no_more() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 10, 10));
    rig.take("a", &texts(10, 30, 10));
    rig.run = None;
    let path = rig.segments().remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    // Within the first block's body: its header stands.
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    rig.open();
    assert_eq!(books(&mut rig), (30, 30, 0));
    assert_eq!(rig.read().len(), 20);
    assert_eq!((books(&mut rig), rig.missed(Missed::Unreadable).0), ((20, 20, 0), 10));
}

#[test]
fn a_log_that_is_begun_refuses_nothing() {
    let mut rig = Rig::new();
    assert!(matches!(take(&rig.run().arrivals, Transport::Udp, "a", &texts(0, 3, 5)), Taken::Accepted { .. }));
    assert_eq!((rig.read().len(), rig.missed(Missed::Shed)), (3, (0, 0, 0)));
}

#[test]
fn the_senders_of_what_is_read_have_batches_and_keys_of_their_own() {
    let mut rig = Rig::new();
    for (peer, from) in [("a", 0), ("a", 2), ("b", 4), ("a", 6)] {
        rig.take(peer, &texts(from, from + 2, 3));
    }
    let read = rig.read();
    let expected: Vec<_> = [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("a", 6), ("a", 7)]
        .map(|(peer, number)| format!("h:net:{peer}|<13>{number:08}xxx"))
        .into();
    assert_eq!(read, expected);
    assert_eq!(rig.run().waiting.len(), 3, "two blocks of one sender are one batch");
}

#[test]
fn segments_that_are_settled_in_a_snapshot_are_deleted_and_no_others() {
    let mut rig = Rig::new();
    for from in 0..40 {
        rig.take("a", &texts(from * 10, from * 10 + 10, 100));
    }
    rig.read();
    let all = rig.segments().len();
    assert!(all > 5, "{all}");
    rig.acknowledge(usize::MAX, 0);
    let durable = rig.streams.values().next().unwrap().position.offset;
    rig.run().arrivals.tidy(durable, durable);
    assert_eq!(rig.segments().len(), all, "no snapshot knows of it");
    rig.snapshot();
    let durable = rig.streams.values().next().unwrap().position.offset;
    rig.run().arrivals.tidy(durable, durable);
    assert_eq!(rig.segments().len(), 1, "the one that is written to");
    rig.kill();
    assert_eq!(rig.read(), [""; 0]);
}

#[test]
fn one_flipped_byte_costs_its_block_alone_and_is_counted_exactly() {
    let mut rig = Rig::new();
    for from in 0..9 {
        rig.take("a", &texts(from * 10, from * 10 + 10, 20));
    }
    let file = rig.segments().remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|window| window == b"00000033").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    rig.kill();
    let read = rig.read();
    let expected: Vec<_> = texts(0, 30, 20).into_iter().chain(texts(40, 90, 20)).map(|text| format!("h:net:a|{text}")).collect();
    assert_eq!(read, expected);
    let (events, bytes, _) = rig.missed(Missed::Unreadable);
    assert_eq!((events, bytes > 300), (10, true));
}

#[test]
fn what_was_not_written_whole_is_cut_and_was_never_accepted() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 10, 20));
    rig.take("a", &texts(10, 20, 20));
    let file = rig.segments().remove(0);
    let len = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(len - 5).unwrap();
    rig.kill();
    assert!(rig.run().recovered.torn > 0 && rig.run().recovered.power_loss.is_none());
    assert_eq!(rig.read().len(), 10);
    rig.take("a", &texts(20, 30, 20));
    assert_eq!((rig.read().len(), rig.missed(Missed::Unreadable)), (10, (0, 0, 0)));
}

#[test]
fn a_machine_that_went_down_is_told_from_a_clean_stop_and_from_a_kill() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 3, 20));
    rig.kill();
    assert_eq!(rig.run().recovered.power_loss, None, "a kill loses nothing");
    rig.boot = [2; 16];
    rig.kill();
    assert_eq!(rig.run().recovered.power_loss, Some(7), "another boot, and no word of a stop");
    rig.take("a", &texts(3, 6, 20));
    rig.run().arrivals.close();
    rig.boot = [3; 16];
    rig.kill();
    assert_eq!(rig.run().recovered.power_loss, None, "a stop in order");
    assert_eq!(rig.read().len(), 6);
}

#[test]
fn a_failed_fsync_is_final_for_its_file_and_what_it_had_is_written_anew() {
    let mut rig = Rig::new();
    let Taken::Accepted { end } = rig.take("a", &texts(0, 10, 20)) else { panic!() };
    rig.disk.fail(Kind::SyncData, Errno::IO, 1);
    let before = rig.segments();
    rig.run().arrivals.sync();
    assert!(!rig.run().arrivals.is_safe(end));
    rig.run().arrivals.sync();
    assert!(rig.run().arrivals.is_safe(end));
    let after = rig.segments();
    assert!(after.iter().all(|file| !before.contains(file)), "{before:?} {after:?}");
    rig.take("a", &texts(10, 20, 20));
    assert_eq!(rig.read().len(), 20);
    rig.kill();
    assert_eq!(rig.read().len(), 20);
}

#[test]
fn without_room_a_connection_waits_and_a_datagram_is_refused_and_counted_by_severity() {
    let mut rig = Rig::new();
    rig.disk.set_space(Space { free: 0, total: MIB });
    rig.kill();
    assert_eq!(rig.take("a", &texts(0, 3, 20)), Taken::Full);
    assert!(!rig.run().arrivals.has_room());
    let mixed = ["<15>debug".to_owned(), "<8>emergency".to_owned()];
    assert!(matches!(take(&rig.run().arrivals, Transport::Udp, "a", &mixed), Taken::Accepted { .. }));
    assert_eq!((rig.read().len(), rig.missed(Missed::Shed)), (0, (2, 0, 0)));
    let places: Vec<_> = rig.run().settlement.changes().gaps.gaps.iter().map(|(_, gap)| format!("{gap:?}")).collect();
    assert!(
        places.iter().any(|place| place.contains("severity debug")) && places.iter().any(|place| place.contains("severity emergency")),
        "{places:?}"
    );
    rig.disk.set_space(Space { free: 1 << 30, total: 1 << 31 });
    rig.run().arrivals.tidy(0, 0);
    assert!(rig.run().arrivals.has_room());
    assert!(matches!(rig.take("a", &texts(0, 3, 20)), Taken::Accepted { .. }));
    assert_eq!(rig.read().len(), 3);
}

#[test]
fn a_log_that_can_t_be_written_goes_on_from_memory_and_comes_back() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 3, 20));
    rig.disk.fail(Kind::Write, Errno::IO, u32::MAX);
    assert!(matches!(rig.take("a", &texts(3, 6, 20)), Taken::Accepted { .. }));
    assert!(rig.run().arrivals.is_unprotected());
    assert_eq!(rig.read().len(), 6);
    let mut held = 6;
    while rig.take("a", &texts(held, held + 100, 50)) != Taken::Full {
        held += 100;
        assert!(held < 10_000, "memory has a limit");
    }
    rig.disk.heal();
    std::thread::sleep(super::TRY_AGAIN);
    rig.read();
    rig.acknowledge(usize::MAX, 0);
    rig.snapshot();
    let durable = rig.streams.values().next().unwrap().position.offset;
    rig.run().arrivals.tidy(durable, durable);
    assert!(matches!(rig.take("a", &texts(held, held + 3, 20)), Taken::Accepted { .. }));
    assert!(!rig.run().arrivals.is_unprotected());
    assert_eq!(rig.read().len(), 3);
}

#[test]
fn a_message_in_parts_keeps_its_name_though_others_come_between() {
    let mut rig = Rig::new();
    let part = |number, last| Frame { start: 0, len: 4, part: number, last, partial: false };
    for (peer, frame) in [("a", part(1, false)), ("b", part(1, false)), ("a", part(2, false)), ("b", part(2, true)), ("a", part(3, true))] {
        rig.run().arrivals.take(&Frames {
            transport: Transport::Tcp,
            peer,
            peer_key: peer,
            received_ns: 7,
            bytes: b"abcd",
            frames: &[frame],
        });
    }
    rig.read();
    let named: Vec<_> = rig
        .run()
        .waiting
        .iter()
        .flat_map(|batch| {
            let mut lines = crate::encode::LineStarts::of(batch);
            let peer = String::from_utf8_lossy(&batch.stream.key).into_owned();
            batch.events.iter().map(move |event| (peer.clone(), lines.next(event), event.part())).collect::<Vec<_>>()
        })
        .collect();
    let starts: BTreeSet<_> = named.iter().map(|(peer, start, _)| (peer.clone(), *start)).collect();
    assert_eq!(starts.len(), 2, "one name for each message: {named:?}");
    assert_eq!(
        named.iter().filter_map(|(_, _, part)| *part).collect::<Vec<_>>(),
        [(1, false), (1, false), (2, false), (2, true), (3, true)]
    );
}

#[derive(Clone, Debug)]
enum Step {
    Take(u8, u8),
    Read,
    Acknowledge(u8, u8),
    Snapshot,
    Sync,
    Tidy,
    Kill,
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u8, 1..20_u8).prop_map(|(peer, count)| Step::Take(peer, count)),
        3 => Just(Step::Read),
        3 => (0..4_u8, 0..20_u8).prop_map(|(batches, events)| Step::Acknowledge(batches, events)),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Sync),
        1 => Just(Step::Tidy),
        1 => Just(Step::Kill),
        1 => Just(Step::Stop),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn whatever_happens_what_was_accepted_is_delivered_and_what_a_snapshot_knows_is_not_sent_again(steps in steps()) {
        let mut rig = Rig::new();
        let (mut accepted, mut delivered, mut acknowledged, mut known): (Vec<String>, BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) = Default::default();
        for step in steps {
            match step {
                Step::Take(peer, count) => {
                    let texts = texts(accepted.len(), accepted.len() + usize::from(count), usize::from(count) * 9);
                    prop_assert_ne!(rig.take(&peer.to_string(), &texts), Taken::Full);
                    accepted.extend(texts);
                }
                Step::Read => {
                    for text in rig.read() {
                        let again = known.contains(text.split_once('|').unwrap().1);
                        prop_assert!(!again, "{} is sent again", text);
                    }
                }
                Step::Acknowledge(batches, events) => acknowledged.extend(rig.acknowledge(usize::from(batches), usize::from(events))),
                Step::Snapshot => {
                    rig.snapshot();
                    known.extend(acknowledged.iter().cloned());
                }
                Step::Sync => rig.run().arrivals.sync(),
                Step::Tidy => {
                    let durable = rig.streams.values().next().map_or(0, |row| row.position.offset);
                    rig.run().arrivals.tidy(durable, durable);
                }
                Step::Kill | Step::Stop => {
                    if matches!(step, Step::Stop) {
                        rig.run().arrivals.close();
                    }
                    // What no snapshot knows of comes again; Kafka has it all the same.
                    delivered.append(&mut acknowledged);
                    rig.kill();
                }
            }
            prop_assert_eq!(rig.run().settlement.imbalances(), []);
        }
        rig.read();
        delivered.append(&mut acknowledged);
        delivered.extend(rig.acknowledge(usize::MAX, 0));
        prop_assert_eq!(delivered.into_iter().collect::<Vec<_>>(), accepted);
        prop_assert_eq!(rig.run().settlement.imbalances(), []);
        rig.snapshot();
        let (read, ended) = (rig.ledger.read, rig.ledger.ended());
        prop_assert_eq!(read, ended);
        prop_assert_eq!(rig.missed(Missed::Unreadable), (0, 0, 0));
    }
}
