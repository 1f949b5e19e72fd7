//! Files that were compressed before they were read to their end, by the real gzip, zstd and logrotate where they are installed.

use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;

const TOOLS: [(&str, &str); 2] = [("gzip", "gz"), ("zstd", "zst")];

fn is_there(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        eprintln!("{tool} is not installed: not tested with it");
    }
    there
}

/// Compresses a file in place, as the tool does: the file is gone afterwards.
fn compress(rig: &Rig, tool: &str, name: &str) {
    let rm: &[&str] = if tool == "zstd" { &["--rm"] } else { &[] };
    let done = Command::new(tool).arg("-q").args(rm).arg(rig.path(name)).status().unwrap();
    assert!(done.success());
}

fn lines(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|line| format!("line {line:06} of many, which are all different")).collect()
}

fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

/// Reads and acknowledges over some time.
fn settle_long(rig: &mut Rig) {
    for _ in 0..8 {
        rig.settle();
        rig.wait(Duration::from_secs(2));
    }
    rig.settle();
}

fn stream_of(rig: &Rig, name: &str) -> StreamId {
    rig.settlement.streams_at(rig.path(name).as_os_str().as_encoded_bytes()).remove(0).0
}

#[test]
fn what_was_compressed_while_stopped_is_finished_at_the_right_byte() {
    for (tool, suffix) in TOOLS.into_iter().filter(|(tool, _)| is_there(tool)) {
        for glob in ["*.log", "app.log*"] {
            for delayed in [false, true] {
                let mut rig = Rig::new(&[glob]);
                let all = lines(0, 40_000);
                rig.write("app.log", text(&all[..2]));
                rig.settle();
                if delayed {
                    rig.rename("app.log", "app.log.1");
                    rig.write("app.log", "between\n");
                    rig.write("app.log.1", text(&all[2..5]));
                    rig.settle();
                }
                let first = rig.acked.clone();
                rig.stop();
                if delayed {
                    rig.write("app.log.1", text(&all[5..]));
                    rig.rename("app.log.1", "app.log.2");
                    rig.rename("app.log", "app.log.1");
                    compress(&rig, tool, "app.log.2");
                } else {
                    rig.write("app.log", text(&all[2..]) + "and a last one without its end");
                    rig.rename("app.log", "app.log.1");
                    compress(&rig, tool, "app.log.1");
                }
                rig.write("app.log", "new\n");
                settle_long(&mut rig);
                let of_stream: Vec<_> = rig.acked.iter().filter(|got| got.stream == first[0].stream).cloned().collect();
                let mut offset = 0;
                for (got, line) in of_stream.iter().zip(&all) {
                    assert_eq!((String::from_utf8_lossy(&got.bytes).as_ref(), got.line_start), (line.as_str(), offset), "{suffix} {glob}");
                    assert_eq!(got.path, "app.log");
                    offset += line.len() as u64 + 1;
                }
                let texts = rig.texts();
                let mut wanted = all.clone();
                if delayed {
                    wanted.splice(5..5, []);
                    wanted.extend(["between".to_owned(), "new".to_owned()]);
                    assert_eq!(texts.iter().collect::<HashSet<_>>(), wanted.iter().collect(), "{suffix} {glob}");
                    assert_eq!(texts.len(), wanted.len());
                } else {
                    wanted.extend(["and a last one without its end…".to_owned(), "new".to_owned()]);
                    assert_eq!(texts, wanted, "{suffix} {glob}: in order");
                }
                assert_eq!((rig.ledger().missed, rig.ledger().possible_duplicates), Default::default());
                // Whatever happens then, it is not read again.
                rig.stop();
                settle_long(&mut rig);
                rig.rename(&format!("app.log.{}.{suffix}", 1 + u8::from(delayed)), &format!("app.log.5.{suffix}"));
                settle_long(&mut rig);
                rig.stop();
                settle_long(&mut rig);
                assert_eq!(rig.texts(), Vec::<String>::new());
                assert!(rig.ledger().missed.is_empty());
            }
        }
    }
}

