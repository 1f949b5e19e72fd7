//! Whatever the rules and whatever becomes of events in which order, over kills at any time: everything that no rule leaves out arrives where it
//! belongs, and `read = delivered + filtered + dead_lettered + pending` all along.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::batch::{Event, Origin, Position, Stream};
use crate::budget::Budget;
use crate::config::Config;
use crate::config::tests::{judge, machine};
use crate::lane::Inbox;
use crate::ledger::Fate;
use crate::settlement::KeptGaps;
use crate::snapshot::rows::StreamRow;

const ID: StreamId = StreamId(7);
const HEAD: &str = "[agent]\nhost = \"h\"\nid = \"i\"\nstate_dir = \"/s\"\n[kafka]\nbootstrap_servers = \"k:1\"\ntopic = \"own\"\n";
const SOURCE: &str = "[[source]]\nname = \"web\"\ntype = \"file\"\ninclude = [\"/l\"]\n";
const RULES: [&str; 16] = [
    "when = { message = \"drop\" }\ndrop = true",
    "when = { message = \"keep\" }\nkeep = true",
    "when = { not = { message = \"a\" } }\ndrop = true",
    "parse = { json = {} }",
    "parse = { logfmt = { message = \"user\" } }",
    "parse = { regex = '(?<user>ann|bob)' }",
    "set = { user = \"{message}\", two = \"{user|x}{nothing}\" }",
    "remove = [\"user\", \"a\"]",
    "rename = { user = \"who\" }",
    "redact = { pattern = \"email\" }",
    "redact = { regex = \"[a-z]\", with = \"xyz\" }",
    "sample = { one_in = 2, by = \"user\" }",
    "rate_limit = { events = 2, per = \"1h\", by = \"user\" }",
    "severity = { field = \"user\" }",
    "route = { topic = \"first\" }",
    "when = { fields = { user = { exists = true } } }\nroute = { topic = \"of-{user}\", topics = [\"of-ann\", \"of-bob\"] }",
];
const KAFKA: [&str; 4] = ["", "key = \"{user}\"\n", "key = \"round-robin\"\n", "headers = { u = \"{user}\" }\n"];
const LINES: [&str; 8] =
    ["", "drop a", "keep drop", "user=ann a=b", "user=bob", "{\"user\":\"ann\",\"n\":1}", "mail ann@b.de", "\u{1}\"\\ odd"];

fn config(rules: &[usize], kafka: usize) -> Config {
    let first = "[[rule]]\nname = \"finds\"\nset = { first = \"1\" }\n".to_owned();
    let rules: String = rules.iter().map(|rule| format!("[[rule]]\n{}\n", RULES[*rule])).fold(first, |all, rule| all + &rule);
    judge(&[&format!("{HEAD}{}{SOURCE}{rules}", KAFKA[kafka])], &machine()).unwrap()
}

/// A stream of lines, and where in it reading goes on.
struct World {
    config: Config,
    lines: Vec<u8>,
    ends: Vec<u64>,
    settlement: Arc<Settlement>,
    way: Way,
    inboxes: BTreeMap<Arc<str>, Arc<Inbox>>,
    waiting: BTreeMap<Arc<str>, VecDeque<(Batch, usize)>>,
    at: usize,
    /// By topic, where the lines begin that were acknowledged.
    arrived: BTreeMap<Arc<str>, Vec<u64>>,
}

fn way(config: &Config, settlement: &Arc<Settlement>) -> (Way, BTreeMap<Arc<str>, Arc<Inbox>>) {
    let rules = config.engine(("web", "file"), &config.encode);
    let topics: Vec<Arc<str>> = std::iter::once("own".into()).chain(rules.topics().iter().cloned()).collect();
    let inboxes: BTreeMap<Arc<str>, Arc<Inbox>> = topics.iter().map(|topic| (Arc::clone(topic), Arc::default())).collect();
    let lanes = rules.topics().iter().map(|topic| Entrance::new(Arc::clone(&inboxes[topic]))).collect();
    let way = Way {
        routing: Some(Routing { rules, lanes }),
        others: Exchange::default(),
        settlement: Arc::clone(settlement),
        encoder: Encoder::new(&config.encode),
        lane: Entrance::new(Arc::clone(&inboxes["own"])),
        pool: Arc::default(),
        tap: Arc::default(),
    };
    (way, inboxes)
}

impl World {
    fn new(config: Config, lines: &[usize]) -> World {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        for line in lines {
            text.extend_from_slice(LINES[*line].as_bytes());
            text.push(b'\n');
            ends.push(text.len() as u64);
        }
        let settlement = Arc::new(Settlement::default());
        let row = StreamRow::begun("web".into(), (*b"k").into(), b"/l", Position::START);
        settlement.put(ID, row);
        let (way, inboxes) = way(&config, &settlement);
        let (waiting, arrived) = Default::default();
        World { config, lines: text, ends, settlement, way, inboxes, waiting, at: 0, arrived }
    }

