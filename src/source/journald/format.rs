//! The bytes of a journal file, as systemd's "Journal File Format" describes them: header, objects, entries. Pure: slices in, values out; whatever
//! the bytes are, nothing here panics or trusts a length.
//!
//! ```text
//! header                            object (aligned to 8)             entry, behind the object's header
//!   0  "LPKSHHRH"                     0  u8 type, u8 flags              16 seqnum   24 realtime   32 monotonic
//!   8  u32 compatible flags           8  u64 size, this header          40 boot id  56 xor of hashes
//!  12  u32 incompatible flags            included                       64 items: u64 offset, u64 hash; compact: u32 offset
//!  16  u8 state
//!  24  file id                       array of entries                  data
//!  40  machine id                     16 u64 offset of the next one     16 hash … 56 u64 entries
//!  72  seqnum id                      24 offsets: u64; compact: u32     64 payload "KEY=value"; compact: 72
//!  88  u64 size of this header
//! 152  u64 entries
//! 160  u64 tail seqnum, 168 head seqnum, 176 first array of entries
//! 184  u64 head realtime, 192 tail realtime, 200 tail monotonic
//! ```
//! All numbers are little-endian; times are microseconds.

/// How much of a file is its header, at least; later releases of systemd only add to it.
pub const HEADER: usize = 208;
/// The header of an object.
pub const OBJECT: usize = 16;
/// An entry before its items.
pub const ENTRY: usize = 64;
/// An array of entries before its items.
pub const ARRAY: usize = 24;
/// Longer objects than this are not believed: journald itself takes no field beyond 768 MiB.
pub const MAX_OBJECT: u64 = 1 << 30;
/// More fields in one entry than this are not believed: journald takes 1024, and adds a few dozen.
pub const MAX_ITEMS: usize = 1 << 16;

const MAGIC: &[u8; 8] = b"LPKSHHRH";
const KEYED_HASH: u32 = 4;
const COMPACT: u32 = 16;
/// Compression by xz, lz4, zstd; keyed hashes; the compact form.
const KNOWN: u32 = 1 | 2 | KEYED_HASH | 8 | COMPACT;

/// An id of 128 bits.
pub type Id = [u8; 16];

/// What the header of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offsets take 4 bytes instead of 8.
    pub compact: bool,
    /// Nothing more will be written: it was rotated away in good order.
    pub archived: bool,
    /// Of this file, whatever its name.
    pub file_id: Id,
    /// Of the machine that wrote it.
    pub machine_id: Id,
    /// Of the counter that its sequence numbers come from.
    pub seqnum_id: Id,
    /// How many entries it has.
    pub entries: u64,
    /// The number of its first entry; 0 while it has none.
    pub head_seqnum: u64,
    /// The number of its last entry; 0 while it has none.
    pub tail_seqnum: u64,
    /// When its first entry was received, microseconds since 1970.
    pub head_realtime: u64,
    /// Where the first array of entries is; 0 while there is none.
    pub arrays: u64,
}

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has nothing, or its header is all zeros: journald has deleted it and given its blocks back, or is about to write it.
    #[error("it is empty: the journal has deleted it")]
    Zeroed,
    /// Too short, or its first bytes are others.
    #[error("it is no journal file")]
    NoJournal,
    /// It needs what this release does not know.
    #[error("it has the incompatible flags {0:#x}, which this release does not know: a newer release may read it")]
    Flags(u32),
}

/// Why an object can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its offset lies nowhere, or its length can't be.
    #[error("an object lies outside of the file")]
    Outside,
    /// It is of another type than it must be.
    #[error("an object is of another type than it must be")]
    Type,
    /// Its compressed bytes make no sense.
    #[error("a compressed field makes no sense")]
    Compressed,
}

/// The `N` bytes at `at`.
#[must_use]
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The number at `at`.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

impl Header {
    /// The header that these bytes begin with.
    ///
    /// # Errors
    /// It is none, or one that can't be read.
    pub fn parse(bytes: &[u8]) -> Result<Header, Unfit> {
        if bytes.iter().take(HEADER).all(|byte| *byte == 0) {
            return Err(Unfit::Zeroed);
        }
        if array(bytes, 0) != Some(*MAGIC) {
            return Err(Unfit::NoJournal);
        }
        let flags = u32_at(bytes, 12).ok_or(Unfit::NoJournal)?;
        if flags & !KNOWN != 0 {
            return Err(Unfit::Flags(flags & !KNOWN));
        }
        let number = |at| u64_at(bytes, at).ok_or(Unfit::NoJournal);
        let id = |at| array(bytes, at).ok_or(Unfit::NoJournal);
        Ok(Header {
            compact: flags & COMPACT != 0,
            archived: bytes.get(16) == Some(&2),
            file_id: id(24)?,
            machine_id: id(40)?,
            seqnum_id: id(72)?,
            entries: number(152)?,
            tail_seqnum: number(160)?,
            head_seqnum: number(168)?,
            arrays: number(176)?,
            head_realtime: number(184)?,
        })
    }

    /// How many bytes an offset in an array of entries takes.
    #[must_use]
    pub fn slot(&self) -> usize {
        if self.compact { 4 } else { 8 }
    }

    /// How many bytes an item of an entry takes.
    #[must_use]
    pub fn item(&self) -> usize {
        if self.compact { 4 } else { 16 }
    }

