//! Rules over whole batches: what is left, what was counted, and that what is not touched stays where it is.

use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use regex::bytes::Regex;

use super::engine::{Engine, Sifted};
use super::limit::Limit;
use super::parse::Form;
use super::redact::{Blotted, Find, Redact, Salt};
use super::route::Route;
use super::stamp::{Key, Stamp};
use super::template::Template;
use super::when::{Compare, Test, When};
use super::{Action, Rule, Severity};
use crate::batch::{Batch, Event, Origin, Position, Stream, StreamId};
use crate::budget::Budget;
use crate::encode::Room;
use crate::ledger::Count;
use crate::settlement::Began;

const ROOM: Room = Room { message: 1 << 10, text: Some(1 << 14), whole: 1 << 15 };

pub(crate) fn batch(lines: &[&str]) -> Batch {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    for line in lines {
        let from = u32::try_from(bytes.len()).unwrap();
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let len = u32::try_from(line.len()).unwrap();
        events.push(Event::whole(from, len, from, from + len + 1));
    }
    let end = 1000 + bytes.len() as u64;
    Batch {
        stream: Arc::new(Stream {
            id: StreamId(7),
            source: "web".into(),
            key: Box::default(),
            headers: vec![],
            origin: Origin::File((*b"/var/log/web/access.log").into()),
            topic: "t".into(),
        }),
        bytes,
        events,
        base: 1000,
        line_start: 1000,
        to: Position { offset: end, line_start: end, ..Position::START },
        observed_ns: 0,
        ticket: 1,
        part: 0,
        since: Instant::now(),
        before: Count::default(),
        copy: None,
        extras: Vec::new(),
        part_headers: false,
        routed: 0,
        charge: Budget::new(1 << 20).charge(0),
    }
}

fn began(settled: u64) -> Began {
    Began { settled: vec![settled], again_to: 0 }
}

fn message(pattern: &str) -> When {
    When::Message(vec![Regex::new(pattern).unwrap()])
}

fn redact(pattern: &str, with: &str) -> Action {
    Action::Redact(Redact { find: Find::ready(pattern, None).unwrap(), with: with.into(), hash: None })
}

fn engine(rules: Vec<(When, Action)>) -> Option<Engine> {
    let rules = rules.into_iter().enumerate().map(|(at, (when, action))| Rule::new(&format!("rule-{}", at + 1), when, action));
    Engine::new(&rules.collect(), ("web", "file"), TimeZone::UTC, ROOM)
}

fn texts(batch: &Batch) -> Vec<String> {
    batch.events.iter().map(|event| String::from_utf8_lossy(batch.event_bytes(event)).into_owned()).collect()
}

fn blotted(pattern: &str, keep: Option<u32>, text: &str) -> String {
    let redact = Redact { find: Find::ready(pattern, keep).unwrap(), with: b"*".to_vec(), hash: None };
    let mut out = Vec::new();
    match redact.apply(text.as_bytes(), &mut out, 1 << 10) {
        Blotted::No => format!("untouched: {text}"),
        _ => String::from_utf8(out).unwrap(),
    }
}

#[test]
fn what_is_dropped_is_counted_and_what_is_left_stays_where_it_is() {
    let mut batch = batch(&["GET /healthz", "GET /", "GET /healthz", "POST /", "GET /healthz"]);
    let (bytes, start) = (batch.bytes.as_ptr(), batch.events[1].start);
    let sifted = engine(vec![(message("/healthz"), Action::Drop)]).unwrap().run(&mut batch, |_, _| Began::default()).unwrap();
    assert_eq!(texts(&batch), ["GET /", "POST /"]);
    assert_eq!((batch.bytes.as_ptr(), batch.events[0].start), (bytes, start), "nothing is copied");
    assert_eq!((sifted.filtered, sifted.skipped), (Count { events: 3, bytes: 0 }, Count::default()));
    assert_eq!(sifted.by_rule, [("rule-1".into(), Count { events: 3, bytes: 39 })]);
    assert_eq!(batch.base + u64::from(batch.events[1].to), batch.to.offset, "what is left out behind the last one counts with it");
}

#[test]
fn a_batch_of_which_nothing_is_left_gives_its_bytes_to_the_filtered() {
    let mut batch = batch(&["a", "b"]);
    let sifted = engine(vec![(When::All(vec![]), Action::Drop)]).unwrap().run(&mut batch, |_, _| Began::default()).unwrap();
    assert_eq!((batch.events.len(), sifted.filtered), (0, Count { events: 2, bytes: 4 }));
}