    /// Reads so many lines more.
    fn read(&mut self, count: usize) {
        let end = (self.at + count).min(self.ends.len());
        if end == self.at {
            return;
        }
        let base = self.at.checked_sub(1).map_or(0, |at| self.ends[at]);
        let narrow = |number: u64| u32::try_from(number).unwrap();
        let bytes = self.lines[usize::try_from(base).unwrap()..usize::try_from(self.ends[end - 1]).unwrap()].to_vec();
        let mut from = 0;
        let events = self.ends[self.at..end].iter().map(|end| {
            let to = narrow(end - base);
            let event = Event::whole(from, to - from - 1, from, to);
            from = to;
            event
        });
        let events: Vec<Event> = events.collect();
        let to = Position { offset: self.ends[end - 1], line_start: self.ends[end - 1], ..Position::START };
        let count = Count { events: events.len() as u64, bytes: to.offset - base };
        let (ticket, before) = self.settlement.admit(ID, (base, to, to.offset), &[("own".into(), count)]);
        let stream = Stream {
            id: ID,
            source: "web".into(),
            key: (*b"k").into(),
            headers: vec![],
            origin: Origin::File((*b"/l").into()),
            topic: "own".into(),
        };
        self.way.push(Batch {
            stream: Arc::new(stream),
            bytes,
            events,
            extras: vec![],
            base,
            line_start: base,
            to,
            observed_ns: 1,
            ticket,
            part: 0,
            since: Instant::now(),
            before: before[0],
            copy: None,
            part_headers: false,
            routed: 0,
            charge: Budget::new(1 << 30).charge(0),
        });
        self.at = end;
        for (topic, inbox) in &self.inboxes {
            let mut batches = VecDeque::new();
            inbox.take(&mut batches, &mut Vec::new());
            self.waiting.entry(Arc::clone(topic)).or_default().extend(batches.into_iter().map(|batch| (batch, 0)));
        }
        assert_eq!(self.settlement.imbalances(), []);
    }

    /// Of one batch that waits, some more events meet their fate. Of the same key none overtakes another, of other keys they may.
    fn settle(&mut self, pick: usize, events: usize, fate: Fate) {
        let all: usize = self.waiting.values().map(VecDeque::len).sum();
        let Some(mut pick) = pick.checked_rem(all) else { return };
        for (topic, waiting) in &mut self.waiting {
            if pick >= waiting.len() {
                pick -= waiting.len();
                continue;
            }
            let key = waiting[pick].0.stream.key.clone();
            let at = waiting.iter().position(|(batch, _)| batch.stream.key == key).unwrap();
            let (batch, done) = &mut waiting[at];
            let prefix = (*done + events).min(batch.events.len());
            self.settlement.settled(batch, prefix, fate);
            let offsets = batch.events[*done..prefix].iter().map(|event| {
                let value: serde_json::Value = serde_json::from_slice(batch.event_bytes(event)).unwrap();
                value["offset"].as_u64().unwrap()
            });
            self.arrived.entry(Arc::clone(topic)).or_default().extend(offsets);
            *done = prefix;
            if prefix == batch.events.len() {
                waiting.remove(at);
            }
            break;
        }
        assert_eq!(self.settlement.imbalances(), []);
    }

    /// A snapshot, and a kill right after it.
    fn kill(&mut self) {
        // All rows, as if the last snapshot were the first.
        self.settlement.update(ID, |_| ());
        self.settlement.resent(&"web".into(), Count::default());
        self.settlement = Arc::new(Settlement::restored(self.settlement.changes().kept, KeptGaps::default()));
        assert_eq!(self.settlement.imbalances(), []);
        (self.way, self.inboxes) = way(&self.config, &self.settlement);
        self.waiting.clear();
        let at = self.settlement.stream(ID).unwrap().0.position.offset;
        self.at = self.ends.iter().filter(|end| **end <= at).count();
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read(usize),
    Settle(usize, usize, bool),
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..6_usize).prop_map(Step::Read),
        6 => (any::<usize>(), 1..4_usize, prop::bool::weighted(0.2)).prop_map(|(pick, events, dead)| Step::Settle(pick, events, dead)),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 0..30)
}

proptest! {
    #[test]
    fn nothing_is_missing_and_the_books_balance_whatever_the_rules(
        rules in prop::collection::vec(0..RULES.len(), 0..5), kafka in 0..KAFKA.len(),
        lines in prop::collection::vec(0..LINES.len(), 1..24), steps in steps(),
    ) {
        // A limit counts anew after a kill, so that what it leaves out is another's.
        let limited = rules.contains(&12);
        let mut world = World::new(config(&rules, kafka), &lines);
        let mut kills = 0;
        for step in steps {
            match step {
                Step::Read(count) => world.read(count),
                Step::Settle(pick, events, dead) => world.settle(pick, events, if dead { Fate::DeadLettered } else { Fate::Delivered }),
                Step::Kill => {
                    world.kill();
                    kills += 1;
                }
            }
        }
        world.read(lines.len());
        while world.waiting.values().any(|waiting| !waiting.is_empty()) {
            world.settle(0, usize::MAX / 2, Fate::Delivered);
        }
        let (row, pending) = world.settlement.stream(ID).unwrap();
        prop_assert_eq!((row.position.offset, pending), (*world.ends.last().unwrap(), Count::default()));
        let ledger = world.settlement.books().remove(0).1.ledger;
        let ended = ledger.delivered.events + ledger.dead_lettered.events + ledger.filtered.events;
        prop_assert_eq!(ledger.read.events, ended);
        if !limited && kafka != 1 {
            prop_assert_eq!(ledger.read, Count { events: lines.len() as u64, bytes: world.lines.len() as u64 });
        }
        // What arrives without any trouble is what is to arrive.
        let mut calm = World::new(config(&rules, kafka), &lines);
        calm.read(lines.len());
        while calm.waiting.values().any(|waiting| !waiting.is_empty()) {
            calm.settle(0, usize::MAX / 2, Fate::Delivered);
        }
        if !limited || kills == 0 {
            for (topic, wanted) in &mut calm.arrived {
                let mut got = world.arrived.remove(topic).unwrap_or_default();
                got.sort_unstable();
                got.dedup();
                wanted.sort_unstable();
                prop_assert_eq!(&got, wanted, "{}", topic);
            }
            prop_assert!(world.arrived.values().all(Vec::is_empty));
        }
    }
}
