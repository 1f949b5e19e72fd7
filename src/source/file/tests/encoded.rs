//! Files that are written in another encoding than UTF-8: what comes of their lines, zeros and marks, over restarts and compression.

use std::os::unix::fs::FileExt;

use super::*;
use crate::source::file::charset::Named;

fn rig(label: &str) -> Rig {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.charset = Some(Named::of(label).unwrap());
    rig
}

fn little(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn big(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn utf_16_arrives_as_utf_8_however_little_of_it_is_there_at_a_time() {
    for (label, encode) in [("utf-16", little as fn(&str) -> Vec<u8>), ("utf-16", big), ("utf-16le", little), ("utf-16be", big)] {
        let mut rig = rig(label);
        let file = encode("\u{FEFF}first ä\r\nĀ上𝄞\r\n\r\n\u{A00}last\n");
        for (at, byte) in file.iter().enumerate() {
            rig.write("a.log", [*byte]);
            rig.settle();
            if at % 7 == 0 {
                rig.stop();
            }
        }
        assert_eq!(rig.texts(), ["first ä", "Ā上𝄞", "", "\u{A00}last"], "{label}");
        let ledger = rig.ledger();
        assert_eq!((ledger.delivered.events, ledger.delivered.bytes), (4, file.len() as u64));
        assert_eq!(ledger.missed, std::collections::BTreeMap::new());
        rig.commit();
        let row = rig.store.rows.values().next().unwrap();
        assert_eq!(row.position.offset, file.len() as u64, "positions are those of the file");
    }
}

#[test]
fn zeros_that_hold_nothing_are_told_from_zeros_of_text() {
    for encode in [little as fn(&str) -> Vec<u8>, big] {
        let mut rig = rig("utf-16");
        let before = encode("\u{FEFF}before\n");
        let file = rig.write("a.log", &before);
        file.set_len(1 << 20).unwrap();
        rig.settle();
        assert_eq!(rig.texts(), ["before"]);
        let file = File::options().write(true).open(rig.path("a.log")).unwrap();
        file.write_all_at(&encode("more\n"), before.len() as u64).unwrap();
        rig.settle();
        file.write_all_at(&encode("behind\n"), (1 << 20) + 5000).unwrap();
        rig.settle();
        assert_eq!(rig.texts(), ["more", "behind"]);
        let unread = (1 << 20) + 5000 - before.len() - encode("more\n").len();
        assert_eq!(rig.missed(Missed::Hole), unread as u64);
        rig.stop();
        rig.write("a.log", encode("end\n"));
        rig.settle();
        assert_eq!(rig.texts(), ["end"]);
    }
}

#[test]
fn compressed_forms_are_decoded_likewise() {
    for encode in [little as fn(&str) -> Vec<u8>, big] {
        let mut rig = rig("utf-16");
        let begin = encode("\u{FEFF}one\n");
        let rest = encode(&"two words\n".repeat(100_000));
        rig.write("a.log", &begin);
        rig.settle();
        rig.write("a.log", &rest);
        let whole = [begin, rest].concat();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&whole).unwrap();
        rig.write("a.log.1.gz", packed.finish().unwrap());
        rig.stop();
        fs::remove_file(rig.path("a.log")).unwrap();
        for _ in 0..3 {
            rig.settle();
            rig.wait(Duration::from_secs(6));
        }
        let texts = rig.texts();
        assert_eq!((texts.len(), texts[0].as_str(), texts[100_000].as_str()), (100_001, "one", "two words"));
        assert_eq!(rig.ledger().missed, std::collections::BTreeMap::new());
    }
}

#[test]
fn the_first_run_begins_behind_the_last_line() {
    for encode in [little as fn(&str) -> Vec<u8>, big] {
        let mut rig = rig("utf-16");
        rig.settings.start_at = StartAt::End;
        rig.write("a.log", encode("\u{FEFF}old\n\u{A00}hal"));
        rig.settle();
        rig.write("a.log", encode("f\nnew\n"));
        rig.settle();
        assert_eq!(rig.texts(), ["\u{A00}half", "new"]);
    }
}

#[test]
fn what_is_no_character_is_replaced_and_counted() {
    let mut rig = rig("shift_jis");
    rig.write("a.log", b"\x83\x5C\x83\x4C\ngood\n\x83\nbad \xFF\n");
    rig.settle();
    assert_eq!(rig.texts(), ["ソキ", "good", "\u{FFFD}", "bad \u{FFFD}"]);
    assert_eq!(rig.ledger().missed[&Missed::Undecodable].events, 2);
    assert!(!Missed::Undecodable.is_gap());
    assert_eq!(rig.ledger().delivered.events, 4);
}

#[test]
fn long_lines_go_in_parts_and_lines_are_joined_by_their_text() {
    use crate::source::multiline::{Lines, Multiline, Own};
    let mut rig = rig("utf-16be");
    rig.budget = Budget::new(100_000);
    rig.max_event = 5000;
    let own = Own { next: Some(regex::bytes::Regex::new("^ä").unwrap()), ..Own::default() };
    rig.settings.multiline = Some(Multiline { lines: Lines::Own(own), max_lines: 10, max_size: 1000, timeout: Duration::from_secs(1) });
    let long = "上é𝄞".repeat(30_000);
    rig.write("a.log", big(&format!("one\näb\n{long}\ntwo\n")));
    while !rig.read() || !rig.batches.lock().unwrap().is_empty() {
        rig.ack_all();
    }
    rig.wait(Duration::from_secs(2));
    rig.settle();
    let parts: Vec<_> = rig.acked.drain(..).map(|got| (String::from_utf8(got.bytes).unwrap(), got.part)).collect();
    assert_eq!((parts[0].0.as_str(), parts.last().unwrap().0.as_str()), ("one\näb", "two"));
    let inner = &parts[1..parts.len() - 1];
    assert!(inner.len() > 50 && inner.iter().all(|(text, part)| text.len() <= 5000 && part.is_some()));
    assert_eq!(inner.iter().map(|(text, _)| text.as_str()).collect::<String>(), long);
    assert_eq!((rig.ledger().delivered.events, rig.ledger().merged.events), (3, 1));
}
