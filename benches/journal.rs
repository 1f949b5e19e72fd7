//! `make bench`: the systemd journal. Entries to encoded JSON, beside `journalctl -o json` and `-o export`; from the journal to a real Kafka; and
//! what it costs to watch a journal to which nobody writes. Prints tables; with `--write` they go into docs/performance.md, if nobody failed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that can't go on stops there; figures are rounded anyway"
)]
#![allow(unreachable_pub, reason = "this crate is a program: nothing of it is reachable from outside")]

#[allow(dead_code, reason = "the tests' tool box: not all of it is used here")]
#[path = "../tests/it/harness.rs"]
mod harness;
mod journal_entries;
#[allow(dead_code, reason = "shared with the other benchmarks: not all of it is used here")]
mod report;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use logferry::batch::Batch;
use logferry::budget::Budget;
use logferry::encode;
use logferry::pool::Pool;
use logferry::settlement::Settlement;
use logferry::source::Outlet;
use logferry::source::file::StartAt;
use logferry::source::file::watch::Watcher;
use logferry::source::journald::discover::Where;
use logferry::source::journald::filter::Wanted;
use logferry::source::journald::render::Fields;
use logferry::source::journald::{Common, Journald, Next, Settings};

use harness::agent::Plan;
use harness::broker::{Broker, Setup};
use harness::process::Process;
use harness::temp_dir;
use harness::topic::Format;
use report::{Idle, Run};

const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What the reader is to reach, entries per second of processor time.
const GOAL: f64 = 1_500_000.0;

/// Measures what reading the systemd journal costs.
#[derive(Parser)]
struct Options {
    /// How many entries the journal has.
    #[arg(long, default_value_t = 300_000)]
    entries: u64,
    /// How many times each is measured; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long idling is measured, seconds; 0 leaves it out.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Only the reader, in this process, on the journal in this folder, which is made if it is not there: for a profiler.
    #[arg(long)]
    read: Option<PathBuf>,
    /// Write the tables into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if let Some(dir) = &options.read {
        if !dir.exists() {
            fs::create_dir_all(dir).expect("make the folder");
            journal_entries::write(dir, options.entries).expect("write the journal");
        }
        println!("{}", read(dir));
        return;
    }
    let dir = temp_dir("journal");
    journal_entries::write(dir.path(), options.entries).expect("write the journal");
    let mut text = format!("{}, {}\n\n", report::machine(), journalctl_version());
    let encoded = encoded(dir.path(), &options);
    text += &encoded;
    let properties = [("num.network.threads", "3"), ("num.io.threads", "4"), ("log.segment.delete.delay.ms", "0")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let broker = Broker::start_with(Setup { heap_mib: 1024, fast: true, properties, ..Setup::default() });
    text += &shipped(&broker, dir.path(), &options);
    if options.idle > 0 {
        let idle = idle(&broker, dir.path(), options.idle);
        let _ = write!(
            text,
            "\nIdle: the same journal, to which nobody writes, over {} s.\n\n{}",
            options.idle,
            report::idle(&[("logferry json".to_owned(), Some(idle))])
        );
    }
    println!("\n{text}");
    if options.write {
        report::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md"), "The systemd journal", &text)
            .expect("write docs/performance.md");
    }
}