#[test]
fn what_is_compressed_while_there_is_no_room_is_read_on_from_the_file_that_is_held_open() {
    for glob in ["*.log", "app.log*"] {
        let mut rig = Rig::new(&[glob]);
        rig.budget = Budget::new(60_000);
        let all = lines(0, 40_000);
        rig.write("app.log", text(&all));
        assert!(!rig.read());
        rig.rename("app.log", "app.log.1");
        compress(&rig, "gzip", "app.log.1");
        assert!(!rig.read());
        // A kill in the middle: the rest is in the compressed file.
        for round in 0..3 {
            rig.ack_all();
            assert!(!rig.read());
            rig.ack_all();
            if round > 0 {
                rig.stop();
            }
        }
        settle_long(&mut rig);
        assert_eq!(rig.texts(), all, "{glob}");
        assert_eq!((rig.ledger().missed, rig.ledger().possible_duplicates), Default::default());
    }
}

#[test]
fn after_a_kill_in_the_middle_of_a_compressed_file_reading_resumes_at_the_snapshot() {
    let mut rig = Rig::new(&["*.log"]);
    let all = lines(0, 40_000);
    rig.write("app.log", text(&all[..10]));
    rig.settle();
    rig.stop();
    rig.write("app.log", text(&all[10..]));
    rig.rename("app.log", "app.log.1");
    compress(&rig, "gzip", "app.log.1");
    rig.budget = Budget::new(40_000);
    for _ in 0..4 {
        rig.read();
        rig.ack(None);
        rig.read();
        rig.ack(Some(7));
        rig.commit();
        rig.kill();
    }
    settle_long(&mut rig);
    assert_eq!(rig.texts(), all);
    assert_eq!(rig.ledger().delivered.events, 40_000);
    assert!(rig.ledger().missed.is_empty());
}

#[test]
fn what_was_read_of_a_compressed_file_and_not_settled_before_a_kill_is_read_again() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.settle();
    rig.stop();
    rig.write("app.log", "two\nthree\n");
    rig.rename("app.log", "app.log.1");
    compress(&rig, "gzip", "app.log.1");
    for _ in 0..8 {
        rig.read();
        rig.wait(Duration::from_secs(2));
    }
    rig.ack(Some(1));
    rig.stop();
    settle_long(&mut rig);
    assert_eq!(rig.texts(), ["one", "two", "three"]);
    assert!(rig.ledger().missed.is_empty());
}

#[test]
fn two_generations_each_go_on_where_they_are_and_a_wrong_file_beside_them_is_left_alone() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "a1\na2\n");
    rig.settle();
    rig.rename("app.log", "app.log.1");
    rig.write("app.log", "b1\n");
    rig.settle();
    let older = stream_of(&rig, "app.log.1");
    rig.stop();
    rig.write("app.log.1", "a3\n");
    rig.write("app.log", "b2\n");
    rig.rename("app.log.1", "app.log.2");
    rig.rename("app.log", "app.log.1");
    compress(&rig, "gzip", "app.log.2");
    // Begins like the one that is sought, and has a name like its own.
    rig.write("app.log.3", "a1\na2, or not\nwrong\n");
    compress(&rig, "gzip", "app.log.3");
    rig.write("app.log.4", "nothing alike\n");
    compress(&rig, "gzip", "app.log.4");
    rig.write("app.log", "c1\n");
    settle_long(&mut rig);
    let last = rig.acked.iter().find(|got| got.bytes == b"a3").unwrap();
    assert_eq!((last.stream, last.line_start), (older, 6));
    assert_eq!(rig.texts(), ["a1", "a2", "b1", "a3", "b2", "c1"]);
    assert!(rig.ledger().missed.is_empty());
}

#[test]
fn a_copy_that_was_compressed_finishes_the_truncated_file() {
    for running in [false, true] {
        let mut rig = Rig::new(&["*.log"]);
        rig.write("app.log", "one\n");
        rig.settle();
        if !running {
            rig.stop();
        }
        rig.write("app.log", "two\n");
        fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
        rig.truncate("app.log");
        rig.write("app.log", "three\n");
        compress(&rig, "gzip", "app.log.1");
        settle_long(&mut rig);
        assert_eq!(rig.texts(), ["one", "two", "three"]);
        rig.stop();
        settle_long(&mut rig);
        assert!(rig.texts().is_empty() && rig.ledger().missed.is_empty());
    }
}

