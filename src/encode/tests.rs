//! What the encoder promises, against `serde_json` and docs/schema.json.

mod formats;
mod syslog;

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::batch::{Extra, Origin, Position, Stream, StreamId};
use crate::budget::Budget;
use crate::ledger::Count;

const OBSERVED_NS: i64 = 1_700_000_000_123_456_789;
const OBSERVED: &str = "2023-11-14T22:13:20.123456Z";
/// All keys of the schema, in its order.
const ALL_KEYS: &str = "v timestamp observed_timestamp host source type event_id severity message message_base64 part last partial parse_error of \
    reason path offset hostname peer transport facility app procid msgid structured_data unit identifier priority pid uid boot_id cursor seqnum journal \
    place stream from to events bytes unknown at_least at_most first_time last_time number fields labels";
/// Those that an event of a file can have.
const KEYS: [&str; 15] = [
    "v",
    "timestamp",
    "observed_timestamp",
    "host",
    "source",
    "type",
    "event_id",
    "message",
    "message_base64",
    "part",
    "last",
    "partial",
    "path",
    "offset",
    "labels",
];

fn settings(format: Format, max_event: usize, labels: &[(String, String)]) -> Settings {
    Settings { format, max_event, host: "web-01".into(), labels: labels.to_vec(), zone: jiff::tz::TimeZone::UTC }
}

fn stream(source: &str, path: &[u8]) -> Arc<Stream> {
    Arc::new(Stream {
        id: StreamId(0xfeed),
        source: source.into(),
        key: b"key".as_slice().into(),
        headers: vec![],
        origin: Origin::File(path.into()),
        topic: "logs".into(),
    })
}

/// A line or a part of one, as it is to arrive.
#[derive(Clone, Debug)]
struct Line {
    bytes: Vec<u8>,
    part: Option<(u32, bool)>,
    partial: bool,
    start: u64,
}

/// A batch of these, each ended by one byte that belongs to none.
fn batch(stream: Arc<Stream>, base: u64, lines: &[Line]) -> Batch {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    for line in lines {
        let start = u32::try_from(bytes.len()).unwrap();
        let len = u32::try_from(line.bytes.len()).unwrap();
        bytes.extend_from_slice(&line.bytes);
        bytes.push(b'\n');
        let mut event = Event::whole(start, len, start, start + len + 1);
        if let Some((number, last)) = line.part {
            event = event.as_part(number, last);
        }
        events.push(if line.partial { event.as_partial() } else { event });
    }
    let line_start = lines.first().map_or(base, |line| line.start);
    let charge = Budget::new(usize::MAX / 2).charge(charge_for(bytes.capacity(), events.len()));
    Batch {
        stream,
        bytes,
        events,
        base,
        line_start,
        to: Position::START,
        observed_ns: OBSERVED_NS,
        ticket: 7,
        part: 0,
        since: Instant::now(),
        before: Count::default(),
        copy: None,
        extras: Vec::new(),
        part_headers: false,
        routed: 0,
        charge,
    }
}

fn whole(bytes: &[u8]) -> Line {
    Line { bytes: bytes.to_vec(), part: None, partial: false, start: 0 }
}

fn messages(encoder: &mut Encoder, batch: Batch) -> Vec<Vec<u8>> {
    let (batch, _) = encoder.encode(batch, Vec::new());
    batch.events.iter().map(|event| batch.event_bytes(event).to_vec()).collect()
}

/// Whether the keys of a message come in the order of the schema.
pub(crate) fn in_order(message: &[u8]) -> bool {
    let mut order = ALL_KEYS.split_whitespace();
    keys(message).iter().all(|key| order.any(|known| known == key))
}

/// The keys of an object in the order in which they are written.
fn keys(message: &[u8]) -> Vec<String> {
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Keys, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Keys;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            from.deserialize_map(Visitor)
        }
    }
    serde_json::from_slice::<Keys>(message).unwrap().0
}

