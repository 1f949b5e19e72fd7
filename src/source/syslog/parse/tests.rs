//! The parsers: a table of messages of many products with what is expected of each (`tests/fixtures/syslog.toml`), properties, and what a table
//! can't say.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn context(received: &str) -> Context {
    let received: jiff::Timestamp = received.parse().unwrap();
    Context { received_ns: i64::try_from(received.as_nanosecond()).unwrap(), zone: TimeZone::UTC }
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn shown(time: Time) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time.ns)).unwrap();
    format!("{stamp:.*}", usize::from(time.digits))
}

/// The table of messages; its head says how to read it.
const MESSAGES: &str = include_str!("../../../../tests/fixtures/syslog/messages.txt");

/// What a message became, in one line; blanks within a value are shown as `_`.
fn in_a_line(parsed: &Parsed<'_>) -> String {
    let word = |field: Option<&[u8]>| text(field).unwrap_or_else(|| "-".into()).replace(' ', "_");
    let code = |code: Option<u8>, word: fn(u8) -> &'static str| code.map_or("-", word);
    let data = parsed.structured_data.map(|data| {
        let (mut elements, mut params) = (0, 0);
        rfc5424::elements(data, |_, value| if value.is_none() { elements += 1 } else { params += 1 });
        format!("{elements}/{params}")
    });
    format!(
        "= {}.{} time={} host={} app={} procid={} msgid={} data={} error={} text={}",
        code(parsed.facility, facility_word),
        code(parsed.severity, severity_word),
        parsed.time.map_or_else(|| "-".into(), shown),
        word(parsed.hostname),
        word(parsed.app),
        word(parsed.procid),
        word(parsed.msgid),
        data.unwrap_or_else(|| "-".into()),
        parsed.error.unwrap_or("-").replace(' ', "_"),
        String::from_utf8_lossy(parsed.message).replace('\n', "{LF}"),
    )
}

