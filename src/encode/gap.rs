//! A gap as a Kafka message: a JSON object (docs/schema.json), its keys in a fixed order, or what the formats `ecs` and `otlp` make of it. Apart from
//! [`super::json`] since gaps are rare and single: nothing here is made for speed.

use std::sync::Arc;

use jiff::Timestamp;

use super::json::{escape_lossy, labels};
use super::{Format, Settings, in_format};
use crate::gaps::{Bound, Gap, Place, type_of, words};

/// The header that tells a gap from an event in the format `raw`; its value is the record's type.
const HEADER: &str = "logferry-type";

/// Writes gaps.
#[derive(Debug)]
pub struct GapEncoder {
    format: Format,
    agent: Arc<str>,
    host: Arc<str>,
    /// The end of the object, with the labels.
    end: Vec<u8>,
}

/// A finished message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapMessage {
    /// `HOST:gaps`, so that the gaps of one host stay in order.
    pub key: Vec<u8>,
    /// The object: below 100 KiB, since a path has at most 4 KiB.
    pub value: Vec<u8>,
    /// `logferry-type` in `raw`, none in JSON, where the object says it.
    pub header: Option<(&'static str, &'static str)>,
}

impl GapEncoder {
    /// For this host and these labels, with `agent` (`agent.id`) in the ids.
    #[must_use]
    pub fn new(settings: &Settings, agent: &str) -> GapEncoder {
        GapEncoder { format: settings.format, agent: agent.into(), host: Arc::clone(&settings.host), end: labels(&settings.labels) }
    }