/// Checks a message against docs/schema.json, as far as that file uses the language, and that the formats made from it say the same.
pub(crate) fn conforms(message: &[u8]) {
    formats::says_the_same(message);
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema.json")).unwrap();
    let known = schema["properties"].as_object().unwrap();
    let object: Map<String, Value> = serde_json::from_slice(message).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let kinds = schema["allOf"].as_array().unwrap().iter();
    let mut kind = kinds.filter(|kind| kind["if"]["properties"]["type"]["const"] == object["type"]).map(|kind| &kind["then"]);
    for required in [&schema["required"], &kind.next().expect("a type that the schema knows")["required"]] {
        for key in required.as_array().unwrap() {
            assert!(object.contains_key(key.as_str().unwrap()), "{key} is missing");
        }
    }
    for (key, value) in &object {
        let rule = known.get(key).unwrap_or_else(|| panic!("{key} is not in the schema")).as_object().unwrap();
        let is = match rule["type"].as_str().unwrap() {
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "boolean" => value.is_boolean(),
            "object" if key == "labels" => value.as_object().is_some_and(|all| all.values().all(Value::is_string)),
            "object" => value.is_object(),
            other => panic!("the checker does not know {other}"),
        };
        assert!(is, "{key}: {value}");
        assert!(rule.get("const").is_none_or(|only| only == value), "{key}: {value}");
        assert!(rule.get("enum").is_none_or(|some| some.as_array().unwrap().contains(value)), "{key}: {value}");
        if let Some(pattern) = rule.get("pattern") {
            let pattern = regex::Regex::new(pattern.as_str().unwrap()).unwrap();
            assert!(pattern.is_match(value.as_str().unwrap()), "{key}: {value}");
        }
        if let Some(least) = rule.get("minimum") {
            assert!(value.as_u64() >= least.as_u64(), "{key}: {value}");
        }
        if let Some(others) = schema["dependentRequired"].get(key) {
            assert!(others.as_array().unwrap().iter().all(|other| object.contains_key(other.as_str().unwrap())), "{key} alone");
        }
    }
}

#[test]
fn the_schema_names_the_keys_in_the_order_in_which_they_are_written() {
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema.json")).unwrap();
    let all: Vec<&str> = ALL_KEYS.split_whitespace().collect();
    assert_eq!(schema["properties"].as_object().unwrap().len(), all.len());
    let text = include_str!("../../docs/schema.json");
    let places: Vec<_> = all.iter().map(|key| text.find(&format!("\n    \"{key}\": {{")).unwrap()).collect();
    assert!(places.is_sorted());
    let line = Line { part: Some((1, true)), partial: true, ..whole(b"\xff") };
    let labels = [("env".to_owned(), "prod".to_owned())];
    let mut encoder = Encoder::new(&settings(Format::Json, 900 << 10, &labels));
    assert_eq!(keys(&messages(&mut encoder, batch(stream("app", b"/log"), 0, &[line]))[0]), KEYS);
}

#[test]
fn a_plain_line_looks_like_this() {
    let mut encoder = Encoder::new(&settings(Format::Json, 900 << 10, &[]));
    let line = Line { start: 42, ..whole(b"say \"hi\"\t\x1b[0m") };
    let message = messages(&mut encoder, batch(stream("app", b"/var/log/app.log"), 42, &[line])).remove(0);
    let expected = concat!(
        r#"{"v":1,"timestamp":"2023-11-14T22:13:20.123456Z","observed_timestamp":"2023-11-14T22:13:20.123456Z","host":"web-01","#,
        r#""source":"app","type":"file","event_id":"000000000000feed:42","message":"say \"hi\"\t\u001b[0m","path":"/var/log/app.log","offset":42}"#
    );
    assert_eq!(String::from_utf8(message).unwrap(), expected);
}

#[test]
fn raw_copies_nothing_and_hands_the_arena_back() {
    let mut encoder = Encoder::new(&settings(Format::Raw, 900 << 10, &[]));
    let before = batch(stream("app", b"/log"), 0, &[whole(b"one"), whole(b"two")]);
    let (place, events, charge) = (before.bytes.as_ptr(), before.events.clone(), before.charge.bytes());
    let (after, spare) = encoder.encode(before, Vec::with_capacity(100));
    assert_eq!((after.bytes.as_ptr(), &after.events, after.charge.bytes()), (place, &events, charge));
    assert!(spare.is_some_and(|spare| spare.capacity() >= 100));
}

