//! Any rules over any events, lines of files, syslog messages and entries of the journal: no event is counted twice or not at all, and what is shipped
//! of them as JSON is JSON.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use arbitrary::Arbitrary;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use logferry::batch::{Batch, Event, Origin, Position, Stream, StreamId};
use logferry::budget::Budget;
use logferry::encode::{Encoder, Format, Settings};
use logferry::ledger::Count;
use logferry::rules::change::Time;
use logferry::rules::engine::Engine;
use logferry::rules::limit::Limit;
use logferry::rules::parse::Form;
use logferry::rules::redact::{Find, Redact};
use logferry::rules::route::Route;
use logferry::rules::stamp::{Key, Stamp};
use logferry::rules::template::Template;
use logferry::rules::when::{Test, When};
use logferry::rules::{Action, Rule, Severity};
use logferry::settlement::Began;
use logferry::source::syslog::intake::Transport;
use regex::bytes::Regex;

#[derive(Arbitrary, Debug)]
struct Input {
    kind: u8,
    format: u8,
    stamped: bool,
    settled: [u8; 3],
    rules: Vec<(u8, u8, u8)>,
    texts: Vec<String>,
    events: Vec<(Vec<u8>, bool)>,
}

fn when(which: u8, text: &str) -> When {
    let field = |test| When::Field((*b"a").into(), test);
    match which % 8 {
        0 => When::All(vec![]),
        1 => When::Message(vec![Regex::new("[a-m]").unwrap()]),
        2 => When::Not(Box::new(When::Message(vec![Regex::new("^.").unwrap()]))),
        3 => field(Test::Exists(true)),
        4 => field(Test::Is(vec![text.as_bytes().into()])),
        5 => When::Severity(0x0F),
        6 => When::App(vec![text.as_bytes().into()]),
        _ => When::Unit(vec![Regex::new("a").unwrap()]),
    }
}

fn action(which: u8, text: &str) -> Action {
    let name = || text.as_bytes().into();
    let template = Template::read(text).unwrap_or_else(|_| Template::read("{a}{message}{pid|}").unwrap());
    match which % 20 {
        0 => Action::Drop,
        1 => Action::Keep,
        2 => Action::Sample(2, Some(name())),
        3 => Action::Parse(Form::Json { message: Some((*b"a").into()) }),
        4 => Action::Parse(Form::Logfmt { message: None }),
        5 => Action::Parse(Form::Regex(Regex::new("(?<a>[^ ]*) (?<b>.*)").unwrap())),
        6 => Action::Parse(Form::Docker),
        7 => Action::Parse(Form::Cri),
        8 => Action::Parse(Form::Syslog),
        9 => Action::Set(vec![((*b"a").into(), template)]),
        10 => Action::Remove(vec![name()]),
        11 => Action::Rename(vec![((*b"a").into(), name())]),
        12 => Action::Severity(Severity::Of((*b"a").into())),
        13 => Action::RateLimit(Limit { events: 1, per_ns: 1000 }, Some(template)),
        14 => Action::Route(Route { topic: template, topics: vec!["first".into(), text.into()] }),
        15 => Action::Timestamp(Time { field: (*b"a").into(), formats: vec![], zone: TimeZone::UTC, forget: text.is_empty() }),
        16 => Action::Redact(Redact { find: Find::Regex(Regex::new("[a-f0-9\"]").unwrap()), with: name().to_vec(), hash: None }),
        17 => Action::Redact(Redact { find: Find::ready("ipv6", Some(64)).unwrap(), with: vec![], hash: None }),
        18 => Action::Redact(Redact { find: Find::ready("email", None).unwrap(), with: b"\\\"".to_vec(), hash: None }),
        _ => Action::Redact(Redact { find: Find::ready("card", None).unwrap(), with: vec![0xFF], hash: None }),
    }
}

