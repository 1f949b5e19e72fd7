//! Files in every kind of encoding, cut by blocks at any place and by messages of any size, against decoding them whole.

use super::*;
use crate::encode::raw;
use crate::source::file::split::{Cut, Rest, split};
use proptest::prelude::*;

const LABELS: [&str; 10] = ["utf-16le", "utf-16be", "utf-16", "latin1", "windows-1252", "shift_jis", "gbk", "gb18030", "euc-kr", "utf-8"];

/// The text in this encoding, as programs write it; what it does not have is left out.
fn encoded(label: &str, text: &str) -> Vec<u8> {
    match label {
        "utf-16le" | "utf-16" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "utf-16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        _ => {
            let encoding = Encoding::for_label(label.as_bytes()).unwrap();
            let has = |character: &char| !encoding.encode(character.encode_utf8(&mut [0; 4])).2;
            encoding.encode(&text.chars().filter(has).collect::<String>()).0.into_owned()
        }
    }
}

fn charset(label: &str) -> Charset {
    Named::of(label).unwrap().of_file(b"")
}

/// The lines of a file that gets no more, read block by block as the source does, each joined from its parts, in UTF-8.
fn read(charset: Charset, file: &[u8], block: usize, room: usize) -> Vec<String> {
    let in_text = |text: &[u8]| raw::fits(text, room);
    let fits = |bytes: &[u8]| charset.fits(bytes, &in_text);
    let (mut offset, mut part, mut line_start, mut limit) = (0, 0, 0, block);
    let (mut lines, mut open) = (Vec::new(), String::new());
    loop {
        let end = (offset + limit).min(file.len());
        let rest = if end < file.len() { if limit > block { Rest::Parts } else { Rest::Wait } } else { Rest::Ship };
        let mut events = Vec::new();
        let data = &file[offset..end];
        let cut =
            Cut { offset: offset as u64, data: 0, part, line_start, skip_to: 0, rest, joining: None, charset: Some(charset), fits: &fits };
        let made = split(data, &cut, &mut events);
        let (bytes, _) = charset.decode_events(data, made.first.map_or(0, |(base, _)| base), &mut events);
        for event in &events {
            assert!(event.len as usize <= room.max(4), "it fits");
            open.push_str(str::from_utf8(&bytes[event.start as usize..][..event.len as usize]).unwrap());
            if event.part().is_none_or(|(_, last)| last) {
                lines.push(std::mem::take(&mut open));
            }
        }
        (part, line_start) = (made.part, made.line_start);
        offset += made.consumed;
        if offset == file.len() {
            return lines;
        }
        limit = if made.consumed == 0 { limit * 2 } else { block };
    }
}

/// The same, the file decoded whole.
fn naive(charset: Charset, file: &[u8]) -> Vec<String> {
    let mut text = String::new();
    charset.decode(file, &mut text);
    let text = text.strip_prefix(MARK).unwrap_or(&text);
    let mut lines: Vec<String> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned()).collect();
    if let Some(rest) = text.rsplit('\n').next() {
        // The last one has no end, so its `\r` is text.
        lines.pop();
        lines.extend((!rest.is_empty()).then(|| rest.to_owned()));
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_line_arrives_whatever_the_blocks_and_messages(
        label in prop::sample::select(LABELS.to_vec()),
        mark in any::<bool>(),
        // Ā and 愀 and 上 have bytes that are a newline's or a `\` in one encoding or another; 𝄞 has two halves in UTF-16.
        text in "([a-z]|[ 0-9\\\\~]|[äöüßé€]|[Āऊ਀਍一上愀表ソ能ｱ한글]|[\u{1D11E}😀]|\r|\n|\r\n){0,60}",
        block in 8_usize..70,
        room in 4_usize..90,
    ) {
        let mark = if mark && label.starts_with("utf") { MARK } else { "" };
        let file = encoded(label, &format!("{mark}{text}"));
        let charset = Named::of(label).unwrap().of_file(&file);
        let wanted = naive(charset, &file);
        if !label.starts_with("utf") || wanted == naive(charset, &encoded(label, &text)) {
            prop_assert_eq!(read(charset, &file, block, room), wanted);
        }
    }

    #[test]
    fn whatever_the_bytes_are_no_line_end_is_lost_and_it_comes_to_an_end(
        label in prop::sample::select(LABELS.to_vec()),
        file in prop::collection::vec(prop_oneof![Just(b'\n'), Just(0), any::<u8>()], 0..200),
        block in 8_usize..70,
    ) {
        let charset = charset(label);
        let lines = read(charset, &file, block, 1000);
        let ends = charset.line_ends(&file, 0).count();
        prop_assert!(lines.len() == ends || lines.len() == ends + 1);
        if charset.unit() == 1 {
            let naive = file.split(|byte| *byte == b'\n').map(|line| {
                let mut text = String::new();
                charset.decode(line.strip_suffix(b"\r").unwrap_or(line), &mut text);
                text
            });
            // The first one may have a mark.
            for (line, naive) in lines.iter().zip(naive).take(ends).skip(1) {
                prop_assert_eq!(line, &naive);
            }
        }
    }
}

#[test]
fn labels_are_those_of_the_standard_that_can_be_cut_at_line_ends() {
    for (label, name) in
        [("latin1", "windows-1252"), ("UTF-16", "UTF-16LE"), ("Shift_JIS", "Shift_JIS"), ("gb2312", "GBK"), ("cp1251", "windows-1251")]
    {
        assert_eq!(Named::of(label).unwrap().of_file(b"").name(), name);
    }
    for label in ["", "utf-7", "utf-32", "iso-2022-jp", "iso-2022-kr", "hz-gb-2312", "klingon"] {
        assert_eq!(Named::of(label), None, "{label}");
    }
    assert_eq!(Named::of("utf-16").unwrap().of_file(b"\xFE\xFF\0a").name(), "UTF-16BE");
    assert_eq!(Named::of("utf-16le").unwrap().of_file(b"\xFE\xFF\0a").name(), "UTF-16LE");
}

#[test]
fn a_newline_in_utf_16_is_two_aligned_bytes() {
    let ends = |label, bytes: &[u8], offset| charset(label).line_ends(bytes, offset).collect::<Vec<_>>();
    // U+0A00, U+000A, U+0A0A, U+000A.
    assert_eq!(ends("utf-16le", b"\0\x0A\x0A\0\x0A\x0A\x0A\0", 0), [2, 6]);
    assert_eq!(ends("utf-16be", b"\x0A\0\0\x0A\x0A\x0A\0\x0A", 0), [2, 6]);
    // The second half is not there yet, or was read before.
    assert_eq!(ends("utf-16le", b"a\0\x0A", 0), [0_usize; 0]);
    assert_eq!(ends("utf-16be", b"\x0Aaa\0\x0A", 7), [3]);
}

#[test]
fn what_is_no_character_is_replaced_and_told() {
    let mut text = String::new();
    assert!(charset("utf-16le").decode(b"a\0\0\xD8b\0c", &mut text));
    assert!(charset("shift_jis").decode(b"\x83", &mut text));
    assert!(!charset("windows-1252").decode(b"\x80", &mut text));
    assert_eq!(text, "a\u{FFFD}b\u{FFFD}\u{FFFD}€");
}
