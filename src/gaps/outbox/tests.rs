//! The outbox against a model: a database that keeps what was committed, a topic that keeps what was sent, and kills.

use proptest::prelude::*;

use super::*;
use crate::gaps::Amount;

fn gap(source: &str, path: &str, bytes: u64, at: i64) -> Gap {
    Gap {
        number: 0,
        source: source.into(),
        of: "file".into(),
        reason: "truncated".into(),
        place: Place::Path(path.as_bytes().into()),
        stream: Some(StreamId(7)),
        from: Some(10),
        to: Some(10 + bytes),
        amount: Amount { bytes, ..Amount::default() },
        first_ns: at,
        last_ns: at,
        words: "".into(),
    }
}

/// A snapshot that works.
fn snapshot(outbox: &mut Outbox) -> bool {
    let changes = outbox.changes();
    outbox.committed(&changes)
}

fn numbers(gaps: &[Gap]) -> Vec<u64> {
    gaps.iter().map(|gap| gap.number).collect()
}

#[test]
fn like_is_merged_with_like_while_it_waits() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.add(gap("s", "/a", 5, 100)), 1);
    assert_eq!(outbox.add(gap("s", "/b", 1, 100)), 2);
    assert_eq!(outbox.add(gap("s", "/a", 7, 300)), 1);
    assert_eq!(outbox.add(gap("s", "/a", 1, 50)), 1);
    let first = outbox.waiting().next().unwrap();
    assert_eq!((first.amount.bytes, first.first_ns, first.last_ns), (13, 50, 300));
    assert_eq!((first.from, first.to), (Some(10), Some(17)), "one run");
    let mut other = gap("s", "/a", 1, 60);
    other.stream = None;
    assert_eq!(outbox.add(other), 3, "another stream");
    let mut other = gap("s", "/a", 1, 60);
    other.reason = "deleted".into();
    assert_eq!(outbox.add(other), 4, "another reason");
}

#[test]
fn offsets_with_something_between_them_are_not_told() {
    let mut one = gap("s", "/a", 5, 0);
    let two = Gap { from: Some(15), to: Some(20), ..one.clone() };
    one.merge(&two);
    assert_eq!((one.from, one.to), (Some(10), Some(20)), "adjoining");
    one.merge(&Gap { from: Some(22), to: Some(30), ..two.clone() });
    assert_eq!((one.from, one.to), (None, None));
    one.merge(&two);
    assert_eq!((one.from, one.to), (None, None), "what is unknown stays so");
}

#[test]
fn only_what_a_snapshot_has_as_closed_is_taken_and_it_grows_no_more() {
    let mut outbox = Outbox::default();
    outbox.add(gap("s", "/a", 5, 0));
    assert!(outbox.take().is_empty(), "no snapshot has it");
    let changes = outbox.changes();
    assert!(outbox.take().is_empty(), "it is being written");
    assert_eq!(outbox.add(gap("s", "/a", 3, 0)), 2, "the first one is closed");
    assert!(outbox.committed(&changes), "the sender is to be woken");
    assert_eq!(numbers(&outbox.take()), [1]);
    assert_eq!(outbox.add(gap("s", "/a", 4, 0)), 2, "the second one is open while the first one is being sent");
    assert!(!snapshot(&mut outbox));
    assert_eq!(outbox.add(gap("s", "/a", 4, 0)), 2);
    assert_eq!(numbers(&outbox.take()), [1]);
    outbox.sent(1);
    assert!(outbox.take().is_empty());
    assert!(snapshot(&mut outbox));
    assert_eq!(outbox.take()[0].amount.bytes, 11);
    outbox.sent(2);
    outbox.sent(2);
    assert_eq!((outbox.is_empty(), outbox.counters().sent), (true, 2));
    snapshot(&mut outbox);
    assert!(outbox.changes().is_empty(), "nothing moves any more");
}

#[test]
fn what_could_not_be_written_is_not_sent_and_is_in_the_next_snapshot() {
    let mut outbox = Outbox::default();
    outbox.add(gap("s", "/a", 5, 0));
    let changes = outbox.changes();
    outbox.give_back(&changes);
    assert!(outbox.take().is_empty());
    let changes = outbox.changes();
    assert_eq!((changes.gaps.len(), changes.counters.map(|counters| counters.closed)), (1, Some(1)));
    outbox.committed(&changes);
    assert_eq!(numbers(&outbox.take()), [1]);
}

#[test]
fn numbers_go_on_when_nothing_waits_over_a_restart() {
    let mut outbox = Outbox::default();
    outbox.add(gap("s", "/a", 5, 0));
    snapshot(&mut outbox);
    outbox.sent(1);
    let counters = outbox.changes().counters.unwrap();
    let mut outbox = Outbox::restored(Vec::new(), counters);
    assert_eq!((outbox.counters().sent, outbox.add(gap("s", "/a", 5, 0))), (1, 2));
}

