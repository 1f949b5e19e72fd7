//! `logferry demo`: everything on one machine with nothing installed. The whole show in the order in which it happens; the parts that play in it
//! are in files of their own.

pub mod agent;
pub mod reader;
pub mod signals;
pub mod stage;
pub mod tally;
pub mod writer;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use rdkafka::mocking::MockCluster;

use agent::{Home, Usage};
use reader::Books;
use stage::{Failure, Stage};
use writer::{COPIED, LOGS, RENAMED};

/// What can be chosen.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many lines are written
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1_000..=20_000_000))]
    lines: u64,
    /// Keep the directory with the logs, the configuration, the state and logferry's own log
    #[arg(long)]
    keep: bool,
}

/// The writing takes at least so long, however few lines there are, so that all that happens meanwhile has its time.
const LEAST_SECONDS: u64 = 13;
/// And at most so many lines a second, so that the embedded Kafka, which keeps little, is read in time.
const MOST_PER_SECOND: u64 = 50_000;
/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(4);
/// When nothing was written and nothing came for this long, something is stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// The topic is read to its end when nothing has come for this long.
const QUIET: Duration = Duration::from_millis(300);
/// How long logferry is dead.
const DEAD: Duration = Duration::from_millis(800);
/// Brokers of the embedded Kafka: one, so that its outage is an outage.
const BROKERS: i32 = 1;

/// Plays the demo: 0 if nothing was lost and the order kept.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let mut home = None;
    match play(options, &mut home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("logferry demo: {failure}");
            if let (Failure::Wrong(_), Some(home)) = (failure, &mut home) {
                home.keep = true;
                eprintln!("the end of logferry's log, which is kept in {}:\n{}", home.path().display(), home.log_tail(20));
            }
            ExitCode::FAILURE
        }
    }
}

fn play(options: &Options, kept: &mut Option<Home>) -> Result<(), Failure> {
    let cluster = MockCluster::new(BROKERS)?;
    cluster.create_topic(reader::TOPIC, reader::PARTITIONS, BROKERS)?;
    let servers = cluster.bootstrap_servers();
    let home = kept.insert(Home::make(&servers, options.keep)?);
    let rate = options.lines.div_ceil(LEAST_SECONDS).min(MOST_PER_SECOND);
    let at = |percent: u64| Duration::from_millis(options.lines * percent * 10 / rate);

    let mut stage = Stage::set(&servers, options.lines)?;
    stage.say(format_args!("an embedded Kafka (librdkafka's mock cluster) in this process, at {servers}"));
    stage.say(format_args!("`logferry run` ships {}/*.log* to it", home.logs().display()));
    stage.start_agent(home)?;
    stage.say(format_args!(
        "{} lines go to two logs, {} a second; a consumer reads the topic",
        HumanCount(options.lines),
        HumanCount(rate)
    ));
    stage.begin_writing(home, options.lines, rate)?;

    stage.play_until(at(9))?;
    stage.rotate(RENAMED, "");
    stage.play_until(at(18))?;
    stage.rotate(COPIED, "");

    stage.play_until(at(25))?;
    outage(&mut stage, &cluster)?;
    stage.play_until(at(70))?;
    // What waited is through by now, unless the machine is slow: so the kill meets everyday work, and its copies can be told from an outage's.
    let late = options.lines / 10 * 9;
    stage.await_that(PATIENCE, |counts| counts.under_way() <= rate / 2 || counts.written.load(Ordering::Relaxed) >= late)?;
    let (killed, doubled) = kill(&mut stage, home)?;
    stage.play_until(at(90))?;
    // A log that is truncated again before anything of it was read has its lines in the copy only, which is then a file of its own.
    if stage.await_that(PATIENCE, |counts| counts.under_way() <= rate)? {
        stage.rotate(COPIED, "");
    }

    let written = stage.finish_writing()?;
    stage.say(format_args!("all is written; {} lines are under way", HumanCount(stage.counts.under_way())));
    if !stage.await_that(PATIENCE, |counts| counts.under_way() == 0)? {
        stage.say(format_args!("nothing has come for {} s", PATIENCE.as_secs()));
    }
    let last = stage.stop_agent()?;
    stage.say(format_args!("logferry was told to end (SIGTERM), and has ended well"));
    let books = stage.finish_reading()?;
    let took = stage.took();
    drop(stage);
    if options.keep {
        print(format_args!("kept: {}", home.path().display()));
    }
    conclude(&books, written, doubled, &[killed, last], took)
}