#[test]
fn a_rule_of_another_source_type_or_path_costs_nothing() {
    assert!(engine(vec![(When::Source(vec!["other".into()]), Action::Drop), (When::Type(vec!["syslog"]), Action::Drop)]).is_none());
    assert!(engine(vec![(When::Severity(0xFF), Action::Drop)]).is_none(), "a line of a file has no severity");
    let path = |text: &str| When::Path(vec![crate::source::file::discover::Pattern::parse(text).unwrap()]);
    let mut other = engine(vec![(path("/srv/*.log"), Action::Drop)]).unwrap();
    assert_eq!(other.run(&mut batch(&["a"]), |_, _| Began::default()), None);
    let mut this = engine(vec![(When::All(vec![path("/var/log/web/*.log"), message("a")]), Action::Drop)]).unwrap();
    assert_eq!(this.run(&mut batch(&["a"]), |_, _| Began::default()).unwrap().filtered.events, 1);
}

#[test]
fn rules_hold_in_their_order_and_see_what_earlier_ones_left() {
    let rules = vec![
        (message("important"), Action::Keep),
        (message("@"), redact("email", "[email]")),
        (message(r"\[email\]$"), redact("ipv4", "[ip]")),
        (message("debug"), Action::Drop),
    ];
    let mut batch = batch(&["important debug a@b.de", "1.2.3.4 a@b.de", "1.2.3.4 debug", "debug a@b.de", "plain"]);
    engine(rules).unwrap().run(&mut batch, |_, _| Began::default()).unwrap();
    assert_eq!(texts(&batch), ["important debug a@b.de", "[ip] [email]", "plain"]);
}

#[test]
fn what_was_settled_before_is_neither_sent_nor_counted_but_what_is_dropped_of_it_is() {
    let mut batch = batch(&["aa", "drop", "bb", "cc"]);
    let sifted = engine(vec![(message("drop"), Action::Drop)]).unwrap().run(&mut batch, |_, _| began(1000 + 3 + 5)).unwrap();
    assert_eq!(texts(&batch), ["bb", "cc"]);
    assert_eq!((sifted.skipped, sifted.filtered), (Count { events: 1, bytes: 8 }, Count { events: 1, bytes: 0 }));
    assert_eq!((batch.base, batch.line_start, batch.events[0].from, batch.events[1].to), (1008, 1008, 0, 6));
}

#[test]
fn an_event_in_parts_is_decided_by_its_first() {
    let mut engine = engine(vec![(message("^drop"), Action::Drop), (message("^blot"), redact("email", "*"))]).unwrap();
    let part = |text: &str, number, last| {
        let mut batch = batch(&[text]);
        batch.events[0] = batch.events[0].as_part(number, last);
        batch
    };
    let mut run = |mut batch: Batch| {
        let dropped = engine.run(&mut batch, |_, _| Began::default()).map_or(0, |sifted: Sifted| sifted.filtered.events);
        (texts(&batch), dropped)
    };
    assert_eq!(run(part("drop this", 1, false)), (vec![], 0));
    assert_eq!(run(part("and this", 2, false)), (vec![], 0));
    assert_eq!(run(part("all of it", 3, true)), (vec![], 1), "it counts once, with its last part");
    assert_eq!(run(part("blot out", 1, false)).0, ["blot out"]);
    assert_eq!(run(part("drop a@b.de", 2, true)).0, ["drop *"]);
    assert_eq!(run(part("c@d.de", 7, true)).0, ["*"], "of one whose first part was not seen");
    assert_eq!(run(part("c@d.de", 1, true)).0, ["c@d.de"]);
}

#[test]
fn a_sample_is_the_same_each_time() {
    let lines: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let shipped = || {
        let mut batch = batch(&lines);
        engine(vec![(When::All(vec![]), Action::Sample(10, None))]).unwrap().run(&mut batch, |_, _| Began::default());
        texts(&batch)
    };
    assert_eq!(shipped(), shipped());
    assert!((60..140).contains(&shipped().len()), "{}", shipped().len());
}