fn journalctl_version() -> String {
    let out = Command::new("journalctl").arg("--version").output().expect("run journalctl");
    let text = String::from_utf8_lossy(&out.stdout);
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Entries to text, in turns; each a process of its own.
fn encoded(dir: &Path, options: &Options) -> String {
    let this = std::env::current_exe().expect("the path of this program");
    let shell = |what: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", what, "sh"]).arg(dir).arg(&this);
        command
    };
    let who = [
        ("logferry json", "exec \"$2\" --read \"$1\" > /dev/null"),
        ("journalctl -o export", "exec journalctl --directory \"$1\" --output export --no-pager > /dev/null"),
        ("journalctl -o json --all", "exec journalctl --directory \"$1\" --output json --all --no-pager > /dev/null"),
    ];
    let mut runs: Vec<(&str, Vec<Run>)> = who.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for round in 0..=options.rounds {
        for ((name, what), (_, runs)) in who.iter().zip(&mut runs) {
            let run = run(name, &mut shell(what));
            println!("round {round}: {name:<26} CPU {:6.3} s, peak RSS {} MB", run.cpu.as_secs_f64(), run.peak_rss / 1_000_000);
            // The first brings the files into memory.
            if round > 0 {
                runs.push(run);
            }
        }
    }
    let rate = |runs: &[Run]| report::median(runs, |run| options.entries as f64 / run.cpu.as_secs_f64());
    let size: u64 = fs::read_dir(dir).expect("list the journal").map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    let mut text = format!(
        "{} entries of 22 fields in {} MB of files, to text that is thrown away; the process's whole life; medians of {} rounds. Goal: {} entries per CPU second.\n\n",
        options.entries,
        size / 1_000_000,
        options.rounds,
        report::thousands(GOAL)
    );
    text += "| who | entries per CPU second | CPU µs/entry | to logferry | peak RSS |\n| --- | ---: | ---: | ---: | ---: |\n";
    let first = rate(&runs[0].1);
    for (name, runs) in &runs {
        let (rate, rss) = (rate(runs), report::median(runs, |run| run.peak_rss as f64 / 1e6));
        let _ = writeln!(text, "| {name} | {} | {:.2} | 1/{:.0} | {rss:.0} MB |", report::thousands(rate), 1e6 / rate, first / rate);
    }
    text
}

/// Runs a command to its end, which must be a good one.
fn run(name: &str, command: &mut Command) -> Run {
    let dir = temp_dir("run");
    let started = Instant::now();
    let mut process = Process::start(name, command, &dir.path().join("log"), dir.path()).expect("start it");
    let mut peak_rss = 0;
    while !process.has_ended() {
        peak_rss = process.usage().peak_rss.max(peak_rss);
        assert!(started.elapsed() < PATIENCE, "{name} comes to no end");
        thread::sleep(Duration::from_millis(2));
    }
    let (wall, cpu) = (started.elapsed(), process.usage().cpu);
    let status = process.exited();
    assert!(status.is_some_and(|status| status.success()), "{name}: {status:?}: {}", process.log_tail(10));
    Run { wall, cpu, peak_rss }
}

/// Counts what it gets, and has it acknowledged at once.
struct Counter {
    settlement: Arc<Settlement>,
    pool: Arc<Pool>,
    counts: Arc<[AtomicU64; 2]>,
}