/// An entry of the journal with this text in it, or bytes that are none.
fn entry(bytes: &[u8], whole: bool) -> Vec<u8> {
    if !whole {
        return bytes.to_vec();
    }
    let text = serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    format!(r#"{{"v":1,"timestamp":"t","message":{text},"unit":{text},"priority":3,"journal":{{{text}:{text}}},"labels":{{}}}}"#).into_bytes()
}

fn batch(input: &Input) -> Batch {
    let (mut bytes, mut events, mut at) = (Vec::new(), Vec::new(), 0_u32);
    for (event, whole) in &input.events {
        // As in an arrival log, the time of receipt stands in front of a syslog message.
        bytes.extend_from_slice(&[0; 8]);
        let start = bytes.len() as u32;
        bytes.extend_from_slice(&if input.kind % 3 == 2 { entry(event, *whole) } else { event.clone() });
        let (len, to) = (bytes.len() as u32 - start, at + event.len() as u32 + 1);
        events.push(Event::whole(start, len, at, to));
        at = to;
    }
    let origin = match input.kind % 3 {
        0 => Origin::File((*b"/l").into()),
        1 => Origin::Arrivals { peer: "p".into(), transport: Transport::Tcp },
        _ => Origin::Finished,
    };
    let stream = Stream { id: StreamId(1), source: "s".into(), key: Box::default(), headers: vec![], origin, topic: "t".into() };
    Batch {
        stream: Arc::new(stream),
        bytes,
        events,
        extras: vec![],
        base: 0,
        line_start: 0,
        to: Position { offset: at.into(), line_start: at.into(), ..Position::START },
        observed_ns: 1,
        ticket: 1,
        part: 0,
        since: Instant::now(),
        before: Count::default(),
        copy: None,
        part_headers: false,
        routed: 0,
        charge: Budget::new(1 << 30).charge(0),
    }
}

fuzz_target!(|input: Input| {
    if input.events.is_empty() || input.events.iter().map(|(event, _)| event.len()).sum::<usize>() > 1 << 16 {
        return;
    }
    let text = |at: u8| input.texts.get(usize::from(at) % input.texts.len().max(1)).map_or("", String::as_str);
    let rules = input.rules.iter().take(12).enumerate();
    let rules: Arc<[Rule]> = rules.map(|(at, (w, a, t))| Rule::new(&at.to_string(), when(*w, text(*t)), action(*a, text(*t)))).collect();
    let format = if input.format % 2 == 0 { Format::Json } else { Format::Raw };
    let settings = Settings { format, max_event: 1 << 20, host: "h".into(), labels: vec![], zone: TimeZone::UTC };
    let kind = ["file", "syslog", "journald"][usize::from(input.kind % 3)];
    let mut engine = Engine::of(&rules, ("s", kind), TimeZone::UTC, settings.room());
    if let Some(stamp) = Stamp::new(Key::Of(Template::read("{a}").unwrap()), vec![]).filter(|_| input.stamped) {
        engine = engine.with_stamp(Arc::new(stamp));
    }
    let mut batch = batch(&input);
    let all = Count { events: batch.events.len() as u64, bytes: batch.to.offset };
    let settled = input.settled.map(|settled| u64::from(settled) * 4).to_vec();
    let sifted = engine.run(&mut batch, |_, _| Began { settled, again_to: 0 }).unwrap_or_default();
    let left: Count = [batch.count_from(0), sifted.filtered, sifted.skipped].into_iter().sum();
    assert_eq!(left, all);
    let dropped: u64 = sifted.by_rule.iter().map(|(_, count)| count.events).sum();
    assert_eq!(dropped, sifted.filtered.events);
    if batch.events.is_empty() {
        return;
    }
    let broken = input.kind % 3 == 2 && input.events.iter().any(|(_, whole)| !whole);
    let shares: u64 = engine.shares(&batch).iter().map(|share| share.count.events).sum();
    assert!(shares <= batch.events.len() as u64);
    let (batch, _) = Encoder::new(&settings).encode(batch, Vec::new());
    for event in batch.events.iter().filter(|_| format == Format::Json && !broken) {
        serde_json::from_slice::<serde_json::Value>(batch.event_bytes(event)).expect("JSON");
    }
});
