//! Taps over batches that go through real rules.

use super::*;
use crate::encode::Room;
use crate::rules::engine::Engine;
use crate::rules::redact::{Find, Redact};
use crate::rules::tests::{batch as file_batch, entries};
use crate::rules::when::When;
use crate::settlement::Began;
use jiff::tz::TimeZone;
use regex::bytes::Regex;

fn engine() -> Engine {
    let email = Redact { find: Find::Email, with: b"[email]".to_vec(), hash: None };
    let of = |pattern: &str| When::Message(vec![Regex::new(pattern).unwrap()]);
    let rules = [
        Rule::new("noise", of("drop"), Action::Drop),
        Rule::new("emails", of("@"), Action::Redact(email)),
        Rule::new("keep", of("keep"), Action::Keep),
    ];
    Engine::new(&rules.into(), ("web", "file"), TimeZone::UTC, Room { message: 1 << 10, text: None, whole: 1 << 15 }).unwrap()
}

/// Takes a batch through the rules while somebody looks.
fn go(engine: &mut Engine, mut look: Look, batch: &mut Batch) {
    engine.trace(Some(look.trace()));
    engine.run(batch, |_, _| Began::default());
    look.judged(batch, Some(engine));
    look.sent(Some(batch), |_| None);
}

#[test]
fn nothing_is_looked_at_while_nobody_looks() {
    let (taps, source) = (Taps::default(), Arc::from("web"));
    let tap = taps.of(&source);
    assert!(tap.look(&file_batch(&["a"])).is_none());
    let tapping = taps.open(&source, 10).unwrap();
    assert!(taps.open(&source, 10).unwrap_err().contains("already"));
    assert!(tap.look(&file_batch(&["a"])).is_some());
    drop(tapping);
    assert!(tap.look(&file_batch(&["a"])).is_none());
    assert_eq!(taps.open.load(Ordering::Relaxed), 0, "the refused one has given its place back as well");
    let open: Vec<_> = (0..TAPS).map(|number| taps.open(&number.to_string().into(), 1).unwrap()).collect();
    assert!(taps.open(&source, 1).unwrap_err().contains("taps are open already"));
    drop(open);
    assert!(taps.open(&source, 1).is_ok());
}

#[test]
fn what_is_sent_is_shown_with_its_topic_and_what_is_left_out_after_redaction() {
    let (taps, source) = (Taps::default(), Arc::from("web"));
    let tapping = taps.open(&source, 10).unwrap();
    let mut batch = file_batch(&["first", "drop ann@example.org", "keep bob@example.org", "drop this"]);
    let mut engine = engine();
    let look = taps.of(&source).look(&batch).unwrap();
    go(&mut engine, look, &mut batch);
    let Flow { events, skipped } = tapping.next(Duration::ZERO);
    let told: Vec<_> = events.iter().map(|seen| (seen.topic.as_deref(), seen.rule.as_deref(), seen.text.as_str())).collect();
    let sent = Some("t");
    assert_eq!(told[..2], [(sent, None, "first"), (None, Some("noise"), "drop [email]")]);
    assert_eq!(told[2..], [(sent, Some("keep"), "keep [email]"), (None, Some("noise"), "drop this")]);
    assert_eq!(events[2].rules, [Touch { rule: "emails".into(), changed: true, failed: false }]);
    let ends: Vec<u64> = events.iter().map(|seen| seen.offset).collect();
    assert_eq!((ends, skipped), (vec![1006, 1027, 1048, 1058], 0));
    assert!(engine.traced().is_none(), "of the next batch nothing is remembered");
}

