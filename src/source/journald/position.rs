//! Where a stream of a journal is to be resumed, in the bytes that a [`Position`] has for files. Pure; the one file that knows which is which.
//!
//! ```text
//! offset      bytes of the events before it         tail   0 seqnum id     16 file id     32 boot id
//! line start  up to this number all is dealt with         48 u64 monotonic 56 u64 realtime   of the last entry read
//! hash        low half of that entry's xor hash     part   the filter's hash; its lowest bit: the losses that the next
//!                                                          entry tells of are counted already
//! ```
//! A number beyond that of the last entry read says that what lies between was counted as missing, in the same transaction.

use xxhash_rust::xxh3::xxh3_64;

use super::format::{Entry, Id, array, u64_at};
use crate::batch::{Position, Tail};
use crate::snapshot::rows::{Evidence, StreamRow};

/// A position in terms of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the events before it.
    pub offset: u64,
    /// All entries up to this number are dealt with.
    pub through: u64,
    /// Of the stream.
    pub seqnum_id: Id,
    /// The file that the last entry was read from.
    pub file_id: Id,
    /// The last entry that was read; its number is not kept.
    pub boot_id: Id,
    /// Its time since the boot, microseconds.
    pub monotonic: u64,
    /// Its time since 1970, microseconds.
    pub realtime: u64,
    /// The low half of its hash.
    pub xor_hash: u32,
    /// The filter that offsets were counted with, without its lowest bit.
    pub filter: u32,
    /// The losses that the next entry tells of are counted already.
    pub told: bool,
}

impl Place {
    /// Behind this entry, whose event ends at `offset`.
    #[must_use]
    pub fn behind(self, entry: &Entry, file_id: Id, offset: u64) -> Place {
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is enough to tell an entry by")]
        let xor_hash = entry.xor_hash as u32;
        Place {
            offset,
            through: entry.seqnum,
            file_id,
            boot_id: entry.boot_id,
            monotonic: entry.monotonic,
            realtime: entry.realtime,
            xor_hash,
            told: false,
            ..self
        }
    }

    /// The same in a row's bytes.
    #[must_use]
    pub fn pack(&self) -> Position {
        let numbers = [self.monotonic.to_le_bytes(), self.realtime.to_le_bytes()].concat();
        let tail = [self.seqnum_id.as_slice(), &self.file_id, &self.boot_id, &numbers].concat();
        Position {
            offset: self.offset,
            line_start: self.through,
            part: self.filter & !1 | u32::from(self.told),
            hash: self.xor_hash,
            tail: Tail::EMPTY.after(&tail),
        }
    }

    /// What a row of a stream of this counter has in place of a file's fingerprint: that there is one says that the state has the stream, and this
    /// one that it is a journal's.
    #[must_use]
    pub fn evidence(seqnum_id: &Id) -> Evidence {
        Evidence { head_len: 16, head_hash: xxh3_64(seqnum_id), ..Evidence::default() }
    }

    /// Where the stream of this row stands, if it is one of a journal.
    #[must_use]
    pub fn of(row: &StreamRow) -> Option<Place> {
        Place::unpack(&row.position).filter(|place| Place::evidence(&place.seqnum_id) == row.evidence)
    }

    /// From a row's bytes; `None` if a source of another type wrote them.
    #[must_use]
    pub fn unpack(position: &Position) -> Option<Place> {
        let tail = position.tail.as_bytes();
        Some(Place {
            offset: position.offset,
            through: position.line_start,
            seqnum_id: array(tail, 0)?,
            file_id: array(tail, 16)?,
            boot_id: array(tail, 32)?,
            monotonic: u64_at(tail, 48)?,
            realtime: u64_at(tail, 56)?,
            xor_hash: position.hash,
            filter: position.part & !1,
            told: position.part & 1 == 1,
        })
    }
}

/// Digits of an id, as systemd writes it.
#[must_use]
pub fn hex(id: &Id) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_comes_back_as_it_was(ids: [Id; 3], numbers: [u64; 4], halves: [u32; 2], told: bool) {
            let ([seqnum_id, file_id, boot_id], [offset, through, monotonic, realtime]) = (ids, numbers);
            let place = Place { offset, through, seqnum_id, file_id, boot_id, monotonic, realtime, xor_hash: halves[0], filter: halves[1] & !1, told };
            prop_assert_eq!(Place::unpack(&place.pack()), Some(place));
            let row = StreamRow { evidence: Place::evidence(&seqnum_id), ..StreamRow::begun("journal".into(), Box::default(), b"", place.pack()) };
            prop_assert_eq!(Place::of(&row), Some(place));
            prop_assert_eq!(Place::of(&StreamRow { evidence: Evidence::default(), ..row }), None);
        }
    }
}