#[test]
fn json_is_charged_for_what_it_takes_and_frees_the_block_it_read() {
    let mut encoder = Encoder::new(&settings(Format::Json, 900 << 10, &[]));
    let before = batch(stream("app", b"/log"), 0, &[whole(b"one"), whole(b"two")]);
    let block = before.bytes.as_ptr();
    let (after, spare) = encoder.encode(before, Vec::new());
    assert_eq!(after.charge.bytes(), charge_for(after.bytes.capacity(), 2));
    assert!(spare.is_some_and(|spare| spare.as_ptr() == block));
    let (after, spare) = encoder.encode(batch(stream("app", b"/log"), 0, &[whole(b"one")]), Vec::with_capacity(1 << 20));
    assert!(after.bytes.capacity() < 1 << 12, "a few lines must not pin a large block");
    assert!(spare.unwrap().capacity() >= 1 << 20);
}

#[test]
fn a_span_that_cuts_a_character_is_not_text_though_its_block_is() {
    let mut encoder = Encoder::new(&settings(Format::Json, 900 << 10, &[]));
    let mut torn = batch(stream("app", b"/log"), 0, &[whole("aé".as_bytes())]);
    torn.events[0] = Event::whole(0, 2, 0, 3);
    let value: Value = serde_json::from_slice(&messages(&mut encoder, torn)[0]).unwrap();
    assert_eq!((&value["message"], &value["message_base64"]), (&"a\u{FFFD}".into(), &STANDARD.encode(b"a\xc3").into()));
}

#[test]
fn parts_of_raw_bear_the_id_their_number_and_whether_they_are_last() {
    let event = Event::whole(0, 1, 0, 1).as_part(3, true);
    let headers = raw::part_headers(StreamId(0xfeed), 42, &event).unwrap();
    let expected = [("logferry-id", "000000000000feed:42:3"), ("logferry-part", "3"), ("logferry-last", "true")];
    assert_eq!(headers.each_ref().map(|(name, value)| (*name, value.as_str())), expected);
    assert_eq!(raw::part_headers(StreamId(0xfeed), 42, &Event::whole(0, 1, 0, 1)), None);
}

/// Bytes with all that is awkward in them.
fn awkward() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        2 => "\\PC{0,8}".prop_map(String::into_bytes),
        1 => prop::collection::vec(0_u8..0x20, 1..6),
        1 => prop::sample::select(vec!["\"", "\\", "\u{7f}", "\u{80}", "é", "😀", "\u{FFFD}", "\u{2028}"]).prop_map(|s| s.as_bytes().to_vec()),
    ];
    let broken = prop_oneof![6 => piece, 1 => prop::collection::vec(any::<u8>(), 1..12)];
    prop::collection::vec(broken, 0..8).prop_map(|pieces| pieces.concat())
}

fn lines(base: u64) -> impl Strategy<Value = Vec<Line>> {
    let kinds = (awkward(), 0..4_u8, any::<bool>(), any::<bool>());
    (prop::collection::vec(kinds, 1..12), 0..1000_u64, 1..1000_u32).prop_map(move |(kinds, before, parts)| {
        let (mut lines, mut offset, mut open) = (Vec::new(), base, (base - before.min(base), parts));
        for (i, (bytes, kind, last, partial)) in kinds.into_iter().enumerate() {
            let (start, part) = match kind {
                0 | 1 => (offset, None),
                2 => (offset, Some((1, last))),
                _ if i > 0 && open.1 == 0 => (offset, None),
                _ => (open.0, Some((open.1 + 1, last))),
            };
            open = (start, part.map_or(0, |(number, _)| number));
            offset += bytes.len() as u64 + 1;
            lines.push(Line { bytes, part, partial, start });
        }
        lines
    })
}

