//! The sequence oracle: given how many lines were written and the lines that arrived, in the order of the topic, it says which were lost,
//! which came twice, and which came in the wrong order. It only judges; [`read`] is the one function that asks Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use rdkafka::Message;
use serde_json::Value;

use super::agent::Agent;
use super::books::Count;
use super::broker::Broker;
use super::lines::{self, Written};
use super::topic::{self, Format, Isolation};

/// How many offending numbers a message shows.
const SHOWN: usize = 5;

/// What a topic holds of what was written.
#[track_caller]
pub fn read(broker: &Broker, topic: &str, format: Format, isolation: Isolation, written: &Written) -> Verdict {
    let mut oracle = Oracle::new(written);
    topic::for_each(&broker.bootstrap(), topic, isolation, |message| {
        let value = message.payload().unwrap_or_default();
        match topic::gap(message) {
            Some(gap) => oracle.gaps.push(gap),
            None => oracle.see(message.partition(), &format.line(value)),
        }
    });
    oracle.verdict()
}

/// Waits until a topic holds every line, and judges it; what is missing at the end of `timeout` is in the verdict.
#[track_caller]
pub fn read_when_whole(broker: &Broker, topic: &str, format: Format, written: &Written, timeout: Duration) -> Verdict {
    let (started, lines) = (Instant::now(), written.values().sum());
    while broker.count(topic) < lines && started.elapsed() < timeout {
        std::thread::sleep(super::LOOK_EVERY);
    }
    // Copies may make up the number before every line is there.
    read_when(broker, topic, format, written, timeout, |verdict| verdict.lost() == 0)
}

/// Reads a topic again and again until the verdict is such, or `timeout` has passed.
#[track_caller]
pub fn read_when(
    broker: &Broker,
    topic: &str,
    format: Format,
    written: &Written,
    timeout: Duration,
    such: impl Fn(&Verdict) -> bool,
) -> Verdict {
    let started = Instant::now();
    loop {
        let verdict = read(broker, topic, format, Isolation::ReadUncommitted, written);
        if such(&verdict) || started.elapsed() >= timeout {
            return verdict;
        }
        std::thread::sleep(super::LOOK_EVERY * 10);
    }
}

/// How many lines may come twice after kills: for each kill, what was not acknowledged and what was acknowledged since the last snapshot. The
/// topic's growth since the last moment that a snapshot surely covers tells of what had arrived; what was on its way to and fro at that moment
/// is at most the lanes' window, half of the byte budget.
#[derive(Clone, Debug)]
pub struct Allowance {
    since_snapshot: Duration,
    on_its_way: u64,
    counts: Vec<(Instant, u64)>,
    most: u64,
}

impl Allowance {
    /// For snapshots every `interval` (the writing of one may take half as long again) and lines that take `line` bytes of a budget of `memory`.
    pub fn new(interval: Duration, memory: u64, line: u64) -> Allowance {
        Allowance { since_snapshot: interval * 3 / 2, on_its_way: memory / 2 / line, counts: Vec::new(), most: 0 }
    }

    /// Lets an agent work on `topic` until `enough` (not before a snapshot was surely made), kills it, and adds what may come twice for it.
    #[track_caller]
    pub fn kill(&mut self, agent: &mut Agent, broker: &Broker, topic: &str, enough: impl Fn() -> bool) {
        let started = Instant::now();
        self.counts.clear();
        super::wait_until("enough work before the kill", Duration::from_secs(60), || {
            self.counts.push((Instant::now(), broker.count(topic)));
            started.elapsed() > self.since_snapshot && enough()
        });
        let killed = Instant::now();
        agent.kill9();
        let covered = self.counts.iter().rev().find(|(seen, _)| killed.duration_since(*seen) >= self.since_snapshot);
        let here = broker.count(topic) - covered.map_or(0, |(_, count)| *count) + self.on_its_way;
        eprintln!("killed: {here} lines may come twice");
        self.most += here;
    }

    /// Kills an agent whose broker has been away for so long that a snapshot covers all acknowledgements: only what was on its way can come twice.
    pub fn kill_while_away(&mut self, agent: &mut Agent) {
        agent.kill9();
        self.most += self.on_its_way;
    }

    /// The sum over all kills.
    pub fn most(&self) -> u64 {
        self.most
    }
}

/// The books of one reading.
pub struct Oracle {
    streams: BTreeMap<String, Seen>,
    strangers: u64,
    first_strangers: Vec<String>,
    gaps: Vec<Value>,
}

