//! The harness itself can be trusted. What matters most is that it can fail: an oracle that always says "0 lost" proves nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rustix::process::Signal;

use crate::harness::agent::Plan;
use crate::harness::books::Status;
use crate::harness::broker::Broker;
use crate::harness::disk::{self, Disk, Kind};
use crate::harness::lines::{self, LineWriter, Rotation, Written, line, parse};
use crate::harness::link::Link;
use crate::harness::oracle::{self, Oracle, Verdict};
use crate::harness::process::Process;
use crate::harness::temp_dir;
use crate::harness::topic::{self, Format, Isolation};

const SOON: Duration = Duration::from_secs(20);

fn one_stream(lines: u64) -> Written {
    Written::from([("w:app.0".to_owned(), lines)])
}

fn judge(lines: u64, arrived: &[u64]) -> Verdict {
    let mut oracle = Oracle::new(&one_stream(lines));
    for &number in arrived {
        oracle.see(0, line("w:app.0", number, 20).as_bytes());
    }
    oracle.verdict()
}

fn complaint(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(check).expect_err("the check must fail");
    *panic.downcast::<String>().expect("a message")
}

#[test]
fn the_oracle_is_content_with_what_is_whole() {
    let verdict = judge(4, &[0, 1, 2, 3]);
    verdict.assert_nothing_lost();
    verdict.assert_order_kept();
    verdict.assert_duplicates_at_most(0);
    assert_eq!((verdict.written(), verdict.received(), verdict.raw_steps_back()), (4, 4, 0));
}

#[test]
fn the_oracle_names_a_lost_line() {
    let verdict = judge(5, &[0, 1, 3]);
    assert_eq!(verdict.streams["w:app.0"].lost, [2, 4]);
    let said = complaint(|| verdict.assert_nothing_lost());
    assert!(said.contains("2 lines were lost: w:app.0: [2, 4]"), "{said}");
}