proptest! {
    #[test]
    fn every_message_reads_back_as_what_went_in(
        (base, lines) in (0..u64::MAX >> 1).prop_flat_map(|base| (Just(base), lines(base))),
        labels in prop::collection::btree_map(".{0,6}", ".{0,6}", 0..3),
        source in ".{1,8}",
        path in awkward(),
    ) {
        let labels: Vec<_> = labels.into_iter().collect();
        let mut encoder = Encoder::new(&settings(Format::Json, 900 << 10, &labels));
        let sent = messages(&mut encoder, batch(stream(&source, &path), base, &lines));
        prop_assert_eq!(sent.len(), lines.len());
        for (message, line) in sent.iter().zip(&lines) {
            conforms(message);
            prop_assert!(in_order(message), "order");
            let value: Value = serde_json::from_slice(message).unwrap();
            let part = line.part.map_or(String::new(), |(number, _)| format!(":{number}"));
            prop_assert_eq!(&value["timestamp"], OBSERVED);
            prop_assert_eq!(&value["observed_timestamp"], OBSERVED);
            prop_assert_eq!(&value["source"], &source);
            prop_assert_eq!(&value["event_id"], &format!("000000000000feed:{}{part}", line.start));
            prop_assert_eq!(&value["message"], &String::from_utf8_lossy(&line.bytes).into_owned());
            let exact = value.get("message_base64").map(|text| STANDARD.decode(text.as_str().unwrap()).unwrap());
            prop_assert_eq!(exact, std::str::from_utf8(&line.bytes).is_err().then(|| line.bytes.clone()));
            prop_assert_eq!(value.get("part").and_then(Value::as_u64), line.part.map(|(number, _)| number.into()));
            prop_assert_eq!(value.get("last").and_then(Value::as_bool), line.part.map(|(_, last)| last));
            prop_assert_eq!(value.get("partial").is_some(), line.partial);
            prop_assert_eq!(&value["path"], &String::from_utf8_lossy(&path).into_owned());
            prop_assert_eq!(value["offset"].as_u64(), Some(line.start));
            let labelled = (!labels.is_empty()).then(|| Value::Object(labels.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect()));
            prop_assert_eq!(value.get("labels"), labelled.as_ref());
        }
    }

    #[test]
    fn what_fits_is_never_too_long_and_one_character_more_might_be(
        bytes in prop::collection::vec(awkward(), 0..6).prop_map(|pieces| pieces.concat()),
        max_event in 800..1600_usize,
    ) {
        let mut encoder = Encoder::new(&settings(Format::Json, max_event, &[("a".to_owned(), "b".to_owned())]));
        let room = max_event - max_event / 2 - envelope();
        let fits = encoder.fits(&bytes);
        prop_assert!(fits <= bytes.len() && (fits > 0 || bytes.is_empty()));
        prop_assert!(is_boundary(&bytes, fits));
        prop_assert!(text_len(&bytes[..fits]) <= room);
        let more = (fits + 1..=bytes.len()).find(|at| is_boundary(&bytes, *at));
        prop_assert!(more.is_none_or(|more| text_len(&bytes[..more]) > room), "{more:?} would fit as well");
        let line = Line { part: Some((1 << 29, false)), partial: true, start: u64::MAX >> 1, ..whole(&bytes[..fits]) };
        let path = "p".repeat(max_event / 2 - 3);
        let sent = messages(&mut encoder, batch(stream("app", path.as_bytes()), u64::MAX >> 1, &[line]));
        prop_assert!(sent[0].len() <= max_event, "{} > {max_event}", sent[0].len());
    }

    #[test]
    fn raw_is_cut_between_characters(bytes in awkward(), max_event in 1..64_usize) {
        let fits = Encoder::new(&settings(Format::Raw, max_event, &[])).fits(&bytes);
        prop_assert!(fits > 0 || bytes.is_empty());
        prop_assert!(fits <= max_event.max(4) && fits <= bytes.len());
        prop_assert!(fits == bytes.len() || fits + 4 > max_event, "cut too early");
        if let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert!(text.is_char_boundary(fits));
        }
    }
}

/// The widest envelope around an empty text, with the label a = b, no source and no path.
fn envelope() -> usize {
    let value = serde_json::json!({
        "v": 1, "timestamp": OBSERVED, "observed_timestamp": OBSERVED, "host": "web-01", "source": "", "type": "file",
        "event_id": format!("000000000000feed:{}:{}", u64::MAX, u32::MAX), "message": "", "message_base64": "", "part": u32::MAX, "last": false,
        "partial": true, "path": "", "offset": u64::MAX, "labels": { "a": "b" },
    });
    value.to_string().len()
}

