//! The property: whatever is done to files, and however the source is stopped, each line arrives once, in order and whole, or its loss is booked.

use proptest::prelude::*;

use super::writer::{Act, Writer};
use super::*;
use crate::source::file::charset::Named;
use crate::source::multiline::{self, Multiline, Own};

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Do(Act),
    /// The source reads until it rests, or has no room.
    Turn,
    /// So many batches are acknowledged.
    Ack(usize),
    /// So many events of the oldest batch are.
    AckEvents(usize),
    Snapshot,
    /// Time passes, seconds.
    Wait(u64),
    Restart {
        kill: bool,
        meanwhile: Vec<Act>,
    },
}

use Act::*;
use Step::*;

/// The number of a line, and the parts of it that were acknowledged.
type Parts = (usize, Vec<Vec<u8>>);

struct Play {
    rig: Rig,
    writer: Writer,
    /// Arrivals that have been looked at, of the batches that wait.
    looked_at: usize,
    /// The line that begins at an offset of a stream, and what has come of its parts.
    parts: HashMap<(StreamId, u64), Parts>,
    /// By path, the newest line that arrived in this life.
    newest: HashMap<String, usize>,
    delivered: u64,
    snapshot_delivered: u64,
}

impl Play {
    fn new(all: bool, room: usize) -> Play {
        let mut rig = Rig::new(&[if all { "app.log*" } else { "*.log" }]);
        rig.budget = Budget::new(room);
        rig.max_event = 1000;
        let writer = Writer::new(rig.dir.path(), all);
        let (parts, newest) = (HashMap::new(), HashMap::new());
        let mut play = Play { rig, writer, looked_at: 0, parts, newest, delivered: 0, snapshot_delivered: 0 };
        // The first run, on an empty directory.
        play.turn();
        play.snapshot();
        play
    }

    fn play(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
        self.finish();
        // Once more: what is settled does not come again.
        self.step(&Restart { kill: false, meanwhile: Vec::new() });
        self.finish();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Do(act) => self.writer.act(act, self.rig.now),
            Turn => self.turn(),
            Ack(count) => (0..*count).for_each(|_| self.ack(None)),
            AckEvents(count) => self.ack(Some(*count)),
            Snapshot => self.snapshot(),
            Wait(seconds) => self.rig.wait(Duration::from_secs(*seconds)),
            Restart { kill, meanwhile } => {
                if !kill {
                    self.snapshot();
                }
                self.writer.stop(*kill);
                self.rig.kill();
                (self.delivered, self.looked_at) = (self.snapshot_delivered, 0);
                self.newest.clear();
                for act in meanwhile {
                    self.writer.act(act, self.rig.now);
                }
                self.turn();
            }
        }
    }

    fn turn(&mut self) {
        if !self.writer.running {
            self.writer.start();
        }
        let rest = self.rig.read();
        self.writer.looked(rest);
        let batches = self.rig.batches.lock().unwrap();
        let fresh: Vec<Got> = batches.iter().skip(self.looked_at).flat_map(|(batch, _)| got(batch)).collect();
        self.looked_at = batches.len();
        drop(batches);
        for got in &fresh {
            self.arrived(got);
        }
    }

    /// The number in a line's text.
    fn number(&self, got: &Got) -> usize {
        match got.part {
            None | Some((1, _)) => {
                std::str::from_utf8(&got.bytes[..6]).ok().and_then(|digits| digits.parse().ok()).expect("a line begins with its number")
            }
            Some(_) => self.parts[&(got.stream, got.line_start)].0,
        }
    }

    fn arrived(&mut self, got: &Got) {
        let uid = self.number(got);
        if got.part.is_some_and(|(part, _)| part == 1) {
            self.parts.insert((got.stream, got.line_start), (uid, Vec::new()));
        }
        if got.part.is_some_and(|(_, last)| !last) {
            return;
        }
        let line = self.writer.lines.get_mut(uid).unwrap_or_else(|| panic!("{got:?} was never written"));
        line.arrived = true;
        if got.partial {
            let left = self.writer.docs[line.doc].left;
            assert!(left.is_some_and(|left| self.rig.now >= left + rotation::QUIET), "{got:?} is partial before its time");
        } else if !line.late {
            let newest = self.newest.insert(got.path.clone(), uid);
            assert!(newest.is_none_or(|newest| newest < uid), "{got:?} comes after {newest:?}");
        }
    }

    fn ack(&mut self, events: Option<usize>) {
        let from = self.rig.acked.len();
        let waiting = self.rig.batches.lock().unwrap().len();
        self.rig.ack(events);
        self.looked_at -= waiting - self.rig.batches.lock().unwrap().len();
        for got in self.rig.acked.split_off(from) {
            self.acknowledged(&got);
        }
    }

    fn acknowledged(&mut self, got: &Got) {
        let uid = self.number(got);
        let mut text = got.bytes.clone();
        if let Some((part, last)) = got.part {
            let parts = &mut self.parts.get_mut(&(got.stream, got.line_start)).unwrap().1;
            parts.resize(part as usize, Vec::new());
            parts[part as usize - 1].clone_from(&got.bytes);
            if !last {
                let line = &mut self.writer.lines[uid];
                line.sent = line.sent.max(parts.iter().map(Vec::len).sum());
                return;
            }
            text = parts.concat();
        }
        self.delivered += 1;
        let line = &mut self.writer.lines[uid];
        assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&line.text), "{got:?}");
        assert_eq!(got.partial, line.half, "{got:?}");
        (line.acked, line.fresh) = (line.acked + 1, true);
        assert!(line.acked == 1 || line.again, "line {uid} is sent twice without need: {got:?}");
    }

    fn snapshot(&mut self) {
        self.rig.commit();
        self.writer.snapshot();
        self.snapshot_delivered = self.delivered;
        self.judge_books();
    }

    fn judge_books(&self) {
        assert_eq!(self.rig.ledger().delivered.events, self.delivered, "delivered");
    }

    /// Everything is acknowledged and time passes until nothing more comes; then nothing may be wanting.
    fn finish(&mut self) {
        for _ in 0..4 {
            while !self.rig.batches.lock().unwrap().is_empty() || self.writer.lines.is_empty() {
                self.writer.act(&Lines(usize::from(self.writer.lines.is_empty()), 3), self.rig.now);
                self.ack(None);
                self.turn();
            }
            self.rig.wait(Duration::from_secs(6));
            self.turn();
            self.turn();
        }
        let wanting = self.writer.wanting();
        assert!(wanting.is_empty(), "never arrived: {wanting:?}");
        let missed = self.rig.missed(Missed::Truncated) + self.rig.missed(Missed::Deleted);
        assert!(
            missed >= self.writer.due_bytes(),
            "{missed} bytes are booked as missed, but {} were lost: {:?}",
            self.writer.due_bytes(),
            self.writer.due
        );
        self.judge_books();
    }
}

