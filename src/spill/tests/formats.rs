//! The bytes: there and back, arbitrary ones, and those of a frozen version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::codec::{Codec, Encoded, Record};
use super::super::format::{Header, Malformed, SegmentHeader};
use super::super::inspect::Inspector;
use super::super::{body, fuzz, read};
use super::rig::{Line, Maker, Rig, piece, sent};
use crate::batch::{Batch, Origin, Place, Stream};
use crate::budget::Budget;
use crate::ledger::Count;

/// Lines as a source may make them: whole, in parts, without an end.
fn lines() -> impl Strategy<Value = Vec<Line>> {
    let text = prop_oneof![prop::collection::vec(any::<u8>(), 0..40), "[a-z ]{0,300}".prop_map(String::into_bytes)];
    let line = (text, 1..4_u32, any::<bool>()).prop_map(|(text, parts, partial)| {
        let part = |number| (text.clone(), (parts > 1).then_some((number, number == parts)), partial && number == parts);
        (1..=parts).map(part).collect::<Vec<Line>>()
    });
    prop::collection::vec(line, 1..20).prop_map(|lines| lines.concat())
}

fn encode(parts: &[(&Batch, usize)]) -> (Header, Vec<u8>) {
    let mut out = Encoded::default();
    let header = Codec::default().encode(&Record { log: 7, seq: 3, parts }, &mut out).unwrap();
    (header, out.bytes().to_vec())
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was(all in prop::collection::vec((lines(), any::<prop::sample::Index>(), 0..u64::MAX / 2, 0..4_usize), 1..5)) {
        let batches: Vec<(Batch, usize)> = all.iter().enumerate().map(|(index, (lines, first, offset, nth))| {
            let mut maker = Maker::new(index as u64, if index % 2 == 0 { "even" } else { "odd" }, *offset);
            maker.lines(&["before"]);
            let mut batch = if *nth == 0 { maker.batch(lines) } else { maker.share(lines, *nth) };
            if *nth == 3 {
                let Stream { id, source, topic, .. } = &*batch.stream;
                let headers = vec![("name".into(), lines[0].0.as_slice().into()), ("".into(), Box::default())];
                let stream = Stream { id: *id, source: source.clone(), key: Box::default(), headers, origin: Origin::Finished, topic: topic.clone() };
                batch.stream = Arc::new(stream);
            }
            let first = first.index(batch.events.len());
            (batch, first)
        }).collect();
        let parts: Vec<(&Batch, usize)> = batches.iter().map(|(batch, first)| (batch, *first)).collect();
        let (header, bytes) = encode(&parts);
        prop_assert_eq!(&Header::parse(&bytes).unwrap(), &header);
        prop_assert_eq!(header.record_len(), bytes.len() as u64);
        let mut codec = Codec::default();
        codec.packed = bytes[header.len..].to_vec();
        let messages = codec.decode(&header).unwrap().unwrap();
        let budget = Budget::new(1 << 30);
        for ((batch, first), (run, messages)) in parts.iter().zip(header.runs.iter().zip(messages)) {
            let back = read::restore(&"logs".into(), run, messages, Place { seq: 3, run: 0, first: 0 }, &budget);
            prop_assert_eq!(sent(&back, 0), sent(batch, *first));
            let mut before = batch.before;
            before += batch.count(0..*first);
            let end = batch.end_of(batch.events.len() - 1).unwrap();
            prop_assert_eq!((back.before, back.observed_ns, back.to.offset), (before, batch.observed_ns, end));
            prop_assert_eq!((back.routed, &back.stream.key, &back.stream.headers), (batch.routed, &batch.stream.key, &batch.stream.headers));
            prop_assert_eq!(back.count(0..back.events.len()), run.count);
            prop_assert_eq!(run.from, back.base);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz::record(&bytes);
        prop_assert_eq!(fuzz::segment(&bytes), 0);
    }

    #[test]
    fn changed_bytes_are_refused_without_a_panic(
        lines in lines(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        repair: bool,
        cut in any::<prop::sample::Index>(),
    ) {
        let batch = Maker::new(1, "a", 0).batch(&lines);
        let (header, good) = encode(&[(&batch, 0)]);
        let mut bytes = good.clone();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if repair {
            // As if the sums were right: what is behind them must hold all the same.
            let body = crc32c::crc32c(&bytes[header.len..]).to_le_bytes();
            bytes[20..24].copy_from_slice(&body);
            let sum = crc32c::crc32c(&bytes[..header.len - 4]).to_le_bytes();
            bytes[header.len - 4..header.len].copy_from_slice(&sum);
        } else if bytes[..header.len] != good[..header.len] {
            prop_assert!(Header::parse(&bytes).is_err());
        }
        fuzz::record(&bytes);
        fuzz::record(&bytes[..cut.index(bytes.len())]);
        prop_assert!(Header::parse(&bytes[..cut.index(header.len)]).is_err());
        let mut segment = SegmentHeader { log: 7, first: 0, topic: "t".into() }.encode();
        segment.extend_from_slice(&bytes);
        segment.extend_from_slice(&good[..cut.index(good.len())]);
        prop_assert!(fuzz::segment(&segment) <= 2);
    }

    #[test]
    fn a_body_that_is_not_the_header_s_is_refused(lines in lines(), at in any::<prop::sample::Index>(), byte: u8) {
        let batch = Maker::new(1, "a", 0).batch(&lines);
        let mut raw = Vec::new();
        body::encode(&mut raw, &batch, 0);
        let runs = [body::run_of(&batch, 0)];
        prop_assert!(body::decode(&raw, &runs).is_some());
        prop_assert!(body::decode(&raw[..at.index(raw.len())], &runs).is_none());
        let at = at.index(raw.len());
        raw.push(0);
        prop_assert!(body::decode(&raw, &runs).is_none());
        raw.pop();
        raw[at] = byte;
        drop(body::decode(&raw, &runs));
    }
}

#[test]
fn headers_say_how_much_of_them_is_missing() {
    let header = SegmentHeader { log: 7, first: 9, topic: "t".repeat(249) };
    let bytes = header.encode();
    assert_eq!(SegmentHeader::parse(&bytes), Ok((header, bytes.len())));
    assert_eq!(SegmentHeader::parse(&bytes[..11]), Err(Malformed::Short(12)));
    assert_eq!(SegmentHeader::parse(&bytes[..12]), Err(Malformed::Short(bytes.len())));
    let batch = Maker::new(1, "a", 0).lines(&["x"]);
    let (header, record) = encode(&[(&batch, 0)]);
    assert_eq!(Header::parse(&record[..64]), Err(Malformed::Short(header.len)));
}

fn fixture(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/spill-v{version}"))
}

/// What is in the fixture.
fn frozen() -> Vec<Batch> {
    let (mut nginx, mut app) = (Maker::new(0x0123_4567_89ab_cdef, "nginx", 4096), Maker::new(2, "app", 0));
    let first = nginx.lines(&["GET / HTTP/1.1", "", "\u{20ac}uro"]);
    let parts = [(b"begin".to_vec(), Some((1, false)), false), (b"end \xFF".to_vec(), Some((2, true)), true)];
    vec![first, app.batch(&parts), nginx.lines(&["GET /again HTTP/1.1"])]
}

#[test]
#[ignore = "writes the fixture of a version; a frozen one never changes"]
fn write_the_fixture() {
    let rig = Rig::new();
    let (mut spill, _) = rig.open(None);
    let batches = frozen();
    spill.append(&[piece(&batches[0]), piece(&batches[1])]).unwrap();
    spill.append(&[piece(&batches[2])]).unwrap();
    spill.sync().unwrap();
    std::fs::create_dir_all(fixture(1)).unwrap();
    std::fs::copy(&rig.segments()[0], fixture(1).join("0000000000000000-0000.seg")).unwrap();
}

/// What is in the fixture of version 2: every second line, and a batch that has all.
fn shared() -> Vec<Batch> {
    let (mut nginx, mut app) = (Maker::new(0x0123_4567_89ab_cdef, "nginx", 4096), Maker::new(2, "app", 0));
    let line = |text: &str| (text.as_bytes().to_vec(), None, false);
    let lines = [line("mine"), line("another's"), line("mine too"), line("another's again")];
    vec![nginx.share(&lines, 2), app.lines(&["all"]), nginx.share(&lines, 2)]
}

#[test]
#[ignore = "writes the fixture of a version; a frozen one never changes"]
fn write_the_fixture_of_version_2() {
    let rig = Rig::new();
    let (mut spill, _) = rig.open(None);
    let batches = shared();
    spill.append(&[piece(&batches[0]), piece(&batches[1])]).unwrap();
    spill.append(&[piece(&batches[2])]).unwrap();
    spill.sync().unwrap();
    std::fs::create_dir_all(fixture(2)).unwrap();
    std::fs::copy(&rig.segments()[0], fixture(2).join("0000000000000000-0000.seg")).unwrap();
}

#[test]
fn a_spill_of_version_2_can_be_read() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.dir()).unwrap();
    let name = "0000000000000000-0000.seg";
    std::fs::copy(fixture(2).join(name), rig.dir().join(name)).unwrap();
    let (mut spill, recovered) = rig.open(None);
    let read = rig.read_all(&mut spill);
    let back: Vec<_> = read.iter().flat_map(|(batch, first)| sent(batch, *first)).collect();
    assert_eq!(back, shared().iter().flat_map(|batch| sent(batch, 0)).collect::<Vec<_>>());
    let rolled: Vec<_> = recovered.rolled.iter().map(|rolled| (rolled.from, rolled.to, rolled.count.bytes, rolled.routed)).collect();
    assert_eq!(rolled, [(4096, 4120, 14, 99), (0, 4, 4, 0), (4136, 4160, 14, 99)]);
    assert_eq!(recovered.rolled[2].before, Count { events: 2, bytes: 14 }, "what another lane has is not in it");
}

