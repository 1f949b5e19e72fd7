//! Kills, losses of power and failing disks at any step, against a model: what was safe is delivered, in order, what is lost is told, and no name is
//! ever given to two messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;
use rustix::io::Errno;

use super::super::super::intake::{Intake, Taken};
use super::super::log::Place;
use super::{Rig, texts};
use crate::ledger::Missed;
use crate::spill::tests::crash::{Luck, files};
use crate::spill::tests::faults::{Faulty, Kind, Step as Done};

#[derive(Clone, Debug)]
enum Step {
    Take(u8, u8),
    Read,
    Acknowledge(u8, u8),
    Snapshot,
    Sync,
    Tidy,
    Fail(Kind, bool, u32),
    Heal,
    Kill,
    Stop,
    Power(Luck),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(vec![Kind::SyncData, Kind::SyncDir, Kind::Write, Kind::Create, Kind::Truncate, Kind::Remove]);
    let luck = prop_oneof![Just(Luck::None), Just(Luck::All), any::<u64>().prop_map(Luck::Some)];
    let step = prop_oneof![
        8 => (0..3_u8, 1..20_u8).prop_map(|(peer, count)| Step::Take(peer, count)),
        5 => Just(Step::Read),
        4 => (0..4_u8, 0..20_u8).prop_map(|(batches, events)| Step::Acknowledge(batches, events)),
        3 => Just(Step::Snapshot),
        4 => Just(Step::Sync),
        4 => Just(Step::Tidy),
        2 => (kind, any::<bool>(), 1..4_u32).prop_map(|(kind, full, times)| Step::Fail(kind, full, times)),
        2 => Just(Step::Heal),
        2 => Just(Step::Kill),
        1 => Just(Step::Stop),
        2 => luck.prop_map(Step::Power),
    ];
    prop::collection::vec(step, 0..60)
}

/// What was accepted together.
struct Took {
    texts: Vec<String>,
    end: u64,
    /// It need not be there any more.
    excused: bool,
}

#[derive(Default)]
struct Model {
    took: Vec<Took>,
    delivered: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    names: BTreeMap<u64, String>,
    /// The last number read of each sender since the last start.
    read: BTreeMap<String, String>,
    /// A loss that must have been told.
    must_tell: bool,
    boot: u8,
}

impl Model {
    fn count(&self) -> usize {
        self.took.iter().map(|took| took.texts.len()).sum()
    }

    fn read(&mut self, rig: &mut Rig) {
        let before = rig.run().waiting.len();
        let texts = rig.read();
        for text in &texts {
            let (sender, number) = text.split_once('|').unwrap();
            let last = self.read.insert(sender.to_owned(), number.to_owned());
            assert!(last.is_none_or(|last| *last < *number), "{number} of {sender} is out of order");
        }
        for batch in rig.run().waiting.iter().skip(before) {
            for event in &batch.events {
                let text = String::from_utf8_lossy(batch.event_bytes(event)).into_owned();
                let known = self.names.insert(batch.base + u64::from(event.from), text.clone());
                assert!(
                    known.as_ref().is_none_or(|known| *known == text),
                    "one name for {:?} and {:?}",
                    known.map(|known| known[4..12].to_owned()),
                    &text[4..12]
                );
            }
        }
    }

    /// The run ends; `safe` says what of it must be there.
    fn end(&mut self, safe: impl Fn(u64) -> bool) {
        for took in self.took.iter_mut().filter(|took| !safe(took.end)) {
            took.excused = true;
        }
        self.delivered.append(&mut self.acknowledged);
        self.read.clear();
    }

    fn kill(&mut self, rig: &mut Rig) {
        let in_memory: Vec<_> = {
            let writing = rig.run().arrivals.lock();
            let stores = writing.log.stores.iter().filter(|(_, store)| matches!(store.place, Place::Memory(_)));
            stores.map(|(first, store)| *first..=store.end).collect()
        };
        self.end(|end| !in_memory.iter().any(|range| range.contains(&end)));
        rig.kill();
    }

