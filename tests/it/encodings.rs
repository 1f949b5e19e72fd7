//! Files in other encodings, in a running agent: each line arrives once, in UTF-8, over kills and rotation.

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::agent::Plan;
use crate::harness::broker::Broker;
use crate::harness::lines::{self, Written};
use crate::harness::oracle::{self, Allowance};
use crate::harness::topic::{self, Format, Isolation};
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 4 << 20;
const LINE: u64 = 140 + 240;
/// Lines between two rotations.
const EVERY: u64 = 4000;

/// Writes numbered lines in UTF-16, with a mark, in pieces that cut characters, and renames the file now and then.
fn write(path: &std::path::Path, stop: &AtomicBool, total: &AtomicU64) -> Written {
    let (mut written, mut generation) = (Written::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let stream = format!("w:app.{generation}");
        let mut file = File::create(path).unwrap();
        let mut pending: Vec<u8> = b"\xFF\xFE".to_vec();
        let mut number = 0;
        while number < EVERY && !stop.load(Ordering::Relaxed) {
            for _ in 0..60 {
                let line = lines::line(&stream, number, 90) + "\r\n";
                pending.extend(line.encode_utf16().flat_map(u16::to_le_bytes));
                number += 1;
            }
            let odd = pending.len() - 7;
            file.write_all(&pending[..odd]).unwrap();
            pending.drain(..odd);
            total.fetch_add(60, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
        file.write_all(&pending).unwrap();
        written.insert(stream, number);
        rustix::fs::rename(path, path.with_extension(format!("log.{generation}"))).unwrap();
        generation += 1;
    }
    written
}

#[test]
fn utf_16_arrives_whole_over_kills_and_rotation() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("utf16", 3, &[]);
    let plan = Plan::new(&broker.bootstrap(), "utf16").agent("memory = \"4MiB\"").source("encoding = \"utf-16\"");
    let mut agent = plan.include(logs.path().join("app.log*")).start();
    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    let written = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(&logs.path().join("app.log"), &stop, &total));
        for lines in [9000, 10_500, 9700] {
            let until = total.load(Ordering::Relaxed) + lines;
            allowance.kill(&mut agent, broker, "utf16", || total.load(Ordering::Relaxed) >= until);
            let until = total.load(Ordering::Relaxed) + 5000;
            wait_until("lines to be written", LATE, || total.load(Ordering::Relaxed) >= until);
            agent.restart();
        }
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    let verdict = oracle::read_when_whole(broker, "utf16", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("utf16", allowance.most(), &agent);
}

#[test]
fn what_is_no_character_is_replaced_said_and_counted_and_the_offset_is_that_of_the_file() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("sjis", 1, &[]);
    fs::write(logs.path().join("app.log"), b"\x83\x5C\x83\x4C\n\x83\xFFbad\nlast\n").unwrap();
    let plan = Plan::new(&broker.bootstrap(), "sjis").format(Format::Json).source("encoding = \"shift_jis\"");
    let mut agent = plan.include(logs.path().join("*.log")).arg("--once").start();
    assert!(agent.wait(SOON).success(), "{}", agent.log());
    let records = topic::records(&broker.bootstrap(), "sjis", Isolation::ReadUncommitted);
    let messages: Vec<serde_json::Value> = records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
    let texts: Vec<_> =
        messages.iter().map(|message| (message["message"].as_str().unwrap(), message["offset"].as_u64().unwrap())).collect();
    assert_eq!(texts, [("ソキ", 0), ("\u{FFFD}bad", 5), ("last", 11)]);
    assert!(messages.iter().all(|message| message.get("message_base64").is_none()));
    let books = agent.settled_books("files", 3);
    assert_eq!(books.missed.get("undecodable").map(|count| count.events), Some(1), "{books}");
    assert!(agent.log().contains("no characters in this encoding"), "{}", agent.log());
}