#[test]
fn addresses_cards_and_tokens_are_found_and_their_likes_are_not() {
    assert_eq!(blotted("email", None, "from <ann.o+x@mail.example.org>, b@c.de."), "from <*>, *.");
    assert_eq!(blotted("email", None, "user@localhost @x a@.b git@"), "untouched: user@localhost @x a@.b git@");
    assert_eq!(blotted("email", None, "jörg@müller.de"), "*");
    assert_eq!(blotted("ipv4", None, "10.0.0.1:80 (192.168.001.254) 1.2.3.4."), "*:80 (*) *.");
    assert_eq!(blotted("ipv4", None, "1.2.3 1.2.3.4.5 256.1.1.1 Firefox/128.0"), "untouched: 1.2.3 1.2.3.4.5 256.1.1.1 Firefox/128.0");
    assert_eq!(blotted("ipv4", Some(24), "203.0.113.77"), "203.0.113.0");
    assert_eq!(blotted("ipv4", Some(0), "203.0.113.77"), "0.0.0.0");
    assert_eq!(blotted("ipv6", None, "[2001:db8::1]:443 ::1: fe80::1%eth0"), "[*]:443 *: *%eth0");
    assert_eq!(blotted("ipv6", None, "12:30:59 std::fs a: b"), "untouched: 12:30:59 std::fs a: b");
    assert_eq!(blotted("ipv6", Some(32), "2001:db8:aaaa::1"), "2001:db8::");
    assert_eq!(blotted("card", None, "4111 1111 1111 1111, 4111-1111-1111-1112, 5500005555555559"), "*, 4111-1111-1111-1112, *");
    assert_eq!(blotted("bearer", None, "Authorization: Bearer abc.DEF-1=="), "Authorization: *");
    assert_eq!(blotted("aws_key", None, "key AKIAIOSFODNN7EXAMPLE"), "key *");
}

#[test]
fn a_hash_is_the_same_for_the_same_text_and_salt_alone() {
    let with = |salt: &[u8], text: &str| {
        let redact = Redact { find: Find::Email, with: Vec::new(), hash: Some(Salt::new(salt)) };
        let mut out = Vec::new();
        assert_eq!(redact.apply(text.as_bytes(), &mut out, 1 << 10), Blotted::Yes);
        String::from_utf8(out).unwrap()
    };
    let one = with(b"a secret of 16 B", "a@b.de c@d.de a@b.de");
    let hashes: Vec<&str> = one.split(' ').collect();
    assert!(hashes[0] == hashes[2] && hashes[0] != hashes[1] && hashes[0].len() == 32, "{one}");
    assert_ne!(one, with(b"b secret of 16 B", "a@b.de c@d.de a@b.de"));
}

#[test]
fn a_replacement_with_groups_and_one_that_would_not_fit() {
    let find = Find::Regex(Regex::new(r"password=(\w)\w*").unwrap());
    let redact = Redact { find, with: b"password=$1***".to_vec(), hash: None };
    let mut out = Vec::new();
    assert_eq!(redact.apply(b"x password=secret y", &mut out, 1 << 10), Blotted::Yes);
    assert_eq!(out, b"x password=s*** y");
    let long = Redact { find: Find::ready("email", None).unwrap(), with: vec![b'-'; 50], hash: None };
    out.clear();
    assert_eq!(long.apply(b"a@b.de c@d.de", &mut out, 0), Blotted::Short);
    assert_eq!(out, b" ", "it becomes no longer than it was, and nothing is left of what was found");
}

