//! A file of dead letters as bytes. Pure; the one file that knows the layout. Little-endian throughout.
//!
//! ```text
//! file header, 24 bytes                      record header, 20 bytes
//!    0  magic "LGFLETTR"                        0  magic "LTR\x01"
//!    8  u32 version (1)                         4  u32 length of the body
//!   12  u64 drawn at random for this file       8  u32 index of the letter in its file
//!   20  u32 CRC-32C of bytes 0 to 19           12  u32 CRC-32C of the body
//!                                              16  u32 CRC-32C of the drawn number and bytes 0 to 15
//! body
//!   i64  time, nanoseconds since 1970
//!   str  id, str source, str topic, str reason, str words        str: u32 length, UTF-8
//!   u16  headers, each: str name, bytes value                    bytes: u32 length, bytes
//!   bytes key, bytes value
//! ```
//! The drawn number is in every record's checksum, so that no log line can look like a record: behind damage the next one is searched for.

use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;

use super::Letter;

/// The version of the layout above.
const VERSION: u32 = 1;
const FILE_MAGIC: &[u8; 8] = b"LGFLETTR";
const RECORD_MAGIC: &[u8; 4] = b"LTR\x01";
/// How many bytes a file begins with.
pub(super) const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 20;

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Written by a newer release.
    #[error("its version {0} is newer than this release knows")]
    Version(u32),
    /// It ends within its header: it was made when the machine stopped, and holds nothing.
    #[error("it ends within its header and holds nothing")]
    Short,
    /// Not a file of dead letters, or its head is damaged.
    #[error("its head is damaged")]
    Damaged,
}

/// What stands at a place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A letter.
    Letter {
        /// Which of its file, for ever.
        index: u32,
        /// The bytes of its record.
        at: Range<usize>,
        /// What it says.
        letter: Letter,
    },
    /// Bytes that make no sense, with a good record or the whole of their own record's length behind them.
    Damage(Range<usize>),
    /// The file's last record is not whole: whoever wrote it was never told that it is safe.
    Torn(Range<usize>),
}

/// The header of a file for which `drawn` was drawn.
pub(super) fn file_header(drawn: u64) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    let fields = FILE_MAGIC.iter().copied().chain(VERSION.to_le_bytes()).chain(drawn.to_le_bytes());
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    let (head, sum) = header.split_at_mut(FILE_HEADER - 4);
    sum.copy_from_slice(&crc32c::crc32c(head).to_le_bytes());
    header
}

/// The record of a letter, header and body; `None` when it has more than 4 GiB, which no message has.
pub(super) fn record(drawn: u64, index: u32, letter: &Letter) -> Option<Vec<u8>> {
    let mut out = vec![0; RECORD_HEADER];
    out.reserve(letter.size() + 64);
    out.extend(letter.time_ns.to_le_bytes());
    for text in [letter.id.as_str(), &letter.source, &letter.topic, &letter.reason, &letter.words] {
        put(&mut out, text.as_bytes())?;
    }
    out.extend(u16::try_from(letter.headers.len()).ok()?.to_le_bytes());
    for (name, value) in &letter.headers {
        put(&mut out, name.as_bytes())?;
        put(&mut out, value)?;
    }
    put(&mut out, &letter.key)?;
    put(&mut out, &letter.value)?;
    let (header, body) = out.split_at_mut(RECORD_HEADER);
    let fields = [u32::from_le_bytes(*RECORD_MAGIC), u32::try_from(body.len()).ok()?, index, crc32c::crc32c(body)];
    header.iter_mut().zip(fields.into_iter().flat_map(u32::to_le_bytes)).for_each(|(to, from)| *to = from);
    let (fields, sum) = header.split_at_mut(RECORD_HEADER - 4);
    sum.copy_from_slice(&header_sum(drawn, fields).to_le_bytes());
    Some(out)
}

fn header_sum(drawn: u64, fields: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&drawn.to_le_bytes()), fields)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend(u32::try_from(bytes.len()).ok()?.to_le_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

/// Everything in a file, from its first byte behind the header to its last, in order.
///
/// # Errors
/// The header is not that of a file of this version.
pub(super) fn walk(bytes: &[u8]) -> Result<Walk<'_>, FileError> {
    let (header, _) = bytes.split_at_checked(FILE_HEADER).ok_or(FileError::Short)?;
    let mut reader = Reader(header);
    let (magic, version, drawn) = (reader.array::<8>(), reader.u32(), reader.u64());
    let sum = reader.u32();
    let fields = header.get(..FILE_HEADER - 4).unwrap_or_default();
    match (version, drawn) {
        (Some(version), Some(drawn)) if magic.as_ref() == Some(FILE_MAGIC) && sum == Some(crc32c::crc32c(fields)) => {
            if version == VERSION {
                Ok(Walk { bytes, at: FILE_HEADER, drawn })
            } else {
                Err(FileError::Version(version))
            }
        }
        _ => Err(FileError::Damaged),
    }
}

