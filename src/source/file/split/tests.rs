//! The cutting of lines against naive ways to do the same.

use super::*;
use proptest::prelude::*;

/// Reads `file` block by block as the source does, and gives each line's text, joined from its parts, with whether it is partial.
fn read(file: &[u8], block: usize, room: usize, finish: bool) -> Vec<(Vec<u8>, bool)> {
    let fits = |bytes: &[u8]| bytes.len().min(room);
    let (mut offset, mut part, mut line_start) = (0_usize, 0, 0);
    let (mut lines, mut open): (Vec<(Vec<u8>, bool)>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut limit = block;
    loop {
        let end = (offset + limit).min(file.len());
        let full = end - offset == limit;
        let rest = match (full, end == file.len() && finish) {
            (true, _) => Rest::Parts,
            (false, true) => Rest::Ship,
            (false, false) => Rest::Wait,
        };
        let mut events = Vec::new();
        let cut = Cut { offset: offset as u64, data: 0, part, line_start, skip_to: 0, rest, joining: None, charset: None, fits: &fits };
        let data = &file[offset..end];
        let made = split(data, &cut, &mut events);
        let mut to = made.first.map_or(0, |_| 0);
        for event in &events {
            assert!(event.to > to || (event.to == to && event.len == 0), "ends grow");
            assert!(event.len as usize <= room);
            to = event.to;
            open.extend_from_slice(&data[event.start as usize..][..event.len as usize]);
            match event.part() {
                None | Some((_, true)) => lines.push((std::mem::take(&mut open), event.partial())),
                Some((_, false)) => {}
            }
        }
        (part, line_start) = (made.part, made.line_start);
        offset += made.consumed;
        if made.consumed == 0 {
            if full && limit < file.len() + 10 {
                limit *= 2;
                continue;
            }
            return lines;
        }
        limit = block;
    }
}

proptest! {
    #[test]
    fn every_byte_but_line_ends_arrives_in_order(lines in prop::collection::vec("[a-zäé\r€😀]{0,30}", 0..20), block in 8_usize..64, room in 4_usize..50) {
        let file = lines.iter().fold(String::new(), |file, line| file + line + "\n");
        let wanted: Vec<_> = file.lines().map(|line| (line.as_bytes().to_vec(), false)).collect();
        prop_assert_eq!(read(file.as_bytes(), block, room, false), wanted);
    }

    #[test]
    fn any_bytes_are_split_as_a_naive_splitter_does(file in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200), block in 8_usize..64) {
        let mut pieces: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
        let rest = pieces.pop().unwrap_or_default();
        let mut wanted: Vec<_> = pieces.into_iter().map(|line| (line.strip_suffix(b"\r").unwrap_or(line).to_vec(), false)).collect();
        if !rest.is_empty() {
            wanted.push((rest.to_vec(), true));
        }
        prop_assert_eq!(read(&file, block, 1000, true), wanted);
    }
}

#[test]
fn what_is_settled_is_not_made_again_but_counted_in_the_position() {
    let mut events = Vec::new();
    let fits = |bytes: &[u8]| bytes.len();
    let cut =
        Cut { offset: 100, data: 0, part: 0, line_start: 100, skip_to: 104, rest: Rest::Wait, joining: None, charset: None, fits: &fits };
    let made = split(b"a\nb\nc\nd", &cut, &mut events);
    assert_eq!(made, Made { consumed: 6, line_start: 106, part: 0, first: Some((104, 104)), merged: 0, open: false });
    assert_eq!(events, vec![Event::whole(4, 1, 0, 2)]);
}

#[test]
fn empty_lines_are_events() {
    let mut events = Vec::new();
    let fits = |bytes: &[u8]| bytes.len();
    let cut = Cut { offset: 0, data: 0, part: 0, line_start: 0, skip_to: 0, rest: Rest::Wait, joining: None, charset: None, fits: &fits };
    let made = split(b"\n\r\n\n", &cut, &mut events);
    assert_eq!(made.consumed, 4);
    assert_eq!(events.iter().map(|event| (event.len, event.to)).collect::<Vec<_>>(), vec![(0, 1), (0, 3), (0, 4)]);
}

mod joined {
    use super::*;
    use crate::source::multiline::{Lines, Multiline, Own, State};
    use regex::bytes::Regex;
    use std::time::Duration;

    fn multiline(own: (&str, &str, &str), max_lines: usize, max_size: usize) -> Multiline {
        let regex = |text: &str| (!text.is_empty()).then(|| Regex::new(text).unwrap());
        let lines = Lines::Own(Own { start: regex(own.0), next: regex(own.1), end: regex(own.2) });
        Multiline { lines, max_lines, max_size, timeout: Duration::from_secs(1) }
    }

    /// The events of a file, each as where it begins and ends, whether it is partial, and how many lines it has.
    type Events = Vec<(usize, usize, bool, u64)>;

