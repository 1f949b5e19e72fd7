//! Syslog messages as JSON: by the schema whatever they are, and with nothing of them lost.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{OBSERVED_NS, Settings, batch, conforms, in_order, messages, settings, stream};
use crate::batch::{Batch, Event, Origin, Stream};
use crate::encode::{Encoder, Format};
use crate::source::syslog::arrival::format::{Block, messages as in_block, write_block};
use crate::source::syslog::intake::{Frame, Frames, Transport};

/// A batch as the reader makes it: the blocks of a log, and where the messages are in them.
fn arrivals(texts: &[&[u8]]) -> Batch {
    let mut bytes = Vec::new();
    let all = texts.concat();
    let mut start = 0;
    let frames: Vec<Frame> = texts
        .iter()
        .map(|text| {
            let len = u32::try_from(text.len()).unwrap();
            start += len;
            Frame { start: start - len, len, part: 0, last: true, partial: false }
        })
        .collect();
    let (transport, peer) = (Transport::Tcp, "192.0.2.7:5140");
    let frames = Frames { transport, peer, peer_key: "192.0.2.7", received_ns: OBSERVED_NS, bytes: &all, frames: &frames };
    write_block(&mut bytes, &frames, |_, at| Some(at));
    let block = Block::parse(&bytes).unwrap();
    let (first, mut from) = (block.messages_at(), 0);
    let events: Vec<Event> = in_block(block.messages)
        .map(|message| {
            let at = |at: usize| u32::try_from(at).unwrap();
            let end = first + message.start + message.len;
            let event = Event::whole(at(first + message.start), at(message.len), from, at(end));
            from = at(end);
            event
        })
        .collect();
    let file = stream("net", b"");
    let origin = Origin::Arrivals { peer: peer.into(), transport };
    let stream =
        Stream { id: file.id, source: file.source.clone(), key: file.key.clone(), headers: vec![], origin, topic: file.topic.clone() };
    let mut made = batch(stream.into(), 100, &[]);
    (made.bytes, made.events) = (bytes, events);
    made
}

fn json_of(settings: &Settings, texts: &[&[u8]]) -> Vec<Value> {
    let mut encoder = Encoder::new(settings);
    let made = messages(&mut encoder, arrivals(texts));
    made.iter()
        .map(|message| {
            conforms(message);
            assert!(in_order(message), "{}", String::from_utf8_lossy(message));
            serde_json::from_slice(message).unwrap()
        })
        .collect()
}

#[test]
fn a_message_of_rfc_5424_looks_like_this() {
    let labels = [("env".to_owned(), "prod".to_owned())];
    let mut encoder = Encoder::new(&settings(Format::Json, 900 << 10, &labels));
    let text = br#"<165>1 2026-03-05T10:00:00.25+02:00 web-7 app 42 ID1 [a@1 k="v\]\"" k="w" l=""][b] "quoted""#;
    let message = messages(&mut encoder, arrivals(&[text])).remove(0);
    let expected = concat!(
        r#"{"v":1,"timestamp":"2026-03-05T08:00:00.25Z","observed_timestamp":"2023-11-14T22:13:20.123456Z","host":"web-01","source":"net","type":"syslog","#,
        r#""event_id":"000000000000feed:100","severity":"notice","message":"\"quoted\"","hostname":"web-7","peer":"192.0.2.7:5140","transport":"tcp","#,
        r#""facility":"local4","app":"app","procid":"42","msgid":"ID1","structured_data":{"a@1":{"k":["v]\"","w"],"l":""},"b":{}},"labels":{"env":"prod"}}"#
    );
    assert_eq!(String::from_utf8(message).unwrap(), expected);
}

