//! The formats `ecs` and `otlp` carry all that `json` carries: compared value by value, with a decoder of OpenTelemetry's messages that is not ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost::Message as _;

use super::*;
use crate::encode::members::{KEYS, Key};
use crate::encode::otlp::{Place, place};
use crate::encode::{ecs, otlp};

/// The messages of OpenTelemetry's protocol, as far as they are used.
#[expect(unreachable_pub, reason = "the derive wants them so")]
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        pub resource_logs: Vec<ResourceLogs>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ResourceLogs {
        #[prost(message, optional, tag = "1")]
        pub resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub scope_logs: Vec<ScopeLogs>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub attributes: Vec<KeyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ScopeLogs {
        #[prost(message, optional, tag = "1")]
        pub scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        pub log_records: Vec<LogRecord>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Scope {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub version: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct LogRecord {
        #[prost(fixed64, tag = "1")]
        pub time_unix_nano: u64,
        #[prost(int32, tag = "2")]
        pub severity_number: i32,
        #[prost(string, tag = "3")]
        pub severity_text: String,
        #[prost(message, optional, tag = "5")]
        pub body: Option<AnyValue>,
        #[prost(message, repeated, tag = "6")]
        pub attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "11")]
        pub observed_time_unix_nano: u64,
        #[prost(string, tag = "12")]
        pub event_name: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct KeyValue {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<AnyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AnyValue {
        #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5, 6, 7")]
        pub value: Option<Value>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        #[prost(string, tag = "1")]
        String(String),
        #[prost(bool, tag = "2")]
        Bool(bool),
        #[prost(int64, tag = "3")]
        Int(i64),
        #[prost(double, tag = "4")]
        Double(f64),
        #[prost(message, tag = "5")]
        Array(Values),
        #[prost(message, tag = "6")]
        List(Members),
        #[prost(bytes, tag = "7")]
        Bytes(Vec<u8>),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Values {
        #[prost(message, repeated, tag = "1")]
        pub values: Vec<AnyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Members {
        #[prost(message, repeated, tag = "1")]
        pub values: Vec<KeyValue>,
    }
}

fn json_of(value: &proto::AnyValue) -> Value {
    match &value.value {
        None => Value::Null,
        Some(proto::Value::String(text)) => text.as_str().into(),
        Some(proto::Value::Bool(value)) => (*value).into(),
        Some(proto::Value::Int(value)) => (*value).into(),
        Some(proto::Value::Double(value)) => (*value).into(),
        Some(proto::Value::Array(array)) => array.values.iter().map(json_of).collect(),
        Some(proto::Value::List(list)) => {
            Value::Object(list.values.iter().map(|one| (one.key.clone(), json_of(one.value.as_ref().unwrap()))).collect())
        }
        Some(proto::Value::Bytes(bytes)) => STANDARD.encode(bytes).into(),
    }
}

fn attributes(all: &[proto::KeyValue]) -> BTreeMap<String, Value> {
    let map: BTreeMap<_, _> = all.iter().map(|one| (one.key.clone(), json_of(one.value.as_ref().unwrap()))).collect();
    assert_eq!(map.len(), all.len(), "an attribute is there twice");
    map
}

/// Checks that this message says in both formats what it says in JSON.
pub(super) fn says_the_same(json: &[u8]) {
    let object: Map<String, Value> = serde_json::from_slice(json).unwrap();
    let mut out = Vec::new();
    ecs::write(&mut out, json);
    assert!(out.len() <= json.len() + ecs::GROWTH, "{} became {}", json.len(), out.len());
    let ecs: Value = serde_json::from_slice(&out).unwrap();
    for (key, name) in ecs::names() {
        let Some(value) = object.get(KEYS[key as usize].1) else { continue };
        let found = name.split('.').fold(&ecs, |object, name| &object[name]);
        let same = if key == Key::Uid { found.as_str() == Some(&value.to_string()) } else { found == value };
        assert!(same, "{name}: {found} for {value}");
    }
    out.clear();
    otlp::write(&mut out, json);
    let request = proto::Request::decode(out.as_slice()).unwrap();
    assert!(request.encode_to_vec() == out, "it is written as others write it");
    let [logs] = request.resource_logs.as_slice() else { panic!("{request:?}") };
    let [scope] = logs.scope_logs.as_slice() else { panic!("{logs:?}") };
    let [record] = scope.log_records.as_slice() else { panic!("{scope:?}") };
    assert_eq!(scope.scope.as_ref().unwrap().name, "logferry");
    let (resource, own) = (attributes(&logs.resource.as_ref().unwrap().attributes), attributes(&record.attributes));
    let nanos = |key: &str| {
        object[key].as_str().unwrap().parse::<jiff::Timestamp>().map_or(0, |time| u64::try_from(time.as_nanosecond()).unwrap_or(0))
    };
    assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (nanos("timestamp"), nanos("observed_timestamp")));
    assert_eq!(record.severity_text, object.get("severity").map_or("", |word| word.as_str().unwrap()));
    assert_eq!(record.severity_number == 0, record.severity_text.is_empty());
    assert_eq!(
        record.event_name,
        match object["type"].as_str() {
            Some("gap") => "logferry.gap",
            Some("quiet") => "logferry.quiet",
            _ => "",
        }
    );
    assert_eq!(json_of(record.body.as_ref().unwrap()), *object.get("message_base64").unwrap_or(&object["message"]));
    for (key, name) in KEYS {
        let Some(value) = object.get(name) else { continue };
        match place(key) {
            Place::Attribute(name) if value.as_u64().is_none_or(|number| i64::try_from(number).is_ok()) => {
                assert_eq!(own.get(name), Some(value));
            }
            Place::Attribute(name) | Place::Quoted(name) => assert_eq!(own[name], value.to_string()),
            Place::Resource(name) => assert_eq!(resource.get(name), Some(value)),
            Place::Resources => value.as_object().unwrap().iter().for_each(|(name, value)| assert_eq!(resource.get(name), Some(value))),
            Place::Attributes => value.as_object().unwrap().iter().for_each(|(name, value)| assert_eq!(own.get(name), Some(value))),
            Place::Record(_) | Place::Left => {}
        }
    }
}

#[test]
fn a_line_looks_like_this_in_ecs() {
    let mut encoder = Encoder::new(&settings(Format::Ecs, 900 << 10, &[("env".into(), "prod".into())]));
    let message =
        messages(&mut encoder, batch(stream("app", b"/var/log/app.log"), 42, &[Line { start: 42, ..whole(b"say \"hi\"") }])).remove(0);
    let expected = concat!(
        r#"{"@timestamp":"2023-11-14T22:13:20.123456Z","ecs":{"version":"8.17.0"},"message":"say \"hi\"","#,
        r#""event":{"id":"000000000000feed:42","kind":"event","dataset":"app","created":"2023-11-14T22:13:20.123456Z"},"host":{"name":"web-01"},"#,
        r#""agent":{"type":"logferry","version":"0.1.0"},"log":{"offset":42,"file":{"path":"/var/log/app.log"}},"logferry":{"type":"file"},"#,
        r#""labels":{"env":"prod"}}"#
    );
    assert_eq!(String::from_utf8(message).unwrap(), expected);
}

#[test]
fn what_a_source_has_rendered_is_written_anew_as_well() {
    let json = br#"{"v":1,"timestamp":"2023-11-14T22:13:20.123456Z","observed_timestamp":"2023-11-14T22:13:20.123456Z","host":"h","source":"j","type":"journald","event_id":"000000000000feed:7","severity":"info","message":"up","unit":"a.service","identifier":"a","priority":6,"pid":7,"uid":0,"boot_id":"b","cursor":"c","seqnum":7,"journal":{"A":["1",{"base64":"/w=="}]}}"#;
    says_the_same(json);
    let file = stream("j", b"");
    let finished = Stream {
        origin: Origin::Finished,
        id: file.id,
        source: file.source.clone(),
        key: file.key.clone(),
        headers: vec![],
        topic: file.topic.clone(),
    };
    let finished = Arc::new(finished);
    for format in [Format::Ecs, Format::Otlp] {
        let mut encoder = Encoder::new(&settings(format, 900 << 10, &[]));
        let made = messages(&mut encoder, batch(Arc::clone(&finished), 0, &[whole(json), whole(json)]));
        let mut right = Vec::new();
        format.rewriting().unwrap()(&mut right, json);
        assert_eq!(made, [right.clone(), right]);
    }
}

#[test]
fn numbers_lists_and_objects_keep_their_kinds() {
    let json = br#"{"v":1,"timestamp":"1969-12-31T23:59:59Z","observed_timestamp":"2023-11-14T22:13:20.123456Z","host":"h","source":"s","type":"syslog","event_id":"000000000000feed:7","message":"m","peer":"p","transport":"tcp","structured_data":{"a@1":{"b":"c","d":["e","f"]},"g":{}},"fields":{"whole":-3,"half":0.5,"big":18446744073709551615,"huge":1e999,"yes":true,"no":null,"deep":[[],{"x":[1]}]},"labels":{"env":"prod"}}"#;
    let mut out = Vec::new();
    otlp::write(&mut out, json);
    let request = proto::Request::decode(out.as_slice()).unwrap();
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    let all = attributes(&record.attributes);
    assert_eq!(all["log.syslog.structured_data"], serde_json::json!({"a@1": {"b": "c", "d": ["e", "f"]}, "g": {}}));
    let own = ["whole", "half", "big", "huge", "yes", "no", "deep"].map(|name| all[name].clone());
    assert_eq!(Value::from(own.to_vec()), serde_json::json!([-3, 0.5, "18446744073709551615", "1e999", true, null, [[], {"x": [1]}]]));
    assert_eq!(record.time_unix_nano, 0, "before 1970 there is no time in this format");
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let json = format!(r#"{{"v":1,"timestamp":"1970-01-01T00:00:00Z","message":"m","fields":{{"deep":{deep}}}}}"#);
    otlp::write(&mut out, json.as_bytes());
}

#[test]
fn the_table_of_names_is_what_is_written() {
    let ecs: BTreeMap<usize, String> = ecs::names().into_iter().map(|(key, name)| (key as usize, name)).collect();
    let mut table = String::new();
    for (key, name) in KEYS {
        let ecs = ecs.get(&(key as usize)).map_or(String::new(), |name| format!("`{name}`"));
        let otlp = match place(key) {
            Place::Record(field) => field.into(),
            Place::Resource(name) => format!("resource: `{name}`"),
            Place::Attribute(name) | Place::Quoted(name) => format!("`{name}`"),
            Place::Attributes => "an attribute each".into(),
            Place::Resources => "resource: an attribute each".into(),
            Place::Left => String::new(),
        };
        assert!(!ecs.is_empty() || key == Key::V, "{name} is lost in ecs");
        writeln!(table, "| `{name}` | {ecs} | {otlp} |").unwrap();
    }
    let docs = include_str!("../../../docs/formats.md");
    assert!(docs.contains(&table), "docs/formats.md is to have:\n{table}");
}

proptest! {
    #[test]
    fn a_message_of_a_file_says_the_same(lines in lines(1000), labels in prop::collection::btree_map(".{0,6}", ".{0,6}", 0..3), path: Vec<u8>, source: String) {
        let labels: Vec<_> = labels.into_iter().filter(|(name, _)| !name.starts_with("host.")).collect();
        let mut encoder = Encoder::new(&settings(Format::Json, 900 << 10, &labels));
        for json in messages(&mut encoder, batch(stream(&source, &path), 1000, &lines)) {
            says_the_same(&json);
        }
    }

    #[test]
    fn no_message_is_longer_than_it_may_be(bytes in awkward(), times in 1..400_usize, max in 6_000..60_000_usize) {
        let bytes = bytes.repeat(times);
        for format in [Format::Ecs, Format::Otlp] {
            let mut encoder = Encoder::new(&settings(format, max, &[]));
            let (mut rest, mut all) = (bytes.as_slice(), Vec::new());
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(encoder.fits(rest));
                all.push(whole(part));
                rest = behind;
            }
            for message in messages(&mut encoder, batch(stream("app", b"/log"), 0, &all)) {
                prop_assert!(message.len() <= max, "{} of {max}", message.len());
            }
        }
    }
}
