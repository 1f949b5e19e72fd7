//! `cargo bench --bench link`: what one request in flight costs over a long way, against five, and what each costs in CPU while the broker
//! does not answer. Apart from throughput.rs because it is no contest: it is the figures behind a decision.

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

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use harness::agent::Plan;
use harness::broker::{Broker, Listener, Setup};
use harness::link::Link;
use harness::{temp_dir, wait_until};

const PATIENCE: Duration = Duration::from_secs(300);
const IN_FLIGHT: [u32; 2] = [1, 5];

/// Measures requests in flight over a long way.
#[derive(Parser)]
struct Options {
    /// How many lines the file has.
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// How many times each is measured.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// The way's round trip, milliseconds.
    #[arg(long, default_value_t = 50)]
    round_trip: u64,
    /// How long the broker does not answer, seconds.
    #[arg(long, default_value_t = 15)]
    frozen: u64,
    /// A line for `[agent]`: memory = "4MiB", for example.
    #[arg(long, default_value = "")]
    agent: String,
    /// A line for `[kafka.librdkafka]`: "batch.size" = 3000000, for example.
    #[arg(long, default_value = "")]
    librdkafka: String,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The broker with two ways to it.
struct Stage {
    broker: Broker,
    link: Link,
    topics: u32,
    agent: String,
    librdkafka: String,
}

fn main() {
    let options = Options::parse();
    let link = Link::new(Duration::from_millis(options.round_trip));
    let second = Some(Listener { protocol: "PLAINTEXT", advertised: Some(link.address()) });
    let broker = Broker::start_with(Setup { heap_mib: 1024, fast: true, second, ..Setup::default() });
    link.lead_to(broker.second_port());
    let mut stage = Stage { broker, link, topics: 0, agent: options.agent, librdkafka: options.librdkafka };

    let logs = temp_dir("link");
    let file = logs.path().join("access.log");
    access_log::write(&file, options.lines).expect("write the log");
    // The broker's Java code is compiled while it runs: the first to come must not pay for that.
    stage.ship(&file, options.lines, 1, false);
    println!("| way | in flight | lines/s | log MB/s | CPU µs/line |\n| --- | ---: | ---: | ---: | ---: |");
    for round in 0..options.rounds * 2 {
        let far = round % 2 == 0;
        let way = if far { format!("{} ms there and back", options.round_trip) } else { "loopback".into() };
        for in_flight in IN_FLIGHT {
            let (wall, cpu) = stage.ship(&file, options.lines, in_flight, far);
            let rate = options.lines as f64 / wall.as_secs_f64();
            let megabytes = rate * access_log::AVERAGE as f64 / 1e6;
            let cost = cpu.as_secs_f64() * 1e6 / options.lines as f64;
            println!("| {way} | {in_flight} | {rate:.0} | {megabytes:.0} | {cost:.2} |");
        }
    }
    println!("\n| the broker is frozen for {} s | CPU, % of a core |\n| --- | ---: |", options.frozen);
    for in_flight in IN_FLIGHT {
        let percent = stage.frozen(&file, options.lines, in_flight, options.frozen);
        println!("| in flight {in_flight} | {percent:.1} |");
    }
}

impl Stage {
    fn plan(&mut self, file: &Path, in_flight: u32, far: bool) -> (Plan, String) {
        self.topics += 1;
        let topic = format!("link-{}", self.topics);
        self.broker.create_topic(&topic, 1, &[]);
        let bootstrap = if far { self.link.address() } else { self.broker.bootstrap() };
        let properties = format!("[kafka.librdkafka]\n\"max.in.flight\" = {in_flight}\n{}", self.librdkafka);
        (Plan::new(&bootstrap, &topic).include(file).agent(&self.agent).extra(&properties), topic)
    }

    /// Ships the file; the time until the last line is in the topic, and the CPU time of the whole run.
    fn ship(&mut self, file: &Path, lines: u64, in_flight: u32, far: bool) -> (Duration, Duration) {
        let (plan, topic) = self.plan(file, in_flight, far);
        let started = Instant::now();
        let mut agent = plan.arg("--once").start();
        let mut wall = None;
        while !agent.has_ended() {
            assert!(started.elapsed() < PATIENCE, "only {} lines after {PATIENCE:?}", self.broker.count(&topic));
            if wall.is_none() && self.broker.count(&topic) >= lines {
                wall = Some(started.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let (wall, cpu) = (wall.unwrap_or_else(|| started.elapsed()), agent.usage().cpu);
        assert!(agent.wait(PATIENCE).success(), "{}", agent.log());
        assert_eq!(self.broker.count(&topic), lines);
        self.broker.delete_topic(&topic);
        (wall, cpu)
    }

    /// What the agent costs while the broker does not answer, in per cent of a core; everything arrives afterwards.
    fn frozen(&mut self, file: &Path, lines: u64, in_flight: u32, seconds: u64) -> f64 {
        let (plan, topic) = self.plan(file, in_flight, false);
        let agent = plan.start();
        self.broker.wait_for_count(&topic, 1, PATIENCE);
        self.broker.freeze();
        // It still reads until its memory is full; that is no cost of waiting.
        thread::sleep(Duration::from_secs(2));
        let (before, started) = (agent.usage().cpu, Instant::now());
        thread::sleep(Duration::from_secs(seconds));
        let spent = agent.usage().cpu.saturating_sub(before);
        let percent = 100.0 * spent.as_secs_f64() / started.elapsed().as_secs_f64();
        self.broker.thaw();
        wait_until("everything to arrive", PATIENCE, || self.broker.count(&topic) >= lines);
        assert_eq!(self.broker.count(&topic), lines, "copies came");
        percent
    }
}