    /// One gap; the same gap gives the same message.
    #[must_use]
    pub fn encode(&self, gap: &Gap) -> GapMessage {
        let (first, last) = (time(gap.first_ns), time(gap.last_ns));
        let kind = type_of(&gap.reason);
        let mut object = Object(br#"{"v":1"#.to_vec());
        object.text("timestamp", &last).text("observed_timestamp", &last);
        object.text("host", &self.host).text("source", &gap.source).text("type", kind);
        // Numbers begin anew when somebody removes the state: with the second of the gap two such ids differ all the same.
        object.text("event_id", &format!("gap:{}:{}:{}", self.agent, gap.number, gap.first_ns.div_euclid(1_000_000_000)));
        object.text("severity", words::severity(&gap.reason)).text("message", &words::sentence(gap));
        object.text("of", &gap.of).text("reason", &gap.reason);
        match &gap.place {
            Place::Path(path) => object.bytes("path", path),
            Place::Topic(topic) => object.text("place", &format!("topic {topic}")),
            Place::Named(name) => object.text("place", name),
            Place::Several => object.text("place", "several"),
        };
        if let Some(stream) = gap.stream {
            object.text("stream", &stream.to_string());
        }
        for (key, offset) in [("from", gap.from), ("to", gap.to)] {
            if let Some(offset) = offset {
                object.plain(key, offset);
            }
        }
        let amount = gap.amount;
        object.plain("events", amount.events).plain("bytes", amount.bytes).plain("unknown", amount.unknown);
        object.plain("at_least", amount.bound == Bound::AtLeast);
        if amount.bound == Bound::AtMost {
            object.plain("at_most", true);
        }
        object.text("first_time", &first).text("last_time", &last).plain("number", gap.number);
        let mut value = object.0;
        value.extend_from_slice(&self.end);
        let key = format!("{}:gaps", self.host).into_bytes();
        let value = in_format(self.format, value);
        GapMessage { key, value, header: (self.format == Format::Raw).then_some((HEADER, kind)) }
    }
}

/// RFC 3339 in UTC, as in events.
fn time(ns: i64) -> String {
    // Every i64 of nanoseconds lies in jiff's range (1677 to 2262).
    format!("{:.6}", Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// An object being written, behind its first key.
struct Object(Vec<u8>);

impl Object {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(br#",""#);
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(br#"":"#);
    }

    fn text(&mut self, key: &str, text: &str) -> &mut Object {
        self.bytes(key, text.as_bytes())
    }

    /// Bytes that are not UTF-8 read U+FFFD.
    fn bytes(&mut self, key: &str, bytes: &[u8]) -> &mut Object {
        self.key(key);
        self.0.push(b'"');
        escape_lossy(&mut self.0, bytes);
        self.0.push(b'"');
        self
    }

    /// A number or a truth value.
    fn plain(&mut self, key: &str, value: impl std::fmt::Display) -> &mut Object {
        self.key(key);
        self.0.extend_from_slice(format!("{value}").as_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::tests::{conforms, in_order};
    use super::*;
    use crate::batch::StreamId;
    use crate::gaps::{Amount, LIMITED, QUIET};

    fn encoder(format: Format, labels: &[(String, String)]) -> GapEncoder {
        GapEncoder::new(
            &Settings { format, max_event: 900 << 10, host: "web-01".into(), labels: labels.to_vec(), zone: jiff::tz::TimeZone::UTC },
            "feed",
        )
    }

    fn gap() -> Gap {
        Gap {
            number: 3,
            source: "app".into(),
            of: "file".into(),
            reason: "truncated".into(),
            place: Place::Path(b"/var/log/app.log".as_slice().into()),
            stream: Some(StreamId(0xfeed)),
            from: Some(100),
            to: Some(12_445),
            amount: Amount { bytes: 12_345, ..Amount::default() },
            first_ns: 1_700_000_000_123_456_789,
            last_ns: 1_700_000_001_000_000_000,
            words: "".into(),
        }
    }

    #[test]
    fn a_gap_looks_like_this() {
        let message = encoder(Format::Json, &[("env".into(), "prod".into())]).encode(&gap());
        let expected = concat!(
            r#"{"v":1,"timestamp":"2023-11-14T22:13:21.000000Z","observed_timestamp":"2023-11-14T22:13:21.000000Z","host":"web-01","#,
            r#""source":"app","type":"gap","event_id":"gap:feed:3:1700000000","severity":"error","#,
            r#""message":"12,345 bytes of /var/log/app.log were truncated before they were read","of":"file","reason":"truncated","#,
            r#""path":"/var/log/app.log","stream":"000000000000feed","from":100,"to":12445,"events":0,"bytes":12345,"unknown":0,"#,
            r#""at_least":false,"first_time":"2023-11-14T22:13:20.123456Z","last_time":"2023-11-14T22:13:21.000000Z","number":3,"#,
            r#""labels":{"env":"prod"}}"#
        );
        assert_eq!(String::from_utf8(message.value).unwrap(), expected);
        assert_eq!((&*message.key, message.header), (&b"web-01:gaps"[..], None));
    }

    #[test]
    fn in_raw_it_is_the_same_object_and_a_header_tells_it_from_a_line() {
        let raw = encoder(Format::Raw, &[]).encode(&gap());
        assert_eq!(raw.header, Some(("logferry-type", "gap")));
        assert_eq!(GapMessage { header: None, ..raw }, encoder(Format::Json, &[]).encode(&gap()));
    }

    #[test]
    fn silence_has_a_type_of_its_own() {
        let limited = Gap { reason: LIMITED.into(), place: Place::Named("rule chatter".into()), ..gap() };
        let message = encoder(Format::Raw, &[]).encode(&limited);
        conforms(&message.value);
        assert_eq!(message.header, Some((HEADER, "limited")));
        let quiet = Gap { reason: QUIET.into(), place: Place::Named("source app".into()), words: "silent for 16 m".into(), ..gap() };
        let message = encoder(Format::Raw, &[]).encode(&quiet);
        conforms(&message.value);
        let value: Value = serde_json::from_slice(&message.value).unwrap();
        assert_eq!((&value["type"], &value["severity"], message.header), (&"quiet".into(), &"warning".into(), Some((HEADER, "quiet"))));
        assert_eq!(value["message"], "no event came from source \"app\": silent for 16 m");
    }

    #[test]
    fn what_is_not_about_one_file_says_where_in_another_way() {
        for (place, said) in [(Place::Topic("logs".into()), "topic logs"), (Place::Several, "several")] {
            let message = encoder(Format::Json, &[]).encode(&Gap { place, ..gap() }).value;
            conforms(&message);
            let value: Value = serde_json::from_slice(&message).unwrap();
            assert_eq!((value["place"].as_str(), value.get("path")), (Some(said), None));
        }
    }

    proptest! {
        #[test]
        fn every_gap_is_what_the_schema_says(
            path: Vec<u8>, source: String, words: String, host: String, amount: (u64, u64, u64, bool), times: (i64, i64),
            offsets: (Option<u64>, Option<u64>), stream: Option<u64>, number in 1..=u64::MAX,
            labels in prop::collection::btree_map(".{0,6}", ".{0,6}", 0..3),
        ) {
            let gap = Gap {
                number,
                source: source.as_str().into(),
                place: Place::Path(path.as_slice().into()),
                stream: stream.map(StreamId),
                from: offsets.0,
                to: offsets.1,
                amount: Amount { events: amount.0, bytes: amount.1, unknown: amount.2, bound: if amount.3 { Bound::AtLeast } else { Bound::Exact } },
                first_ns: times.0,
                last_ns: times.1,
                words: words.into(),
                ..gap()
            };
            let labels: Vec<_> = labels.into_iter().collect();
            let settings = Settings { format: Format::Json, max_event: 1, host: host.as_str().into(), labels: labels.clone(), zone: jiff::tz::TimeZone::UTC };
            let message = GapEncoder::new(&settings, "an agent").encode(&gap).value;
            conforms(&message);
            prop_assert!(in_order(&message));
            let value: Value = serde_json::from_slice(&message).unwrap();
            prop_assert_eq!((&value["host"], &value["source"]), (&host.into(), &source.into()));
            prop_assert_eq!(&value["path"], &String::from_utf8_lossy(&path).into_owned());
            let figures = ["number", "events", "bytes", "unknown"].map(|key| value[key].as_u64().unwrap());
            prop_assert_eq!(figures, [number, amount.0, amount.1, amount.2]);
            prop_assert_eq!((value.get("from").and_then(Value::as_u64), value.get("to").and_then(Value::as_u64)), offsets);
            prop_assert_eq!(value.get("labels").map_or(0, |all| all.as_object().unwrap().len()), labels.len());
        }

        #[test]
        fn the_longest_path_makes_no_long_message(byte: u8) {
            let message = encoder(Format::Json, &[]).encode(&Gap { place: Place::Path(vec![byte; 4096].into()), ..gap() });
            prop_assert!(message.value.len() < 100 << 10);
        }
    }
}