#[test]
fn messages_of_many_products_become_what_the_table_says() {
    let cases: Vec<&str> = MESSAGES.split("\n# ").skip(1).collect();
    let (mut wrong, mut products, mut names, mut shapes) = (String::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for case in &cases {
        let [name, message, expected @ ..] = &*case.lines().collect::<Vec<_>>() else { panic!("{case}") };
        let frame = message.replace("{LF}", "\n").replace("{BOM}", "\u{feff}");
        let became = in_a_line(&parse(frame.as_bytes(), &context("2026-03-05T12:00:00Z")));
        if *expected != [&*became] {
            let _ = writeln!(wrong, "# {name}\n{message}\n{became}");
        }
        products.insert(name.split_once(": ").expect("a product and what is odd").0);
        assert!(names.insert(*name), "{name} is there twice");
        let shape: String = frame.chars().map(|c| if c.is_ascii_digit() { '0' } else { c.to_ascii_lowercase() }).collect();
        assert!(shapes.insert(shape), "{name}: differs from another one in values alone");
    }
    assert!(wrong.is_empty(), "these became something else:\n{wrong}");
    assert!(cases.len() >= 150 && products.len() >= 20, "{} messages of {} products", cases.len(), products.len());
}

#[test]
fn messages_without_a_year_are_of_the_nearest_one() {
    for (received, message, expected) in [
        ("2026-01-01T00:00:05Z", "<13>Dec 31 23:59:59 h a: x", "2025-12-31T23:59:59Z"),
        ("2025-12-31T23:59:58Z", "<13>Jan  1 00:00:01 h a: x", "2026-01-01T00:00:01Z"),
        ("2026-03-01T00:00:00Z", "<13>Feb 29 12:00:00 h a: x", ""),
        ("2028-03-01T00:00:00Z", "<13>Feb 29 12:00:00 h a: x", "2028-02-29T12:00:00Z"),
        ("2026-07-01T00:00:00Z", "<13>Jul  2 00:00:00 h a: x", "2026-07-02T00:00:00Z"),
    ] {
        let time = parse(message.as_bytes(), &context(received)).time;
        assert_eq!(time.map(shown).unwrap_or_default(), expected, "{message} received {received}");
    }
}

/// Found by the fuzzer.
#[test]
fn seconds_that_no_time_has_are_no_time() {
    for frame in [" 9846753415:", "<13>9999999999.999999999 x", "<13>9223372037 x"] {
        assert_eq!(parse(frame.as_bytes(), &context("2026-07-01T12:00:00Z")).time, None, "{frame}");
    }
}

#[test]
fn a_time_without_a_zone_is_of_the_source_s_one() {
    let context = Context { zone: TimeZone::get("Europe/Berlin").unwrap(), ..context("2026-07-01T12:00:00Z") };
    let time = |message: &str| parse(message.as_bytes(), &context).time.map(shown).unwrap();
    assert_eq!(time("<13>Jul  1 14:00:00 h a: x"), "2026-07-01T12:00:00Z");
    assert_eq!(time("<13>Jan  5 14:00:00 h a: x"), "2026-01-05T13:00:00Z");
    assert_eq!(time("<13>Jul  1 14:00:00.5 UTC: %A-5-B: x"), "2026-07-01T14:00:00.5Z");
    assert_eq!(time("<13>1 2026-07-01T14:00:00+00:00 h a - - - x"), "2026-07-01T14:00:00Z");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic_and_what_is_left_is_a_part_of_them(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let parsed = parse(&frame, &context("2026-11-26T12:00:00Z"));
        prop_assert!(parsed.message.is_empty() || frame.windows(parsed.message.len()).any(|window| window == parsed.message));
    }

    #[test]
    fn what_looks_like_a_message_is_parsed_without_a_panic(frame in "(<[0-9]{0,4}>)?(1 )?([A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8}|[0-9T:.Z-]{10,26}|-|date=[0-9-]{10})? ?([a-z.:\\[\\]=\"\\\\-]{0,9} ?){0,9}") {
        let parsed = parse(frame.as_bytes(), &context("2026-11-26T12:00:00Z"));
        prop_assert!(frame.as_bytes().ends_with(parsed.message) || parsed.error.is_some() || parsed.message.is_empty());
    }

    #[test]
    fn a_message_of_rfc_5424_comes_back_in_its_fields(
        (pri, seconds, micros) in (0_u8..192, 0_i64..4_000_000_000, 0_i64..1_000_000),
        (host, app, procid, msgid) in ("[!-~]{1,40}", "[!-~]{1,30}", "[!-~]{1,20}", "[!-~]{1,20}"),
        data in prop::collection::vec(("[a-zA-Z0-9@.]{1,12}", prop::collection::vec(("[a-zA-Z0-9.]{1,9}", "\\PC{0,20}"), 0..4)), 0..3),
        message in "\\PC{0,60}",
    ) {
        let stamp = jiff::Timestamp::new(seconds, i32::try_from(micros).unwrap() * 1000).unwrap();
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        let mut structured = String::new();
        for (id, params) in &data {
            let _ = write!(structured, "[{id}");
            for (name, value) in params {
                let _ = write!(structured, " {name}=\"{}\"", escaped(value));
            }
            structured += "]";
        }
        let shown_data = if structured.is_empty() { "-" } else { &structured };
        let frame = format!("<{pri}>1 {stamp:.6} {host} {app} {procid} {msgid} {shown_data} {message}");
        let parsed = parse(frame.as_bytes(), &context("2026-11-26T12:00:00Z"));
        prop_assert_eq!((parsed.severity, parsed.facility, parsed.error), (Some(pri % 8), Some(pri / 8), None));
        prop_assert_eq!(parsed.time, Some(Time { ns: seconds * 1_000_000_000 + micros * 1000, digits: 6 }));
        let nil = |field: &str| (field != "-").then(|| field.to_owned());
        prop_assert_eq!(text(parsed.hostname), nil(&host));
        prop_assert_eq!(text(parsed.app), nil(&app));
        prop_assert_eq!(text(parsed.procid), nil(&procid));
        prop_assert_eq!(text(parsed.msgid), nil(&msgid));
        prop_assert_eq!(parsed.message, message.strip_prefix('\u{feff}').unwrap_or(&message).as_bytes());
        let (mut back, mut current) = (Vec::new(), None);
        rfc5424::elements(parsed.structured_data.unwrap_or_default(), |name, value| match value {
            None => {
                back.extend(current.take());
                current = Some((String::from_utf8_lossy(name).into_owned(), Vec::new()));
            }
            Some(value) => {
                let mut plain = Vec::new();
                rfc5424::unescaped(value, |piece| plain.extend_from_slice(piece));
                if let Some((_, params)) = &mut current {
                    params.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8(plain).unwrap()));
                }
            }
        });
        back.extend(current);
        prop_assert_eq!(back, data);
    }
}