#[test]
fn what_structured_data_has_several_times_becomes_a_list_however_much_it_is() {
    let settings = settings(Format::Json, 900 << 10, &[]);
    for (elements, params, names) in [(3, 5, 2), (40, 40, 7), (17, 16, 16), (2, 500, 3)] {
        let mut data = String::new();
        let mut expected = serde_json::Map::new();
        for element in 0..elements {
            let mut object = serde_json::Map::new();
            write!(data, "[id{}", element % 19).unwrap();
            for param in 0..params {
                write!(data, " p{}=\"{element}.{param}\"", param % names).unwrap();
                let values = object.entry(format!("p{}", param % names)).or_insert(json!([]));
                values.as_array_mut().unwrap().push(format!("{element}.{param}").into());
            }
            data += "]";
            object.values_mut().for_each(alone);
            expected.entry(format!("id{}", element % 19)).or_insert(json!([])).as_array_mut().unwrap().push(object.into());
        }
        expected.values_mut().for_each(alone);
        let made = json_of(&settings, &[format!("<13>1 - h a - - {data} x").as_bytes()]);
        assert_eq!(made[0]["structured_data"], Value::from(expected));
    }
}

/// What is there once is no list.
fn alone(value: &mut Value) {
    if let Some([only]) = value.as_array().map(Vec::as_slice) {
        *value = only.clone();
    }
}

#[test]
fn what_is_not_understood_is_shipped_whole_with_a_word_about_it() {
    let settings = settings(Format::Json, 900 << 10, &[]);
    let made = json_of(&settings, &[b"no syslog at all", b"<13>Mar  5 10:00:00 h app: caf\xE9"]);
    assert_eq!(made[0]["message"], "no syslog at all");
    assert_eq!((&made[0]["parse_error"], made[0].get("severity")), (&json!("no priority and no time"), None));
    assert_eq!((&made[0]["timestamp"], &made[0]["event_id"]), (&json!("2023-11-14T22:13:20.123456Z"), &json!("000000000000feed:100")));
    assert_eq!((&made[1]["message"], &made[1]["app"]), (&json!("caf\u{FFFD}"), &json!("app")));
    assert_eq!(STANDARD.decode(made[1]["message_base64"].as_str().unwrap()).unwrap(), b"caf\xE9");
}

#[test]
fn raw_ships_the_messages_as_they_came() {
    let mut encoder = Encoder::new(&settings(Format::Raw, 900 << 10, &[]));
    assert_eq!(messages(&mut encoder, arrivals(&[b"<13>one", b"\xFF\0two"])), [&b"<13>one"[..], b"\xFF\0two"]);
}

#[test]
fn times_of_all_centuries_are_shown_as_they_are() {
    let settings = settings(Format::Json, 900 << 10, &[]);
    for time in
        ["1970-01-01T00:00:00Z", "1999-12-31T23:59:59.9Z", "2000-02-29T12:00:00.000000001Z", "2100-03-01T00:00:00Z", "1904-02-29T01:02:03Z"]
    {
        let text = format!("<13>1 {time} - - - - - x");
        assert_eq!(json_of(&settings, &[text.as_bytes()])[0]["timestamp"], time);
    }
}

proptest! {
    #[test]
    fn any_message_is_one_object_by_the_schema_that_fits(
        texts in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 1..120),
            "<[0-9]{1,3}>(1 )?[ -~\t]{0,120}".prop_map(String::into_bytes),
            "<13>1 2026-03-05T10:00:00Z [!-~]{1,9} [!-~]{1,9} - - (\\[[a-z@]{1,5}( [a-z]{1,3}=\"\\PC{0,9}\"){0,3}\\]){1,3} \\PC{0,20}".prop_map(String::into_bytes),
        ], 1..5),
    ) {
        let settings = settings(Format::Json, 64 << 10, &[]);
        let most = super::super::always_fits(&settings);
        let texts: Vec<&[u8]> = texts.iter().map(|text| &text[..text.len().min(most)]).collect();
        for (event, text) in json_of(&settings, &texts).iter().zip(&texts) {
            prop_assert!(serde_json::to_vec(event).unwrap().len() <= settings.max_event);
            let whole = event["parse_error"] == "no priority and no time";
            prop_assert!(!whole || event["message"].as_str().unwrap() == String::from_utf8_lossy(text));
        }
    }
}