    fn power(&mut self, rig: &mut Rig, luck: Luck) {
        let arrivals = std::sync::Arc::clone(&rig.run().arrivals);
        let undelivered = |took: &Took| took.texts.iter().any(|text| !self.delivered.contains(text) && !self.acknowledged.contains(text));
        self.must_tell |= luck == Luck::None && self.took.iter().any(|took| undelivered(took) && !arrivals.is_safe(took.end));
        self.end(|end| arrivals.is_safe(end));
        drop(arrivals);
        rig.run = None;
        let left = files(&rig.disk.steps(), luck);
        let dir = rig.dir.path().join("arrivals/net.log");
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        rig.disk = Faulty::new();
        for (name, bytes) in left {
            std::fs::write(dir.join(&name), &bytes).unwrap();
            rig.disk.note(Done::Create(name.clone()));
            rig.disk.note(Done::Write(name.clone(), 0, bytes));
            rig.disk.note(Done::SyncData(name));
        }
        rig.disk.note(Done::SyncDir);
        self.boot += 1;
        rig.boot = [self.boot; 16];
        rig.open();
    }
}

fn durable(rig: &Rig) -> u64 {
    rig.streams.values().next().map_or(0, |row| row.position.offset)
}

fn hurry(rig: &mut Rig) {
    if let Some((_, again)) = &mut rig.run().arrivals.lock().broken {
        *again = Instant::now();
    }
}

fn play(steps: Vec<Step>) {
    let (mut rig, mut model) = (Rig::new(), Model { boot: 1, ..Model::default() });
    for step in steps {
        match step {
            Step::Take(peer, count) => {
                let texts = texts(model.count(), model.count() + usize::from(count), usize::from(count) * 9);
                if let Taken::Accepted { end } = rig.take(&peer.to_string(), &texts) {
                    model.took.push(Took { texts, end, excused: false });
                }
            }
            Step::Read => model.read(&mut rig),
            Step::Acknowledge(batches, events) => model.acknowledged.extend(rig.acknowledge(usize::from(batches), usize::from(events))),
            Step::Snapshot => rig.snapshot(),
            Step::Sync => rig.run().arrivals.sync(),
            Step::Tidy => {
                hurry(&mut rig);
                let settled = rig.run().settlement.reached(crate::batch::StreamId(0xfeed)).0;
                rig.run().arrivals.safe.fetch_max(settled, std::sync::atomic::Ordering::AcqRel);
                let durable = durable(&rig);
                rig.run().arrivals.tidy(settled, durable);
            }
            Step::Fail(kind, full, times) => {
                rig.disk.fail(kind, if full { Errno::NOSPC } else { Errno::IO }, times);
            }
            Step::Heal => rig.disk.heal(),
            Step::Kill => model.kill(&mut rig),
            Step::Stop => {
                rig.run().arrivals.close();
                model.kill(&mut rig);
            }
            Step::Power(luck) => model.power(&mut rig, luck),
        }
        assert_eq!(rig.run().settlement.imbalances(), []);
    }
    model.read(&mut rig);
    model.delivered.append(&mut model.acknowledged);
    model.delivered.extend(rig.acknowledge(usize::MAX, 0));
    for took in model.took.iter().filter(|took| !took.excused) {
        assert!(took.texts.iter().all(|text| model.delivered.contains(text)), "lost: {:?}", took.texts.first());
    }
    assert!(!model.must_tell || rig.missed(Missed::PowerLoss).2 > 0, "lost in silence");
    assert_eq!(rig.run().settlement.imbalances(), []);
}

proptest! {
    #[test]
    fn what_was_safe_is_delivered_in_order_what_is_lost_is_told_and_no_name_is_given_twice(steps in steps()) {
        play(steps);
    }
}