#[test]
fn beyond_the_limit_places_are_told_together_and_nothing_is_left_out() {
    let mut outbox = Outbox::default();
    for i in 0..MOST as u64 {
        outbox.add(gap("s", &format!("/{i}"), 1, 0));
    }
    for i in 0..1000 {
        outbox.add(gap(["s", "t"][i % 2], &format!("/more/{i}"), 1, 0));
    }
    outbox.add(gap("s", "/5", 1, 0));
    assert_eq!(outbox.waiting().len(), MOST + 2);
    let several: Vec<_> = outbox.waiting().skip(MOST).map(|gap| (&*gap.source, &gap.place, gap.amount.bytes)).collect();
    assert_eq!(several, [("s", &Place::Several, 500), ("t", &Place::Several, 500)]);
    assert_eq!(outbox.waiting().map(|gap| gap.amount.bytes).sum::<u64>(), MOST as u64 + 1001);
    snapshot(&mut outbox);
    assert_eq!(numbers(&outbox.take()), (1..=HANDED as u64).collect::<Vec<_>>());
}

/// What can happen to an outbox.
#[derive(Clone, Debug)]
enum Step {
    Add(u8, u8, u8),
    Snapshot(bool),
    Send(u8),
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_u8, 0..3_u8, any::<u8>()).prop_map(|(source, path, bytes)| Step::Add(source, path, bytes)),
        3 => prop::bool::weighted(0.8).prop_map(Step::Snapshot),
        2 => (0..4_u8).prop_map(Step::Send),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 0..120)
}

/// The world around an outbox.
#[derive(Default)]
struct World {
    outbox: Outbox,
    /// The database, as rows.
    rows: BTreeMap<u64, Vec<u8>>,
    /// What arrived in Kafka, by number.
    arrived: BTreeMap<u64, Gap>,
    /// Bytes that were added, in memory and in the last snapshot.
    added: u64,
    durable: u64,
}

impl World {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Add(source, path, bytes) => {
                self.added += u64::from(*bytes);
                self.outbox.add(gap(&source.to_string(), &path.to_string(), u64::from(*bytes), i64::from(*bytes)));
            }
            Step::Snapshot(works) => self.snapshot(*works),
            Step::Send(most) => {
                let gaps = self.outbox.take();
                assert!(gaps.is_sorted_by_key(|gap| gap.number) && gaps.len() <= HANDED);
                for gap in gaps.into_iter().take(usize::from(*most)) {
                    let durable = self.rows.get(&gap.number).map(|row| Gap::from_bytes(gap.number, row).unwrap());
                    assert_eq!(durable.as_ref(), Some(&gap), "only what is durable is sent");
                    let number = gap.number;
                    if let Some(before) = self.arrived.insert(number, gap.clone()) {
                        assert_eq!(before, gap, "a number was used for something else");
                    }
                    self.outbox.sent(number);
                }
            }
            Step::Kill => {
                let counters = self.rows.get(&0).map(|row| Counters::from_bytes(row).unwrap()).unwrap_or_default();
                let gaps = self.rows.iter().filter(|(number, _)| **number > 0);
                self.outbox = Outbox::restored(gaps.map(|(number, row)| Gap::from_bytes(*number, row).unwrap()).collect(), counters);
                // What no snapshot had, none had the position behind it either: it is found again.
                self.added = self.durable;
            }
        }
    }

    fn snapshot(&mut self, works: bool) {
        let changes = self.outbox.changes();
        if !works {
            return self.outbox.give_back(&changes);
        }
        for (number, gap) in &changes.gaps {
            match gap {
                Some(gap) => drop(self.rows.insert(*number, gap.to_bytes())),
                None => drop(self.rows.remove(number)),
            }
        }
        if let Some(counters) = changes.counters {
            self.rows.insert(0, counters.to_bytes());
        }
        self.outbox.committed(&changes);
        self.durable = self.added;
    }

    fn check(&self) {
        let waits = |number: &u64| self.outbox.waiting().any(|gap| gap.number == *number);
        let sent: u64 = self.arrived.values().filter(|gap| !waits(&gap.number)).map(|gap| gap.amount.bytes).sum();
        let waiting: u64 = self.outbox.waiting().map(|gap| gap.amount.bytes).sum();
        assert_eq!(waiting + sent, self.added);
    }
}

proptest! {
    #[test]
    fn whatever_happens_every_byte_is_told_under_one_number_and_once(steps in steps()) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
            world.check();
        }
        // With a database and a Kafka that work, everything goes out.
        for _ in 0..3 {
            world.step(&Step::Send(u8::MAX));
            world.snapshot(true);
        }
        world.step(&Step::Send(u8::MAX));
        world.check();
        prop_assert!(world.outbox.is_empty());
        prop_assert_eq!(world.arrived.values().map(|gap| gap.amount.bytes).sum::<u64>(), world.added);
    }
}