pub(super) fn play(all: bool, room: usize, steps: &[Step]) {
    Play::new(all, room).play(steps);
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1_usize..6, prop_oneof![4 => 0_usize..60, 1 => Just(1500), 1 => Just(5000)]).prop_map(|(count, len)| Lines(count, len)),
        2 => Just(Half),
        1 => Just(Late),
        3 => Just(Rename),
        3 => Just(CopyTruncate),
        1 => Just(CopyOver),
        1 => Just(Truncate),
        1 => Just(Regrow),
        1 => Just(Delete),
        1 => Just(Recreate),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => act().prop_map(Do),
        9 => Just(Turn),
        5 => (1_usize..4).prop_map(Ack),
        2 => (1_usize..4).prop_map(AckEvents),
        2 => Just(Snapshot),
        2 => Just(Wait(6)),
        1 => Just(Wait(700)),
        2 => (any::<bool>(), prop::collection::vec(act(), 0..4)).prop_map(|(kill, meanwhile)| Restart { kill, meanwhile }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn every_line_arrives_once_in_order_and_whole_or_its_loss_is_booked(
        all in any::<bool>(),
        room in prop_oneof![3 => Just(64 << 20), 1 => Just(24_000)],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        play(all, room, &steps);
    }

    /// Each line begins an event, so that the last one of each file waits for the next; but for files that are truncated meanwhile.
    #[test]
    fn the_same_where_lines_wait_for_others_that_may_be_joined(
        all in any::<bool>(),
        room in prop_oneof![3 => Just(64 << 20), 1 => Just(24_000)],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let truncates = |act: &Act| matches!(act, Truncate | Regrow | CopyOver);
        let steps: Vec<Step> = steps.into_iter().filter(|step| !matches!(step, Do(act) if truncates(act))).map(|step| match step {
            // Nor does anything tell which of two waiting files is the older one when that was written to last.
            Restart { kill, meanwhile } => {
                Restart { kill, meanwhile: meanwhile.into_iter().filter(|act| !truncates(act) && !matches!(act, Late)).collect() }
            }
            step => step,
        }).collect();
        let mut play = Play::new(all, room);
        play.rig.kill();
        let lines = multiline::Lines::Own(Own { start: Some(regex::bytes::Regex::new("^").unwrap()), ..Own::default() });
        play.rig.settings.multiline = Some(Multiline { lines, max_lines: 10, max_size: 2000, timeout: Duration::from_secs(1) });
        play.rig.settings.charset = Named::of("utf-8");
        play.play(&steps);
    }
}