#[test]
fn of_every_so_manieth_event_the_right_fate_is_told() {
    let (taps, source) = (Taps::default(), Arc::from("web"));
    let tapping = taps.open(&source, 4).unwrap();
    let lines: Vec<String> = (0..12).map(|number| format!("{} {number}", if number % 2 == 0 { "drop" } else { "keep" })).collect();
    let mut batch = file_batch(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let mut engine = engine();
    let look = taps.of(&source).look(&batch).unwrap();
    go(&mut engine, look, &mut batch);
    let flow = tapping.next(Duration::ZERO);
    let told: Vec<_> = flow.events.iter().map(|seen| (seen.rule.as_deref(), seen.text.as_str(), seen.rules.len())).collect();
    assert_eq!(
        told,
        [(Some("noise"), "drop 0", 0), (Some("keep"), "keep 3", 0), (Some("noise"), "drop 6", 0), (Some("keep"), "keep 9", 0)]
    );
    assert_eq!(flow.skipped, 8);
}

#[test]
fn only_so_many_a_second_are_shown_and_the_others_counted() {
    let (taps, source) = (Taps::default(), Arc::from("web"));
    let tapping = taps.open(&source, 10).unwrap();
    let tap = taps.of(&source);
    let lines: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let batch = file_batch(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let now = Instant::now();
    let look = tap.begin(&batch, now).unwrap();
    assert_eq!((look.events.len(), look.every), (10, 100), "spread over the batch");
    assert!(tap.begin(&batch, now).is_none(), "the second is used up");
    let mut look = tap.begin(&batch, now + Duration::from_secs(60)).unwrap();
    assert_eq!(look.events.len(), 10, "nothing is saved up");
    look.judged(&batch, None);
    look.sent(Some(&batch), |_| None);
    let flow = tapping.next(Duration::ZERO);
    let texts: Vec<&str> = flow.events.iter().map(|seen| seen.text.as_str()).collect();
    assert_eq!(texts, ["0", "100", "200", "300", "400", "500", "600", "700", "800", "900"]);
    assert_eq!(flow.skipped, 990 + 1000 + 990);
}

#[test]
fn who_does_not_take_them_holds_nothing_up() {
    let (taps, source) = (Taps::default(), Arc::from("web"));
    let tapping = taps.open(&source, MOST).unwrap();
    let lines = vec!["x"; 900];
    let batch = file_batch(&lines);
    let mut look = taps.of(&source).look(&batch).unwrap();
    look.judged(&batch, None);
    look.sent(Some(&batch), |_| None);
    let flow = tapping.next(Duration::ZERO);
    assert_eq!((flow.events.len(), flow.skipped), (WAITING, 900 - WAITING as u64));
}

#[test]
fn of_an_entry_that_is_left_out_its_texts_are_redacted_not_how_they_are_escaped() {
    let redact =
        |pattern: &str| Action::Redact(Redact { find: Find::Regex(Regex::new(pattern).unwrap()), with: b"*".to_vec(), hash: None });
    let all = || When::All(Vec::new());
    let noise = When::Message(vec![Regex::new("noise").unwrap()]);
    let rules: Arc<[Rule]> = [
        Rule::new("noise", noise, Action::Drop),
        Rule::new("passwords", all(), redact(r#"password="[^"]*""#)),
        Rule::new("keys", all(), redact(r"key\n[a-z]*")),
    ]
    .into();
    let shown = |lines: &[&str], text: Option<usize>| {
        let (taps, source) = (Taps::default(), Arc::from("web"));
        let tapping = taps.open(&source, 10).unwrap();
        let room = Room { message: 1 << 10, text, whole: 1 << 20 };
        let mut engine = Engine::new(&rules, ("web", "journald"), TimeZone::UTC, room).unwrap();
        let mut batch = entries(lines);
        let look = taps.of(&source).look(&batch).unwrap();
        go(&mut engine, look, &mut batch);
        tapping.next(Duration::ZERO).events.into_iter().map(|seen| (seen.text, seen.bytes)).collect::<Vec<_>>()
    };
    let json = [
        r#"{"message":"noise password=\"hunter2\"","message_base64":"aHVudGVyMg==","pid":7,"journal":{"_CMDLINE":"password=\"hunter2\" x"}}"#,
        r#"{"message":"noise key\nabc","journal":{}}"#,
        r#"{"message":"noise","message_base64":"AA==","journal":{}}"#,
    ];
    let long = format!(r#"{{"message":"noise","journal":{{"A":"{}"}}}}"#, "a".repeat(REDACTED));
    let told = shown(&[json[0], json[1], json[2], &long], Some(1 << 14));
    let texts: Vec<&str> = told.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts[..2], [r#"{"message":"noise *","pid":7,"journal":{"_CMDLINE":"* x"}}"#, r#"{"message":"noise *","journal":{}}"#]);
    assert_eq!(texts[2..], [json[2], ""], "what is too long to be redacted as a whole is not shown");
    assert_eq!(told[3].1, long.len() as u64);
    // In raw what comes is the message, whatever it looks like.
    let told = shown(&[r#"{"noise": password="hunter2"}"#], None);
    assert_eq!(told, [(r#"{"noise": *}"#.to_owned(), 29)]);
}