    /// Where the payload of a data object begins in it.
    #[must_use]
    pub fn payload(&self) -> usize {
        if self.compact { 72 } else { 64 }
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// One field of one or many entries.
    Data,
    /// One entry.
    Entry,
    /// Offsets of entries.
    EntryArray,
    /// Hash tables, names of fields, seals.
    Other(u8),
}

/// How the payload of a data object is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// It is not.
    Plain,
    /// In the container of the xz tools.
    Xz,
    /// Its length in 8 bytes, then a block.
    Lz4,
    /// A frame.
    Zstd,
}

/// The header of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Type,
    /// How its payload is compressed.
    pub packing: Packing,
    /// Its length, this header included.
    pub size: u64,
}

impl Object {
    /// The header that these bytes begin with.
    ///
    /// # Errors
    /// It can't be one.
    pub fn parse(bytes: &[u8]) -> Result<Object, Damage> {
        let (Some([kind, flags]), Some(size)) = (array(bytes, 0), u64_at(bytes, 8)) else { return Err(Damage::Outside) };
        if !(OBJECT as u64..=MAX_OBJECT).contains(&size) {
            return Err(Damage::Outside);
        }
        let packing = match flags & 7 {
            0 => Packing::Plain,
            1 => Packing::Xz,
            2 => Packing::Lz4,
            4 => Packing::Zstd,
            _ => return Err(Damage::Compressed),
        };
        let kind = match kind {
            1 => Type::Data,
            3 => Type::Entry,
            6 => Type::EntryArray,
            other => Type::Other(other),
        };
        Ok(Object { kind, packing, size })
    }
}

/// An entry without its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence number.
    pub seqnum: u64,
    /// When journald received it, microseconds since 1970.
    pub realtime: u64,
    /// The same since the boot.
    pub monotonic: u64,
    /// The boot in which it was written.
    pub boot_id: Id,
    /// The hashes of its fields, combined.
    pub xor_hash: u64,
}

impl Entry {
    /// The entry whose object these bytes are.
    ///
    /// # Errors
    /// They are too few.
    pub fn parse(bytes: &[u8]) -> Result<Entry, Damage> {
        let number = |at| u64_at(bytes, at).ok_or(Damage::Outside);
        Ok(Entry {
            seqnum: number(16)?,
            realtime: number(24)?,
            monotonic: number(32)?,
            boot_id: array(bytes, 40).ok_or(Damage::Outside)?,
            xor_hash: number(56)?,
        })
    }
}

/// Adds the offsets of the fields of the entry whose object these bytes are to `items`.
///
/// # Errors
/// More than an entry can have.
pub fn items(bytes: &[u8], compact: bool, items: &mut Vec<u64>) -> Result<(), Damage> {
    let rest = bytes.get(ENTRY..).unwrap_or_default();
    let width = if compact { 4 } else { 16 };
    if rest.len() / width > MAX_ITEMS {
        return Err(Damage::Outside);
    }
    if compact {
        items.extend(rest.as_chunks::<4>().0.iter().map(|item| u64::from(u32::from_le_bytes(*item))));
    } else {
        items.extend(rest.as_chunks::<16>().0.iter().filter_map(|item| u64_at(item, 0)));
    }
    Ok(())
}

/// What a name of a file in a journal's directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// `system`, `user-1000`, `remote-10.0.0.1`.
    pub base: &'a str,
    /// It was renamed when another took its place: journald writes to it no more.
    pub closed: bool,
}

/// The parts of a file's name; `None` if it is none of a journal.
#[must_use]
pub fn name(name: &str) -> Option<Name<'_>> {
    let stem = name.strip_suffix(".journal").or_else(|| name.strip_suffix(".journal~"))?;
    let numbers = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    let cut = stem.rsplit_once('@').filter(|(_, end)| numbers(end));
    let (base, closed) = cut.map_or((stem, name.ends_with('~')), |(base, _)| (base, true));
    (!base.is_empty()).then_some(Name { base, closed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_tell_the_journal_and_whether_it_is_closed() {
        let of = |text| name(text).map(|name| (name.base.to_owned(), name.closed));
        assert_eq!(of("system.journal"), Some(("system".into(), false)));
        assert_eq!(of("user-1000@0005f-1-2.journal"), Some(("user-1000".into(), true)));
        assert_eq!(of("system@0005f1a2-abc.journal~"), Some(("system".into(), true)));
        assert_eq!(of("remote-web@example.org.journal").map(|(base, _)| base), Some("remote-web@example.org".into()));
        assert_eq!((of("fss"), of(".journal"), of("system.journal.tmp")), (None, None, None));
    }

    #[test]
    fn a_header_of_zeros_is_a_deleted_file_and_unknown_flags_are_named() {
        assert_eq!(Header::parse(&[0; 300]), Err(Unfit::Zeroed));
        assert_eq!(Header::parse(b""), Err(Unfit::Zeroed), "journald has just made it");
        assert_eq!(Header::parse(b"#!/bin/sh"), Err(Unfit::NoJournal));
        let mut bytes = [0; 300];
        bytes[..8].copy_from_slice(MAGIC);
        assert!(Header::parse(&bytes).is_ok());
        bytes[12] = 0x24;
        assert_eq!(Header::parse(&bytes), Err(Unfit::Flags(0x20)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), compact: bool) {
            let _ = Header::parse(&bytes);
            let _ = Object::parse(&bytes);
            let _ = Entry::parse(&bytes);
            let mut out = Vec::new();
            let _ = items(&bytes, compact, &mut out);
        }
    }
}
