//! `cargo bench --bench spill`: Kafka is away while a log is there to be read. How fast it is taken in and at what cost, and how fast it goes
//! out afterwards while new lines keep coming, beside the direct way and the bare disk in the same run. Apart from throughput.rs because
//! nobody is compared with: the ratios are those of logferry to itself and to its disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that can't go on stops there; figures are rounded anyway"
)]
#![allow(unreachable_pub, reason = "this crate is a program: nothing of it is reachable from outside")]

mod access_log;
#[allow(dead_code, reason = "the tests' tool box: not all of it is used here")]
#[path = "../tests/it/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the other benchmark's tables are not made here")]
mod report;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use harness::agent::{Agent, Plan};
use harness::broker::{Broker, Setup};
use harness::topic::Format;
use harness::{temp_dir, wait_until};
use report::median;

const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the disk is given at once when it is measured alone.
const BLOCK: usize = 1 << 20;
/// How long the steady state is watched.
const STEADY: Duration = Duration::from_secs(10);

/// Measures what an outage of Kafka costs.
#[derive(Parser)]
struct Options {
    /// How many lines wait.
    #[arg(long, default_value_t = 5_000_000)]
    lines: u64,
    /// How many times each format is measured; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this format: raw or json.
    #[arg(long, default_value = "")]
    only: String,
    /// Write the table into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The figures of one round.
struct Round {
    /// Writing and one fdatasync, nothing else, bytes a second.
    disk: f64,
    /// With Kafka there, lines a second.
    direct: f64,
    /// Log bytes taken in a second with Kafka away.
    intake: f64,
    /// Bytes in the spill per byte of log.
    spilled: f64,
    /// Bytes that the kernel wrote to disk for the process, per byte of log.
    written: f64,
    /// CPU time for taking in, µs a line.
    cpu_per_line: f64,
    /// The most resident memory, bytes.
    peak_rss: f64,
    /// Lines a second that Kafka got once it was back.
    drain: f64,
    /// The most bytes seen in the spill afterwards, while lines came and went.
    steady: f64,
}

struct Stage<'a> {
    broker: Broker,
    log: &'a Path,
    lines: u64,
    topics: u32,
}

