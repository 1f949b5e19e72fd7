//! The bytes: there and back, arbitrary ones, every prefix of them, and those of a frozen version.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::super::intake::{Frame, Frames, Intake, Transport};
use super::super::format::{
    BLOCK_HEADER, Block, BlockHeader, LEAP, NoSegment, SEGMENT_HEADER, SegmentHeader, end_block, messages, next_block, parse_segment_name,
    received_ns, segment_name, write_block,
};
use super::{Rig, texts};
use crate::batch::StreamId;
use crate::ledger::Missed;

/// Messages of a sender as they may come: whole, in parts, cut.
fn frames() -> impl Strategy<Value = (Vec<u8>, Vec<Frame>)> {
    let frame = (prop::collection::vec(any::<u8>(), 0..40), 0..4_u32, any::<bool>(), any::<bool>());
    prop::collection::vec(frame, 1..12).prop_map(|all| {
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        for (text, part, last, partial) in all {
            let (start, len) = (u32::try_from(bytes.len()).unwrap(), u32::try_from(text.len()).unwrap());
            frames.push(Frame { start, len, part, last: last || part == 0, partial });
            bytes.extend(text);
        }
        (bytes, frames)
    })
}

fn block((bytes, frames): &(Vec<u8>, Vec<Frame>), peer: &str, received_ns: i64) -> Vec<u8> {
    let mut out = Vec::new();
    write_block(&mut out, &Frames { transport: Transport::Tls, peer, peer_key: "key", received_ns, bytes, frames }, |_, at| Some(at + 5));
    out
}

proptest! {
    #[test]
    fn a_block_comes_back_as_it_was_and_no_cut_or_changed_one_does(
        all in frames(), peer in "[a-z0-9:.]{0,40}", time: i64, cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8_u32
    ) {
        let bytes = block(&all, &peer, time);
        let back = Block::parse(&bytes).unwrap();
        prop_assert_eq!((back.peer, back.peer_key, back.header.transport, back.header.received_ns), (&*peer, "key", Transport::Tls, time));
        prop_assert_eq!((back.header.block_len(), usize::from(back.header.messages), back.header.end), (bytes.len(), all.1.len(), false));
        for (message, frame) in messages(back.messages).zip(&all.1) {
            let text = &all.0[frame.start as usize..(frame.start + frame.len) as usize];
            prop_assert_eq!(&back.messages[message.start..message.start + message.len], text);
            prop_assert_eq!((message.part, message.last, message.partial), (frame.part, frame.last, frame.partial));
            prop_assert_eq!(message.began.is_some(), frame.part > 1);
            prop_assert_eq!(received_ns(back.messages, message.start), time);
        }
        prop_assert_eq!(messages(back.messages).count(), all.1.len());
        prop_assert!(Block::parse(&bytes[..cut.index(bytes.len())]).is_none());
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1 << bit;
        prop_assert!(Block::parse(&changed).is_none());
    }

    #[test]
    fn a_good_block_is_found_behind_any_bytes(before in prop::collection::vec(prop_oneof![Just(b'L'), Just(b'F'), Just(b'B'), any::<u8>()], 0..200), all in frames()) {
        let bytes = [before.as_slice(), &block(&all, "a", 1)].concat();
        let mut at = 0;
        while Block::parse(&bytes[at..]).is_none() {
            at = next_block(&bytes, at + 1).unwrap();
        }
        prop_assert_eq!(at, before.len());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), sum: bool) {
        let mut bytes = bytes;
        if sum && bytes.len() >= BLOCK_HEADER {
            // As if the sums were right: what is behind them must hold all the same.
            bytes[..4].copy_from_slice(b"LFBK");
            let body = crc32c::crc32c(&bytes[BLOCK_HEADER..]).to_le_bytes();
            let len = u32::try_from(bytes.len() - BLOCK_HEADER).unwrap().to_le_bytes();
            bytes[4..8].copy_from_slice(&len);
            bytes[24..28].copy_from_slice(&body);
            let head = crc32c::crc32c(&bytes[..28]).to_le_bytes();
            bytes[28..32].copy_from_slice(&head);
        }
        let _ = SegmentHeader::parse(&bytes);
        let _ = BlockHeader::parse(&bytes);
        let _ = next_block(&bytes, 0);
        for message in messages(Block::parse(&bytes).map_or(&bytes, |block| block.messages)) {
            prop_assert!(message.start + message.len <= bytes.len());
        }
    }

    #[test]
    fn a_segment_s_header_comes_back_and_no_changed_one_does(stream: u64, first: u64, before in 0..1000_u64, boot: [u8; 16], at in 0..SEGMENT_HEADER, bit in 0..8_u32) {
        let header = SegmentHeader { stream: StreamId(stream), first, after: first.saturating_sub(before), boot };
        let mut bytes = header.to_bytes();
        prop_assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
        bytes[at] ^= 1 << bit;
        prop_assert!(SegmentHeader::parse(&bytes).is_err());
    }
}