#[derive(Default)]
struct Seen {
    copies: Vec<u32>,
    received: u64,
    last: Option<u64>,
    largest: Option<u64>,
    steps_back: Vec<(u64, u64)>,
    raw_steps_back: u64,
    partitions: BTreeMap<i32, u64>,
}

impl Oracle {
    /// Nothing has arrived yet.
    pub fn new(written: &Written) -> Oracle {
        let empty = |&lines: &u64| Seen { copies: vec![0; usize::try_from(lines).expect("fits")], ..Seen::default() };
        let streams = written.iter().map(|(stream, lines)| (stream.clone(), empty(lines))).collect();
        Oracle { streams, strangers: 0, first_strangers: Vec::new(), gaps: Vec::new() }
    }

    /// The next line of the topic. Within a partition lines must be shown in order.
    pub fn see(&mut self, partition: i32, line: &[u8]) {
        let known = lines::parse(line).and_then(|(stream, number)| {
            let seen = self.streams.get_mut(stream)?;
            let at = usize::try_from(number).ok().filter(|&at| at < seen.copies.len())?;
            Some((seen, at, number))
        });
        let Some((seen, at, number)) = known else {
            self.strangers += 1;
            if self.first_strangers.len() < SHOWN {
                self.first_strangers.push(String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned());
            }
            return;
        };
        if seen.last.is_some_and(|last| last > number) {
            seen.raw_steps_back += 1;
        }
        if seen.copies[at] == 0 {
            if let Some(larger) = seen.largest.filter(|&largest| largest > number) {
                seen.steps_back.push((number, larger));
            }
            seen.largest = seen.largest.max(Some(number));
        }
        seen.last = Some(number);
        seen.copies[at] += 1;
        seen.received += 1;
        *seen.partitions.entry(partition).or_default() += 1;
    }

    /// The judgement on all that was seen.
    pub fn verdict(self) -> Verdict {
        let streams = self.streams.into_iter().map(|(name, seen)| (name, seen.judged())).collect();
        Verdict { streams, strangers: self.strangers, first_strangers: self.first_strangers, gaps: self.gaps }
    }
}

impl Seen {
    fn judged(self) -> StreamVerdict {
        let numbered = || (0u64..).zip(&self.copies);
        StreamVerdict {
            written: self.copies.len() as u64,
            received: self.received,
            lost: numbered().filter(|(_, copies)| **copies == 0).map(|(number, _)| number).collect(),
            doubled: numbered().filter(|(_, copies)| **copies > 1).map(|(number, copies)| (number, copies - 1)).collect(),
            steps_back: self.steps_back,
            raw_steps_back: self.raw_steps_back,
            partitions: self.partitions,
        }
    }
}

/// What became of one stream's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamVerdict {
    /// Lines written.
    pub written: u64,
    /// Lines received, copies counted.
    pub received: u64,
    /// The numbers of which nothing arrived.
    pub lost: Vec<u64>,
    /// The numbers that arrived more than once, with how many copies too many.
    pub doubled: Vec<(u64, u32)>,
    /// Violations of the order: a number whose first copy came after the first copy of a larger one, and that larger one.
    pub steps_back: Vec<(u64, u64)>,
    /// How often a line had a smaller number than the one before it; what is sent again after a kill makes these too.
    pub raw_steps_back: u64,
    /// Lines received by partition; a stream must be in one.
    pub partitions: BTreeMap<i32, u64>,
}

/// What became of all lines.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// By stream.
    pub streams: BTreeMap<String, StreamVerdict>,
    /// How many records were not a line that was written: damaged, cut, or made up.
    pub strangers: u64,
    /// The first few of them.
    pub first_strangers: Vec<String>,
    /// The gap records in the topic.
    pub gaps: Vec<Value>,
}

impl Verdict {
    /// Lines written.
    pub fn written(&self) -> u64 {
        self.sum(|stream| stream.written)
    }

    /// Lines received, copies counted, strangers not.
    pub fn received(&self) -> u64 {
        self.sum(|stream| stream.received)
    }

    /// Lines lost.
    pub fn lost(&self) -> u64 {
        self.sum(|stream| stream.lost.len() as u64)
    }

    /// Copies beyond each line's first.
    pub fn duplicates(&self) -> u64 {
        self.sum(|stream| stream.doubled.iter().map(|(_, copies)| u64::from(*copies)).sum())
    }

    /// Violations of the order.
    pub fn steps_back(&self) -> u64 {
        self.sum(|stream| stream.steps_back.len() as u64)
    }

    /// Steps back, those of lines that were sent again included.
    pub fn raw_steps_back(&self) -> u64 {
        self.sum(|stream| stream.raw_steps_back)
    }

