//! `cargo bench --bench rules`: what rules add to a line of nginx's log, over batches as a file source makes them, without Kafka. Beside it what the
//! JSON of the same line takes. Apart from throughput.rs because a few hundredths of a microsecond are not seen beside a broker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that can't go on stops there; figures are rounded anyway"
)]

#[allow(unreachable_pub, reason = "shared with the other benchmarks")]
mod access_log;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use logferry::batch::{Batch, Event, Origin, Position, Stream, StreamId};
use logferry::budget::Budget;
use logferry::encode::{Encoder, Format, Room, Settings};
use logferry::ledger::Count;
use logferry::rules::engine::Engine;
use logferry::rules::parse::Form;
use logferry::rules::redact::{Find, Redact};
use logferry::rules::route::{self, Route};
use logferry::rules::template::Template;
use logferry::rules::when::{Test, When};
use logferry::rules::{Action, Rule, Severity};
use logferry::settlement::Began;
use regex::bytes::Regex;

const LINES: u64 = 200_000;
const BATCH: usize = 3000;
const ROUNDS: usize = 9;

fn batches(text: &[u8]) -> Vec<Batch> {
    let stream = Arc::new(Stream {
        id: StreamId(7),
        source: "web".into(),
        key: Box::default(),
        headers: Vec::new(),
        origin: Origin::File((*b"/var/log/nginx/access.log").into()),
        topic: "t".into(),
    });
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let batch = |lines: &[&[u8]]| {
        let (mut bytes, mut events) = (Vec::new(), Vec::new());
        for line in lines {
            let (from, len) = (u32::try_from(bytes.len()).unwrap(), u32::try_from(line.len()).unwrap());
            events.push(Event::whole(from, len - 1, from, from + len));
            bytes.extend_from_slice(line);
        }
        let end = bytes.len() as u64;
        let to = Position { offset: end, line_start: end, ..Position::START };
        Batch {
            stream: Arc::clone(&stream),
            bytes,
            events,
            base: 0,
            line_start: 0,
            to,
            observed_ns: 0,
            ticket: 1,
            part: 0,
            since: Instant::now(),
            before: Count::default(),
            copy: None,
            extras: Vec::new(),
            part_headers: false,
            routed: 0,
            charge: Budget::new(1 << 30).charge(0),
        }
    };
    lines.chunks(BATCH).map(batch).collect()
}

/// The least of several rounds, microseconds a line.
fn least(text: &[u8], mut work: impl FnMut(Batch)) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let batches = batches(text);
        let begun = Instant::now();
        batches.into_iter().for_each(&mut work);
        begun.elapsed().as_secs_f64() * 1e6 / LINES as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn with(rules: Vec<(When, Action)>, text: &[u8]) -> f64 {
    let rules = rules.into_iter().enumerate().map(|(at, (when, action))| Rule::new(&at.to_string(), when, action)).collect();
    let mut engine = Engine::new(&rules, ("web", "file"), TimeZone::UTC, Room { message: 1 << 16, text: Some(1 << 19), whole: 1 << 20 })
        .expect("a rule that concerns the source");
    least(text, |mut batch| drop(engine.run(&mut batch, |_, _| Began::default())))
}

/// The same, and each event into the batch of its lane, as before it is queued.
fn with_lanes(rules: Vec<(When, Action)>, text: &[u8]) -> f64 {
    let rules = rules.into_iter().enumerate().map(|(at, (when, action))| Rule::new(&at.to_string(), when, action)).collect();
    let mut engine = Engine::new(&rules, ("web", "file"), TimeZone::UTC, Room { message: 1 << 16, text: Some(1 << 19), whole: 1 << 20 })
        .expect("a rule that concerns the source");
    least(text, |mut batch| {
        engine.run(&mut batch, |_, _| Began::default());
        let topic = "other".into();
        for share in engine.shares(&batch) {
            drop(route::take(&batch, &share, &topic, engine.class(share.class), (1, Count::default())));
        }
        route::keep_rest(&mut batch, engine.ways());
    })
}

/// The same lines as entries of the journal, as their source renders them.
fn as_entries(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let message = serde_json::to_string(&String::from_utf8_lossy(line)).unwrap();
        let line = format!(
            r#"{{"v":1,"timestamp":"2026-11-27T10:00:00.000001Z","observed_timestamp":"2026-11-27T10:00:00.000001Z","host":"web-01","source":"journal","type":"journald","event_id":"00000000000000ff:{number}","severity":"info","message":{message},"unit":"nginx.service","identifier":"nginx","priority":6,"pid":4711,"uid":33,"boot_id":"0123456789abcdef0123456789abcdef","cursor":"s=0123456789abcdef0123456789abcdef;i={number:x}","seqnum":{number},"journal":{{"_COMM":"nginx","_EXE":"/usr/sbin/nginx","_CMDLINE":"nginx: worker process","_SYSTEMD_CGROUP":"/system.slice/nginx.service","_TRANSPORT":"stdout","SYSLOG_FACILITY":"3"}}}}"#
        );
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out
}