    /// What a naive joiner makes of the whole file, which gets no more.
    fn naive(file: &[u8], multiline: &Multiline) -> Events {
        let (mut events, mut state, mut at) = (Events::new(), State::DONE, 0);
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
            let end = at + line.len();
            let open =
                events.last_mut().filter(|(from, _, _, lines)| end - from <= multiline.max_size && *lines < multiline.max_lines as u64);
            if let (Some((_, to, _, lines)), Some(next)) = (open, multiline.lines.join(state, text)) {
                (*to, state) = (end, next);
                *lines += 1;
            } else {
                events.push((at, end, false, 1));
                state = multiline.lines.begin(text);
            }
            at = end;
        }
        if let Some(last) = events.last_mut() {
            last.2 = !file.ends_with(b"\n");
        }
        events
    }

    /// Reads the file from `offset` block by block, as the source does; every event is made, or with `settled` those behind it.
    fn read(file: &[u8], mut offset: usize, blocks: &[usize], settled: u64, multiline: &Multiline) -> (Events, u64) {
        let fits = |bytes: &[u8]| bytes.len();
        let (mut events, mut merged, mut turn) = (Events::new(), 0, 0);
        let mut limit = blocks[0];
        loop {
            let end = (offset + limit).min(file.len());
            let full = end - offset == limit && end < file.len();
            let joining = Some(Joining { lines: multiline, finish: false, settled });
            let rest = if full { Rest::Wait } else { Rest::Ship };
            let cut = Cut {
                offset: offset as u64,
                data: 0,
                part: 0,
                line_start: offset as u64,
                skip_to: settled,
                rest,
                joining,
                charset: None,
                fits: &fits,
            };
            let mut made_events = Vec::new();
            let made = split(&file[offset..end], &cut, &mut made_events);
            merged += made.merged;
            let base = made.first.map_or(0, |(base, _)| usize::try_from(base).unwrap());
            for event in &made_events {
                let (from, to) = (base + event.from as usize, base + event.to as usize);
                let text = &file[offset + event.start as usize..][..event.len as usize];
                let whole = &file[from..to];
                assert_eq!(
                    text,
                    whole.strip_suffix(b"\n").map_or(whole, |text| text.strip_suffix(b"\r").unwrap_or(text)),
                    "nothing between is left out"
                );
                let lines = whole.split_inclusive(|byte| *byte == b'\n').count() as u64;
                events.push((from, to, event.partial(), lines));
            }
            offset += made.consumed;
            if offset == file.len() {
                return (events, merged);
            }
            turn += 1;
            limit = if made.consumed == 0 { limit * 2 } else { blocks[turn % blocks.len()] };
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn blocks_and_restarts_change_nothing(
            lines in prop::collection::vec("(S|-|E|)[a-c]{0,6}(\r\n|\n|\n|\n)", 0..40),
            rest in "(S|-)?[a-c]{0,3}",
            own in prop::sample::select(vec![("^S", "", ""), ("", "^-", ""), ("", "", "^E"), ("^S", "^-", ""), ("^S", "", "^E"), ("", "^-", "^E"), ("^S", "^-", "^E")]),
            blocks in prop::collection::vec(1_usize..60, 1..6),
            (max_lines, max_size) in (2_usize..9, 10_usize..60),
            restart in any::<prop::sample::Index>(),
        ) {
            let file = lines.concat() + &rest;
            let multiline = multiline(own, max_lines, max_size);
            let wanted = naive(file.as_bytes(), &multiline);
            let joined: u64 = wanted.iter().map(|(.., lines)| lines - 1).sum();
            prop_assert_eq!(read(file.as_bytes(), 0, &blocks, 0, &multiline), (wanted.clone(), joined));
            if !wanted.is_empty() {
                // From any event on the same events come; what is settled there is merged once more, as it was not booked.
                let (at, ..) = wanted[restart.index(wanted.len())];
                let behind: Events = wanted.iter().copied().filter(|(from, ..)| *from >= at).collect();
                let merged = behind.iter().map(|(.., lines)| lines - 1).sum();
                prop_assert_eq!(read(file.as_bytes(), at, &blocks, 0, &multiline), (behind.clone(), merged));
                prop_assert_eq!(read(file.as_bytes(), 0, &blocks, at as u64, &multiline), (behind, joined));
            }
        }
    }

    /// One block of a file that is longer; whether more of it is waited for.
    fn waits(block: &[u8], finish: bool, rest: Rest) -> (Vec<u32>, usize, bool) {
        let multiline = multiline(("^S", "", ""), 100, 40);
        let fits = |bytes: &[u8]| bytes.len();
        let joining = Some(Joining { lines: &multiline, finish, settled: 0 });
        let mut events = Vec::new();
        let made = split(
            block,
            &Cut { offset: 0, data: 0, part: 0, line_start: 0, skip_to: 0, rest, joining, charset: None, fits: &fits },
            &mut events,
        );
        (events.iter().map(|event| event.len).collect(), made.consumed, made.open)
    }

    #[test]
    fn what_is_open_waits_for_more_until_time_or_size_end_it() {
        assert_eq!(waits(b"S1\na\nS2\nb\n", false, Rest::Wait), (vec![4], 5, true));
        assert_eq!(waits(b"S1\na\nS2\nb\n", true, Rest::Wait), (vec![4, 4], 10, false));
        // A line without its end is not part of it while time ends it.
        assert_eq!(waits(b"S1\na\nhal", true, Rest::Wait), (vec![4], 5, false));
        assert_eq!(waits(b"S1\na\nhal", false, Rest::Ship), (vec![8], 8, false));
        assert_eq!(waits(b"S1\na\nS", false, Rest::Ship), (vec![4, 1], 6, false));
        // What follows is too long to be joined, though its end is not known.
        let long = [b"S1\na\n".as_slice(), &[b'x'; 40]].concat();
        assert_eq!(waits(&long, false, Rest::Wait), (vec![4], 5, false));
        assert_eq!(waits(&long, false, Rest::Parts), (vec![4], 5, false));
    }

    #[test]
    fn what_was_settled_apart_is_not_joined_now() {
        // The event had ended by time, its lines were settled, and one came late.
        let multiline = multiline(("^S", "", ""), 100, 40);
        let (events, merged) = read(b"S1\na\nlate\nS2\n", 0, &[100], 5, &multiline);
        assert_eq!((events, merged), (vec![(5, 10, false, 1), (10, 13, false, 1)], 1));
    }
}
