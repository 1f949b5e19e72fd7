//! `make bench`: one log file to a real Kafka, alternating between logferry, the bare librdkafka loop and rsyslog, and what logferry costs
//! while nothing happens. Prints tables; with `--write` they go into docs/performance.md, if nobody failed.

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
mod bare_loop;
mod contestants;
#[allow(dead_code, reason = "the tests' tool box: not all of it is used here")]
#[path = "../tests/it/harness.rs"]
mod harness;
mod report;

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::Signal;

use contestants::{ALL, Contestant};
use harness::broker::{Broker, Setup};
use harness::process::Usage;
use harness::temp_dir;
use harness::topic::Format;
use report::{Idle, Run};

/// How long one may take for one file.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const IDLE_FILES: u64 = 1000;

/// Measures how fast and at what cost a log file gets into Kafka.
#[derive(Parser)]
struct Options {
    /// How many lines the file has.
    #[arg(long, default_value_t = 3_000_000)]
    lines: u64,
    /// How many times each is measured; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long idling is measured, seconds; 0 leaves it out.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Only those whose names begin with this.
    #[arg(long, default_value = "")]
    only: String,
    /// Write the tables into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// Be the bare loop: BOOTSTRAP TOPIC FILE QUEUE.
    #[arg(long, num_args = 4, hide = true)]
    bare_loop: Option<Vec<String>>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if let Some(args) = options.bare_loop {
        let queue = args[3].parse().expect("a number of messages");
        println!("{} lines acknowledged", bare_loop::run(&args[0], &args[1], &args[2], queue).expect("the bare loop"));
        return;
    }
    let properties = [("num.network.threads", "3"), ("num.io.threads", "4"), ("log.segment.delete.delay.ms", "0")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let broker = Broker::start_with(Setup { heap_mib: 1024, fast: true, properties, ..Setup::default() });
    let chosen: Vec<Contestant> = ALL.into_iter().filter(|who| who.name().starts_with(&options.only)).collect();

    let results = throughput(&broker, &chosen, &options);
    let mut failed = results.iter().any(|(_, runs)| runs.len() < options.rounds);
    let (machine, rounds, lines, bytes) = (report::machine(), options.rounds, options.lines, access_log::AVERAGE);
    let table = report::throughput(lines, &results);
    let mut text = format!("{machine}\n\n{lines} lines of {bytes} bytes, one file, one partition; medians of {rounds} rounds.\n\n{table}");
    if options.idle > 0 {
        let watchers = chosen.iter().filter(|who| matches!(who, Contestant::Logferry(Format::Raw) | Contestant::Rsyslog));
        let results: Vec<_> = watchers.map(|&who| (who.name(), idle(&broker, who, options.idle))).collect();
        failed |= results.iter().any(|(_, idle)| idle.is_none());
        let (seconds, table) = (options.idle, report::idle(&results));
        let _ = write!(text, "\nIdle: {IDLE_FILES} files that nobody writes to, over {seconds} s.\n\n{table}");
    }
    println!("\n{text}");
    if options.write {
        assert!(!failed, "someone failed, see above: docs/performance.md stays as it is");
        report::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md"), "Files to Kafka", &text)
            .expect("write docs/performance.md");
    }
}

/// All rounds; who failed has no runs in them.
fn throughput(broker: &Broker, chosen: &[Contestant], options: &Options) -> Vec<(String, Vec<Run>)> {
    let dir = temp_dir("bench");
    let file = dir.path().join("access.log");
    access_log::write(&file, options.lines).expect("write the log");
    // The broker's Java code is compiled while it runs: the first to come must not pay for that.
    measure(broker, "warm-up", Contestant::Bare { queue: 60_000 }, &file, options.lines).expect("the warm-up");
    let mut results: Vec<_> = chosen.iter().map(|who| (who.name(), Vec::new())).collect();
    for round in 1..=options.rounds {
        for (place, &who) in chosen.iter().enumerate() {
            match measure(broker, &format!("round-{round}-{place}"), who, &file, options.lines) {
                Ok(run) => {
                    let (wall, cpu, rss) = (run.wall.as_secs_f64(), run.cpu.as_secs_f64(), run.peak_rss / 1_000_000);
                    println!("round {round}: {:<26} {wall:6.2} s, CPU {cpu:5.2} s, peak RSS {rss} MB", who.name());
                    results[place].1.push(run);
                }
                Err(why) => println!("round {round}: {:<26} FAILED: {why}", who.name()),
            }
        }
    }
    results
}

/// One file into one new topic.
fn measure(broker: &Broker, topic: &str, who: Contestant, file: &Path, lines: u64) -> Result<Run, String> {
    broker.create_topic(topic, 1, &[]);
    let started = Instant::now();
    let mut running = who.start(&broker.bootstrap(), topic, file, true);
    let process = running.process();
    let (mut wall, mut peak_rss, mut asked) = (None, 0, false);
    while !process.has_ended() {
        peak_rss = process.usage().peak_rss.max(peak_rss);
        if wall.is_none() && broker.count(topic) >= lines {
            wall = Some(started.elapsed());
        }
        if wall.is_some() && !asked && !who.ends_by_itself() {
            process.signal(Signal::TERM);
            asked = true;
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("only {} lines after {PATIENCE:?}", broker.count(topic)));
        }
        thread::sleep(LOOK_EVERY);
    }
    let wall = wall.unwrap_or_else(|| started.elapsed());
    let cpu = process.usage().cpu;
    let ended = process.exited();
    let arrived = broker.count(topic);
    broker.delete_topic(topic);
    if arrived != lines || !ended.is_some_and(|status| status.success()) {
        return Err(format!("{arrived} of {lines} lines are in the topic, {ended:?}; it said last:\n{}", process.log_tail(10)));
    }
    Ok(Run { wall, cpu, peak_rss })
}

/// What it costs to watch many files in which nothing happens; `None` if it ended.
fn idle(broker: &Broker, who: Contestant, seconds: u64) -> Option<Idle> {
    const LINES_EACH: u64 = 10;
    let dir = temp_dir("idle");
    for number in 0..IDLE_FILES {
        access_log::write(&dir.path().join(format!("{number}.log")), LINES_EACH).expect("write a log");
    }
    let topic = format!("idle-{}", who.name().replace(' ', "-"));
    broker.create_topic(&topic, 1, &[]);
    let mut running = who.start(&broker.bootstrap(), &topic, &dir.path().join("*.log"), false);
    let process = running.process();
    let started = Instant::now();
    while broker.count(&topic) < IDLE_FILES * LINES_EACH {
        if process.has_ended() || started.elapsed() > PATIENCE {
            println!("idle: {} FAILED; it said last:\n{}", who.name(), process.log_tail(10));
            return None;
        }
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_secs(5)); // what it still does about the lines just read is not idling
    let Usage { cpu: before, .. } = process.usage();
    let started = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    let Usage { cpu: after, rss, .. } = process.usage();
    Some(Idle { cpu_percent: 100.0 * (after.saturating_sub(before)).as_secs_f64() / started.elapsed().as_secs_f64(), rss })
}