proptest! {
    #[test]
    fn whatever_the_rules_every_event_is_left_filtered_or_skipped(
        lines in prop::collection::vec("[ab@.1:]{0,12}", 1..20),
        rules in prop::collection::vec(("[ab.]{1,2}", 0..5_u8), 1..5),
        skip in 0..120_u64,
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut batch = batch(&lines);
        let all = batch.to.offset - batch.base;
        let action = |kind| match kind {
            0 => Action::Drop,
            1 => Action::Keep,
            2 => Action::Sample(2, None),
            3 => redact("email", "x"),
            _ => redact("ipv6", "y"),
        };
        let rules = rules.iter().map(|(pattern, kind)| (message(pattern), action(*kind))).collect();
        // As a mark is: at the end of an event.
        let skip = batch.events.iter().map(|event| 1000 + u64::from(event.to)).take_while(|end| *end < 1000 + skip).last().unwrap_or(0);
        let sifted = engine(rules).unwrap().run(&mut batch, |_, _| began(skip)).unwrap_or_default();
        let left = batch.events.len() as u64;
        prop_assert_eq!(left + sifted.filtered.events + sifted.skipped.events, lines.len() as u64);
        let span = batch.events.last().map_or(0, |event| u64::from(event.to));
        prop_assert_eq!(span + sifted.filtered.bytes + sifted.skipped.bytes, all);
        prop_assert_eq!(sifted.by_rule.iter().map(|(_, count)| count.events).sum::<u64>(), sifted.filtered.events);
    }

    #[test]
    fn no_bytes_make_a_redaction_panic_or_grow_beyond_its_room(text in prop::collection::vec(any::<u8>(), 0..200), shape in "[0-9a-f:.@ -]{0,60}") {
        for text in [text.as_slice(), shape.as_bytes()] {
            for name in Find::READY {
                let redact = Redact { find: Find::ready(name, None).unwrap(), with: b"[redacted]".to_vec(), hash: None };
                let mut out = Vec::new();
                match redact.apply(text, &mut out, 40) {
                    Blotted::No => prop_assert!(out.is_empty()),
                    _ => prop_assert!(out.len() <= text.len().max(40)),
                }
            }
        }
    }
}

/// What is known of each event that is left: its text, fields, severity and time.
fn enriched(batch: &Batch) -> Vec<String> {
    let told = |(at, event): (usize, &Event)| {
        let extra = batch.extras.get(at).copied().unwrap_or_default();
        let [fields, error] = [extra.fields, extra.error].map(|span| String::from_utf8_lossy(batch.span(span)).into_owned());
        format!("{} {fields} {:?} {:?} {error}", String::from_utf8_lossy(batch.event_bytes(event)), extra.severity, extra.time)
    };
    batch.events.iter().enumerate().map(told).collect()
}

fn json() -> Action {
    Action::Parse(Form::Json { message: Some(b"msg".as_slice().into()) })
}

fn field(name: &str, test: Test) -> When {
    When::Field(name.as_bytes().into(), test)
}

#[test]
fn what_is_found_in_a_message_is_asked_changed_and_handed_on() {
    let level = || b"level".as_slice().into();
    let worse = |code: u8| When::Severity(u8::MAX >> (7 - code));
    let rules = vec![
        (message(r"^\{"), json()),
        (field("level", Test::Exists(true)), Action::Severity(Severity::Of(level()))),
        (field("level", Test::Exists(true)), Action::Remove(vec![level()])),
        (When::All(vec![field("http.status", Test::Number(vec![(Compare::Lt, 500.0)])), When::Not(Box::new(worse(4)))]), Action::Drop),
        (
            field("user", Test::Is(vec![b"ann".as_slice().into()])),
            Action::Rename(vec![(b"user".as_slice().into(), b"who".as_slice().into())]),
        ),
        (
            field("who", Test::Exists(true)),
            Action::Set(vec![(b"note".as_slice().into(), Template::read("{who}@{source}: {http.status}").unwrap())]),
        ),
        (When::All(vec![]), redact("email", "[email]")),
    ];
    let mut batch = batch(&[
        r#"{"msg":"fine","http":{"status":200},"level":"info"}"#,
        r#"{"msg":"bad","http":{"status":502},"level":"err","user":"ann"}"#,
        r#"{"msg":"to a@b.de","mail":["a@b.de"],"level":"loud"}"#,
        "{no json",
        "plain a@b.de",
    ]);
    let sifted = engine(rules).unwrap().run(&mut batch, |_, _| Began::default()).unwrap();
    assert_eq!(sifted.filtered.events, 1);
    assert_eq!(
        enriched(&batch),
        [
            r#"bad {"http":{"status":502},"who":"ann","note":"ann@web: 502"} Some(3) None "#,
            r#"to [email] {"mail":["[email]"]} None None "#,
            "{no json  None None rule rule-1 could not read it",
            "plain [email]  None None ",
        ]
    );
}

#[test]
fn a_severity_that_a_rule_gives_is_asked_by_the_next() {
    let rules = vec![(message("oops"), Action::Severity(Severity::Is(3))), (When::Not(Box::new(When::Severity(0b1111))), Action::Drop)];
    let mut batch = batch(&["oops", "fine"]);
    assert_eq!(engine(rules).unwrap().run(&mut batch, |_, _| Began::default()).unwrap().filtered.events, 1);
    assert_eq!(enriched(&batch), ["oops  Some(3) None "]);
}