fn main() {
    let options = Options::parse();
    let logs = temp_dir("spill-bench");
    let log = logs.path().join("access.log");
    access_log::write(&log, options.lines).expect("write the log");
    let properties = [("num.network.threads", "3"), ("num.io.threads", "4"), ("log.segment.delete.delay.ms", "0")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let broker = Broker::start_with(Setup { heap_mib: 1024, fast: true, properties, ..Setup::default() });
    let mut stage = Stage { broker, log: &log, lines: options.lines, topics: 0 };
    // The broker's Java code is compiled while it runs: the first to come must not pay for that.
    stage.direct(Format::Raw);
    let mut results = Vec::new();
    for format in [Format::Raw, Format::Json] {
        if !format.name().starts_with(&options.only) {
            continue;
        }
        let rounds: Vec<Round> = (1..=options.rounds)
            .map(|number| {
                let round = stage.round(format);
                println!("{} {number}: {}", format.name(), line(&round));
                round
            })
            .collect();
        results.push((format, rounds));
    }
    let text = format!("{}\n\n{}", report::machine(), table(options.lines, &results));
    println!("\n{text}");
    if options.write {
        report::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md"), "Kafka away", &text).expect("write the report");
    }
}

fn line(round: &Round) -> String {
    format!(
        "disk {:.0} MB/s, direct {:.0} lines/s, intake {:.0} MB/s, {:.3} B spilled and {:.3} B written a log byte, {:.2} µs/line, RSS {:.0} MB, \
         drain {:.0} lines/s, steady state {:.0} B",
        round.disk / 1e6,
        round.direct,
        round.intake / 1e6,
        round.spilled,
        round.written,
        round.cpu_per_line,
        round.peak_rss / 1e6,
        round.drain,
        round.steady
    )
}

/// Each figure with its goal.
fn table(lines: u64, results: &[(Format, Vec<Round>)]) -> String {
    let names = results.iter().fold(String::new(), |names, (format, _)| names + " " + format.name() + " | goal |");
    let mut text = format!(
        "Kafka away (frozen), {lines} lines of {} bytes wait in one file; then Kafka is back and new lines keep coming at a tenth of the \
         rate of intake.\n\n| what |{names}\n| --- |{}",
        access_log::AVERAGE,
        " ---: | ---: |".repeat(results.len())
    );
    let mut row = |what: &str, of: &dyn Fn(&Round) -> f64, decimals: usize, goal: &dyn Fn(Format) -> String| {
        let _ = write!(text, "\n| {what} |");
        for (format, rounds) in results {
            let _ = write!(text, " {:.decimals$} | {} |", median(rounds, of), goal(*format));
        }
    };
    let none = |_| String::new();
    let fixed = |goal: &'static str| move |_| goal.to_owned();
    row("the disk alone, written and synced, MB/s", &|round| round.disk / 1e6, 0, &none);
    let intake = |format| if format == Format::Raw { "≥ 400".to_owned() } else { "≥ 200".to_owned() };
    row("taken in, MB/s of log", &|round| round.intake / 1e6, 0, &intake);
    row("taken in, CPU µs/line", &|round| round.cpu_per_line, 2, &none);
    row("bytes in the spill per log byte", &|round| round.spilled, 3, &fixed("≤ 0.25"));
    row("bytes written to disk per log byte", &|round| round.written, 3, &none);
    row("peak RSS, MB", &|round| round.peak_rss / 1e6, 0, &fixed("≤ 48"));
    row("direct, lines/s", &|round| round.direct, 0, &none);
    row("drain, lines/s", &|round| round.drain, 0, &none);
    row("drain to direct", &|round| round.drain / round.direct, 2, &fixed("≥ 0.8"));
    row("bytes in the spill in the steady state", &|round| round.steady, 0, &fixed("0"));
    text + "\n"
}

impl Stage<'_> {
    fn round(&mut self, format: Format) -> Round {
        let (direct, disk) = (self.direct(format), disk_alone());
        let log_bytes = fs::metadata(self.log).expect("look at the log").len() as f64;
        let logs = temp_dir("spill-logs");
        // A log of its own that the new lines are appended to.
        let growing = logs.path().join("growing.log");
        File::create(&growing).expect("make a log");
        let topic = self.topic();
        let plan = Plan::new(&self.broker.bootstrap(), &topic).format(format).include(self.log).include(&growing);
        self.broker.freeze();
        let started = Instant::now();
        let mut agent = plan.extra("[spill]\nmax_size = \"8GiB\"").start();
        self.wait_until_taken_in(&agent);
        let intake = log_bytes / started.elapsed().as_secs_f64();
        let cpu_per_line = agent.usage().cpu.as_secs_f64() * 1e6 / self.lines as f64;
        let spilled = agent.status().spill_bytes() as f64 / log_bytes;
        let written = agent.process().written_to_disk() as f64 / log_bytes;

        let (stop, coming) = (AtomicBool::new(false), AtomicU64::new(0));
        let (drain, steady) = thread::scope(|scope| {
            scope.spawn(|| append(self.log, &growing, intake / 10.0, &stop, &coming));
            self.broker.thaw();
            let drain = self.rate(&topic, self.lines);
            wait_until("the spill to be empty", PATIENCE, || agent.status().spill_bytes() == 0);
            let (since, mut steady) = (Instant::now(), 0);
            while since.elapsed() < STEADY {
                steady = steady.max(agent.status().spill_bytes());
                thread::sleep(LOOK_EVERY);
            }
            stop.store(true, Ordering::Relaxed);
            (drain, steady as f64)
        });
        let all = self.lines + coming.load(Ordering::Relaxed);
        wait_until("the last lines to arrive", PATIENCE, || self.broker.count(&topic) >= all);
        let peak_rss = agent.usage().peak_rss as f64;
        assert!(agent.terminate(PATIENCE).success(), "{}", agent.log());
        assert_eq!(self.broker.count(&topic), all, "lines came twice");
        self.broker.delete_topic(&topic);
        Round { disk, direct, intake, spilled, written, cpu_per_line, peak_rss, drain, steady }
    }

    fn topic(&mut self) -> String {
        self.topics += 1;
        let topic = format!("spill-{}", self.topics);
        self.broker.create_topic(&topic, 1, &[]);
        topic
    }

    /// All lines are read, and wait in the spill but for what memory holds.
    fn wait_until_taken_in(&self, agent: &Agent) {
        let started = Instant::now();
        while agent.try_status().map_or(0, |status| status.source("files").read.events) < self.lines {
            assert!(started.elapsed() < PATIENCE, "{}", agent.log());
            thread::sleep(LOOK_EVERY);
        }
    }

    /// With Kafka there, lines a second, from the first in the topic to the last.
    fn direct(&mut self, format: Format) -> f64 {
        let topic = self.topic();
        let mut agent = Plan::new(&self.broker.bootstrap(), &topic).format(format).include(self.log).start();
        let rate = self.rate(&topic, self.lines);
        assert!(agent.terminate(PATIENCE).success(), "{}", agent.log());
        self.broker.delete_topic(&topic);
        rate
    }

    /// How fast a topic fills, from its first line to this many.
    fn rate(&self, topic: &str, lines: u64) -> f64 {
        let mut begun = None;
        let started = Instant::now();
        loop {
            let (count, now) = (self.broker.count(topic), Instant::now());
            let (first, since) = *begun.get_or_insert((count, now));
            if first == 0 && count == 0 {
                begun = None;
            } else if count >= lines {
                return (count - first) as f64 / now.duration_since(since).as_secs_f64();
            }
            assert!(started.elapsed() < PATIENCE, "{count} of {lines} lines are in {topic}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What the file system of the state directories takes when nothing else is done: writes of 1 MiB and one sync at the end.
#[expect(clippy::disallowed_methods, reason = "the disk is measured here, nobody's data is at stake")]
fn disk_alone() -> f64 {
    const BYTES: usize = 1 << 30;
    let dir = temp_dir("disk-alone");
    let block: Vec<u8> = (0..BLOCK).map(|at| u8::try_from(at * 31 % 251).expect("below 251")).collect();
    let started = Instant::now();
    let mut file = File::create(dir.path().join("file")).expect("make a file");
    for _ in 0..BYTES / BLOCK {
        file.write_all(&block).expect("write");
    }
    file.sync_data().expect("sync");
    BYTES as f64 / started.elapsed().as_secs_f64()
}

/// Appends whole lines of `from` to `to` at so many bytes a second, counted in `lines`, until told to stop.
fn append(from: &Path, to: &Path, rate: f64, stop: &AtomicBool, lines: &AtomicU64) {
    let read = || -> io::Result<Vec<u8>> {
        let mut block = Vec::new();
        File::open(from)?.take(BLOCK as u64).read_to_end(&mut block)?;
        block.truncate(memchr::memrchr(b'\n', &block).map_or(0, |end| end + 1));
        Ok(block)
    };
    let block = read().expect("read the log");
    let in_block = memchr::memchr_iter(b'\n', &block).count() as u64;
    let mut out = File::options().append(true).open(to).expect("open the growing log");
    let (started, mut written) = (Instant::now(), 0.0);
    while !stop.load(Ordering::Relaxed) {
        if written <= started.elapsed().as_secs_f64() * rate {
            out.write_all(&block).expect("append to the log");
            written += block.len() as f64;
            lines.fetch_add(in_block, Ordering::Relaxed);
        } else {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
