//! Parsers: what each finds, and that it finds nothing where the message is not of its form.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use regex::bytes::Regex;

use super::{Around, Buffers, Form, Found, container};
use crate::rules::fields::{Fields, MOST};

/// What the form makes of a message: the fields as JSON, the text, and the rest.
fn read(form: &Form, message: &[u8]) -> Option<(String, Option<String>, Found)> {
    let (mut fields, mut text) = (Fields::default(), Vec::new());
    let around = Around { read_ns: 1_795_777_200_000_000_000, zone: TimeZone::UTC };
    let found = form.read(message, &mut fields, &mut text, &around, &mut Buffers::default());
    let mut json = Vec::new();
    fields.write(&mut json);
    serde_json::from_slice::<serde_json::Value>(&json).expect("fields are sound JSON");
    let json = String::from_utf8(json).unwrap();
    if found.is_none() {
        assert_eq!((json.as_str(), text.len()), ("{}", 0), "what is not of the form leaves nothing behind");
    }
    found.map(|found| (json, found.text.then(|| String::from_utf8_lossy(&text).into_owned()), found))
}

fn fields(form: &Form, message: &str) -> Option<String> {
    read(form, message.as_bytes()).map(|(json, _, _)| json)
}

fn json(message: Option<&str>) -> Form {
    Form::Json { message: message.map(|name| name.as_bytes().into()) }
}

#[test]
fn json_is_taken_as_it_is_written_less_white_space() {
    let line = r#" {"a": 1.50, "b" : [ 1 , {"c": "x y\" " } ], "é\n": null, "a": "again", "big": 12345678901234567890} "#;
    let expected = r#"{"a":"again","b":[1,{"c":"x y\" "}],"é\n":null,"big":12345678901234567890}"#;
    assert_eq!(fields(&json(None), line).unwrap(), expected);
    for other in ["", "text", "[1]", "{\"a\":1", "{\"a\":1}x", "{\"a\":01}", "{a:1}", "{\"a\":\"\u{1}\"}", "\"{}\""] {
        assert_eq!(fields(&json(None), other), None, "{other}");
    }
    assert_eq!(read(&json(None), b"{\"a\":\"\xFF\"}"), None);
    let many = |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","));
    assert!(fields(&json(None), &many(MOST)).is_some() && fields(&json(None), &many(MOST + 1)).is_none());
    let deep = |depth: usize| fields(&json(None), &format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)));
    assert!(deep(64).is_some() && deep(65).is_none() && deep(100_000).is_none());
}