#[test]
fn a_record_without_shares_is_written_as_releases_before_them_read_it() {
    let (mut all, mut some) = (Maker::new(1, "a", 0), Maker::new(2, "a", 0));
    let (_, of_all) = encode(&[(&all.lines(&["x"]), 0)]);
    let (_, of_some) = encode(&[(&some.share(&[(b"x".to_vec(), None, false)], 1), 0)]);
    assert_eq!((of_all[4], of_some[4]), (1, 2));
}

#[test]
fn a_spill_of_version_1_can_be_read() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.dir()).unwrap();
    let name = "0000000000000000-0000.seg";
    std::fs::copy(fixture(1).join(name), rig.dir().join(name)).unwrap();
    let mut inspector = Inspector::open(&rig.dir()).unwrap();
    assert_eq!(inspector.segments[0].of.as_ref().map(|(_, topic)| topic.as_str()), Some("logs"));
    let verified = inspector.verify().unwrap();
    assert_eq!((verified.records, verified.messages, verified.wrong.len()), (2, 6, 0));
    let (mut spill, recovered) = rig.open(None);
    let read = rig.read_all(&mut spill);
    let back: Vec<_> = read.iter().flat_map(|(batch, first)| sent(batch, *first)).collect();
    assert_eq!(back, frozen().iter().flat_map(|batch| sent(batch, 0)).collect::<Vec<_>>());
    let counts: Vec<Count> = recovered.rolled.iter().map(|rolled| rolled.count).collect();
    assert_eq!(counts, [Count { events: 3, bytes: 23 }, Count { events: 1, bytes: 11 }, Count { events: 1, bytes: 20 }]);
    assert_eq!(recovered.rolled[2].before, Count { events: 3, bytes: 23 });
    assert!(read[1].0.part_headers && !read[0].0.part_headers);
    assert_eq!(Arc::clone(&read[0].0.stream.source), "nginx".into());
}
