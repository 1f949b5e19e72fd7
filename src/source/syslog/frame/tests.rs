//! However a stream is cut, its messages are the same, and what is long or broken is told.

use super::*;
use proptest::prelude::*;

fn limits(piece: usize, message: usize, too_long: TooLong) -> Limits {
    Limits { piece, message, too_long }
}

type Messages = Vec<(Vec<u8>, bool)>;

/// The messages, put together again, of a stream that comes in these pieces; with each whether it is whole.
fn read(limits: Limits, pieces: &[&[u8]]) -> (Messages, Facts) {
    read_by(Framer::new(limits), limits, pieces)
}

fn read_by(mut framer: Framer, limits: Limits, pieces: &[&[u8]]) -> (Messages, Facts) {
    let mut facts = Facts::default();
    let (mut buffer, mut messages, mut open): (Vec<u8>, Messages, Vec<u8>) = Default::default();
    let mut take = |buffer: &[u8], frames: &[Frame], next: &mut u32| {
        for frame in frames {
            open.extend_from_slice(&buffer[frame.start as usize..][..frame.len as usize]);
            assert!(frame.len as usize <= limits.piece.max(64), "{frame:?}");
            assert_eq!(frame.part, if frame.part == 0 { 0 } else { *next }, "parts are numbered from 1");
            *next = if frame.last { 1 } else { *next + 1 };
            if frame.last {
                messages.push((std::mem::take(&mut open), !frame.partial));
            }
        }
    };
    let mut next = 1;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut found = Vec::new();
        let done = framer.frames(&buffer, &mut found, &mut facts);
        take(&buffer, &found, &mut next);
        buffer.drain(..done);
        assert!(buffer.len() <= limits.piece.max(64) + 32, "{} bytes are kept", buffer.len());
    }
    let mut found = Vec::new();
    framer.finish(&buffer, &mut found, &mut facts);
    take(&buffer, &found, &mut next);
    (messages, facts)
}

fn texts(limits: Limits, stream: &[u8]) -> Vec<String> {
    let (messages, _) = read(limits, &[stream]);
    messages
        .into_iter()
        .map(|(bytes, whole)| format!("{}{}", String::from_utf8_lossy(&bytes), if whole { "" } else { " (partial)" }))
        .collect()
}

const SPLIT: Limits = Limits { piece: 64, message: 64, too_long: TooLong::Split };

#[test]
fn both_framings_are_told_apart_at_each_message() {
    assert_eq!(texts(SPLIT, b"5 <13>a<14>b\n6 <15>cc"), ["<13>a", "<14>b", "<15>cc"]);
    assert_eq!(texts(SPLIT, b"<13>crlf\r\n<13>nul\0<13>lf\n\r\n\n<13>end"), ["<13>crlf", "<13>nul", "<13>lf", "<13>end (partial)"]);
    assert_eq!(texts(SPLIT, b"12 monkeys\n2026-11-26 a\n5\n007 <13>x\n"), ["12 monkeys", "2026-11-26 a", "5", "007 <13>x"]);
    assert_eq!(texts(SPLIT, b"6 <13>a\n6 <13>b\0"), ["<13>a", "<13>b"], "a newline that was counted is no part of the message");
    assert_eq!(texts(SPLIT, b"9 <13>a\nb\nc<13>d\n"), ["<13>a\nb\nc", "<13>d"], "newlines within a counted message are");
    assert_eq!(texts(SPLIT, b"20 <13>cut short"), ["<13>cut short (partial)"]);
}

#[test]
fn a_count_that_can_t_be_true_makes_the_line_a_message_and_is_told() {
    let (messages, facts) = read(SPLIT, &[b"99999999999 <13>a\n5 <13>b"]);
    assert_eq!(messages, [(b"99999999999 <13>a".to_vec(), true), (b"<13>b".to_vec(), true)]);
    assert_eq!(facts, Facts { bad_counts: 1, ..Facts::default() });
}

#[test]
fn what_is_too_long_is_cut_off_once_and_told_to_the_byte() {
    let long = [b"<13>", &[b'x'; 996][..], b"\n<13>next\n1000 <13>", &[b'y'; 996], b"5 <13>z"].concat();
    let (messages, facts) = read(limits(100, 250, TooLong::Truncate), &[&long]);
    let lengths: Vec<_> = messages.iter().map(|(message, _)| message.len()).collect();
    assert_eq!((lengths, facts.cut), (vec![250, 8, 250, 5], (2, 1500)));
    let (messages, facts) = read(limits(100, 250, TooLong::Split), &[&long]);
    let lengths: Vec<_> = messages.iter().map(|(message, _)| message.len()).collect();
    assert_eq!((lengths, facts), (vec![1000, 8, 1000, 5], Facts::default()));
}

#[test]
fn parts_are_cut_between_characters() {
    let text = format!("<13>{}", "ä€😀".repeat(100));
    let mut framer = Framer::new(SPLIT);
    let (mut found, stream) = (Vec::new(), format!("{text}\n"));
    framer.frames(stream.as_bytes(), &mut found, &mut Facts::default());
    assert!(found.len() > 10);
    for frame in &found {
        assert!(str::from_utf8(&stream.as_bytes()[frame.start as usize..][..frame.len as usize]).is_ok(), "{frame:?}");
    }
}

