//! Compressed files of every shape, whole and damaged.

use super::*;
use proptest::prelude::*;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Members or frames of these pieces.
fn pack(kind: Kind, pieces: &[&[u8]]) -> Vec<u8> {
    let pack = |piece: &&[u8]| match kind {
        Kind::Gzip => gzip(piece),
        Kind::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(piece).unwrap();
            encoder.finish().unwrap()
        }
    };
    pieces.iter().flat_map(pack).collect()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn position(bytes: &[u8]) -> Position {
    let offset = bytes.len() as u64;
    Position { offset, line_start: offset, part: 0, hash: crc32c::crc32c(bytes), tail: Tail::EMPTY.after(bytes) }
}

/// All behind `at`, read in blocks of `limit`; `None` if it is another file.
fn rest(packed: &mut Packed, mut at: Position, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let (mut block, mut all) = (Vec::new(), Vec::new());
    loop {
        match packed.read(&at, (limit, 1), &mut block)? {
            Found::Busy | Found::Proved { .. } => assert!(all.is_empty()),
            Found::Other => return Ok(None),
            Found::End { size } => {
                assert!(!packed.is_busy() && at.offset <= size);
                return Ok(Some(all));
            }
            Found::Data { data, .. } => {
                let fresh = &block[data..];
                all.extend_from_slice(fresh);
                let (hash, tail) = (crc32c::crc32c_append(at.hash, fresh), at.tail.after(fresh));
                at = Position { offset: at.offset + fresh.len() as u64, hash, tail, ..at };
            }
            Found::Hole { to } => at = super::super::reader::behind_hole(&at, to),
            Found::Truncated { .. } => panic!("truncated"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_compressed_file_is_read_on_at_any_byte_in_any_steps(
        content in prop::collection::vec(any::<u8>().prop_map(|byte| byte | 1), 0..5000),
        cuts in any::<(prop::sample::Index, prop::sample::Index)>(),
        limit in 1_usize..6000,
        zstd in any::<bool>(),
    ) {
        let kind = if zstd { Kind::Zstd } else { Kind::Gzip };
        let (member, at) = (cuts.0.index(content.len() + 1), cuts.1.index(content.len() + 1));
        let bytes = pack(kind, &[&content[..member], &content[member..]]);
        let mut packed = Packed::new(file(&bytes), kind, 0, &position(&content[..at])).unwrap();
        let read = rest(&mut packed, position(&content[..at]), limit).unwrap();
        prop_assert_eq!(read.as_deref(), Some(&content[at..]));
    }

    #[test]
    fn a_damaged_or_cut_file_gives_an_error_or_what_was_compressed_and_nothing_else(
        content in prop::collection::vec(1_u8..4, 100..3000),
        flip in any::<(prop::sample::Index, u8)>(),
        cut in any::<Option<prop::sample::Index>>(),
        zstd in any::<bool>(),
    ) {
        let kind = if zstd { Kind::Zstd } else { Kind::Gzip };
        let mut bytes = pack(kind, &[&content]);
        match cut {
            Some(cut) => bytes.truncate(cut.index(bytes.len())),
            None => bytes[flip.0.index(content.len().min(40))] ^= flip.1,
        }
        let mut packed = Packed::new(file(&bytes), kind, 0, &position(&content[..50])).unwrap();
        match rest(&mut packed, position(&content[..50]), 700) {
            Ok(Some(read)) => prop_assert_eq!(&read, &content[50..]),
            Ok(None) => {}
            Err(error) => prop_assert!(is_damage(&error)),
        }
    }
}

#[test]
fn another_file_is_known_as_another() {
    let bytes = pack(Kind::Gzip, &[b"one\ntwo\nthree\n"]);
    for read in [&b"one\nTwo\n"[..], b"one\ntwo\nthree\nfour\n"] {
        let mut packed = Packed::new(file(&bytes), Kind::Gzip, 0, &position(read)).unwrap();
        assert_eq!(rest(&mut packed, position(read), 100).unwrap(), None);
    }
}

#[test]
fn a_hole_that_was_compressed_is_skipped_as_a_hole_and_room_at_the_end_is_no_data() {
    let hole = vec![0; 3_000_000];
    let content = [&b"one\n"[..], &hole, b"two\n", &[0; 70], b"three\n", &[0; 5000]].concat();
    let bytes = pack(Kind::Zstd, &[&content]);
    let mut packed = Packed::new(file(&bytes), Kind::Zstd, 0, &Position::START).unwrap();
    let read = rest(&mut packed, Position::START, 10_000).unwrap().unwrap();
    assert_eq!(read, [&b"one\ntwo\n"[..], &[0; 70], b"three\n"].concat());
}

#[test]
fn a_bomb_takes_no_more_memory_than_a_block() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..200 {
        encoder.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    let mut packed = Packed::new(file(&encoder.finish().unwrap()), Kind::Gzip, 0, &Position::START).unwrap();
    let (mut block, mut at, limit) = (Vec::new(), Position::START, 512 << 10);
    loop {
        match packed.read(&at, (limit, 1), &mut block).unwrap() {
            Found::End { size } => break assert_eq!(size, 200 << 20),
            Found::Data { data, .. } => {
                let fresh = &block[data..];
                let (hash, tail) = (crc32c::crc32c_append(at.hash, fresh), at.tail.after(fresh));
                at = Position { offset: at.offset + fresh.len() as u64, hash, tail, ..at };
            }
            _ => {}
        }
        assert!(packed.held.capacity() <= 3 << 20, "{}", packed.held.capacity());
    }
}

#[test]
fn a_file_that_is_written_over_while_it_is_read_is_proved_again() {
    let file = file(&pack(Kind::Gzip, &[b"one\ntwo\n"]));
    let mut packed = Packed::new(file.try_clone().unwrap(), Kind::Gzip, 0, &position(b"one\n")).unwrap();
    let mut block = Vec::new();
    assert_eq!(packed.read(&position(b"one\n"), (100, 1), &mut block).unwrap(), Found::Proved { size: 8 });
    file.write_all_at(&pack(Kind::Gzip, &[b"eins\nzwei\ndrei\n"]), 0).unwrap();
    assert_eq!(rest(&mut packed, position(b"one\n"), 100).unwrap(), None);
}

#[test]
fn a_frame_that_needs_too_large_a_window_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(26).unwrap();
    encoder.write_all(&vec![b'x'; 1 << 20]).unwrap();
    let mut packed = Packed::new(file(&encoder.finish().unwrap()), Kind::Zstd, 0, &Position::START).unwrap();
    assert!(packed.read(&Position::START, (10, 1), &mut Vec::new()).is_err_and(|error| is_damage(&error)));
}

#[test]
fn gzip_notes_the_length() {
    let file = file(&gzip(b"one\n"));
    assert!(notes_length(&file, Kind::Gzip, 4) && !notes_length(&file, Kind::Gzip, 5));
    assert_eq!(head(&file, Kind::Gzip).unwrap(), b"one\n");
}