/// What these bytes take beside the envelope, by other means than the encoder's.
fn text_len(bytes: &[u8]) -> usize {
    let text = serde_json::to_string(&String::from_utf8_lossy(bytes)).unwrap().len() - 2;
    text + if std::str::from_utf8(bytes).is_ok() { 0 } else { STANDARD.encode(bytes).len() }
}

/// Whether a cut here leaves every character, and every run that is none, whole.
fn is_boundary(bytes: &[u8], at: usize) -> bool {
    let mut ends = vec![0];
    for chunk in bytes.utf8_chunks() {
        let begin = ends[ends.len() - 1];
        ends.extend(chunk.valid().char_indices().map(|(i, c)| begin + i + c.len_utf8()));
        if !chunk.invalid().is_empty() {
            ends.push(ends[ends.len() - 1] + chunk.invalid().len());
        }
    }
    ends.contains(&at)
}

#[test]
fn what_rules_have_found_is_in_the_message_in_every_format() {
    let fields = br#"{"http":{"status":500},"user":"a \"b\"","list":[1,true,null]}"#;
    let error = b"rule \"x\" could not read it";
    for format in [Format::Json, Format::Ecs, Format::Otlp] {
        let mut encoder = Encoder::new(&settings(format, 900 << 10, &[("env".into(), "prod".into())]));
        let mut made = batch(stream("app", b"/l"), 100, &[whole(b"first"), whole(b"second"), whole(b"third")]);
        let at = u32::try_from(made.bytes.len()).unwrap();
        made.bytes.extend_from_slice(fields);
        made.bytes.extend_from_slice(error);
        let len = u32::try_from(fields.len()).unwrap();
        let found = Extra { fields: (at, len), time: Some(1_795_773_600_500_000_000), severity: Some(3), ..Extra::default() };
        let failed = Extra { error: (at + len, u32::try_from(error.len()).unwrap()), ..Extra::default() };
        made.extras = vec![found, failed, Extra::default()];
        let made = messages(&mut encoder, made);
        if format != Format::Json {
            assert!(made.iter().all(|message| !message.is_empty()));
            continue;
        }
        for message in &made {
            conforms(message);
        }
        assert!(made.iter().all(|message| in_order(message)));
        let first: Value = serde_json::from_slice(&made[0]).unwrap();
        assert_eq!(first["fields"], serde_json::from_slice::<Value>(fields).unwrap());
        assert_eq!((&first["timestamp"], &first["severity"]), (&"2026-11-27T10:00:00.500000000Z".into(), &"error".into()));
        assert_eq!(first["observed_timestamp"], OBSERVED);
        let second: Value = serde_json::from_slice(&made[1]).unwrap();
        assert_eq!((&second["parse_error"], &second["timestamp"]), (&"rule \"x\" could not read it".into(), &OBSERVED.into()));
        let third: Value = serde_json::from_slice(&made[2]).unwrap();
        assert!(third.get("fields").is_none() && third.get("parse_error").is_none() && third.get("severity").is_none());
    }
}

/// Not a promise, a figure: `cargo test --release encode_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn encode_speed() {
    let texts = [
        ("plain", "x".repeat(177)),
        ("nginx", format!("{:177}", r#"10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET /index.html HTTP/1.1" 200 612 "-" "Mozilla/5.0""#)),
        ("latin-1", "x".repeat(177)),
    ];
    for (name, text) in texts {
        let mut line = whole(text.as_bytes());
        if name == "latin-1" {
            line.bytes[80] = 0xe9;
        }
        let lines = vec![line; 5900];
        for format in [Format::Json, Format::Raw] {
            let mut encoder = Encoder::new(&settings(format, 900 << 10, &[("env".into(), "prod".into())]));
            let (mut arena, mut best) = (Vec::new(), f64::MAX);
            for _ in 0..60 {
                let batch = batch(stream("app", b"/var/log/app/access.log"), 1 << 32, &lines);
                let began = Instant::now();
                let (batch, _) = encoder.encode(batch, std::mem::take(&mut arena));
                best = best.min(began.elapsed().as_secs_f64() * 1e6 / 5900.0);
                arena = batch.bytes;
            }
            println!("{name} {format:?}: {best:.4} us/line");
        }
    }
}