#[test]
fn a_file_that_was_closed_before_it_was_compressed_goes_on_in_its_compressed_form() {
    for unread in [false, true] {
        let mut rig = Rig::new(&["*.log"]);
        rig.write("app.log", "one\n");
        rig.settle();
        rig.source.as_mut().unwrap().tailed.values_mut().for_each(|tailed| tailed.file = None);
        if unread {
            rig.write("app.log", "two\n");
        }
        rig.rename("app.log", "app.log.1");
        compress(&rig, "gzip", "app.log.1");
        settle_long(&mut rig);
        assert_eq!(rig.texts(), if unread { vec!["one", "two"] } else { vec!["one"] });
        assert_eq!((rig.ledger().missed.len(), rig.source.as_ref().unwrap().tailed.len()), (0, 0));
    }
}

#[test]
fn one_that_is_still_being_written_is_waited_for() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.settle();
    rig.stop();
    rig.write("app.log", text(&lines(0, 500)));
    rig.rename("app.log", "app.log.1");
    compress(&rig, "gzip", "app.log.1");
    let whole = fs::read(rig.path("app.log.1.gz")).unwrap();
    let file = File::create(rig.path("app.log.1.gz")).unwrap();
    // What comes later under the same key waits for it.
    rig.write("app.log", "new\n");
    for end in [20, 200, whole.len() - 1] {
        file.write_all_at(&whole[..end], 0).unwrap();
        rig.settle();
        rig.wait(Duration::from_secs(3));
        rig.settle();
        assert_eq!(rig.texts().len(), usize::from(end == 20), "nothing of a file that is not whole");
    }
    file.write_all_at(&whole, 0).unwrap();
    settle_long(&mut rig);
    let mut wanted = lines(0, 500);
    wanted.push("new".to_owned());
    assert_eq!(rig.texts(), wanted);
    assert!(rig.ledger().missed.is_empty());
}

#[test]
fn one_that_is_damaged_or_never_finished_is_counted_and_nothing_of_it_is_sent() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 3] =
        [|bytes| bytes.truncate(100), |bytes| *bytes.iter_mut().rev().nth(100).unwrap() ^= 0x55, |bytes| *bytes.last_mut().unwrap() ^= 1];
    for damage in damages {
        let mut rig = Rig::new(&["*.log"]);
        rig.write("app.log", "one\n");
        rig.settle();
        let rest = text(&lines(0, 500));
        rig.write("app.log", &rest);
        rig.read();
        rig.acked.clear();
        rig.stop();
        rig.rename("app.log", "app.log.1");
        compress(&rig, "gzip", "app.log.1");
        let mut bytes = fs::read(rig.path("app.log.1.gz")).unwrap();
        damage(&mut bytes);
        fs::write(rig.path("app.log.1.gz"), bytes).unwrap();
        rig.write("app.log", "new\n");
        settle_long(&mut rig);
        assert_eq!(rig.texts(), ["new"]);
        assert_eq!(rig.missed(Missed::Damaged), rest.len() as u64);
        rig.stop();
        settle_long(&mut rig);
        assert_eq!((rig.missed(Missed::Damaged), rig.missed(Missed::Deleted)), (rest.len() as u64, 0), "once");
    }
}

fn reading(glob: &str) -> Rig {
    let mut rig = Rig::new(&[glob]);
    rig.settings.compressed = Compressed::Read;
    rig
}

#[test]
fn with_read_a_compressed_file_of_its_own_is_read_once_also_over_restarts() {
    for (tool, suffix) in TOOLS.into_iter().filter(|(tool, _)| is_there(tool)) {
        let mut rig = reading("app.log*");
        let all = lines(0, 40_000);
        rig.write("app.log.7", text(&all));
        compress(&rig, tool, "app.log.7");
        rig.budget = Budget::new(40_000);
        for _ in 0..3 {
            rig.read();
            rig.ack(None);
            rig.read();
            rig.ack(Some(7));
            rig.stop();
        }
        settle_long(&mut rig);
        assert_eq!(rig.texts(), all);
        rig.rename(&format!("app.log.7.{suffix}"), &format!("app.log.8.{suffix}"));
        settle_long(&mut rig);
        rig.stop();
        settle_long(&mut rig);
        assert!(rig.texts().is_empty());
        assert_eq!((rig.ledger().missed, rig.ledger().possible_duplicates), Default::default());
    }
}