/// The broker goes away and comes back. Writing and rotating go on.
fn outage(stage: &mut Stage, cluster: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> Result<(), Failure> {
    let began = stage.played();
    cluster.broker_down(-1)?;
    stage.broker_is_up = false;
    stage.say(format_args!("the broker is down for {} s: events wait", OUTAGE.as_secs()));
    stage.play_until(began + OUTAGE / 3)?;
    stage.rotate(RENAMED, ", while it waits");
    stage.play_until(began + OUTAGE * 2 / 3)?;
    stage.rotate(COPIED, ", while it waits");
    stage.play_until(began + OUTAGE)?;
    cluster.broker_up(-1)?;
    stage.broker_is_up = true;
    stage.say(format_args!("the broker is up again; {} lines are waiting", HumanCount(stage.counts.under_way())));
    Ok(())
}

/// SIGKILL in the midst of the work, a rotation while nobody looks, and a new start. Returns what the killed one had used, and how many copies came
/// of what happened before.
fn kill(stage: &mut Stage, home: &Home) -> Result<(Usage, u64), Failure> {
    stage.await_that(PATIENCE, |counts| counts.under_way() > 0)?;
    let usage = stage.kill_agent()?;
    stage.say(format_args!("kill -9 of logferry, with {} lines under way", HumanCount(stage.counts.under_way())));
    stage.rotate(RENAMED, ", while logferry is dead");
    stage.play_until(stage.played() + DEAD)?;
    // Read to its end, so that copies can be told by what made them.
    stage.await_quiet(QUIET)?;
    let doubled = stage.counts.doubled.load(Ordering::Relaxed);
    stage.start_agent(home)?;
    stage.say(format_args!("logferry runs again; {} lines are waiting", HumanCount(stage.counts.under_way())));
    Ok((usage, doubled))
}

/// The count, in words; an error if it is not what was promised.
fn conclude(books: &Books, written: [u64; LOGS.len()], doubled_before: u64, usages: &[Usage], took: Duration) -> Result<(), Failure> {
    let logs: Vec<(&str, u64)> = LOGS.into_iter().zip(written).collect();
    let verdict = books.tally.verdict(&logs);
    let order = match verdict.misplaced {
        0 => "order kept".to_owned(),
        count => format!("order broken {} times", HumanCount(count)),
    };
    let [written, received, lost] = [verdict.written, verdict.received, verdict.lost].map(HumanCount);
    print(format_args!("written {written} · received {received} · lost {lost} · {order}"));
    let before = match doubled_before {
        0 => String::new(),
        // A real broker knows them by the producer's sequence numbers; the mock cluster looks at those only in transactions.
        count => format!(", after the outage: {} (a real Kafka leaves those out)", HumanCount(count)),
    };
    let after = HumanCount(verdict.doubled - doubled_before.min(verdict.doubled));
    print(format_args!("sent twice after the kill: {after}{before}, recognisable by an equal event_id"));
    let cpu: Duration = usages.iter().map(|usage| usage.cpu).sum();
    let memory = usages.iter().map(|usage| usage.memory).max().unwrap_or(0);
    let per_line = cpu.as_nanos() / u128::from((verdict.received + verdict.doubled).max(1));
    let build = if cfg!(debug_assertions) { " (not an optimised build)" } else { "" };
    let (seconds, memory) = (took.as_secs_f64(), HumanBytes(memory));
    print(format_args!(
        "{seconds:.1} s · logferry took {}.{} µs of CPU per line sent and at most {memory} of memory{build}",
        per_line / 1000,
        per_line % 1000 / 100,
    ));
    if books.forgotten > 0 {
        let words =
            "messages before they were read, since it keeps a few megabytes only: the machine is too slow or too busy for so many lines";
        return Err(Failure::Wrong(format!("the embedded Kafka let go of {} {words}; {}", books.forgotten, verdict.examples)));
    }
    if verdict.is_good() { Ok(()) } else { Err(Failure::Wrong(verdict.examples)) }
}

/// Whoever closes the output does not want to read on; the exit status tells all the same.
fn print(words: std::fmt::Arguments<'_>) {
    drop(writeln!(std::io::stdout(), "{words}"));
}
