//! What stands in files arrives as it is, within the budget; what holds nothing is not shipped.

use std::os::unix::fs::FileExt;

use super::*;

#[test]
fn empty_lines_nul_bytes_carriage_returns_and_what_is_not_utf8_arrive_as_they_are() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("a.log", b"\n\r\na\0b\nc\rd\r\n\xff\xfe\xc3\n \t\n\0\n");
    rig.settle();
    let lines: Vec<_> = rig.acked.iter().map(|got| got.bytes.as_slice()).collect();
    assert_eq!(lines, [&b""[..], b"", b"a\0b", b"c\rd", b"\xff\xfe\xc3", b" \t", b"\0"]);
    assert_eq!(rig.ledger().delivered, crate::ledger::Count { events: 7, bytes: 21 });
}

#[test]
fn a_line_of_50_mb_comes_back_from_its_parts_and_is_never_held_whole() {
    let mut rig = Rig::new(&["*.log"]);
    rig.budget = Budget::new(4 << 20);
    // Of a length that no block divides, so that a part at a wrong place is seen.
    let pattern: Vec<u8> = (0..100_003_u32).flat_map(u32::to_le_bytes).filter(|byte| *byte != b'\n').collect();
    let mut line = pattern.repeat((50 << 20) / pattern.len() + 1);
    line.truncate(50 << 20);
    line.extend_from_slice(b"\nnext\n");
    rig.write("a.log", &line);
    let mut most = 0;
    while !rig.read() || !rig.batches.lock().unwrap().is_empty() {
        most = most.max(rig.budget.used());
        rig.ack(None);
    }
    assert!(most <= 6 << 20, "{most} bytes were held at once");
    let next = rig.acked.pop().unwrap();
    assert_eq!((next.bytes.as_slice(), next.part), (&b"next"[..], None));
    assert!(rig.acked.len() > 50);
    let mut joined = Vec::new();
    for (got, number) in rig.acked.iter().zip(1..) {
        assert_eq!((got.part, got.line_start), (Some((number, got.to == 50 * (1 << 20) + 1)), 0));
        joined.extend_from_slice(&got.bytes);
    }
    joined.extend_from_slice(b"\nnext\n");
    assert!(joined == line, "the parts make the line");
    assert_eq!(rig.ledger().delivered.events, 2);
}

#[test]
fn without_room_nothing_is_read_and_nothing_lost_and_it_goes_on_when_room_is_given_back() {
    let mut rig = Rig::new(&["*.log"]);
    rig.budget = Budget::new(100_000);
    let line = "x".repeat(99);
    (0..10).for_each(|file| drop(rig.write(&format!("{file}.log"), format!("{line}\n").repeat(300))));
    assert!(!rig.read());
    let (used, waiting) = (rig.budget.used(), rig.batches.lock().unwrap().len());
    assert!(waiting < 10);
    (0..50).for_each(|_| assert!(matches!(rig.turn(), Next::Room(_))));
    assert_eq!((rig.budget.used(), rig.batches.lock().unwrap().len()), (used, waiting));
    rig.settle();
    assert_eq!((rig.acked.len(), rig.budget.used()), (3000, 0));
}

#[test]
fn a_hole_is_skipped_and_counted() {
    let mut rig = Rig::new(&["*.log"]);
    let file = rig.write("a.log", "before\n");
    File::options().write(true).open(rig.path("a.log")).unwrap().write_all_at(b"behind\n", (1 << 20) + 5000).unwrap();
    drop(file);
    rig.settle();
    assert_eq!(rig.texts(), ["before", "behind"]);
    assert_eq!(rig.missed(Missed::Hole), (1 << 20) + 5000 - 7);
    // Found again by what is in front of it.
    rig.stop();
    rig.write("a.log", "more\n");
    rig.settle();
    assert_eq!(rig.texts(), ["more"]);
}

#[test]
fn a_writer_that_goes_on_at_its_old_offset_after_truncation_ships_no_zeros() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("a.log", "old\n".repeat(3000));
    rig.settle();
    rig.acked.clear();
    rig.truncate("a.log");
    File::options().write(true).open(rig.path("a.log")).unwrap().write_all_at(b"new\n", 12_000).unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["new"]);
    assert_eq!(rig.missed(Missed::Hole), 12_000);
}

#[test]
fn lines_written_into_room_set_aside_arrive_and_the_room_is_never_shipped() {
    for fallocate in [false, true] {
        let mut rig = Rig::new(&["*.log"]);
        let name = "a.log";
        let mut file = File::create(rig.path(name)).unwrap();
        if fallocate {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 4 << 20).unwrap();
        } else {
            file.set_len(4 << 20).unwrap();
        }
        rig.settle();
        file.write_all(b"one\n").unwrap();
        rig.settle();
        file.write_all(b"two\nha").unwrap();
        rig.settle();
        rig.stop();
        file.write_all(b"lf\n").unwrap();
        rig.settle();
        rig.wait(Duration::from_secs(60));
        file.write_all(b"four\n").unwrap();
        rig.settle();
        // Trimmed by its writer when it is done.
        file.set_len(18).unwrap();
        rig.settle();
        rig.rename(name, "a.log.1");
        rig.settle();
        rig.wait(Duration::from_secs(60));
        rig.settle();
        assert_eq!(rig.texts(), ["one", "two", "half", "four"], "fallocate: {fallocate}");
        assert_eq!(rig.ledger().missed, std::collections::BTreeMap::new());
    }
}

#[test]
fn a_compressed_file_is_never_read_as_text() {
    let mut rig = Rig::new(&["*"]);
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03not\ntext\n";
    rig.write("whole", gzip);
    rig.write("app.log", "text\n");
    rig.settle();
    // While it is made it is empty; and under a name that rotation gives.
    for name in ["empty", "app.log.1.gz"] {
        let mut file = File::create(rig.path(name)).unwrap();
        rig.settle();
        file.write_all(gzip).unwrap();
    }
    for _ in 0..3 {
        rig.settle();
        rig.wait(Duration::from_secs(6));
    }
    assert_eq!(rig.texts(), ["text"]);
    assert_eq!(rig.source.as_ref().unwrap().told.len(), 3);
    rig.stop();
    rig.settle();
    assert!(rig.texts().is_empty());
    assert_eq!(rig.store.rows.len(), 1, "only what is read is a stream");
}