#[test]
fn the_oracle_counts_copies_but_does_not_call_a_repetition_disorder() {
    let verdict = judge(4, &[0, 1, 2, 1, 2, 3, 3, 3]);
    verdict.assert_nothing_lost();
    verdict.assert_order_kept();
    verdict.assert_duplicates_at_most(4);
    assert_eq!(verdict.streams["w:app.0"].doubled, [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(verdict.raw_steps_back(), 1);
    let said = complaint(|| verdict.assert_duplicates_at_most(3));
    assert!(said.contains("4 copies too many, allowed are 3"), "{said}");
}

#[test]
fn the_oracle_sees_swapped_lines() {
    let verdict = judge(4, &[0, 2, 1, 3]);
    verdict.assert_nothing_lost();
    assert_eq!(verdict.streams["w:app.0"].steps_back, [(1, 2)]);
    let said = complaint(|| verdict.assert_order_kept());
    assert!(said.contains("(1, 2)"), "{said}");
}

#[test]
fn the_oracle_sees_a_stream_in_two_partitions() {
    let mut oracle = Oracle::new(&one_stream(2));
    oracle.see(0, line("w:app.0", 0, 20).as_bytes());
    oracle.see(1, line("w:app.0", 1, 20).as_bytes());
    let verdict = oracle.verdict();
    let said = complaint(|| verdict.assert_order_kept());
    assert!(said.contains("spread over partitions"), "{said}");
}

#[test]
fn the_oracle_takes_no_damaged_or_foreign_line_for_a_good_one() {
    let whole = line("w:app.0", 0, 20);
    let cut = &whole[..whole.len() - 1];
    let mixed = format!("{}{}", &whole[..whole.len() - 5], &line("w:app.0", 1, 20)[..5]);
    for stranger in [cut, &mixed, "hello", &line("w:app.0", 1, 20), &line("other:app.0", 0, 20)] {
        let mut oracle = Oracle::new(&one_stream(1));
        oracle.see(0, whole.as_bytes());
        oracle.see(0, stranger.as_bytes());
        let verdict = oracle.verdict();
        let said = complaint(|| verdict.assert_nothing_lost());
        assert!(said.contains("1 records are not lines that were written"), "{said}");
    }
}

/// What stands in the files of a folder, counted by stream; panics at a line that is not whole.
fn lines_in(dir: &Path) -> Written {
    let mut found = Written::new();
    for entry in fs::read_dir(dir).unwrap() {
        for line in fs::read(entry.unwrap().path()).unwrap().split_inclusive(|&byte| byte == b'\n') {
            let (stream, number) = parse(line.strip_suffix(b"\n").expect("a line end")).expect("a whole line");
            let next = found.entry(stream.to_owned()).or_default();
            assert_eq!(*next, number, "in order");
            *next += 1;
        }
    }
    found
}

#[test]
fn a_writer_leaves_exactly_the_lines_it_reports_in_rotated_files() {
    for rotation in [Rotation::Never, Rotation::Rename { every: 1000 }, Rotation::CopyTruncate { every: 1000 }] {
        let dir = temp_dir("lines");
        let written = LineWriter::new("w", dir.path().join("app.log")).rotation(rotation).limit(3500).start().finish();
        assert_eq!(written.values().sum::<u64>(), 3500);
        assert_eq!(written.len(), if let Rotation::Never = rotation { 1 } else { 4 });
        assert_eq!(lines_in(dir.path()), written, "{rotation:?}");
    }
}

#[test]
fn a_noisy_line_is_known_and_its_damage_too() {
    let line = lines::noisy_line("w:app.0", 7, 200);
    assert_eq!(parse(line.as_bytes()), Some(("w:app.0", 7)));
    assert_eq!(parse(line.replacen("seq=0000000007", "seq=0000000008", 1).as_bytes()), None);
    assert_ne!(lines::noisy_line("w:app.0", 8, 200)[30..], line[30..]);
}

#[test]
fn a_writer_keeps_as_many_rotated_files_as_it_is_told() {
    let dir = temp_dir("lines");
    let file = dir.path().join("app.log");
    let writer = LineWriter::new("w", &file).rotation(Rotation::Rename { every: 100 }).keep(2).noisy().limit(1050);
    assert_eq!(writer.start().finish().values().sum::<u64>(), 1050);
    assert_eq!(lines_in(dir.path()).into_keys().collect::<Vec<_>>(), ["w:app.10", "w:app.8", "w:app.9"]);
}

#[test]
fn a_writer_with_a_rate_can_be_stopped() {
    let dir = temp_dir("lines");
    let writing = LineWriter::new("w", dir.path().join("app.log")).rate(2000).padding(5).start();
    crate::harness::wait_until("100 lines", SOON, || writing.written() >= 100);
    assert_eq!(writing.stop(), lines_in(dir.path()));
}

#[test]
fn a_process_is_heard_measured_and_ended() {
    let dir = temp_dir("process");
    let script = "trap 'echo bye; exit 3' TERM; echo started; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo worked; while :; do sleep 0.05; done";
    let start = || Process::start("a script", Command::new("sh").args(["-c", script]), &dir.path().join("log"), dir.path()).unwrap();
    let mut process = start();
    process.wait_for_log("worked", SOON);
    let usage = process.usage();
    assert!(usage.cpu >= Duration::from_millis(20) && usage.rss > 0 && usage.peak_rss >= usage.rss, "{usage:?}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait(SOON).code(), Some(3));

    let mut again = start();
    again.wait_for_log("started", SOON);
    assert!(!again.log().contains("bye"), "the log of the run before is not mixed in");
    again.kill9();
    assert!(again.exited().is_some_and(|status| status.code().is_none()));
}

#[test]
fn a_process_does_not_outlive_the_test_process() {
    let dir = temp_dir("orphan");
    fs::create_dir(dir.path().join("folder")).unwrap();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let folder = dir.path().join("folder");
    let mut watcher = crate::harness::process::watcher(child.id(), &folder).unwrap();
    // The death of this process would close the pipe, too.
    drop(watcher.stdin.take());
    assert!(child.wait().unwrap().code().is_none(), "killed by a signal");
    assert!(watcher.wait().unwrap().success() && !folder.exists());
}

#[test]
fn an_agents_configuration_is_valid_toml() {
    let plan = Plan::new("127.0.0.1:9092", "logs").format(Format::Json).include("/tmp/a \"b\"/*.log");
    let plan =
        plan.agent("memory = \"8MiB\"").kafka("compression = \"zstd\"").source("ignore_older = \"1d\"").extra("[spill]\nafter = \"5s\"");
    let config: toml::Table = plan.config(Path::new("/var/lib/x")).parse().unwrap();
    assert_eq!(config["kafka"]["format"].as_str(), Some("json"));
    assert_eq!(config["source"][0]["include"][0].as_str(), Some("/tmp/a \"b\"/*.log"));
    assert_eq!(config["spill"]["after"].as_str(), Some("5s"));
}

fn status(balanced: bool, delivered: u64) -> Status {
    let text = format!(
        "{{\"balanced\":{balanced},\"out_of_balance\":[\"x\"],\"spill\":{{\"bytes\":0,\"full\":null}},\"sources\":{{\"files\":\
         {{\"read\":{{\"events\":9,\"bytes\":90}},\"delivered\":{{\"events\":{delivered},\"bytes\":70}},\"pending\":{{\"events\":1,\"bytes\":10}},\
         \"lost\":{{\"damaged\":{{\"events\":1,\"bytes\":10}}}},\"missed\":{{}}}}}}}}"
    );
    Status::parse(&text).unwrap()
}

#[test]
fn books_are_believed_only_if_they_add_up() {
    assert_eq!(status(true, 7).imbalance(), None);
    assert!(status(false, 7).imbalance().is_some_and(|wrong| wrong.contains("out of balance: [\"x\"]")));
    assert!(status(true, 6).imbalance().is_some_and(|wrong| wrong.contains("source files: read")));
    let books = status(true, 7).source("files");
    assert_eq!((books.read.events, books.lost().events, books.pending.bytes), (9, 1, 10));
}

#[test]
fn a_disk_can_be_filled_made_unwritable_and_put_right() {
    disk::mounting(|| {
        let disk = Disk::new(24);
        let file = disk.path().join("file");
        let mut open = fs::File::create(&file).unwrap();
        disk.fill(0);
        assert!(disk.free() < 64 << 10, "{} bytes free", disk.free());
        assert!(open.write_all(&vec![1; 256 << 10]).is_err());
        disk.make_room();
        open.write_all(&vec![1; 256 << 10]).unwrap();
        if disk.kind() == Kind::Ext4 {
            disk.refuse_writes();
            assert!(open.write_all(b"x").is_err() && fs::File::create(disk.path().join("other")).is_err());
            disk.allow_writes();
            open.write_all(b"x").unwrap();
            disk.abort();
            assert!(open.write_all(b"x").is_err() && fs::read(&file).is_ok());
            drop(open);
            disk.repair();
            fs::write(&file, "y").unwrap();
        }
    });
}

#[test]
fn a_link_delays_and_can_be_cut() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = Link::new(Duration::from_millis(100));
    link.lead_to(target.local_addr().unwrap().port());
    let mut near = TcpStream::connect(link.address()).unwrap();
    let (mut far, mut byte) = (target.accept().unwrap().0, [0]);
    let sent = Instant::now();
    near.write_all(b"a").unwrap();
    far.read_exact(&mut byte).unwrap();
    far.write_all(b"b").unwrap();
    near.read_exact(&mut byte).unwrap();
    assert!(sent.elapsed() >= Duration::from_millis(100) && byte == *b"b", "{:?}", sent.elapsed());
    link.cut();
    near.write_all(b"c").unwrap();
    far.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(far.read_exact(&mut byte).is_err());
    link.mend();
    far.set_read_timeout(Some(SOON)).unwrap();
    far.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"c");
    drop(far);
    assert_eq!(near.read(&mut byte).unwrap_or(0), 0, "the end of one side is told to the other");
}

fn produce(broker: &Broker, topic: &str, lines: impl Iterator<Item = String>) {
    // Else a batch that is sent again, because the topic is so new, comes behind the next one.
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).set("enable.idempotence", "true").create().unwrap();
    for line in lines {
        producer.send(BaseRecord::<str, str>::to(topic).payload(&line).key("w:app.0")).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(SOON).unwrap();
    assert!(broker.count(topic) > 0, "nothing of it was taken");
}

fn verdict_on(broker: &Broker, topic: &str, format: Format, lines: u64) -> Verdict {
    oracle::read(broker, topic, format, Isolation::ReadCommitted, &one_stream(lines))
}

#[test]
fn numbered_lines_through_a_real_broker_are_judged_rightly() {
    let broker = Broker::shared();
    broker.create_topic("harness-whole", 3, &[("retention.ms", "3600000")]);
    produce(broker, "harness-whole", (0..5000).map(|number| line("w:app.0", number, 100)));
    let verdict = verdict_on(broker, "harness-whole", Format::Raw, 5000);
    verdict.assert_nothing_lost();
    verdict.assert_order_kept();
    verdict.assert_duplicates_at_most(0);
    assert_eq!((verdict.partitions().len(), broker.count("harness-whole")), (1, 5000));

    broker.create_topic("harness-holed", 1, &[]);
    produce(broker, "harness-holed", (0..5000).filter(|&number| number != 1234).map(|number| line("w:app.0", number, 100)));
    let verdict = verdict_on(broker, "harness-holed", Format::Raw, 5000);
    assert_eq!(verdict.streams["w:app.0"].lost, [1234]);
}

#[test]
fn lines_are_found_in_json_values() {
    let broker = Broker::shared();
    broker.create_topic("harness-json", 1, &[]);
    produce(broker, "harness-json", (0..3).map(|number| format!("{{\"v\":1,\"message\":\"{}\"}}", line("w:app.0", number, 9))));
    verdict_on(broker, "harness-json", Format::Json, 3).assert_nothing_lost();
    let records = topic::records(&broker.bootstrap(), "harness-json", Isolation::ReadUncommitted);
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(records[0].key.as_deref(), Some(&b"w:app.0"[..]));
}

#[test]
fn a_topic_can_be_deleted_and_made_again() {
    let broker = Broker::shared();
    broker.create_topic("harness-gone", 1, &[]);
    produce(broker, "harness-gone", std::iter::once("x".to_owned()));
    broker.delete_topic("harness-gone");
    broker.create_topic("harness-gone", 2, &[]);
    assert_eq!(broker.count("harness-gone"), 0);
}

#[test]
fn a_broker_keeps_its_data_over_a_kill_a_stop_and_a_freeze() {
    let mut broker = Broker::start();
    broker.create_topic("kept", 1, &[]);
    produce(&broker, "kept", (0..1000).map(|number| line("w:app.0", number, 100)));
    broker.kill9();
    broker.restart();
    verdict_on(&broker, "kept", Format::Raw, 1000).assert_nothing_lost();
    broker.stop_gently();
    broker.restart();
    verdict_on(&broker, "kept", Format::Raw, 1000).assert_nothing_lost();
    broker.freeze();
    let asking = topic::consumer(&broker.bootstrap(), Isolation::ReadUncommitted);
    let asked = rdkafka::consumer::Consumer::fetch_metadata(&asking, None, Duration::from_millis(500));
    assert!(asked.is_err(), "a frozen broker does not answer");
    broker.thaw();
    verdict_on(&broker, "kept", Format::Raw, 1000).assert_nothing_lost();
}