#[test]
fn names_come_back_and_other_names_are_none() {
    for (first, attempt) in [(0, 0), (LEAP, 3), (u64::MAX, u32::MAX)] {
        assert_eq!(parse_segment_name(&segment_name(first, attempt)), Some((first, attempt)));
    }
    assert_eq!(parse_segment_name("0-0.arr"), None);
    let newer = [b"LFARRIV2".as_slice(), &[1; 60]].concat();
    assert_eq!((SegmentHeader::parse(&newer), SegmentHeader::parse(&[0; 60])), (Err(NoSegment::Newer), Err(NoSegment::Unfinished)));
    assert!(Block::parse(&end_block(7)).is_some_and(|block| block.header.end && block.messages.is_empty()));
}

#[test]
fn of_every_prefix_of_what_was_written_whole_blocks_are_read_and_nothing_else() {
    let mut rig = Rig::new();
    for from in 0..5 {
        rig.take(&from.to_string(), &texts(from * 2, from * 2 + 2, 3));
    }
    let file = rig.segments().remove(0);
    let whole = std::fs::read(&file).unwrap();
    let each = (whole.len() - SEGMENT_HEADER) / 5;
    assert_eq!(each * 5, whole.len() - SEGMENT_HEADER);
    for len in SEGMENT_HEADER..=whole.len() {
        let mut rig = Rig::new();
        let file = rig.segments().remove(0);
        rig.run = None;
        std::fs::write(&file, &whole[..len]).unwrap();
        rig.open();
        let read: Vec<_> = rig.read().into_iter().map(|text| text.split_once('|').unwrap().1.to_owned()).collect();
        assert_eq!(read, texts(0, (len - SEGMENT_HEADER) / each * 2, 3), "of {len} bytes");
        assert_eq!(rig.missed(Missed::Unreadable), (0, 0, 0), "of {len} bytes");
        rig.take("later", &texts(90, 92, 3));
        assert_eq!(rig.read().len(), 2, "of {len} bytes");
    }
}

const NAME: &str = "0000000000000000-0000.arr";

fn fixture() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/arrivals-v1")).join(NAME)
}

/// Writes what is in the fixture.
#[expect(clippy::type_complexity, reason = "a table")]
fn frozen(rig: &mut Rig) {
    let part = |start, number, last| Frame { start, len: 4, part: number, last, partial: last };
    let whole = Frame { start: 0, len: 11, part: 0, last: true, partial: false };
    let sent: [(Transport, &str, &str, &[u8], &[Frame]); 3] = [
        (Transport::Udp, "192.0.2.1:514", "192.0.2.1", b"<13>hello \xFF", &[whole]),
        (Transport::Tls, "[2001:db8::1]:6514", "2001:db8::1", b"<14>longtail", &[part(0, 1, false), part(4, 2, false), part(8, 3, true)]),
        (Transport::Unixgram, "local", "local", b"<0>Oct 1 x:", &[whole]),
    ];
    for (received_ns, (transport, peer, peer_key, bytes, frames)) in (1_764_190_000_000_000_000..).zip(sent) {
        rig.run().arrivals.take(&Frames { transport, peer, peer_key, received_ns, bytes, frames });
    }
    rig.run().arrivals.lock().log.append(&end_block(1_764_190_000_000_000_009)).unwrap();
}

#[test]
#[ignore = "writes the fixture of a version; a frozen one never changes"]
fn write_the_fixture() {
    let mut rig = Rig::new();
    frozen(&mut rig);
    std::fs::create_dir_all(fixture().parent().unwrap()).unwrap();
    std::fs::copy(rig.segments().remove(0), fixture()).unwrap();
}

#[test]
fn an_arrival_log_of_version_1_can_be_read_and_is_still_written_alike() {
    let mut rig = Rig::new();
    frozen(&mut rig);
    assert_eq!(std::fs::read(rig.segments().remove(0)).unwrap(), std::fs::read(fixture()).unwrap());
    let mut rig = Rig::new();
    rig.run = None;
    let dir = rig.dir.path().join("arrivals/net.log");
    std::fs::copy(fixture(), dir.join(NAME)).unwrap();
    rig.boot = [9; 16];
    rig.open();
    assert_eq!((rig.run().recovered.power_loss, rig.run().arrivals.stream()), (None, StreamId(0xfeed)));
    let read = rig.read();
    let expected = ["192.0.2.1|<13>hello \u{FFFD}", "2001:db8::1|<14>", "2001:db8::1|long", "2001:db8::1|tail", "local|<0>Oct 1 x:"];
    assert_eq!(read, expected.map(|text| format!("h:net:{text}")));
    let forms = rig.run().waiting.iter().flat_map(|batch| batch.events.iter().map(|event| (event.part(), event.partial())));
    let expected = [(None, false), (Some((1, false)), false), (Some((2, false)), false), (Some((3, true)), true), (None, false)];
    assert_eq!(forms.collect::<Vec<_>>(), expected);
    let times: Vec<i64> = rig.run().waiting.iter().map(|batch| batch.observed_ns - 1_764_190_000_000_000_000).collect();
    assert_eq!(times, [0, 1, 2]);
}