#[test]
fn with_read_the_compressed_form_of_a_file_that_was_read_is_not_read_again() {
    for stopped in [false, true] {
        let mut rig = reading("app.log*");
        for round in 0..4 {
            rig.write("app.log", format!("same\nround {round}\n"));
            rig.settle();
            if stopped {
                rig.stop();
            }
            if round > 0 {
                rig.rename("app.log.1.gz", &format!("app.log.{}.gz", round + 2));
            }
            rig.rename("app.log", "app.log.1");
            compress(&rig, "gzip", "app.log.1");
            settle_long(&mut rig);
            settle_long(&mut rig);
        }
        let texts = rig.texts();
        assert_eq!(texts.iter().filter(|text| *text == "same").count(), 4, "stopped: {stopped}: {texts:?}");
        assert_eq!((rig.ledger().missed, rig.ledger().possible_duplicates), Default::default());
    }
}

#[test]
fn with_read_a_damaged_file_of_its_own_is_counted_and_read_when_it_is_mended() {
    let mut rig = reading("app.log*");
    rig.settle();
    rig.write("app.log.1", text(&lines(0, 50)));
    compress(&rig, "gzip", "app.log.1");
    let whole = fs::read(rig.path("app.log.1.gz")).unwrap();
    fs::write(rig.path("app.log.1.gz"), &whole[..100]).unwrap();
    settle_long(&mut rig);
    settle_long(&mut rig);
    assert_eq!((rig.missed(Missed::Damaged), rig.texts().len()), (100, 0));
    fs::write(rig.path("app.log.1.gz"), &whole).unwrap();
    settle_long(&mut rig);
    assert_eq!(rig.texts(), lines(0, 50));
}

#[test]
fn with_read_the_first_run_leaves_out_what_it_is_told_to() {
    let mut rig = reading("app.log*");
    rig.settings.start_at = StartAt::End;
    rig.write("app.log.1", text(&lines(0, 50)));
    compress(&rig, "gzip", "app.log.1");
    settle_long(&mut rig);
    rig.stop();
    settle_long(&mut rig);
    assert!(rig.texts().is_empty() && rig.missed(Missed::BeforeFirstRun) > 0);
}

#[test]
fn many_compressed_files_are_unpacked_one_at_a_time() {
    let mut rig = reading("*.gz");
    for number in 0..30 {
        rig.write(&format!("old-{number:02}"), text(&lines(number * 100, number * 100 + 100)));
        compress(&rig, "gzip", &format!("old-{number:02}"));
    }
    let busy = |rig: &Rig| {
        let tailed = &rig.source.as_ref().unwrap().tailed;
        tailed.values().filter(|tailed| tailed.packed().is_some_and(unpack::Packed::is_busy)).count()
    };
    rig.budget = Budget::new(20_000);
    for _ in 0..500 {
        rig.turn();
        assert!(busy(&rig) <= 1);
        rig.ack(None);
    }
    settle_long(&mut rig);
    let mut texts = rig.texts();
    texts.sort();
    assert_eq!(texts, lines(0, 3000));
}

#[test]
fn logrotate_compresses_what_was_not_read_yet() {
    if !is_there("logrotate") {
        return;
    }
    for (number, options) in
        ["", "delaycompress", "copytruncate", "copytruncate delaycompress", "dateext dateformat -%s"].into_iter().enumerate()
    {
        for running in [true, false] {
            let mut rig = Rig::new(&["*.log"]);
            let config = rig.path("logrotate.conf");
            let options = options.replace(' ', "\n").replace("dateformat\n", "dateformat ");
            let body = format!("{}/app.log {{\nsu root root\nrotate 9\ncreate\ncompress\n{options}\n}}\n", rig.dir.path().display());
            fs::write(&config, body).unwrap();
            let mut wanted = Vec::new();
            for round in 0..4 {
                for line in 0..50 {
                    wanted.push(format!("round {round} line {line}"));
                    rig.write("app.log", format!("round {round} line {line}\n"));
                    if line == 20 {
                        rig.settle();
                    }
                }
                if !running {
                    rig.stop();
                }
                // Its dates have whole seconds.
                if options.contains("dateext") && round > 0 {
                    std::thread::sleep(Duration::from_millis(1100));
                }
                let state = rig.path("logrotate.state");
                let done = Command::new("logrotate").arg("-f").arg("-s").arg(&state).arg(&config).output().unwrap();
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
                settle_long(&mut rig);
            }
            settle_long(&mut rig);
            assert_eq!(rig.texts(), wanted, "{number}: {options}, running: {running}");
            assert_eq!((rig.ledger().missed, rig.ledger().possible_duplicates), Default::default());
        }
    }
}