/// See [`walk`].
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    drawn: u64,
}

struct Header {
    len: usize,
    index: u32,
    sum: u32,
}

impl Walk<'_> {
    fn header(&self, at: usize) -> Option<Header> {
        let header = self.bytes.get(at..at.checked_add(RECORD_HEADER)?)?;
        let mut reader = Reader(header);
        let magic = reader.array::<4>()?;
        let (len, index, sum, own) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let good = magic == *RECORD_MAGIC && own == header_sum(self.drawn, header.get(..RECORD_HEADER - 4)?);
        good.then_some(Header { len: len as usize, index, sum })
    }

    /// Where the next record behind `from` begins, if one does.
    fn next_record(&self, from: usize) -> Option<usize> {
        let rest = self.bytes.get(from..)?;
        memmem::find_iter(rest, RECORD_MAGIC).map(|found| from + found).find(|at| self.header(*at).is_some())
    }
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let (at, end) = (self.at, self.bytes.len());
        if at >= end {
            return None;
        }
        let Some(header) = self.header(at) else {
            let next = self.next_record(at + 1);
            self.at = next.unwrap_or(end);
            return Some(next.map_or(Found::Torn(at..end), |next| Found::Damage(at..next)));
        };
        let body = at + RECORD_HEADER;
        let Some(text) = body.checked_add(header.len).and_then(|to| self.bytes.get(body..to)) else {
            self.at = end;
            return Some(Found::Torn(at..end));
        };
        self.at = body + header.len;
        let letter = (crc32c::crc32c(text) == header.sum).then(|| letter(text)).flatten();
        let at = at..self.at;
        Some(letter.map_or(Found::Damage(at.clone()), |letter| Found::Letter { index: header.index, at, letter }))
    }
}