#[test]
fn a_gigabyte_without_a_newline_is_never_kept() {
    let limits = limits(64 << 10, 64 << 10, TooLong::Split);
    let (mut framer, mut facts, mut buffer) = (Framer::new(limits), Facts::default(), Vec::new());
    let (piece, mut bytes) = (vec![b'x'; 100_000], 0);
    let mut found = Vec::new();
    while bytes < 1 << 30 {
        buffer.extend_from_slice(&piece);
        found.clear();
        let done = framer.frames(&buffer, &mut found, &mut facts);
        bytes += found.iter().map(|frame| frame.len as usize).sum::<usize>();
        buffer.drain(..done);
        assert!(buffer.len() <= (64 << 10) + 2);
    }
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_its_messages_are_the_same(
        stream in prop::collection::vec(prop_oneof![
            "<[0-9]{1,3}>[a-zäö\r ]{0,120}\n".prop_map(String::into_bytes),
            "[0-9]{1,3} <?[a-z\n]{0,9}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..9),
            "<13>[a-zä€\n]{0,150}".prop_map(|text| format!("{} {text}", text.len()).into_bytes()),
        ], 0..8).prop_map(|parts| parts.concat()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        truncate in any::<bool>(),
    ) {
        let limits = limits(64, 100, if truncate { TooLong::Truncate } else { TooLong::Split });
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        at.sort_unstable();
        let pieces: Vec<_> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let (messages, facts) = read(limits, &pieces);
        prop_assert_eq!((&messages, facts), (&read(limits, &[&stream]).0, read(limits, &[&stream]).1));
        let kept: usize = messages.iter().map(|(message, _)| message.len()).sum();
        prop_assert!(kept as u64 + facts.cut.1 <= stream.len() as u64, "nothing is made up");
    }
}

/// A framer that joins what does not begin with a priority.
fn joining() -> Framer {
    use crate::source::multiline::{Lines, Own};
    let lines = Lines::Own(Own { start: Some(regex::bytes::Regex::new("^<").unwrap()), ..Own::default() });
    let timeout = std::time::Duration::from_secs(1);
    Framer::new(SPLIT).joining(Some(Arc::new(Multiline { lines, max_lines: 4, max_size: 1000, timeout })))
}

#[test]
fn lines_without_a_priority_belong_to_the_message_before_them() {
    let texts = |stream: &[u8]| {
        let (messages, _) = read_by(joining(), SPLIT, &[stream]);
        messages.iter().map(|(text, _)| String::from_utf8_lossy(text).replace('\n', "+")).collect::<Vec<_>>()
    };
    assert_eq!(texts(b"<13>a\r\n at b\n\n at c\n<14>d\n"), ["<13>a\r+ at b++ at c", "<14>d"]);
    assert_eq!(texts(b"<13>a\n at b\n5 <13>x<14>c\n"), ["<13>a+ at b", "<13>x", "<14>c"], "what is counted is a message");
    assert_eq!(texts(b"<13>a\n1\n2\n3\n4\n<13>b\n"), ["<13>a+1+2+3", "4", "<13>b"].map(str::to_owned), "no more than max_lines");
    let long = format!("<13>a\n{}\n{}\n", "x".repeat(40), "y".repeat(40));
    assert_eq!(texts(long.as_bytes()).iter().map(String::len).collect::<Vec<_>>(), [46, 40], "no longer than a part");
    assert_eq!(texts(b"<13>a\n at b"), ["<13>a", " at b"], "what has no end is partial and joined to nothing");
}

#[test]
fn a_line_waits_for_the_next_one_until_none_is_waited_for() {
    let (mut framer, mut found, mut facts) = (joining(), Vec::new(), Facts::default());
    assert_eq!(framer.frames(b"<13>a\n at b\n <1", &mut found, &mut facts), 0);
    assert_eq!(framer.settle(b"<13>a\n at b\n <1", &mut found, &mut facts), 12);
    assert_eq!(found, [Frame { start: 0, len: 11, part: 0, last: true, partial: false }]);
    assert_eq!(framer.settle(b" <1", &mut found, &mut facts), 0);
    found.clear();
    assert_eq!(framer.flush(b"<13>a\n at b\n <1", &mut found, &mut facts), 12, "and where memory is short");
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_the_same_lines_are_joined(
        lines in prop::collection::vec("(<13>|5 <13>x| |)[a-z\r]{0,40}(\n|\r\n|\0)", 0..12),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let stream = lines.concat().into_bytes();
        let mut pieces: Vec<&[u8]> = Vec::new();
        let (mut rest, mut turn) = (stream.as_slice(), 0);
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            pieces.push(piece);
            (rest, turn) = (more, turn + 1);
        }
        prop_assert_eq!(read_by(joining(), SPLIT, &pieces), read_by(joining(), SPLIT, &[&stream]));
    }
}