#[test]
fn fields_that_do_not_fit_beside_the_message_are_left_out_and_counted() {
    let rules: Arc<[Rule]> = [Rule::new("big", When::All(vec![]), Action::Parse(Form::Json { message: None }))].into();
    let line = format!(r#"{{"a":"{}"}}"#, "x".repeat(9000));
    let mut batch = batch(&[&line]);
    Engine::new(&rules, ("web", "file"), TimeZone::UTC, ROOM).unwrap().run(&mut batch, |_, _| Began::default());
    assert_eq!(enriched(&batch), [format!("{line}  None None rule big found more than fits into a message")]);
    assert_eq!(rules[0].tally.done().errors, 1);
}

#[test]
fn a_rate_limit_lets_through_what_it_says_for_each_key() {
    let limit = Limit { events: 2, per_ns: 1_000_000_000 };
    let lines = ["{\"k\":1}", "{\"k\":2}", "{\"k\":1}", "{\"k\":1}", "{\"k\":2}", "{}", "{}", "{}"];
    let rules = vec![(When::All(vec![]), json()), (When::All(vec![]), Action::RateLimit(limit, Some(Template::read("{k}").unwrap())))];
    let mut batch = batch(&lines);
    assert_eq!(engine(rules).unwrap().run(&mut batch, |_, _| Began::default()).unwrap().filtered.events, 2);
    assert_eq!(texts(&batch).len(), 6);
}

#[test]
fn a_sample_by_a_field_keeps_or_leaves_out_all_of_a_value() {
    let lines: Vec<String> = (0..600).map(|number| format!("{{\"t\":{}}}", number % 100)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut batch = batch(&lines);
    engine(vec![(When::All(vec![]), json()), (When::All(vec![]), Action::Sample(4, Some(b"t".as_slice().into())))])
        .unwrap()
        .run(&mut batch, |_, _| Began::default());
    let left = texts(&batch);
    assert!(!left.is_empty() && left.len() < 600 && left.len().is_multiple_of(6), "{}", left.len());
}

fn lanes(engine: &Engine) -> Vec<u16> {
    engine.ways().iter().map(|(lane, _)| *lane).collect()
}

fn to(topic: &str, topics: &[&str]) -> Action {
    Action::Route(Route { topic: Template::read(topic).unwrap(), topics: topics.iter().map(|topic| Arc::from(*topic)).collect() })
}

#[test]
fn events_are_given_to_topics_and_each_lane_knows_what_it_had() {
    let rules = || {
        vec![
            (message("secret"), to("audit", &["audit"])),
            (message("app="), Action::Parse(Form::Logfmt { message: None })),
            (message("app="), to("app-{app}", &["app-web", "app-db"])),
            (message("noise"), Action::Drop),
        ]
    };
    let mut engine = self::engine(rules()).unwrap();
    let lines = ["plain", "secret", "noise secret", "app=web", "app=other", "app=db secret"];
    let mut batch = self::batch(&lines);
    let sifted = engine.run(&mut batch, |topics, number| {
        assert_eq!((topics, number != 0), (["t", "app-db", "app-web", "audit"].map(Arc::from).as_slice(), true));
        Began { settled: vec![0; 4], again_to: 0 }
    });
    let sifted = sifted.unwrap();
    assert_eq!(texts(&batch), ["plain", "secret", "app=web", "app=other", "app=db secret"]);
    assert_eq!(lanes(&engine), [0, 3, 2, 0, 1], "a later rule has the last word, and what is none of the list stays where it was going");
    assert_eq!((sifted.filtered, sifted.routed, batch.routed), (Count { events: 1, bytes: 13 }, engine.number(), engine.number()));
    let given: Vec<(u16, u64)> = engine.shares(&batch).iter().map(|share| (share.lane, share.count.bytes)).collect();
    assert_eq!(given, [(3, 7), (2, 8), (1, 14)]);
    // Read again: what a lane had settled is left out for this lane alone.
    let end = |line: usize| 1000 + lines[..=line].iter().map(|line| line.len() as u64 + 1).sum::<u64>();
    let (mut again, mut batch) = (self::engine(rules()).unwrap(), self::batch(&lines));
    assert_eq!(again.number(), engine.number(), "the same rules have the same number");
    let began = |_: &[Arc<str>], _| Began { settled: vec![end(0), 0, end(5), end(1)], again_to: 0 };
    let sifted = again.run(&mut batch, began).unwrap();
    assert_eq!((texts(&batch), lanes(&again)), (vec!["app=other".to_owned(), "app=db secret".into()], vec![0, 1]));
    assert_eq!((sifted.skipped, sifted.filtered), (Count { events: 3, bytes: 6 + 7 + 8 }, Count { events: 1, bytes: 13 }));
    assert_eq!(batch.count_from(0).bytes + 21 + 13, batch.to.offset - batch.base);
}

#[test]
fn what_other_rules_may_have_sent_is_sent_again_and_counted() {
    let mut batch = self::batch(&["aa", "bb", "cc"]);
    let began = |_: &[Arc<str>], _| Began { settled: vec![0, 0], again_to: 1006 };
    let mut engine = engine(vec![(message("b"), to("audit", &["audit"]))]).unwrap();
    let sifted = engine.run(&mut batch, began).unwrap();
    assert_eq!((texts(&batch).len(), sifted.again, lanes(&engine)), (3, Count { events: 2, bytes: 6 }, vec![0, 1, 0]));
}

#[test]
fn all_parts_of_an_event_go_where_its_first_does() {
    let mut engine = engine(vec![(message("^first"), to("audit", &["audit"]))]).unwrap();
    let mut lane = |text: &str, number, last| {
        let mut batch = self::batch(&[text]);
        batch.events[0] = batch.events[0].as_part(number, last);
        engine.run(&mut batch, |_, _| Began::default()).unwrap();
        lanes(&engine)
    };
    assert_eq!([lane("first", 1, false), lane("second", 2, false), lane("third", 3, true)], [[1], [1], [1]]);
    assert_eq!([lane("other", 1, false), lane("first", 2, true)], [[0], [0]]);
}

/// An entry of the journal as its source renders it.
pub(crate) fn entries(all: &[&str]) -> Batch {
    let batch = batch(all);
    let Stream { id, source, key, topic, .. } = &*batch.stream;
    let stream =
        Stream { id: *id, source: source.clone(), key: key.clone(), headers: vec![], origin: Origin::Finished, topic: topic.clone() };
    Batch { stream: Arc::new(stream), ..batch }
}

fn journal_engine(rules: Vec<(When, Action)>) -> Option<Engine> {
    let rules = rules.into_iter().enumerate().map(|(at, (when, action))| Rule::new(&format!("rule-{}", at + 1), when, action));
    Engine::new(&rules.collect(), ("web", "journald"), TimeZone::UTC, ROOM)
}

#[test]
fn entries_of_the_journal_are_asked_and_changed_as_json() {
    let unit = |name: &str| When::Unit(vec![crate::source::journald::filter::unit_pattern(name).unwrap()]);
    let entry = |message: &str, unit: &str, priority: u8| {
        format!(
            r#"{{"v":1,"timestamp":"2026-01-01T00:00:00Z","severity":"info","message":"{message}","unit":"{unit}","priority":{priority},"pid":7,"journal":{{"_CMDLINE":"to a@b.de","SYSLOG_FACILITY":"4"}}}}"#
        )
    };
    let rules = vec![
        (unit("cron"), Action::Drop),
        (When::Severity(1 << 7), Action::Drop),
        (When::Field((*b"journal.SYSLOG_FACILITY").into(), Test::Is(vec![(*b"5").into()])), Action::Drop),
        (When::All(vec![When::Facility(1 << 4), message("^say \"@")]), redact("email", "*")),
        (message("^level="), Action::Parse(Form::Logfmt { message: None })),
        (When::Field((*b"level").into(), Test::Exists(true)), Action::Severity(Severity::Of((*b"level").into()))),
        (unit("x*"), Action::Set(vec![((*b"who").into(), Template::read("{fields.unit}/{pid}/{journal._CMDLINE}").unwrap())])),
    ];
    let all = [
        entry("plain", "ssh.service", 6),
        entry("dropped", "cron.service", 6),
        entry("debug", "ssh.service", 7),
        entry(r#"say \"@ a@b.de"#, "ssh.service", 6),
        entry("level=error", "ssh.service", 6),
        entry("x", "x.timer", 6),
    ];
    let mut batch = entries(&all.each_ref().map(String::as_str));
    let start = batch.events[0].start;
    let sifted = journal_engine(rules).unwrap().run(&mut batch, |_, _| Began::default()).unwrap();
    assert_eq!(sifted.filtered.events, 2);
    let left = texts(&batch);
    assert_eq!((left[0].as_str(), batch.events[0].start), (all[0].as_str(), start), "what no rule touches stays where it is");
    assert_eq!(left[1], all[3].replace("a@b.de", "*"), "message and other fields");
    assert_eq!(left[2], all[4].replace(r#""severity":"info""#, r#""severity":"error""#).replace("}}", r#"},"fields":{"level":"error"}}"#));
    assert_eq!(left[3], all[5].replace("}}", r#"},"fields":{"who":"x.timer/7/to a@b.de"}}"#));
    assert!(batch.extras.is_empty());
}

#[test]
fn what_makes_an_entry_too_long_is_left_out_told_and_counted() {
    let long = format!(r#"{{"message":"{}","unit":"a","journal":{{}},"labels":{{}}}}"#, "x".repeat(800));
    let all: Vec<(When, Action)> =
        vec![(When::All(vec![]), Action::Set(vec![((*b"copy").into(), Template::read(&"{message}".repeat(50)).unwrap())]))];
    let rules: Arc<[Rule]> = all.into_iter().map(|(when, action)| Rule::new("copies", when, action)).collect();
    let mut engine = Engine::new(&rules, ("web", "journald"), TimeZone::UTC, ROOM).unwrap();
    let mut batch = entries(&[&long]);
    assert_eq!(engine.run(&mut batch, |_, _| Began::default()), None);
    assert_eq!(texts(&batch)[0], long.replace(r#","unit""#, r#","parse_error":"rule copies made more than fits into a message","unit""#));
    assert_eq!(rules[0].tally.done().errors, 1);
}

#[test]
fn in_raw_an_entry_is_its_message() {
    let rules: Arc<[Rule]> = [Rule::new("a", message("secret"), redact("email", "*"))].into();
    let mut engine = Engine::new(&rules, ("web", "journald"), TimeZone::UTC, Room { text: None, ..ROOM }).unwrap();
    let mut batch = entries(&["secret a@b.de", "a@b.de"]);
    engine.run(&mut batch, |_, _| Began::default());
    assert_eq!(texts(&batch), ["secret *", "a@b.de"]);
}

proptest! {
    #[test]
    fn whatever_an_entry_is_rules_leave_json_of_it(texts in prop::collection::vec(any::<String>(), 4), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let entry = format!(r#"{{"message":{},"message_base64":"AA==","unit":{},"journal":{{{}:{}}},"labels":{{}}}}"#, quoted(&texts[0]), quoted(&texts[1]), quoted(&texts[2]), quoted(&texts[3]));
        let rules = || vec![
            (When::All(vec![]), Action::Redact(Redact { find: Find::Regex(Regex::new("(?s).").unwrap()), with: b"\"".to_vec(), hash: None })),
            (When::All(vec![]), Action::Set(vec![((*b"f").into(), Template::read("{message}{unit|}").unwrap())])),
            (When::All(vec![]), Action::Severity(Severity::Is(3))),
        ];
        let mut batch = entries(&[&entry]);
        journal_engine(rules()).unwrap().run(&mut batch, |_, _| Began::default());
        let value: serde_json::Value = serde_json::from_slice(batch.event_bytes(&batch.events[0])).unwrap();
        let marks = "\"".repeat(texts[0].chars().count());
        prop_assert_eq!(&value["message"], &marks);
        prop_assert_eq!(&value["fields"]["f"], &format!("{marks}{}", texts[1]));
        prop_assert_eq!(&value["journal"][&texts[2]], &"\"".repeat(texts[3].chars().count()));
        prop_assert!(value.get("message_base64").is_none() || texts[0].is_empty());
        // What is no entry is no reason to stop.
        let mut other = entries(&[""]);
        other.bytes = bytes.clone();
        other.events[0] = Event::whole(0, u32::try_from(bytes.len()).unwrap(), 0, 1);
        journal_engine(rules()).unwrap().run(&mut other, |_, _| Began::default());
    }
}

#[test]
fn a_redaction_that_had_to_put_nothing_is_the_rule_s_error() {
    let rules: Arc<[Rule]> = [Rule::new("long", When::All(vec![]), redact("email", &"x".repeat(2000)))].into();
    let mut engine = Engine::new(&rules, ("web", "file"), TimeZone::UTC, ROOM).unwrap();
    let mut batch = batch(&["to a@b.de now", "plain"]);
    engine.run(&mut batch, |_, _| Began::default());
    assert_eq!(
        (texts(&batch), rules[0].tally.done().errors, rules[0].tally.done().changed),
        (vec!["to  now".to_owned(), "plain".into()], 1, 1)
    );
}

#[test]
fn what_a_limit_leaves_out_is_told_by_its_key() {
    let by = Some(Template::read("{fields.user}").unwrap());
    let rules = vec![
        (When::All(vec![]), Action::Parse(Form::Logfmt { message: None })),
        (When::All(vec![]), Action::RateLimit(Limit { events: 1, per_ns: 1 << 40 }, by)),
    ];
    let lines = ["user=ann", "user=ann", "user=bob", "user=ann", "user=bob", "none"];
    let mut batch = self::batch(&lines);
    let sifted = engine(rules).unwrap().run(&mut batch, |_, _| Began::default()).unwrap();
    assert_eq!(texts(&batch), ["user=ann", "user=bob", "none"]);
    let told: Vec<(&str, u64)> = sifted.limited.iter().map(|(place, count)| (&**place, count.events)).collect();
    assert_eq!(told, [("rule rule-2, ann", 2), ("rule rule-2, bob", 1)]);
    let many: Vec<String> = (0..100).flat_map(|number| [format!("user={number}"), format!("user={number}")]).collect();
    let rules = vec![
        (When::All(vec![]), Action::Parse(Form::Logfmt { message: None })),
        (When::All(vec![]), Action::RateLimit(Limit { events: 1, per_ns: 1 << 40 }, Some(Template::read("{fields.user}").unwrap()))),
    ];
    let sifted = engine(rules)
        .unwrap()
        .run(&mut self::batch(&many.iter().map(String::as_str).collect::<Vec<_>>()), |_, _| Began::default())
        .unwrap();
    assert_eq!((sifted.limited.len(), sifted.limited.iter().map(|(_, count)| count.events).sum::<u64>()), (33, 100));
    assert_eq!(sifted.limited.last().map(|(place, count)| (&**place, count.events)), Some(("rule rule-2, other keys", 68)));
}

#[test]
fn events_get_a_key_and_headers_and_what_has_one_key_keeps_its_order() {
    let template = |text: &str| Template::read(text).unwrap();
    let stamp = |key: Key| Arc::new(Stamp::new(key, vec![("level".into(), template("{fields.level}"))]).unwrap());
    let parse = || vec![(message("="), Action::Parse(Form::Logfmt { message: None })), (message("gone"), Action::Drop)];
    let lines = ["user=a level=x", "user=b level=x", "user=a level=x", "user=a level=y", "user=gone", "plain", "user=b level=x"];
    let of = |key: Key| {
        let stamp = stamp(key);
        let mut engine = engine(parse()).unwrap().with_stamp(Arc::clone(&stamp));
        let mut batch = self::batch(&lines);
        let sifted = engine.run(&mut batch, |_, _| Began::default()).unwrap();
        let shares = engine.shares(&batch);
        let sum: Count = shares.iter().map(|share| share.count).chain([sifted.filtered]).sum();
        assert_eq!(sum.bytes, batch.to.offset - batch.base);
        assert_eq!((stamp.tally.done().matched, stamp.tally.done().errors), (6, 1));
        let shown = shares.iter().map(|share| {
            let class = engine.class(share.class);
            let level = class.headers.first().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
            (class.key.map(|key| String::from_utf8_lossy(&key).into_owned()), level, share.events.clone())
        });
        shown.collect::<Vec<_>>()
    };
    let key = |text: &str| Some(text.to_owned());
    let by_user = of(Key::Of(template("{user}")));
    let x = || "x".to_owned();
    assert_eq!(
        by_user,
        [(key("a"), x(), vec![0, 2]), (key("b"), x(), vec![1, 5]), (key("a"), "y".into(), vec![3]), (None, String::new(), vec![4])]
    );
    let by_stream = of(Key::Stream);
    assert_eq!(by_stream, [(None, x(), vec![0, 1, 2]), (None, "y".into(), vec![3]), (None, String::new(), vec![4]), (None, x(), vec![5])]);
    assert_eq!(of(Key::None).first(), Some(&(key(""), x(), vec![0, 1, 2])));
}
