//! The far ends: empty lines, a line of 50 MB, 10,000 files, bytes that are no text, and messages larger than the topic takes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::Message as _;
use serde_json::Value;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::{self, Written};
use crate::harness::oracle;
use crate::harness::topic::{self, Format, Isolation, Record};
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);

fn records(broker: &Broker, topic: &str) -> Vec<Record> {
    topic::records(&broker.bootstrap(), topic, Isolation::ReadUncommitted)
}

fn once(broker: &Broker, topic: &str, format: Format, file: &Path) -> Vec<Record> {
    broker.create_topic(topic, 1, &[]);
    let mut agent = Plan::new(&broker.bootstrap(), topic).format(format).include(file).arg("--once").start();
    assert!(agent.wait(LATE).success());
    let records = records(broker, topic);
    agent.assert_all_delivered("files", records.len() as u64);
    records
}

fn wait_for_no_lag(agent: &Agent, file: &Path) {
    let path = file.display().to_string();
    wait_until("everything to be delivered", LATE, || agent.ask(&["explain", &path]).text.contains("(lag 0 bytes)"));
}

/// Bytes that no compression makes small, none of them a line end: a small generator's (xorshift64*), as text.
fn noise(bytes: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut text = String::new();
    while text.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        text.push_str(&STANDARD.encode(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes())[..11]);
    }
    text.truncate(bytes);
    text
}

#[test]
fn empty_lines_are_events_and_not_tombstones() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let file = logs.path().join("a.log");
    fs::write(&file, "\n\r\na\n\n\0\n\rb\r\r\n").unwrap();
    let raw = once(broker, "empty-raw", Format::Raw, &file);
    assert_eq!(raw.iter().map(|record| &*record.value).collect::<Vec<_>>(), [&b""[..], b"", b"a", b"", b"\0", b"\rb\r"]);
    topic::for_each(&broker.bootstrap(), "empty-raw", Isolation::ReadUncommitted, |message| {
        assert!(message.payload().is_some(), "no value at all");
    });
    let json = once(broker, "empty-json", Format::Json, &file);
    assert_eq!(
        json.iter().map(|record| String::from_utf8(Format::Json.line(&record.value)).unwrap()).collect::<Vec<_>>(),
        ["", "", "a", "", "\0", "\rb\r"]
    );
}

#[test]
fn bytes_that_are_not_utf8_arrive_unharmed() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let file = logs.path().join("a.log");
    let all: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let odd = [&all[..], b"caf\xE9", "caf\u{e9}".as_bytes(), b"\xF0\x9F\x98", b"\xED\xA0\x80"];
    fs::write(&file, odd.map(|line| [line, b"\n"].concat()).concat()).unwrap();
    let raw = once(broker, "odd-raw", Format::Raw, &file);
    assert_eq!(raw.iter().map(|record| &*record.value).collect::<Vec<_>>(), odd);
    for (record, line) in once(broker, "odd-json", Format::Json, &file).iter().zip(odd) {
        let event: Value = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(event["message"].as_str().unwrap(), String::from_utf8_lossy(line));
        let exact = event.get("message_base64").map(|text| STANDARD.decode(text.as_str().unwrap()).unwrap());
        assert_eq!(exact.as_deref(), str::from_utf8(line).is_err().then_some(line));
    }
}

/// A file with a line of 50 MB between two short ones, shipped by an agent with the default memory.
fn fifty_megabytes(topic: &str, format: Format) -> (Vec<u8>, Vec<Record>, u64) {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let file = logs.path().join("a.log");
    let piece = "0123456789 äöü €uro 😀 \"quoted\" \\ \t";
    let long = piece.repeat(50_000_000 / piece.len() + 1);
    fs::write(&file, ["before", &long, "after", ""].join("\n")).unwrap();
    broker.create_topic(topic, 1, &[]);
    let mut agent = Plan::new(&broker.bootstrap(), topic).format(format).include(&file).start();
    wait_for_no_lag(&agent, &file);
    // Where memory was short part of it went to the spill: then a stop would leave it for the next start. An event in parts is one event.
    agent.assert_all_delivered("files", 3);
    let peak = agent.usage().peak_rss;
    assert!(agent.terminate(SOON).success());
    agent.assert_all_delivered("files", 3);
    (long.into_bytes(), records(broker, topic), peak)
}

#[test]
fn a_line_of_50_mb_arrives_in_raw_parts_that_make_the_line() {
    let (long, records, peak) = fifty_megabytes("long-raw", Format::Raw);
    eprintln!("50 MB raw: {} bytes in {} parts, peak RSS {} MiB", long.len(), records.len() - 2, peak >> 20);
    let [before, parts @ .., after] = &*records else { panic!("{} records", records.len()) };
    assert_eq!((&*before.value, &*after.value), (&b"before"[..], &b"after"[..]));
    assert!(before.headers.is_empty() && after.headers.is_empty());
    let mut lines = std::collections::BTreeSet::new();
    for (number, part) in (1..).zip(parts) {
        let [(id, event), (part_number, of), (last, is)] = &*part.headers else { panic!("{:?}", part.headers) };
        assert_eq!((&**id, &**part_number, &**last), ("logferry-id", "logferry-part", "logferry-last"));
        let (line, own) = str::from_utf8(event).unwrap().rsplit_once(':').unwrap();
        lines.insert(line.to_owned());
        assert_eq!((own.as_bytes(), &**of), (&**of, number.to_string().as_bytes()));
        assert_eq!(&**is, if number == parts.len() { &b"true"[..] } else { b"false" });
        assert!(part.value.len() <= 900 << 10 && str::from_utf8(&part.value).is_ok());
    }
    assert_eq!(lines.len(), 1, "parts of one line have one id");
    assert!(parts.iter().flat_map(|part| &part.value).eq(&long), "put together the parts are the line");
    assert!(peak < 64 << 20, "{peak} bytes at the peak");
}

