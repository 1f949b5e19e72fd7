//! `make bench`: syslog to a real Kafka: messages of RFC 5424 by TCP, parsed, as JSON, beside rsyslog which sends them as they came; and datagrams at a
//! fixed rate, of which none may be lost. Prints tables; with `--write` they go into docs/performance.md, if nobody failed.

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
#[allow(dead_code, reason = "shared with the other benchmarks: not all of it is used here")]
mod report;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use harness::agent::Plan;
use harness::broker::{Broker, Setup};
use harness::process::Process;
use harness::topic::Format;
use harness::{free_port, temp_dir};

const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Measures how fast and at what cost syslog gets into Kafka.
#[derive(Parser)]
struct Options {
    /// How many messages go by TCP.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// How many times; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Datagrams a second.
    #[arg(long, default_value_t = 200_000)]
    rate: u64,
    /// For so many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Write the tables into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A message of 190 bytes.
fn message(number: u64) -> String {
    let mut text = format!(
        "<165>1 2026-11-26T10:00:{:02}.{:06}Z web-01.example.com nginx 1234 ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"App\"] {number:010} GET /index.html ",
        number / 1_000_000 % 60,
        number % 1_000_000
    );
    while text.len() < 190 {
        text.push(char::from(b'a' + u8::try_from((number + text.len() as u64) % 26).unwrap_or(0)));
    }
    text
}

fn main() {
    let options = Options::parse();
    let properties = [("num.network.threads", "3"), ("num.io.threads", "4"), ("log.segment.delete.delay.ms", "0")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let broker = Broker::start_with(Setup { heap_mib: 1024, fast: true, properties, ..Setup::default() });
    let mut text = format!("{}\n\n", report::machine());
    let who = ["logferry json", "logferry raw", "rsyslog raw"];
    let mut runs: Vec<(&str, Vec<report::Run>)> = who.iter().map(|name| (*name, Vec::new())).collect();
    measure_tcp(&broker, "warm-up", "logferry raw", options.messages).expect("the warm-up");
    let mut failed = false;
    for round in 1..=options.rounds {
        for (name, runs) in &mut runs {
            match measure_tcp(&broker, &format!("round-{round}-{}", name.replace(' ', "-")), name, options.messages) {
                Ok(run) => {
                    println!("round {round}: {name:<15} {:6.2} s, CPU {:5.2} s", run.wall.as_secs_f64(), run.cpu.as_secs_f64());
                    runs.push(run);
                }
                Err(why) => {
                    println!("round {round}: {name:<15} FAILED: {why}");
                    failed = true;
                }
            }
        }
    }
    let _ = writeln!(
        text,
        "{} messages of RFC 5424 by TCP, newlines between them, 190 bytes each; medians of {} rounds.\n",
        options.messages, options.rounds
    );
    text += "| who | messages/s | CPU µs/message | peak RSS |\n| --- | ---: | ---: | ---: |\n";
    for (name, runs) in runs.iter().filter(|(_, runs)| !runs.is_empty()) {
        let rate = report::median(runs, |run| options.messages as f64 / run.wall.as_secs_f64());
        let cpu = report::median(runs, |run| run.cpu.as_secs_f64() * 1e6 / options.messages as f64);
        let rss = report::median(runs, |run| run.peak_rss as f64 / 1e6);
        let _ = writeln!(text, "| {name} | {:.0},000 | {cpu:.2} | {rss:.0} MB |", rate / 1000.0);
    }
    let _ = writeln!(text, "\nDatagrams of UDP at {} a second for {} s, parsed, as JSON.\n", options.rate, options.seconds);
    text += "| receive_buffer | sent | arrived | dropped by the kernel, counted | not accounted for | CPU µs/message |\n| --- | ---: | ---: | ---: | ---: | ---: |\n";
    for buffer in ["16MiB", "208KiB"] {
        let (sent, arrived, dropped, cpu) = measure_udp(&broker, buffer, &options);
        let missing = sent.cast_signed() - arrived.cast_signed() - dropped.cast_signed();
        failed |= missing != 0;
        let _ = writeln!(text, "| {buffer} | {sent} | {arrived} | {dropped} | {missing} | {:.2} |", cpu.as_secs_f64() * 1e6 / sent as f64);
    }
    println!("\n{text}");
    if options.write {
        assert!(!failed, "someone failed, see above: docs/performance.md stays as it is");
        report::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md"), "Syslog to Kafka", &text)
            .expect("write docs/performance.md");
    }
}

fn plan(broker: &Broker, topic: &str, format: Format, listen: &str, more: &str) -> Plan {
    let source = format!("[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [{listen:?}]\n{more}");
    Plan::new(&broker.bootstrap(), topic).format(format).include("/nonexistent/*.log").extra(&source)
}

fn connect(port: u16) -> TcpStream {
    let started = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(tcp) => return tcp,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn measure_tcp(broker: &Broker, topic: &str, who: &str, messages: u64) -> Result<report::Run, String> {
    broker.create_topic(topic, 1, &[]);
    let port = free_port();
    let dir = temp_dir("syslog-bench");
    let mut agent = None;
    let mut rsyslog = None;
    if let Some(format) = who.strip_prefix("logferry ") {
        let format = if format == "raw" { Format::Raw } else { Format::Json };
        agent = Some(plan(broker, topic, format, &format!("tcp://127.0.0.1:{port}"), "").start());
    } else {
        let config = dir.path().join("rsyslog.conf");
        fs::write(&config, rsyslog_config(&broker.bootstrap(), topic, port, dir.path())).expect("write rsyslog.conf");
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.arg("-n").arg("-f").arg(config).arg("-i").arg(dir.path().join("pid"));
        rsyslog = Some(Process::start("rsyslogd", &mut command, &dir.path().join("log"), dir.path()).expect("start rsyslogd"));
    }
    let process = agent.as_mut().map_or_else(|| rsyslog.as_mut().expect("one of both"), |agent| agent.process());
    let mut tcp = connect(port);
    let block: Vec<u8> = (0..messages).flat_map(|number| (message(number) + "\n").into_bytes()).collect();
    let before = process.usage().cpu;
    let started = Instant::now();
    let sending = thread::spawn(move || tcp.write_all(&block).map(|()| tcp));
    while broker.count(topic) < messages {
        if started.elapsed() > PATIENCE || process.has_ended() {
            return Err(format!(
                "only {} messages after {:?}; it said last:\n{}",
                broker.count(topic),
                started.elapsed(),
                process.log_tail(10)
            ));
        }
        thread::sleep(LOOK_EVERY);
    }
    let wall = started.elapsed();
    let after = process.usage();
    drop(sending.join().expect("the sender").map_err(|error| error.to_string())?);
    let arrived = broker.count(topic);
    broker.delete_topic(topic);
    if arrived == messages {
        Ok(report::Run { wall, cpu: after.cpu.saturating_sub(before), peak_rss: after.peak_rss })
    } else {
        Err(format!("{arrived} arrived"))
    }
}

/// As fast as it gets; the message is sent on as it came.
fn rsyslog_config(bootstrap: &str, topic: &str, port: u16, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"global(workDirectory="{dir}")
module(load="imptcp")
module(load="omkafka")
template(name="raw" type="string" string="%rawmsg%")
input(type="imptcp" port="{port}" ruleset="ship")
ruleset(name="ship") {{
    action(type="omkafka" broker="{bootstrap}" topic="{topic}" template="raw" resubmitOnFailure="on"
        confParam=["compression.codec=lz4", "linger.ms=20", "batch.size=1000000"]
        topicConfParam=["request.required.acks=-1"])
}}
"#
    )
}

/// Sent, arrived, dropped by the kernel as it was counted, and the processor time it took.
fn measure_udp(broker: &Broker, buffer: &str, options: &Options) -> (u64, u64, u64, Duration) {
    let topic = format!("udp-{buffer}");
    broker.create_topic(&topic, 1, &[]);
    let port = free_port();
    let mut agent = plan(broker, &topic, Format::Json, &format!("udp://127.0.0.1:{port}"), &format!("receive_buffer = {buffer:?}")).start();
    agent.wait_for_log("listening", PATIENCE);
    let before = agent.usage().cpu;
    let (rate, seconds) = (options.rate, options.seconds);
    let sender = thread::spawn(move || {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        udp.connect(("127.0.0.1", port)).expect("connect");
        let messages: Vec<String> = (0..rate).map(message).collect();
        let started = Instant::now();
        let mut sent = 0;
        while sent < rate * seconds {
            let due = u64::try_from(started.elapsed().as_micros()).unwrap_or(0) * rate / 1_000_000;
            while sent < due.min(rate * seconds) {
                udp.send(messages[usize::try_from(sent % rate).unwrap_or(0)].as_bytes()).expect("send");
                sent += 1;
            }
            thread::sleep(Duration::from_micros(500));
        }
        println!("{sent} datagrams in {:.2} s", started.elapsed().as_secs_f64());
        sent
    });
    let sent = sender.join().expect("the sender");
    let started = Instant::now();
    let dropped = || agent.status().source("net").missed.get("kernel_drop").map_or(0, |count| count.events);
    while broker.count(&topic) + dropped() < sent && started.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(100));
    }
    let cpu = agent.usage().cpu.saturating_sub(before);
    let status = agent.status();
    let books = status.source("net");
    (sent, books.delivered.events, dropped(), cpu)
}