fn of_journal(rules: Vec<(When, Action)>, text: &[u8]) -> f64 {
    let rules = rules.into_iter().enumerate().map(|(at, (when, action))| Rule::new(&at.to_string(), when, action)).collect();
    let room = Room { message: 1 << 16, text: Some(1 << 19), whole: 1 << 20 };
    let mut engine = Engine::new(&rules, ("web", "journald"), TimeZone::UTC, room).expect("a rule that concerns the source");
    let rounds = (0..ROUNDS).map(|_| {
        let mut all = batches(text);
        for batch in &mut all {
            let Stream { id, source, topic, .. } = &*batch.stream;
            let (key, headers, origin) = (Box::default(), Vec::new(), Origin::Finished);
            batch.stream = Arc::new(Stream { id: *id, source: Arc::clone(source), key, headers, origin, topic: Arc::clone(topic) });
        }
        let begun = Instant::now();
        for mut batch in all {
            engine.run(&mut batch, |_, _| Began::default());
        }
        begun.elapsed().as_secs_f64() * 1e6 / LINES as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn message(pattern: &str) -> When {
    When::Message(vec![Regex::new(pattern).unwrap()])
}

fn redact(name: &str) -> (When, Action) {
    (
        When::All(Vec::new()),
        Action::Redact(Redact { find: Find::ready(name, None).unwrap(), with: format!("[{name}]").into_bytes(), hash: None }),
    )
}

/// The same lines as an application would log them.
fn as_json(text: &[u8]) -> Vec<u8> {
    let quoted = |text: &[u8]| serde_json::to_string(&String::from_utf8_lossy(text)).unwrap();
    let mut out = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b'"').collect();
        let [head, request, rest, .., agent, _] = words.as_slice() else { continue };
        let fields = [quoted(head), quoted(request), quoted(rest), quoted(agent)];
        let [head, request, rest, agent] = fields;
        let line = format!(
            r#"{{"n":{number},"client":{head},"request":{request},"rest":{rest},"agent":{agent},"ok":true,"upstream":{{"ms":12.5}}}}"#
        );
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out
}

/// How many microseconds of CPU rsyslogd takes for each of these lines under these rules: it reads them from a file and writes them to nowhere.
fn rsyslog(text: &[u8], rules: &str) -> f64 {
    const TIMES: usize = 5;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut all = text.repeat(TIMES);
    all.extend_from_slice(b"this is the last line\n");
    std::fs::write(path("log"), all).unwrap();
    let config = format!(
        r#"global(workDirectory="{dir}" maxMessageSize="64k")
module(load="imfile") module(load="mmjsonparse") module(load="mmanon")
input(type="imfile" File="{log}" Tag="t" freshStartTail="off" ruleset="r")
template(name="raw" type="string" string="%msg%\n")
ruleset(name="r") {{
  if $msg contains "this is the last line" then {{ action(type="omfile" file="{done}" template="raw") stop }}
  {rules}
  action(type="omfile" file="/dev/null" template="raw")
}}
"#,
        dir = dir.path().display(),
        log = path("log"),
        done = path("done"),
    );
    std::fs::write(path("conf"), config).unwrap();
    let mut child = Command::new("rsyslogd").args(["-n", "-f", &path("conf"), "-i", &path("pid")]).spawn().unwrap();
    while !std::fs::read_to_string(path("done")).is_ok_and(|text| text.contains("last line")) {
        assert!(child.try_wait().unwrap().is_none(), "rsyslogd has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = memchr::memchr_iter(b'\n', text).count() * TIMES;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let lines = lines as f64;
    ticks * 1e6 / rustix::param::clock_ticks_per_second() as f64 / lines
}

/// What rules add in rsyslog, the least of three; nothing where it is not installed.
fn beside_rsyslog(text: &[u8], json: &[u8], ten: &[&str]) {
    if Command::new("rsyslogd").arg("-v").output().is_err() {
        return;
    }
    let least = |text: &[u8], rules: &str| (0..3).map(|_| rsyslog(text, rules)).fold(f64::INFINITY, f64::min);
    let (plain, plain_json) = (least(text, ""), least(json, ""));
    // Leaving a line out would spare rsyslog its output, which is most of what a line costs there: so what a rule decides is only noted.
    let note = |pattern: &&str| {
        let pattern = pattern.replace(r"\d", "[0-9]").replace("(?:", "(").replace('\\', r"\\");
        format!("if re_match($msg, '{pattern}') then {{ set $.gone = \"1\"; }}\n")
    };
    let regexes = ten.iter().map(note).collect::<Vec<_>>().concat();
    println!("rsyslog, µs of CPU a line added ({plain:.3} without rules)");
    println!(
        "(a) one drop rule by substring               {:.3}",
        least(text, r#"if $msg contains "GET /healthz" then { set $.gone = "1"; }"#) - plain
    );
    println!("(b) ten rules with regexes                   {:.3}", least(text, &regexes) - plain);
    let parse = r#"action(type="mmjsonparse" cookie="")
  if re_match($!n, '[0-4]$') then { action(type="omfile" file="/dev/null" template="raw") stop }"#;
    println!("(c) parse json lines, half to another file   {:.3}", least(json, parse) - plain_json);
    println!("(d) anonymise IPv4 (it has no e-mail)        {:.3}", least(text, r#"action(type="mmanon" ipv4.bits="32")"#) - plain);
}

fn main() {
    let file = tempfile::NamedTempFile::new().unwrap();
    access_log::write(file.path(), LINES).unwrap();
    let text = std::fs::read(file.path()).unwrap();
    let settings = Settings { format: Format::Json, max_event: 900 << 10, host: "h".into(), labels: Vec::new(), zone: TimeZone::UTC };
    let mut encoder = Encoder::new(&settings);
    let nothing = least(&text, drop);
    let json = least(&text, |batch| drop(encoder.encode(batch, Vec::new())));
    let ten = [
        r"GET /healthz",
        r"GET /metrics",
        r"kube-probe/\d",
        r"ELB-HealthChecker/\d",
        r"Pingdom\.com_bot",
        r#""OPTIONS [^"]* HTTP/"#,
        r"/robots\.txt",
        r"/favicon\.(?:ico|png)",
        r"UptimeRobot/[0-9.]+",
        r#"" 499 \d+ "#,
    ];
    let patterns = ten;
    let ten = ten.iter().map(|pattern| (message(pattern), Action::Drop)).collect();
    println!("µs a line, least of {ROUNDS} rounds of {LINES} lines; the batches' own cost ({nothing:.3}) is taken off");
    println!("plain json                                   {:.3}", json - nothing);
    println!("(a) one drop rule by substring               {:.3}", with(vec![(message("GET /healthz"), Action::Drop)], &text) - nothing);
    println!("(b) ten rules with regexes                   {:.3}", with(ten, &text) - nothing);
    let lines = as_json(&text);
    let nothing_of_json = least(&lines, drop);
    let severity = Action::Severity(Severity::Of(b"status".as_slice().into()));
    let parse = vec![(When::All(Vec::new()), Action::Parse(Form::Json { message: None })), (message("no such line"), severity)];
    println!("(c) parse json lines of seven members        {:.3}", with(parse, &lines) - nothing_of_json);
    let half = When::Field((*b"n").into(), Test::Matches(vec![Regex::new("[0-4]$").unwrap()]));
    let to = Action::Route(Route { topic: Template::read("other").unwrap(), topics: vec!["other".into()] });
    let route = vec![(When::All(Vec::new()), Action::Parse(Form::Json { message: None })), (half, to)];
    println!("    the same, and half of them to another topic {:.3}", with_lanes(route, &lines) - nothing_of_json);
    let entries = as_entries(&text);
    let nothing_of_entries = least(&entries, drop);
    let unit = vec![(When::Unit(vec![Regex::new("^cron").unwrap()]), Action::Drop)];
    println!("(e) entries of the journal, one rule by unit {:.3}", of_journal(unit, &entries) - nothing_of_entries);
    let words = vec![(message("GET /healthz"), Action::Drop)];
    println!("    one drop rule by substring               {:.3}", of_journal(words, &entries) - nothing_of_entries);
    println!(
        "    redact e-mail and IPv4                   {:.3}",
        of_journal(vec![redact("email"), redact("ipv4")], &entries) - nothing_of_entries
    );
    println!("(d) redact e-mail and IPv4                   {:.3}", with(vec![redact("email"), redact("ipv4")], &text) - nothing);
    beside_rsyslog(&text, &lines, &patterns);
}