#[test]
fn a_line_of_50_mb_arrives_in_json_parts_that_make_the_line() {
    let (long, records, peak) = fifty_megabytes("long-json", Format::Json);
    eprintln!("50 MB json: {} bytes in {} parts, peak RSS {} MiB", long.len(), records.len() - 2, peak >> 20);
    let [_, parts @ .., after] = &*records else { panic!("{} records", records.len()) };
    assert_eq!(Format::Json.line(&after.value), b"after");
    let mut whole = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for (number, part) in (1..).zip(parts) {
        assert!(part.value.len() <= 900 << 10);
        let event: Value = serde_json::from_slice(&part.value).unwrap();
        assert_eq!((event["part"].as_u64(), event["last"].as_bool()), (Some(number), Some(number == parts.len() as u64)));
        assert_eq!(event["offset"].as_u64(), Some(7), "where the line begins");
        let (id, own) = event["event_id"].as_str().unwrap().rsplit_once(':').unwrap();
        assert_eq!(own, number.to_string());
        ids.insert(id.to_owned());
        whole.extend_from_slice(event["message"].as_str().unwrap().as_bytes());
    }
    assert_eq!(ids.len(), 1);
    assert!(whole == long, "put together the parts are the line");
    assert!(peak < 64 << 20, "{peak} bytes at the peak");
}

#[test]
fn ten_thousand_files_arrive() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("many-files", 3, &[]);
    let write = |stream: usize, numbers: std::ops::Range<u64>| {
        let mut text = String::new();
        for number in numbers {
            writeln!(text, "{}", lines::line(&format!("w:{stream}.0"), number, 50)).unwrap();
        }
        let path = logs.path().join(format!("{stream}.log"));
        std::io::Write::write_all(&mut fs::File::options().create(true).append(true).open(path).unwrap(), text.as_bytes()).unwrap();
    };
    (0..10_000).for_each(|stream| write(stream, 0..3));
    let mut agent = Plan::new(&broker.bootstrap(), "many-files").include(logs.path().join("*.log")).start();
    broker.wait_for_count("many-files", 30_000, LATE);
    // Later lines are noticed in any of them.
    (0..10_000).step_by(100).for_each(|stream| write(stream, 3..5));
    let written: Written = (0..10_000).map(|stream| (format!("w:{stream}.0"), if stream % 100 == 0 { 5 } else { 3 })).collect();
    let verdict = oracle::read_when_whole(broker, "many-files", Format::Raw, &written, LATE);
    let usage = agent.usage();
    eprintln!("10,000 files: {verdict} · peak RSS {} MiB, CPU {:?}", usage.peak_rss >> 20, usage.cpu);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("10,000 files", 0, &agent);
    assert!(usage.peak_rss < 96 << 20, "{} bytes at the peak", usage.peak_rss);
}

#[test]
fn a_message_larger_than_the_topic_takes_is_put_aside_and_holds_up_nobody() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let file = logs.path().join("a.log");
    broker.create_topic("too-small", 1, &[("max.message.bytes", "10000")]);
    let large = noise(20_000);
    fs::write(&file, ["one", "two", &large, "three", "four"].map(|line| format!("{line}\n")).concat()).unwrap();
    let mut agent = Plan::new(&broker.bootstrap(), "too-small").include(&file).arg("--once").start();
    assert!(agent.wait(LATE).success());
    let log = agent.log();
    for part in ["refused for good", "dead letters", "too_large", "topic=too-small"] {
        assert!(log.contains(part), "{part:?} is not in:\n{log}");
    }
    let arrived: Vec<_> = records(broker, "too-small").into_iter().map(|record| String::from_utf8(record.value).unwrap()).collect();
    assert_eq!(arrived, ["one", "two", "three", "four"]);
    let books = agent.settled_books("files", 5);
    assert_eq!((books.delivered.events, books.dead_lettered.events), (4, 1), "{books}");
}

#[test]
fn a_batch_larger_than_the_topic_takes_goes_in_smaller_ones() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let file = logs.path().join("a.log");
    broker.create_topic("small-batches", 1, &[("max.message.bytes", "20000")]);
    let text = noise(1_000_000);
    let expected: Vec<&str> = text.as_bytes().chunks(200).map(|line| str::from_utf8(line).unwrap()).collect();
    fs::write(&file, expected.join("\n") + "\n").unwrap();
    let mut agent = Plan::new(&broker.bootstrap(), "small-batches").include(&file).arg("--once").start();
    assert!(agent.wait(LATE).success());
    let arrived: Vec<_> = records(broker, "small-batches").into_iter().map(|record| String::from_utf8(record.value).unwrap()).collect();
    assert!(arrived == expected, "{} of {} lines", arrived.len(), expected.len());
    agent.assert_all_delivered("files", expected.len() as u64);
}