    /// The partitions that hold anything.
    pub fn partitions(&self) -> BTreeSet<i32> {
        self.streams.values().flat_map(|stream| stream.partitions.keys().copied()).collect()
    }

    /// Panics unless the topic tells of no loss, and each line has arrived, unharmed, and nothing that was never written.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(
            self.strangers == 0,
            "{} records are not lines that were written, first {:?}\n{self}",
            self.strangers,
            self.first_strangers
        );
        assert!(self.gaps.is_empty(), "gap records came: {:?}\n{self}", self.gaps);
        assert!(self.lost() == 0, "{} lines were lost: {}\n{self}", self.lost(), self.first(|stream| &stream.lost));
    }

    /// Panics if the first copies of any stream's lines came in another order than written, or in more than one partition.
    #[track_caller]
    pub fn assert_order_kept(&self) {
        let shown = || self.first(|stream| &stream.steps_back);
        assert!(self.steps_back() == 0, "{} lines came after a later one, (line, later one): {}\n{self}", self.steps_back(), shown());
        for (name, stream) in &self.streams {
            assert!(stream.partitions.len() <= 1, "stream {name} is spread over partitions (partition: lines) {:?}", stream.partitions);
        }
    }

    /// All of it at once, after saying what was found and what is allowed; the agent's books must tell the same.
    #[track_caller]
    pub fn assert_whole(&self, test: &str, doubled_at_most: u64, agent: &Agent) {
        self.assert_whole_of("files", test, doubled_at_most, agent);
    }

    /// The same where the lines are of this source.
    #[track_caller]
    pub fn assert_whole_of(&self, source: &str, test: &str, doubled_at_most: u64, agent: &Agent) {
        eprintln!("{test}: {self} · duplicates allowed {doubled_at_most}");
        self.assert_nothing_lost();
        self.assert_order_kept();
        self.assert_duplicates_at_most(doubled_at_most);
        agent.assert_all_delivered(source, self.written());
    }

    /// What is missing is exactly what the agent's books call lost, and the rest is whole; how much that is, and by which reasons.
    #[track_caller]
    pub fn assert_lost_is_told(&self, test: &str, doubled_at_most: u64, agent: &Agent) -> BTreeMap<String, Count> {
        eprintln!("{test}: {self} · duplicates allowed {doubled_at_most}");
        self.assert_order_kept();
        self.assert_duplicates_at_most(doubled_at_most);
        let books = agent.settled_books("files", self.written());
        let (lost, told) = (self.lost(), books.lost().events);
        assert_eq!(lost, told, "lines lost and lines told to be lost, first {}\n{books}", self.first(|stream| &stream.lost));
        let in_gaps: u64 = self.gaps.iter().map(|gap| gap["events"].as_u64().unwrap_or(0)).sum();
        assert_eq!(lost, in_gaps, "lines lost and lines in gap records: {:?}", self.gaps);
        books.lost
    }

    /// Panics if there are more copies too many than this.
    #[track_caller]
    pub fn assert_duplicates_at_most(&self, most: u64) {
        let shown = || self.first(|stream| &stream.doubled);
        let copies = self.duplicates();
        assert!(copies <= most, "{copies} copies too many, allowed are {most}, first (line, copies too many): {}\n{self}", shown());
    }

    fn sum(&self, of: impl Fn(&StreamVerdict) -> u64) -> u64 {
        self.streams.values().map(of).sum()
    }

    /// The first few offending numbers of the first few offending streams.
    fn first<T: fmt::Debug>(&self, offending: impl Fn(&StreamVerdict) -> &Vec<T>) -> String {
        let mut text = String::new();
        let streams = self.streams.iter().map(|(name, stream)| (name, offending(stream))).filter(|(_, numbers)| !numbers.is_empty());
        for (name, numbers) in streams.take(SHOWN) {
            let more = if numbers.len() > SHOWN { format!(" … {} in all", numbers.len()) } else { String::new() };
            let _ = write!(text, "{name}: {:?}{more}; ", &numbers[..numbers.len().min(SHOWN)]);
        }
        text
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (written, received, lost) = (self.written(), self.received(), self.lost());
        let (duplicates, steps, raw) = (self.duplicates(), self.steps_back(), self.raw_steps_back());
        write!(
            f,
            "written {written} · received {received} · lost {lost} · duplicates {duplicates} · out of order {steps} (steps back {raw})"
        )?;
        write!(f, " · strangers {} · streams {} · partitions {:?}", self.strangers, self.streams.len(), self.partitions())
    }
}