impl Outlet for Counter {
    fn push(&mut self, batch: Batch) {
        self.settlement.acknowledged(&batch, batch.events.len());
        self.counts[0].fetch_add(batch.events.len() as u64, Ordering::Relaxed);
        self.counts[1].fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
        self.pool.give_block(batch.bytes);
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

/// Reads a journal to its end as the daemon does, up to its lane.
fn read(dir: &Path) -> String {
    let settlement = Arc::<Settlement>::default();
    let pool = Arc::<Pool>::default();
    let counts = Arc::<[AtomicU64; 2]>::default();
    let settings = Settings {
        name: "journal".into(),
        topic: "logs".into(),
        place: Where::Given(dir.to_owned()),
        start_at: StartAt::Beginning,
        current_boot: false,
        wanted: Wanted::default(),
        fields: Fields::default(),
    };
    let encode = encode::Settings {
        format: encode::Format::Json,
        max_event: 900 << 10,
        host: "web-01".into(),
        labels: Vec::new(),
        zone: jiff::tz::TimeZone::UTC,
    };
    let common = Common {
        host: "web-01".into(),
        settlement: Arc::clone(&settlement),
        budget: Budget::new(24 << 20),
        pool: Arc::clone(&pool),
        encode,
        forget_after: Duration::from_secs(7 * 86_400),
        mint: logferry::source::new_stream,
        pulse: Arc::default(),
    };
    let outlet = Box::new(Counter { settlement: Arc::clone(&settlement), pool, counts: Arc::clone(&counts) });
    let mut source = Journald::new(settings, common, outlet, Watcher::new(|| ()));
    let started = Instant::now();
    loop {
        let next = source.turn(Instant::now());
        // The state has what there is: what is new waits for that.
        let changes = settlement.changes();
        settlement.committed(&changes);
        if matches!(next, Next::Rest(_)) && source.is_finished() {
            break;
        }
    }
    let (time, [events, bytes]) = (started.elapsed(), &*counts);
    format!("{} events, {} bytes of JSON in {time:?}", events.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
}

fn plan(broker: &Broker, topic: &str, dir: &Path) -> Plan {
    let source = format!(
        "[[source]]\nname = \"journal\"\ntype = \"journald\"\nstart_at = \"beginning\"\ndirectory = {:?}",
        dir.display().to_string()
    );
    Plan::new(&broker.bootstrap(), topic).format(Format::Json).include("/nonexistent/*.log").extra(&source)
}

/// The whole way, to the acknowledgement of the last entry.
fn shipped(broker: &Broker, dir: &Path, options: &Options) -> String {
    let mut runs = Vec::new();
    for round in 0..=options.rounds {
        let topic = format!("journal-{round}");
        broker.create_topic(&topic, 1, &[]);
        let started = Instant::now();
        let agent = plan(broker, &topic, dir).arg("--once").start();
        let mut peak_rss = 0;
        while !agent.has_ended() {
            peak_rss = agent.usage().peak_rss.max(peak_rss);
            assert!(started.elapsed() < PATIENCE, "it comes to no end: {}", agent.log());
            thread::sleep(LOOK_EVERY);
        }
        let (wall, cpu) = (started.elapsed(), agent.usage().cpu);
        let arrived = broker.count(&topic);
        assert_eq!(arrived, options.entries, "entries in the topic: {}", agent.log());
        broker.delete_topic(&topic);
        println!(
            "round {round}: to Kafka {:.2} s, CPU {:.2} s, peak RSS {} MB",
            wall.as_secs_f64(),
            cpu.as_secs_f64(),
            peak_rss / 1_000_000
        );
        // The broker's Java code is compiled while it runs: the first must not pay for that.
        if round > 0 {
            runs.push(Run { wall, cpu, peak_rss });
        }
    }
    let rate = report::median(&runs, |run| options.entries as f64 / run.wall.as_secs_f64());
    let cpu = report::median(&runs, |run| run.cpu.as_secs_f64() * 1e6 / options.entries as f64);
    let rss = report::median(&runs, |run| run.peak_rss as f64 / 1e6);
    format!(
        "\nThe same journal to Kafka, with `run --once`, to the acknowledgement of the last entry.\n\n| who | entries/s | CPU µs/entry | peak RSS |\n| --- | ---: | ---: | ---: |\n| logferry json | {} | {cpu:.2} | {rss:.0} MB |\n",
        report::thousands(rate)
    )
}

/// What it costs to watch a journal in which nothing happens.
fn idle(broker: &Broker, dir: &Path, seconds: u64) -> Idle {
    broker.create_topic("journal-idle", 1, &[]);
    let mut agent = plan(broker, "journal-idle", dir).start();
    let all = Instant::now();
    let mut last = (0, Instant::now());
    // All has arrived when nothing more comes; what it still does about that is not idling.
    while last.1.elapsed() < Duration::from_secs(8) {
        let count = broker.count("journal-idle");
        if count != last.0 || count == 0 {
            last = (count, Instant::now());
        }
        assert!(!agent.has_ended() && all.elapsed() < PATIENCE, "{}", agent.log());
        thread::sleep(Duration::from_millis(100));
    }
    let before = agent.process().usage().cpu;
    let started = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    let after = agent.process().usage();
    Idle { cpu_percent: 100.0 * after.cpu.saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64(), rss: after.rss }
}