fn letter(body: &[u8]) -> Option<Letter> {
    let mut reader = Reader(body);
    let time_ns = i64::from_le_bytes(reader.array()?);
    let (id, source, topic) = (reader.text()?, Arc::from(reader.text()?), Arc::from(reader.text()?));
    let (reason, words) = (reader.text()?, reader.text()?);
    let mut headers = Vec::new();
    for _ in 0..u16::from_le_bytes(reader.array()?) {
        headers.push((reader.text()?, reader.bytes()?.to_vec()));
    }
    let (key, value) = (reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
    reader.0.is_empty().then_some(Letter { id, source, topic, key, value, headers, reason, words, time_ns })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_letter() -> impl Strategy<Value = Letter> {
        let texts = prop::collection::vec("\\PC{0,12}", 5);
        let bytes = || prop::collection::vec(any::<u8>(), 0..60);
        (texts, prop::collection::vec(("\\PC{0,9}", bytes()), 0..4), bytes(), bytes(), any::<i64>()).prop_map(
            |(texts, headers, key, value, time_ns)| Letter {
                id: texts[0].clone(),
                source: texts[1].as_str().into(),
                topic: texts[2].as_str().into(),
                reason: texts[3].clone(),
                words: texts[4].clone(),
                headers,
                key,
                value,
                time_ns,
            },
        )
    }

    fn file(drawn: u64, letters: &[Letter]) -> Vec<u8> {
        let records = (0..).zip(letters).map(|(index, letter)| record(drawn, index, letter).unwrap());
        [file_header(drawn).to_vec(), records.collect::<Vec<_>>().concat()].concat()
    }

    fn whole(bytes: &[u8]) -> Vec<(u32, Letter)> {
        let letters = walk(bytes).unwrap().filter_map(|found| match found {
            Found::Letter { index, letter, .. } => Some((index, letter)),
            Found::Damage(_) | Found::Torn(_) => None,
        });
        letters.collect()
    }

    proptest! {
        #[test]
        fn letters_come_back_as_they_were(letters in prop::collection::vec(any_letter(), 0..5), drawn in any::<u64>()) {
            let bytes = file(drawn, &letters);
            prop_assert_eq!(whole(&bytes), (0..).zip(letters).collect::<Vec<_>>());
        }

        #[test]
        fn a_torn_tail_costs_the_last_letter_alone(letters in prop::collection::vec(any_letter(), 1..4), cut in any::<prop::sample::Index>()) {
            let bytes = file(7, &letters);
            let before = file(7, &letters[..letters.len() - 1]).len();
            let cut = before + cut.index(bytes.len() - before);
            let kept = (0..).zip(letters[..letters.len() - 1].iter().cloned()).collect::<Vec<_>>();
            prop_assert_eq!(whole(&bytes[..cut]), kept);
            let torn = walk(&bytes[..cut]).unwrap().find(|found| matches!(found, Found::Torn(_)));
            prop_assert_eq!(torn, (cut > before).then_some(Found::Torn(before..cut)));
        }

        #[test]
        fn a_damaged_byte_costs_one_letter_and_is_seen(letters in prop::collection::vec(any_letter(), 1..5),
                                                      at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let mut bytes = file(7, &letters);
            let at = FILE_HEADER + at.index(bytes.len() - FILE_HEADER);
            bytes[at] ^= flip;
            let found: Vec<_> = walk(&bytes).unwrap().collect();
            let hit = |range: &Range<usize>| range.contains(&at);
            prop_assert!(found.iter().any(|found| matches!(found, Found::Damage(range) | Found::Torn(range) if hit(range))));
            prop_assert_eq!(whole(&bytes).len(), letters.len() - 1);
        }

        #[test]
        fn every_byte_is_accounted_for_whatever_it_is(bytes in prop::collection::vec(any::<u8>(), 0..300), magics in 0..3_usize) {
            let noise = [&bytes[..], RECORD_MAGIC].concat().repeat(magics);
            let all = [&file_header(9)[..], &noise].concat();
            let mut at = FILE_HEADER;
            for found in walk(&all).unwrap() {
                let (Found::Letter { at: range, .. } | Found::Damage(range) | Found::Torn(range)) = found;
                prop_assert_eq!(range.start, at);
                at = range.end;
            }
            prop_assert_eq!(at, all.len());
            super::super::fuzz_letters(&bytes);
        }
    }

    #[test]
    fn a_line_that_looks_like_a_record_is_not_taken_for_one_behind_damage() {
        let letter = Letter { id: "forged".to_owned(), ..Letter::default() };
        let forged = Letter { value: record(1, 0, &letter).unwrap(), ..Letter::default() };
        let mut bytes = file(2, std::slice::from_ref(&forged));
        bytes[FILE_HEADER] ^= 1;
        assert_eq!(whole(&bytes), []);
        // With the number that was drawn it would be: the number is what keeps it out.
        let known = Letter { value: record(2, 0, &letter).unwrap(), ..Letter::default() };
        let mut bytes = file(2, &[known]);
        bytes[FILE_HEADER] ^= 1;
        assert_eq!(whole(&bytes).len(), 1);
    }

    #[test]
    fn a_file_of_another_kind_or_version_is_not_read() {
        let mut newer = file_header(1);
        newer[8] = 2;
        let sum = crc32c::crc32c(&newer[..20]).to_le_bytes();
        newer[20..].copy_from_slice(&sum);
        assert_eq!(walk(&newer).err(), Some(FileError::Version(2)));
        assert_eq!(walk(&[0; 24]).err(), Some(FileError::Damaged));
        assert_eq!(walk(&file_header(1)[..23]).err(), Some(FileError::Short));
    }

    #[test]
    fn version_1_is_frozen() {
        let letter = Letter {
            id: "00000000000000ab:17".to_owned(),
            source: "app".into(),
            topic: "logs".into(),
            key: b"web:/a".to_vec(),
            value: b"x\xFF".to_vec(),
            headers: vec![("logferry-part".to_owned(), b"1".to_vec())],
            reason: "too_large".to_owned(),
            words: "w".to_owned(),
            time_ns: 1,
        };
        let hex = file(0x0123_4567_89AB_CDEF, &[letter]).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        insta::assert_snapshot!(hex, @"4c47464c4554545201000000efcdab896745230179e669ed4c5452016800000000000000aef70eb81795cef1010000000000000013000000303030303030303030303030303061623a313703000000617070040000006c6f677309000000746f6f5f6c61726765010000007701000d0000006c6f6766657272792d706172740100000031060000007765623a2f610200000078ff");
    }
}