#[test]
fn a_parser_that_fails_gives_back_what_it_had_replaced() {
    let mut fields = Fields::default();
    fields.put(b"a", super::Value::Text(b"first"));
    let around = Around { read_ns: 0, zone: TimeZone::UTC };
    let read = json(None).read(b"{\"b\":1,\"a\":2,\"c\":}", &mut fields, &mut Vec::new(), &around, &mut Buffers::default());
    let mut left = Vec::new();
    fields.write(&mut left);
    assert_eq!((read, left.as_slice()), (None, br#"{"a":"first"}"#.as_slice()));
}

#[test]
fn a_member_becomes_the_text() {
    let (fields, text, _) = read(&json(Some("msg")), br#"{"level":"info","msg":"it is \"so\"\u00e9"}"#).unwrap();
    assert_eq!((fields.as_str(), text.as_deref()), (r#"{"level":"info"}"#, Some("it is \"so\"é")));
    let (fields, text, _) = read(&json(Some("msg")), br#"{"msg":5}"#).unwrap();
    assert_eq!((fields.as_str(), text), (r#"{"msg":5}"#, None));
}

#[test]
fn logfmt_has_pairs_quotes_and_words_between_them() {
    let form = Form::Logfmt { message: None };
    let line = r#"ts=2026-11-27T10:00:00Z level=info  up msg="a \"b\" =c\n" n= q="open"#;
    assert_eq!(fields(&form, line).unwrap(), r#"{"ts":"2026-11-27T10:00:00Z","level":"info","msg":"a \"b\" =c\n","n":"","q":"\"open"}"#);
    assert_eq!((fields(&form, "just a line"), fields(&form, ""), fields(&form, "= =x")), (None, None, None));
    let (_, text, _) = read(&Form::Logfmt { message: Some(b"msg".as_slice().into()) }, b"msg=\"hello there\" a=1").unwrap();
    assert_eq!(text.as_deref(), Some("hello there"));
}

#[test]
fn named_groups_that_took_part_become_fields() {
    let form = Form::Regex(Regex::new(r"^(?<ip>\S+) (\d+)(?: (?<user>\w+))?").unwrap());
    assert_eq!(fields(&form, "10.0.0.1 5 ann").unwrap(), r#"{"ip":"10.0.0.1","user":"ann"}"#);
    assert_eq!(fields(&form, "10.0.0.1 5").unwrap(), r#"{"ip":"10.0.0.1"}"#);
    assert_eq!(fields(&form, "x"), None);
}

#[test]
fn lines_of_containers_are_unwrapped_and_parts_joined() {
    let docker = br#"{"log":"first \"half\"","stream":"stderr","time":"2026-11-27T10:00:00.5Z"}
{"log":" and second\n","stream":"stderr","time":"2026-11-27T10:00:01Z","attrs":{"tag":"x"}}"#;
    let (fields, text, found) = read(&Form::Docker, docker).unwrap();
    assert_eq!((fields.as_str(), text.as_deref()), (r#"{"stream":"stderr","attrs":{"tag":"x"}}"#, Some("first \"half\" and second")));
    assert_eq!(found.time_ns, Some(1_795_773_600_500_000_000));
    assert_eq!(read(&Form::Docker, b"{\"stream\":\"stdout\"}"), None);

    let cri = b"2026-11-27T10:00:00.5+00:00 stdout P first half\n2026-11-27T10:00:01Z stdout F  and second ";
    let (fields, text, found) = read(&Form::Cri, cri).unwrap();
    assert_eq!((fields.as_str(), text.as_deref()), (r#"{"stream":"stdout"}"#, Some("first half and second ")));
    assert_eq!(found.time_ns, Some(1_795_773_600_500_000_000));
    for other in ["", "2026-11-27T10:00:00Z stdout", "2026-11-27T10:00:00Z stdin F x", "yesterday stdout F x"] {
        assert_eq!(read(&Form::Cri, other.as_bytes()), None, "{other}");
    }
}

#[test]
fn a_line_says_whether_the_next_one_goes_on_with_it() {
    let docker = |log: &str| container::goes_on(format!(r#"{{"log":"{log}","stream":"stdout"}}"#).as_bytes(), false);
    assert!(docker("half") && docker(r#"a \"b\\"#) && !docker(r"whole\n") && !docker(r#"a \"b\" \n"#));
    assert!(!container::goes_on(b"no container's line", false) && !container::goes_on(b"", true));
    assert!(
        container::goes_on(b"2026-11-27T10:00:00Z stdout P half", true)
            && !container::goes_on(b"2026-11-27T10:00:00Z stdout F whole", true)
    );
}

#[test]
fn a_line_of_a_syslog_daemon_is_read_as_a_message_is() {
    let (fields, text, found) = read(&Form::Syslog, b"Nov 27 10:00:00 web-01 sshd[42]: Accepted publickey for ann").unwrap();
    assert_eq!(fields, r#"{"hostname":"web-01","app":"sshd","procid":"42"}"#);
    assert_eq!((text.as_deref(), found.time_ns), (Some("Accepted publickey for ann"), Some(1_795_773_600_000_000_000)));
    assert_eq!(read(&Form::Syslog, b"no time here"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic_or_write_what_is_no_json(
        any in prop::collection::vec(any::<u8>(), 0..200),
        shaped in r#"(\{("[a-z]":("[ a\\"u0]{0,6}"|[0-9.e-]{0,5}|\[\{?\}?\]?|null),?){0,4}\}?|[a-z]{1,3}="?[a-z \\"=]{0,8}"? ?){0,4}"#,
    ) {
        let forms = [json(None), json(Some("a")), Form::Logfmt { message: Some(b"a".as_slice().into()) }, Form::Docker, Form::Cri, Form::Syslog];
        for form in &forms {
            for message in [any.as_slice(), shaped.as_bytes()] {
                let _ = read(form, message);
                let _ = container::goes_on(message, matches!(form, Form::Cri));
            }
        }
    }

    #[test]
    fn every_object_is_read_as_it_was(object in prop::collection::btree_map("[a-z.\\\\\"é]{0,5}", "[\\PC\\n]{0,8}", 0..8)) {
        let line = serde_json::to_string_pretty(&object).unwrap().replace('\n', " ");
        let read = fields(&json(None), &line).unwrap();
        prop_assert_eq!(serde_json::from_str::<std::collections::BTreeMap<String, String>>(&read).unwrap(), object);
    }
}
